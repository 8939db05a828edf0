/* SPDX-License-Identifier: PostgreSQL */
#include "console.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "census.h"
#include "proxy/observe.h"
#include "table.h"

/* The buffer must still take ReadyForQuery and, if it comes to that, the error. */
#define RESULT_MARGIN 1024

#define COLUMNS(t, out, ...)                                                 \
	do {                                                                     \
		static const char *const names[] = {__VA_ARGS__};                    \
		table_begin(t, out, names, (int)(sizeof(names) / sizeof(names[0]))); \
	} while (0)

/* -------------------------------------------------------------------- fleet */

/* Of a replica: whether it may be read from now, whatever the session's mark. */
static const char *node_state(const struct worker *w, int node, int64_t now_us)
{
	const struct node *n = &w->fleet.nodes[node];
	if (!n->up)
		return "down";
	if (n->role == NODE_ROLE_REPLICA && !fleet_replica_eligible(&w->fleet, node, now_us))
		return "not_eligible";
	if (n->role == NODE_ROLE_REPLICA && n->health.drained)
		return "drained";
	return "up";
}

static void node_lag(struct table *t, const struct worker *w, int node, int64_t now_us)
{
	uint64_t bytes = fleet_lag_bytes(&w->fleet, node);
	if (w->fleet.nodes[node].role != NODE_ROLE_REPLICA || bytes == UINT64_MAX) {
		table_null(t);
		table_null(t);
		return;
	}
	table_u64(t, bytes);
	table_ms(t, fleet_lag_us(&w->fleet, node, now_us));
}

/* Of the reads, if all replicas are at or past the mark. */
static void node_share(struct table *t, const struct worker *w, int node, int64_t now_us)
{
	const struct fleet *f = &w->fleet;
	uint64_t all = 0;
	for (int i = 0; i < f->count; i++) {
		if (fleet_replica_asked(f, i, now_us))
			all += health_share(&f->nodes[i].health, f->slow_start_us, now_us);
	}
	if (f->nodes[node].role != NODE_ROLE_REPLICA) {
		table_null(t);
		return;
	}
	uint64_t its = fleet_replica_asked(f, node, now_us)
	                   ? health_share(&f->nodes[node].health, f->slow_start_us, now_us)
	                   : 0;
	table_format(t, "%.1f", its > 0 ? 100.0 * (double)its / (double)all : 0.0);
}

/* Only the primary's counts. */
static const char *node_history(const struct worker *w, int node)
{
	if (node != w->fleet.primary)
		return NULL;
	return w->fleet.history.known ? "known" : "unknown";
}

