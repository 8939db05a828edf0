/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/fleet.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

enum { P, A, B };
static struct fleet f;

static int setup(void **state)
{
	fleet_init(&f, 1000000);
	fleet_node_add(&f, slice_str("p"));
	fleet_node_add(&f, slice_str("a"));
	fleet_node_add(&f, slice_str("b"));
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 10);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 10);
	fleet_node_up(&f, B, NODE_ROLE_REPLICA, 1, 10);
	return 0;
}

static bool sample(int node, uint64_t lsn, int64_t at_us)
{
	return fleet_node_sampled(&f, node, (struct position){lsn}, at_us, at_us);
}

static void fleet_replica_without_a_sample_is_not_eligible(void **state)
{
	assert_false(fleet_replica_eligible(&f, A, 20));
	assert_true(sample(A, 100, 20));
	assert_true(fleet_replica_eligible(&f, A, 20));
	assert_false(fleet_replica_eligible(&f, P, 20));
}

static void fleet_old_sample_is_not_eligible(void **state)
{
	assert_true(sample(A, 100, 20));
	assert_true(fleet_replica_eligible(&f, A, 1000020));
	assert_false(fleet_replica_eligible(&f, A, 1000021));
}

static void fleet_loss_throws_the_position_away(void **state)
{
	assert_true(sample(A, 100, 20));
	fleet_node_lost(&f, A, 30);
	assert_false(fleet_replica_eligible(&f, A, 30));
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 40);
	assert_false(fleet_replica_eligible(&f, A, 40));
	assert_false(position_is_set(f.nodes[A].at));
	assert_int_equal(f.nodes[A].epoch, 1);
	/* A lower position is no contradiction in a new epoch. */
	assert_true(sample(A, 90, 50));
}

static void reached(uint64_t lsn, int64_t asked_us, int64_t now_us)
{
	fleet_replica_reached(&f, A, (struct position){lsn}, asked_us, now_us);
}

static void fleet_samples_of_pooled_connections_may_come_out_of_order(void **state)
{
	assert_true(sample(A, 100, 20));
	reached(300, 30, 35);
	assert_int_equal(f.nodes[A].at.lsn, 300);
	assert_int_equal(f.nodes[A].sampled_at_us, 30);
	/* The watcher's answer was overtaken: no contradiction, and nothing is forgotten. */
	assert_true(fleet_node_sampled(&f, A, (struct position){200}, 25, 40));
	assert_int_equal(f.nodes[A].at.lsn, 300);
	assert_int_equal(f.nodes[A].sampled_at_us, 30);
	reached(250, 28, 45);
	assert_int_equal(f.nodes[A].at.lsn, 300);
	/* A later question that was answered before the one of 300. */
	assert_true(fleet_node_sampled(&f, A, (struct position){290}, 32, 50));
	assert_int_equal(f.nodes[A].at.lsn, 300);
	assert_int_equal(f.nodes[A].sampled_at_us, 32);
	/* Against itself the watcher is held. */
	assert_false(fleet_node_sampled(&f, A, (struct position){280}, 60, 60));
	assert_false(f.nodes[A].up);
	assert_false(position_is_set(f.nodes[A].at));
}

static void fleet_samples_of_pooled_connections_make_no_node_known(void **state)
{
	reached(300, 30, 35);
	assert_false(position_is_set(f.nodes[A].at));
	assert_true(sample(A, 100, 40));
	fleet_node_lost(&f, A, 50);
	reached(300, 60, 65);
	assert_false(position_is_set(f.nodes[A].at));
	fleet_replica_reached(&f, P, (struct position){300}, 60, 65);
	assert_false(position_is_set(f.nodes[P].at));
}

