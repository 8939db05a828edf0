/* SPDX-License-Identifier: PostgreSQL
 *
 * The marks of named sessions in Redis, shared by several routers. A session that writes through
 * one router and reads through another reads its write, whatever breaks between them.
 *
 * A mark is "timeline fork position" as 40 hex digits; greater is later, as text and as number. The
 * key is "tidemark:{<cluster>}:<database>:<session>", with a time to live from each use. All
 * commands are scripts of one round trip; each is answered within `command_timeout_us` or fails.
 *
 * What makes a mark that was read believable (all checked by the script itself, atomically):
 *
 *  - Nothing was lost. The key "tidemark:{<cluster>}:boot" holds the server's incarnation (run id,
 *    replication id and number of evicted keys), the time at which it was written and the greatest
 *    time to live that any router has asked for. Missing, or of another incarnation (restart,
 *    failover to another Redis, FLUSHALL): it is written anew. While it is younger than the time to
 *    live, or the server may evict keys (maxmemory with another policy than noeviction, noticed
 *    within a second), every mark is doubtful.
 *  - Nobody holds a mark back. Each router has a lease in the sorted set
 *    "tidemark:{<cluster>}:routers", renewed by its heartbeats and by nothing else. A router that
 *    cannot store a mark sends no heartbeat before it has, so its lease lapses, and it makes the
 *    writer wait until then; while a lease has lapsed (for up to one time to live) all marks are
 *    doubtful. One that leaves in order, owing nothing, removes its lease.
 *  - Where the master may change (a sentinel, several addresses): one that was replaced and goes on
 *    running stops taking marks, because min-replicas-to-write is set; else every mark is doubtful.
 *    The time to live must be more than twice min-replicas-max-lag.
 *
 * The argument in full is at the top of store.c.
 *
 * Doubtful means: the session owes a sample of the primary, or reads from it. It never means
 * "fresh".
 *
 *   DOWN ─connect, AUTH, INFO, script─▶ UP ─timeout, error, lost─▶ DOWN (circuit open for back-off)
 *
 * Several commands may be in flight; answers come in order.
 */
#ifndef TM_STORE_STORE_H
#define TM_STORE_STORE_H

#include "base/slice.h"
#include "consistency/position.h"
#include "net/net.h"

struct store;

/* host:port, or the path of a unix socket if host begins with '/'. With `sentinel_master` set, the
 * addresses are sentinels that are asked for the master's address. */
#define STORE_ADDRESSES_MAX 8
struct store_address {
	char host[256];
	int port;
};
struct store_settings {
	struct store_address addresses[STORE_ADDRESSES_MAX];
	int address_count;
	char sentinel_master[64]; /* "": none */
	char user[64], password[256], sentinel_password[256];
	int database; /* SELECT n; 0 … 15 as a rule */
	bool tls;
	char tls_ca_file[256], tls_cert_file[256], tls_key_file[256], tls_server_name[256];
	int64_t command_timeout_us; /* default 30 ms */
	int64_t connect_timeout_us; /* default 500 ms */
	int64_t lease_us;           /* default 300 ms; heartbeats every third of it */
	int64_t ttl_us;             /* of marks */
	/* Default 1024; one more fails at once, or is owed. Redis takes some 7 us for each: as many as
	 * it answers within a quarter of the time limit. */
	int max_in_flight;
	int max_owed; /* default 4096 */
};

struct store_mark {
	bool present;
	uint32_t timeline;
	struct position fork, at;
};

/* Reads. Called from the loop, never from within the call that asked; `mark` is NULL unless OK. */
enum store_result {
	STORE_OK,
	STORE_DOUBTFUL, /* answered, but see above: what was read may be too old */
	STORE_FAILED,   /* down, slow, full, or an error of the server's */
};
typedef void (*store_get_fn)(void *arg, enum store_result r, const struct store_mark *mark);
/* Writes: whoever waits for the write may be told of it. `stored`: Redis has the mark, or has made
 * all marks doubtful in its place. Else it is owed, and every router's doubt covers it, if
 * store_covers(). */
typedef void (*store_put_fn)(void *arg, bool stored);

struct store_request; /* one that is in flight */

/* `router` names this process among all routers: random, 16 bytes. Borrows the loop. NULL: no
 * memory, or a file for TLS that cannot be used, which is logged. */
struct store *store_new(struct net_loop *loop, const struct store_settings *settings,
                        const uint8_t router[16]);
/* Gives the lease back if nothing is owed and it can be done at once. Requests in flight are
 * dropped without a call. Not from within a callback. NULL is fine. */
void store_free(struct store *s);
/* The cluster whose marks are kept; until it is set everything fails, and nothing connects. */
void store_set_cluster(struct store *s, uint64_t system_identifier);
/* A replica was seen to be so far behind: the time to live grows to twice that, and never shrinks.
 */
void store_raise_ttl(struct store *s, int64_t lag_us);
/* For how long a mark that was acknowledged is found, or doubted, at the least. After that it may
 * be missed: who relies on an answer must not use a replica that is further behind. */
int64_t store_keeps_us(const struct store *s);

/* Whether a write may be acknowledged whose mark is not stored, because store_put() gave NULL or
 * its callback said so. False before the first heartbeat was answered: nobody knows of this router,
 * so nobody doubts; and once Redis has not answered for half of the time to live: others will soon
 * cease to doubt. Whoever acknowledges all the same breaks the promise if other routers still reach
 * Redis; withhold the answer, or refuse the write before it is made. */
bool store_covers(const struct store *s);

/* NULL: it failed at once, and fn will not be called. Names are at most 127 bytes. */
struct store_request *store_get(struct store *s, struct slice database, struct slice session,
                                store_get_fn fn, void *arg);
/* Merges `mark` into what is stored, by maximum. What cannot be stored now is owed (one mark a
 * session, at most max_owed; past that, as with a mark that is not `present`, because its position
 * is not known, all marks are made doubtful by a new boot key instead) and stored as soon as the
 * server answers again, before the next heartbeat. NULL: fn will not be called, and the writer may
 * be told at once (every router doubts already, if store_covers()). Never fails, and calls back
 * within command_timeout_us or, at the beginning of an outage, 10/9 of lease_us; while the first
 * connection is being made, within connect_timeout_us and that. */
struct store_request *store_put(struct store *s, struct slice database, struct slice session,
                                struct store_mark mark, store_put_fn fn, void *arg);
/* The asker goes away: fn will not be called. A mark is stored all the same. Not after fn was
 * called, nor from within. */
void store_forget(struct store_request *r);

struct store_stats {
	bool up;
	uint64_t reads, writes, doubtful, failed, timeouts, reconnects;
	int in_flight, owed;
	int64_t last_rtt_us;
	char error[256];  /* why it is down, or why marks are not trusted; "" if all is well */
	char server[300]; /* "host:port" */
};
void store_stats(const struct store *s, struct store_stats *out);

#endif
