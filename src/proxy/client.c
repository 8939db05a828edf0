/* SPDX-License-Identifier: PostgreSQL */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>

#include "auth.h"
#include "base/log.h"
#include "cancel.h"
#include "local.h"
#include "pool.h"
#include "server.h"
#include "turn.h"
#include "worker.h"

#define CONSOLE_DATABASE "tidemark"
#define CONSOLE_OUT_MAX (8 * 1024 * 1024)
#define STARTUP_PARAMS_MAX 64

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
	if (!buf_append(&c->out, ptr, len) || !out_flush(c->stream, &c->out))
		client_close(c);
	else if (c->out.len == 0)
		unpause_server(c);
}

void client_fatal(struct client *c, const char *sqlstate, const char *message, const char *hint)
{
	struct buf b;
	buf_init(&b, 4096);
	write_error(&b, "FATAL", sqlstate, message, hint);
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

void client_reset_options(struct client *c)
{
	const struct client_options *start = c->startup_options;
	if (!c->options)
		return;
	*c->options = start ? *start : (struct client_options){0};
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

/* The mark of a connection that names no session. */
static bool scope_mark(struct client *c)
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
	if (!scope_mark(c))
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
	if (fresh && c->server && !turn_join_session(c, fresh)) {
		sessions_put(&w->sessions, fresh, now);
		return false;
	}
	if (c->server && c->session && !c->turn_session)
		c->turn_session = c->session;
	else if (c->session)
		sessions_put(&w->sessions, c->session, now);
	c->session = fresh;
	if (!fresh) {
		c->scope_joins = c->server != NULL;
		return scope_mark(c);
	}
	c->mark = &fresh->mark;
	if (!c->turn_session && !c->server)
		c->turn_mark = c->mark;
	return true;
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
	c->seen_at_us = net_loop_now_us(w->loop);
	list_init(&c->queue);
	buf_init(&c->in, w->settings->max_packet_size + 2 * READ_CHUNK);
	buf_init(&c->out, OUT_MAX);
	list_push_back(&w->clients, &c->link);
	w->client_count++;
	net_stream_set_owner(stream, client_event, c);
}

static void login_free(struct client *c)
{
	if (!c->login)
		return;
	vars_put(&c->worker->vars, c->login->vars);
	buf_release(&c->login->own);
	if (c->login->server)
		explicit_bzero(c->login->server, sizeof(*c->login->server));
	free(c->login->server);
	explicit_bzero(c->login, sizeof(*c->login));
	free(c->login);
	c->login = NULL;
}

/* What becomes of the server when its client goes. */
static void leave_server(struct client *c)
{
	struct server *s = c->server;
	if (!s)
		return;
	bool rest = s->state == SERVER_ACTIVE && replies_at_rest(&s->replies) && !s->mid_batch && s->out.len == 0 &&
	            s->in.len == 0 && s->skip == 0 && (c->skip == 0 || c->skip_drop);
	if (!rest && (c->sent_wrote || c->tx_wrote || c->batch_bits & TURN_WROTE))
		turn_unknown(c);
	c->server = NULL;
	s->client = NULL;
	if (!rest) {
		/* Nobody wants the rest of the answer: make the server stop working on it. */
		if (s->replies.count > 0 && s->state == SERVER_ACTIVE)
			cancel_send(s);
		server_abandon(s);
	} else if (c->bound) {
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
		         c->account->user);
	c->state = CLIENT_DEAD;
	list_remove(&c->queue);
	leave_server(c);
	turn_release(c);
	pool_decline(c);
	cancel_unregister(w, c);
	if (c->account)
		c->account->client_count--;
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
	login_free(c);
	vars_put(&w->vars, c->vars);
	vars_put(&w->vars, c->startup_vars);
	if (c->session)
		sessions_put(&w->sessions, c->session, net_loop_now_us(w->loop));
	free(c->own);
	free(c->options);
	free(c->startup_options);
	buf_release(&c->in);
	buf_release(&c->redo);
	buf_release(&c->out);
	free(c);
}

/* ------------------------------------------------------------------ startup */

/* 'it''s' and E'back\\slash': a constant for SET, safe under any standard_conforming_strings. */
static bool append_literal(struct buf *out, struct slice value)
{
	bool escape = memchr(value.ptr, '\\', value.len) != NULL;
	bool ok = buf_append_str(out, escape ? " E'" : "'");
	for (size_t i = 0; i < value.len; i++) {
		if (value.ptr[i] == '\'' || value.ptr[i] == '\\')
			ok = buf_append(out, &value.ptr[i], 1) && ok;
		ok = buf_append(out, &value.ptr[i], 1) && ok;
	}
	return buf_append_str(out, "'") && ok;
}

static bool plain_name(struct slice name)
{
	if (name.len == 0 || name.len >= 64)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		uint8_t ch = name.ptr[i] | 0x20;
		bool ok = (ch >= 'a' && ch <= 'z') || (name.ptr[i] >= '0' && name.ptr[i] <= '9') ||
		          name.ptr[i] == '_' || name.ptr[i] == '.';
		if (!ok)
			return false;
	}
	return true;
}