static void show_fleet(struct worker *w, struct buf *out)
{
	struct table t;
	int64_t now = net_now_us();
	COLUMNS(&t, out, "name", "host", "port", "role", "state", "epoch", "timeline", "history",
	        "position", "lag_bytes", "lag_ms", "replay_delay_ms", "outstanding", "samples",
	        "error", "weight", "share_pct", "drained");
	for (int i = 0; i < w->fleet.count; i++) {
		const struct node *n = &w->fleet.nodes[i];
		char position[POSITION_TEXT_MAX];
		position_format(n->at, position);
		table_text(&t, n->name);
		table_text(&t, w->settings->nodes[i].host);
		table_i64(&t, w->settings->nodes[i].port);
		table_text(&t, node_role_name(n->role));
		table_text(&t, node_state(w, i, now));
		table_u64(&t, n->epoch);
		if (n->timeline != 0)
			table_u64(&t, n->timeline);
		else
			table_null(&t);
		table_text(&t, node_history(w, i));
		table_text(&t, position_is_set(n->at) ? position : NULL);
		node_lag(&t, w, i, now);
		table_ms(&t, n->role == NODE_ROLE_REPLICA ? n->replay_delay_us : LAG_UNKNOWN);
		table_u64(&t, n->outstanding);
		table_u64(&t, watch_samples(w->watch, i));
		table_text(&t, watch_error(w->watch, i));
		table_i64(&t, n->health.weight);
		node_share(&t, w, i, now);
		table_text(&t, n->health.drained ? "yes" : "no");
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

/* ------------------------------------------------------------------ routing */

static void routing_row(struct table *t, const char *name, uint64_t value, const char *meaning)
{
	table_text(t, name);
	table_u64(t, value);
	table_text(t, meaning);
	table_row_end(t);
}

static void show_routing(struct worker *w, struct buf *out)
{
	static const struct {
		const char *name;
		size_t offset;
		const char *meaning;
	} rows[] = {
#define ROW(field, meaning) {#field, offsetof(struct stats, field), meaning}
		ROW(reads_total, "statements that only read and could have gone to a replica"),
		ROW(reads_replica, "of these, answered by a replica"),
		ROW(reads_primary, "of these, answered by the primary; the reasons below say why"),
		ROW(reads_waited, "of these, waited for a replica to catch up or for a sample first"),
		ROW(waited_for_others,
	        "of those that waited, held up only by what other connections wrote: with "
	        "tidemark.session set, or scope = connection, they would not have waited"),
		ROW(primary_for_others,
	        "of those answered by the primary, sent there only by what other connections wrote: "
	        "with tidemark.session set, or scope = connection, a replica would have answered"),
		ROW(discriminating,
	        "reads at which a healthy replica was behind the session: a router "
	        "that ignores positions might have served stale data"),
		ROW(wait_timeouts, "reads that waited in vain and went to the primary"),
		ROW(waitlist_full,
	        "reads that went to the primary because max_waiting others waited already"),
		ROW(retried, "statements that a replica refused and the primary answered"),
		ROW(captures, "commit positions captured behind a statement that may have written"),
		ROW(captures_failed,
	        "captures that failed: the session's next read waits for a sample of "
	        "the primary instead"),
		ROW(writes_uncaptured,
	        "writes of which no position can be captured, such as COPY: "
	        "likewise"),
		ROW(sessions_lost, "sessions that were told that a failover may have cut off their writes"),
		ROW(tags_malformed,
	        "statements whose query tags could not be read; they went to the "
	        "primary"),
#undef ROW
	};
	struct table t;
	COLUMNS(&t, out, "name", "value", "meaning");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t value;
		memcpy(&value, (const char *)&w->stats + rows[i].offset, sizeof(value));
		routing_row(&t, rows[i].name, value, rows[i].meaning);
	}
	for (int i = 0; i < TOKEN_VERDICTS; i++) {
		char name[64];
		snprintf(name, sizeof(name), "tokens_%s", token_verdict_name((enum token_verdict)i));
		routing_row(&t, name, w->stats.tokens[i],
		            i == TOKEN_OK
		                ? "tokens that were accepted"
		                : "tokens that were not: the connection's next read went to the primary");
	}
	for (int i = 0; i < REASON_COUNT; i++) {
		char name[64];
		snprintf(name, sizeof(name), "reason_%s", route_reason_name((enum route_reason)i));
		routing_row(&t, name, w->stats.by_reason[i], route_reason_words((enum route_reason)i));
	}
	table_end(&t, "SHOW");
}

/* -------------------------------------------------------------------- observe */

/* "too_far_behind 12, pinned 1" */
static void why_primary(const struct observe_counts *n, char *out, size_t cap)
{
	static const enum route_reason reasons[] = {REASON_TOO_FAR_BEHIND, REASON_PINNED,
	                                            REASON_LAG_LIMIT, REASON_NO_REPLICA,
	                                            REASON_MARK_UNKNOWN};
	size_t used = 0;
	out[0] = '\0';
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]) && used < cap; i++) {
		if (n->by_reason[reasons[i]] > 0)
			used += (size_t)snprintf(out + used, cap - used, "%s%s %" PRIu64, used ? ", " : "",
			                         route_reason_name(reasons[i]), n->by_reason[reasons[i]]);
	}
}

