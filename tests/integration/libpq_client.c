/* SPDX-License-Identifier: PostgreSQL
 *
 * libpq in the ways drivers use it: pipeline mode with Sync and with PQsendFlushRequest, single-row
 * mode, prepared statements, COPY both ways, notices, cancel. Each case prints one line "ok NAME"
 * or "FAIL NAME: why"; the exit status is the number of failures.
 *
 *   libpq_client CONNINFO [CASE…]
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *conninfo;
static char failure[512];

static bool fail(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(failure, sizeof(failure), fmt, ap);
	va_end(ap);
	return false;
}

/* The next result, waiting no longer than 10 s, so that a hang is a failure and not a hang. */
static PGresult *next_result(PGconn *c)
{
	time_t end = time(NULL) + 10;
	PQflush(c);
	while (PQisBusy(c)) {
		struct pollfd p = {.fd = PQsocket(c), .events = POLLIN};
		if (time(NULL) > end || poll(&p, 1, 10000) <= 0 || !PQconsumeInput(c)) {
			fail("no answer: %s", PQerrorMessage(c));
			return NULL;
		}
	}
	return PQgetResult(c);
}

static bool expect(PGconn *c, ExecStatusType want, const char *value)
{
	PGresult *r = next_result(c);
	ExecStatusType got = PQresultStatus(r);
	bool ok = r && got == want;
	if (!ok)
		fail("expected %s, got %s %s", PQresStatus(want), r ? PQresStatus(got) : "nothing",
		     r ? PQresultErrorMessage(r) : "");
	else if (value && (PQntuples(r) < 1 || strcmp(PQgetvalue(r, 0, 0), value) != 0)) {
		ok =
			fail("expected value %s, got %s", value, PQntuples(r) ? PQgetvalue(r, 0, 0) : "no row");
	}
	PQclear(r);
	return ok;
}

/* The NULL that ends the results of one statement. */
static bool expect_end(PGconn *c)
{
	PGresult *r = next_result(c);
	if (!r)
		return true;
	bool ok = fail("expected the end of a statement, got %s", PQresStatus(PQresultStatus(r)));
	PQclear(r);
	return ok;
}

static bool run(PGconn *c, const char *sql)
{
	PGresult *r = PQexec(c, sql);
	ExecStatusType s = PQresultStatus(r);
	PQclear(r);
	return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK || fail("%s: %s", sql, PQerrorMessage(c));
}

static bool send_int(PGconn *c, const char *sql, const char *value)
{
	return PQsendQueryParams(c, sql, value ? 1 : 0, NULL, value ? &value : NULL, NULL, NULL, 0) ||
	       fail("%s: %s", sql, PQerrorMessage(c));
}

static bool pipeline(PGconn *c)
{
	char text[16];
	if (!PQenterPipelineMode(c))
		return fail("no pipeline mode");
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "%d", i);
		if (!send_int(c, "SELECT $1::int", text))
			return false;
		if (i % 10 == 9 && !PQpipelineSync(c))
			return fail("sync: %s", PQerrorMessage(c));
	}
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "%d", i);
		if (!expect(c, PGRES_TUPLES_OK, text) || !expect_end(c))
			return false;
		if (i % 10 == 9 && !expect(c, PGRES_PIPELINE_SYNC, NULL))
			return false;
	}
	return PQexitPipelineMode(c) || fail("exit: %s", PQerrorMessage(c));
}

static bool pipeline_flush_request(PGconn *c)
{
	if (!PQenterPipelineMode(c) || !send_int(c, "SELECT $1::int", "7") || !PQsendFlushRequest(c))
		return fail("%s", PQerrorMessage(c));
	/* The answer must come though no Sync was sent. */
	if (!expect(c, PGRES_TUPLES_OK, "7") || !expect_end(c))
		return false;
	if (!send_int(c, "SELECT $1::int", "8") || !PQsendFlushRequest(c) ||
	    !expect(c, PGRES_TUPLES_OK, "8") || !expect_end(c))
		return false;
	if (!PQpipelineSync(c) || !expect(c, PGRES_PIPELINE_SYNC, NULL))
		return false;
	return PQexitPipelineMode(c) || fail("exit: %s", PQerrorMessage(c));
}

