/* SPDX-License-Identifier: PostgreSQL
 *
 * The whole decision, at level session and by position, in one picture:
 *
 *        log of the primary ────────────────────────────────────────────▶
 *                       B at            need            A at
 *                         ▲               ▲               ▲
 *                         │               │               └ past it: A may answer
 *                         │               └ what the session has written and seen (its mark)
 *                         └ behind: B would show an older state
 *
 *   some replica is past the need ................. it answers (replica_fresh)
 *   one is expected there by now .................. it answers if it proves it (replica_caught_up)
 *   the need is not known yet ..................... a sample will tell: wait (wait_sample)
 *   a replica is expected there in time ........... wait for it (wait_replica)
 *   none is, or the wait is over .................. the primary answers
 *
 * The need may differ between replicas: one that the session has read from is not behind what it
 * showed, while any other must be known to have got there (session_need).
 * route_decide() is at the end, after the parts it is made of.
 */
#include "route.h"

#include <assert.h>

#define PIN_WINDOW_MIN_US 100000

/* ---- answers ---- */

static struct route to_primary(enum route_reason reason)
{
	return (struct route){.target = ROUTE_PRIMARY, .reason = reason, .node = NODE_NONE};
}

static struct route to_replica(int node, enum route_reason reason)
{
	return (struct route){.target = ROUTE_REPLICA, .reason = reason, .node = node};
}

static struct route to_guarded_replica(int node, struct position need)
{
	return (struct route){.target = ROUTE_REPLICA,
	                      .reason = REASON_REPLICA_CAUGHT_UP,
	                      .node = node,
	                      .need = need};
}

static struct route wait_for_position(int node, struct position need, int64_t until_us)
{
	return (struct route){.target = ROUTE_WAIT,
	                      .reason = REASON_WAIT_REPLICA,
	                      .node = node,
	                      .need = need,
	                      .wait_until_us = until_us};
}

static struct route wait_for_sample(int64_t after_us, int64_t until_us)
{
	return (struct route){.target = ROUTE_WAIT,
	                      .reason = REASON_WAIT_SAMPLE,
	                      .node = NODE_NONE,
	                      .sample_after_us = after_us,
	                      .wait_until_us = until_us};
}

/* ---- which of several ---- */

/* A set of nodes, one bit each. */
typedef uint32_t node_set;
_Static_assert(FLEET_NODES_MAX <= 32, "a node_set holds every node");

static bool set_has(node_set set, int node)
{
	return (set >> node & 1) != 0;
}

/* Of a set that is not empty. */
static int lowest(node_set set)
{
	return __builtin_ctz(set);
}

static node_set without_lowest(node_set set)
{
	return set & (set - 1);
}

/* How busy a node is: what is outstanding there, in proportion to its share of the reads. */
struct load {
	uint64_t outstanding, share;
};

static struct load load_of(const struct fleet *f, int node, int64_t now_us)
{
	const struct node *n = &f->nodes[node];
	return (struct load){n->outstanding, health_share(&n->health, f->slow_start_us, now_us)};
}

/* With `more` added to what it has, a is no busier than b is now. */
static bool no_busier(struct load a, uint64_t more, struct load b)
{
	return (a.outstanding + more) * b.share <= b.outstanding * a.share;
}

static bool clearly_less_busy(struct load a, struct load b)
{
	return a.outstanding * 2 * b.share < b.outstanding * a.share && no_busier(a, 4, b);
}

static bool has_read(const struct session_mark *mark)
{
	return mark->read_at_us[mark->last_node] != 0 || position_is_set(mark->read);
}

/* Any node of `set` (not empty), in proportion to their shares. */
static int anywhere(const struct fleet *f, node_set set, int64_t now_us)
{
	uint64_t total = 0;
	for (node_set left = set; left != 0; left = without_lowest(left))
		total += load_of(f, lowest(left), now_us).share;
	/* The clock as dice: Fibonacci hashing spreads moments that follow each other evenly. */
	uint64_t at = ((uint32_t)now_us * UINT32_C(2654435769)) * total >> 32;
	int node = 0;
	for (node_set left = set; left != 0; left = without_lowest(left)) {
		node = lowest(left);
		uint64_t share = load_of(f, node, now_us).share;
		if (at < share)
			break;
		at -= share;
	}
	return node;
}

