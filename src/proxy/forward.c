/* SPDX-License-Identifier: PostgreSQL */
#include "forward.h"

#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "local.h"
#include "pending.h"
#include "prepare.h"
#include "questions.h"
#include "server.h"
#include "sql/begin.h"
#include "transaction.h"

#define CONTROL (TRAIT_TX_BEGIN | TRAIT_TX_END | TRAIT_TX_CLOSED)
/* A statement that exists nowhere: binding it makes the server fail where it should. */
#define NO_STATEMENT STMT_NAME_PREFIX "none"

/* What a unit does to transactions. Of a batch only what it executes counts: a COMMIT may be parsed
 * for later. */
static uint32_t control_of(const struct forward *f)
{
	uint32_t all = f->unit->traits.flags & CONTROL;
	return f->unit->type == FE_SYNC && !f->ran_unknown ? f->control : all;
}

static void note_executed(struct forward *f, bool unnamed)
{
	f->ran_unknown |= !unnamed || !f->portal_known;
	if (f->portal_control)
		f->control = (f->control & ~(uint32_t)TRAIT_TX_CLOSED) | f->portal_control;
}

/* After this unit, will the server be outside a transaction? A guess made of what was sent; where
 * it is wrong the capture runs inside the transaction and its result is not used. */
static bool ends_at_rest(const struct forward *f)
{
	uint32_t control = control_of(f);
	if (control & TRAIT_TX_CLOSED)
		return true;
	return !(control & (TRAIT_TX_BEGIN | TRAIT_TX_END)) && !f->s->in_tx_after;
}

/* Reads are asked for their position only where somebody outside this router is to be told of it:
 * inside, the next sample does. */
static bool wants_capture(const struct forward *f)
{
	const struct client *c = f->c;
	bool wrote = c->sent_wrote || c->batch_bits & TURN_WROTE;
	bool told = client_is_told(c) && (c->batch_bits & TURN_RAN || f->unit->type == FE_QUERY);
	return (wrote || told) && !c->sent_blind && !(c->batch_bits & TURN_BLIND) && ends_at_rest(f) &&
	       f->s->replies.copy == COPY_NONE;
}

/* -------------------------------------------------------------- statements */

static struct name_undo *undo_new(struct slice name, struct stmt *stmt)
{
	struct name_undo *u = malloc(sizeof(*u) + name.len);
	if (!u)
		return NULL;
	u->stmt = stmt_ref(stmt);
	u->len = name.len;
	if (name.len)
		memcpy(u->name, name.ptr, name.len);
	return u;
}

/* An error at this place of the pipeline that only the router knows of: the client hears `message`,
 * and the server is made to fail too, so that it skips to Sync and its transaction fails as it
 * should. */
static bool error_here(struct forward *f, const char *sqlstate, const char *message)
{
	struct buf text, bind;
	buf_init(&text, 1024);
	buf_init(&bind, 256);
	f->c->batch_failed = true;
	write_error(&text, "ERROR", sqlstate, message, NULL);
	write_bind_plain(&bind, (struct slice){0}, slice_str(NO_STATEMENT), 0);
	struct slice bytes = buf_slice(&bind);
	chain_copy(f->out, bytes.ptr, bytes.len);
	struct reply e = {.kind = REPLY_BIND,
	                  .to = REPLY_LOCAL,
	                  .tag = TAG_BYTES,
	                  .size = (uint32_t)text.len,
	                  .data = text.data};
	buf_release(&bind);
	if (!replies_push(&f->s->replies, e)) {
		buf_release(&text);
		return forward_no_memory(f);
	}
	return forward_push(f, REPLY_BIND, REPLY_NOBODY, TAG_PLAIN, NULL);
}

static void undo_drop(struct forward *f, struct name_undo *undo)
{
	if (undo)
		stmt_put(f->cache, undo->stmt);
	free(undo);
}

static void client_unnamed(struct forward *f, struct stmt *stmt)
{
	if (f->c->unnamed)
		stmt_put(f->cache, f->c->unnamed);
	f->c->unnamed = stmt ? stmt_ref(stmt) : NULL;
}

static bool is_local(struct forward *f, struct stmt *stmt)
{
	return local_is(f->c, stmt_traits(f->cache, stmt), slice_of(stmt->text, stmt->text_len));
}

