/* SPDX-License-Identifier: PostgreSQL
 *
 * The promise itself. A model fleet with true positions that the router cannot see: a primary that
 * writes, replicas that apply late, restart and come back older, failovers that cut history. The
 * router sees only what watchers and captures would tell it, late. Sessions write and read, several
 * statements at a time.
 *
 * Whenever route_decide() says "replica", the true state there must hold every write acknowledged
 * to that session and every state an earlier read of that session has seen. And routers with a
 * known fault must be caught by the same check, else it checks nothing.
 */
#include "consistency/route.h"
#include "property.h"

#define NODES_MAX 4
#define SESSIONS 3
#define OPS 12
#define STEPS 4000

/* A node as it truly is. */
struct truth {
	bool running;
	uint64_t at; /* replayed or, on the primary, written */
	uint32_t timeline;
	uint32_t incarnation; /* grows with each end of its connections */
	/* the watcher's question under way */
	bool asked, answered;
	int64_t asked_at;
	uint64_t answer;
	int64_t replay_steps; /* how fast it applies */
};

enum op_state { OP_NONE, OP_WAITING, OP_SENT, OP_DONE_ON_SERVER };

/* A statement of a session under way. */
struct op {
	enum op_state state;
	bool write, on_copy;
	bool eventual; /* may be stale itself; what it saw still binds the session */
	int session, node;
	uint32_t incarnation;
	int64_t since; /* arrival */
	int64_t asked_at;
	uint64_t floor;    /* what it must see at least, as of its arrival */
	uint64_t saw;      /* commit position, or state read */
	uint64_t captured; /* 0: not captured */
	/* A guarded read: what the node was at before it ran; and the fleet's word when it was sent. */
	bool guarded, unguarded;
	uint64_t guard_at;
	uint32_t epoch, generation;
	struct session_mark copy;
	struct route route;
};

static struct {
	int count, primary;
	struct truth node[NODES_MAX];
	struct fleet fleet;
	struct session_mark mark[SESSIONS];
	uint64_t floor[SESSIONS]; /* the highest position this session was told of */
	struct op op[OPS];
	struct route_policy policy;
	int64_t now;
	bool timelines_known;
	uint64_t fork[STEPS]; /* where timeline n+1 left timeline n */
} w;

static long violations, replica_reads, primary_reads, waits, wait_hits, discriminating;
static long guards_held, guards_missed;

static uint32_t told_timeline(int node)
{
	return w.timelines_known ? w.node[node].timeline : 0;
}

/* ---- the world ---- */

/* How much of what this node shows is on the present branch of history, and so can be shown again.
 */
static uint64_t lasting(const struct truth *t)
{
	uint64_t at = t->at;
	for (uint32_t i = t->timeline; i != w.node[w.primary].timeline; i++)
		at = at < w.fork[i] ? at : w.fork[i];
	return at;
}

static void tell_history(int n)
{
	struct history h = {.known = true, .timeline = told_timeline(n)};
	uint32_t oldest = h.timeline > HISTORY_MAX ? h.timeline - HISTORY_MAX : 1;
	if (h.timeline < 2)
		return;
	h.began = (struct position){oldest > 1 ? w.fork[oldest - 1] : 0};
	for (uint32_t t = oldest; t < h.timeline; t++)
		h.past[h.count++] = (struct history_entry){t, {w.fork[t]}};
	bool taken = fleet_node_history(&w.fleet, n, &h, w.fleet.nodes[n].at, w.now);
	require(taken, "the history of node %d", n);
}

static void connect_watcher(int n)
{
	fleet_node_up(&w.fleet, n, n == w.primary ? NODE_ROLE_PRIMARY : NODE_ROLE_REPLICA,
	              told_timeline(n), w.now);
	if (!one_in(10))
		tell_history(n);
	w.node[n].asked = false;
}

static void break_connections(int n)
{
	fleet_node_lost(&w.fleet, n, w.now);
	w.node[n].incarnation++;
	w.node[n].asked = false;
}