static void observe_line(struct table *t, const char *database, const char *shape,
                         const struct observe_counts *n)
{
	char why[200];
	why_primary(n, why, sizeof(why));
	table_text(t, database);
	table_text(t, shape);
	table_u64(t, n->reads);
	table_u64(t, n->would[ROUTE_REPLICA]);
	table_u64(t, n->would[ROUTE_WAIT]);
	table_u64(t, n->would[ROUTE_PRIMARY]);
	table_text(t, why);
	table_u64(t, n->fresh);
	table_u64(t, n->stale);
	table_u64(t, observe_undecided(n));
	if (n->reads > 0)
		table_format(t, "%.1f", 100.0 * (double)n->stale / (double)n->reads);
	else
		table_null(t);
	table_row_end(t);
}

static void show_store(struct worker *w, struct buf *out)
{
	struct table t;
	struct store_stats s = {0};
	const struct stats *n = &w->stats;
	if (w->store)
		store_stats(w->store, &s);
	COLUMNS(&t, out, "name", "value", "meaning");
	table_text(&t, "server");
	table_text(&t, w->store ? s.server : "memory");
	table_text(&t, "where the marks of named sessions are kept");
	table_row_end(&t);
	table_text(&t, "state");
	table_text(&t, !w->store ? "local" : !s.up ? "down" : s.error[0] ? "doubtful" : "up");
	table_text(&t, s.error[0] ? s.error : "down or doubtful: named sessions read from the primary");
	table_row_end(&t);
	routing_row(&t, "reads", s.reads, "marks asked for");
	routing_row(&t, "writes", s.writes, "marks stored");
	routing_row(&t, "doubtful", s.doubtful, "answers that were not believed");
	routing_row(&t, "failed", s.failed, "questions without an answer");
	routing_row(&t, "timeouts", s.timeouts, "of these, because redis_command_timeout was over");
	routing_row(&t, "reconnects", s.reconnects, "connections to it that were lost");
	routing_row(&t, "in_flight", (uint64_t)s.in_flight, "commands under way");
	routing_row(&t, "owed", (uint64_t)s.owed, "marks to be stored once it answers");
	routing_row(
		&t, "acknowledged_owed", n->marks_owed,
		"statements acknowledged before their mark was stored; other routers doubt meanwhile");
	routing_row(
		&t, "acknowledged_uncovered", n->marks_uncovered,
		"of these, while nothing told other routers to doubt: their next read there may be stale");
	routing_row(&t, "lost", n->marks_lost,
	            "stored marks that are cut off from the primary's history");
	routing_row(&t, "unknown", n->marks_unknown,
	            "stored marks of which nobody knows whether the primary's history has them");
	routing_row(&t, "last_rtt_us", (uint64_t)s.last_rtt_us, "microseconds the last answer took");
	table_end(&t, "SHOW");
}

static void show_observe(struct worker *w, struct buf *out)
{
	struct table t;
	struct observe_totals totals;
	int count;
	const struct observe_row **rows = observe_rows(w->observe, &count);
	COLUMNS(&t, out, "database", "shape", "reads", "would_replica", "would_wait", "would_primary",
	        "primary_because", "naive_fresh", "naive_stale", "naive_undecided", "stale_pct");
	for (int i = 0; i < count && !out->overflow; i++)
		observe_line(&t, rows[i]->database, rows[i]->shape, &rows[i]->n);
	free((void *)rows);
	observe_totals(w->observe, &totals);
	if (totals.evicted > 0)
		observe_line(&t, NULL, "(others)", &totals.others);
	observe_line(&t, NULL, "(total)", &totals.all);
	table_end(&t, "SHOW");
}

/* ---------------------------------------------------------- clients, servers */

/* "10.0.0.1:5432", "[::1]:5432" or "unix" in two cells. */
static void peer_cells(struct table *t, const struct net_stream *stream)
{
	char peer[128] = "";
	if (stream)
		net_stream_peer(stream, peer, sizeof(peer));
	char *colon = strrchr(peer, ':');
	if (colon)
		*colon = '\0';
	table_format(t, "%s", peer);
	if (colon)
		table_format(t, "%s", colon + 1);
	else
		table_null(t);
}

