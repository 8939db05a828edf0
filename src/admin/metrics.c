/* SPDX-License-Identifier: PostgreSQL */
#include "metrics.h"

#include <inttypes.h>
#include <stdio.h>

#include "census.h"
#include "proxy/observe.h"

/* Buckets of the token-wait histogram that are shown: 64 µs, doubling, to 16.8 s. Statements wait
 * neither less than a round trip nor longer than any sensible wait_timeout. */
#define WAIT_EDGE_MIN_US 64
#define WAIT_EDGE_MAX_US (UINT64_C(1) << 24)

enum kind { COUNTER, GAUGE, HISTOGRAM };

static void head(struct buf *out, const char *name, enum kind kind, const char *help)
{
	static const char *const kinds[] = {"counter", "gauge", "histogram"};
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[kind]);
}

/* One sample without labels, with its head. */
static void single(struct buf *out, const char *name, enum kind kind, uint64_t value,
                   const char *help)
{
	head(out, name, kind, help);
	buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void single_seconds(struct buf *out, const char *name, enum kind kind, int64_t us,
                           const char *help)
{
	head(out, name, kind, help);
	buf_printf(out, "%s %.6f\n", name, (double)us / 1e6);
}

/* A label value: backslash, quote and newline escaped, as the format asks. */
static void put_escaped(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			buf_append(out, "\\", 1);
		if (*text == '\n')
			buf_append_str(out, "\\n");
		else
			buf_append(out, text, 1);
	}
}

static void put_node(struct buf *out, const char *name, const struct node *n)
{
	buf_printf(out, "%s{node=\"", name);
	put_escaped(out, n->name);
	buf_append_str(out, "\"");
}

/* -------------------------------------------------------------------- routing */

static const char *target_of(enum route_reason reason)
{
	switch (reason) {
	case REASON_REPLICA_FRESH:
	case REASON_REPLICA_CAUGHT_UP:
	case REASON_REPLICA_BOUNDED:
	case REASON_REPLICA_EVENTUAL:
	case REASON_REPLICA_RETRIED:
	case REASON_REPLICA_TRANSACTION:
		return "replica";
	case REASON_WAIT_STORE:
	case REASON_WAIT_REPLICA:
	case REASON_WAIT_SAMPLE:
		return NULL; /* on the way: counted where it ends */
	default:
		return "primary";
	}
}

static void routing(const struct worker *w, struct buf *out)
{
	const struct stats *st = &w->stats;
	const char *name = "tidemark_queries_total";
	head(out, name, COUNTER, "Statements (or batches) by where they went and why.");
	for (int i = 0; i < REASON_COUNT; i++) {
		const char *target = target_of((enum route_reason)i);
		if (target)
			buf_printf(out, "%s{target=\"%s\",reason=\"%s\"} %" PRIu64 "\n", name, target,
			           route_reason_name((enum route_reason)i), st->by_reason[i]);
	}
	name = "tidemark_reads_total";
	head(out, name, COUNTER, "Plain reads outside transactions, and statements of READ ONLY transactions on replicas, "
	     "by who answered.");
	buf_printf(out, "%s{target=\"replica\"} %" PRIu64 "\n", name, st->reads_replica);
	buf_printf(out, "%s{target=\"primary\"} %" PRIu64 "\n", name, st->reads_primary);
	name = "tidemark_retries_total";
	head(out, name, COUNTER, "Reads that a replica failed and that were run again, by cause.");
	for (int i = 0; i < RERUN_CAUSES; i++)
		buf_printf(out, "%s{cause=\"%s\"} %" PRIu64 "\n", name,
		           rerun_cause_name((enum rerun_cause)i), st->reruns[i]);
	name = "tidemark_tokens_total";
	head(out, name, COUNTER, "Tokens that came with requests, by what was found.");
	for (int i = 0; i < TOKEN_VERDICTS; i++)
		buf_printf(out, "%s{verdict=\"%s\"} %" PRIu64 "\n", name,
		           token_verdict_name((enum token_verdict)i), st->tokens[i]);
}

