/* SPDX-License-Identifier: PostgreSQL */
#include "relay.h"

#include <stdlib.h>

#include "base/log.h"
#include "client.h"
#include "dispatch.h"
#include "pending.h"
#include "server.h"
#include "settle.h"
#include "transaction.h"
#include "worker.h"

/* reply.bits of an entry that the server answered before the whole is run again elsewhere: what it
 * prepared stays prepared. */
#define ANSWERED 1

/* ---------------------------------------------------- undoing what was sent */

static void undo_free(struct stmt_cache *cache, struct name_undo *u)
{
	stmt_put(cache, u->stmt);
	free(u);
}

static void forget_unnamed(struct server *s, struct stmt_cache *cache)
{
	if (s->unnamed)
		stmt_put(cache, s->unnamed);
	s->unnamed = NULL;
}

/* The entry will not be answered: what its message promised did not happen. `c` may be NULL. */
static void undo_entry(struct server *s, struct client *c, const struct reply *e)
{
	struct stmt_cache *cache = s->pool->account->database->cache;
	struct name_undo *u;
	s->unproven -= reply_is_unproven(e->tag);
	switch (e->tag) {
	case TAG_PARSE_UNNAMED:
		/* A failed Parse destroys the unnamed statement that was there before. */
		forget_unnamed(s, cache);
		if (c && c->unnamed == e->data) {
			stmt_put(cache, c->unnamed);
			c->unnamed = NULL;
		}
		stmt_put(cache, e->data);
		break;
	case TAG_PARSE_INJECTED:
		if (e->bits != ANSWERED)
			server_stmts_drop(&s->stmts, cache, e->data, e->size);
		stmt_put(cache, e->data);
		break;
	case TAG_PARSE_INJECTED_UNNAMED:
		if (s->unnamed == e->data)
			forget_unnamed(s, cache);
		stmt_put(cache, e->data);
		break;
	case TAG_CLOSE_EVICTED:
		if (e->bits != ANSWERED && !server_stmts_touch(&s->stmts, e->data, e->size) &&
		    !server_stmts_add(&s->stmts, e->data, e->size))
			s->close_after = true;
		stmt_put(cache, e->data);
		break;
	case TAG_PARSE_NAMED:
		u = e->data;
		if (e->to == REPLY_CLIENT && e->bits != ANSWERED)
			server_stmts_drop(&s->stmts, cache, u->stmt, e->size);
		if (c && client_stmts_find(&c->stmts, slice_of(u->name, u->len)) == u->stmt)
			stmt_put(cache, client_stmts_remove(&c->stmts, slice_of(u->name, u->len)));
		undo_free(cache, u);
		break;
	case TAG_CLOSE_NAMED:
		u = e->data;
		if (c && !client_stmts_find(&c->stmts, slice_of(u->name, u->len)))
			client_stmts_add(&c->stmts, cache, slice_of(u->name, u->len), stmt_ref(u->stmt));
		undo_free(cache, u);
		break;
	case TAG_CAPTURE_PARSE:
		s->capture_prepared = false;
		break;
	case TAG_GUARD_PARSE:
		s->guard_prepared = false;
		break;
	case TAG_UNSEEN_PARSE:
		s->unseen_prepared &= (uint8_t)~e->bits;
		break;
	case TAG_BYTES:
		free(e->data);
		break;
	case TAG_ASKED:
		pending_free(e->data);
		break;
	default:
		break;
	}
}

/* Newest first, so that "Close a, Parse a" is undone in the right order. */
static void undo_first(struct server *s, struct client *c, uint32_t n)
{
	for (uint32_t i = n; i > 0; i--)
		undo_entry(s, c, replies_at(&s->replies, i - 1));
	for (uint32_t i = 0; i < n; i++)
		replies_pop(&s->replies);
}

void relay_void_all(struct server *s, struct client *c)
{
	undo_first(s, c, s->replies.count);
	s->captures = 0;
}

