/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/route.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

enum { P, A, B };
#define NOW 1000000
static struct fleet f;
static struct session_mark s;
static struct route_policy policy;
static struct route r;

static bool sample(int node, uint64_t lsn, int64_t started_us)
{
	return fleet_node_sampled(&f, node, (struct position){lsn}, started_us, started_us + 1);
}

/* The primary is at 1000; replica A replayed all of it, B nothing since 500. */
static int setup(void **state)
{
	memset(&s, 0, sizeof(s));
	policy = (struct route_policy){.level = LEVEL_SESSION,
	                               .wait_timeout_us = 100000,
	                               .max_lag_us = 100000,
	                               .pin_window_us = 5000000};
	fleet_init(&f, 10000000);
	fleet_node_add(&f, slice_str("p"));
	fleet_node_add(&f, slice_str("a"));
	fleet_node_add(&f, slice_str("b"));
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 1);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 1);
	fleet_node_up(&f, B, NODE_ROLE_REPLICA, 1, 1);
	bool good = sample(P, 500, 100) && sample(A, 500, 100) && sample(B, 500, 100) &&
	            sample(P, 1000, NOW - 300000) && sample(A, 1000, NOW - 290000) &&
	            sample(P, 1000, NOW - 10) && sample(A, 1000, NOW - 10) && sample(B, 500, NOW - 10);
	f.nodes[A].replay_delay_us = 2000;
	f.nodes[B].replay_delay_us = 400000;
	return good ? 0 : -1;
}

static enum route_target decide_at(int64_t since_us, int64_t now_us)
{
	session_settle(&s, &f);
	r = route_decide(&f, &s, &policy, since_us, now_us);
	return r.target;
}

static enum route_target decide(void)
{
	return decide_at(0, NOW);
}

#define assert_primary(why)                                                       \
	do {                                                                          \
		assert_int_equal(decide(), ROUTE_PRIMARY);                                \
		assert_string_equal(route_reason_name(r.reason), route_reason_name(why)); \
	} while (0)
#define assert_replica(which, why)                                                \
	do {                                                                          \
		assert_int_equal(decide(), ROUTE_REPLICA);                                \
		assert_string_equal(route_reason_name(r.reason), route_reason_name(why)); \
		assert_int_equal(r.node, which);                                          \
	} while (0)

static void wrote(uint64_t lsn)
{
	session_wrote(&s, &f, (struct position){lsn}, NOW - 2, NOW - 1);
	fleet_primary_reached(&f, (struct position){lsn}, NOW - 1);
}

static void lose(int node)
{
	fleet_node_lost(&f, node, NOW - 1);
}

static void route_strong_reads_go_to_the_primary(void **state)
{
	policy.level = LEVEL_STRONG;
	assert_primary(REASON_STRONG);
}

static void route_reads_go_to_a_replica_past_the_mark(void **state)
{
	wrote(800);
	assert_replica(A, REASON_REPLICA_FRESH);
	assert_true(r.discriminating);
}

static void route_is_not_discriminating_when_all_replicas_are_past_the_mark(void **state)
{
	wrote(400);
	assert_int_equal(decide(), ROUTE_REPLICA);
	assert_false(r.discriminating);
}

static void route_without_a_healthy_replica_goes_to_the_primary(void **state)
{
	lose(A);
	lose(B);
	assert_primary(REASON_NO_REPLICA);
	policy.level = LEVEL_EVENTUAL;
	assert_primary(REASON_NO_REPLICA);
	policy.level = LEVEL_BOUNDED;
	assert_primary(REASON_NO_REPLICA);
}

static void route_waits_only_when_a_replica_can_catch_up(void **state)
{
	wrote(1200);
	assert_int_equal(decide(), ROUTE_WAIT);
	assert_int_equal(r.reason, REASON_WAIT_REPLICA);
	assert_int_equal(r.need.lsn, 1200);
	assert_int_equal(r.wait_until_us, NOW + 100000);
	lose(A);
	assert_primary(REASON_TOO_FAR_BEHIND);
	/* An unknown delay is no ground for a hope. */
	f.nodes[B].replay_delay_us = LAG_UNKNOWN;
	assert_primary(REASON_TOO_FAR_BEHIND);
}