/* A setting of the startup packet: the router's own, or one to be replayed on servers. */
static bool startup_setting(struct client *c, struct slice name, struct slice value)
{
	if (!plain_name(name)) {
		client_fatal(c, "22023", "invalid name of a parameter in the startup packet", NULL);
		return false;
	}
	char key[64];
	for (size_t i = 0; i < name.len; i++)
		key[i] = (char)(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] | 0x20 : name.ptr[i]);
	key[name.len] = '\0';

	if (strncmp(key, "tidemark.", 9) == 0) {
		struct buf *own = &c->login->own;
		if (buf_append(own, key, name.len + 1) && buf_append(own, value.ptr, value.len) &&
		    buf_append(own, "", 1))
			return true;
		client_fatal(c, "54000", "too many or too long parameters in the startup packet", NULL);
		return false;
	}
	struct buf sql;
	buf_init(&sql, VARS_BYTES);
	bool ok = buf_append_str(&sql, "SET ") && buf_append_str(&sql, key) &&
	          buf_append_str(&sql, " = ") && append_literal(&sql, value);
	struct vars *next =
		ok ? vars_with(&c->worker->vars, c->login->vars, key, buf_slice(&sql)) : NULL;
	buf_release(&sql);
	if (!next) {
		client_fatal(c, "54000", "too many or too long parameters in the startup packet", NULL);
		return false;
	}
	vars_put(&c->worker->vars, c->login->vars);
	c->login->vars = next;
	return true;
}

/* The next word of the "options" parameter; a backslash takes the next byte as it is. */
static bool next_word(struct slice *in, char *out, size_t cap)
{
	size_t i = 0, n = 0;
	while (i < in->len && (in->ptr[i] == ' ' || in->ptr[i] == '\t'))
		i++;
	if (i == in->len)
		return false;
	for (; i < in->len && in->ptr[i] != ' ' && in->ptr[i] != '\t'; i++) {
		if (in->ptr[i] == '\\' && i + 1 < in->len)
			i++;
		if (n + 1 < cap)
			out[n++] = (char)in->ptr[i];
	}
	out[n] = '\0';
	*in = slice_from(*in, i);
	return true;
}

/* "-c name=value", "-cname=value", "--name=value". */
static bool startup_options(struct client *c, struct slice options)
{
	char word[1024];
	while (next_word(&options, word, sizeof(word))) {
		char *setting = NULL;
		if (strcmp(word, "-c") == 0)
			setting = next_word(&options, word, sizeof(word)) ? word : NULL;
		else if (strncmp(word, "-c", 2) == 0 || strncmp(word, "--", 2) == 0)
			setting = word + 2;
		char *equals = setting ? strchr(setting, '=') : NULL;
		if (!equals) {
			client_fatal(c, "42601", "unsupported option in the startup packet",
			             "The router understands -c name=value and --name=value.");
			return false;
		}
		*equals = '\0';
		for (char *p = setting; *p; p++)
			*p = *p == '-' ? '_' : *p;
		if (!startup_setting(c, slice_str(setting), slice_str(equals + 1)))
			return false;
	}
	return true;
}

static void negotiate_down(struct client *c, const struct startup *st)
{
	struct slice unknown[16];
	int count = 0;
	struct slice params = st->params, name, value;
	while (startup_next_param(&params, &name, &value)) {
		if (name.len > 5 && memcmp(name.ptr, "_pq_.", 5) == 0 && count < 16)
			unknown[count++] = name;
	}
	if (st->minor == 0 && count == 0)
		return;
	struct buf b;
	buf_init(&b, 8192);
	write_negotiate(&b, unknown, count);
	client_say(c, b.data, b.len);
	buf_release(&b);
}