static void fleet_a_node_that_is_below_what_a_pooled_connection_told_is_lost(void **state)
{
	assert_true(sample(A, 100, 20));
	reached(300, 30, 35);
	/* Asked before that was known: it may have been answered before as well. */
	assert_true(fleet_node_sampled(&f, A, (struct position){200}, 34, 40));
	/* Put back to an earlier state, which is no earlier than the watcher itself has seen. */
	assert_false(fleet_node_sampled(&f, A, (struct position){250}, 35, 45));
	assert_false(f.nodes[A].up);
	assert_false(position_is_set(f.nodes[A].at));
}

static void fleet_guards_that_fail_pause_for_longer_and_longer(void **state)
{
	int64_t now = 5000;
	assert_true(fleet_guard_pays(&f, A, now));
	fleet_guard_answered(&f, A, false, now);
	assert_false(fleet_guard_pays(&f, A, now + 999));
	assert_true(fleet_guard_pays(&f, A, now + 1000));
	assert_true(fleet_guard_pays(&f, B, now));
	fleet_guard_answered(&f, A, false, now);
	assert_false(fleet_guard_pays(&f, A, now + 2999));
	for (int i = 0; i < 30; i++)
		fleet_guard_answered(&f, A, false, now);
	assert_false(fleet_guard_pays(&f, A, now + 999999));
	assert_true(fleet_guard_pays(&f, A, now + 1000000));
	now += 1000000;
	for (int i = 0; i < 20; i++)
		fleet_guard_answered(&f, A, true, now);
	fleet_guard_answered(&f, A, false, now);
	assert_true(fleet_guard_pays(&f, A, now + 1000));
}

static void fleet_position_that_goes_backwards_is_a_loss(void **state)
{
	assert_true(sample(A, 100, 20));
	assert_false(sample(A, 99, 30));
	assert_false(f.nodes[A].up);
	assert_int_equal(f.nodes[A].lost_at_us, 30);
}

static void fleet_two_primaries_are_none(void **state)
{
	assert_int_equal(f.primary, P);
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 20);
	assert_int_equal(f.primary, NODE_NONE);
	assert_int_equal(f.generation, 0);
	fleet_node_lost(&f, P, 30);
	assert_int_equal(f.primary, B);
	assert_int_equal(f.generation, 1);
}

static void fleet_generation_stays_when_the_same_primary_returns(void **state)
{
	fleet_node_lost(&f, P, 20);
	assert_int_equal(f.primary, NODE_NONE);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 30);
	assert_int_equal(f.generation, 0);
	fleet_node_lost(&f, P, 40);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 2, 50);
	assert_int_equal(f.generation, 1);
	assert_int_equal(f.generation_at_us, 50);
}

static bool learn(int node, const struct history *h)
{
	return fleet_node_history(&f, node, h, f.nodes[node].at, 1000);
}

/* P on timeline 2, which left timeline 1 at 900. */
static const struct history of_timeline_2 = {
	.known = true, .timeline = 2, .count = 1, .past = {{1, {900}}}};

static void primary_on_timeline_2(void)
{
	fleet_node_lost(&f, P, 20);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 2, 30);
	assert_false(f.history.known);
	assert_true(learn(P, &of_timeline_2));
	assert_true(f.history.known);
}

static void fleet_history_is_taken_of_the_primary_and_its_timeline_only(void **state)
{
	primary_on_timeline_2();
	assert_int_equal(f.history.timeline, 2);
	assert_true(f.history.past[0].left.lsn == 900);

	struct history h = of_timeline_2;
	h.timeline = 3;
	assert_false(learn(P, &h));
	h = (struct history){.timeline = 2};
	assert_false(learn(P, &h));
	assert_true(f.history.known); /* a refused one does no harm to the one that is there */
}

static void fleet_history_of_an_unknown_timeline_is_refused(void **state)
{
	fleet_node_lost(&f, P, 20);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 0, 30);
	assert_false(learn(P, &of_timeline_2));
	assert_false(learn(P, &(struct history){.known = true}));
	assert_false(f.history.known);
}