static void observed_by_reason(const struct observe_counts *n, const char *name, const char *would,
                               const enum route_reason *reasons, int count, struct buf *out)
{
	for (int i = 0; i < count; i++)
		buf_printf(out, "%s{would=\"%s\",reason=\"%s\"} %" PRIu64 "\n", name, would,
		           route_reason_name(reasons[i]), n->by_reason[reasons[i]]);
}

/* Everything is 0 until mode = observe was switched on. */
static void observed(const struct worker *w, struct buf *out)
{
	static const enum route_reason replica[] = {REASON_REPLICA_FRESH, REASON_REPLICA_BOUNDED,
	                                            REASON_REPLICA_EVENTUAL};
	static const enum route_reason wait[] = {REASON_WAIT_REPLICA, REASON_WAIT_SAMPLE};
	static const enum route_reason primary[] = {REASON_TOO_FAR_BEHIND, REASON_PINNED,
	                                            REASON_LAG_LIMIT, REASON_NO_REPLICA,
	                                            REASON_MARK_UNKNOWN};
	struct observe_totals t;
	observe_totals(w->observe, &t);
	single(out, "tidemark_observing", GAUGE, w->observing, "1 while mode = observe.");
	const char *name = "tidemark_observed_reads_total";
	head(out, name, COUNTER, "Reads seen with mode = observe, by where they would have gone.");
	observed_by_reason(&t.all, name, "replica", replica, 3, out);
	observed_by_reason(&t.all, name, "wait", wait, 2, out);
	observed_by_reason(&t.all, name, "primary", primary, 5, out);
	name = "tidemark_observed_naive_total";
	head(out, name, COUNTER,
	     "The same, by what a splitter without positions would have shown the session.");
	/* Those that wait for a sample are not decided yet, and a counter never falls. */
	buf_printf(out,
	           "%s{result=\"fresh\"} %" PRIu64 "\n%s{result=\"stale\"} %" PRIu64
	           "\n%s{result=\"undecided\"} %" PRIu64 "\n",
	           name, t.all.fresh, name, t.all.stale, name,
	           observe_undecided(&t.all) - (uint64_t)t.pending);
	single(out, "tidemark_observed_pending", GAUGE, (uint64_t)t.pending,
	       "Observed reads that wait for a sample to be judged by.");
	single(out, "tidemark_observed_shapes", GAUGE, (uint64_t)t.shapes,
	       "Shapes of statements that SHOW OBSERVE tells apart.");
	single(out, "tidemark_observed_shapes_evicted_total", COUNTER, t.evicted,
	       "Shapes that are counted among the others, to make room.");
}

/* The cumulative counts at some of the histogram's edges. */
static void token_wait(const struct worker *w, struct buf *out)
{
	const char *name = "tidemark_token_wait_seconds";
	const struct hist *h = &w->stats.token_wait;
	uint64_t seen = 0;
	head(out, name, HISTOGRAM, "How long reads waited for a replica to reach the session's mark.");
	for (int i = 0; i < HIST_BUCKETS - 1; i++) {
		uint64_t edge = hist_edge_us(i);
		seen += h->buckets[i];
		bool doubling = (edge & (edge - 1)) == 0;
		if (doubling && edge >= WAIT_EDGE_MIN_US && edge <= WAIT_EDGE_MAX_US)
			buf_printf(out, "%s_bucket{le=\"%.6f\"} %" PRIu64 "\n", name, (double)edge / 1e6, seen);
	}
	buf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, h->count);
	buf_printf(out, "%s_sum %.6f\n", name, (double)h->sum_us / 1e6);
	buf_printf(out, "%s_count %" PRIu64 "\n", name, h->count);
}

/* ---------------------------------------------------------------------- fleet */

