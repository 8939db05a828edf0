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
#include "settle.h"
#include "transaction.h"
#include "unseen.h"
#include "watch/dial.h"
#include "worker.h"

#define LOGIN_OUT_MAX (16 * 1024)
#define PARAMS_BYTES_MAX (16 * 1024)
#define MESSAGE_HELD_MAX HOLD_MAX

static const char verify_query[] =
	"SELECT (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint, "
	"pg_catalog.pg_is_in_recovery(), "
	"pg_catalog.current_setting('default_transaction_isolation') = 'read committed', " UNSEEN_WHO;

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

static const struct watch_node *node_of(const struct pool *p)
{
	return &p->account->database->worker->settings->nodes[p->node];
}

/* ---------------------------------------------------------------- connect */

void server_connect(struct pool *p)
{
	struct worker *w = p->account->database->worker;
	const struct watch_node *n = node_of(p);
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

/* The connection cannot be made: the pool decides who has to be told. What the server itself said is handed
 * on in its own words, as to one that connects directly. */
static void give_up(struct server *s, const char *sqlstate, const char *error, bool told)
{
	struct pool *p = s->pool;
	const struct watch_node *n = node_of(p);
	char where[224], text[sizeof(p->error)], hint[sizeof(p->hint)] = "";
	snprintf(where, sizeof(where), "%.63s (server %.100s:%d)", n->name, n->host, n->port);
	if (told) {
		snprintf(text, sizeof(text), "%s", error);
		snprintf(hint, sizeof(hint), "%s said so to the router.", where);
	} else {
		snprintf(text, sizeof(text), "%s: %.150s", where, error);
	}
	s->worker->stats.server_connect_failures++;
	log_warn("node=%s database=%s user=%s cannot connect: %s", n->name,
	         p->account->database->dbname, p->account->user, error);
	pool_wait_before_retry(p);
	server_close(s, NULL);
	pool_failed(p, sqlstate, text, hint);
}

static void connect_failed(struct server *s, const char *sqlstate, const char *error)
{
	give_up(s, sqlstate, error, false);
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
		connect_failed(s, "08006", "the login was not over within server_connect_timeout");
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

static bool start_login(struct login *l, const struct account *a, struct buf *out)
{
	struct slice user = slice_str(a->user), database = slice_str(a->database->dbname);
	if (a->lookups)
		return login_start_fixed_path(l, user, database, slice_str("tidemark"), a->secret_kind,
		                              account_proof(a), out);
	return login_start(l, user, database, (struct slice){0}, a->secret_kind, account_proof(a), out);
}

static void login_begin(struct server *s)
{
	struct account *a = s->pool->account;
	s->state = SERVER_LOGIN;
	s->login = calloc(1, sizeof(*s->login));
	struct buf out;
	buf_init(&out, LOGIN_OUT_MAX);
	bool ok = s->login && start_login(s->login, a, &out) && server_send(s, &out);
	buf_release(&out);
	if (ok)
		dial_bind(node_of(s->pool), s->stream, s->login);
	if (!ok)
		connect_failed(s, "08006", "the startup packet could not be sent");
}

static bool login_message(struct server *s, const struct frame *f)
{
	uint8_t nonce[SCRAM_NONCE_RAW];
	net_random(nonce, sizeof(nonce));
	struct buf out;
	buf_init(&out, LOGIN_OUT_MAX);
	enum login_step step = login_feed(s->login, f, nonce, &out);
	bool sent = out.len == 0 || server_send(s, &out);
	buf_release(&out);

	if (step == LOGIN_FAILED || !sent) {
		char error[256], sqlstate[6];
		bool told = sent && s->login->told;
		snprintf(error, sizeof(error), "%s", sent ? s->login->error : "connection lost");
		snprintf(sqlstate, sizeof(sqlstate), "%s", sent ? s->login->sqlstate : "08006");
		give_up(s, sqlstate[0] ? sqlstate : "08006", error, told);
		return false;
	}
	if (step == LOGIN_MORE)
		return true;

	s->pid = s->login->pid;
	s->key_len = s->login->key_len;
	memcpy(s->key, s->login->key, s->key_len);
	struct slice params = buf_slice(&s->login->params);
	buf_append(&s->params, params.ptr, params.len);
	login_release(s->login);
	free(s->login);
	s->login = NULL;
	s->replies.tx = TX_IDLE;
	s->vars = vars_ref(s->worker->vars.none);
	if (!server_ask(s, SERVER_VERIFY, slice_str(verify_query))) {
		connect_failed(s, "08006", "connection lost");
		return false;
	}
	return true;
}

static void note_isolation(struct server *s, enum default_isolation isolation)
{
	s->isolation = s->pool->isolation = isolation;
	s->pool->account->odd_isolation_count += isolation == ISOLATION_OTHER;
}

/* The pooled connection and the watcher's must talk to the same server process in the same role: a
 * position learnt by the one is a promise about the other. */
static void verify_row(struct server *s, struct slice body)
{
	struct slice start, recovery, isolation;
	if (!msg_data_row_column(body, 0, &start) || !msg_data_row_column(body, 1, &recovery) ||
	    !start.ptr || !recovery.ptr || recovery.len != 1) {
		s->own_failed = true;
		return;
	}
	int64_t us = 0;
	for (size_t i = 0; i < start.len && start.ptr[i] >= '0' && start.ptr[i] <= '9' && i < 18; i++)
		us = us * 10 + (start.ptr[i] - '0');
	s->incarnation = us;
	bool read_committed = msg_data_row_column(body, 2, &isolation) && slice_eq_str(isolation, "t");
	note_isolation(s, read_committed ? ISOLATION_READ_COMMITTED : ISOLATION_OTHER);
	s->own_failed |= !unseen_take_who(s, body, 3);

	int node = s->pool->node;
	const struct watch_facts *facts = watch_facts(s->worker->watch, node);
	bool replica = recovery.ptr[0] == 't';
	bool known_replica = s->worker->fleet.nodes[node].role == NODE_ROLE_REPLICA;
	if (facts->known && (facts->postmaster_start_us != us || replica != known_replica)) {
		s->own_failed = true;
		snprintf(s->own_error, sizeof(s->own_error),
		         "another server, or another role, than the watcher knows");
		watch_distrust(s->worker->watch, node, "a pooled connection met another server or role");
	} else if (!facts->known) {
		s->own_failed = true;
		snprintf(s->own_error, sizeof(s->own_error), "the node's role is not known yet");
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

/* ------------------------------------------------------------------- sync */

static bool strangers(uint64_t user, const struct client *c)
{
	return user != 0 && user != c->serial;
}

bool server_suits(const struct server *s, const struct client *c, bool sequences)
{
	return s->vars == c->vars && !strangers(s->sets_user, c) &&
	       !(sequences && strangers(s->sequence_user, c));
}

bool server_sync(struct server *s, struct client *c, bool sequences)
{
	struct buf sql;
	buf_init(&sql, VARS_BYTES * 3);
	const struct vars *from = s->vars;
	bool ok = s->vars != NULL;
	if (strangers(s->sets_user, c)) {
		ok = ok && buf_append_str(&sql, "RESET ALL;");
		from = s->worker->vars.none;
		s->sets_user = 0;
	}
	if (sequences && strangers(s->sequence_user, c)) {
		ok = ok && buf_append_str(&sql, "DISCARD SEQUENCES;");
		s->sequence_user = 0;
	}
	ok = ok && vars_diff(from, c->vars, &sql);
	if (ok) {
		s->vars_after = vars_ref(c->vars);
		s->worker->stats.syncs++;
		ok = server_ask(s, SERVER_SYNC, buf_slice(&sql));
	}
	buf_release(&sql);
	return ok;
}

bool server_discard_sequences(struct server *s)
{
	s->sequence_user = 0;
	s->vars_after = vars_ref(s->vars);
	return server_ask(s, SERVER_SYNC, slice_str("DISCARD SEQUENCES"));
}

/* RESET goes back to the startup packet's value, which this connection does not know. */
static bool append_restored(struct buf *sql, const struct client *c, struct pending_set *p)
{
	const struct vars *none = c->worker->vars.none;
	const char *at_start;
	if (p->restored || (p->kind != SET_RESET && p->kind != SET_RESET_ALL))
		return true;
	p->restored = true;
	if (p->kind == SET_RESET_ALL)
		return vars_diff(none, c->startup_vars, sql);
	at_start = vars_find(c->startup_vars, p->name);
	return !at_start || (buf_append_str(sql, at_start) && buf_append_str(sql, ";"));
}

enum server_restore server_restore(struct server *s, struct client *c)
{
	if (!s->vars || s->replies.tx == TX_FAILED)
		return RESTORE_NOTHING;
	if (s->replies.tx == TX_IDLE && s->vars != c->vars)
		return server_sync(s, c, false) ? RESTORE_ASKED : RESTORE_FAILED;
	struct buf sql;
	buf_init(&sql, VARS_BYTES * 3);
	bool ok = true;
	for (struct pending_set *p = c->pending_sets; p; p = p->next)
		ok = append_restored(&sql, c, p) && ok;
	enum server_restore result = ok ? RESTORE_NOTHING : RESTORE_FAILED;
	if (ok && sql.len > 0) {
		s->vars_after = vars_ref(s->vars);
		c->tell_params = true;
		result = server_ask(s, SERVER_SYNC, buf_slice(&sql)) ? RESTORE_ASKED : RESTORE_FAILED;
	}
	buf_release(&sql);
	return result;
}

static void sync_done(struct server *s)
{
	struct client *c = s->client;
	struct vars *after = s->vars_after;
	s->vars_after = NULL;
	s->state = SERVER_ACTIVE;
	if (s->own_failed) {
		char error[sizeof(s->own_error)], sqlstate[6];
		snprintf(error, sizeof(error), "%s", s->own_error);
		snprintf(sqlstate, sizeof(sqlstate), "%s", s->own_sqlstate);
		vars_put(&s->worker->vars, after);
		/* What was to be taken away first is still there. */
		s->sequence_user = s->sets_user = UINT64_MAX;
		c->server = NULL;
		s->client = NULL;
		server_release(s);
		client_fatal(c, sqlstate, error, "The settings of this connection cannot be applied.");
		return;
	}
	vars_put(&s->worker->vars, s->vars);
	s->vars = after;
	worker_make_runnable(s->worker, c);
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
		if (s->own_failed) {
			connect_failed(s, "08006", s->own_error[0] ? s->own_error : "verification failed");
			return;
		}
		pool_connected(s->pool);
		break;
	case SERVER_SYNC:
		sync_done(s);
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
			verify_row(s, frame_body(f));
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
			if (!login_message(s, &f))
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
			connect_failed(s, "08006",
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
		connect_failed(s, "08006", net_stream_error(s->stream));
		return;
	}
	if (events & NET_CONNECTED) {
		login_begin(s);
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
		         node_of(p)->name, p->account->database->name, p->account->user, s->pid, why);

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