static void fleet_history_is_void_with_the_loss_of_the_primary(void **state)
{
	primary_on_timeline_2();
	fleet_node_lost(&f, P, 40);
	assert_false(f.history.known);
	assert_int_equal(f.history.count, 0);
	assert_false(learn(P, &of_timeline_2));
	/* The same primary on the same timeline may still be another server with another past. */
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 2, 50);
	assert_int_equal(f.primary, P);
	assert_false(f.history.known);
}

static void fleet_history_is_void_when_the_primary_comes_up_anew(void **state)
{
	primary_on_timeline_2();
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 2, 40);
	assert_false(f.history.known);
	assert_true(learn(P, &of_timeline_2));
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 3, 50);
	assert_false(f.history.known);
	assert_false(learn(P, &of_timeline_2));
}

static void fleet_history_is_void_while_two_claim_to_be_primary(void **state)
{
	primary_on_timeline_2();
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 40);
	assert_false(f.history.known);
	assert_true(learn(P, &of_timeline_2) && learn(B, &of_timeline_2));
	assert_false(f.history.known); /* equal timelines are no order */
	fleet_node_lost(&f, P, 50);
	assert_int_equal(f.primary, B);
	assert_true(f.history.known);
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 55);
	assert_false(f.history.known);
	assert_false(learn(P, &of_timeline_2));
	assert_true(learn(B, &of_timeline_2));
}

static void fleet_history_outlives_what_happens_to_replicas(void **state)
{
	primary_on_timeline_2();
	assert_true(sample(A, 100, 40));
	assert_false(sample(A, 99, 50));
	fleet_node_lost(&f, B, 60);
	fleet_node_up(&f, B, NODE_ROLE_REPLICA, 2, 70);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 80);
	assert_true(sample(P, 1000, 90));
	assert_true(f.history.known);
	/* A primary that contradicts itself is lost, and its history with it. */
	assert_false(sample(P, 999, 100));
	assert_false(f.history.known);
}

static void fleet_replica_on_another_timeline_is_not_eligible(void **state)
{
	assert_true(sample(A, 100, 20) && sample(B, 100, 20));
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 0, 30);
	assert_true(sample(A, 100, 40));
	/* Unknown will do before the first failover, and never after. */
	assert_true(fleet_replica_eligible(&f, A, 40));
	fleet_node_lost(&f, P, 50);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 2, 60);
	assert_false(fleet_replica_eligible(&f, A, 60));
	assert_false(fleet_replica_eligible(&f, B, 60));
	fleet_node_up(&f, B, NODE_ROLE_REPLICA, 2, 70);
	assert_true(sample(B, 100, 80));
	/* The number is the same; whether the fork is, nobody knows yet. */
	assert_false(fleet_replica_eligible(&f, B, 80));
	assert_true(learn(P, &of_timeline_2));
	assert_false(fleet_replica_eligible(&f, B, 80));
	assert_true(learn(B, &of_timeline_2));
	assert_true(fleet_replica_eligible(&f, B, 80));
	/* Its primary may be away: it still goes along that branch. */
	fleet_node_lost(&f, P, 90);
	assert_false(f.history.known);
	assert_true(fleet_replica_eligible(&f, B, 90));
	assert_int_equal(fleet_node_branch(&f, B), BRANCH_SAME);
}

static struct history left_1_at(uint64_t at, uint32_t now)
{
	return (struct history){.known = true, .timeline = now, .count = 1, .past = {{1, {at}}}};
}

static void fleet_replica_of_an_independent_promotion_has_diverged(void **state)
{
	primary_on_timeline_2();
	struct history twin = left_1_at(800, 2);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 2, 40);
	assert_true(sample(A, 2000, 50));
	assert_true(learn(A, &twin));
	assert_int_equal(fleet_node_branch(&f, A), BRANCH_DIVERGED);
	assert_false(fleet_replica_eligible(&f, A, 50));
	twin.past[0].left.lsn = 900;
	assert_true(learn(A, &twin));
	assert_true(fleet_replica_eligible(&f, A, 50));
}

