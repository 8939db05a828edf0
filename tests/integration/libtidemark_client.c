/* SPDX-License-Identifier: PostgreSQL
 *
 * libtidemark against real servers.
 *
 *   libtidemark_client rounds WRITER READER N report|show|none
 *       N times: write through WRITER, read through READER, after the token (reported, or asked
 * for) or without one. Prints "reads=N stale=N replica=N". libtidemark_client CASE CONNINFO One of
 * the cases below: "ok CASE", or "FAIL CASE: why" and status 1.
 */
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark.h>

static char failure[1024];
static const char *conninfo_of_case;

static bool fail(const char *fmt, ...)
{
	va_list ap;
	if (failure[0])
		return false;
	va_start(ap, fmt);
	vsnprintf(failure, sizeof(failure), fmt, ap);
	va_end(ap);
	return false;
}

static PGconn *connect_with(const char *conninfo, const char *options)
{
	const char *names[] = {"options", "dbname", NULL};
	const char *values[] = {options, conninfo, NULL};
	PGconn *c = PQconnectdbParams(names, values, 1);
	if (PQstatus(c) != CONNECTION_OK) {
		fprintf(stderr, "%s", PQerrorMessage(c));
		exit(2);
	}
	return c;
}

static bool run(PGconn *c, const char *sql)
{
	PGresult *r = PQexec(c, sql);
	ExecStatusType s = PQresultStatus(r);
	PQclear(r);
	return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK || fail("%s: %s", sql, PQerrorMessage(c));
}

static bool value(PGconn *c, const char *sql, char *out, size_t cap)
{
	PGresult *r = PQexec(c, sql);
	bool ok = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1;
	if (ok)
		snprintf(out, cap, "%s", PQgetvalue(r, 0, 0));
	else
		fail("%s: %s", sql, PQerrorMessage(c));
	PQclear(r);
	return ok;
}

static bool expect(const char *what, enum tidemark_status got, enum tidemark_status want)
{
	return got == want || fail("%s: expected \"%s\", got \"%s\"", what, tidemark_strerror(want),
	                           tidemark_strerror(got));
}

static bool expect_value(PGconn *c, const char *sql, const char *want)
{
	char got[TIDEMARK_LIST_SIZE];
	return value(c, sql, got, sizeof(got)) &&
	       (strcmp(got, want) == 0 || fail("%s: expected %s, got %s", sql, want, got));
}

/* ================= rounds ================= */

/* The token behind a write on `w`, as `how` says. `via` is told to read after it and asked for its
 * own token in turn, having done nothing else. */
static bool carry(PGconn *w, PGconn *via, PGconn *r, const char *how)
{
	char token[TIDEMARK_LIST_SIZE];
	if (strcmp(how, "none") == 0)
		return true;
	if (!expect("after_write", tidemark_after_write(w, token, sizeof(token)), TIDEMARK_OK))
		return false;
	if (strcmp(how, "relay") == 0 &&
	    !(expect("read_after", tidemark_read_after(via, token), TIDEMARK_OK) &&
	      expect("after_write", tidemark_after_write(via, token, sizeof(token)), TIDEMARK_OK)))
		return false;
	return expect("read_after", tidemark_read_after(r, token), TIDEMARK_OK);
}

static int rounds(const char *writer, const char *reader, int n, const char *how)
{
	char sql[128], got[64], *at;
	int stale = 0, replica = 0;
	PGconn *w = connect_with(writer, strcmp(how, "report") == 0 ? "-c tidemark.report=on" : "");
	PGconn *via = connect_with(writer, "-c tidemark.report=on");
	PGconn *r = connect_with(reader, "");

	run(via, "SELECT public.node_name()");
	for (int i = 0; i < n && !failure[0]; i++) {
		snprintf(sql, sizeof(sql), "UPDATE items SET n = %d WHERE id = 77", i);
		if (!run(w, sql) || !carry(w, via, r, how) ||
		    !value(r, "SELECT n || ' ' || public.node_name() FROM items WHERE id = 77", got,
		           sizeof(got)))
			break;
		stale += strtol(got, &at, 10) != i;
		replica += strcmp(at, " primary") != 0;
	}
	PQfinish(r);
	PQfinish(via);
	PQfinish(w);
	printf("reads=%d stale=%d replica=%d\n", n, stale, replica);
	if (failure[0])
		fprintf(stderr, "%s\n", failure);
	return failure[0] != '\0';
}

/* ================= cases ================= */