/* The node of `set` (not empty) with the least to do for its share. Among equals the session stays
 * where it read last; a session that has not read yet starts anywhere, so that new ones spread. */
static int least_busy(const struct fleet *f, const struct session_mark *mark, node_set set,
                      int64_t now_us)
{
	int start = has_read(mark) ? mark->last_node : anywhere(f, set, now_us);
	int best = NODE_NONE;
	struct load least = {0};
	for (int i = 0, node = start; i < f->count; i++, node = node + 1 == f->count ? 0 : node + 1) {
		if (!set_has(set, node))
			continue;
		struct load its = load_of(f, node, now_us);
		if (best != NODE_NONE && !no_busier(its, 1, least))
			continue;
		best = node;
		least = its;
	}
	return best;
}

/* Leaving a replica to which a read is still owed means to wait for its sample on the way back: not
 * for a trifle. */
static int choose(const struct fleet *f, const struct session_mark *mark, node_set set,
                  int64_t now_us)
{
	if (without_lowest(set) == 0)
		return lowest(set); /* there is no choice */
	int best = least_busy(f, mark, set, now_us);
	int last = mark->last_node;
	if (last != best && set_has(set, last) && mark->read_at_us[last] != 0 &&
	    !clearly_less_busy(load_of(f, best, now_us), load_of(f, last, now_us)))
		return last;
	return best;
}

static node_set asked_replicas(const struct fleet *f, node_set avoid, int64_t now_us)
{
	node_set set = 0, slow = 0;
	for (int i = 0; i < f->count; i++) {
		if (fleet_replica_asked(f, i, now_us))
			set |= (node_set)1 << i;
		if (health_is_slow(&f->nodes[i].health, now_us))
			slow |= (node_set)1 << i;
	}
	set &= ~avoid;
	/* Slow is better than none. */
	return set & ~slow ? set & ~slow : set;
}

static node_set within_lag(const struct fleet *f, node_set set, int64_t max_lag_us, int64_t now_us)
{
	for (node_set left = set; left != 0; left = without_lowest(left)) {
		if (fleet_lag_us(f, lowest(left), now_us) > max_lag_us)
			set &= ~((node_set)1 << lowest(left));
	}
	return set;
}

/* ---- level session, by position ---- */

#define SPREAD_OUTSTANDING 16

/* What the eligible replicas have to offer. */
struct outlook {
	node_set fresh;            /* at or past what the session has seen */
	bool soon;                 /* one is expected there within the budget … */
	struct position soon_need; /* … when it has reached this (the least of them) */
	int soon_node;             /* the one expected first */
	int64_t soon_us;
	node_set by_now;      /* … these so soon that they may be told to prove it */
	bool asked;           /* one might do, and a sample will tell … */
	node_set asked_nodes; /* … these */
	bool unknown;         /* for one at least, what it must have reached is not known */
	bool behind;          /* one is behind what is known of the mark */
};

static void look_at_replica(const struct fleet *f, const struct session_mark *mark, int node,
                            const struct route_policy *policy, int64_t budget_us, int64_t now_us,
                            struct outlook *o)
{
	struct position known = session_known(mark), need = known;
	bool certain = session_need(mark, f, node, &need);