static void route_wait_ends_with_its_budget(void **state)
{
	wrote(1200);
	assert_int_equal(decide_at(NOW - 60000, NOW), ROUTE_WAIT);
	assert_int_equal(r.wait_until_us, NOW + 40000);
	assert_int_equal(decide_at(NOW - 100000, NOW), ROUTE_PRIMARY);
	assert_int_equal(r.reason, REASON_WAIT_TIMEOUT);
	/* Late is not too late if a replica is there by now. */
	assert_true(sample(A, 1200, NOW));
	assert_int_equal(decide_at(NOW - 100000, NOW + 1), ROUTE_REPLICA);
}

static void route_never_waits_with_a_budget_of_nothing(void **state)
{
	policy.wait_timeout_us = 0;
	wrote(1200);
	assert_primary(REASON_TOO_FAR_BEHIND);
	memset(&s, 0, sizeof(s));
	session_wrote_unknown(&s, &f, NOW - 1);
	assert_primary(REASON_MARK_UNKNOWN);
}

static void route_waits_for_the_sample_that_settles_a_debt(void **state)
{
	session_read(&s, &f, P, NOW - 1);
	assert_int_equal(decide(), ROUTE_WAIT);
	assert_int_equal(r.reason, REASON_WAIT_SAMPLE);
	assert_false(position_is_set(r.need));
	assert_int_equal(r.sample_after_us, NOW - 1);
	assert_int_equal(r.wait_until_us, NOW + 100000);
	assert_true(sample(P, 1000, NOW));
	assert_replica(A, REASON_REPLICA_FRESH);
	session_read(&s, &f, P, NOW + 5);
	assert_int_equal(decide_at(NOW - 100000, NOW), ROUTE_PRIMARY);
	assert_int_equal(r.reason, REASON_WAIT_TIMEOUT);
}

static void route_waits_for_no_sample_when_the_known_part_is_too_far_already(void **state)
{
	lose(A);
	wrote(1200);
	session_read(&s, &f, P, NOW - 1);
	assert_primary(REASON_TOO_FAR_BEHIND);
}

static void route_stays_where_a_read_is_owed(void **state)
{
	session_read(&s, &f, B, NOW - 1);
	assert_replica(B, REASON_REPLICA_FRESH);
	/* A would do, by the primary's sample, but is not worth it for a trifle. */
	assert_true(sample(P, 1000, NOW) && sample(A, 1000, NOW));
	f.nodes[B].outstanding = 3;
	assert_replica(B, REASON_REPLICA_FRESH);
	f.nodes[B].outstanding = 9;
	f.nodes[A].outstanding = 4;
	assert_replica(A, REASON_REPLICA_FRESH);
}

static void route_moves_to_a_replica_that_has_reached_what_was_read(void **state)
{
	session_read(&s, &f, B, NOW - 1);
	lose(B);
	assert_int_equal(decide(), ROUTE_WAIT);
	assert_int_equal(r.reason, REASON_WAIT_SAMPLE);
	assert_true(sample(P, 1000, NOW));
	assert_replica(A, REASON_REPLICA_FRESH);
}

static void route_prefers_the_replica_with_less_to_do(void **state)
{
	f.nodes[A].outstanding = 2;
	f.nodes[B].outstanding = 1;
	assert_replica(B, REASON_REPLICA_FRESH);
	f.nodes[A].outstanding = 0;
	assert_replica(A, REASON_REPLICA_FRESH);
}

/* Each read stays: where do `count` of them, one after the other, come to lie? */
static void pile_up(int count)
{
	f.nodes[A].outstanding = f.nodes[B].outstanding = 0;
	for (int i = 0; i < count; i++) {
		assert_int_equal(decide_at(0, NOW + i * 7), ROUTE_REPLICA);
		f.nodes[r.node].outstanding++;
	}
}

static void route_loads_replicas_by_their_weights(void **state)
{
	f.nodes[A].health.weight = 3;
	pile_up(40);
	assert_in_range(f.nodes[A].outstanding, 29, 31);
	f.nodes[A].health.weight = 1;
	f.nodes[B].health.weight = 4;
	pile_up(40);
	assert_in_range(f.nodes[B].outstanding, 31, 33);
}

static void route_spreads_new_sessions_by_weight(void **state)
{
	int seen[3] = {0};
	f.nodes[B].health.weight = 3;
	for (int i = 0; i < 400; i++) {
		assert_int_equal(decide_at(0, NOW + i), ROUTE_REPLICA);
		seen[r.node]++;
	}
	assert_in_range(seen[A], 80, 120);
	assert_int_equal(seen[A] + seen[B], 400);
}

