/* SPDX-License-Identifier: PostgreSQL */
#include "unseen.h"

#include <stdlib.h>

#include "client.h"
#include "server.h"
#include "worker.h"

/* Operators and functions by their schema: the session's search_path may be anybody's. */
#define EQUALS " OPERATOR(pg_catalog.=) "

/* In hexadecimal digits, whatever the client's encoding and bytea_output are; NULL of NULL. */
#define DIGEST_OF(text) \
	"pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(" text \
	", pg_catalog.getdatabaseencoding())), 'hex')"

/* Of all settings that were set in this session, and of those of one's own that code speaks of, which are in no
 * list of the server's; NULL for none. */
#define SETTINGS(names) \
	"SELECT " DIGEST_OF("pg_catalog.string_agg(x.t, ',' ORDER BY x.t)") \
	" FROM (SELECT pg_catalog.concat(s.name, '=', pg_catalog.quote_literal(s.setting)) AS t" \
	" FROM pg_catalog.pg_show_all_settings() s WHERE s.source" EQUALS "'session'" \
	" UNION ALL SELECT pg_catalog.concat('$', n, '=', pg_catalog.quote_literal(v))" \
	" FROM pg_catalog.unnest(pg_catalog.string_to_array(" names ", ',')) AS n," \
	" pg_catalog.current_setting(n, true) AS v WHERE v OPERATOR(pg_catalog.<>) '') x"

/* Whatever lies in a schema depends on it. Two statements, as one with a parameter for the difference would be planned
 * anew each time, which costs more than it does. $1: names of settings of one's own. */
#define QUESTION(locks, settings) \
	"SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d" \
	" WHERE d.refclassid" EQUALS "'pg_catalog.pg_namespace'::pg_catalog.regclass" \
	" AND d.refobjid" EQUALS "pg_catalog.pg_my_temp_schema()" \
	" AND pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid)," \
	" EXISTS (SELECT FROM pg_catalog.pg_listening_channels())," \
	" EXISTS (SELECT FROM pg_catalog.pg_cursor() c WHERE c.is_holdable)," \
	" EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() p WHERE p.from_sql)," \
	" " locks ", " UNSEEN_WHO ", (" settings ")"
#define LOCKS \
	"EXISTS (SELECT FROM pg_catalog.pg_lock_status() l WHERE l.locktype" EQUALS "'advisory'" \
	" AND l.pid" EQUALS "pg_catalog.pg_backend_pid())"

/* Its columns: these, true or false, and then two digests. */
static const enum bind_reason found_by[] = {BIND_TEMP, BIND_LISTEN, BIND_HOLD, BIND_PREPARE,
                                            BIND_ADVISORY};
enum { COLUMN_WHO = sizeof(found_by) / sizeof(found_by[0]), COLUMN_SETTINGS };

bool unseen_prepare_question(struct worker *w)
{
	static const uint8_t text_oid[4] = {0, 0, 0, 25};
	struct buf *some = &w->unseen_parse[UNSEEN_SOME], *any = &w->unseen_parse[UNSEEN_ANY];
	buf_init(some, 4096);
	buf_init(any, 4096);
	return write_parse(some, slice_str(unseen_name(UNSEEN_SOME)),
	                   slice_str(QUESTION("false", "SELECT NULL::pg_catalog.text")),
	                   (struct slice){0}) &&
	       write_parse(any, slice_str(unseen_name(UNSEEN_ANY)),
	                   slice_str(QUESTION(LOCKS, SETTINGS("$1"))),
	                   slice_of(text_oid, sizeof(text_oid)));
}

const char *unseen_name(enum unseen question)
{
	return question == UNSEEN_ANY ? STMT_NAME_PREFIX "unseen_all" : STMT_NAME_PREFIX "unseen";
}

static struct catalog *catalog_of(const struct server *s)
{
	return s->pool->account->database->catalog;
}

void unseen_note(struct server *s, uint64_t user, struct traits t, struct slice text)
{
	if (!(t.flags & TRAIT_USER_CODE))
		return;
	if (t.flags & TRAIT_CODE_SETS) {
		s->unseen = UNSEEN_ANY;
		s->sets_user = s->sets_user == 0 || s->sets_user == user ? user : UINT64_MAX;
		catalog_learn_custom(catalog_of(s), text);
	} else if (s->unseen == UNSEEN_NOTHING) {
		s->unseen = UNSEEN_SOME;
	}
	if (!s->suspect)
		s->suspect = malloc(BRIEF_MAX);
	if (s->suspect)
		sql_brief(text, s->suspect);
}

