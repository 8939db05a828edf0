/* SPDX-License-Identifier: PostgreSQL */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>

#include "auth_lookup.h"
#include "base/log.h"
#include "cancel.h"
#include "catalog_load.h"
#include "client.h"
#include "operate.h"
#include "pool.h"
#include "relay.h"
#include "server_login.h"
#include "settle.h"
#include "transaction.h"
#include "unseen.h"
#include "vars_sync.h"
#include "watch/dial.h"
#include "worker.h"

#define PARAMS_BYTES_MAX (16 * 1024)
#define MESSAGE_HELD_MAX HOLD_MAX

static void server_event(void *owner, unsigned events);

/* ------------------------------------------------------------------ small */

bool server_is_primary(const struct server *s)
{
	return s->pool->node == worker_primary(s->worker);
}

bool server_trusted(const struct server *s)
{
	const struct watch_facts *facts = watch_facts(s->worker->watch, s->pool->node);
	if (facts->known)
		return facts->postmaster_start_us == s->incarnation;
	return server_is_primary(s);
}

bool server_amid_message(const struct server *s)
{
	return s->client && s->skip > 0 && s->skip_forward;
}

bool server_owes(struct server *s)
{
	struct replies *r = &s->replies;
	if (r->count == 0 || r->copy == COPY_IN || r->copy == COPY_BOTH)
		return false;
	for (uint32_t i = r->count; i > 0; i--) {
		if (replies_at(r, i - 1)->kind >= REPLY_SYNC)
			return true;
	}
	return s->flushed;
}

bool server_next_param(struct slice *params, struct slice *name, struct slice *value)
{
	const uint8_t *end = params->len ? memchr(params->ptr, 0, params->len) : NULL;
	if (!end)
		return false;
	*name = slice_of(params->ptr, (size_t)(end - params->ptr));
	*params = slice_from(*params, name->len + 1);
	end = params->len ? memchr(params->ptr, 0, params->len) : NULL;
	if (!end)
		return false;
	*value = slice_of(params->ptr, (size_t)(end - params->ptr));
	*params = slice_from(*params, value->len + 1);
	return true;
}

/* The server has changed its role under a connection that lives on: look again at once. */
static void note_role(struct server *s, struct slice name, struct slice value)
{
	const struct node *n = &s->worker->fleet.nodes[s->pool->node];
	if (!slice_eq_str(name, "in_hot_standby") || !n->up)
		return;
	if (slice_eq_str(value, "on") != (n->role == NODE_ROLE_REPLICA))
		watch_kick(s->worker->watch, s->pool->node);
}

void server_set_param(struct server *s, struct slice name, struct slice value)
{
	note_role(s, name, value);
	struct buf fresh;
	buf_init(&fresh, PARAMS_BYTES_MAX);
	struct slice left = buf_slice(&s->params), n, v;
	bool placed = false;
	while (server_next_param(&left, &n, &v)) {
		bool this_one = slice_eq(n, name);
		struct slice put = this_one ? value : v;
		placed |= this_one;
		buf_append(&fresh, n.ptr, n.len);
		buf_append(&fresh, "", 1);
		buf_append(&fresh, put.ptr, put.len);
		buf_append(&fresh, "", 1);
	}
	if (!placed) {
		buf_append(&fresh, name.ptr, name.len);
		buf_append(&fresh, "", 1);
		buf_append(&fresh, value.ptr, value.len);
		buf_append(&fresh, "", 1);
	}
	if (fresh.overflow) {
		buf_release(&fresh);
		return;
	}
	buf_release(&s->params);
	s->params = fresh;
}

bool server_send(struct server *s, const struct buf *out)
{
	struct slice bytes = buf_slice(out);
	return !out->overflow && buf_append(&s->out, bytes.ptr, bytes.len) &&
	       out_flush(s->stream, &s->out);
}

bool server_ask(struct server *s, enum server_state state, struct slice sql)
{
	struct buf out;
	buf_init(&out, VARS_BYTES * 4);
	bool ok = write_query(&out, sql) &&
	          replies_push(&s->replies, (struct reply){.kind = REPLY_QUERY, .to = REPLY_NOBODY}) &&
	          server_send(s, &out);
	buf_release(&out);
	s->state = state;
	s->own_failed = false;
	return ok;
}

/* ---------------------------------------------------------------- connect */

