/* SPDX-License-Identifier: PostgreSQL
 *
 * The fleet against a model that remembers everything: lag is never understated, the ring stays in
 * order, roles and generations follow the plain rule, and the learnt replay delay comes to be what
 * it truly is, however seldom the watchers ask.
 */
#include "consistency/fleet.h"
#include "property.h"

#define NODES 4
#define COMMITS 20000

static struct fleet f;
static int64_t now;

/* Commits acknowledged through the router, on the present branch. */
static struct {
	uint64_t at;
	int64_t acknowledged;
} commits[COMMITS];
static int commit_count;

static struct {
	bool up;
	enum node_role role;
	uint32_t timeline;
	uint64_t at;
	bool told;     /* its history */
	uint64_t fork; /* … and where its timeline left the first; 0: not told, or it is the first */
} model[NODES];
static int last_primary;
static uint32_t last_timeline, generation;
static uint64_t last_fork;
static uint64_t written;

static void check_ring(void)
{
	for (uint32_t i = 1; i < f.ring_count; i++) {
		const struct fleet_sample *a = &f.ring[i - 1], *b = &f.ring[i];
		require(a->at.lsn < b->at.lsn && a->reached_us < b->reached_us &&
		            a->complete_us <= b->complete_us,
		        "ring out of order at %u of %u", i, f.ring_count);
	}
}

static void check_lag(int n)
{
	int64_t lag = fleet_lag_us(&f, n, now);
	uint64_t at = f.nodes[n].at.lsn;
	if (!position_is_set(f.nodes[n].at)) {
		require(lag == LAG_UNKNOWN, "a lag without a position");
		return;
	}
	int missing = 0;
	while (missing < commit_count && commits[missing].at <= at)
		missing++;
	int64_t stale = missing == commit_count ? 0 : now - commits[missing].acknowledged;
	require(lag >= stale, "lag %" PRId64 " of node %d at %" PRIu64 " is truly %" PRId64, lag, n, at,
	        stale);
}

static int naive_primary(void)
{
	int found = NODE_NONE, count = 0;
	for (int i = 0; i < NODES; i++) {
		if (model[i].up && model[i].role == NODE_ROLE_PRIMARY) {
			found = i;
			count++;
		}
	}
	return count == 1 ? found : NODE_NONE;
}

static bool on_earlier_timeline(int n)
{
	return model[n].timeline != 0 && model[n].timeline < last_timeline;
}

/* Here two timelines beside the first have no history in common, so of several there is none. */
static bool comes_from_the_other(int n, int other)
{
	return model[n].fork != 0 && model[other].told && model[other].timeline == 1;
}

static int naive_elected(void)
{
	int p = naive_primary();
	if (p != NODE_NONE)
		return on_earlier_timeline(p) ? NODE_NONE : p;
	for (int i = 0; i < NODES; i++) {
		bool newest = model[i].up && model[i].role == NODE_ROLE_PRIMARY && !on_earlier_timeline(i);
		for (int j = 0; j < NODES; j++) {
			if (j != i && model[j].up && model[j].role == NODE_ROLE_PRIMARY &&
			    !comes_from_the_other(i, j))
				newest = false;
		}
		if (newest)
			return i;
	}
	return NODE_NONE;
}

/* The rule of the header in the plainest words: another node, or another timeline. */
static void naive_election(void)
{
	int p = naive_elected();
	if (p == NODE_NONE)
		return;
	uint32_t timeline = model[p].timeline;
	bool other_timeline = timeline != 0 && last_timeline != 0 && timeline != last_timeline;
	bool other_node = last_primary != NODE_NONE && p != last_primary;
	if (other_node || other_timeline) {
		generation++;
		commit_count = 0;
		written = 1000;
		last_fork = 0;
	}
	if (model[p].fork != 0)
		last_fork = model[p].fork;
	if (timeline != 0 || other_node)
		last_timeline = timeline;
	last_primary = p;
}

static uint64_t eligible_after_a_fork;

/* Of a replica: what the fleet would find if it judged the node now. */
static bool follows_now(int n)
{
	uint32_t timeline = f.nodes[n].timeline;
	if (timeline == 0 || f.timeline == 0)
		return f.generation == 0 && !f.two_primaries;
	return timeline == f.timeline && fleet_node_branch(&f, n) == BRANCH_SAME;
}

static void check_roles(void)
{
	require(f.primary == naive_elected(), "primary is %d", f.primary);
	require(f.generation == generation, "generation is %u, not %u", f.generation, generation);
	for (int n = 0; n < NODES; n++) {
		bool replica = f.nodes[n].up && f.nodes[n].role == NODE_ROLE_REPLICA;
		require(f.nodes[n].follows == (replica && follows_now(n)), "node %d was judged before", n);
		if (!fleet_replica_eligible(&f, n, now))
			continue;
		require(model[n].up && model[n].role == NODE_ROLE_REPLICA && model[n].at != 0,
		        "node %d is eligible", n);
		require(now - f.nodes[n].sampled_at_us <= f.sample_max_age_us, "old sample");
		require(model[n].timeline == 0 || last_timeline == 0 || model[n].timeline == last_timeline,
		        "wrong timeline");
		require(generation == 0 || model[n].timeline != 0, "unknown timeline");
		require(model[n].timeline < 2 || last_timeline == 0 ||
		            (model[n].fork != 0 && model[n].fork == last_fork),
		        "another fork, or an unknown one");
		eligible_after_a_fork += model[n].timeline > 1;
	}
}