	if (!position_reached(f->nodes[node].at, known))
		o->behind = true;
	if (!certain)
		o->unknown = true;
	if (certain && position_reached(f->nodes[node].at, need)) {
		o->fresh |= (node_set)1 << node;
		return;
	}
	/* While something is owed, `known` is the least that it will come to. */
	int64_t expected_us =
		budget_us <= 0 ? LAG_UNKNOWN : fleet_catch_up_us(f, node, certain ? need : known, now_us);
	if (expected_us > budget_us)
		return;
	if (!certain) {
		o->asked = true;
		o->asked_nodes |= (node_set)1 << node;
		return;
	}
	if (!o->soon || !position_reached(need, o->soon_need))
		o->soon_need = need;
	if (!o->soon || expected_us < o->soon_us) {
		o->soon_node = node;
		o->soon_us = expected_us;
	}
	o->soon = true;
	if (expected_us <= policy->guard_within_us && fleet_guard_pays(f, node, now_us))
		o->by_now |= (node_set)1 << node;
}

static struct route guarded(const struct fleet *f, const struct session_mark *mark, node_set by_now,
                            int64_t now_us)
{
	struct position need = {0};
	int node = choose(f, mark, by_now, now_us);
	bool certain = session_need(mark, f, node, &need);
	assert(certain && position_is_set(need));
	return to_guarded_replica(node, need);
}

/* A session shared by many connections reads on one replica as long as it owes reads to it. When
 * that one has far more to do than another, waiting for a sample, which lets the session change
 * over, is worth while; not so for a trifle. */
static bool far_busier(const struct fleet *f, int node, node_set others, int64_t now_us)
{
	struct load its = load_of(f, node, now_us);
	for (node_set left = others; left != 0; left = without_lowest(left)) {
		struct load other = load_of(f, lowest(left), now_us);
		other.outstanding = 2 * other.outstanding + SPREAD_OUTSTANDING;
		if (!no_busier(its, 0, other))
			return true;
	}
	return false;
}

static struct route by_position(const struct fleet *f, const struct session_mark *mark,
                                const struct route_policy *policy, node_set eligible,
                                int64_t waiting_since_us, int64_t now_us)
{
	int64_t until_us = (waiting_since_us ? waiting_since_us : now_us) + policy->wait_timeout_us;
	struct outlook o = {0};
	for (node_set left = eligible; left != 0; left = without_lowest(left))
		look_at_replica(f, mark, lowest(left), policy, until_us - now_us, now_us, &o);

	struct route r;
	int fresh = o.fresh != 0 ? choose(f, mark, o.fresh, now_us) : NODE_NONE;
	if (fresh != NODE_NONE && waiting_since_us == 0 && far_busier(f, fresh, o.asked_nodes, now_us))
		r = wait_for_sample(session_owed_since(mark, f), until_us);
	else if (fresh != NODE_NONE)
		r = to_replica(fresh, REASON_REPLICA_FRESH);
	else if (waiting_since_us != 0 && now_us >= until_us)
		r = to_primary(REASON_WAIT_TIMEOUT);
	else if (o.by_now != 0)
		r = guarded(f, mark, o.by_now, now_us);
	else if (o.asked)
		r = wait_for_sample(session_owed_since(mark, f), until_us);
	else if (o.soon)
		r = wait_for_position(o.soon_node, o.soon_need, until_us);
	else
		r = to_primary(o.unknown && !o.behind ? REASON_MARK_UNKNOWN : REASON_TOO_FAR_BEHIND);

	if (policy->fault == FAULT_GUARD_AFTER && r.reason == REASON_WAIT_REPLICA) {
		r.target = ROUTE_REPLICA;
		r.node = o.soon_node;
	}
	r.discriminating = o.behind;
	return r;
}

/* ---- level session, by pinning ---- */

/* How long after a write the primary alone is safe. `known` is false if no replica has been
 * observed yet. */
static int64_t pin_window(const struct fleet *f, const struct route_policy *policy,
                          node_set eligible, bool *known)
{
	*known = true;
	if (policy->strategy == STRATEGY_PIN_FIXED)
		return policy->pin_window_us;

	int64_t window = PIN_WINDOW_MIN_US;
	for (int i = 0; i < f->count; i++) {
		int64_t high = f->nodes[i].replay_delay_high_us;
		if (!set_has(eligible, i))
			continue;
		if (high == LAG_UNKNOWN)
			*known = false;
		else if (high > window)
			window = high;
	}
	return window;
}

