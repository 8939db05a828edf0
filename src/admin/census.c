/* SPDX-License-Identifier: PostgreSQL */
#include "census.h"

enum client_activity client_activity(const struct client *c)
{
	switch (c->state) {
	case CLIENT_STARTUP:
	case CLIENT_TLS:
	case CLIENT_LOOKUP:
	case CLIENT_AUTH:
	case CLIENT_WELCOME:
		return CLIENT_DOES_LOGIN;
	case CLIENT_WAIT_POSITION:
	case CLIENT_WAIT_STORE:
		return CLIENT_DOES_WAIT_REPLICA;
	case CLIENT_WAIT_SERVER:
	case CLIENT_WAIT_PRIMARY:
		return CLIENT_DOES_WAIT;
	case CLIENT_CONSOLE:
		return CLIENT_DOES_CONSOLE;
	case CLIENT_READY:
	case CLIENT_WAIT_SYNC:
	case CLIENT_WAIT_MARK:
	case CLIENT_DEAD:
		break;
	}
	return c->server ? CLIENT_DOES_ACTIVE : CLIENT_DOES_IDLE;
}

enum server_activity server_activity(const struct server *s)
{
	switch (s->state) {
	case SERVER_CONNECTING:
	case SERVER_LOGIN:
	case SERVER_VERIFY:
		return SERVER_DOES_LOGIN;
	case SERVER_DRAIN:
		return SERVER_DOES_DRAIN;
	case SERVER_TASK:
		return SERVER_DOES_TASK;
	case SERVER_SYNC:
	case SERVER_UNSEEN:
	case SERVER_ACTIVE:
		return SERVER_DOES_ACTIVE;
	case SERVER_IDLE:
	case SERVER_DEAD:
		break;
	}
	return SERVER_DOES_IDLE;
}

const char *client_activity_name(enum client_activity a)
{
	static const char *const names[CLIENT_ACTIVITIES] = {
		[CLIENT_DOES_LOGIN] = "login",
		[CLIENT_DOES_IDLE] = "idle",
		[CLIENT_DOES_ACTIVE] = "active",
		[CLIENT_DOES_WAIT] = "waiting",
		[CLIENT_DOES_WAIT_REPLICA] = "waiting_replica",
		[CLIENT_DOES_CONSOLE] = "console",
	};
	return names[a];
}

const char *server_activity_name(enum server_activity a)
{
	static const char *const names[SERVER_ACTIVITIES] = {
		[SERVER_DOES_LOGIN] = "login",   [SERVER_DOES_IDLE] = "idle",
		[SERVER_DOES_ACTIVE] = "active", [SERVER_DOES_DRAIN] = "draining",
		[SERVER_DOES_TASK] = "task",
	};
	return names[a];
}

const char *node_role_name(enum node_role role)
{
	switch (role) {
	case NODE_ROLE_PRIMARY:
		return "primary";
	case NODE_ROLE_REPLICA:
		return "replica";
	case NODE_ROLE_UNKNOWN:
		break;
	}
	return "unknown";
}

static void count_servers(const struct list *servers, struct pool_census *out)
{
	list_each_const(it, servers)
	{
		const struct server *s = container_of(it, struct server, link);
		out->servers[server_activity(s)]++;
		out->active_clients += s->client != NULL;
	}
}

static void count_waits(const struct list *queue, int64_t now_us, struct pool_census *out)
{
	list_each_const(it, queue)
	{
		const struct client *c = container_of(it, struct client, queue);
		int64_t since = c->turn_queued_at_us;
		if (since > 0 && now_us - since > out->longest_wait_us)
			out->longest_wait_us = now_us - since;
	}
}

void pool_census(const struct pool *p, int64_t now_us, struct pool_census *out)
{
	*out = (struct pool_census){.waiting_clients = (uint64_t)(p->waiting_count + p->held_count),
	                             .fallback_clients = (uint64_t)p->fallback_count,
	                             .held_clients = (uint64_t)p->held_count};
	count_servers(&p->idle, out);
	count_servers(&p->busy, out);
	count_waits(&p->waiting, now_us, out);
	count_waits(&p->held, now_us, out);
}

static void count_client(const struct client *c, struct census *out)
{
	out->clients[client_activity(c)]++;
	out->clients_bound += c->bound != 0;
	if (c->bound != 0 && c->bound < BIND_COUNT)
		out->bound_by[c->bound]++;
}

static void count_account(const struct worker *w, const struct account *a, int64_t now_us,
                          struct census *out)
{
	out->accounts++;
	for (int node = 0; node < w->fleet.count; node++) {
		struct pool_census pool;
		pool_census(&a->pools[node], now_us, &pool);
		for (int i = 0; i < SERVER_ACTIVITIES; i++)
			out->servers[node][i] += pool.servers[i];
		out->fallback += pool.fallback_clients;
		out->held += pool.held_clients;
		out->pools +=
			a->pools[node].idle_count + a->pools[node].busy_count > 0 || pool.waiting_clients > 0;
	}
}

static void count_database(const struct worker *w, const struct database *db, int64_t now_us,
                           struct census *out)
{
	struct database_stats *sum = &out->totals;
	const struct database_stats *of = &db->stats;
	struct stmt_cache_stats cache = stmt_cache_stats(db->cache);

	out->databases++;
	sum->xact_count += of->xact_count;
	sum->query_count += of->query_count;
	sum->received += of->received;
	sum->sent += of->sent;
	sum->xact_time_us += of->xact_time_us;
	sum->query_time_us += of->query_time_us;
	sum->wait_time_us += of->wait_time_us;
	out->caches.shape_hits += cache.shape_hits;
	out->caches.shape_misses += cache.shape_misses;
	out->caches.statement_hits += cache.statement_hits;
	out->caches.statement_misses += cache.statement_misses;
	out->caches.shapes += cache.shapes;
	out->caches.statements += cache.statements;
	list_each_const(it, &db->accounts)
		count_account(w, container_of(it, struct account, link), now_us, out);
}

void census_take(const struct worker *w, int64_t now_us, struct census *out)
{
	*out = (struct census){0};
	list_each_const(it, &w->clients) count_client(container_of(it, struct client, link), out);
	list_each_const(it, &w->databases)
		count_database(w, container_of(it, struct database, link), now_us, out);
}