static void fleet_replica_on_the_timeline_before_may_follow_until_it_is_beyond_the_fork(void **state)
{
	struct history first;
	history_first(&first);
	primary_on_timeline_2();
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 40);
	assert_true(sample(A, 900, 50));
	assert_int_equal(fleet_node_branch(&f, A), BRANCH_UNKNOWN);
	assert_true(learn(A, &first));
	assert_int_equal(fleet_node_branch(&f, A), BRANCH_BEHIND);
	/* What it shows next may be of the branch that was left. */
	assert_false(fleet_replica_eligible(&f, A, 50));
	/* It has followed, and was not asked again yet: a position alone says nothing. */
	assert_true(sample(A, 950, 60));
	assert_int_equal(fleet_node_branch(&f, A), BRANCH_BEHIND);
	assert_true(learn(A, &first));
	assert_int_equal(fleet_node_branch(&f, A), BRANCH_DIVERGED);
	assert_false(fleet_replica_eligible(&f, A, 60));
	/* A replica of a primary that we do not see is not the one that is wrong. */
	struct history third = left_1_at(900, 3);
	third.past[third.count++] = (struct history_entry){2, {1000}};
	assert_true(learn(B, &third));
	assert_int_equal(fleet_node_branch(&f, B), BRANCH_AHEAD);
	assert_false(fleet_replica_eligible(&f, B, 60));
}

static void fleet_newest_of_two_primaries_is_elected_when_its_history_shows_it(void **state)
{
	struct history first, second = left_1_at(900, 2);
	history_first(&first);
	assert_int_equal(f.primary, P);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 2, 40);
	/* Nobody knows where A came from: none, and both are fenced. */
	assert_int_equal(f.primary, NODE_NONE);
	assert_true(fleet_node_fenced(&f, P) && fleet_node_fenced(&f, A));
	assert_true(learn(A, &second));
	assert_int_equal(f.primary, NODE_NONE);
	assert_true(learn(P, &first));
	assert_int_equal(f.primary, A);
	assert_int_equal(f.generation, 1);
	assert_true(f.history.known && f.history.timeline == 2);
	assert_true(fleet_node_fenced(&f, P) && !fleet_node_fenced(&f, A));
	/* A third that comes from A. */
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 3, 50);
	assert_int_equal(f.primary, NODE_NONE);
	struct history third = second;
	third.timeline = 3;
	third.past[third.count++] = (struct history_entry){2, {1000}};
	assert_true(learn(B, &third));
	assert_int_equal(f.primary, B);
	assert_int_equal(f.generation, 2);
}

static void fleet_primaries_that_do_not_come_from_each_other_are_none(void **state)
{
	struct history second = left_1_at(900, 2), third = left_1_at(800, 3), twin = left_1_at(800, 2);
	fleet_node_lost(&f, P, 20);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 2, 30);
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 3, 40);
	assert_true(learn(A, &second) && learn(B, &third));
	assert_int_equal(f.primary, NODE_NONE);
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 50);
	assert_true(learn(B, &twin));
	assert_int_equal(f.primary, NODE_NONE);
	/* The same past in another cluster is another past. */
	struct history first;
	history_first(&first);
	second.system = 4711;
	fleet_node_lost(&f, B, 60);
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 1, 60);
	assert_true(learn(A, &second) && learn(B, &first));
	assert_int_equal(f.primary, NODE_NONE);
}

static void fleet_old_primary_that_comes_back_alone_is_none(void **state)
{
	fleet_node_lost(&f, P, 20);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 2, 30);
	assert_int_equal(f.primary, A);
	fleet_node_lost(&f, A, 40);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 50);
	assert_int_equal(f.primary, NODE_NONE);
	assert_true(fleet_node_fenced(&f, P));
	/* It is not known to be of this cluster's past if it is of another cluster. */
	fleet_node_lost(&f, P, 60);
	fleet_node_system(&f, P, 4711);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 70);
	assert_int_equal(f.primary, P);
}