static void world_new(enum route_fault fault)
{
	memset(&w, 0, sizeof(w));
	w.now = 1000;
	w.count = 3 + (int)below(2);
	w.primary = (int)below(w.count);
	w.timelines_known = !one_in(4);
	fleet_init(&w.fleet, one_in(2) ? 1000000 : 20000);
	for (int i = 0; i < w.count; i++) {
		fleet_node_add(&w.fleet, slice_str("node"));
		w.fleet.nodes[i].health.weight = one_in(8) ? 0 : 1 + (int)below(4);
		w.node[i] = (struct truth){.running = true,
		                           .at = 100,
		                           .timeline = 1,
		                           .replay_steps = 1 + below(one_in(2) ? 5 : 50)};
	}
	for (int i = 0; i < w.count; i++)
		connect_watcher(i);
	static const int64_t budgets[] = {0, 3000, 100000};
	w.policy = (struct route_policy){.level = LEVEL_SESSION,
	                                 .strategy = STRATEGY_POSITION,
	                                 .wait_timeout_us = budgets[below(3)],
	                                 .replica_max_lag_us = one_in(4) ? 1 + below(50000) : 0,
	                                 .guard_within_us = one_in(3) ? 0 : 3000,
	                                 .fault = fault};
	w.fleet.slow_start_us = one_in(2) ? below(500000) : 0;
}

static void replicas_apply(void)
{
	if (!w.node[w.primary].running)
		return;
	uint64_t end = w.node[w.primary].at;
	for (int i = 0; i < w.count; i++) {
		struct truth *n = &w.node[i];
		bool follows = n->timeline == w.node[w.primary].timeline;
		if (i == w.primary || !n->running || !follows || n->at >= end || !one_in(n->replay_steps))
			continue;
		n->at += 1 + (uint64_t)below((int64_t)(end - n->at));
	}
}

/* A standby that was killed comes back with an older state; one that lost its network does not. */
static void replica_breaks(int n)
{
	struct truth *t = &w.node[n];
	break_connections(n);
	t->running = false;
	if (one_in(2))
		t->at -= (uint64_t)below((int64_t)(t->at < 50 ? t->at : 50));
}

static void promote(int n)
{
	uint64_t fork = w.node[n].at;
	w.fork[w.node[n].timeline] = fork;
	break_connections(n);
	w.node[n].timeline = w.node[w.primary].timeline + 1;
	w.node[n].running = true;
	w.primary = n;
	connect_watcher(n);
	/* What lay behind the fork is lost: nobody can be shown it any more. */
	for (int s = 0; s < SESSIONS; s++)
		w.floor[s] = w.floor[s] < fork ? w.floor[s] : fork;
	for (int i = 0; i < OPS; i++) {
		w.op[i].floor = w.op[i].floor < fork ? w.op[i].floor : fork;
		w.op[i].saw = w.op[i].saw < fork ? w.op[i].saw : fork;
	}
}

/* A node on an old timeline is made a replica of the present primary. */
static void rejoin(int n)
{
	struct truth *t = &w.node[n];
	break_connections(n);
	t->at = lasting(t); /* rewound or cloned anew */
	t->timeline = w.node[w.primary].timeline;
	t->running = true;
	connect_watcher(n);
}

static bool all_is_well(void)
{
	bool well = true;
	for (int i = 0; i < w.count; i++)
		well = well && w.node[i].running && w.fleet.nodes[i].up;
	return well;
}

/* … or is mended. */
static void something_breaks(void)
{
	int n = (int)below(w.count);
	struct truth *t = &w.node[n];
	if (!t->running) {
		if (n == w.primary || w.node[w.primary].running)
			rejoin(n);
		return;
	}
	if (n != w.primary && w.node[w.primary].running) {
		if (t->timeline != w.node[w.primary].timeline)
			rejoin(n);
		else
			replica_breaks(n);
	} else if (n == w.primary && one_in(3)) {
		break_connections(n);
		t->running = false;
	} else if (n != w.primary && t->timeline == w.node[w.primary].timeline && one_in(2)) {
		promote(n);
	}
}

/* The operator takes a node out for a while. */
static void operator_moves(void)
{
	int n = (int)below(w.count);
	if (w.fleet.nodes[n].health.drained)
		fleet_node_undrain(&w.fleet, n, w.now);
	else if (one_in(4))
		fleet_node_drain(&w.fleet, n);
}

/* ---- what the router hears ---- */

static void watcher_moves(int n)
{
	struct truth *t = &w.node[n];
	if (!t->running || !w.fleet.nodes[n].up)
		return;
	if (!t->asked) {
		t->asked = true;
		t->answered = false;
		t->asked_at = w.now;
	} else if (!t->answered) {
		t->answered = true;
		t->answer = t->at;
	} else {
		t->asked = false;
		bool good =
			fleet_node_sampled(&w.fleet, n, (struct position){t->answer}, t->asked_at, w.now);
		require(good, "a true sample was refused");
	}
}

/* ---- statements ---- */

