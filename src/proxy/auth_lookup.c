/* SPDX-License-Identifier: PostgreSQL */
#include "auth_lookup.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/log.h"
#include "client.h"
#include "operate.h"
#include "pool.h"
#include "server.h"
#include "worker.h"

#define QUESTION_MAX 4096

/* ------------------------------------------------------------ whom to ask */

static const char *said_or(const char *text, const char *otherwise)
{
	return text[0] ? text : otherwise;
}

static const char *asked_as(const struct settings *s, const struct database_entry *e)
{
	return said_or(e->lookup.user, s->lookup.user);
}

static const char *asked_in(const struct settings *s, const struct database_entry *e,
                            const char *database)
{
	const char *said = said_or(e->lookup.dbname, s->lookup.dbname);
	bool listed = strcmp(e->name, "*") != 0;
	return said[0] ? said : listed ? database : s->nodes[0].database;
}

static const struct database_entry *entry_of(const struct client *c)
{
	return database_entry_find(c->worker->settings, c->login->database);
}

bool lookup_configured(const struct client *c)
{
	const struct database_entry *e = c->login->console ? NULL : entry_of(c);
	return e && asked_as(c->worker->settings, e)[0];
}

/* ----------------------------------------------------------------- answers */

/* Four of one hash share a row, and the oldest of them makes room. */
#define ANSWER_WAYS 4

struct answer {
	char database[NAME_MAX_BYTES], user[NAME_MAX_BYTES];
	char secret[256];
	int64_t asked_at_us; /* 0: none */
};

struct lookup_cache {
	struct answer answers[LOOKUP_ANSWERS_MAX / ANSWER_WAYS][ANSWER_WAYS];
};

static struct answer *answer_row(struct lookup_cache *k, const struct client_login *l)
{
	uint64_t hash = XXH3_64bits_withSeed(l->user, strlen(l->user), 0) ^
	                XXH3_64bits_withSeed(l->database, strlen(l->database), 1);
	return k->answers[hash % (LOOKUP_ANSWERS_MAX / ANSWER_WAYS)];
}

static struct answer *answer_find(struct lookup_cache *k, const struct client_login *l)
{
	struct answer *row = k ? answer_row(k, l) : NULL;
	for (int i = 0; row && i < ANSWER_WAYS; i++) {
		if (row[i].asked_at_us > 0 && strcmp(row[i].user, l->user) == 0 &&
		    strcmp(row[i].database, l->database) == 0)
			return &row[i];
	}
	return NULL;
}

static void answer_keep(struct client *c, int64_t asked_at_us)
{
	struct worker *w = c->worker;
	const struct client_login *l = c->login;
	if (w->settings->auth_query_ttl_us == 0)
		return;
	if (!w->lookups && !(w->lookups = calloc(1, sizeof(*w->lookups))))
		return;
	struct answer *at = answer_find(w->lookups, l), *row = answer_row(w->lookups, l);
	if (!at) {
		at = row; /* or an older one, or a free one, whose time is 0 */
		for (int i = 1; i < ANSWER_WAYS; i++)
			at = row[i].asked_at_us < at->asked_at_us ? &row[i] : at;
	}
	snprintf(at->database, sizeof(at->database), "%s", l->database);
	snprintf(at->user, sizeof(at->user), "%s", l->user);
	snprintf(at->secret, sizeof(at->secret), "%s", l->secret);
	at->asked_at_us = asked_at_us;
}

/* What was answered a moment ago. */
static bool take_kept(struct client *c)
{
	struct worker *w = c->worker;
	const struct answer *a = answer_find(w->lookups, c->login);
	if (!a || net_now_us() - a->asked_at_us >= w->settings->auth_query_ttl_us)
		return false;
	snprintf(c->login->secret, sizeof(c->login->secret), "%s", a->secret);
	c->login->lookup = LOOKUP_FOUND;
	w->stats.lookups_kept++;
	return true;
}