static void fleet_leader_that_is_told_only_narrows(void **state)
{
	/* P says that it is primary and A that it is not: neither becomes it by being called the leader. */
	fleet_leader(&f, A, 20);
	assert_int_equal(f.primary, NODE_NONE);
	assert_true(fleet_node_fenced(&f, P) && !fleet_node_fenced(&f, A));
	assert_false(fleet_may_lead(&f, P));
	fleet_leader(&f, LEADER_NONE, 30);
	assert_int_equal(f.primary, NODE_NONE);
	assert_true(fleet_node_fenced(&f, P));
	assert_int_equal(f.generation, 0);
	fleet_leader(&f, P, 40);
	assert_int_equal(f.primary, P);
	assert_false(fleet_node_fenced(&f, P));
	fleet_leader(&f, LEADER_NONE, 50);
	fleet_leader(&f, LEADER_UNKNOWN, 60);
	assert_int_equal(f.primary, P);
	/* The same server on the same timeline: what was known of positions holds. */
	assert_int_equal(f.generation, 0);
}

static void fleet_leader_does_not_stand_in_for_a_history(void **state)
{
	struct history first, second = left_1_at(900, 2);
	history_first(&first);
	/* Where A came from is not known, whoever calls it the leader. */
	fleet_leader(&f, A, 20);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 2, 30);
	assert_int_equal(f.primary, NODE_NONE);
	assert_true(learn(A, &second) && learn(P, &first));
	assert_int_equal(f.primary, A);
	assert_int_equal(f.generation, 1);
	assert_true(f.history.known && f.history.timeline == 2);
	/* The one that A came from, called the leader, is an old primary all the same. */
	fleet_leader(&f, P, 40);
	assert_int_equal(f.primary, NODE_NONE);
	assert_false(f.history.known);
	fleet_node_lost(&f, A, 50);
	assert_int_equal(f.primary, NODE_NONE);
}

static void fleet_newest_branch_without_the_lead_is_fenced(void **state)
{
	struct history first, second = left_1_at(900, 2);
	history_first(&first);
	fleet_leader(&f, P, 20);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 2, 30);
	assert_true(learn(A, &second) && learn(P, &first));
	/* P leads and A came from it: which of them is right nobody can tell. */
	assert_int_equal(f.primary, NODE_NONE);
	assert_true(fleet_node_fenced(&f, P) && fleet_node_fenced(&f, A));
	fleet_leader(&f, LEADER_UNKNOWN, 40);
	assert_int_equal(f.primary, A);
}

static void fleet_unknown_timeline_is_not_eligible_while_two_claim_to_be_primary(void **state)
{
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 0, 20);
	assert_true(sample(A, 100, 30));
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 40);
	assert_false(fleet_replica_eligible(&f, A, 40));
}

static void fleet_lag_is_the_age_of_what_was_replayed(void **state)
{
	fleet_primary_reached(&f, (struct position){100}, 10000);
	assert_true(sample(P, 100, 15000));
	fleet_primary_reached(&f, (struct position){200}, 20000);
	assert_true(sample(A, 150, 30000) && sample(B, 200, 30000));
	assert_int_equal(fleet_lag_us(&f, B, 40000), 0);
	assert_int_equal(fleet_lag_bytes(&f, B), 0);
	/* The primary was still at 100 when it was asked at 15000. */
	assert_int_equal(fleet_lag_us(&f, A, 40000), 25000);
	assert_int_equal(fleet_lag_bytes(&f, A), 50);
}

static void fleet_lag_is_unknown_without_ground(void **state)
{
	assert_int_equal(fleet_lag_us(&f, A, 20), LAG_UNKNOWN);
	assert_true(sample(A, 50, 20));
	assert_int_equal(fleet_lag_us(&f, A, 20), LAG_UNKNOWN);
	assert_true(fleet_lag_bytes(&f, A) == UINT64_MAX);
	assert_true(sample(P, 100, 30));
	assert_int_equal(fleet_lag_us(&f, A, 30), LAG_UNKNOWN); /* behind the whole ring */
}