/* What is not known has no sample: a number in its place would look like knowledge. */
static void replica_gauges(const struct fleet *f, int64_t now_us, struct buf *out)
{
	const char *name = "tidemark_replica_position_bytes";
	head(out, name, GAUGE, "Position in the log up to which a replica has replayed.");
	for (int i = 0; i < f->count; i++) {
		if (f->nodes[i].role != NODE_ROLE_REPLICA || !position_is_set(f->nodes[i].at))
			continue;
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %" PRIu64 "\n", f->nodes[i].at.lsn);
	}
	name = "tidemark_replica_lag_bytes";
	head(out, name, GAUGE,
	     "Log bytes between the newest known position of the primary and a replica.");
	for (int i = 0; i < f->count; i++) {
		uint64_t lag = fleet_lag_bytes(f, i);
		if (f->nodes[i].role != NODE_ROLE_REPLICA || lag == UINT64_MAX)
			continue;
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %" PRIu64 "\n", lag);
	}
	name = "tidemark_replica_lag_milliseconds";
	head(out, name, GAUGE,
	     "Age of the oldest commit that a replica may lack, by the router's clock alone.");
	for (int i = 0; i < f->count; i++) {
		int64_t lag = fleet_lag_us(f, i, now_us);
		if (f->nodes[i].role != NODE_ROLE_REPLICA || lag == LAG_UNKNOWN)
			continue;
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %.3f\n", (double)lag / 1e3);
	}
	name = "tidemark_replica_eligible";
	head(out, name, GAUGE,
	     "1 if reads may go to a replica: up, sampled lately, on the primary's timeline.");
	for (int i = 0; i < f->count; i++) {
		if (f->nodes[i].role != NODE_ROLE_REPLICA)
			continue;
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %d\n", fleet_replica_eligible(f, i, now_us) ? 1 : 0);
	}
}

static void diverged_gauges(const struct fleet *f, struct buf *out)
{
	const char *name = "tidemark_replica_diverged";
	head(out, name, GAUGE, "1 if the replica has what the primary's history has not.");
	for (int i = 0; i < f->count; i++) {
		if (f->nodes[i].role != NODE_ROLE_REPLICA)
			continue;
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %d\n", fleet_node_branch(f, i) == BRANCH_DIVERGED ? 1 : 0);
	}
}

static void node_gauges(const struct fleet *f, struct buf *out)
{
	const char *name = "tidemark_node_up";
	head(out, name, GAUGE, "1 if the node's watcher is connected and has had an answer.");
	for (int i = 0; i < f->count; i++) {
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, ",role=\"%s\"} %d\n", node_role_name(f->nodes[i].role),
		           f->nodes[i].up ? 1 : 0);
	}
	name = "tidemark_node_fenced";
	head(out, name, GAUGE, "1 if the node says that it is primary and is not taken for it.");
	for (int i = 0; i < f->count; i++) {
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %d\n", fleet_node_fenced(f, i) ? 1 : 0);
	}
	name = "tidemark_node_outstanding";
	head(out, name, GAUGE, "Statements in flight on a node.");
	for (int i = 0; i < f->count; i++) {
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %" PRIu32 "\n", f->nodes[i].outstanding);
	}
	name = "tidemark_node_weight";
	head(out, name, GAUGE, "Configured weight: share of the reads while the node is a replica.");
	for (int i = 0; i < f->count; i++) {
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %d\n", f->nodes[i].health.weight);
	}
	name = "tidemark_node_drained";
	head(out, name, GAUGE, "1 if the operator has taken the node out with DRAIN.");
	for (int i = 0; i < f->count; i++) {
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %d\n", f->nodes[i].health.drained ? 1 : 0);
	}
	name = "tidemark_replica_unreachable";
	head(out, name, GAUGE, "1 if a replica is left out because it takes no pooled connections.");
	for (int i = 0; i < f->count; i++) {
		put_node(out, name, &f->nodes[i]);
		buf_printf(out, "} %d\n", f->nodes[i].health.unreachable ? 1 : 0);
	}
	name = "tidemark_primary_position_bytes";
	head(out, name, GAUGE, "Newest sampled insert position in the primary's log.");
	if (f->primary != NODE_NONE && position_is_set(f->nodes[f->primary].at)) {
		put_node(out, name, &f->nodes[f->primary]);
		buf_printf(out, "} %" PRIu64 "\n", f->nodes[f->primary].at.lsn);
	}
	single(out, "tidemark_fleet_generation", GAUGE, f->generation,
	       "Grows when another node, or another timeline, becomes primary.");
}