void lookup_forget(struct client *c)
{
	struct answer *a = c->login ? answer_find(c->worker->lookups, c->login) : NULL;
	if (a)
		explicit_bzero(a, sizeof(*a));
}

void lookups_forget(struct worker *w)
{
	if (w->lookups)
		explicit_bzero(w->lookups, sizeof(*w->lookups));
}

void lookups_free(struct worker *w)
{
	lookups_forget(w);
	free(w->lookups);
	w->lookups = NULL;
}

/* ------------------------------------------------------------------ asking */

/* The reason is for the operator: what a stranger asks for may not tell him of our insides. */
static void fail(struct client *c, const char *why)
{
	c->login->lookup = LOOKUP_FAILED;
	c->worker->stats.lookups_failed++;
	log_warn("database=%s user=%s cannot be looked up (auth_query): %s", c->login->database,
	         c->login->user, why);
}

static void tell(struct client *c)
{
	client_fatal(c, "08006", "the user cannot be looked up on the server now (auth_query)",
	             "The router's log tells why.");
}

static bool write_question(struct buf *out, struct slice query, struct slice user)
{
	const struct slice unnamed = {0};
	return write_parse(out, unnamed, query, unnamed) &&
	       write_bind_text(out, unnamed, unnamed, user, 0) && write_execute(out, unnamed) &&
	       write_sync(out);
}

static bool push_question(struct replies *r)
{
	static const uint8_t kinds[] = {REPLY_PARSE, REPLY_BIND, REPLY_EXECUTE, REPLY_SYNC};
	bool ok = true;
	for (size_t i = 0; ok && i < sizeof(kinds); i++)
		ok = replies_push(r, (struct reply){.kind = kinds[i], .to = REPLY_NOBODY});
	return ok;
}

static void ask(struct client *c, struct server *s)
{
	const struct settings *settings = c->worker->settings;
	struct slice query = slice_str(said_or(entry_of(c)->lookup.query, settings->lookup.query));
	struct buf out;
	buf_init(&out, QUESTION_MAX);
	s->state = SERVER_TASK;
	s->task = TASK_LOOKUP;
	s->own_failed = false;
	s->asker = c;
	s->lookup_asked_us = net_now_us();
	c->login->lookup = LOOKUP_ASKED;
	c->login->lookup_server = s;
	c->worker->stats.lookups++;
	bool ok = write_question(&out, query, slice_str(c->login->user)) &&
	          push_question(&s->replies) && server_send(s, &out);
	buf_release(&out);
	if (!ok)
		server_close(s, "the question for a user could not be sent");
}

/* Nothing is known yet, and nobody was asked. */
static void advance_waiting(struct client *c)
{
	struct worker *w = c->worker;
	const struct database_entry *e = entry_of(c);
	struct server *s;
	int node = worker_primary(w);
	if (!e) {
		fail(c, "the database is no longer served");
		return;
	}
	const char *database = asked_in(w->settings, e, c->login->database);
	struct database *db = database_get(w, slice_str(database));
	struct account *a = db ? account_for_lookups(db, slice_str(asked_as(w->settings, e))) : NULL;
	if (!a) {
		fail(c, "auth_dbname is not served, or out of memory");
		return;
	}
	if (node == NODE_NONE || database_paused(db))
		return; /* the tick comes back */
	struct pool *p = &a->pools[node];
	switch (pool_acquire(p, c, &s)) {
	case POOL_TAKEN:
		ask(c, s);
		break;
	case POOL_QUEUED:
		break;
	case POOL_FULL:
		c->login->lookup = LOOKUP_FAILED;
		c->worker->stats.lookups_failed++;
		client_fatal(c, "53300", "too many clients wait to be looked up already", NULL);
		break;
	case POOL_DOWN:
		if (!pool_unreachable(p))
			fail(c, p->error); /* an answer that will not change by waiting */
		break;
	}
}

