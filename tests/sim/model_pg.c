/* SPDX-License-Identifier: PostgreSQL
 *
 * The servers of the model: logs, replication, crashes. What a connection does is in
 * model_backend.c.
 */
#include "model_node.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define SYSTEM_IDENTIFIER 7300000000000000001
#define START_POSITION 0x3ff8000
#define WAL_WRITER_US 60000
/* How far back a replica's last restart point may lie, in records. */
#define RESTART_POINT_RECORDS 40
#define POSTMASTER_EPOCH_US 1700000000000000
/* A revert: the connections are gone; it happens; connections are taken again. */
#define REVERT_CUT_US 400000
#define REVERT_DONE_US 1500000
#define REVERT_REST_US 2500000 /* … and nothing is replayed for so long */
#define RECOVERY_MAX_US 800000 /* … and how long it may take to get on from there */

/* ================= the log of a primary ================= */

static void show_commit(struct model_node *n, const struct wal_record *r)
{
	n->rows[r->key] = r->version;
}

void node_flush(struct model_node *n, int count)
{
	for (; n->flushed < count; n->flushed++) {
		struct wal_record *r = &n->wal.records[n->flushed];
		r->flushed_at_us = net_now_us();
		if (r->kind == WAL_COMMIT && !n->model->async_commit)
			show_commit(n, r);
	}
	backends_flushed(n);
}

int node_commit(struct model_node *n, int key, uint32_t version)
{
	int index = wal_append(&n->wal, WAL_COMMIT, key, version);
	if (n->model->async_commit)
		show_commit(n, &n->wal.records[index]);
	return index;
}

static void on_wal_writer(void *arg)
{
	struct model_node *n = arg;
	if (n->up && !n->replica && !node_hangs(n)) {
		if (sim_chance(50))
			wal_append(&n->wal, WAL_OTHER, 0, 0);
		node_flush(n, n->wal.count);
	}
	net_timer_start(n->wal_writer, sim_between(1000, WAL_WRITER_US));
}

/* ================= replication ================= */

static void receive(struct model_node *n)
{
	const struct model_node *up = &n->model->nodes[n->model->primary];
	if (!up->up || node_hangs(up) || up->timeline != n->timeline || !sim_link_up(n->host, up->host))
		return;
	while (n->wal.count < up->flushed) {
		const struct wal_record *r = &up->wal.records[n->wal.count];
		if (r->flushed_at_us + n->lag_us / 2 > net_now_us())
			break;
		wal_copy_record(&n->wal, r);
	}
}

/* Record by record: now and then it rests between a change and its commit. */
static void replay(struct model_node *n)
{
	if (net_now_us() < n->paused_until_us)
		return;
	while (n->replayed < n->wal.count) {
		const struct wal_record *r = &n->wal.records[n->replayed];
		if (r->flushed_at_us + n->lag_us > net_now_us())
			break;
		n->replayed++;
		if (r->kind == WAL_COMMIT)
			show_commit(n, r);
		if (sim_below(6) == 0)
			break;
	}
}

/* How many of its records the primary has, too. */
static int common_records(const struct model_node *n)
{
	const struct model *m = n->model;
	int common = n->stray_from < n->wal.count ? n->stray_from : n->wal.count;
	/* A stray primary of that number may have been promoted from beyond the true one's fork. */
	for (uint32_t t = n->stray ? n->timeline : n->timeline + 1; t <= model_timeline(m); t++)
		if (m->forks[t].records < common)
			common = m->forks[t].records;
	return common;
}

bool model_diverged(const struct model *m, int node)
{
	const struct model_node *n = &m->nodes[node];
	return node != m->primary && (n->stray || common_records(n) < n->wal.count);
}

/* recovery_target_timeline = latest */
static void follow_live(struct model_node *n)
{
	if (n->timeline == model_timeline(n->model) || sim_below(50) != 0 ||
	    model_diverged(n->model, n->index))
		return;
	n->timeline = model_timeline(n->model);
	sim_trace("%s follows to timeline %u", n->name, n->timeline);
}

