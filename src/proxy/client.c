/* SPDX-License-Identifier: PostgreSQL */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>

#include "auth_lookup.h"
#include "base/log.h"
#include "cancel.h"
#include "marks.h"
#include "operate.h"
#include "pool.h"
#include "server.h"
#include "settle.h"
#include "startup.h"
#include "turn.h"
#include "unseen.h"
#include "worker.h"

#define CONSOLE_OUT_MAX (8 * 1024 * 1024)

/* Who has ended what it sends may be waiting for the answers, or may be gone: it is asked every
 * second, and has client_eof_timeout for all of it. */
#define ENDED_PROBE_US 1000000

static void client_event(void *owner, unsigned events);

/* ------------------------------------------------------------------- saying */

/* The client took all it was given: its server may go on. */
static void unpause_server(struct client *c)
{
	struct server *s = c->server;
	if (s && s->stream && !(net_stream_wanted(s->stream) & NET_READABLE))
		net_stream_want(s->stream, net_stream_wanted(s->stream) | NET_READABLE);
}

void client_say(struct client *c, const void *ptr, size_t len)
{
	if (c->state == CLIENT_DEAD || len == 0)
		return;
	struct chain ch;
	bool waited = c->out.len > 0;
	chain_init(&ch, c->stream, &c->out);
	chain_range(&ch, ptr, len);
	chain_flush(&ch);
	if (ch.failed)
		client_close(c);
	else if (waited && c->out.len == 0)
		unpause_server(c);
}

void client_fatal(struct client *c, const char *sqlstate, const char *message, const char *hint)
{
	struct buf b;
	buf_init(&b, 4096);
	write_error(&b, "FATAL", sqlstate, message, hint);
	if (!c->server || !server_amid_message(c->server))
		client_say(c, b.data, b.len);
	buf_release(&b);
	client_close(c);
}

/* ------------------------------------------------------------ small things */

struct client_options *client_options(struct client *c)
{
	if (!c->options)
		c->options = calloc(1, sizeof(*c->options));
	return c->options;
}

void client_drop_unnamed(struct client *c)
{
	if (c->unnamed)
		stmt_put(c->account->database->cache, c->unnamed);
	c->unnamed = NULL;
}

void client_reset_options(struct client *c)
{
	const struct client_options *start = c->startup_options;
	struct client_options *o = c->options;
	if (!o)
		return;
	struct client_options before = *o;
	*o = start ? *start : (struct client_options){0};
	o->told_token = before.told_token;
	o->told_lost = before.told_lost;
	o->told = before.told;
	o->told_session = before.told_session;
	client_set_session(c, slice_str(start ? start->session : ""));
}

void client_set_vars(struct client *c, struct vars *vars)
{
	vars_put(&c->worker->vars, c->vars);
	c->vars = vars;
}

struct route_policy client_policy(const struct client *c)
{
	struct route_policy p = c->account->database->policy;
	const struct client_options *o = c->options;
	if (!o)
		return p;
	if (o->has_level)
		p.level = o->level;
	if (o->has_max_lag)
		p.max_lag_us = o->max_lag_us;
	if (o->has_wait_timeout)
		p.wait_timeout_us = o->wait_timeout_us;
	return p;
}

bool client_splits(const struct client *c)
{
	const struct client_options *o = c->options;
	enum split_transactions split =
		o && o->has_split ? o->split : c->worker->settings->split_transactions;
	return split == SPLIT_READ_COMMITTED;
}

struct session_mark *client_mark(struct client *c)
{
	return c->wait_mark && c->waiting_since_us > 0 ? c->wait_mark : c->mark;
}

bool client_is_told(const struct client *c)
{
	return (c->options && c->options->report) || marks_shared(c);
}

bool client_scope_mark(struct client *c)
{
	struct database *db = c->account->database;
	if (db->scope == SCOPE_DATABASE) {
		c->mark = db->shared;
	} else {
		if (!c->own && (c->own = calloc(1, sizeof(*c->own))) && c->mark)
			session_wrote_unknown(c->own, &c->worker->fleet, net_now_us());
		c->mark = c->own;
	}
	/* As below. It also must not stay at a named session that was just given back. */
	if (!c->turn_session)
		c->turn_mark = c->mark;
	return c->mark != NULL;
}

