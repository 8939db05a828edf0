/* SPDX-License-Identifier: PostgreSQL */
#include "turn.h"

#include "client.h"
#include "dispatch.h"
#include "forward.h"
#include "local.h"
#include "local_batch.h"
#include "marks.h"
#include "open_names.h"
#include "pool.h"
#include "relay.h"
#include "server.h"
#include "settle.h"
#include "tokens.h"
#include "transaction.h"
#include "unit.h"
#include "unseen.h"
#include "vars_sync.h"
#include "worker.h"

#define TOKEN_WAIT_US 1000000

/* False: the client waits until RESET has come to what it began with. */
static bool restored(struct client *c, struct server *s)
{
	if (s->replies.count > 0 || s->mid_batch || (!c->pending_sets && s->vars == c->vars))
		return true;
	switch (vars_sync_restore(s, c)) {
	case RESTORE_NOTHING:
		return true;
	case RESTORE_FAILED:
		server_close(s, "settings could not be sent");
		return false;
	case RESTORE_ASKED:
		c->state = CLIENT_WAIT_SYNC;
		return false;
	}
	return true;
}

/* currval() in a transaction that has only read so far, or of a client that is bound already, where
 * others have advanced sequences. Once the client itself may have, what it asks for is most likely
 * its own, and cannot be told apart. */
static bool sequences_are_foreign(const struct client *c, const struct server *s,
                                  const struct unit *u)
{
	uint64_t by = s->sequence_user;
	if (u->traits.binds != BIND_SEQUENCE || s->on_replica || by == 0 || by == c->serial)
		return false;
	return !c->tx_wrote && !c->sent_wrote && (by != UINT64_MAX || !c->bound);
}

/* False: the client waits until they are taken away. */
static bool clean_of_sequences(struct client *c, struct server *s, const struct unit *u)
{
	if (!sequences_are_foreign(c, s, u) || s->replies.count > 0 || s->replies.tx == TX_FAILED)
		return true;
	c->state = CLIENT_WAIT_SYNC;
	if (!vars_sync_discard_sequences(s))
		server_close(s, "settings could not be sent");
	return false;
}

/* --------------------------------------------------------- client to server */

/* Before a token is told: what other routers know of the session, and a position for what is owed.
 * False: the client waits for them. */
static bool look_mark_up(struct client *c, const struct unit *u)
{
	int64_t now = net_loop_now_us(c->worker->loop);
	if (!local_tells_token(u->text))
		return true;
	if (c->session && marks_ask(c, c->session) == MARKS_ASKED) {
		c->state = CLIENT_WAIT_STORE;
		return false;
	}
	int64_t until = (c->waiting_since_us ? c->waiting_since_us : now) + TOKEN_WAIT_US;
	bool waits = local_needs_sample(c) && now < until && dispatch_wait_for_sample(c, until);
	/* One that waits for a server next still needs what was asked. */
	if (!waits && (u->type == FE_QUERY || c->server))
		marks_forget(c);
	return !waits;
}

/* A token that was taken is known to the other routers before the client goes on. */
static void share_raised_mark(struct client *c)
{
	settle_begin(c);
	if (!marks_publish(c)) {
		transaction_say_ready(c);
		return;
	}
	const uint8_t ready[] = {BE_READY, 0, 0, 0, 5, TX_IDLE};
	if (!buf_append(&c->late, ready, sizeof(ready)))
		client_fatal(c, "53200", "out of memory", NULL);
}

/* One text or batch that needs no server; all answers but ReadyForQuery. */
static void run_locally(struct client *c, struct slice in, const struct unit *u, struct buf *out)
{
	if (u->type == FE_SYNC) {
		local_batch_run(c, in, u, out);
	} else if (u->begin || u->traits.flags & TRAIT_TX_PLAIN_END) {
		client_drop_unnamed(c);
		write_command_complete(out, transaction_control(c, u->traits));
	} else if (transaction_status(c) == TX_FAILED) {
		transaction_write_failed(out);
	} else {
		client_drop_unnamed(c);
		local_execute(c, u->text, true, out);
	}
}

/* Statements of the router's own. False: it waits first. */
static bool answer_locally(struct client *c, struct slice in, const struct unit *u)
{
	if (!look_mark_up(c, u))
		return false;
	const struct session_mark *mark = c->mark;
	struct position before = session_known(mark);
	struct buf b;
	buf_init(&b, 8192);
	run_locally(c, in, u, &b);
	c->waiting_since_us = 0;
	tokens_report(c, &b);
	client_say(c, b.data, b.len);
	buf_release(&b);
	bool raised = c->mark == mark && !position_reached(before, mark->brought);
	if (raised && transaction_status(c) == TX_IDLE)
		share_raised_mark(c);
	else
		transaction_say_ready(c);
	return true;
}