/* The session has seen op->floor; a replica that shows `shows` is about to answer it, or did. */
static void judge(const struct op *op, enum consistency_level level, uint64_t shows)
{
	bool stale = level == LEVEL_SESSION && shows < op->floor;
	violations += stale;
	require(!stale || w.policy.fault != FAULT_NONE,
	        "node %d is at %" PRIu64 ", session %d has seen %" PRIu64 " at %" PRId64, op->node, shows,
	        op->session, op->floor, w.now);
}

static void op_decide(struct op *op)
{
	struct session_mark *mark = op->on_copy ? &op->copy : &w.mark[op->session];
	bool waited = op->state == OP_WAITING;
	session_settle(mark, &w.fleet);
	struct route_policy policy = w.policy;
	if (op->eventual)
		policy.level = LEVEL_EVENTUAL;
	if (waited || op->unguarded)
		policy.guard_within_us = 0;
	struct route r = route_decide(&w.fleet, mark, &policy, waited ? op->since : 0, w.now);
	discriminating += r.discriminating;
	if (r.target == ROUTE_WAIT) {
		require(r.wait_until_us > w.now, "a wait without an end in the future");
		require(r.wait_until_us <= op->since + w.policy.wait_timeout_us, "a wait over the budget");
		require(position_is_set(r.need) || r.sample_after_us != 0, "a wait for nothing");
		op->state = OP_WAITING;
		op->route = r;
		waits++;
		return;
	}
	op->node = r.target == ROUTE_REPLICA ? r.node : w.primary;
	if (r.target == ROUTE_REPLICA) {
		const struct health *h = &w.fleet.nodes[r.node].health;
		require(h->weight > 0 && !h->drained, "node %d is asked, and should not be", r.node);
		require(w.policy.replica_max_lag_us == 0 ||
		            fleet_lag_us(&w.fleet, r.node, w.now) <= w.policy.replica_max_lag_us,
		        "node %d is over replica_max_lag", r.node);
	}
	op->guarded = r.target == ROUTE_REPLICA && policy.fault != FAULT_GUARD_AFTER &&
	              position_is_set(r.need);
	op->route = r;
	/* A statement that was decided on the session itself must see what completed while it waited,
	 * too. */
	if (!op->on_copy)
		op->floor = w.floor[op->session];
	if (op->guarded) {
		require(policy.guard_within_us > 0, "a guard that was not allowed");
		require(!position_reached(w.fleet.nodes[r.node].at, r.need), "a guard for nothing");
		op->epoch = w.fleet.nodes[r.node].epoch;
		op->generation = w.fleet.generation;
		op->guard_at = 0;
		op->asked_at = w.now;
	} else if (r.target == ROUTE_REPLICA) {
		judge(op, policy.level, lasting(&w.node[r.node]));
		replica_reads++;
		wait_hits += waited;
	} else {
		primary_reads++;
	}
	op->incarnation = w.node[op->node].incarnation;
	op->state = w.node[op->node].running ? OP_SENT : OP_NONE;
}

static void op_start(struct op *op)
{
	*op = (struct op){.write = one_in(4),
	                  .on_copy = one_in(2),
	                  .eventual = one_in(30),
	                  .session = (int)below(SESSIONS),
	                  .since = w.now,
	                  .asked_at = w.now};
	op->floor = w.floor[op->session];
	if (!op->write) {
		op->copy = w.mark[op->session];
		op_decide(op);
		return;
	}
	op->node = w.primary;
	op->incarnation = w.node[w.primary].incarnation;
	if (w.node[w.primary].running)
		op->state = OP_SENT;
}

static void op_runs_on_server(struct op *op)
{
	struct truth *t = &w.node[op->node];
	if (op->write) {
		op->saw = t->at += 1 + (uint64_t)below(20);
		if (!one_in(6)) {
			/* The insert position, asked after the commit: others may have written since. */
			op->captured = t->at += one_in(3) ? (uint64_t)below(5) : 0;
		}
	} else if (op->guarded && op->guard_at == 0) {
		op->guard_at = t->at; /* and the read comes later */
		return;
	} else {
		op->saw = lasting(t);
	}
	op->state = OP_DONE_ON_SERVER;
}

