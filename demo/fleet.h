/* SPDX-License-Identifier: PostgreSQL
 *
 * A throw-away fleet: a real PostgreSQL primary, streaming standbys, and Tidemark before them, in
 * a temporary directory and on free ports of 127.0.0.1.
 *
 * Invariant: whatever happens between fleet_create() and fleet_destroy(), the latter leaves no
 * process and no file. Children die with us (PR_SET_PDEATHSIG) even where it cannot be called.
 * Nothing here is safe for data: fsync is off, logins are trusted.
 */
#ifndef TM_DEMO_FLEET_H
#define TM_DEMO_FLEET_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FLEET_MAX_STANDBYS 8

struct fleet_server {
	char name[16]; /* "primary", "standby1", ..., "tidemark": also its directory and log */
	int port;
	int delay_ms; /* recovery_min_apply_delay */
	pid_t pid;    /* 0: not running */
	char dsn[96];
};

struct fleet {
	char dir[96];
	char bindir[256];
	uid_t uid; /* whom PostgreSQL runs as: it refuses root */
	gid_t gid;
	struct fleet_server primary;
	struct fleet_server standbys[FLEET_MAX_STANDBYS];
	int standby_count;
	struct fleet_server tidemark;
	char admin_dsn[96];                /* Tidemark's console */
	const volatile sig_atomic_t *stop; /* set by a signal: every wait ends, with an error */
	char message[512];                 /* why the last call failed */
};

/* Finds the PostgreSQL programs and makes the directory. All calls: false: f->message says why,
 * and fleet_destroy() is still due. */
[[gnu::warn_unused_result]] bool fleet_create(struct fleet *f, const int *delays_ms, int count,
                                              const volatile sig_atomic_t *stop);
/* initdb, base backups, and start; returns when all standbys stream. */
[[gnu::warn_unused_result]] bool fleet_start_postgres(struct fleet *f);
/* Starts the program at `path` before the fleet; returns when it answers a query. */
[[gnu::warn_unused_result]] bool fleet_start_tidemark(struct fleet *f, const char *path);
/* Reads that Tidemark sent to replicas and to the primary so far, from its SHOW ROUTING. */
[[gnu::warn_unused_result]] bool fleet_read_routing(struct fleet *f, uint64_t *replica,
                                                    uint64_t *primary);
/* Name of a server that has ended by itself, or NULL. */
const char *fleet_dead_server(struct fleet *f);
void fleet_destroy(struct fleet *f);

#endif
