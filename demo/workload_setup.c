/* SPDX-License-Identifier: PostgreSQL
 *
 * The table of the workload, made and seen by all before a run begins.
 */
#include "workload.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VISIBLE_LIMIT_MS 30000
#define POLL_MS 20

/* Half-empty pages keep updates on their page (HOT). The function is for --write-function. */
static const char *const schema[] = {
	"CREATE TABLE IF NOT EXISTS tm_ryw (key int PRIMARY KEY, version bigint NOT NULL,"
	" filler text) WITH (fillfactor = 50)",
	"CREATE OR REPLACE FUNCTION tm_write(int) RETURNS bigint LANGUAGE sql VOLATILE AS"
	" 'UPDATE tm_ryw SET version = version + 1 WHERE key = $1 RETURNING version'",
};

static void first_line(char *to, size_t size, const char *text)
{
	snprintf(to, size, "%.*s", (int)strcspn(text, "\n"), text);
}

static PGconn *open_connection(const char *dsn, char *message, size_t size)
{
	PGconn *pg = PQconnectdb(dsn);
	if (PQstatus(pg) == CONNECTION_OK) {
		PQclear(PQexec(pg, "SET client_min_messages = warning"));
		return pg;
	}
	first_line(message, size, PQerrorMessage(pg));
	PQfinish(pg);
	return NULL;
}

/* Runs a statement; its first value, if any, goes to *value. */
static bool execute(PGconn *pg, const char *sql, uint64_t *value, char *message, size_t size)
{
	PGresult *answer = PQexec(pg, sql);
	ExecStatusType status = PQresultStatus(answer);
	bool ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
	if (!ok)
		first_line(message, size, PQerrorMessage(pg));
	else if (value != NULL)
		*value = PQntuples(answer) > 0 ? strtoull(PQgetvalue(answer, 0, 0), NULL, 10) : 0;
	PQclear(answer);
	return ok;
}

static bool fill(PGconn *pg, struct workload_options *o, char *message, size_t size)
{
	char sql[256];
	for (size_t i = 0; i < sizeof(schema) / sizeof(schema[0]); i++) {
		if (!execute(pg, schema[i], NULL, message, size))
			return false;
	}
	/* Versions never fall, so that what a late replica shows is old, not from another run. */
	if (!execute(pg, "BEGIN", NULL, message, size) ||
	    !execute(pg, "SELECT coalesce(max(version), 0) + 1 FROM tm_ryw", &o->base_version, message,
	             size) ||
	    !execute(pg, "DELETE FROM tm_ryw", NULL, message, size))
		return false;
	snprintf(sql, sizeof(sql),
	         "INSERT INTO tm_ryw SELECT key, %" PRIu64
	         ", repeat('x', 100)"
	         " FROM generate_series(0, %d) key",
	         o->base_version, o->keys - 1);
	return execute(pg, sql, NULL, message, size) && execute(pg, "COMMIT", NULL, message, size);
}

static bool wait_visible(const struct workload_options *o, const char *dsn, char *message,
                         size_t size)
{
	PGconn *pg = open_connection(dsn, message, size);
	if (pg == NULL)
		return false;
	char sql[128];
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM tm_ryw WHERE version >= %" PRIu64,
	         o->base_version);
	uint64_t rows = 0;
	bool stopped = false;
	for (int ms = 0; ms < VISIBLE_LIMIT_MS && rows != (uint64_t)o->keys && !stopped;
	     ms += POLL_MS) {
		/* An error here is a table that has not arrived yet. */
		if (!execute(pg, sql, &rows, message, size))
			rows = 0;
		if (rows != (uint64_t)o->keys)
			usleep(POLL_MS * 1000);
		stopped = o->stop != NULL && *o->stop;
	}
	PQfinish(pg);
	if (rows != (uint64_t)o->keys)
		snprintf(message, size, "the workload's table does not arrive at '%s'", dsn);
	return rows == (uint64_t)o->keys;
}

bool workload_setup(struct workload_options *options, char *message, size_t size)
{
	PGconn *pg = open_connection(options->write_dsn, message, size);
	bool ok = pg != NULL && fill(pg, options, message, size);
	PQfinish(pg);
	for (int i = 0; ok && i < options->read_dsn_count; i++)
		ok = wait_visible(options, options->read_dsns[i], message, size);
	return ok;
}