/* The entry was answered: it stays true. */
static void keep_entry(struct server *s, const struct reply *e)
{
	struct stmt_cache *cache = s->pool->account->database->cache;
	s->unproven -= reply_is_unproven(e->tag);
	switch (e->tag) {
	case TAG_PARSE_UNNAMED:
	case TAG_PARSE_INJECTED:
	case TAG_PARSE_INJECTED_UNNAMED:
	case TAG_CLOSE_EVICTED:
		stmt_put(cache, e->data);
		break;
	case TAG_PARSE_NAMED:
	case TAG_CLOSE_NAMED:
		undo_free(cache, e->data);
		break;
	case TAG_BYTES:
		free(e->data);
		break;
	case TAG_ASKED:
		pending_free(e->data);
		break;
	default:
		break;
	}
}

static bool local_is_due(struct server *s)
{
	const struct reply *head = replies_head(&s->replies);
	return head && head->to == REPLY_LOCAL;
}

/* Answers of the router's own whose turn has come. */
static void emit_local(struct server *s, struct chain *ch)
{
	if (s->skip > 0)
		return;
	static const uint8_t parse_complete[] = {BE_PARSE_COMPLETE, 0, 0, 0, 4};
	static const uint8_t close_complete[] = {BE_CLOSE_COMPLETE, 0, 0, 0, 4};
	while (local_is_due(s)) {
		struct reply e = replies_pop(&s->replies);
		if (ch && e.tag == TAG_PARSE_NAMED)
			chain_range(ch, parse_complete, sizeof(parse_complete));
		else if (ch && e.kind == REPLY_CLOSE)
			chain_range(ch, close_complete, sizeof(close_complete));
		else if (ch && e.tag == TAG_BYTES)
			chain_copy(ch, e.data, e.size);
		if (s->client && e.tag == TAG_BYTES && *(uint8_t *)e.data == BE_ERROR)
			s->client->turn_error = true;
		keep_entry(s, &e);
	}
}

/* ------------------------------------------------- running a read once more */

/* Errors of a replica after which a read may be run again, because another server may do better and
 * the read had no effect (PostgreSQL 15: src/backend/tcop/postgres.c, storage/ipc/standby.c for the
 * conflicts; facts of refusals measured). 40P01 is "buffer deadlock with recovery". Not here:
 * 57014, which the client or its own timeouts ask for, and class 53: the next server would run
 * out of memory or disk likewise. */
static const struct {
	const char *sqlstate;
	enum rerun_cause cause;
} failures[] = {
	{"25006", RERUN_REFUSED},  {"0A000", RERUN_REFUSED},  {"55000", RERUN_REFUSED},
	{"40001", RERUN_CONFLICT}, {"40P01", RERUN_CONFLICT}, {"57P01", RERUN_ENDED},
	{"57P02", RERUN_ENDED},    {"57P04", RERUN_ENDED},    {"58030", RERUN_DAMAGED},
	{"XX001", RERUN_DAMAGED},  {"XX002", RERUN_DAMAGED},
};

/* False: it is an answer like any other. */
static bool may_rerun(const struct error_fields *e, enum rerun_cause *cause)
{
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		*cause = failures[i].cause;
		if (slice_eq_str(e->sqlstate, failures[i].sqlstate))
			return true;
	}
	/* lo_create and friends: "cannot execute … during recovery" as an internal error. */
	*cause = RERUN_REFUSED;
	return slice_eq_str(e->sqlstate, "XX000") && e->message.len > 15 &&
	       memcmp(e->message.ptr, "cannot execute ", 15) == 0;
}

const char *rerun_cause_name(enum rerun_cause cause)
{
	static const char *const names[RERUN_CAUSES] = {
		[RERUN_REFUSED] = "refused", [RERUN_CONFLICT] = "conflict", [RERUN_ENDED] = "ended",
		[RERUN_DAMAGED] = "damaged", [RERUN_LOST] = "lost",
	};
	return names[cause];
}

const char *rerun_cause_words(enum rerun_cause cause)
{
	static const char *const words[RERUN_CAUSES] = {
		[RERUN_REFUSED] = "no standby can do it: the primary did",
		[RERUN_CONFLICT] = "a conflict with recovery cancelled it",
		[RERUN_ENDED] = "its server was shut down, or its connection or database ended",
		[RERUN_DAMAGED] = "the replica could not read its own files: look after it",
		[RERUN_LOST] = "the connection to the replica broke",
	};
	return words[cause];
}