bool lookup_advance(struct client *c)
{
	struct client_login *l = c->login;
	if (l->lookup == LOOKUP_NONE) {
		l->lookup = LOOKUP_WAITS;
		l->lookup_began_us = net_now_us();
	}
	if (l->lookup_server)
		return false; /* its row may be here, but it has not said that it was the only one */
	if (l->lookup == LOOKUP_WAITS && !take_kept(c))
		advance_waiting(c);
	if (c->state == CLIENT_DEAD)
		return true;
	if (l->lookup == LOOKUP_FAILED)
		tell(c);
	return c->state == CLIENT_DEAD || l->lookup == LOOKUP_FOUND || l->lookup == LOOKUP_ABSENT;
}

void lookup_tend(struct client *c, int64_t now_us)
{
	struct client_login *l = c->login;
	if (now_us - l->lookup_began_us > c->worker->settings->server_connect_timeout_us) {
		fail(c, "no answer within server_connect_timeout");
		tell(c);
	} else if (l->lookup == LOOKUP_WAITS && !c->waits_for) {
		worker_make_runnable(c->worker, c);
	}
}

void lookup_leave(struct client *c)
{
	if (!c->login || !c->login->lookup_server)
		return;
	c->login->lookup_server->asker = NULL;
	c->login->lookup_server = NULL;
}

/* ----------------------------------------------------------------- answers */

struct row {
	int columns;
	struct slice name, secret;
};

static void take_column(void *arg, int index, struct slice value)
{
	struct row *r = arg;
	r->columns = index + 1;
	if (index == 0)
		r->name = value;
	else if (index == 1)
		r->secret = value;
}

/* NULL: the row is of use. */
static const char *row_fault(const struct client_login *l, const struct row *r)
{
	if (l->lookup != LOOKUP_ASKED)
		return "more than one row";
	if (r->columns != 2)
		return "not two columns, the user and what is stored for him";
	if (!r->name.ptr || !slice_eq_str(r->name, l->user))
		return "the first column is not the user that was asked for";
	if (r->secret.len >= sizeof(l->secret))
		return "what is stored for the user is longer than 255 bytes";
	return NULL;
}

void lookup_row(struct server *s, struct slice body)
{
	struct row r = {0};
	if (!s->asker || s->own_failed)
		return;
	struct client_login *l = s->asker->login;
	bool whole = msg_data_row_parse(body, take_column, &r);
	const char *fault = whole ? row_fault(l, &r) : "a malformed row";
	if (fault) {
		s->own_failed = true;
		s->own_sqlstate[0] = '\0';
		snprintf(s->own_error, sizeof(s->own_error), "%s", fault);
		return;
	}
	/* NULL: a user without a password, or with one that is valid no longer. */
	snprintf(l->secret, sizeof(l->secret), "%.*s", SLICE_ARG(r.secret));
	l->lookup = LOOKUP_FOUND;
}

void lookup_done(struct server *s)
{
	struct client *c = s->asker;
	char why[sizeof(s->own_error) + 16];
	if (!c)
		return;
	lookup_leave(c);
	if (s->own_failed) {
		snprintf(why, sizeof(why), "%s %s", s->own_sqlstate, s->own_error);
		explicit_bzero(c->login->secret, sizeof(c->login->secret));
		fail(c, why);
	} else if (c->login->lookup == LOOKUP_FOUND) {
		answer_keep(c, s->lookup_asked_us);
	} else {
		c->login->lookup = LOOKUP_ABSENT;
	}
	worker_make_runnable(c->worker, c);
}

void lookup_lost(struct server *s, const char *why)
{
	struct client *c = s->asker;
	if (!c)
		return;
	lookup_leave(c);
	explicit_bzero(c->login->secret, sizeof(c->login->secret));
	fail(c, why ? why : "the connection was lost");
	worker_make_runnable(c->worker, c);
}
