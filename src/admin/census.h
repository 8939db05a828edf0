/* SPDX-License-Identifier: PostgreSQL
 *
 * Who is here: clients and server connections counted by what they do. One walk over all of them,
 * made when somebody asks, so that the proxy keeps no counters for it.
 */
#ifndef TM_ADMIN_CENSUS_H
#define TM_ADMIN_CENSUS_H

#include "proxy/proxy.h"

enum client_activity {
	CLIENT_DOES_LOGIN,
	CLIENT_DOES_IDLE,
	CLIENT_DOES_ACTIVE,       /* has a server connection */
	CLIENT_DOES_WAIT,         /* for a server connection */
	CLIENT_DOES_WAIT_REPLICA, /* for a replica to catch up, or for a sample */
	CLIENT_DOES_CONSOLE,
	CLIENT_ACTIVITIES,
};

enum server_activity {
	SERVER_DOES_LOGIN,
	SERVER_DOES_IDLE,
	SERVER_DOES_ACTIVE,
	SERVER_DOES_DRAIN, /* finishes what a client that left had begun */
	SERVER_DOES_TASK,  /* the router's own: catalog, reset */
	SERVER_ACTIVITIES,
};

enum client_activity client_activity(const struct client *c);
enum server_activity server_activity(const struct server *s);
const char *client_activity_name(enum client_activity a);
const char *server_activity_name(enum server_activity a);
const char *node_role_name(enum node_role role);

/* Of one pool. */
struct pool_census {
	uint64_t servers[SERVER_ACTIVITIES];
	uint64_t active_clients, waiting_clients; /* waiting: those held back, too */
	uint64_t fallback_clients, held_clients;  /* pool.fallback_count, pool.held_count */
	int64_t longest_wait_us; /* of a client for a server connection */
};
void pool_census(const struct pool *p, int64_t now_us, struct pool_census *out);

struct census {
	uint64_t clients[CLIENT_ACTIVITIES];
	uint64_t clients_bound, bound_by[BIND_COUNT];
	uint64_t servers[FLEET_NODES_MAX][SERVER_ACTIVITIES];
	uint64_t fallback, held; /* of all pools */
	uint64_t databases, accounts, pools; /* pools that have or want a connection */
	struct database_stats totals;        /* of all databases */
	struct stmt_cache_stats caches;      /* likewise */
};
void census_take(const struct worker *w, int64_t now_us, struct census *out);

/* The list loop for readers. */
#define list_each_const(it, head) \
	for (const struct list *it = (head)->next; it != (head); it = it->next)

#endif