enum outlook {
	OUTLOOK_OPEN, /* cannot be told yet: hold */
	OUTLOOK_GOOD, /* an answer: forward */
	OUTLOOK_FAILED,
};

/* A statement prepared before some DDL: preparing it again is the cure. */
static bool is_outdated_plan(const struct error_fields *e)
{
	return slice_eq_str(e->sqlstate, "0A000") &&
	       slice_eq_str(e->message, "cached plan must not change result type");
}

/* Looks ahead, without any effect, whether a read on a replica failed in a way that another server may
 * not. A single statement is
 * decided by its first row or its end; several only at the very end. */
static enum outlook look_ahead(const struct server *s, struct slice in)
{
	if (in.len > HOLD_MAX)
		return OUTLOOK_GOOD;
	struct frame f;
	while (frame_peek(in, &f) == PARSE_OK) {
		struct error_fields e;
		enum rerun_cause cause;
		switch (f.type) {
		case BE_ERROR:
			if (!frame_complete(&f, in))
				return OUTLOOK_OPEN;
			return msg_error_parse(frame_body(&f), &e) && may_rerun(&e, &cause) ? OUTLOOK_FAILED
			                                                                    : OUTLOOK_GOOD;
		case BE_PARSE_COMPLETE:
		case BE_BIND_COMPLETE:
		case BE_CLOSE_COMPLETE:
		case BE_PARAMETER_DESCRIPTION:
		case BE_ROW_DESCRIPTION:
		case BE_NO_DATA:
		case BE_NOTICE:
		case BE_PARAMETER_STATUS:
			break;
		case BE_READY:
			return OUTLOOK_GOOD;
		default:
			if (!s->many)
				return OUTLOOK_GOOD;
		}
		if (!frame_complete(&f, in))
			return OUTLOOK_OPEN;
		in = slice_from(in, frame_size(&f));
	}
	return OUTLOOK_OPEN;
}

/* The client takes its read back. Its bytes may be on the call stack: its own buffer must stay as it
 * is until it goes on. */
static void take_back(struct server *s, struct client *c)
{
	c->redo = s->replay;
	buf_init(&s->replay, HOLD_MAX);
	c->server = NULL;
	s->client = NULL;
	c->turn_error = false;
	c->batch_failed = false;
	worker_make_runnable(s->worker, c);
}

/* Replicas that a read is tried on before the primary has to answer it. */
#define TRIES_MAX 2

static enum rerun where_again(const struct client *c, enum rerun_cause cause)
{
	if (cause == RERUN_REFUSED || __builtin_popcount(c->tried) >= TRIES_MAX)
		return RERUN_PRIMARY;
	return RERUN_ELSEWHERE;
}

bool relay_rerun(struct server *s, enum rerun_cause cause)
{
	struct client *c = s->client;
	if (!c || !s->reading || s->replay.len == 0)
		return false;
	s->worker->stats.retried++;
	s->worker->stats.reruns[cause]++;
	relay_void_all(s, c);
	take_back(s, c);
	c->tried |= UINT32_C(1) << s->pool->node;
	c->rerun = (uint8_t)where_again(c, cause);
	transaction_unsent(c);
	return true;
}

/* Returns the index of the next entry. */
static uint32_t mark_answered(struct replies *r, uint32_t i, uint8_t type)
{
	if (!memchr("123TnCIs", type, 8))
		return i;
	while (i < r->count && replies_at(r, i)->to == REPLY_LOCAL)
		i++;
	if (i == r->count || replies_at(r, i)->kind >= REPLY_SYNC)
		return i;
	replies_at(r, i)->bits = ANSWERED;
	return i + 1;
}

/* Parse, Bind, Execute and Sync of the capture behind a read: they are answered whatever becomes of
 * it. */
#define CAPTURE_REPLIES 4

static int keep_captures(struct server *s, struct reply after[CAPTURE_REPLIES])
{
	int count = 0;
	for (uint32_t i = 0; i < s->replies.count && count < CAPTURE_REPLIES; i++) {
		const struct reply *e = replies_at(&s->replies, i);
		if (e->tag == TAG_CAPTURE || e->tag == TAG_CAPTURE_PARSE)
			after[count++] = *e;
	}
	return count;
}