static bool pipeline_write_then_read(PGconn *c)
{
	char text[16];
	if (!PQenterPipelineMode(c))
		return fail("no pipeline mode");
	for (int i = 0; i < 10; i++) {
		snprintf(text, sizeof(text), "%d", 1000 + i);
		if (!send_int(c, "UPDATE items SET n = $1::int WHERE id = 11", text) ||
		    !PQpipelineSync(c) || !send_int(c, "SELECT n FROM items WHERE id = 11", NULL) ||
		    !PQpipelineSync(c))
			return fail("send: %s", PQerrorMessage(c));
	}
	for (int i = 0; i < 10; i++) {
		snprintf(text, sizeof(text), "%d", 1000 + i);
		if (!expect(c, PGRES_COMMAND_OK, NULL) || !expect_end(c) ||
		    !expect(c, PGRES_PIPELINE_SYNC, NULL) || !expect(c, PGRES_TUPLES_OK, text) ||
		    !expect_end(c) || !expect(c, PGRES_PIPELINE_SYNC, NULL))
			return false;
	}
	return PQexitPipelineMode(c) || fail("exit: %s", PQerrorMessage(c));
}

static bool pipeline_error(PGconn *c)
{
	if (!PQenterPipelineMode(c))
		return fail("no pipeline mode");
	if (!send_int(c, "SELECT 1", NULL) || !send_int(c, "SELECT 1/0", NULL) ||
	    !send_int(c, "SELECT 2", NULL) || !PQpipelineSync(c) || !send_int(c, "SELECT 3", NULL) ||
	    !PQpipelineSync(c))
		return fail("send: %s", PQerrorMessage(c));
	if (!expect(c, PGRES_TUPLES_OK, "1") || !expect_end(c) || !expect(c, PGRES_FATAL_ERROR, NULL) ||
	    !expect_end(c) || !expect(c, PGRES_PIPELINE_ABORTED, NULL) || !expect_end(c) ||
	    !expect(c, PGRES_PIPELINE_SYNC, NULL) || !expect(c, PGRES_TUPLES_OK, "3") ||
	    !expect_end(c) || !expect(c, PGRES_PIPELINE_SYNC, NULL))
		return false;
	return PQexitPipelineMode(c) || fail("exit: %s", PQerrorMessage(c));
}

static bool single_row(PGconn *c)
{
	int count = 0;
	if (!PQsendQuery(c, "SELECT g FROM generate_series(1, 500) g") || !PQsetSingleRowMode(c))
		return fail("%s", PQerrorMessage(c));
	for (PGresult *r; (r = next_result(c)); PQclear(r)) {
		if (PQresultStatus(r) == PGRES_SINGLE_TUPLE && atol(PQgetvalue(r, 0, 0)) == count + 1)
			count++;
	}
	return count == 500 || fail("got %d of 500 rows", count);
}

static bool prepared(PGconn *c)
{
	const char *three = "3";
	PGresult *r = PQprepare(c, "pick", "SELECT v FROM items WHERE id = $1::int", 0, NULL);
	bool ok = PQresultStatus(r) == PGRES_COMMAND_OK || fail("prepare: %s", PQerrorMessage(c));
	PQclear(r);
	for (int i = 0; ok && i < 20; i++) {
		r = PQexecPrepared(c, "pick", 1, &three, NULL, NULL, 0);
		ok = (PQresultStatus(r) == PGRES_TUPLES_OK && strcmp(PQgetvalue(r, 0, 0), "v3") == 0) ||
		     fail("execute %d: %s", i, PQerrorMessage(c));
		PQclear(r);
	}
	if (!ok)
		return false;
	r = PQdescribePrepared(c, "pick");
	ok = (PQresultStatus(r) == PGRES_COMMAND_OK && PQnparams(r) == 1 && PQparamtype(r, 0) == 23 &&
	      strcmp(PQfname(r, 0), "v") == 0) ||
	     fail("describe: %s", PQerrorMessage(c));
	PQclear(r);
	return ok && run(c, "DEALLOCATE pick");
}

static bool copy_both_ways(PGconn *c)
{
	char line[64], *text;
	int rows = 0, n;
	if (!run(c, "DELETE FROM scratch"))
		return false;
	PGresult *r = PQexec(c, "COPY scratch FROM STDIN");
	bool ok = PQresultStatus(r) == PGRES_COPY_IN || fail("copy in: %s", PQerrorMessage(c));
	PQclear(r);
	for (int i = 0; ok && i < 1000; i++) {
		n = snprintf(line, sizeof(line), "%d\trow %d\n", i, i);
		ok = PQputCopyData(c, line, n) == 1 || fail("put: %s", PQerrorMessage(c));
	}
	if (!ok || PQputCopyEnd(c, NULL) != 1 || !expect(c, PGRES_COMMAND_OK, NULL) || !expect_end(c))
		return false;
	r = PQexec(c, "COPY scratch TO STDOUT");
	ok = PQresultStatus(r) == PGRES_COPY_OUT || fail("copy out: %s", PQerrorMessage(c));
	PQclear(r);
	while (ok && (n = PQgetCopyData(c, &text, 0)) > 0) {
		rows++;
		PQfreemem(text);
	}
	return ok && expect(c, PGRES_COMMAND_OK, NULL) && expect_end(c) &&
	       (rows == 1000 || fail("read %d of 1000 rows just written", rows));
}