void server_connect(struct pool *p)
{
	struct worker *w = p->account->database->worker;
	const struct watch_node *n = pool_node(p);
	struct server *s = calloc(1, sizeof(*s));
	if (!s)
		return;
	s->worker = w;
	s->pool = p;
	s->state = SERVER_CONNECTING;
	s->connected_at_us = net_now_us();
	s->serial = ++w->next_serial;
	buf_init(&s->in, 2 * READ_CHUNK + MESSAGE_HELD_MAX);
	buf_init(&s->out, OUT_MAX + w->settings->max_packet_size);
	buf_init(&s->replay, HOLD_MAX);
	buf_init(&s->params, PARAMS_BYTES_MAX);
	server_stmts_init(&s->stmts);
	list_push_front(&p->busy, &s->link);
	p->busy_count++;
	w->stats.server_connects++;
	s->stream = dial(w->loop, n, w->settings->server_connect_timeout_us, server_event, s);
	if (!s->stream) {
		pool_wait_before_retry(p);
		server_close(s, "out of descriptors or memory");
		pool_failed(p, "53000", "the router is out of descriptors or memory", "");
	}
}

/* The watcher has lost the node since, for a while now, and may have got it back: a server that was only
 * restarted would have ended this connection, a link that is cut ends nothing. */
static bool hangs(const struct server *s, int64_t since_us, int64_t now_us)
{
	const struct node *n = &s->worker->fleet.nodes[s->pool->node];
	return (!n->up || n->lost_at_us > since_us) &&
	       now_us - n->lost_at_us > s->worker->settings->watch.answer_timeout_us;
}

/* It answers a question of the router's own, or finishes what its client has left behind. */
static void tend_alone(struct server *s, int64_t now_us)
{
	if (s->alone_since_us == 0)
		s->alone_since_us = now_us;
	if (now_us - s->alone_since_us > s->worker->settings->server_connect_timeout_us ||
	    hangs(s, s->alone_since_us, now_us))
		server_close(s, s->state == SERVER_DRAIN ? "it does not come free" : "it does not answer");
}

/* dial() bounds the connecting alone: a host that loses power after that says nothing. */
void server_tend(struct server *s, int64_t now_us)
{
	bool alone = !s->client && s->task != TASK_LOOKUP &&
	             (s->state == SERVER_DRAIN || s->state == SERVER_TASK || s->state == SERVER_UNSEEN);
	if (!alone)
		s->alone_since_us = 0;
	if (s->state <= SERVER_VERIFY &&
	    now_us - s->connected_at_us > s->worker->settings->server_connect_timeout_us)
		server_login_failed(s, "08006", "the login was not over within server_connect_timeout");
	else if (alone)
		tend_alone(s, now_us);
	else if (s->reading && hangs(s, s->client ? s->client->turn_started_us : now_us, now_us)) {
		if (s->worker->fleet.nodes[s->pool->node].up)
			cancel_send(s); /* it may only be slow, and the read runs elsewhere now */
		server_close(s, "its node does not answer");
	} else if (s->task == TASK_LOOKUP &&
	         now_us - s->lookup_asked_us > s->worker->settings->server_connect_timeout_us) {
		cancel_send(s); /* or the server would go on with it for nobody */
		server_close(s, "auth_query was not answered within server_connect_timeout");
	} else if (s->state == SERVER_UNSEEN) {
		unseen_tend(s, now_us);
	}
}

/* ------------------------------------------------------------------- tasks */

void server_reset(struct server *s)
{
	s->task = TASK_RESET;
	s->client = NULL;
	if (!server_ask(s, SERVER_TASK, slice_str("DISCARD ALL")))
		server_close(s, "connection lost");
}

static void reset_done(struct server *s)
{
	if (s->own_failed) {
		s->close_after = true;
		return;
	}
	struct stmt_cache *cache = s->pool->account->database->cache;
	server_stmts_clear(&s->stmts, cache);
	if (s->unnamed)
		stmt_put(cache, s->unnamed);
	s->unnamed = NULL;
	s->capture_prepared = s->guard_prepared = false;
	s->unseen_prepared = 0;
	s->sequence_user = s->sets_user = 0;
	s->unseen = UNSEEN_NOTHING;
	vars_put(&s->worker->vars, s->vars);
	s->vars = vars_ref(s->worker->vars.none);
}