/* ------------------------------------------------------------------- asking */

static bool push(struct server *s, struct reply e)
{
	e.to = REPLY_NOBODY;
	return replies_push(&s->replies, e);
}

static bool send_parse(struct server *s, struct buf *out)
{
	const struct buf *parse = &s->worker->unseen_parse[s->unseen];
	uint8_t bit = (uint8_t)(1 << s->unseen);
	if (s->unseen_prepared & bit)
		return true;
	s->unseen_prepared |= bit;
	return buf_append(out, parse->data, parse->len) &&
	       push(s, (struct reply){.kind = REPLY_PARSE, .tag = TAG_UNSEEN_PARSE, .bits = bit});
}

static bool send_question(struct server *s)
{
	struct slice unnamed = {0}, name = slice_str(unseen_name(s->unseen));
	struct buf out;
	buf_init(&out, 8192 + CATALOG_CUSTOM_MAX);
	bool ok = send_parse(s, &out);
	if (s->unseen == UNSEEN_ANY)
		ok = ok && write_bind_text(&out, unnamed, name, catalog_custom_names(catalog_of(s)), 1);
	else
		ok = ok && write_bind_plain(&out, unnamed, name, 1);
	ok = ok && write_execute(&out, unnamed) && write_sync(&out) &&
	     push(s, (struct reply){.kind = REPLY_BIND}) &&
	     push(s, (struct reply){.kind = REPLY_EXECUTE}) &&
	     push(s, (struct reply){.kind = REPLY_SYNC}) && server_send(s, &out);
	buf_release(&out);
	return ok;
}

static bool send_query(struct server *s, const struct buf *sql)
{
	struct buf out;
	buf_init(&out, VARS_BYTES * 4);
	bool ok = !sql->overflow && write_query(&out, buf_slice(sql)) &&
	          push(s, (struct reply){.kind = REPLY_QUERY}) && server_send(s, &out);
	buf_release(&out);
	return ok;
}

static bool append_settings(struct buf *sql, struct slice names)
{
	static const char text[] = SETTINGS("'?'");
	const char *mark = strstr(text, "'?'") + 1;
	/* The names hold no quotes. */
	return buf_append(sql, text, (size_t)(mark - text)) &&
	       (names.len == 0 || buf_append(sql, names.ptr, names.len)) && buf_append_str(sql, mark + 1);
}

/* The settings as they would be if nobody but the client, by its own SETs, had set any. */
static bool send_comparison(struct server *s)
{
	struct buf sql;
	buf_init(&sql, VARS_BYTES * 3 + CATALOG_CUSTOM_MAX);
	bool ok = buf_append_str(&sql, "BEGIN;RESET ALL;") &&
	          vars_diff(s->worker->vars.none, s->vars, &sql) &&
	          append_settings(&sql, catalog_custom_names(catalog_of(s))) &&
	          buf_append_str(&sql, ";ROLLBACK") && send_query(s, &sql);
	buf_release(&sql);
	return ok;
}

static bool send_rollback(struct server *s)
{
	struct buf sql;
	buf_init(&sql, 64);
	bool ok = buf_append_str(&sql, "ROLLBACK") && send_query(s, &sql);
	buf_release(&sql);
	return ok;
}

static void step(struct server *s, enum unseen_step next)
{
	s->unseen_step = (uint8_t)next;
	s->own_failed = s->row_seen = false;
	bool ok = next == UNSEEN_ASKS       ? send_question(s)
	          : next == UNSEEN_COMPARES ? send_comparison(s)
	                                    : send_rollback(s);
	if (!ok)
		server_close(s, "the server closed the connection");
}

void unseen_ask(struct server *s)
{
	s->worker->stats.unseen_asked++;
	if (s->on_replica || !s->vars) {
		s->unseen = UNSEEN_NOTHING;
		if (s->client)
			s->client->server = NULL;
		server_reset(s);
		return;
	}
	s->state = SERVER_UNSEEN;
	s->unseen_asked_us = net_loop_now_us(s->worker->loop);
	s->found = BIND_NONE;
	/* The client may be slow to take its answers; this one is not for it. */
	net_stream_want(s->stream, net_stream_wanted(s->stream) | NET_READABLE);
	step(s, UNSEEN_ASKS);
}