static void route_never_asks_what_has_no_weight_or_is_drained(void **state)
{
	policy.level = LEVEL_EVENTUAL;
	f.nodes[A].health.weight = 0;
	f.nodes[B].outstanding = 1000;
	assert_replica(B, REASON_REPLICA_EVENTUAL);
	fleet_node_drain(&f, B);
	assert_primary(REASON_NO_REPLICA);
	fleet_node_undrain(&f, B, NOW);
	assert_replica(B, REASON_REPLICA_EVENTUAL);
}

/* B is past the mark and drained, A is on its way: nobody waits for B, and B does not answer. */
static void route_waits_for_no_replica_that_is_drained(void **state)
{
	wrote(1200);
	fleet_node_drain(&f, A);
	assert_true(sample(A, 1200, NOW - 1));
	assert_primary(REASON_TOO_FAR_BEHIND);
}

static void route_leaves_a_drained_replica_also_where_a_read_is_owed(void **state)
{
	session_read(&s, &f, B, NOW - 1);
	fleet_node_drain(&f, B);
	assert_int_equal(decide(), ROUTE_WAIT);
	assert_int_equal(r.reason, REASON_WAIT_SAMPLE);
	assert_true(sample(P, 1000, NOW));
	assert_replica(A, REASON_REPLICA_FRESH);
}

static void route_gives_a_replica_that_came_back_its_share_slowly(void **state)
{
	f.slow_start_us = 1000000;
	f.nodes[A].health.back_at_us = -f.slow_start_us;
	f.nodes[B].health.back_at_us = NOW;
	pile_up(34);
	assert_in_range(f.nodes[B].outstanding, 1, 3);
	f.nodes[B].health.back_at_us = NOW - f.slow_start_us / 2;
	pile_up(30);
	assert_in_range(f.nodes[B].outstanding, 9, 11);
	/* Slow or not, it is the one that has what the session wrote. */
	f.nodes[B].health.back_at_us = NOW;
	lose(A);
	assert_replica(B, REASON_REPLICA_FRESH);
}

static void route_weights_decide_who_is_clearly_less_busy(void **state)
{
	session_read(&s, &f, B, NOW - 1);
	assert_true(sample(P, 1000, NOW) && sample(A, 1000, NOW));
	f.nodes[B].outstanding = 9;
	f.nodes[A].outstanding = 4;
	f.nodes[B].health.weight = 2;
	assert_replica(B, REASON_REPLICA_FRESH);
	f.nodes[B].health.weight = 1;
	assert_replica(A, REASON_REPLICA_FRESH);
}

static void route_keeps_the_limit_of_lag_at_every_level(void **state)
{
	static const enum consistency_level levels[] = {LEVEL_SESSION, LEVEL_BOUNDED, LEVEL_EVENTUAL};
	policy.replica_max_lag_us = 200000;
	policy.max_lag_us = INT64_MAX;
	for (int i = 0; i < 3; i++) {
		policy.level = levels[i];
		for (int n = 0; n < 8; n++) {
			assert_int_equal(decide_at(0, NOW + n), ROUTE_REPLICA);
			assert_int_equal(r.node, A);
		}
	}
	lose(A);
	for (int i = 0; i < 3; i++) {
		policy.level = levels[i];
		assert_primary(REASON_LAG_LIMIT);
	}
	policy.replica_max_lag_us = 0;
	assert_int_equal(decide(), ROUTE_REPLICA);
}

/* Another primary, of which nothing is known yet: no lag can be measured, and none is assumed. */
static void route_a_lag_that_is_not_known_is_over_any_limit(void **state)
{
	policy.level = LEVEL_EVENTUAL;
	policy.replica_max_lag_us = INT64_MAX - 1;
	f.ring_count = 0;
	assert_int_equal(fleet_lag_us(&f, A, NOW), LAG_UNKNOWN);
	assert_primary(REASON_LAG_LIMIT);
	policy.replica_max_lag_us = 0;
	assert_int_equal(decide(), ROUTE_REPLICA);
}

static void route_spreads_sessions_that_have_read_nothing(void **state)
{
	int seen[3] = {0};
	for (int i = 0; i < 30; i++) {
		assert_int_equal(decide_at(0, NOW + i), ROUTE_REPLICA);
		seen[r.node]++;
	}
	assert_true(seen[A] >= 10 && seen[B] >= 10);
}