static bool apply_inside(struct client *c, const struct unit *u)
{
	struct local_error e;
	if (!(u->traits.flags & TRAIT_ROUTER_INSIDE) || local_apply_inside(c, u->text, &e))
		return true;
	dispatch_refuse(c, u, e.sqlstate, e.message, NULL);
	return false;
}

/* Needs no server, or, if attached to one, waits for none of its answers. */
static bool is_local(struct client *c, struct slice in, const struct unit *u)
{
	if (u->type == FE_QUERY && u->local_only)
		return true;
	if (c->server)
		return false;
	return u->type == FE_QUERY ? transaction_controls(c->hold, u->traits) >= 0
	                           : local_batch_is(c, in, u);
}

/* May more be sent to the server the client has, before what was sent is answered? On a replica one
 * unit at a time: it may have to be run again elsewhere. */
static bool accepts(const struct client *c, const struct server *s, struct slice in,
                    const struct unit *u)
{
	if (s->state != SERVER_ACTIVE)
		return false;
	if (s->replies.count == 0)
		return true;
	if (s->on_replica || s->observed)
		return false;
	if (sequences_are_foreign(c, s, u) && !s->mid_batch)
		return false;
	if (names_are_open(c, s, in, u))
		return false;
	/* The rest of a batch: what was sent of it may not be answered before its Sync. */
	if (s->mid_batch && u->type == FE_SYNC)
		return true;
	/* What the answer changes, the next statement has to find changed. */
	if (u->traits.flags & (TRAIT_SETS | TRAIT_ROUTER_INSIDE) || c->pending_sets || c->sets_asked ||
	    u->local_only || s->barrier)
		return false;
	/* Each answer is written to the session of its own statement, and its mark stored, before the
	 * next one. */
	return !marks_shared(c) && !c->turn_session && !c->tx_sessions && !unit_names_session(c, u);
}

/* Keeps the bytes of a read on a replica, so that it can be run again elsewhere. */
static void keep_for_rerun(struct server *s, struct slice in, const struct unit *u)
{
	if (!s->on_replica)
		return;
	buf_reset(&s->replay);
	s->reading = false;
	if (s->pinned && s->replies.tx != TX_IDLE)
		return;
	s->reading = buf_append(&s->replay, in.ptr, u->size);
	s->many = u->executes > 1 || u->traits.flags & TRAIT_MULTI;
}

/* What the server said at the RESET was its own idea of the start; the client's has been replayed
 * since. */
static void tell_params(struct client *c, const struct server *s)
{
	if (s->vars != c->vars)
		return;
	struct buf b;
	buf_init(&b, READ_CHUNK);
	params_write(s, &b);
	c->tell_params = false;
	client_say(c, b.data, b.len);
	buf_release(&b);
}

/* Returns false if the client is gone. */
static bool send_unit(struct client *c, struct slice in, struct unit *u)
{
	struct server *s = c->server;
	struct chain ch;
	const char *why = NULL;
	if (c->tell_params && s->replies.count == 0) {
		tell_params(c, s);
		if (c->state == CLIENT_DEAD)
			return false;
	}
	if (s->replies.count == 0)
		c->query_started_us = net_loop_now_us(c->worker->loop);
	chain_init(&ch, s->stream, &s->out);
	keep_for_rerun(s, in, u);
	transaction_sent(c, s, u);
	if (u->traits.flags & TRAIT_MAY_WRITE && !s->on_replica && s->sequence_user != c->serial)
		s->sequence_user = s->sequence_user == 0 ? c->serial : UINT64_MAX;
	s->used = true;
	c->tx_sets |= s->unseen == UNSEEN_ANY;
	unseen_note(s, c->serial, u->traits, u->text);
	bool ok = forward_unit(c, s, in, u, &ch, &why);
	if (ok)
		chain_flush(&ch);
	if (!ok) {
		c->worker->stats.client_errors++;
		client_fatal(c, "08P01", why, NULL);
		return false;
	}
	if (ch.failed) {
		server_close(s, "the server closed the connection");
		return c->state != CLIENT_DEAD;
	}
	c->account->database->stats.query_count++;
	if (u->open)
		relay_local_answers(s);
	return c->state != CLIENT_DEAD;
}

static size_t pass_through(struct client *c, struct slice in)
{
	size_t n = c->skip < in.len ? (size_t)c->skip : in.len;
	struct server *s = c->server;
	if (!c->skip_drop && s && s->out.len > 0)
		return 0; /* the server does not keep up */
	c->skip -= n;
	if (c->skip_drop || !s)
		return n;
	struct chain ch;
	chain_init(&ch, s->stream, &s->out);
	chain_range(&ch, in.ptr, n);
	chain_flush(&ch);
	if (ch.failed)
		server_close(s, "the server closed the connection");
	else if (c->skip == 0 && s->state == SERVER_ACTIVE && replies_at_rest(&s->replies))
		settle_rest(s);
	return n;
}