/* An answer of the router's own at this place of the pipeline. */
static bool push_bytes(struct forward *f, uint8_t kind, struct buf *bytes)
{
	if (bytes->overflow)
		return forward_no_memory(f);
	struct reply e = {.kind = kind,
	                  .to = REPLY_LOCAL,
	                  .tag = TAG_BYTES,
	                  .size = (uint32_t)bytes->len,
	                  .data = bytes->data};
	if (replies_push(&f->s->replies, e))
		return true;
	buf_release(bytes);
	return forward_no_memory(f);
}

static bool push_plain_bytes(struct forward *f, uint8_t kind, uint8_t type)
{
	struct buf b;
	buf_init(&b, 16);
	buf_append(&b, (uint8_t[]){type, 0, 0, 0, 4}, 5);
	return push_bytes(f, kind, &b);
}

/* -------------------------------------------------------------------- sets */

#define SETS_SOMETHING (TRAIT_SETS | TRAIT_SETS_LOCAL | TRAIT_CODE_SETS)
#define SETS_OR_UNDOES (TRAIT_SETS | TRAIT_TX_PARTIAL)

/* What is prepared by now was read by other settings; ROLLBACK TO takes some back, if there are any. */
static void note_settings(struct forward *f, uint32_t flags)
{
	f->c->tx_sets |= (flags & SETS_SOMETHING) != 0;
	if (f->c->tx_sets && flags & (SETS_SOMETHING | TRAIT_TX_PARTIAL))
		prepare_note_unnamed(f, NULL);
}

/* What this text sets, to go with its entry. Savepoints matter once there is a SET. */
static bool ask_for_sets(struct forward *f, struct slice text, uint32_t flags)
{
	struct client *c = f->c;
	if (!(flags & TRAIT_SETS) && !c->pending_sets && !c->sets_asked)
		return true;
	switch (pending_ask(c, text, &f->asked)) {
	case PENDING_ASKED:
		break;
	case PENDING_TOO_MANY:
		pending_give_up(c, text);
		break;
	case PENDING_NO_MEMORY:
		return forward_no_memory(f);
	}
	return true;
}

/* It goes with the entry that was pushed last. */
static void attach_asked(struct forward *f)
{
	struct replies *r = &f->s->replies;
	struct reply *e = replies_at(r, r->count - 1);
	for (const struct pending_set *p = f->asked; p; p = p->next)
		f->c->sets_asked++;
	e->tag = TAG_ASKED;
	e->data = f->asked;
	f->asked = NULL;
}

/* It may be executed later, and of a SELECT nobody would know. */
static void forget_asked(struct forward *f)
{
	if (f->asked && f->asked_by_select)
		client_bind(f->c, BIND_SET_CONFIG, f->unit->text);
	if (f->asked)
		pending_free(f->asked);
	f->asked = NULL;
}

/* ---------------------------------------------------------------- messages */

/* Has the transaction failed by now, as far as is known? Named statements that come while that is
 * open have to wait: names_are_open(). */
static bool in_failed_transaction(const struct forward *f)
{
	return f->s->in_tx_after && f->s->replies.tx == TX_FAILED &&
	       !(f->unit->traits.flags & TRAIT_TX_END);
}

static bool parse_unnamed(struct forward *f, struct stmt *stmt, struct slice message)
{
	client_unnamed(f, stmt);
	if (is_local(f, stmt))
		return push_plain_bytes(f, REPLY_PARSE, BE_PARSE_COMPLETE);
	prepare_note_unnamed(f, stmt);
	chain_range(f->out, message.ptr, message.len);
	return prepare_push(f, REPLY_PARSE, REPLY_CLIENT, TAG_PARSE_UNNAMED, stmt, 0);
}