/* The replica failed: the bytes up to its ErrorResponse are used up (the number is returned), and
 * the ReadyForQuery still to come is nobody's. 0: it cannot be run again. */
static size_t failed(struct server *s, struct slice in)
{
	struct client *c = s->client;
	struct frame f;
	struct error_fields e = {0};
	enum rerun_cause cause = RERUN_REFUSED;
	size_t used = 0;
	uint32_t entry = 0;
	while (frame_peek(slice_from(in, used), &f) == PARSE_OK) {
		used += frame_size(&f);
		if (f.type == BE_ERROR) {
			msg_error_parse(frame_body(&f), &e);
			break;
		}
		entry = mark_answered(&s->replies, entry, f.type);
	}
	if (!may_rerun(&e, &cause))
		return 0;
	/* A recovery conflict is bad luck, a refusal will happen again. */
	if (is_outdated_plan(&e))
		s->close_after = true;
	else if (cause == RERUN_REFUSED)
		settle_refusal(c, buf_slice(&s->replay));
	else if (cause == RERUN_DAMAGED)
		log_warn("node=%s database=%s a read failed with %.*s: %.*s; it is run again elsewhere",
		         s->worker->fleet.nodes[s->pool->node].name, s->pool->account->database->name,
		         SLICE_ARG(e.sqlstate), SLICE_ARG(e.message));
	struct reply after[CAPTURE_REPLIES];
	int count = keep_captures(s, after);
	bool prepared = s->capture_prepared, in_transaction = s->in_tx_after;
	if (!relay_rerun(s, cause))
		return 0;
	struct reply ready = {.kind = REPLY_QUERY, .to = REPLY_NOBODY};
	bool ok = replies_push(&s->replies, ready);
	for (int i = 0; i < count; i++)
		ok = replies_push(&s->replies, after[i]) && ok;
	s->captures = count > 0;
	s->capture_prepared = prepared;
	return ok && (!in_transaction || server_roll_back(s)) ? used : 0;
}

/* --------------------------------------------------------------- guarded reads */

/* The server will answer this, and nobody is to hear of it: what it does to the server stays true,
 * what it meant to the client is undone. False: nothing is to come. */
static bool disown(struct server *s, struct client *c, struct reply *e)
{
	struct stmt_cache *cache = s->pool->account->database->cache;
	if (e->to == REPLY_LOCAL) {
		undo_entry(s, c, e);
		return false;
	}
	if (e->tag == TAG_PARSE_UNNAMED) {
		e->tag = TAG_PARSE_INJECTED_UNNAMED;
		s->unproven++;
		if (c->unnamed == e->data) {
			stmt_put(cache, c->unnamed);
			c->unnamed = NULL;
		}
	} else if (e->tag == TAG_PARSE_NAMED) {
		struct name_undo *u = e->data;
		struct slice name = slice_of(u->name, u->len);
		/* e->size is the meaning in both. */
		e->tag = TAG_PARSE_INJECTED;
		e->data = stmt_ref(u->stmt);
		if (client_stmts_find(&c->stmts, name) == u->stmt)
			stmt_put(cache, client_stmts_remove(&c->stmts, name));
		undo_free(cache, u);
	}
	e->to = REPLY_NOBODY;
	return true;
}

/* Newest first, as undo_first(). */
static void disown_all(struct server *s, struct client *c)
{
	struct replies *r = &s->replies;
	uint32_t kept = r->count;
	for (uint32_t i = r->count; i > 0; i--) {
		struct reply e = *replies_at(r, i - 1);
		if (disown(s, c, &e))
			*replies_at(r, --kept) = e;
	}
	for (; kept > 0; kept--)
		replies_pop(r);
}

/* A position is a promise of the server that the watcher knows, and only while the fleet thinks of it
 * as it did when the read was sent. */
static bool guard_counts(const struct server *s)
{
	const struct fleet *f = &s->worker->fleet;
	int node = s->pool->node;
	return f->nodes[node].epoch == s->guard_epoch && f->generation == s->guard_generation &&
	       server_trusted(s) && fleet_replica_eligible(f, node, net_now_us());
}

/* The guard is answered, the read is not. Afterwards the server has no client if the read is to be
 * decided again. False: that cannot be done. */