static struct slice find_param(struct slice params, const char *wanted)
{
	struct slice name, value;
	while (startup_next_param(&params, &name, &value)) {
		if (slice_eq_str(name, wanted))
			return value;
	}
	return (struct slice){0};
}

static bool all_settings(struct client *c, const struct startup *st)
{
	struct slice params = st->params, name, value;
	while (startup_next_param(&params, &name, &value)) {
		if (slice_eq_str(name, "user") || slice_eq_str(name, "database") ||
		    slice_eq_str(name, "replication") || (name.len > 5 && memcmp(name.ptr, "_pq_.", 5) == 0))
			continue;
		bool ok = slice_eq_str(name, "options") ? startup_options(c, value)
		                                        : startup_setting(c, name, value);
		if (!ok)
			return false;
	}
	return true;
}

static void after_auth(struct client *c);

static void run_auth(struct client *c, enum auth_step step, struct buf *out)
{
	char text[160];
	if (step != AUTH_BROKEN && step != AUTH_REFUSED)
		client_say(c, out->data, out->len);
	if (c->state == CLIENT_DEAD)
		return; /* it hung up, and saying something told us */
	switch (step) {
	case AUTH_MORE:
		c->state = CLIENT_AUTH;
		break;
	case AUTH_DONE:
		after_auth(c);
		break;
	case AUTH_REFUSED:
		c->worker->stats.login_failures++;
		log_warn("user=%s password authentication failed", c->login->user);
		snprintf(text, sizeof(text), "password authentication failed for user \"%s\"",
		         c->login->user);
		client_fatal(c, "28P01", text, NULL);
		break;
	case AUTH_BROKEN:
		c->worker->stats.client_errors++;
		client_fatal(c, "08P01", "invalid password or SASL message", NULL);
		break;
	}
}

static bool is_console(struct slice database)
{
	return slice_eq_str(database, CONSOLE_DATABASE);
}

static void start_session(struct client *c, const struct startup *st)
{
	struct worker *w = c->worker;
	struct slice user = find_param(st->params, "user");
	struct slice database = find_param(st->params, "database");
	struct slice replication = find_param(st->params, "replication");
	char text[200];
	if (database.len == 0)
		database = user;
	if (user.len == 0 || user.len >= NAME_MAX_BYTES) {
		client_fatal(c, "28000", "no PostgreSQL user name specified in startup packet", NULL);
		return;
	}
	if (replication.len > 0 && !slice_ieq_str(replication, "off") &&
	    !slice_ieq_str(replication, "false") && !slice_eq_str(replication, "0")) {
		client_fatal(c, "0A000", "replication connections are not supported by the router",
		             "Connect to the primary itself.");
		return;
	}
	if (w->state != WORKER_RUNNING) {
		client_fatal(c, "57P01", "the router is shutting down", NULL);
		return;
	}
	if (w->client_count > w->settings->max_client_conn) {
		client_fatal(c, "53300", "no more connections allowed (max_client_conn)",
		             "Raise max_client_conn in the router's configuration.");
		return;
	}
	c->login = calloc(1, sizeof(*c->login));
	if (!c->login) {
		client_fatal(c, "53200", "out of memory", NULL);
		return;
	}
	c->login->vars = vars_ref(w->vars.none);
	buf_init(&c->login->own, 2 * STARTUP_PACKET_MAX);
	snprintf(c->login->user, sizeof(c->login->user), "%.*s", SLICE_ARG(user));
	if (!is_console(database)) {
		struct database *db = database_get(w, database);
		c->account = db ? account_get(db, user) : NULL;
		if (!c->account) {
			snprintf(text, sizeof(text), "database \"%.63s\" is not served by the router",
			         db ? db->name : "");
			if (!db)
				snprintf(text, sizeof(text), "database \"%.*s\" is not served by the router",
				         (int)(database.len < 64 ? database.len : 64), (const char *)database.ptr);
			client_fatal(c, "3D000", text, "See section [databases] of the router's configuration.");
			return;
		}
		c->account->client_count++;
		if (!scope_mark(c)) {
			client_fatal(c, "53200", "out of memory", NULL);
			return;
		}
	}
	if (!cancel_register(w, c)) {
		client_fatal(c, "53200", "out of memory", NULL);
		return;
	}
	negotiate_down(c, st);
	if (c->state == CLIENT_DEAD || (c->account && !all_settings(c, st)))
		return;

	struct buf out;
	buf_init(&out, 4096);
	run_auth(c, auth_begin(c, &out), &out);
	buf_release(&out);
}