/* -------------------------------------------------- the router's own answers */

static void own_error(struct server *s, const struct frame *f)
{
	struct error_fields e = {0};
	s->own_failed = true;
	if (!msg_error_parse(frame_body(f), &e))
		return;
	snprintf(s->own_error, sizeof(s->own_error), "%.*s", SLICE_ARG(e.message));
	snprintf(s->own_sqlstate, sizeof(s->own_sqlstate), "%.*s", SLICE_ARG(e.sqlstate));
}

static void own_done(struct server *s)
{
	switch (s->state) {
	case SERVER_VERIFY:
		if (!server_login_done(s))
			return;
		break;
	case SERVER_SYNC:
		vars_sync_done(s);
		return;
	case SERVER_TASK:
		if (s->task == TASK_CATALOG)
			catalog_load_done(s);
		else if (s->task == TASK_LOOKUP)
			lookup_done(s);
		else
			reset_done(s);
		s->task = TASK_NONE;
		break;
	case SERVER_UNSEEN:
		unseen_answered(s);
		return;
	default:
		break;
	}
	server_release(s);
}

/* False: out of step. */
static bool own_message(struct server *s, const struct frame *f)
{
	struct slice name, value;
	switch (f->type) {
	case BE_NOTICE:
		return true;
	case BE_NOTIFICATION:
		/* What functions have left may be a LISTEN. */
		if (s->state == SERVER_UNSEEN && s->client)
			client_say(s->client, f->body - FRAME_HEADER, frame_size(f));
		return true;
	case BE_PARAMETER_STATUS:
		if (msg_parameter_status_parse(frame_body(f), &name, &value))
			server_set_param(s, name, value);
		return true;
	case BE_ERROR:
		own_error(s, f);
		if (s->replies.count == 0)
			return false;
		break;
	case BE_DATA_ROW:
		if (s->state == SERVER_VERIFY)
			server_login_row(s, frame_body(f));
		else if (s->state == SERVER_UNSEEN)
			unseen_row(s, frame_body(f));
		else if (s->task == TASK_CATALOG)
			catalog_load_row(s, frame_body(f));
		else if (s->task == TASK_LOOKUP)
			lookup_row(s, frame_body(f));
		break;
	default:
		break;
	}
	struct reply_step step = replies_step(&s->replies, f);
	if (step.verdict == REPLY_STEP_INVALID)
		return false;
	for (uint32_t i = 0; i < step.voided; i++) {
		struct reply e = replies_pop(&s->replies);
		if (e.tag == TAG_UNSEEN_PARSE)
			s->unseen_prepared &= (uint8_t)~e.bits;
	}
	if (step.completed && f->type == BE_READY)
		own_done(s);
	return true;
}

/* Nobody uses it: only asynchronous messages may come. */
static bool idle_message(struct server *s, const struct frame *f)
{
	struct slice name, value;
	if (f->type == BE_PARAMETER_STATUS && msg_parameter_status_parse(frame_body(f), &name, &value))
		server_set_param(s, name, value);
	if (f->type == BE_ERROR) {
		own_error(s, f);
		server_close(s, s->own_error);
		return true;
	}
	return f->type == BE_PARAMETER_STATUS || f->type == BE_NOTICE || f->type == BE_NOTIFICATION;
}

/* Whole messages of bounded size, in every state but ACTIVE and DRAIN. */
static size_t held_messages(struct server *s, struct slice in, bool *broken)
{
	size_t used = 0;
	while (used < in.len && !*broken) {
		if (s->state == SERVER_ACTIVE || s->state == SERVER_DRAIN || s->state == SERVER_DEAD)
			break;
		struct slice rest = slice_from(in, used);
		struct frame f;
		enum parse_result r = frame_peek(rest, &f);
		if (r == PARSE_PARTIAL)
			break;
		if (r == PARSE_INVALID || frame_size(&f) > MESSAGE_HELD_MAX) {
			*broken = true;
			break;
		}
		if (!frame_complete(&f, rest))
			break;
		used += frame_size(&f);
		if (s->state == SERVER_LOGIN) {
			if (!server_login_message(s, &f))
				break;
		} else if (s->state == SERVER_IDLE) {
			*broken = !idle_message(s, &f);
		} else {
			*broken = !own_message(s, &f);
		}
	}
	return used;
}