/* As the router judges it. False: the read is decided again. */
static bool guard_holds(struct op *op)
{
	const struct node *n = &w.fleet.nodes[op->node];
	struct position at = {op->guard_at};
	bool counts = n->epoch == op->epoch && w.fleet.generation == op->generation &&
	              fleet_replica_eligible(&w.fleet, op->node, w.now);
	bool held = counts && (position_reached(at, op->route.need) ||
	                       w.policy.fault == FAULT_GUARD_IGNORED);
	if (counts)
		fleet_replica_reached(&w.fleet, op->node, at, op->asked_at, w.now);
	fleet_guard_answered(&w.fleet, op->node, held, w.now);
	guards_held += held;
	guards_missed += !held;
	return held;
}

static void op_answered(struct op *op)
{
	struct session_mark *mark = &w.mark[op->session];
	bool same_connection = op->incarnation == w.node[op->node].incarnation;
	if (op->write && op->captured != 0 && same_connection) {
		struct position at = {op->captured};
		fleet_primary_reached(&w.fleet, at, w.now);
		session_wrote(mark, &w.fleet, at, op->asked_at, w.now);
	} else if (op->write) {
		session_wrote_unknown(mark, &w.fleet, w.now);
	} else {
		session_read(mark, &w.fleet, same_connection ? op->node : NODE_NONE, w.now);
	}
	if (op->saw > w.floor[op->session])
		w.floor[op->session] = op->saw;
	op->state = OP_NONE;
}

static void op_moves(struct op *op)
{
	bool broken = op->incarnation != w.node[op->node].incarnation;
	switch (op->state) {
	case OP_NONE:
		op_start(op);
		break;
	case OP_WAITING:
		op_decide(op);
		break;
	case OP_SENT:
		if (!broken)
			op_runs_on_server(op);
		else
			op->state = OP_NONE;
		break;
	case OP_DONE_ON_SERVER:
		/* The answer may have left the server before it broke, or be lost with it. */
		if (broken && one_in(2) && !op->write) {
			op->state = OP_NONE;
		} else if (op->guarded && !guard_holds(op)) {
			op->unguarded = true;
			op->since = w.now;
			op_decide(op);
		} else {
			if (op->guarded)
				judge(op, op->eventual ? LEVEL_EVENTUAL : LEVEL_SESSION, op->saw);
			replica_reads += op->guarded;
			op_answered(op);
		}
		break;
	}
}

static void expire_waits(void)
{
	for (int i = 0; i < OPS; i++) {
		if (w.op[i].state != OP_WAITING || w.op[i].route.wait_until_us > w.now)
			continue;
		op_decide(&w.op[i]);
		require(w.op[i].state != OP_WAITING, "still waiting at the end of the budget");
	}
}

static void run_with(enum route_fault fault)
{
	world_new(fault);
	static const int64_t paces[] = {2, 100, 6000}; /* 2: much happens within one microsecond */
	int64_t pace = paces[below(3)];
	int64_t trouble = one_in(3) ? 60 : 600;
	for (int i = 0; i < STEPS; i++) {
		w.now += below(pace);
		expire_waits();
		replicas_apply();
		if (one_in(10) && w.node[w.primary].running)
			w.node[w.primary].at += (uint64_t)below(10); /* writes from elsewhere */
		if (one_in(100))
			operator_moves();
		if (one_in(all_is_well() ? trouble : 30))
			something_breaks();
		else if (one_in(2))
			watcher_moves((int)below(w.count));
		else
			op_moves(&w.op[below(OPS)]);
	}
}

static void run_correct(void)
{
	run_with(FAULT_NONE);
}

static void must_catch(enum route_fault fault, const char *name)
{
	violations = 0;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		property_start(seed);
		run_with(fault);
	}
	printf("%s: %ld stale reads seen\n", name, violations);
	require(violations > 0, "the fault %s goes unseen: the check is blind", name);
}

int main(int argc, char **argv)
{
	property_run(argc, argv, 1000, run_correct);
	printf(
		"%ld reads on replicas (%ld after a wait), %ld on the primary, %ld waits, "
		"%ld discriminating, %ld guards held, %ld missed\n",
		replica_reads, wait_hits, primary_reads, waits, discriminating, guards_held, guards_missed);
	if (argc > 1 || getenv("SEED") != NULL)
		return 0;
	require(replica_reads > primary_reads / 4 && wait_hits > 100 && discriminating > 1000 &&
	            guards_held > 100 && guards_missed > 100,
	        "the runs were too tame to prove anything");
	must_catch(FAULT_NO_READ_MARKS, "no_read_marks");
	must_catch(FAULT_GUARD_AFTER, "guard_after");
	must_catch(FAULT_GUARD_IGNORED, "guard_ignored");
	return 0;
}
