/* SPDX-License-Identifier: PostgreSQL */
#include "local.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "tokens.h"
#include "worker.h"

#define PREFIX "tidemark."

__attribute__((format(printf, 3, 4))) static bool fail(struct local_error *e, const char *sqlstate,
                                                       const char *format, ...)
{
	va_list args;
	va_start(args, format);
	snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", sqlstate);
	vsnprintf(e->message, sizeof(e->message), format, args);
	va_end(args);
	return false;
}

/* "100", "100ms", "5s", "2min": µs. Bare numbers are milliseconds, as PostgreSQL's settings are. */
static bool parse_duration(const char *text, int64_t *us)
{
	char *end;
	double v = strtod(text, &end);
	if (end == text || !(v >= 0) || v > 1e9)
		return false;
	while (*end == ' ')
		end++;
	double unit;
	if (*end == '\0' || strcmp(end, "ms") == 0)
		unit = 1e3;
	else if (strcmp(end, "us") == 0)
		unit = 1;
	else if (strcmp(end, "s") == 0)
		unit = 1e6;
	else if (strcmp(end, "min") == 0)
		unit = 6e7;
	else
		return false;
	*us = (int64_t)(v * unit);
	return true;
}

static bool parse_bool(const char *text, bool *value)
{
	static const char *const on[] = {"on", "true", "yes", "1"};
	static const char *const off[] = {"off", "false", "no", "0"};
	for (int i = 0; i < 4; i++) {
		if (strcasecmp(text, on[i]) == 0 || strcasecmp(text, off[i]) == 0) {
			*value = strcasecmp(text, on[i]) == 0;
			return true;
		}
	}
	return false;
}

static bool parse_split(const char *text, enum split_transactions *value)
{
	bool off = strcasecmp(text, "off") == 0;
	if (!off && strcasecmp(text, "read_committed") != 0)
		return false;
	*value = off ? SPLIT_OFF : SPLIT_READ_COMMITTED;
	return true;
}

bool local_set(struct client *c, const char *name, const char *value, struct local_error *e)
{
	const char *key =
		strncmp(name, PREFIX, sizeof(PREFIX) - 1) == 0 ? name + sizeof(PREFIX) - 1 : "";
	struct client_options *o = client_options(c);
	if (!o)
		return fail(e, "53200", "out of memory");

	if (strcmp(key, "session") == 0) {
		if (strlen(value) > SESSION_NAME_MAX)
			return fail(e, "22023", "tidemark.session: a name has at most 127 bytes");
		if (!client_set_session(c, slice_str(value)))
			return fail(
				e, "53400",
				"tidemark.session: too many sessions are in use (max_sessions), or in this transaction");
		snprintf(o->session, sizeof(o->session), "%s", value);
	} else if (strcmp(key, "consistency") == 0) {
		if (!consistency_level_parse(value, &o->level))
			return fail(
				e, "22023",
				"tidemark.consistency: \"%.60s\" is none of strong, session, bounded, eventual",
				value);
		o->has_level = true;
	} else if (strcmp(key, "max_lag") == 0) {
		if (!parse_duration(value, &o->max_lag_us))
			return fail(e, "22023", "tidemark.max_lag: \"%.60s\" is not a time such as 100ms",
			            value);
		o->has_max_lag = true;
	} else if (strcmp(key, "wait_timeout") == 0) {
		if (!parse_duration(value, &o->wait_timeout_us) || o->wait_timeout_us > 60000000)
			return fail(e, "22023", "tidemark.wait_timeout: \"%.60s\" is not a time of at most 60s",
			            value);
		o->has_wait_timeout = true;
	} else if (strcmp(key, "split_transactions") == 0) {
		if (!parse_split(value, &o->split))
			return fail(
				e, "22023",
				"tidemark.split_transactions: \"%.60s\" is neither off nor read_committed", value);
		o->has_split = true;
	} else if (strcmp(key, "report") == 0) {
		if (!parse_bool(value, &o->report))
			return fail(e, "22023", "tidemark.report: \"%.60s\" is neither on nor off", value);
	} else if (strcmp(key, "read_after") == 0) {
		tokens_read_after(c, value);
	} else if (strcmp(key, "token") == 0 || strcmp(key, "route") == 0) {
		return fail(e, "55P02", "parameter \"%.60s\" cannot be changed", name);
	} else {
		return fail(e, "42704", "unrecognized configuration parameter \"%.60s\"", name);
	}
	return true;
}

