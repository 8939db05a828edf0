/* SPDX-License-Identifier: PostgreSQL
 *
 * Tokens to and from a libpq connection. The invariant: a connection that is not idle is left as it
 * is, so that asking can neither abort a transaction nor swallow somebody's result.
 */
#include "text.h"

#include <libpq-fe.h>
#include <stdio.h>

#define TOKEN_SETTING "tidemark.token"
#define UNDEFINED_OBJECT "42704"

static enum tidemark_status judge_state(PGconn *conn)
{
	if (PQstatus(conn) != CONNECTION_OK)
		return TIDEMARK_NO_CONNECTION;
	if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
		return TIDEMARK_IN_PIPELINE;
	switch (PQtransactionStatus(conn)) {
	case PQTRANS_IDLE:
		return TIDEMARK_OK;
	case PQTRANS_INTRANS:
	case PQTRANS_INERROR:
		return TIDEMARK_IN_TRANSACTION;
	case PQTRANS_ACTIVE:
		return TIDEMARK_BUSY;
	default:
		return TIDEMARK_NO_CONNECTION;
	}
}

/* The characters of every version's tokens and lists. None of them needs quoting in SQL, in a
 * comment, in a header or in a cookie. */
static bool is_token_text(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (!text_is_base64url(text.ptr[i]) && !memchr(",/.", text.ptr[i], 3))
			return false;
	}
	return text.len <= TOKEN_LIST_TEXT_MAX;
}

/* ---- statements ---- */

static enum tidemark_status judge_result(PGconn *conn, const PGresult *r, ExecStatusType want)
{
	if (PQstatus(conn) != CONNECTION_OK)
		return TIDEMARK_NO_CONNECTION;
	if (PQresultStatus(r) == want)
		return TIDEMARK_OK;
	const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	return sqlstate && strcmp(sqlstate, UNDEFINED_OBJECT) == 0 ? TIDEMARK_NOT_A_ROUTER
	                                                           : TIDEMARK_REFUSED;
}

/* PostgreSQL lets any client SET tidemark.read_after, and means nothing by it. Nobody sets this one
 * (and the router refuses to), so only a router can show it. */
static enum tidemark_status ask_whether_router(PGconn *conn)
{
	PGresult *r = PQexec(conn, "SHOW tidemark.route");
	enum tidemark_status s = judge_result(conn, r, PGRES_TUPLES_OK);
	PQclear(r);
	return s;
}

static enum tidemark_status show_token(PGconn *conn, char *out, size_t cap)
{
	PGresult *r = PQexec(conn, "SHOW " TOKEN_SETTING);
	enum tidemark_status s = judge_result(conn, r, PGRES_TUPLES_OK);
	if (s == TIDEMARK_OK && (PQntuples(r) != 1 || PQnfields(r) != 1))
		s = TIDEMARK_NOT_A_ROUTER;
	struct slice text = s == TIDEMARK_OK ? slice_str(PQgetvalue(r, 0, 0)) : (struct slice){0};
	if (!is_token_text(text))
		s = TIDEMARK_NOT_A_ROUTER;
	s = s == TIDEMARK_OK ? text_put(text, out, cap) : text_fail(s, out, cap);
	PQclear(r);
	return s;
}

/* ---- the two helpers ---- */

/* The word, or a signed token that says so. */
static bool says_primary(struct slice text)
{
	struct token t;
	struct token_header h;
	return slice_eq_str(text, TOKEN_PRIMARY_TEXT) || (token_read(text, &t, &h) && t.primary);
}

/* False: nothing was reported, or only that the position was not known then. The router reports the
 * empty text when reporting ends, so that what it said before is not taken for its last word. */
static bool reported_token(const PGconn *conn, struct slice *text)
{
	*text = slice_str(PQparameterStatus(conn, TOKEN_SETTING));
	return text->len > 0 && is_token_text(*text) && !says_primary(*text);
}

enum tidemark_status tidemark_after_write(PGconn *conn, char *out, size_t cap)
{
	struct slice reported;
	enum tidemark_status s = judge_state(conn);
	if (s != TIDEMARK_OK)
		return text_fail(s, out, cap);
	if (reported_token(conn, &reported))
		return text_put(reported, out, cap);
	return show_token(conn, out, cap);
}

enum tidemark_status tidemark_read_after(PGconn *conn, const char *token)
{
	static const char before[] = "SET tidemark.read_after = '";
	char sql[sizeof(before) + TIDEMARK_LIST_SIZE + sizeof("'")];
	struct slice text = text_slice(token);

	if (text.len == 0)
		return TIDEMARK_OK;
	if (!is_token_text(text))
		return TIDEMARK_MALFORMED;
	enum tidemark_status s = judge_state(conn);
	if (s == TIDEMARK_OK && !PQparameterStatus(conn, TOKEN_SETTING))
		s = ask_whether_router(conn);
	if (s != TIDEMARK_OK)
		return s;
	snprintf(sql, sizeof(sql), "%s%.*s'", before, SLICE_ARG(text));
	PGresult *r = PQexec(conn, sql);
	s = judge_result(conn, r, PGRES_COMMAND_OK);
	PQclear(r);
	return s;
}