/* ----------------------------------------------------------------- reading */

static size_t handle_bytes(struct server *s, struct slice in, bool *broken)
{
	if (s->state != SERVER_ACTIVE && s->state != SERVER_DRAIN)
		return held_messages(s, in, broken);

	struct client *c = s->client;
	if (!c)
		return relay_from_server(s, in, NULL, broken);
	struct chain ch;
	chain_init(&ch, c->stream, &c->out);
	c->account->database->stats.sent += in.len;
	size_t used = relay_from_server(s, in, &ch, broken);
	if (c->state == CLIENT_DEAD)
		return used;
	if (!*broken || ch.count > 0)
		chain_flush(&ch);
	if (ch.failed) {
		client_close(c);
	} else if (!ch.held && s->client == c && s->state == SERVER_ACTIVE && s->stream) {
		/* The client does not keep up: the server has to wait. A later part of the same bytes may
		 * have taken the rest along. */
		unsigned wanted = net_stream_wanted(s->stream) & ~(unsigned)NET_READABLE;
		net_stream_want(s->stream, c->out.len > 0 ? wanted : wanted | NET_READABLE);
	}
	/* An answer may have been what the rest of the client's bytes waited for. */
	client_kick(c);
	return used;
}

static void on_readable(struct server *s)
{
	struct worker *w = s->worker;
	bool held = s->in.len > 0;
	uint8_t *at = held ? buf_reserve(&s->in, READ_CHUNK) : w->chunk;
	if (!at) {
		server_close(s, "sent a message that is too long to be held");
		return;
	}
	ssize_t n = net_stream_read(s->stream, at, READ_CHUNK);
	if (n == NET_AGAIN)
		return;
	if (n <= 0) {
		if (s->state <= SERVER_VERIFY)
			server_login_failed(s, "08006",
			               n == NET_EOF ? "the server closed the connection"
			                            : net_stream_error(s->stream));
		else
			server_close(s, s->state == SERVER_IDLE ? NULL : "the server closed the connection");
		return;
	}
	if (held)
		buf_commit(&s->in, (size_t)n);
	struct slice in = held ? buf_slice(&s->in) : slice_of(at, (size_t)n);

	bool broken = false;
	size_t used = 0;
	/* A state change (login done, sync done) hands the rest to another reader. */
	for (size_t step = 1; step > 0 && used < in.len && !broken && s->state != SERVER_DEAD;
	     used += step)
		step = handle_bytes(s, slice_from(in, used), &broken);

	if (s->state == SERVER_DEAD)
		return;
	if (broken) {
		server_close(s, "broke the protocol, or the router lost count of its answers");
		return;
	}
	if (held) {
		buf_consume(&s->in, used);
		if (s->in.len == 0)
			buf_release(&s->in);
	} else if (!buf_append(&s->in, in.ptr + used, in.len - used)) {
		server_close(s, "sent a message that is too long to be held");
	}
}

void server_redrive(struct server *s)
{
	bool broken = false;
	size_t used = handle_bytes(s, buf_slice(&s->in), &broken);
	if (s->state == SERVER_DEAD)
		return;
	buf_consume(&s->in, used);
	if (broken)
		server_close(s, "broke the protocol");
}

static void server_event(void *owner, unsigned events)
{
	struct server *s = owner;
	if (events & NET_FAILED) {
		server_login_failed(s, "08006", net_stream_error(s->stream));
		return;
	}
	if (events & NET_CONNECTED) {
		server_login_begin(s);
		return;
	}
	if (events & NET_WRITABLE) {
		if (!out_flush(s->stream, &s->out)) {
			server_close(s, "the server closed the connection");
			return;
		}
		if (s->client && s->out.len == 0)
			client_kick(s->client);
	}
	if (s->state != SERVER_DEAD && events & NET_READABLE)
		on_readable(s);
}

/* ------------------------------------------------------- coming and going */

static void count_out(struct server *s)
{
	if (s->counted)
		s->worker->fleet.nodes[s->pool->node].outstanding--;
	s->counted = false;
}

void server_attach(struct server *s, struct client *c)
{
	s->client = c;
	c->server = s;
	s->state = SERVER_ACTIVE;
	s->counted = true;
	s->worker->fleet.nodes[s->pool->node].outstanding++;
}