void client_scope_changed(struct client *c)
{
	if (c->session || !c->mark)
		return;
	if (!client_scope_mark(c))
		client_fatal(c, "53200", "out of memory", NULL);
	else
		session_wrote_unknown(c->mark, &c->worker->fleet, net_now_us());
}

bool client_set_session(struct client *c, struct slice name)
{
	struct worker *w = c->worker;
	int64_t now = net_now_us();
	struct session *fresh = NULL;
	if (name.len > 0 &&
	    !(fresh = sessions_get(&w->sessions, &w->fleet, c->account->database->shared, name, now)))
		return false;
	/* A transaction under way keeps the mark it began with, and the new session joins in. */
	if (fresh && c->server && !settle_join_session(c, fresh)) {
		sessions_put(&w->sessions, fresh, now);
		return false;
	}
	if (c->server && c->session && !c->turn_session)
		c->turn_session = c->session;
	else if (c->session)
		sessions_put(&w->sessions, c->session, now);
	c->session = fresh;
	c->mark_whole = false;
	if (!fresh) {
		c->scope_joins = c->server != NULL;
		return client_scope_mark(c);
	}
	c->mark = &fresh->mark;
	if (!c->turn_session && !c->server)
		c->turn_mark = c->mark;
	return true;
}

/* Of a client that is bound already, further reasons count for this only. */
static void note_settings(struct client *c, enum bind_reason reason)
{
	c->sets_unknown |= reason == BIND_ROLE || reason == BIND_SET_CONFIG || reason == BIND_SETTINGS ||
	                   reason == BIND_UNSEEN;
}

/* What is known takes the place of what is not known yet, and may turn out to be nothing. */
static bool may_bind(const struct client *c, enum bind_reason reason)
{
	return !c->bound || (c->bound == BIND_UNSEEN && reason != BIND_UNSEEN);
}

void client_bind_by(struct client *c, enum bind_reason reason, const char *brief)
{
	note_settings(c, reason);
	if (!may_bind(c, reason))
		return;
	c->bound = (uint8_t)reason;
	c->worker->stats.binds++;
	free(c->bound_by);
	c->bound_by = malloc(sizeof(*c->bound_by));
	if (!c->bound_by)
		return;
	c->bound_by->at_us = net_loop_now_us(c->worker->loop);
	snprintf(c->bound_by->brief, sizeof(c->bound_by->brief), "%s", brief ? brief : "");
}

void client_bind(struct client *c, enum bind_reason reason, struct slice text)
{
	char brief[BRIEF_MAX];
	note_settings(c, reason);
	if (!may_bind(c, reason))
		return;
	sql_brief(text, brief);
	client_bind_by(c, reason, brief);
}

void client_unbind(struct client *c)
{
	c->bound = BIND_NONE;
	c->sets_unknown = false;
	free(c->bound_by);
	c->bound_by = NULL;
}

/* ---------------------------------------------------------------- lifetimes */

void client_accept(void *arg, struct net_stream *stream)
{
	struct worker *w = arg;
	struct client *c = calloc(1, sizeof(*c));
	if (!c) {
		net_stream_close(stream);
		return;
	}
	c->worker = w;
	c->stream = stream;
	c->last_node = NODE_NONE;
	c->serial = ++w->next_serial;
	c->connected_at_us = c->seen_at_us = net_loop_now_us(w->loop);
	list_init(&c->queue);
	buf_init(&c->in, w->settings->max_packet_size + 2 * READ_CHUNK);
	buf_init(&c->out, OUT_MAX);
	buf_init(&c->late, 64);
	list_push_back(&w->clients, &c->link);
	w->client_count++;
	net_stream_set_owner(stream, client_event, c);
}