static void fleet_lag_grows_while_nobody_watches_the_primary(void **state)
{
	assert_true(sample(P, 100, 20) && sample(A, 100, 20));
	assert_int_equal(fleet_lag_us(&f, A, 30), 0);
	fleet_node_lost(&f, P, 40);
	assert_int_equal(fleet_lag_us(&f, A, 500), 480);
}

static void fleet_ring_forgets_positions_lost_in_a_crash(void **state)
{
	assert_true(sample(P, 100, 10000));
	fleet_primary_reached(&f, (struct position){900}, 20000);
	fleet_node_lost(&f, P, 30000);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 40000);
	assert_true(sample(P, 500, 50000) && sample(A, 500, 50000));
	assert_int_equal(fleet_lag_us(&f, A, 50000), 0);
}

static void fleet_ring_forgets_them_however_soon_the_primary_is_back(void **state)
{
	assert_true(sample(P, 1000, 100));
	fleet_node_lost(&f, P, 110);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 120);
	assert_true(sample(P, 900, 130));
	assert_int_equal(fleet_newest(&f).lsn, 900);
	/* What the new server says is not mixed with what the old one had. */
	fleet_node_lost(&f, P, 140);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 150);
	fleet_primary_reached(&f, (struct position){1000}, 160);
	assert_true(fleet_node_sampled(&f, P, (struct position){950}, 155, 170));
	assert_int_equal(fleet_newest(&f).lsn, 1000);
	/* What came behind the question is no contradiction. */
	fleet_primary_reached(&f, (struct position){1100}, 5000);
	assert_true(fleet_node_sampled(&f, P, (struct position){1000}, 4990, 5010));
	assert_int_equal(fleet_newest(&f).lsn, 1100);
}

static void fleet_ring_forgets_them_too_if_they_are_missed_before_the_election(void **state)
{
	assert_true(sample(P, 1000, 100));
	fleet_node_lost(&f, P, 5000);
	fleet_leader(&f, LEADER_NONE, 5000);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 6000);
	assert_true(sample(P, 900, 7000));
	assert_int_equal(fleet_newest(&f).lsn, 1000);
	fleet_leader(&f, P, 8000);
	assert_int_equal(f.primary, P);
	assert_false(position_is_set(fleet_newest(&f)));
	assert_true(sample(P, 950, 9000));
	assert_int_equal(fleet_newest(&f).lsn, 950);
}

static void fleet_ring_reaches_back_for_ever(void **state)
{
	for (uint64_t i = 1; i <= 5000; i++)
		fleet_primary_reached(&f, (struct position){i * 10}, (int64_t)i * 2000);
	assert_true(f.ring_count <= FLEET_RING);
	assert_true(sample(A, 4999 * 10, 10000000) && sample(B, 10 * 10, 10000000));
	assert_int_equal(fleet_lag_us(&f, A, 10000000), 2000);
	assert_true(fleet_lag_us(&f, B, 10000000) >= 10000000 - 11 * 2000);
	assert_true(fleet_lag_us(&f, B, 10000000) != LAG_UNKNOWN);
}

/* A replica that replays 5 ms after the write, asked each millisecond. */
static void teach_five_ms(void)
{
	for (int64_t t = 100000; t < 200000; t += 1000) {
		fleet_primary_reached(&f, (struct position){(uint64_t)t}, t);
		assert_true(sample(A, (uint64_t)t - 5000, t));
	}
}

