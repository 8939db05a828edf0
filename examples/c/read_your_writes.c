/* SPDX-License-Identifier: PostgreSQL
 *
 * One service writes, another reads, and the reader sees the write though it asks a replica.
 *
 *   cc -o read_your_writes read_your_writes.c $(pkg-config --cflags --libs tidemark)
 *   ./read_your_writes 'host=… port=6432 dbname=shop' ['host=… port=6433 dbname=shop']
 *
 * The arguments are Tidemark routers, the writer's and the reader's: one, or two of the same
 * servers and with the same keys (token_key_file). With other keys a token keeps its promise all
 * the same, but the reads go to the primary. The table read_your_writes is made and dropped.
 */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark.h>

#define ROUNDS 200

static PGconn *open_connection(const char *conninfo)
{
	/* With tidemark.report the router sends the token along with each answer: no round trip for it.
	 */
	const char *names[] = {"options", "dbname", NULL};
	const char *values[] = {"-c tidemark.report=on", conninfo, NULL};
	PGconn *c = PQconnectdbParams(names, values, 1);
	if (PQstatus(c) != CONNECTION_OK) {
		fprintf(stderr, "%s", PQerrorMessage(c));
		exit(1);
	}
	return c;
}

/* The first value, or "". */
static void query(PGconn *c, const char *sql, char *value, size_t cap)
{
	PGresult *r = PQexec(c, sql);
	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK) {
		fprintf(stderr, "%s: %s", sql, PQerrorMessage(c));
		exit(1);
	}
	if (value)
		snprintf(value, cap, "%s", PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
	PQclear(r);
}

/* What the first service does. The token goes along with its answer, in a header for example. */
static void write_number(PGconn *c, int n, char *token, size_t cap)
{
	char sql[64];
	snprintf(sql, sizeof(sql), "UPDATE read_your_writes SET n = %d", n);
	query(c, sql, NULL, 0);
	enum tidemark_status s = tidemark_after_write(c, token, cap);
	/* Not fatal: `token` says "primary" now, and the reader will read there. */
	if (s != TIDEMARK_OK)
		fprintf(stderr, "after the write: %s; %s\n", tidemark_strerror(s), PQerrorMessage(c));
}

/* What the second service does with a token that came with a request. */
static int read_number(PGconn *c, const char *token)
{
	char value[32];
	enum tidemark_status s = tidemark_read_after(c, token);
	/* Somebody sent what is no token. That is no reason to fail, and none to read stale. */
	if (s == TIDEMARK_MALFORMED)
		s = tidemark_read_after(c, "primary");
	if (s != TIDEMARK_OK) {
		fprintf(stderr, "before the read: %s; %s\n", tidemark_strerror(s), PQerrorMessage(c));
		exit(1);
	}
	query(c, "SELECT n FROM read_your_writes", value, sizeof(value));
	return (int)strtol(value, NULL, 10);
}

int main(int argc, char **argv)
{
	char token[TIDEMARK_LIST_SIZE], route[200];
	int stale = 0;
	if (argc < 2) {
		fprintf(stderr, "usage: %s WRITER-CONNINFO [READER-CONNINFO]\n", argv[0]);
		return 2;
	}
	PGconn *writer = open_connection(argv[1]);
	PGconn *reader = open_connection(argv[argc > 2 ? 2 : 1]);

	query(writer, "DROP TABLE IF EXISTS read_your_writes", NULL, 0);
	query(writer, "CREATE TABLE read_your_writes AS SELECT 0 AS n", NULL, 0);
	for (int n = 1; n <= ROUNDS; n++) {
		write_number(writer, n, token, sizeof(token));
		stale += read_number(reader, token) != n;
	}
	query(reader, "SHOW tidemark.route", route, sizeof(route));
	printf("%d writes, each read back through another connection: %d stale\n", ROUNDS, stale);
	printf("the last read went to %s\n", route);

	query(writer, "DROP TABLE read_your_writes", NULL, 0);
	PQfinish(reader);
	PQfinish(writer);
	return stale > 0;
}