static bool local_reset(struct client *c, const char *name, struct local_error *e)
{
	struct client_options *o = client_options(c);
	if (!o)
		return fail(e, "53200", "out of memory");
	if (strcmp(name, PREFIX "session") == 0)
		return local_set(c, name, "", e);
	if (strcmp(name, PREFIX "consistency") == 0)
		o->has_level = false;
	else if (strcmp(name, PREFIX "max_lag") == 0)
		o->has_max_lag = false;
	else if (strcmp(name, PREFIX "wait_timeout") == 0)
		o->has_wait_timeout = false;
	else if (strcmp(name, PREFIX "split_transactions") == 0)
		o->has_split = false;
	else if (strcmp(name, PREFIX "report") == 0)
		o->report = false;
	else if (strcmp(name, PREFIX "read_after") != 0)
		return fail(e, "42704", "unrecognized configuration parameter \"%.60s\"", name);
	return true;
}

static bool show(struct client *c, const char *name, char *out, size_t cap, struct local_error *e)
{
	struct route_policy p = client_policy(c);
	const char *key = name + sizeof(PREFIX) - 1;
	if (strcmp(key, "session") == 0) {
		snprintf(out, cap, "%s", c->session ? c->session->name : "");
	} else if (strcmp(key, "consistency") == 0) {
		snprintf(out, cap, "%s", consistency_level_name(p.level));
	} else if (strcmp(key, "max_lag") == 0) {
		snprintf(out, cap, "%gms", (double)p.max_lag_us / 1e3);
	} else if (strcmp(key, "wait_timeout") == 0) {
		snprintf(out, cap, "%gms", (double)p.wait_timeout_us / 1e3);
	} else if (strcmp(key, "split_transactions") == 0) {
		snprintf(out, cap, "%s", client_splits(c) ? "read_committed" : "off");
	} else if (strcmp(key, "report") == 0) {
		snprintf(out, cap, "%s", c->options && c->options->report ? "on" : "off");
	} else if (strcmp(key, "read_after") == 0 || strcmp(key, "token") == 0) {
		struct token t;
		char token[TOKEN_TEXT_MAX];
		tokens_give(c, &t);
		tokens_sign(c, &t, token);
		snprintf(out, cap, "%s", token);
	} else if (strcmp(key, "route") == 0) {
		const struct worker *w = c->worker;
		const char *node = c->last_node >= 0 ? w->fleet.nodes[c->last_node].name : "nowhere";
		const char *bound = c->last_reason == REASON_BOUND ? bind_reason_name(c->bound) : NULL;
		snprintf(out, cap, "%s: %s%s%s%s", node, route_reason_words(c->last_reason),
		         bound ? " (" : "", bound ? bound : "", bound ? ")" : "");
	} else {
		return fail(e, "42704", "unrecognized configuration parameter \"%.60s\"", name);
	}
	return true;
}

/* ------------------------------------------------------------------- texts */

struct first {
	bool have;
	struct set_stmt stmt;
};

static void take_first(void *arg, const struct set_stmt *s)
{
	struct first *f = arg;
	if (!f->have) {
		f->stmt = *s;
		f->have = true;
	}
}

static bool parse_one(struct slice text, struct set_stmt *out)
{
	struct first f = {0};
	if (!classify_settings(text, take_first, &f) || !f.have)
		return false;
	*out = f.stmt;
	return true;
}