static void fleet_expects_the_learnt_delay(void **state)
{
	assert_int_equal(fleet_catch_up_us(&f, A, (struct position){1}, 20), LAG_UNKNOWN);
	teach_five_ms();
	assert_in_range(f.nodes[A].replay_delay_us, 4000, 6000);
	assert_int_equal(fleet_catch_up_us(&f, A, (struct position){190000}, 199000), 0);
	assert_in_range(fleet_catch_up_us(&f, A, (struct position){199000}, 199000), 4000, 6500);
	/* Newer than anything heard of: as if written now. */
	assert_in_range(fleet_catch_up_us(&f, A, (struct position){900000}, 199000), 4000, 6500);
	/* Overdue: the next sample will tell. */
	assert_int_equal(fleet_catch_up_us(&f, A, (struct position){195000}, 230000), 1);
}

static void fleet_expects_nothing_soon_of_a_replica_that_stands_still(void **state)
{
	teach_five_ms();
	assert_true(sample(A, 194000, 3000000));
	fleet_primary_reached(&f, (struct position){3000000}, 3000000);
	assert_true(fleet_catch_up_us(&f, A, (struct position){3000000}, 3000000) > 2000000);
	/* Nor of the very position at which it stands. */
	assert_true(fleet_catch_up_us(&f, A, (struct position){195000}, 3000000) > 2000000);
	/* … and forgets it within a few samples, idle ones too, when it moves again. */
	for (int64_t t = 3250000; t < 5000000; t += 250000) {
		fleet_primary_reached(&f, (struct position){(uint64_t)t}, t - 8000);
		assert_true(sample(A, (uint64_t)t, t));
	}
	assert_true(fleet_catch_up_us(&f, A, (struct position){9000000}, 5000000) < 10000);
}

int main(void)
{
#define each(test) cmocka_unit_test_setup(test, setup)
	const struct CMUnitTest tests[] = {
		each(fleet_replica_without_a_sample_is_not_eligible),
		each(fleet_old_sample_is_not_eligible),
		each(fleet_loss_throws_the_position_away),
		each(fleet_samples_of_pooled_connections_may_come_out_of_order),
		each(fleet_a_node_that_is_below_what_a_pooled_connection_told_is_lost),
		each(fleet_samples_of_pooled_connections_make_no_node_known),
		each(fleet_guards_that_fail_pause_for_longer_and_longer),
		each(fleet_position_that_goes_backwards_is_a_loss),
		each(fleet_two_primaries_are_none),
		each(fleet_generation_stays_when_the_same_primary_returns),
		each(fleet_history_is_taken_of_the_primary_and_its_timeline_only),
		each(fleet_history_of_an_unknown_timeline_is_refused),
		each(fleet_history_is_void_with_the_loss_of_the_primary),
		each(fleet_history_is_void_when_the_primary_comes_up_anew),
		each(fleet_history_is_void_while_two_claim_to_be_primary),
		each(fleet_history_outlives_what_happens_to_replicas),
		each(fleet_replica_on_another_timeline_is_not_eligible),
		each(fleet_replica_of_an_independent_promotion_has_diverged),
		each(fleet_replica_on_the_timeline_before_may_follow_until_it_is_beyond_the_fork),
		each(fleet_newest_of_two_primaries_is_elected_when_its_history_shows_it),
		each(fleet_primaries_that_do_not_come_from_each_other_are_none),
		each(fleet_old_primary_that_comes_back_alone_is_none),
		each(fleet_leader_that_is_told_only_narrows),
		each(fleet_leader_does_not_stand_in_for_a_history),
		each(fleet_newest_branch_without_the_lead_is_fenced),
		each(fleet_unknown_timeline_is_not_eligible_while_two_claim_to_be_primary),
		each(fleet_lag_is_the_age_of_what_was_replayed),
		each(fleet_lag_is_unknown_without_ground),
		each(fleet_lag_grows_while_nobody_watches_the_primary),
		each(fleet_ring_forgets_positions_lost_in_a_crash),
		each(fleet_ring_forgets_them_however_soon_the_primary_is_back),
		each(fleet_ring_forgets_them_too_if_they_are_missed_before_the_election),
		each(fleet_ring_reaches_back_for_ever),
		each(fleet_expects_the_learnt_delay),
		each(fleet_expects_nothing_soon_of_a_replica_that_stands_still),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