static bool settle_guard(struct server *s)
{
	struct worker *w = s->worker;
	struct client *c = s->client;
	bool ignored = w->settings->policy.fault == FAULT_GUARD_IGNORED;
	bool counts = guard_counts(s);
	bool held = counts && (position_reached(s->guard_at, s->guard) || ignored);
	if (counts)
		worker_replica_reached(w, s->pool->node, s->guard_at, s->guard_asked_us);
	fleet_guard_answered(&w->fleet, s->pool->node, held, net_now_us());
	s->guard = (struct position){0};
	if (!c)
		return true;
	if (held) {
		dispatch_guard_held(c);
		return true;
	}
	if (!s->reading || s->replay.len == 0)
		return false;
	w->stats.guards_missed++;
	disown_all(s, c);
	take_back(s, c);
	s->reading = false;
	s->state = SERVER_DRAIN;
	dispatch_guard_missed(c);
	return true;
}

static void note_guard(struct server *s, struct client *c, const struct frame *f)
{
	struct slice value;
	struct error_fields e;
	if (f->type == BE_DATA_ROW && msg_data_row_column(frame_body(f), 0, &value) && value.ptr &&
	    value.len == 8)
		s->guard_at.lsn = load_be64(value.ptr);
	/* Meant for the read. */
	if (f->type == BE_ERROR && c && msg_error_parse(frame_body(f), &e) &&
	    slice_eq_str(e.sqlstate, "57014"))
		c->cancelled = true;
}

/* ---------------------------------------------------------------- messages */

static void note_error(struct server *s, struct client *c, const struct frame *f)
{
	struct error_fields e;
	if (!msg_error_parse(frame_body(f), &e))
		return;
	if (is_outdated_plan(&e))
		s->close_after = true;
	if (slice_eq_str(e.severity, "FATAL") || slice_eq_str(e.severity, "PANIC"))
		s->fatal_seen = true;
	if (slice_eq_str(e.sqlstate, "25006") && server_is_primary(s) && !c->tx_wrote && !c->sent_wrote)
		return;
	/* The "primary" says it is in recovery: it was demoted. Read-only transactions of the client's
	 * own making give the same code, so the watcher is only asked to look. */
	if (slice_eq_str(e.sqlstate, "25006") && server_is_primary(s))
		watch_kick(s->worker->watch, s->pool->node);
}

/* May what is set have changed by it, where it is not known what ran? */
static bool concerns_sets(const struct client *c, struct slice tag)
{
	if (slice_eq_str(tag, "SET") || slice_eq_str(tag, "RESET"))
		return true;
	return c->pending_sets && (slice_eq_str(tag, "ROLLBACK") || slice_eq_str(tag, "RELEASE") ||
	                           slice_eq_str(tag, "SAVEPOINT"));
}

static void note_end(struct server *s, struct client *c, bool committed)
{
	s->rolled_back = !committed;
	c->turn_error = false;
	pending_ended(c, committed);
}

/* Looked at first, for it is a hot path. `e` is what the statement was sent for. */
static bool tag_matters(const struct reply *e, const struct frame *f)
{
	uint8_t first = f->body_len < 5 ? 0 : f->body[0];
	return e->tag != TAG_PLAIN || first == 'R' || first == 'D' || first == 'C' || first == 'P';
}

static void note_tag(struct server *s, struct client *c, struct reply *e, const struct frame *f)
{
	struct slice tag;
	if (!msg_command_tag_parse(frame_body(f), &tag))
		return;
	if (e->tag == TAG_ASKED && pending_done(c, e))
		return;
	if (e->tag == TAG_PORTAL && concerns_sets(c, tag))
		client_bind(c, BIND_SETTINGS, tag);
	if (slice_eq_str(tag, "ROLLBACK"))
		note_end(s, c, false);
	else if (slice_eq_str(tag, "COMMIT") || slice_eq_str(tag, "PREPARE TRANSACTION"))
		note_end(s, c, true);
	else if (slice_eq_str(tag, "DISCARD ALL"))
		settle_discarded_all(c, s);
	else if (slice_eq_str(tag, "DEALLOCATE ALL"))
		settle_deallocated_all(c, s);
	else if (slice_eq_str(tag, "DEALLOCATE"))
		settle_deallocated(c);
}