static void on_replication(void *arg)
{
	struct model_node *n = arg;
	if (n->up && n->replica && !node_hangs(n)) {
		follow_live(n);
		receive(n);
		replay(n);
	}
	net_timer_start(n->replication, sim_between(100, 1500));
}

/* ================= positions ================= */

uint64_t node_insert_position(const struct model_node *n)
{
	return wal_insert_position(&n->wal);
}

uint64_t node_write_position(const struct model_node *n)
{
	return wal_position(&n->wal, n->flushed);
}

uint64_t node_replay_position(const struct model_node *n)
{
	return wal_position(&n->wal, n->replayed);
}

uint64_t node_system_identifier(const struct model_node *n)
{
	return SYSTEM_IDENTIFIER;
}

int64_t node_started(const struct model_node *n)
{
	return POSTMASTER_EPOCH_US + n->started_at_us;
}

/* ================= standing still, and going back ================= */

bool node_hangs(const struct model_node *n)
{
	return net_now_us() < n->hung_until_us;
}

static void on_thaw(void *arg)
{
	struct model_node *n = arg;
	n->hung_until_us = 0;
	if (n->up)
		backends_thaw(n);
}

void model_hang(struct model *m, int node, int64_t until_us)
{
	struct model_node *n = &m->nodes[node];
	sim_trace("%s stands still", n->name);
	n->hung_until_us = until_us;
	net_timer_start(n->thaw, until_us - net_now_us());
}

static void replay_from(struct model_node *n, int replayed)
{
	n->replayed = replayed > 0 ? replayed : 0;
	wal_rows(&n->wal, n->replayed, n->rows);
}

static void on_reverting(void *arg)
{
	struct model_node *n = arg;
	if (!n->up || !n->replica) {
		n->revert = REVERT_NONE;
	} else if (n->revert == REVERT_CUT) {
		replay_from(n, n->replayed - 1 - (int)sim_below(RESTART_POINT_RECORDS));
		n->paused_until_us = net_now_us() + REVERT_REST_US;
		sim_trace("%s is put back to %d records", n->name, n->replayed);
		n->revert = REVERT_DONE;
		net_timer_start(n->reverting, REVERT_DONE_US);
	} else {
		n->revert = REVERT_NONE;
		backends_drop_others(n);
	}
}

void model_revert(struct model *m, int node)
{
	struct model_node *n = &m->nodes[node];
	if (!n->up || !n->replica || n->revert != REVERT_NONE)
		return;
	sim_trace("%s is about to be put back", n->name);
	n->revert = REVERT_CUT;
	backends_drop_others(n);
	net_timer_start(n->reverting, REVERT_CUT_US);
}

bool model_reverts(const struct model *m, int node)
{
	return m->nodes[node].revert != REVERT_NONE;
}

/* ================= life ================= */

static void listen_here(struct model_node *n)
{
	char error[128];
	n->listener =
		net_listen(n->loop, n->name, MODEL_PORT, 16, backend_accept, n, error, sizeof(error));
}

static void node_init(struct model *m, int index, bool replica)
{
	struct model_node *n = &m->nodes[index];
	n->model = m;
	n->index = index;
	(void)snprintf(n->name, sizeof(n->name), "node%d", index);
	n->host = sim_host(n->name);
	n->loop = sim_loop_new(n->name);
	n->wal.start = START_POSITION;
	n->replica = replica;
	n->timeline = 1;
	n->stray_from = INT_MAX;
	n->up = true;
	n->started_at_us = net_now_us() + index;
	n->lag_us = sim_between(200, 4000);
	list_init(&n->backends);
	n->wal_writer = net_timer_new(n->loop, on_wal_writer, n);
	n->replication = net_timer_new(n->loop, on_replication, n);
	n->thaw = net_timer_new(n->loop, on_thaw, n);
	n->reverting = net_timer_new(n->loop, on_reverting, n);
	net_timer_start(n->wal_writer, sim_between(1000, WAL_WRITER_US));
	net_timer_start(n->replication, sim_between(1000, 5000));
	listen_here(n);
}