/* What becomes of the server when its client goes. */
static void leave_server(struct client *c)
{
	struct server *s = c->server;
	if (!s)
		return;
	if (s->state == SERVER_UNSEEN) {
		unseen_left_alone(s);
		return;
	}
	bool rest = s->state == SERVER_ACTIVE && replies_at_rest(&s->replies) && !s->mid_batch &&
	            s->out.len == 0 && s->in.len == 0 && s->skip == 0 && (c->skip == 0 || c->skip_drop);
	if (!rest && (c->sent_wrote || c->tx_wrote || c->batch_bits & TURN_WROTE))
		settle_unknown(c);
	c->server = NULL;
	s->client = NULL;
	if (!rest) {
		/* Nobody wants the rest of the answer: make the server stop working on it. */
		if (s->replies.count > 0 && s->state == SERVER_ACTIVE)
			cancel_send(s);
		server_abandon(s);
	} else if (c->bound || s->unseen) {
		server_reset(s);
	} else {
		server_release(s);
	}
}

void client_close(struct client *c)
{
	struct worker *w = c->worker;
	if (c->state == CLIENT_DEAD)
		return;
	if (w->settings->log_connections && c->account)
		log_info("client=%u database=%s user=%s disconnected", c->id, c->account->database->name,
		         client_user(c));
	c->state = CLIENT_DEAD;
	list_remove(&c->queue);
	leave_server(c);
	lookup_leave(c);
	marks_release(c);
	settle_release(c);
	pool_decline(c);
	operate_let_go(c);
	w->consoles_waiting -= c->console && c->console->waits;
	cancel_unregister(w, c);
	if (c->account) {
		c->account->client_count--;
		account_forget_sequences(c->account, c->serial);
	}
	net_stream_close(c->stream);
	c->stream = NULL;
	list_remove(&c->link);
	list_push_back(&w->dead_clients, &c->link);
	w->client_count--;
}

void client_free(struct client *c)
{
	struct worker *w = c->worker;
	list_remove(&c->link);
	startup_release(c);
	vars_put(&w->vars, c->vars);
	vars_put(&w->vars, c->startup_vars);
	if (c->session)
		sessions_put(&w->sessions, c->session, net_loop_now_us(w->loop));
	free(c->own);
	free(c->user);
	free(c->console);
	free(c->bound_by);
	free(c->options);
	free(c->startup_options);
	buf_release(&c->in);
	buf_release(&c->redo);
	buf_release(&c->out);
	free(c);
}

/* ------------------------------------------------------------------ the end */

/* Is there anything it has yet to hear? What would need more of its bytes is not. */
static bool is_owed(const struct client *c)
{
	struct server *s = c->server;
	if (c->out.len > 0)
		return true;
	switch (c->state) {
	case CLIENT_STARTUP:
	case CLIENT_TLS:
	case CLIENT_AUTH:
	case CLIENT_CONSOLE:
	case CLIENT_DEAD:
		return false;
	case CLIENT_READY:
		break;
	default:
		return true;
	}
	/* It is about to go on. */
	if (c->redo.len > 0 || !list_empty(&c->queue))
		return true;
	if (!s)
		return false;
	/* Whole messages that wait until the server has taken or answered others. */
	bool held_up = c->in.len > 0 && !c->wants_more && s->replies.count > 0;
	return held_up || s->out.len > 0 || server_owes(s);
}

/* PostgreSQL answers a COPY that is broken off, and in these words. */
static void answer_copy(struct client *c)
{
	struct buf b;
	buf_init(&b, 256);
	write_error(&b, "ERROR", "08006",
	            "unexpected EOF on client connection with an open transaction", NULL);
	client_say(c, b.data, b.len);
	buf_release(&b);
}

static void end_if_answered(struct client *c)
{
	if (c->ended_at_us == 0 || c->state == CLIENT_DEAD || is_owed(c))
		return;
	if (c->last_words) {
		client_fatal(c, "08P01", c->last_words, NULL);
		return;
	}
	if (c->server && c->server->replies.copy == COPY_IN)
		answer_copy(c);
	client_close(c);
}

void client_end(struct client *c, const char *last_words)
{
	c->ended_at_us = c->probed_at_us = net_loop_now_us(c->worker->loop);
	c->last_words = last_words;
}