static void forget_turn(struct server *s)
{
	count_out(s);
	s->client = NULL;
	s->in_tx_after = false;
	s->mid_batch = false;
	s->reading = false;
	s->many = false;
	s->pinned = false;
	s->rolled_back = false;
	s->guard = s->guard_after = (struct position){0};
	buf_reset(&s->replay);
}

void server_release(struct server *s)
{
	struct pool *p = s->pool;
	forget_turn(s);
	s->released_at_us = net_loop_now_us(s->worker->loop);
	if (s->cancels > 0) {
		/* A cancel request may still hit whatever runs here next. cancel.c releases it again. */
		s->state = SERVER_DRAIN;
		return;
	}
	if (s->close_after || !s->vars || !server_trusted(s) || pool_unwanted(p) ||
	    p->idle_count + p->busy_count > pool_size(p) || s->worker->state >= WORKER_DRAINING ||
	    database_paused(p->account->database)) {
		server_close(s, NULL);
		return;
	}
	if (!(net_stream_wanted(s->stream) & NET_READABLE))
		net_stream_want(s->stream, net_stream_wanted(s->stream) | NET_READABLE);
	s->state = SERVER_IDLE;
	list_remove(&s->link);
	list_push_front(&p->idle, &s->link);
	p->busy_count--;
	p->idle_count++;
	if (p->account->database->catalog_state == CATALOG_WANTED)
		catalog_load_if_wanted(s);
	if (!list_empty(&p->waiting))
		pool_kick(p);
}

bool server_roll_back(struct server *s)
{
	struct buf out;
	buf_init(&out, 64);
	bool ok = write_query(&out, slice_str("ROLLBACK")) &&
	          replies_push(&s->replies, (struct reply){.kind = REPLY_QUERY, .to = REPLY_NOBODY}) &&
	          server_send(s, &out);
	buf_release(&out);
	return ok;
}

void server_abandon(struct server *s)
{
	relay_void_all(s, s->client);
	server_close(s, NULL);
}

void server_close(struct server *s, const char *why)
{
	if (s->state == SERVER_DEAD)
		return;
	struct worker *w = s->worker;
	struct pool *p = s->pool;
	struct client *c = s->client;
	if (why)
		log_info("node=%s database=%s user=%s pid=%u server connection closed: %s",
		         pool_node(p)->name, p->account->database->name, p->account->user, s->pid, why);

	bool rerun = c && s->state == SERVER_ACTIVE && (relay_rerun(s, RERUN_LOST) || transaction_lost(c));
	if (!rerun && (s->replies.count > 0))
		relay_void_all(s, c);
	p->account->odd_isolation_count -= s->isolation == ISOLATION_OTHER;
	bool was_idle = s->state == SERVER_IDLE;
	if (p->account->database->catalog_loader == s) {
		p->account->database->catalog_loader = NULL;
		p->account->database->catalog_state = CATALOG_WANTED;
	}
	lookup_lost(s, why);
	/* Nothing can be said to a client amid a message. */
	bool silent = s->fatal_seen || server_amid_message(s);
	bool in_transaction = s->replies.tx == TX_OPEN || s->replies.tx == TX_FAILED;
	s->state = SERVER_DEAD;
	forget_turn(s);
	net_stream_close(s->stream);
	s->stream = NULL;
	list_remove(&s->link);
	if (was_idle)
		p->idle_count--;
	else
		p->busy_count--;
	list_push_back(&w->dead_servers, &s->link);

	if (c && !rerun) {
		c->server = NULL;
		settle_server_lost(c, silent, in_transaction);
	}
	if (!list_empty(&p->waiting))
		pool_kick(p);
}

void server_free(struct server *s)
{
	struct worker *w = s->worker;
	struct stmt_cache *cache = s->pool->account->database->cache;
	list_remove(&s->link);
	if (s->login) {
		login_release(s->login);
		free(s->login);
	}
	server_stmts_clear(&s->stmts, cache);
	free(s->suspect);
	if (s->unnamed)
		stmt_put(cache, s->unnamed);
	vars_put(&w->vars, s->vars);
	vars_put(&w->vars, s->vars_after);
	replies_release(&s->replies);
	buf_release(&s->in);
	buf_release(&s->out);
	buf_release(&s->params);
	buf_release(&s->replay);
	free(s);
}