/* Neither does anything to the connection, and the token is "primary". */
static bool both_refuse(PGconn *c, enum tidemark_status want)
{
	char out[TIDEMARK_LIST_SIZE] = "";
	return expect("after_write", tidemark_after_write(c, out, sizeof(out)), want) &&
	       (strcmp(out, "primary") == 0 || fail("the token is \"%s\"", out)) &&
	       expect("read_after", tidemark_read_after(c, "primary"), want);
}

static bool both_work(PGconn *c)
{
	char out[TIDEMARK_LIST_SIZE] = "";
	return expect("after_write", tidemark_after_write(c, out, sizeof(out)), TIDEMARK_OK) &&
	       (out[0] != '\0' || fail("no token")) &&
	       expect("read_after", tidemark_read_after(c, out), TIDEMARK_OK);
}

static bool in_a_transaction(PGconn *c)
{
	return run(c, "BEGIN") && both_refuse(c, TIDEMARK_IN_TRANSACTION) &&
	       run(c, "UPDATE items SET n = -1 WHERE id = 78") &&
	       both_refuse(c, TIDEMARK_IN_TRANSACTION) && run(c, "COMMIT") && both_work(c) &&
	       expect_value(c, "SELECT n FROM items WHERE id = 78", "-1");
}

static bool in_a_failed_transaction(PGconn *c)
{
	bool ok = run(c, "BEGIN") && run(c, "SAVEPOINT s");
	PQclear(PQexec(c, "SELECT 1/0"));
	return ok && both_refuse(c, TIDEMARK_IN_TRANSACTION) && run(c, "ROLLBACK TO s") &&
	       run(c, "UPDATE items SET n = -2 WHERE id = 78") && run(c, "COMMIT") && both_work(c) &&
	       expect_value(c, "SELECT n FROM items WHERE id = 78", "-2");
}

static bool in_pipeline_mode(PGconn *c)
{
	bool ok = PQenterPipelineMode(c) && both_refuse(c, TIDEMARK_IN_PIPELINE) &&
	          PQsendQueryParams(c, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0) && PQpipelineSync(c) &&
	          both_refuse(c, TIDEMARK_IN_PIPELINE);
	PGresult *r = PQgetResult(c);
	ok = ok && (PQresultStatus(r) == PGRES_TUPLES_OK || fail("the result of the pipeline is lost"));
	PQclear(r);
	PQclear(PQgetResult(c));
	PQclear(PQgetResult(c));
	return ok && (PQexitPipelineMode(c) || fail("%s", PQerrorMessage(c))) && both_work(c);
}

static bool while_a_command_runs(PGconn *c)
{
	bool ok = PQsendQuery(c, "SELECT 41 + 1; SELECT 43") && both_refuse(c, TIDEMARK_BUSY);
	PGresult *r = PQgetResult(c);
	ok = ok && ((PQresultStatus(r) == PGRES_TUPLES_OK && strcmp(PQgetvalue(r, 0, 0), "42") == 0) ||
	            fail("the result of the command is lost"));
	PQclear(r);
	ok = ok && both_refuse(c, TIDEMARK_BUSY);
	while ((r = PQgetResult(c)))
		PQclear(r);
	return ok && both_work(c);
}

static bool while_copying(PGconn *c)
{
	PGresult *r = PQexec(c, "COPY scratch FROM STDIN");
	bool ok = (PQresultStatus(r) == PGRES_COPY_IN || fail("%s", PQerrorMessage(c))) &&
	          both_refuse(c, TIDEMARK_BUSY);
	PQclear(r);
	PQputCopyEnd(c, "no more");
	while ((r = PQgetResult(c)))
		PQclear(r);
	return ok && both_work(c);
}

static bool nonblocking(PGconn *c)
{
	return run(c, "SELECT n FROM items") && PQsetnonblocking(c, 1) == 0 && both_work(c) &&
	       (PQisnonblocking(c) || fail("it blocks now"));
}

/* PostgreSQL takes any setting with a dot in its name: it must not pass for a router, nor keep one.
 */
static bool plain_postgres(PGconn *c)
{
	return run(c, "SET tidemark.read_after = 'before'") && both_refuse(c, TIDEMARK_NOT_A_ROUTER) &&
	       (strstr(PQerrorMessage(c), "tidemark.route") || fail("\"%s\"", PQerrorMessage(c))) &&
	       (PQtransactionStatus(c) == PQTRANS_IDLE || fail("not idle any more")) &&
	       expect_value(c, "SHOW tidemark.read_after", "before");
}