static void role_event(int n)
{
	if (model[n].up && one_in(2)) {
		fleet_node_lost(&f, n, now);
		model[n].up = false;
		model[n].at = 0;
		naive_election();
		return;
	}
	/* A node that is up is lost first. */
	model[n].up = false;
	naive_election();
	model[n].up = true;
	model[n].at = 0;
	model[n].fork = 0;
	model[n].told = false;
	model[n].role = n == 0 || one_in(10) ? NODE_ROLE_PRIMARY : NODE_ROLE_REPLICA;
	model[n].timeline = one_in(10) ? 0 : 1 + (uint32_t)one_in(5);
	fleet_node_up(&f, n, model[n].role, model[n].timeline, now);
	naive_election();
}

/* The fork is one of two: independent promotions. */
static void history_event(int n)
{
	if (!model[n].up || model[n].timeline == 0)
		return;
	struct history h;
	history_first(&h);
	if (model[n].timeline == 2) {
		if (model[n].fork == 0)
			model[n].fork = one_in(3) ? 1 : 2;
		h.timeline = 2;
		h.past[h.count++] = (struct history_entry){1, {model[n].fork}};
	}
	model[n].told = true;
	require(fleet_node_history(&f, n, &h, f.nodes[n].at, now), "history");
	naive_election();
}

static void sample_event(int n)
{
	if (!model[n].up)
		return;
	uint64_t at = model[n].at;
	if (n == f.primary)
		at = written += (uint64_t)below(3);
	else if (written > at)
		at += (uint64_t)below((int64_t)(written - at + 1));
	bool backwards = one_in(200) && at > 2;
	if (backwards)
		at = model[n].at - 1;
	bool contradiction = at < model[n].at;
	/* One question at a time. */
	int64_t started = now - below(20);
	if (started < f.nodes[n].sampled_at_us)
		started = f.nodes[n].sampled_at_us;
	bool good = fleet_node_sampled(&f, n, (struct position){at}, started, now);
	require(good == !contradiction, "sample %" PRIu64 " after %" PRIu64, at, model[n].at);
	model[n].at = at;
	if (contradiction) {
		model[n].up = false;
		naive_election();
	}
}

static void commit_event(void)
{
	if (f.primary == NODE_NONE || commit_count == COMMITS)
		return;
	written += 1 + (uint64_t)below(50);
	fleet_primary_reached(&f, (struct position){written}, now);
	commits[commit_count].at = written;
	commits[commit_count++].acknowledged = now;
}

static void run(void)
{
	now = 1000;
	written = 1000;
	commit_count = 0;
	generation = 0;
	last_primary = NODE_NONE;
	last_timeline = 0;
	last_fork = 0;
	memset(model, 0, sizeof(model));
	fleet_init(&f, 100000);
	for (int i = 0; i < NODES; i++)
		fleet_node_add(&f, slice_str("node"));
	int64_t pace = one_in(2) ? 100 : 5000, trouble = one_in(2) ? 30 : 100000;
	for (int step = 0; step < 3000; step++) {
		now += below(pace);
		if (step < 8 || one_in(trouble))
			role_event((int)below(NODES));
		else if (step < 20 || one_in(trouble))
			history_event((int)below(NODES));
		else if (one_in(3))
			sample_event((int)below(NODES));
		else
			commit_event();
		check_roles();
		check_ring();
		check_lag((int)below(NODES));
	}
}

/* ---- the learnt delay ---- */

struct course {
	int64_t delay_us, poll_us, write_every_us, duration_us;
};

static void write_and_poll(const struct course *c)
{
	static struct {
		uint64_t at;
		int64_t applied;
	} log[200000];
	int count = 0, applied = 0;
	int64_t next_write = now + below(c->write_every_us), next_poll = now + below(c->poll_us);
	for (int64_t end = now + c->duration_us; now < end;) {
		if (next_write < next_poll) {
			now = next_write;
			next_write += 1 + below(2 * c->write_every_us);
			log[count].at = written += 10;
			log[count++].applied = now + c->delay_us;
			now += 100; /* the answer's way */
			fleet_primary_reached(&f, (struct position){written}, now);
			continue;
		}
		now = next_poll;
		next_poll += c->poll_us;
		while (applied < count && log[applied].applied <= now)
			applied++;
		uint64_t at = applied == 0 ? f.nodes[1].at.lsn : log[applied - 1].at;
		if (at == 0)
			at = written;
		bool good = fleet_node_sampled(&f, 0, (struct position){written}, now, now + 100) &&
		            fleet_node_sampled(&f, 1, (struct position){at}, now, now + 100);
		require(good, "a true sample was refused");
	}
	now += c->delay_us + 1000;
}