static bool copy_failed_by_client(PGconn *c)
{
	PGresult *r = PQexec(c, "COPY scratch FROM STDIN");
	PQclear(r);
	if (PQputCopyData(c, "77777\tx\n", 8) != 1 || PQputCopyEnd(c, "changed my mind") != 1)
		return fail("put: %s", PQerrorMessage(c));
	return expect(c, PGRES_FATAL_ERROR, NULL) && expect_end(c) && run(c, "SELECT 1");
}

static int notices;

static void on_notice(void *arg, const PGresult *r)
{
	(void)arg;
	(void)r;
	notices++;
}

static bool notice(PGconn *c)
{
	notices = 0;
	PQsetNoticeReceiver(c, on_notice, NULL);
	return run(c, "DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'there'; END $$") &&
	       (notices == 2 || fail("got %d of 2 notices", notices));
}

static bool cancel(PGconn *c)
{
	char why[256];
	if (!PQsendQuery(c, "SELECT pg_sleep(30)"))
		return fail("%s", PQerrorMessage(c));
	nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
	PGcancel *handle = PQgetCancel(c);
	bool ok = PQcancel(handle, why, sizeof(why)) || fail("cancel: %s", why);
	PQfreeCancel(handle);
	if (!ok)
		return false;
	PGresult *r = next_result(c);
	const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
	ok = (state && strcmp(state, "57014") == 0) ||
	     fail("expected 57014, got %s", state ? state : "none");
	PQclear(r);
	return ok && expect_end(c) && run(c, "SELECT 1");
}

static bool large_values(PGconn *c)
{
	const size_t size = 3 * 1000 * 1000;
	char *big = malloc(size + 1);
	if (!big)
		return fail("no memory");
	memset(big, 'y', size);
	big[size] = '\0';
	const char *value = big;
	PGresult *r =
		PQexecParams(c, "SELECT $1::text, length($1::text)", 1, NULL, &value, NULL, NULL, 0);
	bool ok = (PQresultStatus(r) == PGRES_TUPLES_OK && strcmp(PQgetvalue(r, 0, 0), big) == 0 &&
	           strcmp(PQgetvalue(r, 0, 1), "3000000") == 0) ||
	          fail("%s", PQerrorMessage(c));
	PQclear(r);
	free(big);
	return ok;
}

static const struct {
	const char *name;
	bool (*fn)(PGconn *c);
} cases[] = {
	{"pipeline", pipeline},
	{"pipeline_flush_request", pipeline_flush_request},
	{"pipeline_write_then_read", pipeline_write_then_read},
	{"pipeline_error", pipeline_error},
	{"single_row", single_row},
	{"prepared", prepared},
	{"copy_both_ways", copy_both_ways},
	{"copy_failed_by_client", copy_failed_by_client},
	{"notice", notice},
	{"cancel", cancel},
	{"large_values", large_values},
};

int main(int argc, char **argv)
{
	int failures = 0;
	if (argc < 2) {
		fprintf(stderr, "usage: %s CONNINFO [CASE...]\n", argv[0]);
		return 100;
	}
	conninfo = argv[1];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool wanted = argc == 2;
		for (int a = 2; a < argc; a++)
			wanted |= strcmp(argv[a], cases[i].name) == 0;
		if (!wanted)
			continue;
		PGconn *c = PQconnectdb(conninfo);
		bool ok = PQstatus(c) == CONNECTION_OK || fail("connect: %s", PQerrorMessage(c));
		ok = ok && cases[i].fn(c);
		ok = ok && (PQtransactionStatus(c) == PQTRANS_IDLE || fail("left in a transaction"));
		if (ok)
			printf("ok %s\n", cases[i].name);
		else
			printf("FAIL %s: %s\n", cases[i].name, failure);
		failures += !ok;
		fflush(stdout);
		PQfinish(c);
	}
	return failures;
}