static void show_client(struct table *t, const struct worker *w, const struct client *c,
                        int64_t now_us)
{
	const struct account *a = c->account;
	enum client_activity does = client_activity(c);
	int64_t since = does == CLIENT_DOES_WAIT           ? c->turn_queued_at_us
	                : does == CLIENT_DOES_WAIT_REPLICA ? c->waiting_since_us
	                                                   : 0;
	table_text(t, "C");
	table_text(t, a ? a->user : NULL);
	table_text(t, a ? a->database->name : does == CLIENT_DOES_CONSOLE ? "tidemark" : NULL);
	table_text(t, client_activity_name(does));
	peer_cells(t, c->stream);
	table_time(t, c->seen_at_us, now_us);
	table_ms(t, since > 0 ? now_us - since : 0);
	table_u64(t, c->id);
	table_text(t, c->bound ? bind_reason_name((enum bind_reason)c->bound) : "");
	table_text(t, c->session ? c->session->name : "");
	bool routed = c->last_node >= 0 && c->last_node < w->fleet.count;
	table_text(t, routed ? route_reason_name((enum route_reason)c->last_reason) : NULL);
	table_text(t, routed ? w->fleet.nodes[c->last_node].name : NULL);
	table_row_end(t);
}

static void show_clients(struct worker *w, struct buf *out)
{
	struct table t;
	int64_t now = net_now_us();
	COLUMNS(&t, out, "type", "user", "database", "state", "addr", "port", "request_time", "wait_ms",
	        "id", "bound", "session", "last_route", "node");
	for (struct list *it = w->clients.next; it != &w->clients && !out->overflow; it = it->next)
		show_client(&t, w, container_of(it, struct client, link), now);
	table_end(&t, "SHOW");
}

static void show_server(struct table *t, const struct worker *w, const struct server *s,
                        int64_t now_us)
{
	const struct account *a = s->pool->account;
	const struct watch_node *node = &w->settings->nodes[s->pool->node];
	table_text(t, "S");
	table_text(t, a->user);
	table_text(t, a->database->name);
	table_text(t, w->fleet.nodes[s->pool->node].name);
	table_text(t, server_activity_name(server_activity(s)));
	table_text(t, node->host);
	table_i64(t, node->port);
	table_time(t, s->connected_at_us, now_us);
	table_i64(t, s->connected_at_us > 0 ? (now_us - s->connected_at_us) / 1000000 : 0);
	table_u64(t, s->pid);
	table_i64(t, s->stmts.count);
	if (s->client)
		table_u64(t, s->client->id);
	else
		table_null(t);
	table_text(t, s->client && s->client->bound
	                  ? bind_reason_name((enum bind_reason)s->client->bound)
	                  : "");
	table_row_end(t);
}

/* Calls fn for every pool, in the order of databases, accounts and nodes. */
static void each_pool(struct worker *w, void (*fn)(void *arg, struct worker *w, struct pool *p),
                      void *arg)
{
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		list_for_each(a, &db->accounts)
		{
			struct account *acc = container_of(a, struct account, link);
			for (int i = 0; i < w->fleet.count; i++)
				fn(arg, w, &acc->pools[i]);
		}
	}
}

static void show_servers_of(void *arg, struct worker *w, struct pool *p)
{
	struct table *t = arg;
	int64_t now = net_now_us();
	list_for_each(it, &p->busy) show_server(t, w, container_of(it, struct server, link), now);
	list_for_each(it, &p->idle) show_server(t, w, container_of(it, struct server, link), now);
}

static void show_servers(struct worker *w, struct buf *out)
{
	struct table t;
	COLUMNS(&t, out, "type", "user", "database", "node", "state", "addr", "port", "connect_time",
	        "age_s", "remote_pid", "prepared_statements", "link", "bound");
	each_pool(w, show_servers_of, &t);
	table_end(&t, "SHOW");
}