static struct route by_pinning(const struct fleet *f, const struct session_mark *mark,
                               const struct route_policy *policy, node_set eligible, int64_t now_us)
{
	bool known;
	int64_t window = pin_window(f, policy, eligible, &known);
	if (mark->written_at_us != 0 && (!known || now_us < mark->written_at_us + window))
		return to_primary(REASON_PINNED);

	/* A window shorter than the lag would void the guarantee. */
	node_set usable = within_lag(f, eligible, window, now_us);
	if (usable == 0)
		return to_primary(REASON_LAG_LIMIT);
	/* Only the replica read last is known not to be behind what it showed. */
	if (has_read(mark) && set_has(usable, mark->last_node))
		return to_replica(mark->last_node, REASON_REPLICA_FRESH);
	return to_replica(choose(f, mark, usable, now_us), REASON_REPLICA_FRESH);
}

/* ---- the decision ---- */

/* The session as a router sees it that remembers writes only. */
static struct session_mark without_reads(const struct session_mark *mark)
{
	return (struct session_mark){.generation = mark->generation,
	                             .write = mark->write,
	                             .brought = mark->brought,
	                             .written_at_us = mark->written_at_us,
	                             .last_node = mark->last_node};
}

static struct route within_session(const struct fleet *f, const struct session_mark *mark,
                                   const struct route_policy *policy, node_set eligible,
                                   int64_t waiting_since_us, int64_t now_us)
{
	if (policy->known_back_us > 0)
		eligible = within_lag(f, eligible, policy->known_back_us, now_us);
	if (eligible == 0)
		return to_primary(REASON_TOO_FAR_BEHIND);
	if (policy->strategy != STRATEGY_POSITION)
		return by_pinning(f, mark, policy, eligible, now_us);
	if (policy->fault != FAULT_NO_READ_MARKS)
		return by_position(f, mark, policy, eligible, waiting_since_us, now_us);

	struct session_mark forgetful = without_reads(mark);
	return by_position(f, &forgetful, policy, eligible, waiting_since_us, now_us);
}

struct route route_decide(const struct fleet *f, const struct session_mark *mark,
                          const struct route_policy *policy, int64_t waiting_since_us,
                          int64_t now_us)
{
	if (policy->level == LEVEL_STRONG)
		return to_primary(REASON_STRONG);

	node_set eligible = asked_replicas(f, policy->avoid, now_us);
	if (eligible == 0)
		return to_primary(REASON_NO_REPLICA);
	if (policy->replica_max_lag_us > 0) {
		eligible = within_lag(f, eligible, policy->replica_max_lag_us, now_us);
		if (eligible == 0)
			return to_primary(REASON_LAG_LIMIT);
	}
	assert(mark->last_node >= 0 && mark->last_node < f->count);

	switch (policy->level) {
	case LEVEL_EVENTUAL:
		return to_replica(choose(f, mark, eligible, now_us), REASON_REPLICA_EVENTUAL);
	case LEVEL_BOUNDED:
		eligible = within_lag(f, eligible, policy->max_lag_us, now_us);
		return eligible == 0
		           ? to_primary(REASON_LAG_LIMIT)
		           : to_replica(choose(f, mark, eligible, now_us), REASON_REPLICA_BOUNDED);
	case LEVEL_SESSION:
	case LEVEL_STRONG:
		break;
	}
	return within_session(f, mark, policy, eligible, waiting_since_us, now_us);
}

/* ---- words ---- */

static const char *const level_names[] = {
	[LEVEL_STRONG] = "strong",
	[LEVEL_SESSION] = "session",
	[LEVEL_BOUNDED] = "bounded",
	[LEVEL_EVENTUAL] = "eventual",
};

const char *consistency_level_name(enum consistency_level level)
{
	return level_names[level];
}

bool consistency_level_parse(const char *name, enum consistency_level *level)
{
	for (int i = LEVEL_STRONG; i <= LEVEL_EVENTUAL; i++) {
		if (strcasecmp(name, level_names[i]) == 0) {
			*level = (enum consistency_level)i;
			return true;
		}
	}
	return false;
}

