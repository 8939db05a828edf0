/* SPDX-License-Identifier: PostgreSQL
 *
 * The wait list against a plain array that is searched from end to end.
 */
#include "consistency/waitlist.h"
#include "property.h"

#define WAITERS 40
#define MAX 30

static struct waiter waiters[WAITERS];
static bool in_list[WAITERS];
static struct fleet fleet;
static int64_t now;

static bool is_ready(const struct waiter *it)
{
	bool ready = false;
	for (int n = 0; n < fleet.count; n++) {
		if (position_is_set(it->need))
			ready = ready || (fleet_replica_eligible(&fleet, n, now) &&
			                  position_reached(fleet.nodes[n].at, it->need));
		else
			ready =
				ready || (fleet.nodes[n].up && fleet.nodes[n].sampled_at_us > it->sample_after_us);
	}
	return ready;
}

static int count_in_list(bool only_ready, bool only_expired)
{
	int count = 0;
	for (int i = 0; i < WAITERS; i++) {
		if (!in_list[i] || (only_ready && !is_ready(&waiters[i])) ||
		    (only_expired && waiters[i].deadline_us > now))
			continue;
		count++;
	}
	return count;
}

static void leaves(struct waiter *it)
{
	int i = (int)(it - waiters);
	require(i >= 0 && i < WAITERS && in_list[i], "popped what was not in the list");
	in_list[i] = false;
}

static void add_one(struct waitlist *w)
{
	int i = (int)below(WAITERS);
	if (in_list[i])
		return;
	waiters[i] = (struct waiter){.deadline_us = now + below(50)};
	if (one_in(2))
		waiters[i].need.lsn = 1 + (uint64_t)below(300);
	else
		waiters[i].sample_after_us = now - below(20);
	bool full = count_in_list(false, false) == MAX;
	in_list[i] = waitlist_add(w, &waiters[i]);
	require(in_list[i] == !full, "refused while not full, or the other way round");
}

static void fleet_moves(void)
{
	int n = (int)below(fleet.count);
	struct node *node = &fleet.nodes[n];
	if (one_in(20)) {
		fleet_node_lost(&fleet, n, now);
	} else if (!node->up) {
		fleet_node_up(&fleet, n, n == 0 ? NODE_ROLE_PRIMARY : NODE_ROLE_REPLICA, 1, now);
	} else {
		struct position at = {node->watched_at.lsn + (uint64_t)below(5)};
		bool good = fleet_node_sampled(&fleet, n, at, now - below(3), now);
		require(good, "refused a sample that does not go back");
	}
}

static void pop_all_ready(struct waitlist *w)
{
	int expect = count_in_list(true, false);
	for (struct waiter *it; (it = waitlist_pop_ready(w, &fleet, now)) != NULL; expect--) {
		require(is_ready(it), "popped one that is not ready");
		leaves(it);
	}
	require(expect == 0, "%d ready waiters were not popped", expect);
}

static void pop_all_expired(struct waitlist *w)
{
	int expect = count_in_list(false, true);
	int64_t last = 0;
	for (struct waiter *it; (it = waitlist_pop_expired(w, now)) != NULL; expect--) {
		require(it->deadline_us <= now && it->deadline_us >= last, "out of order");
		last = it->deadline_us;
		leaves(it);
	}
	require(expect == 0, "%d expired waiters were not popped", expect);
}

static void check_deadline(const struct waitlist *w)
{
	int64_t earliest = INT64_MAX;
	for (int i = 0; i < WAITERS; i++) {
		if (in_list[i] && waiters[i].deadline_us < earliest)
			earliest = waiters[i].deadline_us;
	}
	require(waitlist_next_deadline(w) == earliest, "wrong next deadline");
	require(w->count == count_in_list(false, false), "wrong count");
}

static void run(void)
{
	struct waitlist w;
	memset(in_list, 0, sizeof(in_list));
	memset(waiters, 0, sizeof(waiters));
	now = 100;
	fleet_init(&fleet, 1000);
	for (int i = 0; i < 3; i++)
		fleet_node_add(&fleet, slice_str("n"));
	require(waitlist_init(&w, MAX), "no memory");

	for (int step = 0; step < 2000; step++) {
		now += below(3);
		int64_t what = below(20);
		int i = (int)below(WAITERS);
		if (what < 8) {
			add_one(&w);
		} else if (what < 15) {
			fleet_moves();
		} else if (what < 17) {
			waitlist_remove(&w, &waiters[i]);
			in_list[i] = false;
		} else if (what == 17) {
			pop_all_ready(&w);
		} else if (what == 18) {
			pop_all_expired(&w);
		} else if (one_in(20)) {
			for (struct waiter *it; (it = waitlist_pop_any(&w)) != NULL;)
				leaves(it);
		}
		check_deadline(&w);
	}
	waitlist_release(&w);
}

int main(int argc, char **argv)
{
	property_run(argc, argv, 100, run);
	return 0;
}