static void show_pool(void *arg, struct worker *w, struct pool *p)
{
	struct table *t = arg;
	struct pool_census c;
	int64_t now = net_now_us();
	pool_census(p, now, &c);
	table_text(t, p->account->database->name);
	table_text(t, p->account->user);
	table_text(t, w->fleet.nodes[p->node].name);
	table_u64(t, c.active_clients);
	table_u64(t, c.waiting_clients);
	table_u64(t, c.servers[SERVER_DOES_ACTIVE]);
	table_u64(t, c.servers[SERVER_DOES_IDLE]);
	table_u64(t, c.servers[SERVER_DOES_DRAIN] + c.servers[SERVER_DOES_TASK]);
	table_u64(t, c.servers[SERVER_DOES_LOGIN]);
	table_i64(t, c.longest_wait_us / 1000000);
	table_i64(t, c.longest_wait_us % 1000000);
	table_text(t, "transaction");
	table_i64(t, p->account->database->pool_size);
	table_text(t, p->retry_at_us > now ? p->error : "");
	table_row_end(t);
}

static void show_pools(struct worker *w, struct buf *out)
{
	struct table t;
	COLUMNS(&t, out, "database", "user", "node", "cl_active", "cl_waiting", "sv_active", "sv_idle",
	        "sv_used", "sv_login", "maxwait", "maxwait_us", "pool_mode", "pool_size", "error");
	each_pool(w, show_pool, &t);
	table_end(&t, "SHOW");
}

/* ---------------------------------------------------------------- databases */