static const struct {
	const char *name;
	const char *words;
} reasons[REASON_COUNT] = {
	[REASON_REPLICA_FRESH] = {"replica_fresh", "a replica shows all that the session has seen"},
	[REASON_REPLICA_CAUGHT_UP] = {"replica_caught_up",
                                  "a replica proved that it shows all that the session has seen"},
	[REASON_REPLICA_BOUNDED] = {"replica_bounded", "a replica is within tidemark.max_lag"},
	[REASON_REPLICA_EVENTUAL] = {"replica_eventual", "any healthy replica will do at this level"},
	[REASON_REPLICA_RETRIED] = {"replica_retried", "a replica failed it, another one answered it"},
	[REASON_REPLICA_TRANSACTION] = {"replica_transaction",
                                    "the statement is part of a transaction on a replica"},
	[REASON_WAIT_STORE] = {"wait_store", "waits for the store of session marks"},
	[REASON_WAIT_REPLICA] = {"wait_replica", "a replica is about to catch up with the session"},
	[REASON_WAIT_SAMPLE] = {"wait_sample", "what the session has seen is being looked up"},
	[REASON_WRITE] = {"write", "the statement may write"},
	[REASON_TRANSACTION] = {"transaction", "the statement is part of a transaction on the primary"},
	[REASON_BOUND] = {"bound", "the session holds state on its primary connection"},
	[REASON_UNSAFE_FUNCTION] = {"unsafe_function",
                                "the statement calls a function that is not known to be safe"},
	[REASON_LOCKING] = {"locking", "the statement locks"},
	[REASON_UTILITY] = {"utility", "the statement is a command, not a query"},
	[REASON_UNPARSABLE] = {"unparsable", "the statement could not be parsed"},
	[REASON_TOO_LONG] = {"too_long", "the statement is too long to be parsed"},
	[REASON_REFUSED_BEFORE] = {"refused_before", "a replica has refused this statement before"},
	[REASON_RETRIED] = {"retried", "a replica refused or failed the statement, the primary answered it"},
	[REASON_PIPELINE] = {"pipeline", "the statement is part of a batch that is not all reads"},
	[REASON_STORE_DOUBTFUL] = {"store_doubtful",
                               "the store of session marks does not answer, or is in doubt"},
	[REASON_TOKEN_REFUSED] = {"token_refused", "it came with a token that could not be believed"},
	[REASON_INTERNAL] = {"internal", "the router's own housekeeping"},
	[REASON_STRONG] = {"strong", "the consistency level is strong"},
	[REASON_PINNED] = {"pinned", "the session wrote a short time ago"},
	[REASON_NO_REPLICA] = {"no_replica", "no replica is healthy and asked"},
	[REASON_TOO_FAR_BEHIND] = {"too_far_behind",
                               "no replica is expected to catch up with the session in time"},
	[REASON_WAIT_TIMEOUT] = {"wait_timeout", "no replica caught up with the session in time"},
	[REASON_LAG_LIMIT] = {"lag_limit", "no replica's lag is within the limit"},
	[REASON_MARK_UNKNOWN] = {"mark_unknown", "what the session has seen could not be looked up"},
	[REASON_OBSERVED] = {"observe",
                         "mode = observe: nothing goes to replicas, SHOW OBSERVE counts"},
};

bool route_is_fallback(enum route_reason reason)
{
	switch (reason) {
	case REASON_RETRIED:
	case REASON_NO_REPLICA:
	case REASON_TOO_FAR_BEHIND:
	case REASON_WAIT_TIMEOUT:
	case REASON_LAG_LIMIT:
		return true;
	default:
		return false;
	}
}

const char *route_reason_name(enum route_reason reason)
{
	assert(reason >= 0 && reason < REASON_COUNT);
	return reasons[reason].name;
}

const char *route_reason_words(enum route_reason reason)
{
	assert(reason >= 0 && reason < REASON_COUNT);
	return reasons[reason].words;
}