/* ------------------------------------------------------------------ answers */

/* False: neither a digest nor NULL. */
static bool take_digest(struct slice body, int column, struct digest *d)
{
	struct slice value;
	if (!msg_data_row_column(body, column, &value) || (value.ptr && value.len != sizeof(d->hex)))
		return false;
	*d = (struct digest){.known = true, .is_null = !value.ptr};
	if (value.ptr)
		memcpy(d->hex, value.ptr, sizeof(d->hex));
	return true;
}

static bool same(const struct digest *a, const struct digest *b)
{
	return a->known && b->known && a->is_null == b->is_null &&
	       memcmp(a->hex, b->hex, sizeof(a->hex)) == 0;
}

bool unseen_take_who(struct server *s, struct slice body, int column)
{
	return take_digest(body, column, &s->who);
}

static bool take_answer(struct server *s, struct slice body)
{
	struct slice value;
	struct digest who;
	for (int i = 0; i < COLUMN_WHO; i++) {
		if (!msg_data_row_column(body, i, &value) || !value.ptr || value.len != 1)
			return false;
		if (value.ptr[0] && !s->found)
			s->found = (uint8_t)found_by[i];
	}
	if (!take_digest(body, COLUMN_WHO, &who) || !take_digest(body, COLUMN_SETTINGS, &s->set_here))
		return false;
	if (!s->found && !same(&who, &s->who))
		s->found = BIND_ROLE;
	return true;
}

void unseen_row(struct server *s, struct slice body)
{
	s->own_failed = s->unseen_step == UNSEEN_ASKS ? !take_answer(s, body)
	                                              : !take_digest(body, 0, &s->vars->digest);
	s->row_seen = true;
}

static bool settings_as_expected(const struct server *s)
{
	bool nothing = s->vars->count == 0 && s->set_here.known && s->set_here.is_null;
	return nothing || same(&s->set_here, &s->vars->digest);
}

/* Nobody is here any more who could be bound. */
static void settle_alone(struct server *s, bool clean)
{
	if (clean)
		server_release(s);
	else
		server_reset(s);
}

static void verdict(struct server *s, enum bind_reason found)
{
	struct client *c = s->client;
	bool clean = found == BIND_NONE;
	if (clean || found != BIND_UNSEEN)
		s->unseen = UNSEEN_NOTHING;
	s->worker->stats.unseen_found += !clean;
	if (!c) {
		settle_alone(s, clean);
		return;
	}
	if (c->bound == BIND_UNSEEN)
		client_unbind(c);
	if (clean) {
		c->server = NULL;
		server_release(s);
	} else {
		s->state = SERVER_ACTIVE;
		client_bind_by(c, found, s->suspect);
	}
	client_kick(c);
}

void unseen_answered(struct server *s)
{
	bool rolls_back = s->unseen_step == UNSEEN_ROLLS_BACK;
	if (s->own_failed && s->replies.tx != TX_IDLE && !rolls_back) {
		step(s, UNSEEN_ROLLS_BACK);
		return;
	}
	if (s->own_failed || rolls_back || !s->row_seen) {
		verdict(s, BIND_UNSEEN);
		return;
	}
	bool asked_settings = s->unseen == UNSEEN_ANY && !s->found;
	if (asked_settings && !settings_as_expected(s)) {
		/* What is known of them may be of another database, or of before another name was learnt. */
		if (s->unseen_step == UNSEEN_ASKS) {
			step(s, UNSEEN_COMPARES);
			return;
		}
		s->found = BIND_SET_CONFIG;
	}
	verdict(s, (enum bind_reason)s->found);
}

void unseen_tend(struct server *s, int64_t now_us)
{
	if (s->client && now_us - s->unseen_asked_us > UNSEEN_LATE_US)
		client_bind_by(s->client, BIND_UNSEEN, s->suspect);
}

void unseen_left_alone(struct server *s)
{
	s->client->server = NULL;
	s->client = NULL;
}
