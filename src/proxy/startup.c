/* SPDX-License-Identifier: PostgreSQL */
#include "startup.h"

#include <stdio.h>
#include <stdlib.h>

#include "auth.h"
#include "auth_lookup.h"
#include "base/log.h"
#include "cancel.h"
#include "client.h"
#include "local.h"
#include "operate.h"
#include "pool.h"
#include "server.h"
#include "vars_sync.h"
#include "worker.h"

#define CONSOLE_DATABASE "tidemark"
/* What tools that were made for PgBouncer ask for. */
#define CONSOLE_DATABASE_PGBOUNCER "pgbouncer"

void startup_release(struct client *c)
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

/* ------------------------------------------------------------------ startup */

static bool to_be_doubled(uint8_t ch)
{
	return ch == '\'' || ch == '\\';
}

/* 'it''s' and E'back\\slash': a constant for SET, safe under any standard_conforming_strings. */
static bool append_literal(struct buf *out, struct slice value)
{
	bool escape = memchr(value.ptr, '\\', value.len) != NULL;
	bool ok = buf_append_str(out, escape ? " E'" : "'");
	while (value.len > 0) {
		size_t run = 0;
		while (run < value.len && !to_be_doubled(value.ptr[run]))
			run++;
		ok = buf_append(out, value.ptr, run) && ok;
		if (run < value.len) {
			const uint8_t twice[] = {value.ptr[run], value.ptr[run]};
			ok = buf_append(out, twice, sizeof(twice)) && ok;
			run++;
		}
		value = slice_from(value, run);
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
		key[i] =
			(char)(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] | 0x20 : name.ptr[i]);
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

/* 3.1 was never made, and is spoken as 3.0 without a word, as PostgreSQL does. */
static void negotiate_down(struct client *c, const struct startup *st)
{
	if (st->code == protocol_spoken(st->code) && st->extensions == 0)
		return;
	struct buf b;
	buf_init(&b, STARTUP_PACKET_MAX + 64);
	write_negotiate(&b, st);
	client_say(c, b.data, b.len);
	buf_release(&b);
}

static bool all_settings(struct client *c, const struct startup *st)
{
	struct slice params = st->params, name, value;
	while (startup_next_param(&params, &name, &value)) {
		if (slice_eq_str(name, "user") || slice_eq_str(name, "database") ||
		    slice_eq_str(name, "replication") || startup_is_extension(name))
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
	char text[160], why[sizeof(c->login->why)];
	if (step == AUTH_MORE || step == AUTH_DONE)
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
	case AUTH_LOOKUP:
		c->state = CLIENT_LOOKUP;
		startup_lookup(c);
		break;
	case AUTH_REFUSED:
		lookup_forget(c);
		c->worker->stats.login_failures++;
		log_warn("user=%s password authentication failed", c->login->user);
		snprintf(text, sizeof(text), "password authentication failed for user \"%s\"",
		         c->login->user);
		client_fatal(c, "28P01", text, NULL);
		break;
	case AUTH_FORBIDDEN:
		c->worker->stats.login_failures++;
		log_warn("user=%s %s", c->login->user, c->login->why);
		snprintf(why, sizeof(why), "%s", c->login->why);
		client_fatal(c, "28000", why, NULL);
		break;
	case AUTH_BROKEN:
		c->worker->stats.client_errors++;
		client_fatal(c, "08P01", "invalid password or SASL message", NULL);
		break;
	}
}

void startup_lookup(struct client *c)
{
	struct buf out;
	if (!lookup_advance(c) || c->state == CLIENT_DEAD)
		return;
	buf_init(&out, 4096);
	run_auth(c, auth_begin(c, &out), &out);
	buf_release(&out);
}

/* ---------------------------------------------------------------------- TLS */

/* A handshake record: the client of PostgreSQL 17 and later with sslnegotiation = direct. */
#define TLS_HANDSHAKE 0x16

/* `first` is the beginning of what the client says in TLS. */
static void begin_tls(struct client *c, struct slice first)
{
	c->state = CLIENT_TLS;
	if (!net_stream_accept_tls(c->stream, c->worker->settings->client_tls_context, first))
		client_close(c);
}

static bool may_have_tls(const struct client *c)
{
	return c->worker->settings->client_tls_context && !net_stream_is_local(c->stream);
}

static bool must_have_tls(const struct client *c)
{
	return c->worker->settings->client_tls.mode >= SSLMODE_REQUIRE &&
	       !net_stream_is_local(c->stream) && !net_stream_tls(c->stream);
}

static void answer_ssl_request(struct client *c, struct slice behind)
{
	if (net_stream_tls(c->stream)) {
		client_fatal(c, "08P01", "TLS was asked for inside TLS", NULL);
		return;
	}
	if (!may_have_tls(c)) {
		client_say(c, "N", 1);
		return;
	}
	/* Somebody between us and the client could have put it there, to be taken for what the client
	 * said in TLS. */
	if (behind.len > 0) {
		client_fatal(c, "08P01", "received unencrypted data after SSL request",
		             "This could be a client with a fault, or somebody who attacks it.");
		return;
	}
	client_say(c, "S", 1);
	if (c->out.len > 0)
		client_close(c); /* a single byte does not fit: nobody reads */
	if (c->state != CLIENT_DEAD)
		begin_tls(c, (struct slice){0});
}

/* Returns the bytes used up. */
static size_t begin_direct_tls(struct client *c, struct slice in)
{
	if (!may_have_tls(c)) {
		client_close(c); /* it would not understand a word */
		return 0;
	}
	c->direct_tls = true;
	begin_tls(c, in);
	return in.len;
}

/* Nobody whom an answer would reach, or who would understand it. */
static void drop(struct client *c, const char *why)
{
	char peer[80];
	net_stream_peer(c->stream, peer, sizeof(peer));
	c->worker->stats.client_errors++;
	log_info("client %s: no connection: %s", peer, why);
	client_close(c);
}

void startup_secured(struct client *c, unsigned events)
{
	if (events & NET_FAILED) {
		drop(c, net_stream_error(c->stream));
		return;
	}
	c->state = CLIENT_STARTUP;
	if (c->direct_tls && !tls_speaks_postgresql(net_stream_tls(c->stream)))
		client_fatal(c, "08P01", "received direct SSL connection request without ALPN protocol "
		                         "negotiation extension", NULL);
}

/* -------------------------------------------------------------- first packets */

/* A database that the configuration lists under the second name is that database. */
static bool is_console(const struct worker *w, struct slice database)
{
	return slice_eq_str(database, CONSOLE_DATABASE) ||
	       (slice_eq_str(database, CONSOLE_DATABASE_PGBOUNCER) && !database_listed(w, database));
}

static void refuse_database(struct client *c, struct slice name)
{
	char text[200];
	snprintf(text, sizeof(text), "database \"%.*s\" is not served by the router",
	         (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
	client_fatal(c, "3D000", text, "See section [databases] of the router's configuration.");
}

static void start_session(struct client *c, const struct startup *st)
{
	struct worker *w = c->worker;
	struct slice user = st->user, replication = st->replication;
	struct slice database = st->database.len > 0 ? st->database : user;
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
	if (must_have_tls(c)) {
		client_fatal(c, "28000", "the router takes connections with TLS only",
		             "Connect with sslmode=require, or better with verify-full.");
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
	memcpy(c->login->user, user.ptr, user.len); /* shorter than the zeroed array */
	c->login->console = is_console(w, database);
	if (!c->login->console && !database_served(w, database)) {
		refuse_database(c, database);
		return;
	}
	memcpy(c->login->database, database.ptr, database.len); /* likewise */
	if (!cancel_register(w, c, st->code)) {
		client_fatal(c, "53200", "out of memory", NULL);
		return;
	}
	negotiate_down(c, st);
	if (c->state == CLIENT_DEAD || (!c->login->console && !all_settings(c, st)))
		return;

	struct buf out;
	buf_init(&out, 4096);
	run_auth(c, auth_begin(c, &out), &out);
	buf_release(&out);
}

/* One startup-phase packet. Returns the bytes used up. */
size_t startup_packet(struct client *c, struct slice in)
{
	struct slice body;
	struct startup st;
	if (!c->greeted && in.ptr[0] == TLS_HANDSHAKE)
		return begin_direct_tls(c, in);
	enum parse_result r = startup_frame(in, &body);
	if (r == PARSE_PARTIAL)
		return 0;
	if (r == PARSE_INVALID) {
		drop(c, "invalid length of startup packet"); /* PostgreSQL does not answer it either */
		return 0;
	}
	if (!startup_parse(body, &st)) {
		c->worker->stats.client_errors++;
		client_fatal(c, "08P01", "invalid startup packet", "The router speaks protocol 3.");
		return 0;
	}
	c->greeted = true;
	switch (st.code) {
	case PROTOCOL_SSL:
		answer_ssl_request(c, slice_from(in, 4 + body.len));
		break;
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

size_t startup_answer(struct client *c, struct slice in)
{
	struct frame f;
	enum parse_result r = frame_peek(in, &f);
	if (r == PARSE_PARTIAL)
		return 0;
	if (r == PARSE_INVALID || f.type != FE_PASSWORD || f.body_len > STARTUP_PACKET_MAX) {
		client_fatal(c, "08P01", "expected a password message", NULL);
		return 0;
	}
	if (!frame_complete(&f, in))
		return 0;
	struct buf out;
	buf_init(&out, 4096);
	run_auth(c, auth_answer(c, frame_body(&f), &out), &out);
	buf_release(&out);
	return frame_size(&f);
}

/* ------------------------------------------------------------------ welcome */

static void say_welcome(struct client *c, struct slice params)
{
	struct buf b;
	buf_init(&b, 128 * 1024);
	/* Room for all of it at once: a login in trust mode is mostly this. */
	if (!buf_reserve(&b, params.len + 64)) {
		client_fatal(c, "53200", "out of memory", NULL);
		return;
	}
	write_auth(&b, AUTH_OK, (struct slice){0});
	buf_append(&b, params.ptr, params.len);
	write_key_data(&b, c->id, slice_of(c->cancel_key, c->cancel_key_len));
	write_ready(&b, TX_IDLE);
	client_say(c, b.data, b.len);
	buf_release(&b);
}

static bool is_in(const char *users, const char *user)
{
	struct slice left = slice_str(users);
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
	const struct settings *s = c->worker->settings;
	bool admin = is_in(s->admin_users, c->login->user);
	if (!admin && !is_in(s->stats_users, c->login->user)) {
		client_fatal(c, "28000", "only admin_users and stats_users may use the admin console",
		             NULL);
		return;
	}
	c->console = calloc(1, sizeof(*c->console));
	if (!c->console) {
		client_fatal(c, "53200", "out of memory", NULL);
		return;
	}
	c->console->admin = admin;
	snprintf(c->console->user, sizeof(c->console->user), "%s", c->login->user);
	struct buf params;
	buf_init(&params, 1024);
	write_parameter_status(&params, slice_str("server_version"),
	                       slice_str(TIDEMARK_VERSION "/tidemark"));
	write_parameter_status(&params, slice_str("client_encoding"), slice_str("UTF8"));
	write_parameter_status(&params, slice_str("server_encoding"), slice_str("UTF8"));
	write_parameter_status(&params, slice_str("DateStyle"), slice_str("ISO, MDY"));
	write_parameter_status(&params, slice_str("TimeZone"), slice_str("GMT"));
	write_parameter_status(&params, slice_str("is_superuser"), slice_str("on"));
	write_parameter_status(&params, slice_str("standard_conforming_strings"), slice_str("on"));
	c->state = CLIENT_CONSOLE;
	say_welcome(c, buf_slice(&params));
	buf_release(&params);
	startup_release(c);
}

static void welcome_with(struct client *c, const struct welcome *wl)
{
	c->state = CLIENT_READY;
	c->worker->stats.logins++;
	say_welcome(c, buf_slice(&wl->bytes));
	if (c->worker->settings->log_connections)
		log_info("client=%u database=%s user=%s connected", c->id, c->account->database->name,
		         client_user(c));
}

/* Nobody with these settings was here yet: a server has to tell what to say. */
void startup_welcome(struct client *c)
{
	struct worker *w = c->worker;
	struct server *s = c->server;
	if (!s) {
		if (database_paused(c->account->database))
			return; /* the tick asks again, until client_login_timeout */
		int node = worker_primary(w);
		for (int i = 0; i < w->fleet.count && node == NODE_NONE; i++) {
			if (fleet_replica_asked(&w->fleet, i, net_loop_now_us(w->loop)))
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
			/* The tick asks again. */
			if (pool_unreachable(p) &&
			    net_loop_now_us(w->loop) - c->seen_at_us < w->settings->failover_timeout_us)
				return;
			client_fatal(c, p->sqlstate, p->error, p->hint[0] ? p->hint : NULL);
			return;
		}
	}
	if (!vars_sync_suits(s, c, false)) {
		if (!vars_sync(s, c, false))
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

static bool own_setting(struct client *c, struct slice name, struct slice value)
{
	char text[TOKEN_LIST_TEXT_MAX + 2]; /* one that is too long stays so */
	struct local_error e;
	snprintf(text, sizeof(text), "%s", (const char *)value.ptr);
	if (local_set(c, (const char *)name.ptr, text, &e))
		return true;
	client_fatal(c, e.sqlstate, e.message, NULL);
	return false;
}

/* Marks and sessions are nothing that a stranger may touch. The session comes first: a token may be
 * bound to it. */
static bool own_settings(struct client *c)
{
	for (int tokens = 0; tokens < 2; tokens++) {
		struct slice left = buf_slice(&c->login->own), name, value;
		while (server_next_param(&left, &name, &value)) {
			if (slice_eq_str(name, "tidemark.read_after") == tokens && !own_setting(c, name, value))
				return false;
		}
	}
	if (c->options && (c->startup_options = malloc(sizeof(*c->options))) != NULL)
		*c->startup_options = *c->options;
	return true;
}

/* The account that the client uses on the servers: its own, or the one that all clients of the
 * database share. */
static struct account *account_of(struct client *c, struct database *db)
{
	const struct settings *s = c->worker->settings;
	const struct database_entry *e = database_entry_find(s, db->name);
	const struct client_login *l = c->login;
	if (!e || !e->user[0])
		return account_get(db, slice_str(l->user), l->secret);
	const struct user_entry *u = user_find(s, slice_str(e->user));
	const char *stored = e->password[0] ? e->password : u ? u->secret : "";
	c->user = strdup(l->user);
	return c->user ? account_get(db, slice_str(e->user), stored) : NULL;
}

/* Only for who was let in: anybody can think up names, and what is made for them stays. */
static bool enter_database(struct client *c)
{
	struct slice name = slice_str(c->login->database);
	if (!database_served(c->worker, name)) {
		refuse_database(c, name); /* since a reload */
		return false;
	}
	struct database *db = database_get(c->worker, name);
	if (db && db->disabled) {
		client_fatal(c, "57P03", "the database is disabled",
		             "An administrator has said DISABLE; ENABLE lets clients in again.");
		return false;
	}
	c->account = db ? account_of(c, db) : NULL;
	if (c->account)
		c->account->client_count++;
	/* They prove who the client is, and nobody else. */
	if (c->account && c->login->has_keys && !c->user)
		account_learn_keys(c->account, &c->login->keys);
	if (!c->account || !client_scope_mark(c)) {
		client_fatal(c, "53200", "out of memory", NULL);
		return false;
	}
	return true;
}

static void after_auth(struct client *c)
{
	if (c->login->console) {
		welcome_console(c);
		return;
	}
	if (!enter_database(c) || !own_settings(c))
		return;
	c->vars = c->login->vars;
	c->login->vars = NULL;
	c->startup_vars = vars_ref(c->vars);
	startup_release(c);
	c->state = CLIENT_WELCOME;
	const struct welcome *wl = welcome_find(c->account, c->vars);
	if (wl)
		welcome_with(c, wl);
	else
		startup_welcome(c);
}