/* One startup-phase packet. Returns the bytes used up. */
static size_t startup_packet(struct client *c, struct slice in)
{
	struct slice body;
	struct startup st;
	enum parse_result r = startup_frame(in, &body);
	if (r == PARSE_PARTIAL)
		return 0;
	if (r == PARSE_INVALID || !startup_parse(body, &st)) {
		c->worker->stats.client_errors++;
		client_fatal(c, "08P01", "invalid startup packet", "The router speaks protocol 3.");
		return 0;
	}
	switch (st.code) {
	case PROTOCOL_SSL:
	case PROTOCOL_GSSENC:
		client_say(c, "N", 1);
		break;
	case PROTOCOL_CANCEL:
		cancel_request(c->worker, st.cancel_pid, st.cancel_key);
		client_close(c);
		break;
	default:
		start_session(c, &st);
		break;
	}
	return 4 + body.len;
}

/* ------------------------------------------------------------------ welcome */

static void say_welcome(struct client *c, struct slice params)
{
	struct buf b;
	buf_init(&b, 128 * 1024);
	write_auth(&b, AUTH_OK, (struct slice){0});
	buf_append(&b, params.ptr, params.len);
	write_key_data(&b, c->id, c->secret);
	write_ready(&b, TX_IDLE);
	client_say(c, b.data, b.len);
	buf_release(&b);
}

static bool is_admin(const struct settings *s, const char *user)
{
	struct slice left = slice_str(s->admin_users);
	size_t n = strlen(user);
	while (left.len > 0) {
		while (left.len > 0 && (left.ptr[0] == ' ' || left.ptr[0] == ','))
			left = slice_from(left, 1);
		size_t len = 0;
		while (len < left.len && left.ptr[len] != ',' && left.ptr[len] != ' ')
			len++;
		if (len == n && memcmp(left.ptr, user, n) == 0)
			return true;
		left = slice_from(left, len);
	}
	return false;
}

static void welcome_console(struct client *c)
{
	if (!is_admin(c->worker->settings, c->login->user)) {
		client_fatal(c, "28000", "only admin_users may use the admin console", NULL);
		return;
	}
	struct buf params;
	buf_init(&params, 1024);
	write_parameter_status(&params, slice_str("server_version"),
	                       slice_str(TIDEMARK_VERSION "/tidemark"));
	write_parameter_status(&params, slice_str("client_encoding"), slice_str("UTF8"));
	write_parameter_status(&params, slice_str("server_encoding"), slice_str("UTF8"));
	write_parameter_status(&params, slice_str("DateStyle"), slice_str("ISO, MDY"));
	write_parameter_status(&params, slice_str("standard_conforming_strings"), slice_str("on"));
	c->state = CLIENT_CONSOLE;
	say_welcome(c, buf_slice(&params));
	buf_release(&params);
	login_free(c);
}

static void welcome_with(struct client *c, const struct welcome *wl)
{
	c->state = CLIENT_READY;
	c->worker->stats.logins++;
	say_welcome(c, buf_slice(&wl->bytes));
	if (c->worker->settings->log_connections)
		log_info("client=%u database=%s user=%s connected", c->id, c->account->database->name,
		         c->account->user);
}