struct model *model_new(int nodes, bool async_commit)
{
	struct model *m = calloc(1, sizeof(*m));
	assert(m && nodes <= MODEL_NODES_MAX);
	m->count = nodes;
	m->async_commit = async_commit;
	for (int i = 0; i < nodes; i++)
		node_init(m, i, i > 0);
	return m;
}

void model_free(struct model *m)
{
	for (int i = 0; i < m->count; i++) {
		struct model_node *n = &m->nodes[i];
		backends_drop(n);
		net_listener_close(n->listener);
		net_timer_free(n->wal_writer);
		net_timer_free(n->replication);
		net_timer_free(n->thaw);
		net_timer_free(n->reverting);
		wal_release(&n->wal);
	}
	free(m);
}

void model_crash(struct model *m, int node, bool power)
{
	struct model_node *n = &m->nodes[node];
	assert(n->up);
	sim_trace("%s crashes%s", n->name, power ? ", and its host" : "");
	if (power)
		sim_host_power(n->host, false);
	m->counts.crashes++;
	n->up = false;
	n->hung_until_us = 0;
	n->revert = REVERT_NONE;
	net_timer_stop(n->thaw);
	net_timer_stop(n->reverting);
	backends_drop(n);
	net_listener_close(n->listener);
	n->listener = NULL;
	if (!n->replica)
		wal_truncate(&n->wal, n->flushed);
}

/* What only it has, pg_rewind takes away. */
static void follow(struct model_node *n)
{
	wal_truncate(&n->wal, common_records(n));
	n->timeline = model_timeline(n->model);
	n->stray = false;
	n->stray_from = INT_MAX;
}

static void restart_replica(struct model_node *n)
{
	follow(n);
	int kept = n->replayed < n->wal.count ? n->replayed : n->wal.count;
	int back = (int)sim_below(RESTART_POINT_RECORDS);
	replay_from(n, kept - back);
	n->paused_until_us = net_now_us() + (sim_chance(50) ? sim_between(0, RECOVERY_MAX_US) : 0);
}

void model_start(struct model *m, int node)
{
	struct model_node *n = &m->nodes[node];
	assert(!n->up);
	n->up = true;
	n->started_at_us = net_now_us();
	sim_host_power(n->host, true);
	if (m->primary != node && !n->replica) { /* somebody else was promoted meanwhile */
		n->replica = true;
		n->replayed = n->wal.count;
	}
	if (n->replica) {
		restart_replica(n);
	} else {
		wal_rows(&n->wal, n->flushed, n->rows);
		wal_append(&n->wal, WAL_OTHER, 0, 0); /* its checkpoint */
		node_flush(n, n->wal.count);
	}
	sim_trace("%s starts as %s, %d records of %d", n->name, n->replica ? "replica" : "primary",
	          n->replica ? n->replayed : n->flushed, n->wal.count);
	listen_here(n);
}

/* The one that has received most; if `any`, not always that one. -1: there is none. */
static int successor(const struct model *m, bool any)
{
	int best = -1;
	for (int i = 0; i < m->count; i++) {
		const struct model_node *n = &m->nodes[i];
		if (n->up && n->replica && !node_hangs(n) && n->timeline == model_timeline(m) &&
		    (best < 0 || (any && sim_chance(50)) || n->wal.count > m->nodes[best].wal.count))
			best = i;
	}
	return best;
}

static void become_primary(struct model_node *n)
{
	n->model->counts.promotions++;
	n->replica = false;
	n->revert = REVERT_NONE;
	n->replayed = n->flushed = n->wal.count;
	n->timeline++;
	wal_rows(&n->wal, n->wal.count, n->rows);
	sim_trace("%s is promoted: timeline %u, after %d records", n->name, n->timeline, n->wal.count);
	wal_append(&n->wal, WAL_OTHER, 0, 0); /* its end of recovery */
	node_flush(n, n->wal.count);
}