bool local_is(struct client *c, struct traits t, struct slice text)
{
	if (t.flags & TRAIT_ROUTER)
		return true;
	if (!(t.flags & TRAIT_DEALLOCATE) || t.flags & (TRAIT_MULTI | TRAIT_DEALLOCATE_ALL))
		return false;
	struct set_stmt s;
	return parse_one(text, &s) && s.kind == SET_DEALLOCATE &&
	       client_stmts_find(&c->stmts, slice_str(s.name)) != NULL;
}

/* Too long, or no plain text: no reason to fail the request. */
static bool is_read_after(const char *name)
{
	return strcmp(name, PREFIX "read_after") == 0;
}

struct inside {
	struct client *c;
	struct local_error *e;
	bool ok;
};

static void apply_one(void *arg, const struct set_stmt *s)
{
	struct inside *in = arg;
	if (!in->ok || strncmp(s->name, PREFIX, sizeof(PREFIX) - 1) != 0)
		return;
	if (s->kind == SET_RESET)
		in->ok = local_reset(in->c, s->name, in->e);
	else if ((s->kind == SET_VALUE || s->kind == SET_LOCAL) && s->value_ok)
		in->ok = local_set(in->c, s->name, s->value, in->e);
	else if (is_read_after(s->name))
		tokens_read_after(in->c, NULL);
}

bool local_apply_inside(struct client *c, struct slice text, struct local_error *e)
{
	struct inside in = {.c = c, .e = e, .ok = true};
	classify_settings(text, apply_one, &in);
	return in.ok;
}

void local_describe(struct slice text, struct buf *out)
{
	struct set_stmt s;
	if (parse_one(text, &s) && s.kind == SET_SHOW) {
		const char *names[] = {s.name};
		write_row_description(out, names, 1);
		return;
	}
	buf_append(out, (const uint8_t[]){BE_NO_DATA, 0, 0, 0, 4}, 5);
}

bool local_tells_token(struct slice text)
{
	struct set_stmt s;
	return parse_one(text, &s) && s.kind == SET_SHOW &&
	       (strcmp(s.name, PREFIX "token") == 0 || is_read_after(s.name));
}

bool local_needs_sample(struct client *c)
{
	struct position at;
	struct session_mark *mark = client_mark(c);
	session_settle(mark, &c->worker->fleet);
	return !session_position(mark, &c->worker->fleet, &at);
}

bool local_execute(struct client *c, struct slice text, bool simple, struct buf *out)
{
	struct local_error e = {.sqlstate = "42601", .message = "syntax error"};
	struct set_stmt s;
	bool ok = parse_one(text, &s);
	const char *tag = "SET";
	if (!ok) {
		/* fall through to the error */
	} else if (s.kind == SET_SHOW) {
		char value[TOKEN_TEXT_MAX];
		ok = show(c, s.name, value, sizeof(value), &e);
		if (ok) {
			if (simple)
				local_describe(text, out);
			struct slice v = slice_str(value);
			write_data_row(out, &v, 1);
			tag = "SHOW";
		}
	} else if (s.kind == SET_DEALLOCATE) {
		struct stmt *old = client_stmts_remove(&c->stmts, slice_str(s.name));
		if (old)
			stmt_put(c->account->database->cache, old);
		tag = "DEALLOCATE";
	} else if (s.kind == SET_RESET) {
		ok = local_reset(c, s.name, &e);
		tag = "RESET";
	} else if (!s.value_ok && is_read_after(s.name)) {
		tokens_read_after(c, NULL);
	} else if (!s.value_ok) {
		ok = fail(&e, "22023", "%s must be set to a plain constant", s.name);
	} else {
		ok = local_set(c, s.name, s.value, &e);
	}

	if (ok)
		write_command_complete(out, tag);
	else
		write_error(out, "ERROR", e.sqlstate, e.message, NULL);
	return ok;
}