/* Only something that is written shows TCP whether anybody is there still, and a ParameterStatus
 * may come at any time. */
static void probe(struct client *c)
{
	static const char name[] = "tidemark.ended", value[] = "on";
	bool amid = c->server && server_amid_message(c->server);
	if (!c->account || c->state == CLIENT_WELCOME || c->out.len > 0 || amid)
		return;
	struct buf b;
	buf_init(&b, 64);
	if (write_parameter_status(&b, slice_str(name), slice_str(value)))
		client_say(c, b.data, b.len);
	buf_release(&b);
}

void client_tend_end(struct client *c, int64_t now_us)
{
	if (now_us - c->ended_at_us >= c->worker->settings->client_eof_timeout_us) {
		client_close(c);
	} else if (now_us - c->probed_at_us >= ENDED_PROBE_US) {
		c->probed_at_us = now_us;
		probe(c);
	}
	end_if_answered(c);
}

/* What comes after the end is not looked at; but whether the connection still stands is. */
static void read_past_end(struct client *c)
{
	if (net_stream_read(c->stream, c->worker->chunk, READ_CHUNK) == NET_ERROR)
		client_close(c);
}

/* ------------------------------------------------------------------ console */

static size_t console_message(struct client *c, struct slice in)
{
	struct frame f;
	enum parse_result r = frame_peek(in, &f);
	if (r == PARSE_PARTIAL || (r == PARSE_OK && f.body_len < HOLD_MAX && !frame_complete(&f, in)))
		return 0;
	struct slice sql;
	if (r == PARSE_INVALID || f.body_len >= HOLD_MAX) {
		client_fatal(c, "08P01", "invalid message", NULL);
		return 0;
	}
	if (f.type == FE_TERMINATE) {
		client_close(c);
		return 0;
	}
	if (f.type != FE_QUERY || !msg_query_parse(frame_body(&f), &sql)) {
		client_fatal(c, "08P01", "the admin console speaks the simple query protocol only", NULL);
		return 0;
	}
	struct buf out;
	buf_init(&out, CONSOLE_OUT_MAX);
	c->worker->console(c->worker->console_arg, c, sql, &out);
	if (!c->console->waits)
		write_ready(&out, TX_IDLE);
	c->out.max = CONSOLE_OUT_MAX;
	client_say(c, out.data, out.len);
	buf_release(&out);
	return frame_size(&f);
}

/* ------------------------------------------------------------------ reading */

/* What of `in` can be handled now. */
static size_t handle(struct client *c, struct slice in)
{
	size_t used = 0;
	while (used < in.len && c->state != CLIENT_DEAD) {
		struct slice rest = slice_from(in, used);
		size_t n = 0;
		switch (c->state) {
		case CLIENT_STARTUP:
			n = startup_packet(c, rest);
			break;
		case CLIENT_AUTH:
			n = startup_answer(c, rest);
			break;
		case CLIENT_CONSOLE:
			n = c->console->waits ? 0 : console_message(c, rest);
			break;
		case CLIENT_READY:
			n = turn_from_client(c, rest);
			break;
		default:
			break;
		}
		if (n == 0)
			break;
		used += n;
	}
	return used;
}

/* Bytes that have to wait are kept; when there are enough of them, no more are read. */
static void pause_if_full(struct client *c)
{
	if (c->in.len < HOLD_MAX || (c->state == CLIENT_READY && c->wants_more))
		return;
	c->paused = true;
	net_stream_want(c->stream, net_stream_wanted(c->stream) & ~(unsigned)NET_READABLE);
}

static void unpause(struct client *c)
{
	if (!c->paused)
		return;
	c->paused = false;
	net_stream_want(c->stream, net_stream_wanted(c->stream) | NET_READABLE);
}

static void handle_kept(struct client *c)
{
	size_t before = c->in.len;
	size_t used = handle(c, buf_slice(&c->in));
	if (c->state == CLIENT_DEAD)
		return;
	buf_consume(&c->in, used);
	if (c->in.len == 0)
		buf_release(&c->in);
	if (used > 0 || before == 0 || c->wants_more)
		unpause(c);
}