static void show_stats(struct worker *w, struct buf *out)
{
	struct table t;
	COLUMNS(&t, out, "database", "total_xact_count", "total_query_count", "total_received",
	        "total_sent", "total_xact_time", "total_query_time", "total_wait_time");
	list_for_each(it, &w->databases)
	{
		const struct database *db = container_of(it, struct database, link);
		table_text(&t, db->name);
		table_u64(&t, db->stats.xact_count);
		table_u64(&t, db->stats.query_count);
		table_u64(&t, db->stats.received);
		table_u64(&t, db->stats.sent);
		table_u64(&t, db->stats.xact_time_us);
		table_u64(&t, db->stats.query_time_us);
		table_u64(&t, db->stats.wait_time_us);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

static int connections_of(const struct worker *w, const struct database *db, uint64_t *clients)
{
	int servers = 0;
	*clients = 0;
	list_each_const(it, &db->accounts)
	{
		const struct account *a = container_of(it, struct account, link);
		for (int i = 0; i < w->fleet.count; i++)
			servers += a->pools[i].idle_count + a->pools[i].busy_count;
	}
	list_each_const(it, &w->clients)
	{
		const struct client *c = container_of(it, struct client, link);
		*clients += c->account && c->account->database == db;
	}
	return servers;
}

static void show_databases(struct worker *w, struct buf *out)
{
	static const char *const catalogs[] = {
		[CATALOG_WANTED] = "wanted",
		[CATALOG_LOADING] = "loading",
		[CATALOG_CURRENT] = "current",
	};
	struct table t;
	COLUMNS(&t, out, "name", "database", "pool_size", "pool_mode", "scope", "consistency",
	        "current_clients", "current_connections", "catalog", "cached_shapes",
	        "cached_statements");
	list_for_each(it, &w->databases)
	{
		const struct database *db = container_of(it, struct database, link);
		struct stmt_cache_stats cache = stmt_cache_stats(db->cache);
		uint64_t clients;
		int servers = connections_of(w, db, &clients);
		table_text(&t, db->name);
		table_text(&t, db->dbname);
		table_i64(&t, db->pool_size);
		table_text(&t, "transaction");
		table_text(&t, db->scope == SCOPE_CONNECTION ? "connection" : "database");
		table_text(&t, consistency_level_name(db->policy.level));
		table_u64(&t, clients);
		table_i64(&t, servers);
		table_text(&t, catalogs[db->catalog_state]);
		table_i64(&t, cache.shapes);
		table_i64(&t, cache.statements);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

/* -------------------------------------------------------------------- lists */

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

static void show_lists(struct worker *w, struct buf *out)
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
		{"pools", c.pools},
		{"used_clients", (uint64_t)w->client_count - login},
		{"login_clients", login},
		{"free_servers", free_servers},
		{"used_servers", sum_servers(&c, 0, SERVER_ACTIVITIES - 1) - free_servers},
		{"waiting_statements", (uint64_t)w->waitlist.count},
		{"sessions", (uint64_t)w->sessions.count},
		{"cached_shapes", (uint64_t)c.caches.shapes},
		{"cached_statements", (uint64_t)c.caches.statements},
	};
	struct table t;
	COLUMNS(&t, out, "list", "items");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		table_text(&t, rows[i].name);
		table_u64(&t, rows[i].items);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

static void show_version(struct worker *w, struct buf *out)
{
	struct table t;
	COLUMNS(&t, out, "version");
	table_text(&t, "tidemark " TIDEMARK_VERSION);
	table_row_end(&t);
	table_end(&t, "SHOW");
}

/* ----------------------------------------------------------------- commands */

static void run_reload(struct worker *w, struct buf *out)
{
	if (!w->reload)
		write_error(out, "ERROR", "0A000", "there is no configuration to read again", NULL);
	else if (w->reload(w->reload_arg))
		write_command_complete(out, "RELOAD");
	else
		write_error(out, "ERROR", "F0000", "the configuration has errors; the running one stays",
		            "The router's log names each of them.");
}

static void run_shutdown(struct worker *w, struct buf *out)
{
	worker_shutdown(w);
	write_command_complete(out, "SHUTDOWN");
}

static void drain_node(struct worker *w, struct slice name, bool drain, struct buf *out)
{
	switch (worker_drain(w, name, drain)) {
	case DRAIN_DONE:
		write_command_complete(out, drain ? "DRAIN" : "UNDRAIN");
		break;
	case DRAIN_NO_SUCH_NODE:
		write_error(out, "ERROR", "42704", "there is no server of this name",
		            "SHOW FLEET lists them; names are case-sensitive.");
		break;
	case DRAIN_IS_PRIMARY:
		write_error(out, "ERROR", "55000",
		            "the primary cannot be drained: writes have nowhere else to go",
		            "Promote a replica first; then this server may be drained.");
		break;
	}
}

static void run_drain(struct worker *w, struct slice name, struct buf *out)
{
	drain_node(w, name, true, out);
}

static void run_undrain(struct worker *w, struct slice name, struct buf *out)
{
	drain_node(w, name, false, out);
}

static void show_help(struct worker *w, struct buf *out);

/* Commands that take the name of a server. */
static const struct node_command {
	const char *word;
	void (*run)(struct worker *w, struct slice name, struct buf *out);
	const char *help;
} node_commands[] = {
	{"DRAIN", run_drain, "NAME: sends no new reads to a replica; what runs there ends"},
	{"UNDRAIN", run_undrain, "NAME: sends reads to it again"},
};
#define NODE_COMMANDS (sizeof(node_commands) / sizeof(node_commands[0]))

static const struct command {
	const char *words[2]; /* the second may be NULL */
	void (*run)(struct worker *w, struct buf *out);
	const char *help;
} commands[] = {
	{{"SHOW", "HELP"}, show_help, "this list"},
	{{"SHOW", "FLEET"}, show_fleet, "the servers: role, position, lag, and why one is down"},
	{{"SHOW", "ROUTING"}, show_routing, "where statements went, and why"},
	{{"SHOW", "STORE"}, show_store, "where named sessions are kept, and how that goes"},
	{{"SHOW", "OBSERVE"}, show_observe, "what mode = observe has found, by shape of statement"},
	{{"SHOW", "STATS"}, show_stats, "traffic by database; times in microseconds"},
	{{"SHOW", "POOLS"}, show_pools, "pools by database, user and node"},
	{{"SHOW", "CLIENTS"}, show_clients, "client connections"},
	{{"SHOW", "SERVERS"}, show_servers, "server connections"},
	{{"SHOW", "DATABASES"}, show_databases, "databases that were asked for since the start"},
	{{"SHOW", "LISTS"}, show_lists, "how many there are of what"},
	{{"SHOW", "VERSION"}, show_version, "this program's version"},
	{{"RELOAD", NULL}, run_reload, "reads the configuration again, as SIGHUP does"},
	{{"SHUTDOWN", NULL}, run_shutdown, "ends when running transactions have, as SIGTERM does"},
};

static void show_help(struct worker *w, struct buf *out)
{
	struct table t;
	COLUMNS(&t, out, "command", "meaning");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];
		table_format(&t, "%s%s%s", c->words[0], c->words[1] ? " " : "",
		             c->words[1] ? c->words[1] : "");
		table_text(&t, c->help);
		table_row_end(&t);
	}
	for (size_t i = 0; i < NODE_COMMANDS; i++) {
		table_text(&t, node_commands[i].word);
		table_text(&t, node_commands[i].help);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

static bool is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Takes the first word off. */
static struct slice next_word(struct slice *text)
{
	size_t from = 0;
	while (from < text->len && is_space(text->ptr[from]))
		from++;
	size_t to = from;
	while (to < text->len && !is_space(text->ptr[to]))
		to++;
	struct slice word = slice_of(text->ptr + from, to - from);
	*text = slice_from(*text, to);
	return word;
}

/* Without white space at both ends and the semicolons behind. */
static struct slice trimmed(struct slice text)
{
	while (text.len > 0 && is_space(text.ptr[0]))
		text = slice_from(text, 1);
	while (text.len > 0 && (is_space(text.ptr[text.len - 1]) || text.ptr[text.len - 1] == ';'))
		text.len--;
	return text;
}

static const struct command *command_find(struct slice text)
{
	struct slice first = next_word(&text);
	struct slice second = next_word(&text);
	if (trimmed(text).len > 0)
		return NULL;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];
		if (slice_ieq_str(first, c->words[0]) &&
		    slice_ieq_str(second, c->words[1] ? c->words[1] : ""))
			return c;
	}
	return NULL;
}

/* `text` is trimmed, so whatever follows the word is the name; without the quotes of an identifier. */
static bool run_node_command(struct worker *w, struct slice text, struct buf *out)
{
	struct slice word = next_word(&text), name = trimmed(text);
	if (name.len >= 2 && name.ptr[0] == '"' && name.ptr[name.len - 1] == '"')
		name = slice_of(name.ptr + 1, name.len - 2);
	for (size_t i = 0; i < NODE_COMMANDS; i++) {
		if (!slice_ieq_str(word, node_commands[i].word))
			continue;
		node_commands[i].run(w, name, out);
		return true;
	}
	return false;
}

static void say_unknown(struct slice text, struct buf *out)
{
	char shown[64], message[128];
	size_t n = 0;
	for (; n < text.len && n < sizeof(shown) - 1; n++)
		shown[n] = (char)(text.ptr[n] >= ' ' && text.ptr[n] < 0x7f ? text.ptr[n] : '?');
	shown[n] = '\0';
	snprintf(message, sizeof(message), "unknown console command \"%s%s\"", shown,
	         n < text.len ? "…" : "");
	write_error(out, "ERROR", "42601", message, "SHOW HELP lists the commands.");
}

void console_run(void *arg, struct worker *w, struct slice sql, struct buf *out)
{
	struct slice text = trimmed(sql);
	if (text.len == 0) {
		message_end(out, message_begin(out, BE_EMPTY_QUERY));
		return;
	}
	const struct command *c = command_find(text);
	if (!c) {
		if (!run_node_command(w, text, out))
			say_unknown(text, out);
		return;
	}
	/* A result goes out as a whole or not at all. */
	struct buf result;
	size_t room = out->max - out->len;
	buf_init(&result, room > RESULT_MARGIN ? room - RESULT_MARGIN : 0);
	c->run(w, &result);
	if (result.overflow)
		write_error(out, "ERROR", "54000", "the result is too large for the console",
		            "/metrics on the HTTP port has the totals.");
	else
		buf_append(out, result.data + result.start, result.len);
	buf_release(&result);
}