/* ------------------------------------------------------------------- counters */

static void patroni(const struct worker *w, struct buf *out)
{
	struct patroni_stats s = {0};
	if (w->patroni)
		patroni_stats(w->patroni, &s);
	single(out, "tidemark_patroni_fresh", GAUGE, s.fresh,
	       "1 if Patroni's last word holds; 0: the primary is found by roles and histories alone.");
	single(out, "tidemark_patroni_answers_total", COUNTER, s.words,
	       "Answers of Patroni that said who leads, or that nobody does.");
	single(out, "tidemark_patroni_failures_total", COUNTER, s.failed,
	       "Questions to a member of Patroni without such an answer.");
}

/* Rows of one name stand together. */
static void counters(const struct worker *w, struct buf *out)
{
	static const struct {
		const char *name, *labels;
		size_t offset;
		const char *help;
	} rows[] = {
#define ROW(name, labels, field, help) \
	{"tidemark_" name "_total", labels, offsetof(struct stats, field), help}
		ROW("reads_waited", "", reads_waited, "Reads that waited for a replica or a sample."),
		ROW("reads_waited_for_others", "", waited_for_others,
	        "Reads that waited only for what other connections of a shared session wrote."),
		ROW("reads_primary_for_others", "", primary_for_others,
	        "Reads that went to the primary only for what other connections wrote."),
		ROW("discriminating_reads", "", discriminating,
	        "Reads at which a healthy replica was behind the session's mark."),
		ROW("wait_timeouts", "", wait_timeouts,
	        "Reads that waited in vain and went to the primary."),
		ROW("waitlist_full", "", waitlist_full,
	        "Reads that went to the primary because too many waited already."),
		ROW("replica_left_out", "{cause=\"unreachable\"}", left_out_unreachable,
	        "Times that a replica was left out, by cause."),
		ROW("replica_left_out", "{cause=\"slow\"}", left_out_slow, ""),
		ROW("guards", "", guards,
	        "Reads sent to a replica that was expected to have caught up and had to prove it."),
		ROW("guards_missed", "", guards_missed,
	        "Reads whose replica had not caught up, decided again."),
		ROW("reads_held_back", "", held_back,
	        "Reads without a fit replica that had to wait for their part of the primary's pool."),
		ROW("transactions_moved", "", transactions_moved,
	        "Transactions that moved from a replica to the primary."),
		ROW("captures", "{result=\"ok\"}", captures,
	        "Commit positions captured behind writes, by result."),
		ROW("captures", "{result=\"failed\"}", captures_failed, ""),
		ROW("captures", "{result=\"uncaptured\"}", writes_uncaptured, ""),
		ROW("sessions_lost", "", sessions_lost,
	        "Sessions told that a failover may have cut off their writes."),
		ROW("tags_malformed", "", tags_malformed,
	        "Statements with query tags that cannot be read."),
		ROW("catalog_loads", "{result=\"ok\"}", catalog_loads,
	        "Readings of a primary's catalog, by result."),
		ROW("catalog_loads", "{result=\"failed\"}", catalog_load_failures, ""),
		ROW("logins", "{result=\"ok\"}", logins, "Logins of clients, by result."),
		ROW("logins", "{result=\"failed\"}", login_failures, ""),
		ROW("user_lookups", "{result=\"asked\"}", lookups,
	        "Users that auth_query was asked for, or a kept answer was good for."),
		ROW("user_lookups", "{result=\"kept\"}", lookups_kept, ""),
		ROW("user_lookups", "{result=\"failed\"}", lookups_failed, ""),
		ROW("server_connects", "", server_connects, "Server connections opened."),
		ROW("server_connect_failures", "", server_connect_failures,
	        "Server connections that could not be had."),
		ROW("cancels", "{result=\"forwarded\"}", cancels,
	        "Cancel requests, by what became of them."),
		ROW("cancels", "{result=\"refused\"}", cancels_refused, ""),
		ROW("client_errors", "", client_errors, "Violations of the protocol by clients."),
		ROW("settings_syncs", "", syncs,
	        "Times that a client's settings were replayed on a server connection."),
		ROW("statement_prepares", "", prepares,
	        "Statements prepared on a server connection that lacked them."),
		ROW("binds", "", binds, "Times that a client was bound to a server connection."),
		ROW("unseen_questions", "", unseen_asked,
	        "Times that a session was asked what functions had left in it."),
		ROW("unseen_found", "", unseen_found, "Those that found something, or had no answer."),
#undef ROW
	};
	const char *last = "";
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t value;
		memcpy(&value, (const char *)&w->stats + rows[i].offset, sizeof(value));
		if (strcmp(rows[i].name, last) != 0)
			head(out, rows[i].name, COUNTER, rows[i].help);
		last = rows[i].name;
		buf_printf(out, "%s%s %" PRIu64 "\n", rows[i].name, rows[i].labels, value);
	}
}

