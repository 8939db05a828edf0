/* SPDX-License-Identifier: PostgreSQL
 *
 * The tables of the console, one function each. Those that PgBouncer has too begin with its
 * columns, those of 1.18 and of 1.25, in its order and under its names; what is added stands behind
 * them. A column that has no counterpart here is there and says so: 0, empty or NULL, as
 * PgBouncer's own does where it does not apply.
 */
#ifndef TM_ADMIN_SHOW_H
#define TM_ADMIN_SHOW_H

#include "proxy/worker.h"

/* show_fleet.c */
void show_fleet(struct worker *w, struct buf *out);
void show_routing(struct worker *w, struct buf *out);
void show_store(struct worker *w, struct buf *out);
void show_observe(struct worker *w, struct buf *out);
void show_node_pools(struct worker *w, struct buf *out);

/* show_sockets.c */
void show_clients(struct worker *w, struct buf *out);
void show_servers(struct worker *w, struct buf *out);
void show_sockets(struct worker *w, struct buf *out);
void show_active_sockets(struct worker *w, struct buf *out);

/* show_stats.c */
void show_stats(struct worker *w, struct buf *out);
void show_stats_totals(struct worker *w, struct buf *out);
void show_stats_averages(struct worker *w, struct buf *out);
void show_totals(struct worker *w, struct buf *out);

/* show_pools.c */
void show_pools(struct worker *w, struct buf *out);
void show_databases(struct worker *w, struct buf *out);
void show_users(struct worker *w, struct buf *out);
void show_lists(struct worker *w, struct buf *out);
void show_config(struct worker *w, struct buf *out);
void show_mem(struct worker *w, struct buf *out);
void show_state(struct worker *w, struct buf *out);
void show_version(struct worker *w, struct buf *out);
/* Tables that are always empty: there is neither a cache of names nor a peer. */
void show_dns_hosts(struct worker *w, struct buf *out);
void show_dns_zones(struct worker *w, struct buf *out);
void show_peers(struct worker *w, struct buf *out);
void show_peer_pools(struct worker *w, struct buf *out);

/* Calls fn for every pool, in the order of databases, accounts and nodes. */
void each_pool(struct worker *w, void (*fn)(void *arg, struct worker *w, struct pool *p),
               void *arg);

#endif
