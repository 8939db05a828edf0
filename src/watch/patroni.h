/* SPDX-License-Identifier: PostgreSQL
 *
 * Patroni as a second witness of who is primary: asks its members in turn for GET /cluster and tells
 * the fleet who leads. It only narrows (fleet_leader()): no server is primary because Patroni says so.
 *
 *   IDLE ─due, or kicked─▶ ASKING (one member) ─answer─▶ IDLE, and told
 *    ▲                        │ error, or late: the next member at once …
 *    └── … or all have failed ┘
 *
 * Every word is of the moment at which it was asked for, and holds for max_age_us; after that nobody
 * is known to lead, which is also what the fleet would know without Patroni. Until the first word, or
 * for max_age_us, nobody leads: a router that starts beside an old primary must not write to it.
 *
 * Servers are matched by host and port as they are written, without regard to upper and lower case.
 */
#ifndef TM_WATCH_PATRONI_H
#define TM_WATCH_PATRONI_H

#include "watch.h"

#define PATRONI_MEMBERS_MAX FLEET_NODES_MAX
#define PATRONI_PORT 8008
#define PATRONI_TIMEOUT_US 1000000 /* for one question, with connecting */

struct patroni_member {
	char host[256];
	int port;
};

struct patroni_settings {
	struct patroni_member members[PATRONI_MEMBERS_MAX];
	int member_count;    /* 0: there is no Patroni */
	int64_t interval_us; /* from question to question; default 1 s */
	int64_t max_age_us;  /* for how long a word holds; default 5 s */
	int64_t timeout_us;  /* default PATRONI_TIMEOUT_US */
};

struct patroni;

/* From the loop: somebody else leads, or nobody does, or nobody knows. The fleet has been told. May
 * call all of this header but patroni_free(). */
typedef void (*patroni_fn)(void *arg);

/* Copies settings (times of 0 mean the default) and the addresses of the fleet's nodes, which are in
 * the same order; borrows loop and fleet. NULL: no memory. */
struct patroni *patroni_new(struct net_loop *loop, struct fleet *fleet,
                            const struct watch_node *nodes, const struct patroni_settings *settings,
                            patroni_fn fn, void *arg);
/* Before its loop and fleet. NULL is fine. */
void patroni_free(struct patroni *p);
/* What a server says of itself does not go with Patroni's word: ask soon, though not more than ten
 * times a second. */
void patroni_kick(struct patroni *p);
/* It has had its say, or its time for that is over. */
bool patroni_settled(const struct patroni *p);

struct patroni_stats {
	bool fresh;      /* what it said last holds */
	uint64_t words;  /* answers that said who leads, or that nobody does */
	uint64_t failed; /* questions without one */
};
void patroni_stats(const struct patroni *p, struct patroni_stats *out);

#endif