static void on_readable(struct client *c)
{
	struct worker *w = c->worker;
	if (c->ended_at_us > 0) {
		read_past_end(c);
		return;
	}
	bool kept = c->in.len > 0;
	uint8_t *at = kept ? buf_reserve(&c->in, READ_CHUNK) : w->chunk;
	if (!at) {
		client_fatal(c, "54000", "message is larger than max_packet_size", NULL);
		return;
	}
	ssize_t n = net_stream_read(c->stream, at, READ_CHUNK);
	if (n == NET_AGAIN)
		return;
	if (n == NET_EOF) {
		client_end(c, NULL);
		end_if_answered(c);
		return;
	}
	if (n < 0) {
		client_close(c);
		return;
	}
	if (c->account)
		c->account->database->stats.received += (uint64_t)n;
	if (kept) {
		buf_commit(&c->in, (size_t)n);
		handle_kept(c);
	} else {
		size_t used = handle(c, slice_of(at, (size_t)n));
		if (c->state == CLIENT_DEAD)
			return;
		if (!buf_append(&c->in, at + used, (size_t)n - used)) {
			client_fatal(c, "53200", "out of memory", NULL);
			return;
		}
	}
	if (c->state != CLIENT_DEAD)
		pause_if_full(c);
	end_if_answered(c);
}

static void client_event(void *owner, unsigned events)
{
	struct client *c = owner;
	if (events & (NET_CONNECTED | NET_FAILED)) {
		startup_secured(c, events);
		return;
	}
	if (events & NET_WRITABLE) {
		if (!out_flush(c->stream, &c->out)) {
			client_close(c);
			return;
		}
		if (c->out.len == 0) {
			unpause_server(c);
			client_kick(c);
		}
	}
	if (c->state != CLIENT_DEAD && events & NET_READABLE)
		on_readable(c);
}

/* ---------------------------------------------------------------- going on */

void client_kick(struct client *c)
{
	if (c->state == CLIENT_READY && (c->in.len > 0 || c->paused || c->ended_at_us > 0))
		worker_make_runnable(c->worker, c);
}

/* Puts a read that is to be run again in front of what the client sent after it. */
static bool take_redo(struct client *c)
{
	if (c->redo.len == 0)
		return true;
	struct slice after = buf_slice(&c->in);
	uint32_t max = c->in.max;
	c->redo.max = max + HOLD_MAX;
	if (!buf_append(&c->redo, after.ptr, after.len)) {
		client_fatal(c, "53200", "out of memory", NULL);
		return false;
	}
	buf_release(&c->in);
	c->in = c->redo;
	c->in.max = max;
	buf_init(&c->redo, 0);
	return true;
}

void client_resume(struct client *c)
{
	if (c->state == CLIENT_DEAD)
		return;
	waitlist_remove(&c->worker->waitlist, &c->waiter);
	pool_leave_queue(c);
	operate_let_go(c);
	if (c->state == CLIENT_WAIT_MARK)
		marks_resume(c);
	if (c->state == CLIENT_WAIT_MARK || c->state == CLIENT_DEAD)
		return;
	if (c->state == CLIENT_LOOKUP) {
		startup_lookup(c);
		if (c->state == CLIENT_LOOKUP || c->state == CLIENT_DEAD) {
			pool_decline(c);
			return;
		}
	} else if (c->state == CLIENT_WELCOME) {
		startup_welcome(c);
		if (c->state != CLIENT_READY) {
			pool_decline(c);
			return;
		}
	} else {
		if (c->state == CLIENT_WAIT_POSITION || c->state == CLIENT_WAIT_SERVER ||
		    c->state == CLIENT_WAIT_SYNC || c->state == CLIENT_WAIT_STORE ||
		    c->state == CLIENT_WAIT_PRIMARY)
			c->state = CLIENT_READY;
	}
	if (take_redo(c))
		handle_kept(c);
	pool_decline(c);
	if (c->state != CLIENT_DEAD)
		pause_if_full(c);
	end_if_answered(c);
}
