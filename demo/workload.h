/* SPDX-License-Identifier: PostgreSQL
 *
 * The read-your-writes workload: many clients, each of which raises the version of a row of its
 * own and then reads, every read being checked by history.h. One thread drives all clients
 * through asynchronous libpq, so that measuring takes little from what is measured.
 *
 *   a client's cycle:  write (1..4 statements) -> read x reads_per_write -> think
 */
#ifndef TM_DEMO_WORKLOAD_H
#define TM_DEMO_WORKLOAD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define WORKLOAD_MAX_READ_DSNS 8
#define WORKLOAD_MAX_CLIENTS 4096

/* What the checker takes as one session. */
enum workload_session {
	WORKLOAD_SHARED, /* all clients together: reads ask for everybody's writes */
	WORKLOAD_OWN,    /* each client alone, a new session after each reconnect */
	WORKLOAD_NAMED,  /* each client alone, its connections joined by SET tidemark.session */
};

enum workload_protocol { WORKLOAD_SIMPLE, WORKLOAD_EXTENDED, WORKLOAD_PREPARED };

enum workload_tx {
	WORKLOAD_AUTOCOMMIT,
	WORKLOAD_EXPLICIT,  /* BEGIN; write; COMMIT */
	WORKLOAD_READ_WRITE, /* BEGIN; read; write; COMMIT: the read is judged as well */
	WORKLOAD_ORM,        /* BEGIN; read; write; read of what was written; COMMIT: likewise */
	WORKLOAD_TWO_PHASE, /* BEGIN; write; PREPARE TRANSACTION; COMMIT PREPARED */
};

struct workload_result {
	uint64_t reads;
	uint64_t writes;
	uint64_t stale;    /* reads older than a write of their session */
	uint64_t backward; /* reads older than an earlier read of their session only */
	uint64_t errors;
	uint64_t read_p50_us;
	uint64_t read_p99_us;
	uint64_t write_p50_us;
	uint64_t write_p99_us;
	double seconds;
	char message[256]; /* the first error, "" when there was none */
};

/* Strings are borrowed. Zero means "none" unless said otherwise. */
struct workload_options {
	const char *write_dsn;
	const char *read_dsns[WORKLOAD_MAX_READ_DSNS]; /* reads go round-robin over these */
	int read_dsn_count;                            /* 0: over the writing connection */
	bool second_connection;                        /* reads over a second connection to write_dsn */

	int clients;
	int keys;              /* at least 1; key k is written by client k modulo clients */
	int reads_per_write;   /* the first reads the key just written */
	const char *read_tx;   /* a BEGIN: the reads of a cycle are one transaction; or NULL */
	bool read_any;         /* half of the other reads take any key, not one of their own */
	double seconds;        /* stop after; 0: by transactions alone */
	uint64_t transactions; /* cycles a client makes; 0: by seconds alone */
	int think_ms;          /* mean pause between cycles, +- 50 %; 0: flat out */
	uint64_t seed;

	enum workload_session session;
	enum workload_protocol protocol;
	enum workload_tx tx;
	bool async_commit;          /* SET synchronous_commit = off where it writes */
	const char *write_function; /* write by SELECT name(key), which returns the new version */
	bool set_version;           /* write version = n, counted from base_version by the client */
	uint64_t base_version;      /* from workload_setup() */

	const volatile sig_atomic_t *stop; /* may be NULL; ends the run early when set */
	/* Called about once a second with the counters so far; latencies are not filled in. */
	void (*progress)(void *arg, const struct workload_result *so_far, double seconds);
	void *progress_arg;
};

/* Creates or refills table tm_ryw(key, version, filler) and the function tm_write(key), through
 * write_dsn, then waits until each read DSN shows it. All rows start at *base_version, above
 * every version that the table held before. False: `message` says why. */
[[gnu::warn_unused_result]] bool workload_setup(struct workload_options *options, char *message,
                                                size_t size);

/* False when it could not run at all (no connection, no memory): result->message says why. Errors
 * on the way are counted, and the client goes on, reconnecting if it must. */
[[gnu::warn_unused_result]] bool workload_run(const struct workload_options *options,
                                              struct workload_result *result);

#endif
