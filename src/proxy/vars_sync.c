/* SPDX-License-Identifier: PostgreSQL */
#include "vars_sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "pending.h"
#include "server.h"
#include "worker.h"

/* ------------------------------------------------------- client to server */

static bool strangers(uint64_t user, const struct client *c)
{
	return user != 0 && user != c->serial;
}

bool vars_sync_suits(const struct server *s, const struct client *c, bool sequences)
{
	return s->vars == c->vars && !strangers(s->sets_user, c) &&
	       !(sequences && strangers(s->sequence_user, c));
}

static bool is_ascii(const struct vars *v)
{
	for (int i = 0; i < v->count; i++) {
		for (const char *p = v->items[i].sql; *p; p++) {
			if (*p & 0x80)
				return false;
		}
	}
	return true;
}

/* A text is read in the encoding that is in force when it comes. Where that matters, the client's
 * comes in a text of its own, which leaves nothing else set; the others follow when that is done.
 * NULL: no memory. */
static struct vars *next_vars(struct vars_table *t, const struct vars *from, struct vars *to)
{
	static const char name[] = "client_encoding";
	const char *have = vars_find(from, name), *want = vars_find(to, name);
	bool same = have && want ? strcmp(have, want) == 0 : have == want;
	if (same || is_ascii(to))
		return vars_ref(to);
	return want ? vars_with(t, t->none, name, slice_str(want)) : vars_ref(t->none);
}

bool vars_sync(struct server *s, struct client *c, bool sequences)
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
	struct vars *to = ok ? next_vars(&s->worker->vars, from, c->vars) : NULL;
	ok = to && vars_diff(from, to, &sql);
	if (ok) {
		s->vars_after = vars_ref(to);
		s->worker->stats.syncs++;
		ok = server_ask(s, SERVER_SYNC, buf_slice(&sql));
	}
	vars_put(&s->worker->vars, to);
	buf_release(&sql);
	return ok;
}

bool vars_sync_discard_sequences(struct server *s)
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

enum vars_restored vars_sync_restore(struct server *s, struct client *c)
{
	if (!s->vars || s->replies.tx == TX_FAILED)
		return RESTORE_NOTHING;
	if (s->replies.tx == TX_IDLE && s->vars != c->vars)
		return vars_sync(s, c, false) ? RESTORE_ASKED : RESTORE_FAILED;
	struct buf sql;
	buf_init(&sql, VARS_BYTES * 3);
	bool ok = true;
	for (struct pending_set *p = c->pending_sets; p; p = p->next)
		ok = append_restored(&sql, c, p) && ok;
	enum vars_restored result = ok ? RESTORE_NOTHING : RESTORE_FAILED;
	if (ok && sql.len > 0) {
		s->vars_after = vars_ref(s->vars);
		c->tell_params = true;
		result = server_ask(s, SERVER_SYNC, buf_slice(&sql)) ? RESTORE_ASKED : RESTORE_FAILED;
	}
	buf_release(&sql);
	return result;
}

void vars_sync_done(struct server *s)
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

/* ------------------------------------------------------- server to client */

/* SET datestyle changes either half of it and leaves the other: what it came to is replayed, as the
 * server reports it. */
static struct slice whole_datestyle(const struct server *s, struct buf *sql)
{
	struct slice left = buf_slice(&s->params), name, value;
	while (server_next_param(&left, &name, &value)) {
		if (slice_ieq_str(name, "datestyle") && buf_append_str(sql, "SET datestyle = '") &&
		    buf_append(sql, value.ptr, value.len) && buf_append_str(sql, "'"))
			return buf_slice(sql);
	}
	return (struct slice){0};
}

/* What is reported is what the transaction under way has set since. */
static bool is_set_again(const struct server *s, const struct pending_set *p)
{
	const struct pending_set *q = p->next;
	while (q && strcmp(q->name, p->name) != 0)
		q = q->next;
	return q && s->replies.tx != TX_IDLE;
}

/* One SET that has committed: the client has it, and so has this server. */
static void adopt(struct client *c, struct server *s, const struct pending_set *p)
{
	struct vars_table *t = &c->worker->vars;
	struct slice sql = slice_of(p->sql, p->sql_len);
	struct buf whole;
	buf_init(&whole, 256);
	struct vars *mine = NULL, *its = NULL;
	const char *at_start;
	if (strncmp(p->name, "tidemark.", 9) == 0)
		return;
	switch (p->kind) {
	case SET_VALUE:
		if (strcmp(p->name, "datestyle") == 0)
			sql = is_set_again(s, p) ? (struct slice){0} : whole_datestyle(s, &whole);
		mine = sql.len > 0 ? vars_with(t, c->vars, p->name, sql) : NULL;
		its = s->vars && mine ? vars_with(t, s->vars, p->name, sql) : NULL;
		break;
	case SET_RESET:
		/* What came in the startup packet is what RESET goes back to. */
		at_start = vars_find(c->startup_vars, p->name);
		c->tell_params |= at_start != NULL;
		mine = at_start ? vars_with(t, c->vars, p->name, slice_str(at_start))
		                : vars_without(t, c->vars, p->name);
		if (s->vars && p->restored && at_start)
			its = vars_with(t, s->vars, p->name, slice_str(at_start));
		else if (s->vars)
			its = vars_without(t, s->vars, p->name);
		break;
	case SET_RESET_ALL:
		client_reset_options(c);
		c->tell_params |= c->startup_vars->count > 0;
		mine = vars_ref(c->startup_vars);
		its = vars_ref(p->restored ? c->startup_vars : t->none);
		break;
	default:
		return;
	}
	buf_release(&whole);
	if (!mine)
		client_bind(c, BIND_SETTINGS, slice_of(p->sql, p->sql_len));
	if (mine)
		client_set_vars(c, mine);
	vars_put(t, s->vars);
	s->vars = its;
}

void vars_sync_adopt(struct client *c, struct server *s, uint8_t tx)
{
	struct pending_set *p;
	bool all = tx == TX_IDLE && !c->turn_error;
	while ((p = c->pending_sets) && (all || p->committed)) {
		adopt(c, s, p);
		c->pending_sets = p->next;
		free(p);
	}
	if (tx == TX_IDLE)
		pending_forget(c);
}