/* --------------------------------------------------------- clients and servers */

static void connections(const struct worker *w, const struct census *c, struct buf *out)
{
	single(out, "tidemark_clients", GAUGE, (uint64_t)w->client_count, "Client connections.");
	single(out, "tidemark_clients_max", GAUGE, (uint64_t)w->settings->max_client_conn,
	       "Limit of client connections (max_client_conn); 0 is none.");
	single(out, "tidemark_client_active", GAUGE, c->clients[CLIENT_DOES_ACTIVE],
	       "Clients that hold a server connection.");
	single(out, "tidemark_client_bound", GAUGE, c->clients_bound,
	       "Clients bound to their primary connection by session state.");
	head(out, "tidemark_client_bound_by", GAUGE, "Clients bound by session state, by its kind");
	for (int i = 1; i < BIND_COUNT; i++)
		buf_printf(out, "tidemark_client_bound_by{reason=\"%s\"} %" PRIu64 "\n",
		           bind_reason_name((enum bind_reason)i), c->bound_by[i]);
	single(out, "tidemark_waiting", GAUGE, (uint64_t)w->waitlist.count,
	       "Statements that wait for a replica or a sample now.");
	single(out, "tidemark_waiting_max", GAUGE, (uint64_t)w->waitlist.max,
	       "Limit of waiting statements (max_waiting).");
	single(out, "tidemark_pool_waiting", GAUGE, c->clients[CLIENT_DOES_WAIT],
	       "Clients that wait for a server connection now.");
	single(out, "tidemark_fallback_reads", GAUGE, c->fallback,
	       "Reads let in on the primary now for want of a replica.");
	single(out, "tidemark_fallback_held", GAUGE, c->held,
	       "Reads held back now, until there is a place for them on the primary, or a replica.");

	const char *name = "tidemark_servers";
	head(out, name, GAUGE, "Server connections by node and by what they do.");
	for (int node = 0; node < w->fleet.count; node++) {
		for (int i = 0; i < SERVER_ACTIVITIES; i++) {
			put_node(out, name, &w->fleet.nodes[node]);
			buf_printf(out, ",state=\"%s\"} %" PRIu64 "\n",
			           server_activity_name((enum server_activity)i), c->servers[node][i]);
		}
	}
}

static void traffic(const struct census *c, struct buf *out)
{
	const struct database_stats *t = &c->totals;
	single(out, "tidemark_transactions_total", COUNTER, t->xact_count, "Transactions finished.");
	single(out, "tidemark_received_bytes_total", COUNTER, t->received, "Bytes read from clients.");
	single(out, "tidemark_sent_bytes_total", COUNTER, t->sent, "Bytes of servers for clients.");
	single_seconds(out, "tidemark_transaction_seconds_total", COUNTER, (int64_t)t->xact_time_us,
	               "Time from a transaction's first statement to its end, waits included.");
}