static void hand_on(struct server *s, const struct frame *f, struct slice at, size_t here,
                    bool forward, struct chain *ch)
{
	if (forward)
		chain_range(ch, at.ptr, here);
	s->skip = frame_size(f) - here;
	s->skip_forward = forward;
}

/* Not an answer to anything. */
static bool is_asynchronous(uint8_t type)
{
	return type == BE_NOTICE || type == BE_NOTIFICATION || type == BE_PARAMETER_STATUS;
}

/* Only a notice may be here in part. */
static void asynchronous(struct server *s, const struct frame *f, struct slice at, size_t here,
                         struct chain *ch)
{
	struct slice name, value;
	const struct reply *head = replies_head(&s->replies);
	bool forward = ch != NULL;
	if (f->type == BE_NOTICE)
		forward &= !(head && head->to == REPLY_NOBODY);
	if (f->type == BE_PARAMETER_STATUS && msg_parameter_status_parse(frame_body(f), &name, &value)) {
		server_set_param(s, name, value);
		forward &= !slice_eq_str(name, "in_hot_standby");
	}
	hand_on(s, f, at, here, forward, ch);
}

enum capture { CAPTURE_NONE, CAPTURE_PARTIAL, CAPTURE_FAILED, CAPTURE_DONE };

/* The answer to the capture that was pipelined behind the statement whose ReadyForQuery ends before
 * `in`: ParseComplete?, BindComplete, DataRow with 8 binary bytes, CommandComplete, ReadyForQuery.
 */
static enum capture capture_look(struct server *s, struct slice in, struct position *at)
{
	if (s->replies.count < 2)
		return CAPTURE_NONE;
	const struct reply *next = replies_at(&s->replies, 1);
	if (next->tag != TAG_CAPTURE && next->tag != TAG_CAPTURE_PARSE)
		return CAPTURE_NONE;
	enum capture answer = CAPTURE_FAILED;
	struct frame f;
	while (frame_peek(in, &f) == PARSE_OK && frame_complete(&f, in)) {
		struct slice value;
		if (f.type == BE_DATA_ROW && msg_data_row_column(frame_body(&f), 0, &value) && value.ptr &&
		    value.len == 8) {
			at->lsn = load_be64(value.ptr);
			answer = CAPTURE_DONE;
		}
		if (f.type == BE_READY)
			return answer;
		in = slice_from(in, frame_size(&f));
	}
	return in.len > HOLD_MAX ? CAPTURE_FAILED : CAPTURE_PARTIAL;
}

/* ReadyForQuery for the client. The mark is raised first. False: hold it, the capture behind it has
 * not come yet. */
static bool ready(struct server *s, struct client *c, const struct frame *f, struct slice at,
                  struct chain *ch)
{
	struct position pos = {0};
	enum capture capture = capture_look(s, slice_from(at, frame_size(f)), &pos);
	if (capture == CAPTURE_PARTIAL)
		return false;
	struct reply_step step = replies_step(&s->replies, f);
	if (step.entry.tag == TAG_ASKED)
		pending_free(step.entry.data);
	if (c) {
		bool captured = capture == CAPTURE_DONE;
		if (position_is_set(s->captured_inside)) {
			/* FAULT_POSITION_INSIDE */
			pos = s->captured_inside;
			captured = true;
			s->captured_inside = (struct position){0};
		}
		if (capture == CAPTURE_FAILED)
			s->worker->stats.captures_failed++;
		settle_ready(c, s, step.entry.bits, f->body[0], captured ? &pos : NULL, ch);
		if (c->state == CLIENT_WAIT_MARK)
			ch->failed |= !buf_append(&c->late, at.ptr, frame_size(f));
		else
			chain_range(ch, at.ptr, frame_size(f));
	}
	return true;
}

/* False: the Syncs that were sent behind a COPY were ignored by the server, so its batch goes on.
 */
static bool sync_owed(struct server *s)
{
	for (uint32_t i = 0; i < s->replies.count; i++) {
		if (replies_at(&s->replies, i)->kind == REPLY_SYNC)
			return true;
	}
	return false;
}