/* Nobody with these settings was here yet: a server has to tell what to say. */
static void welcome_from_server(struct client *c)
{
	struct worker *w = c->worker;
	struct server *s = c->server;
	if (!s) {
		int node = worker_primary(w);
		for (int i = 0; i < w->fleet.count && node == NODE_NONE; i++) {
			if (fleet_replica_eligible(&w->fleet, i, net_loop_now_us(w->loop)))
				node = i;
		}
		if (node == NODE_NONE)
			return; /* asked again when the fleet changes, until client_login_timeout */
		struct pool *p = &c->account->pools[node];
		switch (pool_acquire(p, c, &s)) {
		case POOL_TAKEN:
			server_attach(s, c);
			s->on_replica = false;
			break;
		case POOL_QUEUED:
			return;
		case POOL_FULL:
			client_fatal(c, "53300", "too many clients wait for a server connection already", NULL);
			return;
		case POOL_DOWN:
			client_fatal(c, p->sqlstate, p->error, NULL);
			return;
		}
	}
	if (!server_suits(s, c, false)) {
		if (!server_sync(s, c, false))
			server_close(s, "settings could not be sent");
		return;
	}
	const struct welcome *wl = welcome_learn(c->account, c->vars, s);
	c->server = NULL;
	server_release(s);
	if (wl)
		welcome_with(c, wl);
	else
		client_fatal(c, "53200", "out of memory", NULL);
}

/* Marks and sessions are nothing that a stranger may touch. */
static bool own_settings(struct client *c)
{
	struct slice left = buf_slice(&c->login->own), name, value;
	while (server_next_param(&left, &name, &value)) {
		char text[512];
		struct local_error e;
		snprintf(text, sizeof(text), "%s", (const char *)value.ptr);
		if (!local_set(c, (const char *)name.ptr, text, &e)) {
			client_fatal(c, e.sqlstate, e.message, NULL);
			return false;
		}
	}
	if (c->options && (c->startup_options = malloc(sizeof(*c->options))) != NULL)
		*c->startup_options = *c->options;
	return true;
}

static void after_auth(struct client *c)
{
	if (!c->account) {
		welcome_console(c);
		return;
	}
	if (!own_settings(c))
		return;
	c->vars = c->login->vars;
	c->login->vars = NULL;
	c->startup_vars = vars_ref(c->vars);
	login_free(c);
	c->state = CLIENT_WELCOME;
	const struct welcome *wl = welcome_find(c->account, c->vars);
	if (wl)
		welcome_with(c, wl);
	else
		welcome_from_server(c);
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
	c->worker->console(c->worker->console_arg, c->worker, sql, &out);
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
		struct frame f;
		switch (c->state) {
		case CLIENT_STARTUP:
			n = startup_packet(c, rest);
			break;
		case CLIENT_AUTH:
			if (frame_peek(rest, &f) == PARSE_INVALID ||
			    (rest.len >= FRAME_HEADER && (f.type != FE_PASSWORD || f.body_len > STARTUP_PACKET_MAX))) {
				client_fatal(c, "08P01", "expected a password message", NULL);
			} else if (rest.len >= FRAME_HEADER && frame_complete(&f, rest)) {
				struct buf out;
				buf_init(&out, 4096);
				n = frame_size(&f);
				run_auth(c, auth_answer(c, frame_body(&f), &out), &out);
				buf_release(&out);
			}
			break;
		case CLIENT_CONSOLE:
			n = console_message(c, rest);
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
	bool kept = c->in.len > 0;
	uint8_t *at = kept ? buf_reserve(&c->in, READ_CHUNK) : w->chunk;
	if (!at) {
		client_fatal(c, "54000", "message is larger than max_packet_size", NULL);
		return;
	}
	ssize_t n = net_stream_read(c->stream, at, READ_CHUNK);
	if (n == NET_AGAIN)
		return;
	if (n <= 0) {
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
}

static void client_event(void *owner, unsigned events)
{
	struct client *c = owner;
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
	if (c->state == CLIENT_READY && (c->in.len > 0 || c->paused))
		worker_make_runnable(c->worker, c);
}

/* Puts a read that is to be run again in front of what the client sent after it. */
static bool take_redo(struct client *c)
{
	if (c->redo.len == 0)
		return true;
	struct slice after = buf_slice(&c->in);
	size_t max = c->in.max;
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
	if (c->state == CLIENT_WELCOME) {
		welcome_from_server(c);
		if (c->state != CLIENT_READY) {
			pool_decline(c);
			return;
		}
	} else {
		if (c->state == CLIENT_WAIT_POSITION || c->state == CLIENT_WAIT_SERVER ||
		    c->state == CLIENT_WAIT_SYNC)
			c->state = CLIENT_READY;
	}
	if (take_redo(c))
		handle_kept(c);
	pool_decline(c);
	if (c->state != CLIENT_DEAD)
		pause_if_full(c);
}
