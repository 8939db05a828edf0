/* SPDX-License-Identifier: PostgreSQL
 *
 * What Tidemark has and PgBouncer has not: the fleet, why statements went where, the store of
 * marks, mode = observe, pools by node.
 */
#include "show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "census.h"
#include "proxy/observe.h"
#include "table.h"

/* -------------------------------------------------------------------- fleet */

/* Of a replica: whether it may be read from now, whatever the session's mark. */
static const char *node_state(const struct worker *w, int node, int64_t now_us)
{
	const struct node *n = &w->fleet.nodes[node];
	if (!n->up)
		return "down";
	if (fleet_node_fenced(&w->fleet, node))
		return "fenced";
	if (n->role == NODE_ROLE_REPLICA && fleet_node_branch(&w->fleet, node) == BRANCH_DIVERGED)
		return "diverged";
	if (n->role == NODE_ROLE_REPLICA && !fleet_replica_eligible(&w->fleet, node, now_us))
		return "not_eligible";
	if (n->role == NODE_ROLE_REPLICA && n->health.drained)
		return "drained";
	if (n->role == NODE_ROLE_REPLICA && n->health.unreachable)
		return "unreachable";
	if (n->role == NODE_ROLE_REPLICA && health_is_slow(&n->health, now_us))
		return "slow";
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

/* How a replica's branch of history stands to the primary's. */
static const char *node_branch(const struct worker *w, int node)
{
	if (w->fleet.nodes[node].role != NODE_ROLE_REPLICA)
		return NULL;
	return fleet_branch_name(fleet_node_branch(&w->fleet, node));
}

static const char *node_patroni(const struct worker *w, int node)
{
	if (!w->patroni)
		return NULL;
	if (w->fleet.leader == LEADER_UNKNOWN)
		return "unknown";
	return w->fleet.leader == node ? "leader" : "no";
}

void show_fleet(struct worker *w, struct buf *out)
{
	struct table t;
	int64_t now = net_now_us();
	TABLE_BEGIN(&t, out, NULL, "name", "host", "port", "role", "state", "epoch", "timeline",
	            "history", "position", "lag_bytes", "lag_ms", "replay_delay_ms", "outstanding",
	            "samples", "error", "weight", "share_pct", "drained", "branch",
	            "patroni");
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
		table_text(&t, node_branch(w, i));
		table_text(&t, node_patroni(w, i));
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

void show_routing(struct worker *w, struct buf *out)
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
		ROW(guards,
	        "reads sent to a replica that was expected to have caught up, and had to prove it first"),
		ROW(guards_missed, "of these, those whose replica had not: they were decided again"),
		ROW(held_back,
	        "reads without a fit replica that had to wait for fallback_pool_share of the primary's "
	        "pool"),
		ROW(retried, "reads that a replica refused or failed, run again elsewhere; by cause below"),
		ROW(transactions_moved,
	        "transactions that began on a replica and moved to the primary with a statement that is no "
	        "plain read"),
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
	TABLE_BEGIN(&t, out, NULL, "name", "value", "meaning");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t value;
		memcpy(&value, (const char *)&w->stats + rows[i].offset, sizeof(value));
		routing_row(&t, rows[i].name, value, rows[i].meaning);
	}
	for (int i = 0; i < RERUN_CAUSES; i++) {
		char name[64];
		snprintf(name, sizeof(name), "retried_%s", rerun_cause_name((enum rerun_cause)i));
		routing_row(&t, name, w->stats.reruns[i], rerun_cause_words((enum rerun_cause)i));
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

void show_store(struct worker *w, struct buf *out)
{
	struct table t;
	struct store_stats s = {0};
	const struct stats *n = &w->stats;
	if (w->store)
		store_stats(w->store, &s);
	TABLE_BEGIN(&t, out, NULL, "name", "value", "meaning");
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

void show_observe(struct worker *w, struct buf *out)
{
	struct table t;
	struct observe_totals totals;
	int count;
	const struct observe_row **rows = observe_rows(w->observe, &count);
	TABLE_BEGIN(&t, out, NULL, "database", "shape", "reads", "would_replica", "would_wait",
	            "would_primary", "primary_because", "naive_fresh", "naive_stale", "naive_undecided",
	            "stale_pct");
	for (int i = 0; i < count && !out->overflow; i++)
		observe_line(&t, rows[i]->database, rows[i]->shape, &rows[i]->n);
	free((void *)rows);
	observe_totals(w->observe, &totals);
	if (totals.evicted > 0)
		observe_line(&t, NULL, "(others)", &totals.others);
	observe_line(&t, NULL, "(total)", &totals.all);
	table_end(&t, "SHOW");
}

/* -------------------------------------------------------------- pools by node */

static void show_node_pool(void *arg, struct worker *w, struct pool *p)
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

void show_node_pools(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, NULL, "database", "user", "node", "cl_active", "cl_waiting", "sv_active",
	            "sv_idle", "sv_used", "sv_login", "maxwait", "maxwait_us", "pool_mode", "pool_size",
	            "error");
	each_pool(w, show_node_pool, &t);
	table_end(&t, "SHOW");
}
