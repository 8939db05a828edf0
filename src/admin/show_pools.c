/* SPDX-License-Identifier: PostgreSQL */
#include "show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "census.h"
#include "config/options.h"
#include "proxy/pool.h"
#include "table.h"

#define PASSED_OVER "********"

/* ------------------------------------------------------------------------ pools */

/* One row for each database and user, over all nodes: exporters take the two for the key. */
static void pool_row(struct table *t, const struct worker *w, const struct account *a)
{
	struct pool_census sum = {0};
	uint64_t open = 0;
	int64_t now = net_now_us();
	for (int node = 0; node < w->fleet.count; node++) {
		struct pool_census of;
		pool_census(&a->pools[node], now, &of);
		for (int i = 0; i < SERVER_ACTIVITIES; i++)
			sum.servers[i] += of.servers[i];
		sum.waiting_clients += of.waiting_clients;
		if (of.longest_wait_us > sum.longest_wait_us)
			sum.longest_wait_us = of.longest_wait_us;
	}
	sum.waiting_clients += (uint64_t)a->pause_count;
	list_each_const(it, &w->await_resume)
	{
		const struct client *c = container_of(it, struct client, queue);
		if (c->account == a && now - c->turn_queued_at_us > sum.longest_wait_us)
			sum.longest_wait_us = now - c->turn_queued_at_us;
	}
	open = (uint64_t)a->client_count > sum.waiting_clients
	           ? (uint64_t)a->client_count - sum.waiting_clients
	           : 0;
	table_text(t, a->database->name);
	table_format(t, "%s%s", a->user, a->lookups ? " (auth_query)" : "");
	table_u64(t, open);
	table_u64(t, sum.waiting_clients);
	table_i64(t, 0);
	table_i64(t, 0);
	table_u64(t, sum.servers[SERVER_DOES_ACTIVE]);
	table_i64(t, 0);
	table_u64(t, sum.servers[SERVER_DOES_DRAIN]);
	table_u64(t, sum.servers[SERVER_DOES_IDLE]);
	table_i64(t, 0);
	table_u64(t, sum.servers[SERVER_DOES_TASK]);
	table_u64(t, sum.servers[SERVER_DOES_LOGIN]);
	table_i64(t, sum.longest_wait_us / 1000000);
	table_i64(t, sum.longest_wait_us % 1000000);
	table_text(t, "transaction");
	table_null(t);
	table_row_end(t);
}

void show_pools(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "ssiiiiiiiiiiiiiss", "database", "user", "cl_active", "cl_waiting",
	            "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active", "sv_active_cancel",
	            "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait",
	            "maxwait_us", "pool_mode", "load_balance_hosts");
	list_each_const(d, &w->databases)
	{
		const struct database *db = container_of(d, struct database, link);
		list_each_const(a, &db->accounts) pool_row(&t, w, container_of(a, struct account, link));
	}
	table_end(&t, "SHOW");
}

/* -------------------------------------------------------------------- databases */

static int servers_of_account(const struct worker *w, const struct account *a)
{
	int n = 0;
	for (int i = 0; i < w->fleet.count; i++)
		n += a->pools[i].idle_count + a->pools[i].busy_count;
	return n;
}

static void database_row(struct table *t, const struct worker *w, const struct database *db)
{
	static const char *const catalogs[] = {
		[CATALOG_WANTED] = "wanted",
		[CATALOG_LOADING] = "loading",
		[CATALOG_CURRENT] = "current",
	};
	const struct settings *s = w->settings;
	struct stmt_cache_stats cache = stmt_cache_stats(db->cache);
	const struct database_entry *e = database_entry_find(s, db->name);
	int servers = 0, clients = 0;
	list_each_const(it, &db->accounts)
	{
		const struct account *a = container_of(it, struct account, link);
		servers += servers_of_account(w, a);
		clients += a->client_count;
	}
	table_text(t, db->name);
	table_text(t, s->nodes[0].host);
	table_i64(t, s->nodes[0].port);
	table_text(t, db->dbname);
	if (e && e->user[0])
		table_text(t, e->user);
	else
		table_null(t);
	table_i64(t, db->pool_size);
	table_i64(t, 0);
	table_i64(t, 0);
	table_i64(t, 0);
	table_i64(t, s->server_lifetime_us / 1000000);
	table_text(t, "transaction");
	table_null(t);
	table_i64(t, 0);
	table_i64(t, servers);
	table_i64(t, 0);
	table_i64(t, clients);
	table_bool(t, db->paused || w->paused);
	table_bool(t, db->disabled);
	table_text(t, db->scope == SCOPE_CONNECTION ? "connection" : "database");
	table_text(t, consistency_level_name(db->policy.level));
	table_text(t, catalogs[db->catalog_state]);
	table_i64(t, cache.shapes);
	table_i64(t, cache.statements);
	table_row_end(t);
}

