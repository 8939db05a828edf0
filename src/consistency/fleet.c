/* SPDX-License-Identifier: PostgreSQL */
#include "fleet.h"

#include <assert.h>

/* Positions that the primary reaches within one step share a ring entry, so that the recent half
 * of the ring spans a quarter of a second however many commits there are. */
#define RING_STEP_US 1000
/* The first pause after a guard that did not hold, and the longest. */
#define GUARD_PAUSE_MIN_US 1000
#define GUARD_PAUSE_MAX_US 1000000

/* ---- the ring: where was the primary, when? ---- */

static struct fleet_sample *ring_newest(struct fleet *f)
{
	return f->ring_count == 0 ? NULL : &f->ring[f->ring_count - 1];
}

/* Index of the first entry at or past `at`; ring_count if there is none. */
static uint32_t ring_first_reaching(const struct fleet *f, struct position at)
{
	uint32_t low = 0, high = f->ring_count;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (position_reached(f->ring[mid].at, at))
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Index of the first entry past `at`: the number of entries a server at `at` has replayed. */
static uint32_t ring_first_past(const struct fleet *f, struct position at)
{
	return at.lsn == UINT64_MAX ? f->ring_count
	                            : ring_first_reaching(f, (struct position){at.lsn + 1});
}

/* Drops every second entry of the older half. What is far back needs less resolution, and leaving
 * an entry out only overstates a lag. The oldest stays, so the ring reaches back for ever. */
static void ring_thin(struct fleet *f)
{
	uint32_t half = f->ring_count / 2, kept = 0;
	for (uint32_t i = 0; i < half; i += 2)
		f->ring[kept++] = f->ring[i];
	memmove(&f->ring[kept], &f->ring[half], (f->ring_count - half) * sizeof(f->ring[0]));
	f->ring_count = kept + f->ring_count - half;
}

/* What was known before the primary was last lost is not mixed with what it says since. */
static bool same_life(const struct fleet *f, const struct fleet_sample *s)
{
	return f->primary == NODE_NONE || s->reached_us > f->nodes[f->primary].lost_at_us;
}

/* `s.after_us` is ignored unless the entry is new; a position behind the newest tells nothing new.
 */
static void ring_note(struct fleet *f, struct fleet_sample s)
{
	struct fleet_sample *newest = ring_newest(f);

	if (newest != NULL) {
		if (!position_reached(s.at, newest->at))
			return;
		if (s.at.lsn == newest->at.lsn) {
			if (s.complete_us > newest->complete_us)
				newest->complete_us = s.complete_us;
			return;
		}
		if (s.reached_us - newest->reached_us < RING_STEP_US && same_life(f, newest)) {
			/* The entry keeps its times: too early for the new position, so a lag is
			 * overstated by a step at most. */
			newest->at = s.at;
			return;
		}
		if (s.complete_us < newest->complete_us)
			s.complete_us = newest->complete_us;
	}
	if (f->ring_count == FLEET_RING)
		ring_thin(f);
	f->ring[f->ring_count++] = s;
}

/* A primary that answers less than it had reached before the question was sent, or before it was last
 * lost, has lost the end of its log in a crash. Those positions will be written anew with other contents
 * and at another time. (An entry may have been raised up to a step after its time.) */
static bool ring_contradicts(const struct fleet *f, const struct node *n, struct position at,
                             int64_t started_at_us)
{
	for (uint32_t i = ring_first_past(f, at); i < f->ring_count; i++) {
		int64_t reached_us = f->ring[i].reached_us;
		if (reached_us + RING_STEP_US < started_at_us || reached_us <= n->lost_at_us)
			return true;
	}
	return false;
}

/* ---- nodes and roles ---- */

void fleet_init(struct fleet *f, int64_t sample_max_age_us)
{
	memset(f, 0, sizeof(*f));
	f->primary = NODE_NONE;
	f->last_primary = NODE_NONE;
	f->leader = LEADER_UNKNOWN;
	f->newest_node = NODE_NONE;
	f->sample_max_age_us = sample_max_age_us;
}

int fleet_node_add(struct fleet *f, struct slice name)
{
	if (f->count == FLEET_NODES_MAX)
		return NODE_NONE;

	struct node *n = &f->nodes[f->count];
	memset(n, 0, sizeof(*n));
	size_t len = name.len < sizeof(n->name) ? name.len : sizeof(n->name) - 1;
	if (len > 0)
		memcpy(n->name, name.ptr, len);
	n->replay_delay_us = LAG_UNKNOWN;
	n->replay_delay_high_us = LAG_UNKNOWN;
	n->health.weight = 1;
	return f->count++;
}

static bool timelines_differ(uint32_t a, uint32_t b)
{
	return a != 0 && b != 0 && a != b;
}

static bool claims(const struct fleet *f, int node)
{
	return f->nodes[node].up && f->nodes[node].role == NODE_ROLE_PRIMARY;
}

/* Is this branch known to be the newest of all that claim to be primary? */
static bool came_from_all_others(const struct fleet *f, int node)
{
	for (int i = 0; i < f->count; i++) {
		if (i != node && claims(f, i) &&
		    !history_descends(&f->nodes[node].history, &f->nodes[i].history))
			return false;
	}
	return true;
}

/* An old primary that has come back, while the one after it is away. */
static bool is_past(const struct fleet *f, const struct node *n)
{
	return n->system == f->newest_system && n->timeline != 0 && n->timeline < f->newest_timeline;
}

/* By roles and histories alone. */
static int find_primary(struct fleet *f)
{
	int claimants = 0, found = NODE_NONE;
	for (int i = 0; i < f->count; i++)
		claimants += claims(f, i);
	f->two_primaries = claimants > 1;
	for (int i = 0; i < f->count && found == NODE_NONE; i++) {
		if (claims(f, i) && !is_past(f, &f->nodes[i]) && came_from_all_others(f, i))
			found = i;
	}
	return found;
}

/* What is known of the elected primary's history. */
static void take_history(struct fleet *f)
{
	f->history = (struct history){0};
	if (f->primary == NODE_NONE || !f->nodes[f->primary].history.known)
		return;
	f->history = f->nodes[f->primary].history;
	f->course = f->history;
	f->branch = history_point(&f->history, (struct position){0});
}

static void change_primary(struct fleet *f, int64_t now_us)
{
	const struct node *n = &f->nodes[f->primary];
	uint32_t timeline = n->timeline;
	bool another = f->last_primary != NODE_NONE && f->last_primary != f->primary;
	if (another || timelines_differ(timeline, f->timeline)) {
		f->generation++;
		f->generation_at_us = now_us;
		f->branch_before = f->branch;
		f->fork_before_known = f->branch.timeline != 0;
		if (!f->fork_before_known)
			f->branch_before.timeline = f->timeline;
		f->branch = (struct history_point){0};
		f->course = (struct history){0};
		f->ring_count = 0;
	}
	/* The same node that does not tell its timeline this time is still on the one we knew. */
	if (timeline != 0 || another)
		f->timeline = timeline;
	f->last_primary = f->primary;
	if (f->branch.timeline == 0)
		f->branch.system = n->system;
	/* It was sampled while it was fenced. */
	if (n->sampled_at_us != 0 && ring_contradicts(f, n, n->at, n->sampled_at_us))
		f->ring_count = 0;
}

/* Also of one that does not lead: what is an old primary does not depend on who was asked. */
static void note_newest(struct fleet *f, int node)
{
	const struct node *n = &f->nodes[node];
	/* The same node that does not tell its timeline this time is still on the one we knew. */
	if (n->timeline != 0 || node != f->newest_node)
		f->newest_timeline = n->timeline;
	f->newest_system = n->system;
	f->newest_node = node;
}

/* On one branch, "has replayed" is a matter of numbers. */
static bool on_primary_branch(const struct fleet *f, int node)
{
	const struct node *n = &f->nodes[node];
	if (n->timeline == 0 || f->timeline == 0)
		return f->generation == 0 && !f->two_primaries;
	return n->timeline == f->timeline && fleet_node_branch(f, node) == BRANCH_SAME;
}

/* Whatever changes a role, a timeline or a history ends here. */
static void elect(struct fleet *f, int64_t now_us)
{
	int found = find_primary(f);
	if (found != NODE_NONE)
		note_newest(f, found);
	f->primary = found != NODE_NONE && fleet_may_lead(f, found) ? found : NODE_NONE;
	if (f->primary != NODE_NONE)
		change_primary(f, now_us);
	take_history(f);
	for (int i = 0; i < f->count; i++) {
		struct node *n = &f->nodes[i];
		n->follows = n->up && n->role == NODE_ROLE_REPLICA && on_primary_branch(f, i);
	}
}

void fleet_node_system(struct fleet *f, int node, uint64_t system)
{
	assert(node >= 0 && node < f->count);
	f->nodes[node].system = system;
}

void fleet_node_up(struct fleet *f, int node, enum node_role role, uint32_t timeline,
                   int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	fleet_node_lost(f, node, now_us);

	struct node *n = &f->nodes[node];
	n->up = true;
	n->role = role;
	n->timeline = timeline;
	n->health.back_at_us = now_us;
	/* What could not be reached was the server of before. */
	n->health.unreachable = false;
	elect(f, now_us);
}

void fleet_node_lost(struct fleet *f, int node, int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	struct node *n = &f->nodes[node];
	if (!n->up)
		return;

	n->up = false;
	n->role = NODE_ROLE_UNKNOWN;
	n->timeline = 0;
	n->history = (struct history){0};
	n->epoch++;
	n->lost_at_us = now_us;
	n->at = n->watched_at = (struct position){0};
	n->sampled_at_us = 0;
	elect(f, now_us);
}

static bool history_fits(const struct node *n, const struct history *h)
{
	if (!n->up || !h->known || h->timeline == 0)
		return false;
	return h->timeline == n->timeline ||
	       (n->role == NODE_ROLE_REPLICA && h->timeline > n->timeline);
}

bool fleet_node_history(struct fleet *f, int node, const struct history *h, struct position at,
                        int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	struct node *n = &f->nodes[node];
	if (!history_fits(n, h))
		return false;
	n->history = *h;
	n->history_at = at;
	n->timeline = h->timeline;
	elect(f, now_us);
	return true;
}

/* ---- learning how long a replica takes ---- */

/* The delay lies between `low` and `high`: move the estimate towards that interval and not at all
 * inside it. So a coarse observation (slow polling) does no harm to what a fine one has taught.
 * It starts at the low end and sinks faster than it rises: if it is too low, statements wait, the
 * watcher polls faster while they do, and the next observations are exact; if it is too high,
 * nobody waits and it would stay so. */
static void learn_delay(struct node *n, int64_t low, int64_t high)
{
	if (n->replay_delay_us == LAG_UNKNOWN)
		n->replay_delay_us = low;
	else if (n->replay_delay_us < low)
		n->replay_delay_us += (low - n->replay_delay_us + 3) / 4;
	else if (n->replay_delay_us > high)
		n->replay_delay_us -= (n->replay_delay_us - high) / 4 * 3 + 1;
}

static void learn_high_delay(struct node *n, int64_t longest)
{
	if (n->replay_delay_high_us == LAG_UNKNOWN || longest > n->replay_delay_high_us)
		n->replay_delay_high_us = longest;
	else
		n->replay_delay_high_us -= (n->replay_delay_high_us - longest) / 64;
}

/*   previous sample            this sample
 *         │     ring entries        │
 *   ──────┼───×────────×──────×─────┼───▶ position
 *           oldest           newest
 *
 * What lies between two samples was replayed between them: the oldest such entry waited at
 * least until the previous sample, the newest at most until this one. */
static void learn(struct fleet *f, struct node *n, struct position at, int64_t now_us)
{
	uint32_t oldest = ring_first_past(f, n->at), end = ring_first_past(f, at);
	if (oldest >= end)
		return;

	int64_t low = n->sampled_at_us - f->ring[oldest].reached_us;
	int64_t high = now_us - f->ring[end - 1].after_us;
	if (high < 0)
		high = 0;
	if (low < 0)
		low = 0;
	/* Replay stood still and then caught up in one go: the newest entry tells how it is now. */
	if (low > high)
		low = high;
	learn_delay(n, low, high);
	learn_high_delay(n, now_us - f->ring[oldest].reached_us);
}

/* ---- samples ---- */

static void primary_sampled(struct fleet *f, struct position at, int64_t started_at_us,
                            int64_t now_us)
{
	if (ring_contradicts(f, &f->nodes[f->primary], at, started_at_us))
		f->ring_count = 0;
	struct fleet_sample *newest = ring_newest(f);
	ring_note(f, (struct fleet_sample){
					 .at = at,
					 .after_us = newest == NULL ? 0 : newest->complete_us,
					 .reached_us = now_us,
					 .complete_us = started_at_us,
				 });
}

/* Samples of two connections may come out of order. The later question knows more: what was shown
 * before it is at or below its answer, and so below the larger of any two. */
static void note_sample(struct fleet *f, struct node *n, struct position at, int64_t started_at_us,
                        int64_t now_us)
{
	if (started_at_us < n->sampled_at_us)
		return;
	if (n->role == NODE_ROLE_REPLICA && n->sampled_at_us != 0)
		learn(f, n, at, now_us);
	if (!position_reached(n->at, at)) {
		n->at = at;
		n->heard_at_us = now_us;
	}
	n->sampled_at_us = started_at_us;
}

/* Below what was known before it was asked, whoever had told: a server that was put back to an
 * earlier state, by a snapshot of its machine for one, while the watcher's connection survived. */
static bool went_backwards(const struct node *n, struct position at, int64_t started_at_us)
{
	return !position_reached(at, n->watched_at) ||
	       (started_at_us >= n->heard_at_us && !position_reached(at, n->at));
}

bool fleet_node_sampled(struct fleet *f, int node, struct position at, int64_t started_at_us,
                        int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	struct node *n = &f->nodes[node];

	if (!n->up)
		return false;
	if (went_backwards(n, at, started_at_us)) {
		fleet_node_lost(f, node, now_us);
		return false;
	}
	if (!position_is_set(at))
		return true;

	n->watched_at = at;
	if (node == f->primary && started_at_us >= n->sampled_at_us)
		primary_sampled(f, at, started_at_us, now_us);
	note_sample(f, n, at, started_at_us, now_us);
	return true;
}

void fleet_replica_reached(struct fleet *f, int node, struct position at, int64_t started_at_us,
                           int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	struct node *n = &f->nodes[node];
	/* Before the watcher's first sample there is nothing that this one could be held against. */
	if (n->up && n->role == NODE_ROLE_REPLICA && n->sampled_at_us != 0 && position_is_set(at))
		note_sample(f, n, at, started_at_us, now_us);
}

void fleet_guard_answered(struct fleet *f, int node, bool held, int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	struct node *n = &f->nodes[node];
	if (held) {
		n->guard_pause_us /= 2;
		return;
	}
	n->guard_pause_us = n->guard_pause_us * 2 + GUARD_PAUSE_MIN_US;
	if (n->guard_pause_us > GUARD_PAUSE_MAX_US)
		n->guard_pause_us = GUARD_PAUSE_MAX_US;
	n->guard_again_at_us = now_us + n->guard_pause_us;
}

void fleet_primary_reached(struct fleet *f, struct position at, int64_t now_us)
{
	if (f->primary == NODE_NONE || !position_is_set(at))
		return;
	/* Whoever hears of his commit later than now has his position captured later than now. */
	ring_note(f, (struct fleet_sample){
					 .at = at, .after_us = now_us, .reached_us = now_us, .complete_us = now_us});
}

/* ---- what Patroni says ---- */

void fleet_leader(struct fleet *f, int leader, int64_t now_us)
{
	assert(leader >= LEADER_NONE && leader < f->count);
	if (leader == f->leader)
		return;
	f->leader = leader;
	elect(f, now_us);
}

/* ---- what the operator says ---- */

void fleet_node_drain(struct fleet *f, int node)
{
	assert(node >= 0 && node < f->count);
	f->nodes[node].health.drained = true;
}

void fleet_node_undrain(struct fleet *f, int node, int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	struct health *h = &f->nodes[node].health;
	if (h->drained)
		h->back_at_us = now_us;
	h->drained = false;
}

/* ---- what reads take ---- */

static int64_t latency_of(const struct fleet *f, int node, int64_t now_us)
{
	const struct health *h = &f->nodes[node].health;
	bool counts = fleet_replica_asked(f, node, now_us) && !health_is_slow(h, now_us);
	return counts ? health_latency_us(h, now_us) : 0;
}

static bool is_outlier(const struct fleet *f, int node, int64_t now_us)
{
	int64_t its = latency_of(f, node, now_us);
	bool compared = false;
	for (int i = 0; i < f->count; i++) {
		int64_t other = i == node ? 0 : latency_of(f, i, now_us);
		if (other == 0)
			continue;
		if (its / f->outlier_factor < other)
			return false;
		compared = true;
	}
	return compared && its >= f->outlier_floor_us;
}

int fleet_find_outlier(const struct fleet *f, int64_t now_us)
{
	for (int i = 0; i < f->count && f->outlier_factor > 0; i++) {
		if (is_outlier(f, i, now_us))
			return i;
	}
	return NODE_NONE;
}

/* ---- what readers ask ---- */

enum contains fleet_primary_contains(const struct fleet *f, const struct history_point *p)
{
	return history_contains(p, NULL, &f->history, HISTORY_END);
}

/* All that the primary will ever write, judged on the node: what it says of that, it says of every
 * position on the primary's own timeline. */
enum fleet_branch fleet_node_branch(const struct fleet *f, int node)
{
	assert(node >= 0 && node < f->count);
	const struct node *n = &f->nodes[node];
	struct history_point end = history_point(&f->course, HISTORY_END);
	if (n->timeline == 1 && f->timeline == 1)
		return BRANCH_SAME;
	if (!f->course.known || !n->history.known)
		return BRANCH_UNKNOWN;
	if (history_same_branch(&n->history, &f->course))
		return BRANCH_SAME;
	if (history_descends(&n->history, &f->course))
		return BRANCH_AHEAD;
	switch (history_contains(&end, &f->course, &n->history, n->history_at)) {
	case CONTAINS_NOT_YET:
		return BRANCH_BEHIND;
	case CONTAINS_LOST:
	case CONTAINS_DIVERGED:
		return BRANCH_DIVERGED;
	case CONTAINS_YES:
	case CONTAINS_UNKNOWN:
		break;
	}
	return BRANCH_UNKNOWN;
}

const char *fleet_branch_name(enum fleet_branch b)
{
	static const char *const names[] = {
		[BRANCH_UNKNOWN] = "unknown",   [BRANCH_SAME] = "same",   [BRANCH_BEHIND] = "behind",
		[BRANCH_DIVERGED] = "diverged", [BRANCH_AHEAD] = "ahead",
	};
	return names[b];
}

uint64_t fleet_lag_bytes(const struct fleet *f, int node)
{
	assert(node >= 0 && node < f->count);
	struct position at = f->nodes[node].at;
	if (!position_is_set(at) || f->ring_count == 0)
		return UINT64_MAX;
	struct position newest = f->ring[f->ring_count - 1].at;
	return position_reached(at, newest) ? 0 : newest.lsn - at.lsn;
}

/* The newest ring entry is the whole truth only while somebody looks at the primary. */
static bool primary_is_watched(const struct fleet *f, int64_t now_us)
{
	if (f->primary == NODE_NONE)
		return false;
	const struct node *p = &f->nodes[f->primary];
	return p->sampled_at_us != 0 && now_us - p->sampled_at_us <= f->sample_max_age_us;
}

int64_t fleet_lag_us(const struct fleet *f, int node, int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	struct position at = f->nodes[node].at;
	uint32_t replayed = position_is_set(at) ? ring_first_past(f, at) : 0;
	if (replayed == 0)
		return LAG_UNKNOWN;
	if (replayed == f->ring_count && primary_is_watched(f, now_us))
		return 0;
	int64_t lag = now_us - f->ring[replayed - 1].complete_us;
	return lag > 0 ? lag : 0;
}

/* A replica that has kept an entry waiting for longer than it usually does stands still or has
 * fallen behind; whatever comes after that entry will take as long at least. */
static int64_t delay_now(const struct fleet *f, const struct node *n)
{
	uint32_t next = ring_first_past(f, n->at);
	int64_t waited = next < f->ring_count ? n->sampled_at_us - f->ring[next].reached_us : 0;
	/* Overdue: as long again as it is overdue, so that a replica that stands still, also one of
	 * which nothing was observed yet, is not waited for again and again. */
	int64_t usual = n->replay_delay_us == LAG_UNKNOWN ? 0 : n->replay_delay_us;
	int64_t overdue = waited > usual ? waited - usual : 0;
	return usual + 2 * overdue;
}

int64_t fleet_catch_up_us(const struct fleet *f, int node, struct position want, int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	const struct node *n = &f->nodes[node];
	if (position_reached(n->at, want))
		return 0;
	if (!position_is_set(n->at))
		return LAG_UNKNOWN;

	uint32_t entry = ring_first_reaching(f, want);
	int64_t written_at_us = entry < f->ring_count ? f->ring[entry].reached_us : now_us;
	int64_t expected = written_at_us + delay_now(f, n) - now_us;
	/* Overdue: it is probably there, and the next sample will tell. */
	return expected > 0 ? expected : 1;
}