static bool plain_postgres_in_a_transaction(PGconn *c)
{
	return run(c, "BEGIN") && both_refuse(c, TIDEMARK_IN_TRANSACTION) && run(c, "SELECT 1") &&
	       run(c, "COMMIT");
}

/* Somebody has even set the token: it is shown, but it is not one. */
static bool plain_postgres_with_a_made_up_token(PGconn *c)
{
	char out[TIDEMARK_LIST_SIZE];
	return run(c, "SET tidemark.token = 'not a token'") &&
	       expect("after_write", tidemark_after_write(c, out, sizeof(out)),
	              TIDEMARK_NOT_A_ROUTER) &&
	       (strcmp(out, "primary") == 0 || fail("the token is \"%s\"", out));
}

static bool a_broken_connection(PGconn *c)
{
	PQclear(PQexec(c, "SELECT pg_terminate_backend(pg_backend_pid())"));
	PQclear(PQexec(c, "SELECT 1"));
	return (PQstatus(c) == CONNECTION_BAD || fail("the connection is still there")) &&
	       both_refuse(c, TIDEMARK_NO_CONNECTION);
}

static bool terminate(const char *conninfo, int pid)
{
	char sql[64];
	PGconn *c = connect_with(conninfo, "");
	snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d, 5000)", pid);
	bool ok = run(c, sql);
	PQfinish(c);
	return ok;
}

/* The server has ended the connection, and libpq does not know yet. */
static bool a_connection_that_breaks(PGconn *c)
{
	return terminate(conninfo_of_case, PQbackendPID(c)) &&
	       (PQstatus(c) == CONNECTION_OK || fail("libpq knows already")) &&
	       both_refuse(c, TIDEMARK_NO_CONNECTION);
}

/* What was reported must not pass for the token of what is written after reporting has ended. */
static bool reporting_ends(PGconn *c)
{
	static const char *const ends[] = {"SET tidemark.report = off", "DISCARD ALL", "RESET ALL"};
	char before[TIDEMARK_LIST_SIZE], after[TIDEMARK_LIST_SIZE];
	for (int i = 0; i < 3; i++) {
		if (!run(c, "SET tidemark.report = on") ||
		    !run(c, "UPDATE items SET n = n + 1 WHERE id = 78") ||
		    !expect("after_write", tidemark_after_write(c, before, sizeof(before)), TIDEMARK_OK) ||
		    !run(c, ends[i]) || !run(c, "UPDATE items SET n = n + 1 WHERE id = 78") ||
		    !expect("after_write", tidemark_after_write(c, after, sizeof(after)), TIDEMARK_OK))
			return false;
		if (strcmp(before, after) == 0)
			return fail("behind %s the old token %s passes for the new one", ends[i], after);
		if (!expect_value(c, "SHOW tidemark.token", after))
			return false;
	}
	return true;
}

/* A reported token is used as it is: nothing is sent. */
static bool a_reported_token_costs_no_round_trip(PGconn *c)
{
	char out[TIDEMARK_LIST_SIZE], small[4] = "###";
	bool ok = run(c, "SET tidemark.report = on") && run(c, "UPDATE items SET n = 5 WHERE id = 78");
	const char *reported = PQparameterStatus(c, "tidemark.token");
	ok = ok && (reported || fail("nothing was reported"));
	FILE *trace = ok ? tmpfile() : NULL;
	if (!trace)
		return fail("no temporary file");
	PQtrace(c, trace);
	ok = expect("after_write", tidemark_after_write(c, out, sizeof(out)), TIDEMARK_OK) &&
	     (strcmp(out, reported) == 0 || fail("%s, but %s was reported", out, reported)) &&
	     expect("size - 1", tidemark_after_write(c, out, strlen(reported)), TIDEMARK_TOO_SMALL) &&
	     (strcmp(out, "primary") == 0 || fail("the token is \"%s\"", out)) &&
	     expect("size", tidemark_after_write(c, out, strlen(reported) + 1), TIDEMARK_OK) &&
	     expect("tiny", tidemark_after_write(c, small, sizeof(small)), TIDEMARK_TOO_SMALL) &&
	     (small[0] == '\0' || fail("\"%.4s\"", small)) &&
	     (ftell(trace) == 0 || fail("something was sent"));
	PQuntrace(c);
	fclose(trace);
	return ok;
}