static bool name_is_taken(struct forward *f, struct slice name)
{
	char text[160];
	snprintf(text, sizeof(text), "prepared statement \"%.*s\" already exists",
	         (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
	return error_here(f, "42P05", text);
}

/* The client's name is known to be good: the server has the statement, or is told it. */
static bool prepare_named(struct forward *f, struct stmt *stmt, struct name_undo *undo)
{
	char name[STMT_NAME_MAX];
	uint32_t meaning = prepare_meaning(f);
	struct reply e = {.kind = REPLY_PARSE, .to = REPLY_LOCAL, .tag = TAG_PARSE_NAMED, .size = meaning, .data = undo};
	if (is_local(f, stmt) || server_stmts_touch(&f->s->stmts, stmt, meaning))
		return forward_push_entry(f, e);
	bool ok = true;
	if (meaning == MEANING_UNKNOWN)
		prepare_note_unnamed(f, NULL);
	else
		ok = prepare_room(f, 1, stmt->text_len) && server_stmts_add(&f->s->stmts, stmt, meaning);
	prepare_send(f, stmt, slice_of(name, stmt_server_name(stmt, meaning, name)));
	e.to = REPLY_CLIENT;
	return ok && forward_push_entry(f, e);
}

static bool parse_named(struct forward *f, struct slice name, struct stmt *stmt)
{
	struct client *c = f->c;
	if (client_stmts_find(&c->stmts, name))
		return name_is_taken(f, name);
	if (in_failed_transaction(f) && server_stmts_touch(&f->s->stmts, stmt, prepare_meaning(f)))
		return error_here(f, "25P02",
		                  "current transaction is aborted, commands ignored until end of "
		                  "transaction block");
	if (!client_stmts_fit(&c->stmts, name, stmt, c->worker->settings->max_client_statements_size))
		return error_here(f, "53400",
		                  "the prepared statements of this connection would take more than "
		                  "max_client_statements_size");
	struct name_undo *undo = undo_new(name, stmt);
	if (!undo || !client_stmts_add(&c->stmts, f->cache, name, stmt_ref(stmt))) {
		undo_drop(f, undo);
		return forward_no_memory(f);
	}
	if (prepare_named(f, stmt, undo))
		return true;
	undo_drop(f, undo);
	return false;
}

static bool on_parse(struct forward *f, const struct frame *fr, struct slice at)
{
	struct msg_parse m;
	if (!msg_parse_parse(frame_body(fr), &m)) {
		f->why = "invalid Parse message";
		return false;
	}
	struct stmt *stmt = f->next_parsed < f->unit->parsed_count
	                        ? stmt_ref(f->unit->parsed[f->next_parsed++])
	                        : stmt_get(f->cache, m.query, m.types);
	if (!stmt)
		return forward_no_memory(f);
	bool ok = m.name.len == 0 ? parse_unnamed(f, stmt, slice_of(at.ptr, frame_size(fr)))
	                          : parse_named(f, m.name, stmt);
	stmt_put(f->cache, stmt);
	return ok;
}

/* 26000, as the server says it. */
static bool no_such_statement(struct forward *f, struct slice name)
{
	char text[160];
	if (name.len == 0)
		snprintf(text, sizeof(text), "unnamed prepared statement does not exist");
	else
		snprintf(text, sizeof(text), "prepared statement \"%.*s\" does not exist",
		         (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
	return error_here(f, "26000", text);
}

/* A name the router does not know may be one of SQL PREPARE, on the connection the client is bound
 * to; ours are not for clients. */
static bool may_be_sql_prepared(const struct client *c, struct slice name)
{
	size_t n = sizeof(STMT_NAME_PREFIX) - 1;
	return c->bound && name.len > 0 &&
	       !(name.len >= n && memcmp(name.ptr, STMT_NAME_PREFIX, n) == 0);
}

static void close_local_portal(struct client *c, struct stmt_cache *cache)
{
	if (c->local_stmt)
		stmt_put(cache, c->local_stmt);
	c->local_stmt = NULL;
	c->local_portal_open = false;
}

static bool on_bind(struct forward *f, const struct frame *fr, struct slice at, size_t here)
{
	struct client *c = f->c;
	struct msg_bind m;
	if (!msg_bind_parse(slice_of(fr->body, here - FRAME_HEADER), &m)) {
		f->why = "invalid Bind message";
		return false;
	}
	struct slice portal = m.portal, name = m.statement;
	if (portal.len == 0) {
		close_local_portal(c, f->cache);
		f->portal_known = false;
		forget_asked(f);
	}

	f->bound_flags = 0;
	/* Where the message is not sent, what follows of a long one must not be sent either. */
	c->skip_drop = true;
	struct stmt *stmt = name.len == 0 ? c->unnamed : client_stmts_find(&c->stmts, name);
	if (!stmt && may_be_sql_prepared(c, name)) {
		chain_range(f->out, at.ptr, here);
		return forward_push(f, REPLY_BIND, REPLY_CLIENT, TAG_PLAIN, NULL);
	}
	if (!stmt)
		return no_such_statement(f, name);
	if (is_local(f, stmt)) {
		if (portal.len > 0)
			return error_here(f, "0A000",
			                  "statements of the router run in the unnamed portal only");
		c->local_portal_open = true;
		c->local_stmt = stmt_ref(stmt);
		return push_plain_bytes(f, REPLY_BIND, BE_BIND_COMPLETE);
	}
	struct traits t = stmt_traits(f->cache, stmt);
	f->bound_flags = t.flags;
	c->skip_drop = false;
	if (portal.len == 0) {
		f->portal_known = true;
		f->portal_control = t.flags & CONTROL;
		f->asked_by_select = !(t.flags & TRAIT_RESULT_FREE);
		if (t.flags & SETS_OR_UNDOES && !ask_for_sets(f, slice_of(stmt->text, stmt->text_len), t.flags))
			return false;
	} else if (t.flags & TRAIT_SETS && !(t.flags & TRAIT_RESULT_FREE)) {
		client_bind(c, BIND_SET_CONFIG, slice_of(stmt->text, stmt->text_len));
	}
	if (name.len == 0) {
		if (!prepare_unnamed(f, stmt))
			return false;
		chain_range(f->out, at.ptr, here);
		return forward_push(f, REPLY_BIND, REPLY_CLIENT, TAG_PLAIN, NULL);
	}
	uint32_t meaning = prepare_meaning(f);
	if (!prepare_ensure(f, stmt, meaning))
		return false;
	char ours[STMT_NAME_MAX];
	size_t ours_len = stmt_server_name(stmt, meaning, ours);
	uint8_t head[FRAME_HEADER];
	head[0] = FE_BIND;
	store_be32(head + 1, (uint32_t)(4 + fr->body_len - name.len + ours_len));
	chain_copy(f->out, head, sizeof(head));
	chain_copy(f->out, portal.ptr, portal.len + 1);
	chain_copy(f->out, ours, ours_len + 1);
	if (m.rest.len <= 128)
		chain_copy(f->out, m.rest.ptr, m.rest.len);
	else
		chain_range(f->out, m.rest.ptr, m.rest.len);
	return forward_push(f, REPLY_BIND, REPLY_CLIENT, TAG_PLAIN, NULL);
}

static bool on_describe(struct forward *f, const struct frame *fr, struct slice at)
{
	struct client *c = f->c;
	struct msg_target m;
	if (!msg_target_parse(frame_body(fr), &m)) {
		f->why = "invalid Describe message";
		return false;
	}
	if (m.kind == 'P') {
		if (m.name.len == 0 && c->local_portal_open) {
			struct buf b;
			buf_init(&b, 1024);
			local_describe(slice_of(c->local_stmt->text, c->local_stmt->text_len), &b);
			return push_bytes(f, REPLY_DESCRIBE, &b);
		}
		chain_range(f->out, at.ptr, frame_size(fr));
		return forward_push(f, REPLY_DESCRIBE, REPLY_CLIENT, TAG_PLAIN, NULL);
	}

	struct stmt *stmt = m.name.len == 0 ? c->unnamed : client_stmts_find(&c->stmts, m.name);
	if (!stmt && may_be_sql_prepared(c, m.name)) {
		chain_range(f->out, at.ptr, frame_size(fr));
		return forward_push(f, REPLY_DESCRIBE, REPLY_CLIENT, TAG_PLAIN, NULL);
	}
	if (!stmt)
		return no_such_statement(f, m.name);
	if (is_local(f, stmt)) {
		struct buf b;
		buf_init(&b, 1024);
		buf_append(&b, (uint8_t[]){BE_PARAMETER_DESCRIPTION, 0, 0, 0, 6, 0, 0}, 7);
		local_describe(slice_of(stmt->text, stmt->text_len), &b);
		return push_bytes(f, REPLY_DESCRIBE, &b);
	}
	if (m.name.len == 0) {
		if (!prepare_unnamed(f, stmt))
			return false;
		chain_range(f->out, at.ptr, frame_size(fr));
	} else {
		uint32_t meaning = prepare_meaning(f);
		if (!prepare_ensure(f, stmt, meaning))
			return false;
		char ours[STMT_NAME_MAX];
		size_t n = stmt_server_name(stmt, meaning, ours);
		uint8_t head[FRAME_HEADER + 1] = {FE_DESCRIBE};
		store_be32(head + 1, (uint32_t)(4 + 1 + n + 1));
		head[FRAME_HEADER] = 'S';
		chain_copy(f->out, head, sizeof(head));
		chain_copy(f->out, ours, n + 1);
	}
	return forward_push(f, REPLY_DESCRIBE, REPLY_CLIENT, TAG_PLAIN, NULL);
}

static bool on_execute(struct forward *f, const struct frame *fr, struct slice at)
{
	struct client *c = f->c;
	/* The portal's name begins the body: empty if the first byte is its NUL. */
	if (fr->body_len > 0 && fr->body[0] == 0 && c->local_portal_open) {
		struct buf b;
		buf_init(&b, 4096);
		if (local_execute(c, slice_of(c->local_stmt->text, c->local_stmt->text_len), false, &b))
			return push_bytes(f, REPLY_EXECUTE, &b);
		struct slice text = buf_slice(&b);
		struct error_fields e = {0};
		char sqlstate[6], message[256];
		msg_error_parse(slice_from(text, FRAME_HEADER), &e);
		snprintf(sqlstate, sizeof(sqlstate), "%.*s", SLICE_ARG(e.sqlstate));
		snprintf(message, sizeof(message), "%.*s", SLICE_ARG(e.message));
		buf_release(&b);
		return error_here(f, sqlstate, message);
	}
	bool unnamed = fr->body_len > 0 && fr->body[0] == 0;
	c->batch_bits |= TURN_RAN;
	note_executed(f, unnamed);
	chain_range(f->out, at.ptr, frame_size(fr));
	bool known = unnamed && f->portal_known;
	if (!forward_push(f, REPLY_EXECUTE, REPLY_CLIENT, known ? TAG_PLAIN : TAG_PORTAL, NULL))
		return false;
	if (known && f->asked)
		attach_asked(f);
	return true;
}

static bool on_close(struct forward *f, const struct frame *fr, struct slice at)
{
	struct client *c = f->c;
	struct msg_target m;
	if (!msg_target_parse(frame_body(fr), &m)) {
		f->why = "invalid Close message";
		return false;
	}
	if (m.kind == 'S' && m.name.len > 0) {
		struct stmt *stmt = client_stmts_remove(&c->stmts, m.name);
		if (!stmt)
			return push_plain_bytes(f, REPLY_CLOSE, BE_CLOSE_COMPLETE);
		struct name_undo *undo = undo_new(m.name, stmt);
		stmt_put(f->cache, stmt);
		if (!undo)
			return forward_no_memory(f);
		if (forward_push(f, REPLY_CLOSE, REPLY_LOCAL, TAG_CLOSE_NAMED, undo))
			return true;
		undo_drop(f, undo);
		return false;
	}
	if (m.kind == 'S') {
		client_unnamed(f, NULL);
		prepare_note_unnamed(f, NULL);
	} else if (m.name.len == 0 && c->local_portal_open) {
		close_local_portal(c, f->cache);
		return push_plain_bytes(f, REPLY_CLOSE, BE_CLOSE_COMPLETE);
	}
	chain_range(f->out, at.ptr, frame_size(fr));
	return forward_push(f, REPLY_CLOSE, REPLY_CLIENT, TAG_PLAIN, NULL);
}

static bool push_ready(struct forward *f, uint8_t kind)
{
	struct client *c = f->c;
	struct reply e = {.kind = kind, .to = REPLY_CLIENT, .bits = c->batch_bits};
	if (c->batch_bits & TURN_WROTE)
		c->sent_wrote = true;
	c->batch_bits = 0;
	if (!replies_push(&f->s->replies, e)) {
		f->why = "too many messages without an answer";
		return false;
	}
	if (kind == REPLY_QUERY && f->asked)
		attach_asked(f);
	return true;
}

static bool on_sync(struct forward *f, const struct frame *fr, struct slice at)
{
	struct server *s = f->s;
	bool inside = f->c->worker->settings->policy.fault == FAULT_POSITION_INSIDE;
	bool capture = wants_capture(f);
	f->c->batch_failed = false;
	close_local_portal(f->c, f->cache);
	if (capture && inside && !question_capture_inside(f))
		return false;
	chain_range(f->out, at.ptr, frame_size(fr));
	/* The server ignores a Sync while it waits for COPY data. */
	if (s->replies.copy == COPY_IN)
		return true;
	s->mid_batch = false;
	return push_ready(f, REPLY_SYNC) && (!capture || inside || question_capture(f));
}

/* Is the server skipping to a Sync that it has not been sent yet? What is sent behind an
 * outstanding one counts. */
static bool failed_batch(const struct client *c, const struct server *s)
{
	return c->batch_failed || (s->replies.failed && s->replies.count == 0);
}

/* Was part of a batch sent, and not its Sync? If it fails, everything is skipped up to the next
 * Sync: one of ours must not come before the client's. */
static bool open_batch(const struct server *s)
{
	return s->replies.count > 0 && s->replies.open;
}

void forward_flush(struct server *s, struct chain *to_server)
{
	static const uint8_t flush[] = {FE_FLUSH, 0, 0, 0, 4};
	if (!open_batch(s) || s->flushed)
		return;
	s->flushed = true;
	chain_range(to_server, flush, sizeof(flush));
}

static bool batch(struct forward *f, struct slice in)
{
	struct server *s = f->s;
	size_t used = 0;
	bool ok = failed_batch(f->c, s) || prepare_forget_outdated(f);
	while (ok && used < f->unit->size) {
		struct slice at = slice_from(in, used);
		struct frame fr;
		if (frame_peek(at, &fr) != PARSE_OK) {
			f->why = "invalid message length";
			return false;
		}
		size_t here = frame_complete(&fr, at) ? frame_size(&fr) : at.len;
		/* After an error the server skips everything up to Sync; so do we. */
		bool skipped = failed_batch(f->c, s) && fr.type != FE_SYNC;
		if (skipped) {
			if (fr.type == FE_PARSE)
				f->next_parsed++;
			f->c->skip_drop = true;
		} else {
			f->c->skip_drop = false;
			s->flushed = fr.type == FE_FLUSH;
			switch (fr.type) {
			case FE_PARSE:
				ok = on_parse(f, &fr, at);
				break;
			case FE_BIND:
				ok = on_bind(f, &fr, at, here);
				note_settings(f, f->bound_flags);
				break;
			case FE_DESCRIBE:
				ok = on_describe(f, &fr, at);
				break;
			case FE_EXECUTE:
				ok = on_execute(f, &fr, at);
				break;
			case FE_CLOSE:
				ok = on_close(f, &fr, at);
				break;
			case FE_FLUSH:
				chain_range(f->out, at.ptr, here);
				break;
			default:
				ok = on_sync(f, &fr, at);
				break;
			}
		}
		f->c->skip = frame_size(&fr) - here;
		used += here;
	}
	return ok;
}

/* The server knows a statement by our name only; before a text that uses the client's own name of it,
 * it is told that one too. */
static void prepare_under_own_name(struct forward *f, struct slice name, const struct stmt *stmt)
{
	struct buf close, sync;
	buf_init(&close, 256);
	buf_init(&sync, 16);
	write_close(&close, 'S', name);
	write_sync(&sync);
	chain_copy(f->out, close.data, close.len);
	if (stmt)
		prepare_send(f, stmt, name);
	chain_copy(f->out, sync.data, sync.len);
	buf_release(&close);
	buf_release(&sync);
	forward_push(f, REPLY_CLOSE, REPLY_NOBODY, TAG_PLAIN, NULL);
	if (stmt)
		forward_push(f, REPLY_PARSE, REPLY_NOBODY, TAG_PLAIN, NULL);
	forward_push(f, REPLY_SYNC, REPLY_NOBODY, TAG_PLAIN, NULL);
}

/* EXECUTE binds the client to this connection from now on: the statement keeps the name there. */
static void prepare_as_named(void *arg, const struct set_stmt *st)
{
	struct forward *f = arg;
	struct slice name = slice_str(st->name);
	struct stmt *stmt = st->kind == SET_EXECUTE ? client_stmts_find(&f->c->stmts, name) : NULL;
	if (stmt)
		prepare_under_own_name(f, name, stmt);
}

/* DEALLOCATE of a name of the protocol among other statements: there has to be such a name, and
 * nobody else may find it there afterwards. */
static void prepare_to_deallocate(void *arg, const struct set_stmt *st)
{
	struct forward *f = arg;
	struct slice name = slice_str(st->name);
	if (st->kind != SET_DEALLOCATE || name.len == 0)
		return;
	struct pending_name **last = &f->c->deallocates;
	while (*last)
		last = &(*last)->next;
	*last = calloc(1, sizeof(**last));
	if (!*last) {
		forward_no_memory(f);
		return;
	}
	memcpy((*last)->name, st->name, sizeof((*last)->name));
	struct stmt *stmt = client_stmts_find(&f->c->stmts, name);
	if (stmt)
		prepare_under_own_name(f, name, stmt);
}

static void close_deallocated(void *arg, const struct set_stmt *st)
{
	struct forward *f = arg;
	struct slice name = slice_str(st->name);
	if (st->kind == SET_DEALLOCATE && client_stmts_find(&f->c->stmts, name))
		prepare_under_own_name(f, name, NULL);
}

static bool query(struct forward *f, struct slice in)
{
	struct frame fr;
	if (frame_peek(in, &fr) != PARSE_OK)
		return false;
	struct client *c = f->c;
	if (failed_batch(c, f->s)) {
		c->skip = frame_size(&fr) - f->unit->size;
		c->skip_drop = true;
		return true;
	}
	bool capture = !open_batch(f->s) && wants_capture(f) &&
	               fr.body_len == f->unit->size - FRAME_HEADER &&
	               c->worker->settings->policy.fault != FAULT_POSITION_INSIDE;
	bool deallocates = f->unit->traits.flags & TRAIT_DEALLOCATE && c->stmts.count > 0;
	c->sent_blind |= (c->batch_bits & TURN_BLIND) != 0;
	if (f->unit->type == FE_QUERY) {
		/* A simple query destroys the unnamed statement ("Simple Query"). */
		client_unnamed(f, NULL);
		if (f->s->unnamed)
			prepare_note_unnamed(f, NULL);
		note_settings(f, f->unit->traits.flags);
		if (f->unit->traits.flags & SETS_OR_UNDOES && !ask_for_sets(f, f->unit->text, f->unit->traits.flags))
			return false;
		if (f->unit->traits.binds == BIND_PREPARE && c->stmts.count > 0)
			classify_settings(f->unit->text, prepare_as_named, f);
		if (deallocates)
			classify_settings(f->unit->text, prepare_to_deallocate, f);
		if (f->why)
			return false;
	}
	c->copy_alone = f->s->replies.count == 0 && !f->s->in_tx_after &&
	                f->unit->traits.flags & TRAIT_COPY && !(f->unit->traits.flags & TRAIT_MULTI);
	c->batch_bits |= TURN_RAN;
	f->s->mid_batch = false;
	chain_range(f->out, in.ptr, f->unit->size);
	c->skip = frame_size(&fr) - f->unit->size;
	c->skip_drop = false;
	bool ok = push_ready(f, f->unit->type == FE_QUERY ? REPLY_QUERY : REPLY_FUNCTION) &&
	          (!capture || question_capture(f));
	if (ok && deallocates)
		classify_settings(f->unit->text, close_deallocated, f);
	return ok && !f->why;
}

/* Inside a transaction nothing is closed, so it is done before one. */
static bool tidy_up(struct forward *f)
{
	struct server *s = f->s;
	int before = s->stmts.count;
	bool ok = prepare_forget_outdated(f) && prepare_room(f, 0, 0);
	if (!ok || s->stmts.count == before)
		return ok;
	static const uint8_t sync[] = {FE_SYNC, 0, 0, 0, 4};
	chain_range(f->out, sync, sizeof(sync));
	return forward_push(f, REPLY_SYNC, REPLY_NOBODY, TAG_BEGIN, NULL);
}

/* The BEGIN that was held back goes ahead of the transaction's first statement. What would not be
 * done while a transaction is open is done first. */
static bool push_begin(struct forward *f)
{
	/* Ends what SET TRANSACTION may set, as an earlier read of the transaction did elsewhere. */
	static const char read[] = ";SELECT";
	char sql[BEGIN_TEXT_MAX + sizeof(read)];
	size_t len = begin_text(f->c->begin, sql);
	if (f->c->begun_before) {
		memcpy(sql + len, read, sizeof(read));
		len += sizeof(read) - 1;
	}
	struct buf query;
	buf_init(&query, 2 * BEGIN_TEXT_MAX);
	write_query(&query, slice_of(sql, len));
	struct slice bytes = buf_slice(&query);
	bool ok = tidy_up(f);
	chain_copy(f->out, bytes.ptr, bytes.len);
	buf_release(&query);
	prepare_note_unnamed(f, NULL);
	f->s->in_tx_after = true;
	f->c->hold = HOLD_SENT;
	return ok && forward_push(f, REPLY_QUERY, REPLY_NOBODY, TAG_BEGIN, NULL);
}

/* A plain read and what is said of its text: there is nothing to note. */
#define LEAVES_NOTHING ((uint32_t)(TRAIT_READ | TRAIT_CAPTURABLE | TRAIT_COMMENTED))

static void note_traits(struct client *c, struct server *s, const struct unit *u)
{
	uint32_t flags = u->traits.flags;
	s->barrier |= (flags & (TRAIT_DEALLOCATE | TRAIT_DEALLOCATE_ALL)) != 0;
	/* A replica has no writes: a COMMIT there is none. */
	if (flags & TRAIT_MAY_WRITE && !s->on_replica)
		c->batch_bits |= TURN_WROTE;
	if (flags & TRAIT_MAY_WRITE && !(flags & TRAIT_CAPTURABLE))
		c->batch_bits |= TURN_BLIND;
	if (flags & TRAIT_DDL)
		c->batch_bits |= TURN_DDL;
	/* Nothing unloads a library: the connection ends with its client. */
	s->close_after |= (flags & TRAIT_LOADS) != 0;
	if (flags & TRAIT_BINDS)
		client_bind(c, (enum bind_reason)u->traits.binds, u->text);
}

bool forward_unit(struct client *c, struct server *s, struct slice in, struct unit *u,
                  struct chain *to_server, const char **why)
{
	struct forward f = {
		.c = c, .s = s, .out = to_server, .cache = c->account->database->cache, .unit = u};
	uint32_t flags = u->traits.flags;
	s->flushed = false;
	if (s->replies.count == 0) {
		s->in_tx_after = s->replies.tx != TX_IDLE;
		s->barrier = false;
		c->sent_blind = false;
	}
	if (flags & ~LEAVES_NOTHING || c->batch_bits)
		note_traits(c, s, u);
	if (flags & TRAIT_SEES_STATEMENTS && !prepare_hide(&f)) {
		*why = f.why;
		return false;
	}
	bool ok = c->hold != HOLD_HELD || push_begin(&f);
	s->mid_batch |= u->type == FE_SYNC;
	ok = ok && (!position_is_set(s->guard) || question_guard(&f)) &&
	     (u->type == FE_SYNC ? batch(&f, in) : query(&f, in));
	forget_asked(&f);
	uint32_t control = control_of(&f);
	if (control & (TRAIT_TX_BEGIN | TRAIT_TX_END))
		s->in_tx_after = !(control & TRAIT_TX_CLOSED);
	if (!ok)
		*why = f.why ? f.why : "invalid message";
	return ok;
}

size_t forward_copy(struct client *c, struct server *s, const struct frame *f, struct slice in,
                    struct chain *to_server)
{
	size_t here = frame_complete(f, in) ? frame_size(f) : in.len;
	if (f->type == FE_COPY_DONE || f->type == FE_COPY_FAIL) {
		replies_copy_ends(&s->replies);
		c->sent_blind = false;
	}
	chain_range(to_server, in.ptr, here);
	c->skip = frame_size(f) - here;
	c->skip_drop = false;
	/* A server whose COPY has failed meanwhile ignores the CopyDone, and answers this all the same.
	 */
	struct forward fw = {.c = c, .s = s, .out = to_server, .cache = c->account->database->cache};
	bool alone = c->copy_alone && s->replies.count == 1 &&
	             replies_at(&s->replies, 0)->kind == REPLY_QUERY;
	if (f->type == FE_COPY_DONE && c->skip == 0 && alone && !question_capture(&fw))
		to_server->failed = true;
	return here;
}
