/* SPDX-License-Identifier: PostgreSQL */
#include "questions.h"

#include "server.h"
#include "unseen.h"

#define CAPTURE_NAME STMT_NAME_PREFIX "position"
#define GUARD_NAME STMT_NAME_PREFIX "replayed"

/* The insert position: never below the end of a commit that was acknowledged before it is asked,
 * whatever synchronous_commit was. Asked in a message of its own behind the statement's Sync:
 * inside the statement's transaction it would precede the commit record. */
static bool prepare_capture(struct worker *w)
{
	const char *sql = w->settings->policy.fault == FAULT_WRITE_POINTER
	                      ? "SELECT pg_catalog.pg_current_wal_lsn()"
	                      : "SELECT pg_catalog.pg_current_wal_insert_lsn()";
	/* A connection that was opened to a replica may live on as one to the primary. */
	const char *replica_sql =
		"SELECT CASE WHEN pg_catalog.pg_is_in_recovery()"
		" THEN pg_catalog.pg_last_wal_replay_lsn()"
		" ELSE pg_catalog.pg_current_wal_insert_lsn() END";
	struct slice name = slice_str(CAPTURE_NAME), none = {0};
	buf_init(&w->capture_parse, 512);
	buf_init(&w->capture_parse_replica, 512);
	buf_init(&w->capture_ask, 512);
	return write_parse(&w->capture_parse, name, slice_str(sql), none) &&
	       write_parse(&w->capture_parse_replica, name, slice_str(replica_sql), none) &&
	       write_bind_plain(&w->capture_ask, none, name, 1) &&
	       write_execute(&w->capture_ask, none) && write_sync(&w->capture_ask);
}

/* The replayed position, also of a standby that has been promoted since: there it stands still
 * where the old primary's log ended. */
static bool prepare_guard(struct worker *w)
{
	struct slice name = slice_str(GUARD_NAME), none = {0};
	buf_init(&w->guard_parse, 512);
	buf_init(&w->guard_ask, 512);
	return write_parse(&w->guard_parse, name,
	                   slice_str("SELECT pg_catalog.pg_last_wal_replay_lsn()"), none) &&
	       write_bind_plain(&w->guard_ask, none, name, 1) && write_execute(&w->guard_ask, none) &&
	       write_sync(&w->guard_ask);
}

bool questions_prepare(struct worker *w)
{
	return prepare_capture(w) && prepare_guard(w);
}

static bool send_capture_parse(struct forward *f)
{
	if (f->s->capture_prepared)
		return true;
	struct worker *w = f->c->worker;
	struct slice bytes =
		buf_slice(server_is_primary(f->s) ? &w->capture_parse : &w->capture_parse_replica);
	f->s->capture_prepared = true;
	chain_range(f->out, bytes.ptr, bytes.len);
	return forward_push(f, REPLY_PARSE, REPLY_NOBODY, TAG_CAPTURE_PARSE, NULL);
}

bool question_capture(struct forward *f)
{
	struct slice ask = buf_slice(&f->c->worker->capture_ask);
	if (!send_capture_parse(f) || !forward_push(f, REPLY_BIND, REPLY_NOBODY, TAG_CAPTURE, NULL) ||
	    !forward_push(f, REPLY_EXECUTE, REPLY_NOBODY, TAG_CAPTURE, NULL) ||
	    !forward_push(f, REPLY_SYNC, REPLY_NOBODY, TAG_CAPTURE, NULL))
		return false;
	chain_range(f->out, ask.ptr, ask.len);
	if (f->s->captures++ == 0)
		f->s->capture_asked_us = net_now_us();
	return true;
}

bool question_guard(struct forward *f)
{
	struct server *s = f->s;
	struct worker *w = f->c->worker;
	if (!s->guard_prepared) {
		chain_range(f->out, w->guard_parse.data, w->guard_parse.len);
		s->guard_prepared = true;
		if (!forward_push(f, REPLY_PARSE, REPLY_NOBODY, TAG_GUARD_PARSE, NULL))
			return false;
	}
	chain_range(f->out, w->guard_ask.data, w->guard_ask.len);
	s->guard_at = (struct position){0};
	s->guard_asked_us = net_now_us();
	/* Binding it replaces the unnamed portal, which nobody has outside a transaction. */
	return forward_push(f, REPLY_BIND, REPLY_NOBODY, TAG_GUARD, NULL) &&
	       forward_push(f, REPLY_EXECUTE, REPLY_NOBODY, TAG_GUARD, NULL) &&
	       forward_push(f, REPLY_SYNC, REPLY_NOBODY, TAG_GUARD, NULL);
}

bool question_capture_inside(struct forward *f)
{
	struct slice ask = buf_slice(&f->c->worker->capture_ask);
	if (!send_capture_parse(f) || !forward_push(f, REPLY_BIND, REPLY_NOBODY, TAG_CAPTURE, NULL) ||
	    !forward_push(f, REPLY_EXECUTE, REPLY_NOBODY, TAG_CAPTURE, NULL))
		return false;
	chain_range(f->out, ask.ptr, ask.len - FRAME_HEADER);
	return true;
}

static bool hide_question(struct forward *f, const char *name, bool *prepared)
{
	if (!*prepared)
		return true;
	struct buf close;
	buf_init(&close, 128);
	bool ok = write_close(&close, 'S', slice_str(name));
	chain_copy(f->out, close.data, close.len);
	buf_release(&close);
	*prepared = false;
	return ok && forward_push(f, REPLY_CLOSE, REPLY_NOBODY, TAG_PLAIN, NULL);
}

bool questions_hide(struct forward *f)
{
	struct server *s = f->s;
	bool some = s->unseen_prepared & 1 << UNSEEN_SOME, any = s->unseen_prepared & 1 << UNSEEN_ANY;
	s->unseen_prepared = 0;
	return hide_question(f, CAPTURE_NAME, &s->capture_prepared) &&
	       hide_question(f, GUARD_NAME, &s->guard_prepared) &&
	       hide_question(f, unseen_name(UNSEEN_SOME), &some) &&
	       hide_question(f, unseen_name(UNSEEN_ANY), &any);
}