/* What waits for the answers of a batch that has no Sync yet would wait for ever. */
static void ask_for_answers(struct client *c)
{
	struct server *s = c->server;
	struct chain ch;
	chain_init(&ch, s->stream, &s->out);
	forward_flush(s, &ch);
	chain_flush(&ch);
	if (ch.failed)
		server_close(s, "the server closed the connection");
}

/* COPY messages are the server's affair; without a COPY under way they are the rest of one that
 * failed, and are dropped as the server drops them. */
static size_t copy_message(struct client *c, const struct frame *f, struct slice in)
{
	struct server *s = c->server;
	if (!s || s->state != SERVER_ACTIVE || s->replies.count == 0) {
		size_t here = frame_complete(f, in) ? frame_size(f) : in.len;
		c->skip = frame_size(f) - here;
		c->skip_drop = true;
		return here;
	}
	struct chain ch;
	chain_init(&ch, s->stream, &s->out);
	size_t here = forward_copy(c, s, f, in, &ch);
	chain_flush(&ch);
	if (ch.failed)
		server_close(s, "the server closed the connection");
	return here;
}

static bool is_copy(const struct client *c, uint8_t type)
{
	if (type == FE_COPY_DATA || type == FE_COPY_DONE || type == FE_COPY_FAIL)
		return true;
	const struct server *s = c->server;
	return type == FE_FLUSH && s && s->replies.copy == COPY_IN;
}

/* After an error of ours in a batch: nothing counts until Sync. */
static size_t skip_to_sync(struct client *c, const struct frame *f, struct slice in)
{
	size_t here = frame_complete(f, in) ? frame_size(f) : in.len;
	c->skip = frame_size(f) - here;
	c->skip_drop = true;
	if (f->type == FE_SYNC) {
		c->to_sync = false;
		transaction_say_ready(c);
	}
	return here;
}

/* What came before it is answered first; nothing behind it counts. */
static size_t protocol_error(struct client *c, struct slice in, const char *message)
{
	c->worker->stats.client_errors++;
	client_end(c, message);
	return in.len;
}

/* Named so that a Parse of any size can be held: only its text makes it a statement. */
static bool too_large(const struct client *c, const struct frame *f)
{
	bool held = f->type == FE_PARSE || f->type == FE_DESCRIBE || f->type == FE_EXECUTE ||
	            f->type == FE_CLOSE || f->type == FE_SYNC || f->type == FE_FLUSH;
	return held && f->body_len > c->worker->settings->max_packet_size;
}

/* It was cancelled, or has waited too long. */
static void refuse_waiting(struct client *c, const struct unit *u)
{
	bool cancelled = c->cancelled;
	enum timeout timeout = c->timed_out;
	c->cancelled = false;
	c->timed_out = TIMEOUT_NONE;
	dispatch_end_wait(c);
	if (cancelled)
		dispatch_refuse(c, u, "57014", "canceling statement due to user request", NULL);
	else if (timeout == TIMEOUT_HELD)
		dispatch_refuse(
			c, u, "53300",
			"no replica was fit for this read, and no place on the primary came free within "
			"query_wait_timeout",
			"SHOW FLEET on database tidemark tells why; fallback_pool_share is the limit.");
	else
		dispatch_refuse(c, u, "53300", "no server connection came free within query_wait_timeout",
		                "Raise default_pool_size, or shorten transactions.");
}

static void say_complete(struct client *c, const char *tag)
{
	struct buf b;
	client_drop_unnamed(c);
	buf_init(&b, 64);
	write_command_complete(&b, tag);
	client_say(c, b.data, b.len);
	buf_release(&b);
	transaction_say_ready(c);
}

/* The next statement of a client that has a server. Of a transaction on a replica it may be the
 * last one there: then the client has none. False: it is answered already. */
static bool goes_on(struct client *c, const struct unit *u)
{
	struct server *s = c->server;
	if (!s->on_replica || s->replies.tx == TX_IDLE)
		return true;
	switch (transaction_next(c, u)) {
	case TRANSACTION_STAYS:
		dispatch_goes_on(c, u);
		break;
	case TRANSACTION_ASKS:
		if (!dispatch_stays(c, u))
			transaction_leave(c);
		break;
	case TRANSACTION_MOVES:
		c->worker->stats.transactions_moved++;
		transaction_leave(c);
		break;
	case TRANSACTION_CHAINS:
		say_complete(c, transaction_chain(c));
		return false;
	case TRANSACTION_FAILS:
		transaction_leave(c);
		dispatch_refuse(
			c, u, "0A000",
			u->beyond ? "nothing may follow the end of a READ ONLY transaction that runs on a "
						"replica in the same message or batch"
					  : "session state cannot be made in a READ ONLY transaction that runs on a "
						"replica",
			"Send it by itself outside the transaction, or in one that is not READ ONLY.");
		return false;
	}
	return true;
}