/* A whole message, or the known part of a large one. False: out of step. */
static bool answer(struct server *s, struct client *c, const struct frame *f, struct slice at,
                   size_t here, struct chain *ch)
{
	bool whole = here == frame_size(f);
	if (f->type == BE_ERROR && whole && c)
		note_error(s, c, f);
	if (f->type == BE_ERROR && s->replies.count == 0) {
		/* Unasked: the server says why it is about to go. */
		if (c && transaction_may_move(c))
			s->fatal_seen = false;
		else if (ch)
			chain_range(ch, at.ptr, here);
		return s->fatal_seen;
	}
	struct reply_step step = replies_step(&s->replies, f);
	if (step.verdict == REPLY_STEP_INVALID)
		return false;
	/* A BEGIN that cannot fail: the client has been told that it is in a transaction. */
	if (f->type == BE_ERROR && step.entry.tag == TAG_BEGIN)
		return false;
	if (f->type == BE_COPY_IN && step.entry.kind == REPLY_EXECUTE && !sync_owed(s))
		s->mid_batch = true;
	if (f->type == BE_COMMAND_COMPLETE && whole && c && step.verdict == REPLY_STEP_FORWARD &&
	    tag_matters(&step.entry, f))
		note_tag(s, c, step.completed ? &step.entry : replies_head(&s->replies), f);
	if (f->type == BE_PORTAL_SUSPENDED && c && step.entry.tag == TAG_ASKED)
		pending_done(c, &step.entry);
	if (f->type == BE_ERROR) {
		if (c && step.verdict == REPLY_STEP_FORWARD)
			c->turn_error = true;
		undo_first(s, c, step.voided);
	}
	if (c)
		c->batch_bits |= step.inherited;
	if (step.entry.tag == TAG_GUARD && whole)
		note_guard(s, c, f);
	if (step.completed) {
		if (step.entry.tag == TAG_CAPTURE && f->type == BE_READY && --s->captures == 0)
			s->capture_asked_us = 0;
		keep_entry(s, &step.entry);
	}
	struct slice value;
	if (s->worker->settings->policy.fault == FAULT_POSITION_INSIDE &&
	    step.entry.tag == TAG_CAPTURE && f->type == BE_DATA_ROW && whole &&
	    msg_data_row_column(frame_body(f), 0, &value) && value.ptr && value.len == 8)
		s->captured_inside.lsn = load_be64(value.ptr);
	hand_on(s, f, at, here, step.verdict == REPLY_STEP_FORWARD && ch, ch);
	return true;
}

/* Large messages pass by in pieces; small ones, and those the router reads, are taken whole. */
static bool may_pass_in_pieces(uint8_t type)
{
	return type == BE_DATA_ROW || type == BE_COPY_DATA || type == BE_ROW_DESCRIPTION ||
	       type == BE_PARAMETER_DESCRIPTION || type == BE_FUNCTION_RESULT;
}

static size_t pass(struct server *s, struct slice in, struct chain *ch)
{
	size_t n = s->skip < in.len ? (size_t)s->skip : in.len;
	if (s->skip_forward && ch)
		chain_range(ch, in.ptr, n);
	s->skip -= n;
	return n;
}

/* FAULT_GUARD_AFTER: the answer is held until the replica has got there; the snapshot was older. */
static bool guarded_after(struct server *s)
{
	if (!position_is_set(s->guard_after))
		return false;
	if (position_reached(s->worker->fleet.nodes[s->pool->node].at, s->guard_after)) {
		s->guard_after = (struct position){0};
		return false;
	}
	watch_kick(s->worker->watch, s->pool->node);
	return true;
}

void relay_local_answers(struct server *s)
{
	struct client *c = s->client;
	const struct reply *head = replies_head(&s->replies);
	if (!c || s->reading || s->skip > 0 || !head || head->to != REPLY_LOCAL)
		return;
	struct chain ch;
	chain_init(&ch, c->stream, &c->out);
	emit_local(s, &ch);
	chain_flush(&ch);
	if (ch.failed)
		client_close(c);
}