static void start_over(void)
{
	now = 1000000;
	written = 1000;
	fleet_init(&f, 1000000);
	for (int i = 0; i < 2; i++) {
		fleet_node_add(&f, slice_str("node"));
		fleet_node_up(&f, i, i == 0 ? NODE_ROLE_PRIMARY : NODE_ROLE_REPLICA, 1, now);
	}
}

static void expect_delay(int64_t low_us, int64_t high_us, const char *when)
{
	int64_t learnt = f.nodes[1].replay_delay_us;
	require(learnt >= low_us && learnt <= high_us, "%s: learnt %" PRId64 " µs", when, learnt);
	require(f.nodes[1].replay_delay_high_us >= learnt, "%s: the high estimate is lower", when);
}

static void learn(void)
{
	static const int64_t every[] = {300, 5000, 100000};
	int64_t write_every = every[below(3)];
	int64_t long_run = write_every * 2000 < 3000000 ? 3000000 : write_every * 1000;

	start_over();
	write_and_poll(&(struct course){200000, 1000, write_every, long_run});
	expect_delay(190000, 206000, "200 ms, asked each ms");
	start_over();
	write_and_poll(&(struct course){200000, 250000, write_every, 10 * long_run});
	expect_delay(150000, 206000, "200 ms, asked each 250 ms");
	/* From an estimate that is far too high, on idle polling alone. */
	write_and_poll(&(struct course){1000, 250000, write_every, 10 * long_run});
	expect_delay(0, 30000, "1 ms after 200 ms, asked each 250 ms");
	write_and_poll(&(struct course){1000, 1000, write_every, long_run});
	expect_delay(0, 5000, "1 ms, asked each ms");
	write_and_poll(&(struct course){200000, 1000, write_every, long_run});
	expect_delay(190000, 206000, "200 ms after 1 ms, asked each ms");
}

/* ---- somebody else is asked who leads ---- */

static uint64_t primaries_narrowed, primaries_kept;

static void same_event(struct fleet *fleets[2])
{
	int n = (int)below(NODES), what = (int)below(4);
	enum node_role role = one_in(2) ? NODE_ROLE_PRIMARY : NODE_ROLE_REPLICA;
	uint32_t timeline = (uint32_t)below(4);
	struct history h;
	history_first(&h);
	if (fleets[0]->nodes[n].timeline > 1) {
		h.timeline = fleets[0]->nodes[n].timeline;
		h.past[h.count++] = (struct history_entry){1, {one_in(3) ? 1 : 2}};
	}
	for (int i = 0; i < 2; i++) {
		if (what == 0)
			fleet_node_lost(fleets[i], n, now);
		else if (what == 1)
			fleet_node_up(fleets[i], n, role, timeline, now);
		else
			(void)!fleet_node_history(fleets[i], n, &h, (struct position){1000}, now);
	}
}

/* Whatever is said, and whatever was: the primary is the one that it would be, or there is none. */
static void narrow(void)
{
	static struct fleet led;
	fleet_init(&f, 1000000);
	fleet_init(&led, 1000000);
	now = 1000000;
	for (int i = 0; i < NODES; i++) {
		fleet_node_add(&f, slice_str("node"));
		fleet_node_add(&led, slice_str("node"));
	}
	for (int step = 0; step < 2000; step++) {
		now += below(1000);
		if (one_in(3))
			fleet_leader(&led, (int)below(NODES + 2) + LEADER_NONE, now);
		same_event((struct fleet *[]){&f, &led});
		require(led.primary == NODE_NONE || led.primary == f.primary, "primary is %d, not %d",
		        led.primary, f.primary);
		require(led.primary == NODE_NONE || fleet_may_lead(&led, led.primary),
		        "the leader is %d and the primary %d", led.leader, led.primary);
		require(led.primary != NODE_NONE || f.primary == NODE_NONE || !fleet_may_lead(&led, f.primary),
		        "the leader %d is not elected", led.leader);
		primaries_kept += led.primary != NODE_NONE;
		primaries_narrowed += led.primary != f.primary;
	}
}

int main(int argc, char **argv)
{
	property_run(argc, argv, 200, run);
	require(argc > 1 || eligible_after_a_fork > 1000, "%" PRIu64 " checks on timeline 2",
	        eligible_after_a_fork);
	property_run(argc, argv, 10, learn);
	property_run(argc, argv, 50, narrow);
	require(argc > 1 || (primaries_kept > 1000 && primaries_narrowed > 1000),
	        "%" PRIu64 " primaries kept, %" PRIu64 " narrowed", primaries_kept, primaries_narrowed);
	return 0;
}