/* What B lacks may be what is not known any more. */
static void route_replicas_behind_what_is_known_of_the_mark_are_left_out(void **state)
{
	policy.known_back_us = 200000;
	for (int i = 0; i < 8; i++) {
		r = route_decide(&f, &s, &policy, 0, NOW + i);
		assert_int_equal(r.node, A);
	}
	lose(A);
	assert_primary(REASON_TOO_FAR_BEHIND);
	policy.known_back_us = 2000000;
	assert_replica(B, REASON_REPLICA_FRESH);
	policy.known_back_us = 0;
	assert_replica(B, REASON_REPLICA_FRESH);
}

static void route_bounded_reads_keep_the_limit_of_lag(void **state)
{
	policy.level = LEVEL_BOUNDED;
	wrote(1000);
	session_read(&s, &f, B, NOW - 1);
	assert_replica(A, REASON_REPLICA_BOUNDED);
	lose(A);
	assert_primary(REASON_LAG_LIMIT);
}

static void route_eventual_reads_go_to_any_healthy_replica(void **state)
{
	policy.level = LEVEL_EVENTUAL;
	wrote(9000);
	lose(A);
	assert_replica(B, REASON_REPLICA_EVENTUAL);
}

static void route_pins_for_the_window_after_a_write(void **state)
{
	policy.strategy = STRATEGY_PIN_FIXED;
	s.written_at_us = NOW - 4999999;
	assert_primary(REASON_PINNED);
	s.written_at_us = NOW - 5000000;
	assert_int_equal(decide(), ROUTE_REPLICA);
	session_wrote_unknown(&s, &f, NOW);
	assert_primary(REASON_PINNED);
}

static void route_pin_window_shorter_than_the_lag_is_not_trusted(void **state)
{
	policy.strategy = STRATEGY_PIN_FIXED;
	policy.pin_window_us = 50000;
	assert_replica(A, REASON_REPLICA_FRESH);
	lose(A);
	assert_primary(REASON_LAG_LIMIT);
}

static void route_after_pinning_stays_on_its_replica(void **state)
{
	policy.strategy = STRATEGY_PIN_FIXED;
	session_read(&s, &f, B, NOW - 1);
	f.nodes[B].outstanding = 100;
	assert_replica(B, REASON_REPLICA_FRESH);
}

static void route_auto_pin_follows_the_slowest_replica(void **state)
{
	policy.strategy = STRATEGY_PIN_AUTO;
	f.nodes[A].replay_delay_high_us = 3000;
	f.nodes[B].replay_delay_high_us = 700000;
	s.written_at_us = NOW - 699999;
	assert_primary(REASON_PINNED);
	s.written_at_us = NOW - 700000;
	assert_int_equal(decide(), ROUTE_REPLICA);
	lose(B);
	s.written_at_us = NOW - 99999;
	assert_primary(REASON_PINNED);
	s.written_at_us = NOW - 100000;
	assert_replica(A, REASON_REPLICA_FRESH);
}

static void route_auto_pin_without_an_observation_keeps_writers_on_the_primary(void **state)
{
	policy.strategy = STRATEGY_PIN_AUTO;
	f.nodes[A].replay_delay_high_us = 3000;
	f.nodes[B].replay_delay_high_us = LAG_UNKNOWN;
	s.written_at_us = 1;
	assert_primary(REASON_PINNED);
	s.written_at_us = 0;
	assert_replica(A, REASON_REPLICA_FRESH);
}

static void route_fault_no_read_marks_forgets_reads(void **state)
{
	policy.fault = FAULT_NO_READ_MARKS;
	session_read(&s, &f, P, NOW - 1);
	assert_int_equal(decide(), ROUTE_REPLICA);
}

static void route_fault_guard_after_reads_before_it_checks(void **state)
{
	policy.fault = FAULT_GUARD_AFTER;
	wrote(1200);
	assert_int_equal(decide(), ROUTE_REPLICA);
	assert_int_equal(r.node, A);
	assert_int_equal(r.need.lsn, 1200);
}

static void latency(int node, int64_t us)
{
	for (int i = 0; i < LATENCY_BATCH; i++)
		health_answered(&f.nodes[node].health, us - 1, NOW);
}