/* A batch of several statements is held to its end: that is no time to a first row. */
static void note_latency(struct server *s)
{
	int64_t now = net_loop_now_us(s->worker->loop);
	if (!s->many && s->client)
		health_answered(&s->worker->fleet.nodes[s->pool->node].health,
		                now - s->client->query_started_us, now);
}

/* What the router sent ahead of the client's statement: it says nothing of that. */
static bool goes_ahead(struct server *s)
{
	const struct reply *head = replies_head(&s->replies);
	return head && (head->tag == TAG_BEGIN || head->tag == TAG_CLOSE_EVICTED);
}

/* The answer to a BEGIN that was held back, and the like. Bytes used up. */
static size_t answer_ahead(struct server *s, struct slice in, struct chain *ch, bool *broken)
{
	size_t used = 0;
	struct frame f;
	while (goes_ahead(s) && !*broken) {
		struct slice at = slice_from(in, used);
		if (frame_peek(at, &f) != PARSE_OK || !frame_complete(&f, at))
			break;
		size_t size = frame_size(&f);
		if (is_asynchronous(f.type))
			asynchronous(s, &f, at, size, ch);
		else
			*broken = !answer(s, NULL, &f, at, size, ch);
		used += size;
	}
	return used;
}

size_t relay_from_server(struct server *s, struct slice in, struct chain *ch, bool *broken)
{
	struct client *c = s->client;
	size_t used = 0;
	if (goes_ahead(s)) {
		used = answer_ahead(s, in, ch, broken);
		if (*broken || goes_ahead(s))
			return used;
	}
	if (s->reading && !position_is_set(s->guard)) {
		if (guarded_after(s))
			return used;
		size_t refusal;
		switch (look_ahead(s, slice_from(in, used))) {
		case OUTLOOK_OPEN:
			return used;
		case OUTLOOK_FAILED:
			refusal = failed(s, slice_from(in, used));
			*broken = refusal == 0;
			if (*broken)
				return used;
			used += refusal;
			s->state = SERVER_DRAIN;
			s->reading = false;
			c = NULL;
			ch = NULL;
			break;
		case OUTLOOK_GOOD:
			s->reading = false;
			note_latency(s);
			break;
		}
	}

	if (local_is_due(s) && used < in.len)
		emit_local(s, ch);
	while (used < in.len) {
		struct slice at = slice_from(in, used);
		if (s->skip > 0) {
			used += pass(s, at, ch);
			if (local_is_due(s))
				emit_local(s, ch);
			continue;
		}
		struct frame f;
		enum parse_result r = frame_peek(at, &f);
		if (r == PARSE_INVALID) {
			*broken = true;
			break;
		}
		if (r == PARSE_PARTIAL)
			break;
		size_t size = frame_size(&f);
		bool whole = at.len >= size;
		size_t here = whole ? size : at.len;
		if (!whole && !may_pass_in_pieces(f.type) && size <= HOLD_MAX)
			break;
		if (replies_passes(&s->replies, f.type)) {
			if (f.type == BE_COMMAND_COMPLETE && whole && c && tag_matters(replies_at(&s->replies, 0), &f))
				note_tag(s, c, replies_at(&s->replies, 0), &f);
			hand_on(s, &f, at, here, ch != NULL, ch);
			used += here;
			continue;
		}
		if (is_asynchronous(f.type) && (whole || f.type == BE_NOTICE)) {
			asynchronous(s, &f, at, here, ch);
			used += here;
			continue;
		}
		const struct reply *head = replies_head(&s->replies);
		bool guard = f.type == BE_READY && head && head->tag == TAG_GUARD;
		if (f.type == BE_READY && f.body_len == 1 && head && head->to == REPLY_CLIENT && c &&
		    head->kind >= REPLY_SYNC) {
			if (!ready(s, c, &f, at, ch)) {
				ch->held = true;
				break;
			}
		} else if (!answer(s, c, &f, at, here, ch)) {
			*broken = true;
			break;
		}
		used += here;
		if (guard) {
			/* What follows is the read's, and may have another reader. */
			*broken = !settle_guard(s);
			break;
		}
		if (local_is_due(s))
			emit_local(s, ch);
		if (f.type == BE_READY && s->skip == 0 && replies_at_rest(&s->replies)) {
			settle_rest(s);
			break;
		}
	}
	return used;
}
