/* SPDX-License-Identifier: PostgreSQL */
#include "server_login.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "pool.h"
#include "server.h"
#include "unseen.h"
#include "watch/dial.h"
#include "worker.h"

#define LOGIN_OUT_MAX (16 * 1024)

static const char verify_query[] =
	"SELECT (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint, "
	"pg_catalog.pg_is_in_recovery(), "
	"pg_catalog.current_setting('default_transaction_isolation') = 'read committed', " UNSEEN_WHO;

/* The connection cannot be made: the pool decides who has to be told. What the server itself said
 * is handed on in its own words, as to one that connects directly. */
static void give_up(struct server *s, const char *sqlstate, const char *error, bool told)
{
	struct pool *p = s->pool;
	const struct watch_node *n = pool_node(p);
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

void server_login_failed(struct server *s, const char *sqlstate, const char *error)
{
	give_up(s, sqlstate, error, false);
}

static bool start_login(struct login *l, const struct account *a, struct buf *out)
{
	struct slice user = slice_str(a->user), database = slice_str(a->database->dbname);
	if (a->lookups)
		return login_start_fixed_path(l, user, database, slice_str("tidemark"), a->secret_kind,
		                              account_proof(a), out);
	return login_start(l, user, database, (struct slice){0}, a->secret_kind, account_proof(a), out);
}

void server_login_begin(struct server *s)
{
	struct account *a = s->pool->account;
	s->state = SERVER_LOGIN;
	s->login = calloc(1, sizeof(*s->login));
	struct buf out;
	buf_init(&out, LOGIN_OUT_MAX);
	bool ok = s->login && start_login(s->login, a, &out) && server_send(s, &out);
	buf_release(&out);
	if (ok)
		dial_bind(pool_node(s->pool), s->stream, s->login);
	if (!ok)
		server_login_failed(s, "08006", "the startup packet could not be sent");
}

bool server_login_message(struct server *s, const struct frame *f)
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
		server_login_failed(s, "08006", "connection lost");
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
void server_login_row(struct server *s, struct slice body)
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

bool server_login_done(struct server *s)
{
	if (!s->own_failed) {
		pool_connected(s->pool);
		return true;
	}
	server_login_failed(s, "08006", s->own_error[0] ? s->own_error : "verification failed");
	return false;
}