void show_databases(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "ssissiiiiissiiiiiisssii", "name", "host", "port", "database",
	            "force_user", "pool_size", "min_pool_size", "reserve_pool", "reserve_pool_size",
	            "server_lifetime", "pool_mode", "load_balance_hosts", "max_connections",
	            "current_connections", "max_client_connections", "current_client_connections",
	            "paused", "disabled", "scope", "consistency", "catalog", "cached_shapes",
	            "cached_statements");
	list_each_const(it, &w->databases) database_row(&t, w, container_of(it, struct database, link));
	table_end(&t, "SHOW");
}

/* ------------------------------------------------------------------------ users */

struct user_sum {
	const char *name;
	int servers, clients;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct user_sum *)a)->name, ((const struct user_sum *)b)->name);
}

static size_t count_users(const struct worker *w)
{
	size_t n = (size_t)w->settings->user_count;
	list_each_const(d, &w->databases)
	{
		const struct database *db = container_of(d, struct database, link);
		list_each_const(a, &db->accounts) n += a != NULL;
	}
	return n;
}

/* Those of auth_file and those who were here, each once. NULL: no memory, or none. */
static struct user_sum *sum_users(const struct worker *w, size_t *count)
{
	size_t n = 0, kept = 0, all = count_users(w);
	struct user_sum *sums = all > 0 ? calloc(all, sizeof(*sums)) : NULL;
	*count = 0;
	if (!sums)
		return NULL;
	for (int i = 0; i < w->settings->user_count; i++)
		sums[n++].name = w->settings->users[i].name;
	list_each_const(d, &w->databases)
	{
		const struct database *db = container_of(d, struct database, link);
		list_each_const(it, &db->accounts)
		{
			const struct account *a = container_of(it, struct account, link);
			sums[n++] = (struct user_sum){a->user, servers_of_account(w, a), a->client_count};
		}
	}
	qsort(sums, n, sizeof(*sums), by_name);
	for (size_t i = 1; i < n; i++) {
		if (strcmp(sums[kept].name, sums[i].name) == 0) {
			sums[kept].servers += sums[i].servers;
			sums[kept].clients += sums[i].clients;
		} else {
			sums[++kept] = sums[i];
		}
	}
	*count = kept + 1;
	return sums;
}

void show_users(struct worker *w, struct buf *out)
{
	struct table t;
	size_t count;
	struct user_sum *sums = sum_users(w, &count);
	TABLE_BEGIN(&t, out, "ssssiiii", "name", "pool_size", "reserve_pool_size", "pool_mode",
	            "max_user_connections", "current_connections", "max_user_client_connections",
	            "current_client_connections");
	for (size_t i = 0; i < count && !out->overflow; i++) {
		table_text(&t, sums[i].name);
		table_text(&t, "");
		table_text(&t, "");
		table_null(&t);
		table_i64(&t, 0);
		table_i64(&t, sums[i].servers);
		table_i64(&t, 0);
		table_i64(&t, sums[i].clients);
		table_row_end(&t);
	}
	free(sums);
	table_end(&t, "SHOW");
}

/* ------------------------------------------------------------------------ lists */

static uint64_t sum_servers(const struct census *c, enum server_activity from,
                            enum server_activity to)
{
	uint64_t n = 0;
	for (int node = 0; node < FLEET_NODES_MAX; node++) {
		for (int i = from; i <= (int)to; i++)
			n += c->servers[node][i];
	}
	return n;
}

