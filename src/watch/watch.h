/* SPDX-License-Identifier: PostgreSQL
 *
 * One watcher per node: a connection of its own that learns the node's role, identity and timeline
 * and samples its position into the fleet. It never queues behind a pool (pitfall 16).
 *
 *   DOWN ─connect─▶ LOGIN ─▶ LEARN (role, identity, timeline) ─▶ IDLE ⇄ ASKED ─┐
 *    ▲                                                              any error ─┘
 *    └────────── back-off 100 ms … 5 s ◀── fleet_node_lost ◀───────────────────
 *
 * Polling is adaptive: every idle_interval when nobody waits, for replicas every busy_interval (or
 * a sixteenth of their usual delay, if that is longer) while somebody does, for the first time that
 * long after the waiting began; watch_kick() asks at once. One question is in flight at a time; a kick during one asks again when it is answered,
 * because its sample started too early.
 *
 * A primary on a timeline later than the first has a past, which the watcher of the fleet's primary
 * fetches on a connection of its own (history_fetch.h) whenever that primary or its timeline
 * changes; until then the fleet's history is not known.
 *
 * Any role that may log in will do. With pg_monitor a standby's move to another timeline is seen
 * within a second; without it only at the standby's next restart point, and until then the standby
 * serves no reads after a failover. With REPLICATION the history is known; without it no position
 * of before a failover is believed, if it comes in a token or from the store.
 */
#ifndef TM_WATCH_WATCH_H
#define TM_WATCH_WATCH_H

#include "consistency/fleet.h"
#include "net/net.h"
#include "pgwire/login.h"

struct watch_node {
	char name[64];
	char host[256];
	int port;
	char user[64];
	char database[64];
	enum secret_kind secret_kind;
	char secret[256];
	enum sslmode sslmode;
	bool has_sslmode; /* said for this node */
	bool tls_direct;  /* TLS from the first byte, without asking for it */
	enum channel_binding channel_binding;
	char sslrootcert[256], sslcert[256], sslkey[256];
	struct tls_context *tls; /* shared; NULL: in clear. A reload changes what is in it */
	int weight; /* its share of the reads; nothing to the watcher */
};

struct watch_settings {
	int64_t idle_interval_us;   /* default 250 ms */
	int64_t busy_interval_us;   /* default 1 ms */
	int64_t answer_timeout_us;  /* a node that does not answer is lost; default 1 s */
	int64_t connect_timeout_us; /* default 3 s */
};

/* What a watcher learnt of a node's server, for captures and pooled connections. Kept when the
 * node is lost, until it is learnt anew. */
struct watch_facts {
	bool known;
	uint32_t wal_block_size, wal_segment_size;
	uint64_t system_identifier;
	/* pg_postmaster_start_time, µs since 1970: the server's incarnation */
	int64_t postmaster_start_us;
	int server_version_num;
	bool async_commit; /* server default of synchronous_commit is off */
};

struct watch;

/* Called from the loop after the fleet changed: node's sample, role, timeline, history or loss;
 * never from within a call of this header. May call all of them but watch_free(). */
typedef void (*watch_fn)(void *arg, int node);

/* One watcher per fleet node of the same index. Starts connecting at once. Copies nodes and
 * settings (0 means the default); borrows loop and fleet. NULL: no memory. */
struct watch *watch_new(struct net_loop *loop, struct fleet *fleet, const struct watch_node *nodes,
                        int count, const struct watch_settings *settings, watch_fn fn, void *arg);
/* Before its loop and fleet. NULL is fine. */
void watch_free(struct watch *w);
/* Somebody needs a sample started from now on. Cheap; any number of calls are one question. */
void watch_kick(struct watch *w, int node);
/* Somebody waits for a replica (true) or nobody does any more: fast or slow polling of the
 * replicas. The primary is asked when somebody needs its sample (watch_kick): its position moves by
 * what is captured. */
void watch_set_busy(struct watch *w, bool busy);
/* The fleet's primary has changed, and not by what a watcher saw. */
void watch_primary_changed(struct watch *w);
const struct watch_facts *watch_facts(const struct watch *w, int node);
/* The last error of a node, "" if it is up; for SHOW FLEET. */
const char *watch_error(const struct watch *w, int node);
uint64_t watch_samples(const struct watch *w, int node);
/* The node contradicted itself on another connection (25006 from the primary, another incarnation):
 * drop the watcher's connection and start from nothing. */
void watch_distrust(struct watch *w, int node, const char *why);

#endif