bool model_promote(struct model *m, bool lossy)
{
	struct model_node *old = &m->nodes[m->primary];
	int node = successor(m, lossy);
	assert(model_may_fail_over(m));
	if (node < 0)
		return false;
	struct model_node *n = &m->nodes[node];
	/* As if it had been a synchronous standby. */
	while (!lossy && n->wal.count < old->flushed)
		wal_copy_record(&n->wal, &old->wal.records[n->wal.count]);
	m->forks[n->timeline + 1].records = n->wal.count;
	m->forks[n->timeline + 1].twice = m->forks[n->timeline + 1].stray = false;
	m->forks[n->timeline + 1].at = wal_position(&n->wal, n->wal.count);
	m->primary = node;
	old->stray = old->up;
	become_primary(n);
	return true;
}

int model_promote_stray(struct model *m)
{
	for (int i = 0; i < m->count; i++) {
		struct model_node *n = &m->nodes[i];
		if (!n->up || !n->replica || n->timeline + 1 != model_timeline(m))
			continue;
		n->stray = true;
		n->stray_from = n->wal.count;
		become_primary(n);
		m->forks[n->timeline].twice |= n->stray_from == m->forks[n->timeline].records;
		m->forks[n->timeline].stray = true;
		return i;
	}
	return -1;
}

uint32_t model_timeline(const struct model *m)
{
	return m->nodes[m->primary].timeline;
}

bool model_has_twin(const struct model *m, uint32_t timeline)
{
	return m->forks[timeline].twice;
}

bool model_has_stray(const struct model *m, uint32_t timeline)
{
	return m->forks[timeline].stray;
}

bool model_may_fail_over(const struct model *m)
{
	return model_timeline(m) + 1 < MODEL_TIMELINES;
}

/* ================= looking and disturbing ================= */

int model_host(const struct model *m, int node)
{
	return m->nodes[node].host;
}

int model_nodes(const struct model *m)
{
	return m->count;
}

int model_primary(const struct model *m)
{
	return m->primary;
}

bool model_up(const struct model *m, int node)
{
	return m->nodes[node].up;
}

bool model_async_commit(const struct model *m)
{
	return m->async_commit;
}

uint64_t model_fork(const struct model *m)
{
	return m->forks[model_timeline(m)].at;
}

bool model_answers(const struct model *m, int node)
{
	return m->nodes[node].up && !node_hangs(&m->nodes[node]);
}

bool model_is_replica(const struct model *m, int node)
{
	return m->nodes[node].replica;
}

int64_t model_started(const struct model *m, int node)
{
	return node_started(&m->nodes[node]);
}

uint64_t model_position(const struct model *m, int node)
{
	const struct model_node *n = &m->nodes[node];
	return n->replica ? node_replay_position(n) : node_insert_position(n);
}

static const struct wal_record *find_commit(const struct wal *w, int key, uint32_t version)
{
	for (int i = w->count - 1; i >= 0; i--) {
		const struct wal_record *r = &w->records[i];
		if (r->kind == WAL_COMMIT && r->key == key)
			return r->version == version ? r : NULL;
	}
	return NULL;
}

bool model_commit(const struct model *m, int key, uint32_t version, uint64_t *end,
                  uint64_t *written, uint32_t *timeline)
{
	int found = 0;
	for (int i = 0; i < m->count; i++) {
		const struct model_node *n = &m->nodes[i];
		const struct wal_record *r = n->replica ? NULL : find_commit(&n->wal, key, version);
		if (!r)
			continue;
		/* Of a stray primary that has the number of the true one. */
		found += node_is_twin(n) ? 2 : 1;
		*end = r->end;
		/* A crash has taken along what was not flushed: nobody can tell how far it had written. */
		*written = n->up ? wal_insert_position(&n->wal) : UINT64_MAX;
		*timeline = n->timeline;
	}
	return found == 1;
}

int model_connections(const struct model *m, int node)
{
	int count = 0;
	for (const struct list *it = m->nodes[node].backends.next; it != &m->nodes[node].backends;
	     it = it->next)
		count++;
	return count;
}

void model_set_lag(struct model *m, int node, int64_t lag_us)
{
	m->nodes[node].lag_us = lag_us;
}

void model_pause_replay(struct model *m, int node, int64_t until_us)
{
	m->nodes[node].paused_until_us = until_us;
}

const struct model_counts *model_counts(const struct model *m)
{
	return &m->counts;
}