/* One unit, or one message that needs no judgement. 0: cannot go on now. */
static size_t step(struct client *c, struct slice in)
{
	struct frame f;
	enum parse_result r = frame_peek(in, &f);
	if (r == PARSE_PARTIAL) {
		c->wants_more = true;
		return 0;
	}
	if (r == PARSE_INVALID)
		return protocol_error(c, in, "invalid message length");
	if (f.type == FE_TERMINATE) {
		client_end(c, NULL);
		return in.len;
	}
	if (c->to_sync)
		return skip_to_sync(c, &f, in);
	if (c->server && (c->server->out.len > 0 || c->server->replies.count > REPLIES_MAX / 2))
		return 0;
	if (is_copy(c, f.type))
		return copy_message(c, &f, in);
	if (too_large(c, &f)) {
		client_fatal(c, "54000", "message is larger than max_packet_size",
		             "Raise max_packet_size in the router's configuration.");
		return 0;
	}

	struct unit u;
	size_t used = 0;
	r = unit_scan(c, in, c->server && !transaction_may_move(c), &u);
	if (r == PARSE_INVALID) {
		unit_release(c, &u);
		return protocol_error(c, in, "invalid or unexpected message");
	}
	if (r == PARSE_PARTIAL) {
		c->wants_more = true;
		goto out;
	}
	if (c->server && !accepts(c, c->server, in, &u)) {
		ask_for_answers(c);
		goto out;
	}
	if (c->server && (!restored(c, c->server) || !clean_of_sequences(c, c->server, &u)))
		goto out;
	if (c->cancelled || c->timed_out) {
		refuse_waiting(c, &u);
		used = u.size;
		goto out;
	}
	c->seen_at_us = net_loop_now_us(c->worker->loop);
	c->account->asks_sequences |= (u.traits.flags & TRAIT_ASKS_SEQUENCES) != 0;
	if (is_local(c, in, &u)) {
		if (answer_locally(c, in, &u))
			used = u.size;
		goto out;
	}
	if (c->hold == HOLD_FAILED && u.size > FRAME_HEADER) {
		dispatch_refuse(
			c, &u, "25P02",
			"current transaction is aborted, commands ignored until end of transaction block",
			NULL);
		used = u.size;
		goto out;
	}
	if (u.local_only && u.statements > 0) {
		if (!look_mark_up(c, &u))
			goto out;
		c->waiting_since_us = 0;
	}
	if (u.type == FE_SYNC && u.ends && u.size == FRAME_HEADER && !c->server) {
		transaction_say_ready(c);
		used = u.size;
		goto out;
	}
	if (!apply_inside(c, &u)) {
		dispatch_end_wait(c);
		used = u.size;
		goto out;
	}
	if (c->server && !goes_on(c, &u)) {
		used = u.size;
		goto out;
	}
	bool attached = c->server != NULL;
	if (!attached) {
		enum dispatch d = dispatch_unit(c, &u);
		if (d == DISPATCH_REFUSED)
			used = u.size;
		if (d != DISPATCH_GO)
			goto out;
	} else if (c->bound && c->server->replies.count == 0 && c->server->replies.tx == TX_IDLE) {
		settle_begin(c);
		c->turn_started_us = net_loop_now_us(c->worker->loop);
		c->last_reason = REASON_BOUND;
		c->worker->stats.by_reason[REASON_BOUND]++;
	} else if (c->server->on_replica) {
		/* goes_on() has counted it. */
	} else if (c->server->replies.tx != TX_IDLE) {
		c->last_reason = REASON_TRANSACTION;
		c->worker->stats.by_reason[REASON_TRANSACTION]++;
	}
	if (attached && !dispatch_join_tagged(c, &u))
		client_fatal(c, "54000", "too many sessions are tagged in one transaction, or in all",
		             NULL);
	else if (send_unit(c, in, &u))
		used = u.size;
out:
	unit_release(c, &u);
	return used;
}

size_t turn_from_client(struct client *c, struct slice in)
{
	size_t used = 0;
	c->wants_more = false;
	/* A read that has to be run again comes first, and so do answers the client has not taken. */
	while (used < in.len && c->state == CLIENT_READY && c->redo.len == 0 &&
	       c->out.len < READ_CHUNK) {
		struct slice rest = slice_from(in, used);
		size_t n = c->skip > 0 ? pass_through(c, rest) : step(c, rest);
		if (n == 0)
			break;
		used += n;
	}
	return used;
}