static void an_outlier_is_far_above_every_other_replica_that_is_asked(void **state)
{
	f.outlier_floor_us = 50000;
	latency(A, 100000);
	latency(B, 10000);
	assert_int_equal(fleet_find_outlier(&f, NOW), NODE_NONE);
	f.outlier_factor = 10;
	assert_int_equal(fleet_find_outlier(&f, NOW), A);
	f.outlier_factor = 11;
	assert_int_equal(fleet_find_outlier(&f, NOW), NODE_NONE);
	f.outlier_factor = 10;
	f.outlier_floor_us = 100001;
	assert_int_equal(fleet_find_outlier(&f, NOW), NODE_NONE);
	f.outlier_floor_us = 0;
	/* Never the last one, and never by a measurement that is old or is not there. */
	fleet_node_drain(&f, B);
	assert_int_equal(fleet_find_outlier(&f, NOW), NODE_NONE);
	fleet_node_undrain(&f, B, NOW);
	assert_int_equal(fleet_find_outlier(&f, NOW), A);
	assert_int_equal(fleet_find_outlier(&f, NOW + LATENCY_MAX_AGE_US + 1), NODE_NONE);
	f.nodes[B].health.median_at_us = 0;
	assert_int_equal(fleet_find_outlier(&f, NOW), NODE_NONE);
}

static void route_leaves_a_slow_replica_out_unless_it_is_the_last(void **state)
{
	policy.level = LEVEL_EVENTUAL;
	health_set_slow(&f.nodes[A].health, NOW);
	f.nodes[B].outstanding = 1000;
	assert_replica(B, REASON_REPLICA_EVENTUAL);
	policy.avoid = 1U << B;
	assert_replica(A, REASON_REPLICA_EVENTUAL);
	policy.avoid = 0;
	lose(B);
	assert_replica(A, REASON_REPLICA_EVENTUAL);
	health_set_slow(&f.nodes[B].health, NOW);
	assert_replica(A, REASON_REPLICA_EVENTUAL);
}

static void route_asks_no_replica_that_takes_no_connections(void **state)
{
	policy.level = LEVEL_EVENTUAL;
	health_connect_failed(&f.nodes[A].health, 1, NOW);
	f.nodes[B].outstanding = 1000;
	assert_replica(B, REASON_REPLICA_EVENTUAL);
	lose(B);
	assert_primary(REASON_NO_REPLICA);
	/* Another server process: what was before does not count. */
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, NOW);
	assert_true(sample(A, 1000, NOW));
	assert_replica(A, REASON_REPLICA_EVENTUAL);
}

static void route_avoids_what_the_caller_says(void **state)
{
	policy.avoid = 1U << A;
	for (int i = 0; i < 8; i++) {
		assert_int_equal(decide_at(0, NOW + i), ROUTE_REPLICA);
		assert_int_equal(r.node, B);
	}
	wrote(800);
	assert_primary(REASON_TOO_FAR_BEHIND);
	policy.avoid |= 1U << B;
	assert_primary(REASON_NO_REPLICA);
}

static void route_falls_back_only_for_want_of_a_replica(void **state)
{
	static const enum route_reason want[] = {REASON_RETRIED, REASON_NO_REPLICA,
	                                         REASON_TOO_FAR_BEHIND, REASON_WAIT_TIMEOUT,
	                                         REASON_LAG_LIMIT};
	int count = 0;
	for (int i = 0; i < REASON_COUNT; i++)
		count += route_is_fallback((enum route_reason)i);
	assert_int_equal(count, 5);
	for (int i = 0; i < 5; i++)
		assert_true(route_is_fallback(want[i]));
}

static void route_guards_a_read_on_a_replica_expected_there_by_now(void **state)
{
	wrote(1200);
	assert_int_equal(decide(), ROUTE_WAIT); /* nobody can guard */
	assert_int_equal(r.node, A);
	policy.guard_within_us = 1000;
	assert_int_equal(decide(), ROUTE_WAIT); /* expected in 2 ms */
	policy.guard_within_us = 2000;
	assert_replica(A, REASON_REPLICA_CAUGHT_UP);
	assert_int_equal(r.need.lsn, 1200);
	assert_true(r.discriminating);
}

static void route_does_not_guard_what_is_known_to_be_there(void **state)
{
	policy.guard_within_us = 1000000;
	wrote(800);
	assert_replica(A, REASON_REPLICA_FRESH);
	assert_false(position_is_set(r.need));
}