/* Asked for, it has to fit as well. */
static bool a_shown_token_has_to_fit(PGconn *c)
{
	char out[TIDEMARK_LIST_SIZE];
	if (!run(c, "UPDATE items SET n = 6 WHERE id = 78") ||
	    !expect("after_write", tidemark_after_write(c, out, sizeof(out)), TIDEMARK_OK))
		return false;
	size_t fits = strlen(out) + 1;
	return expect("size - 1", tidemark_after_write(c, out, fits - 1), TIDEMARK_TOO_SMALL) &&
	       (strcmp(out, "primary") == 0 || fail("the token is \"%s\"", out)) &&
	       expect("size", tidemark_after_write(c, out, fits), TIDEMARK_OK);
}

/* Refused before it is sent: a PQtrace() would have it. */
static bool what_is_no_token_is_not_sent(PGconn *c)
{
	static const char *const bad[] = {"'",   "a b", "a'; DROP TABLE items; --",
	                                  "a\\", "a\n", "\xc3\xa4"};
	FILE *trace = tmpfile();
	bool ok = trace != NULL;
	if (ok)
		PQtrace(c, trace);
	for (size_t i = 0; ok && i < sizeof(bad) / sizeof(bad[0]); i++)
		ok = expect(bad[i], tidemark_read_after(c, bad[i]), TIDEMARK_MALFORMED);
	ok = ok && expect("empty", tidemark_read_after(c, ""), TIDEMARK_OK) &&
	     expect("NULL", tidemark_read_after(c, NULL), TIDEMARK_OK) &&
	     (ftell(trace) == 0 || fail("something was sent"));
	PQuntrace(c);
	if (trace)
		fclose(trace);
	return ok && run(c, "SELECT count(*) FROM items");
}

/* Nobody's token, of a token's letters: never an error. As long as a list can be. */
static bool an_unbelieved_token_is_no_error(PGconn *c)
{
	static char longest[TIDEMARK_LIST_SIZE];
	memset(longest, 'A', sizeof(longest) - 1);
	return expect("unknown", tidemark_read_after(c, "AAAA"), TIDEMARK_OK) &&
	       expect("primary", tidemark_read_after(c, "primary"), TIDEMARK_OK) &&
	       expect("list", tidemark_read_after(c, "AAAA,primary,t0-1-2-0/0"), TIDEMARK_OK) &&
	       expect("longest", tidemark_read_after(c, longest), TIDEMARK_OK) &&
	       expect_value(c, "SELECT public.node_name()", "primary");
}

/* A session without a position yet. */
static bool a_fresh_session_has_a_token(PGconn *c)
{
	char out[TIDEMARK_LIST_SIZE];
	return expect("after_write", tidemark_after_write(c, out, sizeof(out)), TIDEMARK_OK) &&
	       expect("read_after", tidemark_read_after(c, out), TIDEMARK_OK);
}

static const struct {
	const char *name;
	bool (*run)(PGconn *c);
} cases[] = {
	{"in_a_transaction", in_a_transaction},
	{"in_a_failed_transaction", in_a_failed_transaction},
	{"in_pipeline_mode", in_pipeline_mode},
	{"while_a_command_runs", while_a_command_runs},
	{"while_copying", while_copying},
	{"nonblocking", nonblocking},
	{"reporting_ends", reporting_ends},
	{"a_reported_token_costs_no_round_trip", a_reported_token_costs_no_round_trip},
	{"a_shown_token_has_to_fit", a_shown_token_has_to_fit},
	{"what_is_no_token_is_not_sent", what_is_no_token_is_not_sent},
	{"an_unbelieved_token_is_no_error", an_unbelieved_token_is_no_error},
	{"a_fresh_session_has_a_token", a_fresh_session_has_a_token},
	{"plain_postgres", plain_postgres},
	{"plain_postgres_in_a_transaction", plain_postgres_in_a_transaction},
	{"plain_postgres_with_a_made_up_token", plain_postgres_with_a_made_up_token},
	{"a_broken_connection", a_broken_connection},
	{"a_connection_that_breaks", a_connection_that_breaks},
};

static int run_case(const char *name, const char *conninfo)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(cases[i].name, name) != 0)
			continue;
		conninfo_of_case = conninfo;
		PGconn *c = connect_with(conninfo, "");
		bool ok = cases[i].run(c);
		PQfinish(c);
		if (ok)
			printf("ok %s\n", name);
		else
			printf("FAIL %s: %s\n", name, failure);
		return !ok;
	}
	fprintf(stderr, "no such case: %s\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "rounds") == 0)
		return rounds(argv[2], argv[3], (int)strtol(argv[4], NULL, 10), argv[5]);
	if (argc == 3)
		return run_case(argv[1], argv[2]);
	fprintf(stderr, "usage: see the source\n");
	return 2;
}