void show_lists(struct worker *w, struct buf *out)
{
	struct census c;
	census_take(w, net_now_us(), &c);
	uint64_t login = c.clients[CLIENT_DOES_LOGIN];
	uint64_t free_servers = sum_servers(&c, SERVER_DOES_IDLE, SERVER_DOES_IDLE);
	const struct {
		const char *name;
		uint64_t items;
	} rows[] = {
		{"databases", c.databases},
		{"users", c.accounts},
		{"peers", 0},
		{"pools", c.pools},
		{"peer_pools", 0},
		{"free_clients", 0},
		{"used_clients", (uint64_t)w->client_count - login},
		{"login_clients", login},
		{"free_servers", free_servers},
		{"used_servers", sum_servers(&c, 0, SERVER_ACTIVITIES - 1) - free_servers},
		{"dns_names", 0},
		{"dns_zones", 0},
		{"dns_queries", 0},
		{"dns_pending", 0},
		{"waiting_statements", (uint64_t)w->waitlist.count},
		{"sessions", (uint64_t)w->sessions.count},
		{"cached_shapes", (uint64_t)c.caches.shapes},
		{"cached_statements", (uint64_t)c.caches.statements},
	};
	struct table t;
	TABLE_BEGIN(&t, out, "si", "list", "items");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		table_text(&t, rows[i].name);
		table_u64(&t, rows[i].items);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

/* ----------------------------------------------------------------------- config */

void show_config(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "ssss", "key", "value", "default", "changeable");
	for (int i = 0; i < options_count; i++) {
		const struct option *o = &options[i];
		char value[1024];
		option_format(o, w->settings, value, sizeof(value));
		table_text(&t, o->name);
		table_text(&t, o->secret && value[0] ? PASSED_OVER : value);
		table_text(&t, o->preset);
		table_text(&t, option_changeable(o) ? "yes" : "no");
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

/* ------------------------------------------------------------- memory, and others */

static void memory_row(struct table *t, const char *name, size_t size, uint64_t used)
{
	table_text(t, name);
	table_u64(t, size);
	table_u64(t, used);
	table_i64(t, 0);
	table_u64(t, size * used);
	table_row_end(t);
}

void show_mem(struct worker *w, struct buf *out)
{
	struct table t;
	struct census c;
	census_take(w, net_now_us(), &c);
	TABLE_BEGIN(&t, out, "siiii", "name", "size", "used", "free", "memtotal");
	memory_row(&t, "client_cache", sizeof(struct client), (uint64_t)w->client_count);
	memory_row(&t, "server_cache", sizeof(struct server),
	           sum_servers(&c, 0, SERVER_ACTIVITIES - 1));
	memory_row(&t, "db_cache", sizeof(struct database), c.databases);
	memory_row(&t, "pool_cache", sizeof(struct account), c.accounts);
	memory_row(&t, "session_cache", sizeof(struct session), (uint64_t)w->sessions.count);
	table_end(&t, "SHOW");
}

void show_state(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "ss", "key", "value");
	const char *const rows[][2] = {
		{"active", w->paused ? "no" : "yes"},
		{"paused", w->paused ? "yes" : "no"},
		{"suspended", "no"},
	};
	for (int i = 0; i < 3; i++) {
		table_text(&t, rows[i][0]);
		table_text(&t, rows[i][1]);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

void show_version(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "s", "version");
	table_text(&t, "tidemark " TIDEMARK_VERSION);
	table_row_end(&t);
	table_end(&t, "SHOW");
}

void show_dns_hosts(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "sqs", "hostname", "ttl", "addrs");
	table_end(&t, "SHOW");
}

void show_dns_zones(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "sqi", "zonename", "serial", "count");
	table_end(&t, "SHOW");
}

void show_peers(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "isii", "peer_id", "host", "port", "pool_size");
	table_end(&t, "SHOW");
}

void show_peer_pools(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "iiiii", "peer_id", "cl_active_cancel_req", "cl_waiting_cancel_req",
	            "sv_active_cancel", "sv_login");
	table_end(&t, "SHOW");
}