static void caches(const struct worker *w, const struct census *c, struct buf *out)
{
	const struct stmt_cache_stats *s = &c->caches;
	head(out, "tidemark_statement_cache_hits_total", COUNTER,
	     "Statement cache look-ups that found something.");
	buf_printf(out,
	           "tidemark_statement_cache_hits_total{kind=\"shape\"} %" PRIu64
	           "\n"
	           "tidemark_statement_cache_hits_total{kind=\"statement\"} %" PRIu64 "\n",
	           s->shape_hits, s->statement_hits);
	head(out, "tidemark_statement_cache_misses_total", COUNTER,
	     "Statement cache look-ups that found nothing.");
	buf_printf(out,
	           "tidemark_statement_cache_misses_total{kind=\"shape\"} %" PRIu64
	           "\n"
	           "tidemark_statement_cache_misses_total{kind=\"statement\"} %" PRIu64 "\n",
	           s->shape_misses, s->statement_misses);
	head(out, "tidemark_statement_cache_entries", GAUGE, "Entries of the statement caches.");
	buf_printf(out,
	           "tidemark_statement_cache_entries{kind=\"shape\"} %d\n"
	           "tidemark_statement_cache_entries{kind=\"statement\"} %d\n",
	           s->shapes, s->statements);

	single(out, "tidemark_sessions", GAUGE, (uint64_t)w->sessions.count,
	       "Named sessions in memory.");
	single(out, "tidemark_sessions_max", GAUGE, (uint64_t)w->sessions.max,
	       "Limit of named sessions (max_sessions).");
	single(out, "tidemark_sessions_created_total", COUNTER, w->sessions.created,
	       "Named sessions made.");
	single(out, "tidemark_sessions_expired_total", COUNTER, w->sessions.expired,
	       "Named sessions forgotten after session_ttl.");
	single(out, "tidemark_sessions_evicted_total", COUNTER, w->sessions.evicted,
	       "Named sessions forgotten to make room.");
}

static void shared_sessions(const struct worker *w, struct buf *out)
{
	struct store_stats s = {0};
	if (w->store)
		store_stats(w->store, &s);
	single(out, "tidemark_store_up", GAUGE, s.up, "1 if the store of session marks answers.");
	single(out, "tidemark_store_reads_total", COUNTER, s.reads, "Marks asked for.");
	single(out, "tidemark_store_writes_total", COUNTER, s.writes, "Marks stored.");
	single(out, "tidemark_store_doubtful_total", COUNTER, s.doubtful,
	       "Answers that were not believed.");
	single(out, "tidemark_store_failed_total", COUNTER, s.failed, "Questions without an answer.");
	single(out, "tidemark_store_timeouts_total", COUNTER, s.timeouts, "… for want of time.");
	single(out, "tidemark_store_reconnects_total", COUNTER, s.reconnects, "Connections lost.");
	single(out, "tidemark_store_owed", GAUGE, (uint64_t)s.owed,
	       "Marks to be stored once it answers.");
	single(out, "tidemark_store_acknowledged_owed_total", COUNTER, w->stats.marks_owed,
	       "Statements acknowledged before their mark was stored.");
	single(out, "tidemark_store_acknowledged_uncovered_total", COUNTER, w->stats.marks_uncovered,
	       "… while nothing told other routers to doubt.");
	single(out, "tidemark_store_lost_total", COUNTER, w->stats.marks_lost,
	       "Stored marks that are cut off from the primary's history.");
	single(out, "tidemark_store_unknown_total", COUNTER, w->stats.marks_unknown,
	       "Stored marks of which nobody knows whether the primary's history has them.");
}

static void about(const struct worker *w, int64_t now_us, struct buf *out)
{
	head(out, "tidemark_build_info", GAUGE, "1; the version is the label.");
	buf_append_str(out, "tidemark_build_info{version=\"" TIDEMARK_VERSION "\"} 1\n");
	single_seconds(out, "tidemark_uptime_seconds", GAUGE, now_us - w->started_at_us,
	               "Time since the router started.");
}

void admin_metrics(const struct worker *w, struct buf *out)
{
	int64_t now = net_now_us();
	struct census c;
	census_take(w, now, &c);
	routing(w, out);
	observed(w, out);
	token_wait(w, out);
	replica_gauges(&w->fleet, now, out);
	diverged_gauges(&w->fleet, out);
	node_gauges(&w->fleet, out);
	patroni(w, out);
	counters(w, out);
	connections(w, &c, out);
	traffic(&c, out);
	caches(w, &c, out);
	shared_sessions(w, out);
	about(w, now, out);
}