static void route_does_not_guard_what_must_be_looked_up_first(void **state)
{
	policy.guard_within_us = 1000000;
	session_wrote_unknown(&s, &f, NOW - 1);
	assert_int_equal(decide(), ROUTE_WAIT);
	assert_int_equal(r.reason, REASON_WAIT_SAMPLE);
}

static void route_guards_nothing_beyond_the_budget(void **state)
{
	policy.guard_within_us = 1000000;
	policy.wait_timeout_us = 0;
	wrote(1200);
	assert_primary(REASON_TOO_FAR_BEHIND);
}

static void route_does_not_guard_where_guards_have_failed(void **state)
{
	policy.guard_within_us = 2000;
	wrote(1200);
	fleet_guard_answered(&f, A, false, NOW - 500);
	assert_int_equal(decide(), ROUTE_WAIT);
	f.nodes[A].replay_delay_us = 4000;
	assert_int_equal(decide_at(0, NOW + 500), ROUTE_WAIT);
	assert_int_equal(decide_at(0, NOW + 2500), ROUTE_REPLICA);
	assert_int_equal(r.reason, REASON_REPLICA_CAUGHT_UP);
}

static void route_reasons_all_have_words(void **state)
{
	for (int i = 0; i < REASON_COUNT; i++) {
		assert_non_null(route_reason_name((enum route_reason)i));
		assert_non_null(route_reason_words((enum route_reason)i));
	}
}

int main(void)
{
#define each(test) cmocka_unit_test_setup(test, setup)
	const struct CMUnitTest tests[] = {
		each(route_guards_a_read_on_a_replica_expected_there_by_now),
		each(route_does_not_guard_what_is_known_to_be_there),
		each(route_does_not_guard_what_must_be_looked_up_first),
		each(route_guards_nothing_beyond_the_budget),
		each(route_does_not_guard_where_guards_have_failed),
		each(route_strong_reads_go_to_the_primary),
		each(route_reads_go_to_a_replica_past_the_mark),
		each(route_is_not_discriminating_when_all_replicas_are_past_the_mark),
		each(route_without_a_healthy_replica_goes_to_the_primary),
		each(route_waits_only_when_a_replica_can_catch_up),
		each(route_wait_ends_with_its_budget),
		each(route_never_waits_with_a_budget_of_nothing),
		each(route_waits_for_the_sample_that_settles_a_debt),
		each(route_waits_for_no_sample_when_the_known_part_is_too_far_already),
		each(route_stays_where_a_read_is_owed),
		each(route_moves_to_a_replica_that_has_reached_what_was_read),
		each(route_prefers_the_replica_with_less_to_do),
		each(route_loads_replicas_by_their_weights),
		each(route_spreads_new_sessions_by_weight),
		each(route_never_asks_what_has_no_weight_or_is_drained),
		each(route_waits_for_no_replica_that_is_drained),
		each(route_leaves_a_drained_replica_also_where_a_read_is_owed),
		each(route_gives_a_replica_that_came_back_its_share_slowly),
		each(route_weights_decide_who_is_clearly_less_busy),
		each(route_keeps_the_limit_of_lag_at_every_level),
		each(route_a_lag_that_is_not_known_is_over_any_limit),
		each(route_spreads_sessions_that_have_read_nothing),
		each(route_replicas_behind_what_is_known_of_the_mark_are_left_out),
		each(route_bounded_reads_keep_the_limit_of_lag),
		each(route_eventual_reads_go_to_any_healthy_replica),
		each(route_pins_for_the_window_after_a_write),
		each(route_pin_window_shorter_than_the_lag_is_not_trusted),
		each(route_after_pinning_stays_on_its_replica),
		each(route_auto_pin_follows_the_slowest_replica),
		each(route_auto_pin_without_an_observation_keeps_writers_on_the_primary),
		each(route_fault_no_read_marks_forgets_reads),
		each(route_fault_guard_after_reads_before_it_checks),
		each(an_outlier_is_far_above_every_other_replica_that_is_asked),
		each(route_leaves_a_slow_replica_out_unless_it_is_the_last),
		each(route_asks_no_replica_that_takes_no_connections),
		each(route_avoids_what_the_caller_says),
		each(route_falls_back_only_for_want_of_a_replica),
		each(route_reasons_all_have_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
