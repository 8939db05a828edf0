/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/session.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

enum { P, A, B };
static struct fleet f;
static struct session_mark s;
static struct position need;

static bool sample(int node, uint64_t lsn, int64_t started_us)
{
	return fleet_node_sampled(&f, node, (struct position){lsn}, started_us, started_us + 1);
}

static int setup(void **state)
{
	memset(&s, 0, sizeof(s));
	fleet_init(&f, 1000000);
	fleet_node_add(&f, slice_str("p"));
	fleet_node_add(&f, slice_str("a"));
	fleet_node_add(&f, slice_str("b"));
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 1);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 1);
	fleet_node_up(&f, B, NODE_ROLE_REPLICA, 1, 1);
	return sample(P, 100, 2) && sample(A, 90, 2) && sample(B, 80, 2) ? 0 : -1;
}

static bool needs(int node)
{
	session_settle(&s, &f);
	return session_need(&s, &f, node, &need);
}

static void session_that_saw_nothing_needs_nothing(void **state)
{
	assert_true(needs(A));
	assert_int_equal(need.lsn, 0);
}

static void session_that_saw_nothing_needs_nothing_after_a_failover(void **state)
{
	fleet_node_lost(&f, P, 10);
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 20);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 0);
	assert_int_equal(s.generation, 1);
}

static void session_needs_its_write_everywhere(void **state)
{
	session_wrote(&s, &f, (struct position){120}, 10, 11);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 120);
	session_wrote(&s, &f, (struct position){110}, 12, 13);
	assert_true(needs(B));
	assert_int_equal(need.lsn, 120);
}

static void session_unknown_write_is_settled_by_a_later_primary_sample(void **state)
{
	session_wrote_unknown(&s, &f, 10);
	assert_false(needs(A));
	assert_true(
		sample(P, 130, 10)); /* started in the same microsecond: who knows which was first */
	assert_false(needs(A));
	assert_true(sample(A, 130, 20));
	assert_false(needs(A));
	assert_true(sample(P, 140, 20));
	assert_true(needs(A));
	assert_int_equal(need.lsn, 140);
}

static void session_primary_read_is_a_debt_to_the_primary(void **state)
{
	session_read(&s, &f, P, 10);
	assert_false(needs(A));
	assert_true(sample(P, 130, 20));
	assert_true(needs(A));
	assert_int_equal(need.lsn, 130);
}

static void session_replica_read_binds_other_replicas_until_sampled(void **state)
{
	session_read(&s, &f, A, 10);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 0);
	assert_false(needs(B));
	assert_true(sample(A, 95, 20));
	assert_true(needs(B));
	assert_int_equal(need.lsn, 95);
}

static void session_primary_sample_settles_a_replica_read_for_others_only(void **state)
{
	session_read(&s, &f, A, 10);
	assert_true(sample(P, 130, 20));
	assert_true(needs(B));
	assert_int_equal(need.lsn, 130);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 0);
}

static void session_read_before_a_restart_binds_the_restarted_replica_too(void **state)
{
	session_read(&s, &f, A, 10);
	fleet_node_lost(&f, A, 20);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 30);
	assert_true(sample(A, 85, 40));
	assert_false(needs(A));
	assert_false(needs(B));
	/* A second read, there, does not make the first forgotten. */
	session_read(&s, &f, A, 50);
	assert_false(needs(A));
	assert_true(sample(P, 130, 60));
	assert_true(needs(A));
	assert_int_equal(need.lsn, 130);
}

static void session_read_on_an_old_connection_is_owed_to_the_primary(void **state)
{
	session_read(&s, &f, NODE_NONE, 10);
	assert_false(needs(A));
	assert_int_equal(session_owed_since(&s, &f), 10);
	fleet_node_lost(&f, B, 20);
	session_read(&s, &f, B, 30);
	assert_int_equal(session_owed_since(&s, &f), 30);
	assert_true(sample(P, 130, 40));
	assert_true(needs(A));
	assert_int_equal(session_owed_since(&s, &f), 0);
}

static void session_captured_position_settles_older_debts_only(void **state)
{
	session_read(&s, &f, A, 10);
	session_wrote_unknown(&s, &f, 10);
	session_read(&s, &f, B, 12);
	session_wrote(&s, &f, (struct position){150}, 12, 14);
	assert_false(needs(A)); /* the read on B came no earlier than the question */
	assert_true(needs(B));
	assert_int_equal(need.lsn, 150);
}

static void session_commit_end_settles_no_debt(void **state)
{
	session_read(&s, &f, P, 10);
	session_wrote(&s, &f, (struct position){150}, 0, 14);
	assert_false(needs(A));
}

static void session_mark_of_an_older_generation_is_all_debt(void **state)
{
	session_wrote(&s, &f, (struct position){150}, 10, 11);
	fleet_node_lost(&f, P, 20);
	assert_true(needs(A)); /* still the same branch of history, as far as anybody knows */
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 30);
	assert_false(session_need(&s, &f, A, &need));
	assert_int_equal(session_owed_since(&s, &f), 30);
	assert_false(needs(A));
	assert_true(sample(B, 105, 40));
	assert_true(needs(A));
	assert_int_equal(need.lsn, 105);
}

static void session_mark_survives_the_return_of_its_primary(void **state)
{
	session_wrote(&s, &f, (struct position){150}, 10, 11);
	fleet_node_lost(&f, P, 20);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 30);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 150);
}

static void session_position_is_refused_while_something_is_owed(void **state)
{
	struct position at;
	session_read_after(&s, &f, (struct position){120});
	assert_true(session_position(&s, &f, &at));
	assert_int_equal(at.lsn, 120);
	session_read(&s, &f, A, 10);
	assert_false(session_position(&s, &f, &at));
	assert_true(sample(A, 125, 20));
	session_settle(&s, &f);
	assert_true(session_position(&s, &f, &at));
	assert_int_equal(at.lsn, 125);
}

static void session_observed_read_binds_whoever_asks_for_its_position(void **state)
{
	struct position at;
	session_read_after(&s, &f, (struct position){120});
	session_observed_read(&s, &f, NULL, 0, 10);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 120);
	assert_false(session_position(&s, &f, &at));
	assert_true(sample(P, 130, 10));
	assert_false(session_position(&s, &f, &at));
	assert_true(sample(P, 140, 11));
	assert_true(session_position(&s, &f, &at));
	assert_int_equal(at.lsn, 140);
	/* The next one again, unless a capture asked later covers it. */
	session_observed_read(&s, &f, NULL, 0, 20);
	assert_false(session_position(&s, &f, &at));
	session_wrote(&s, &f, (struct position){150}, 20, 22);
	assert_false(session_position(&s, &f, &at));
	session_wrote(&s, &f, (struct position){160}, 21, 23);
	assert_true(session_position(&s, &f, &at));
	assert_int_equal(at.lsn, 160);
}

static void session_observed_read_of_known_position_owes_nothing(void **state)
{
	struct position at = {150};
	session_observed_read(&s, &f, NULL, 0, 10);
	session_observed_read(&s, &f, &at, 10, 12);
	assert_false(session_position(&s, &f, &at)); /* the first may have come in between */
	at.lsn = 140;
	session_observed_read(&s, &f, &at, 20, 22);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 0);
	assert_true(session_position(&s, &f, &at));
	assert_int_equal(at.lsn, 150);

	/* On another branch it says nothing, but that something was seen. */
	fleet_node_lost(&f, P, 30);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 2, 40);
	session_settle(&s, &f);
	assert_false(session_position(&s, &f, &at));
	assert_true(sample(P, 130, 50));
	assert_true(session_position(&s, &f, &at));
	assert_int_equal(at.lsn, 130);
	session_observed_counts(&s, &f);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 130);
	at.lsn = 170;
	session_observed_read(&s, &f, &at, 60, 62);
	session_observed_counts(&s, &f);
	assert_true(needs(A));
	assert_int_equal(need.lsn, 170);
}

static void session_observed_reads_count_once_the_mode_is_left(void **state)
{
	session_observed_counts(&s, &f);
	assert_true(needs(A));
	session_observed_read(&s, &f, NULL, 0, 10);
	session_observed_counts(&s, &f);
	assert_false(needs(A));
	assert_true(sample(P, 140, 11));
	assert_true(needs(A));
	assert_int_equal(need.lsn, 140);
}

static bool learn(int node, const struct history *h)
{
	return fleet_node_history(&f, node, h, f.nodes[node].at, 1000);
}

/* B takes over on timeline 2, which left timeline 1 at `left`. */
static void fail_over(uint64_t left)
{
	struct history first,
		second = {
			.known = true, .timeline = 2, .count = 1, .past = {{.timeline = 1, .left = {left}}}};
	history_first(&first);
	assert_true(learn(P, &first));
	session_wrote(&s, &f, (struct position){150}, 10, 11);
	fleet_node_lost(&f, P, 20);
	fleet_node_up(&f, B, NODE_ROLE_REPLICA, 1, 20);
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 21);
	struct position survived, wrote;
	assert_false(session_lost(&s, &f, &survived, &wrote)); /* nobody knows yet */
	assert_true(learn(B, &second));
}

static void session_is_told_once_of_what_a_failover_cut_off(void **state)
{
	struct position survived, wrote;
	fail_over(149);
	assert_true(session_lost(&s, &f, &survived, &wrote));
	assert_int_equal(survived.lsn, 149);
	assert_int_equal(wrote.lsn, 150);
	assert_false(session_lost(&s, &f, &survived, &wrote));
}

static void session_is_told_nothing_of_what_survived(void **state)
{
	struct position survived, wrote;
	fail_over(150);
	assert_false(session_lost(&s, &f, &survived, &wrote));
	struct session_mark reader = {0};
	assert_false(session_lost(&reader, &f, &survived, &wrote));
}

/* Two were promoted to timeline 2. The session wrote on the one that had received less. */
static void session_is_told_of_what_it_wrote_on_a_twin(void **state)
{
	struct position survived, wrote;
	fail_over(149);
	assert_true(session_lost(&s, &f, &survived, &wrote));
	session_wrote(&s, &f, (struct position){180}, 30, 31);
	fleet_node_lost(&f, B, 40);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 3, 41);
	struct history third = {.known = true,
	                        .timeline = 3,
	                        .count = 2,
	                        .past = {{.timeline = 1, .left = {155}}, {.timeline = 2, .left = {200}}}};
	assert_true(learn(A, &third));
	assert_true(session_lost(&s, &f, &survived, &wrote));
	assert_int_equal(survived.lsn, 149);
	assert_int_equal(wrote.lsn, 180);
}

/* The primary was gone before its history was had: all that is known of it is its timeline. */
static void session_is_told_of_what_a_primary_of_unknown_history_took_along(void **state)
{
	struct position survived, wrote;
	fail_over(150);
	session_settle(&s, &f);
	assert_false(session_lost(&s, &f, &survived, &wrote));
	fleet_node_lost(&f, B, 30);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 3, 31);
	session_wrote(&s, &f, (struct position){210}, 40, 41);
	fleet_node_lost(&f, A, 50);
	struct session_mark kept = s;

	/* The next one went on where it had been … */
	struct history fourth = {.known = true,
	                         .timeline = 4,
	                         .count = 3,
	                         .past = {{.timeline = 1, .left = {150}},
	                                  {.timeline = 2, .left = {200}},
	                                  {.timeline = 3, .left = {210}}}};
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 4, 60);
	assert_false(session_lost(&s, &f, &survived, &wrote));
	assert_true(learn(P, &fourth));
	assert_false(session_lost(&s, &f, &survived, &wrote));
	/* … or a little before … */
	s = kept;
	fourth.past[2].left.lsn = 209;
	assert_true(learn(P, &fourth));
	assert_true(session_lost(&s, &f, &survived, &wrote));
	assert_int_equal(survived.lsn, 209);
	assert_int_equal(wrote.lsn, 210);
	/* … or it never saw it. */
	s = kept;
	fourth.count = 2;
	assert_true(learn(P, &fourth));
	assert_true(session_lost(&s, &f, &survived, &wrote));
	assert_int_equal(survived.lsn, 200);
	assert_false(session_lost(&s, &f, &survived, &wrote));
}

/* The session wrote up to `at` on P, of which no more was known than its timeline and cluster. */
static void write_on_a_stranger(uint32_t timeline, uint64_t at)
{
	fleet_node_lost(&f, P, 20);
	fleet_node_system(&f, P, 111);
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, timeline, 21);
	session_wrote(&s, &f, (struct position){at}, 30, 31);
	fleet_node_lost(&f, P, 40);
}

static bool is_lost(const struct history *h, struct position *survived)
{
	struct position wrote;
	fleet_node_system(&f, B, h->system);
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, h->timeline, 50);
	assert_true(learn(B, h));
	return session_lost(&s, &f, survived, &wrote);
}

/* Also of the very first one. */
static void session_is_told_of_what_the_first_primary_took_along(void **state)
{
	struct position survived;
	struct history third = {
		.known = true,
		.system = 111,
		.timeline = 3,
		.count = 2,
		.past = {{.timeline = 1, .left = {100}}, {.timeline = 2, .left = {200}}}};
	fleet_init(&f, 1000000);
	fleet_node_add(&f, slice_str("p"));
	fleet_node_add(&f, slice_str("a"));
	fleet_node_add(&f, slice_str("b"));
	write_on_a_stranger(2, 210);
	assert_int_equal(f.generation, 0);
	assert_true(is_lost(&third, &survived));
	assert_int_equal(survived.lsn, 200);
}

static void session_is_told_nothing_by_another_cluster(void **state)
{
	struct position survived;
	struct history other;
	history_first(&other);
	other.system = 222;
	write_on_a_stranger(3, 500);
	assert_false(is_lost(&other, &survived));
}

static void session_is_told_no_more_survived_than_it_wrote(void **state)
{
	struct position survived;
	struct history third = {.known = true,
	                        .system = 111,
	                        .timeline = 3,
	                        .count = 1,
	                        .past = {{.timeline = 1, .left = {200}}}};
	write_on_a_stranger(2, 160);
	assert_true(is_lost(&third, &survived));
	assert_int_equal(survived.lsn, 160);

	/* A recovery to a point before the timeline that was its target. */
	setup(state);
	s = (struct session_mark){0};
	struct history fourth = {
		.known = true,
		.system = 111,
		.timeline = 4,
		.count = 3,
		.past = {{.timeline = 1, .left = {150}}, {.timeline = 2, .left = {200}}, {.timeline = 3, .left = {120}}}};
	write_on_a_stranger(2, 180);
	assert_true(is_lost(&fourth, &survived));
	assert_int_equal(survived.lsn, 120);
}

static void session_is_told_nothing_that_nobody_knows(void **state)
{
	struct position survived, wrote;
	fail_over(149);
	/* Another change before anybody looked: the branch of the write is two steps away. */
	fleet_node_lost(&f, B, 30);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 3, 31);
	struct history third = {
		.known = true,
		.timeline = 3,
		.count = 2,
		.past = {{.timeline = 1, .left = {149}}, {.timeline = 2, .left = {200}}}};
	assert_true(learn(A, &third));
	assert_false(session_lost(&s, &f, &survived, &wrote));
}

/* What a token brought was written by others, or only seen. */
static void session_is_told_nothing_of_a_position_that_was_brought(void **state)
{
	struct position survived, wrote;
	session_read_after(&s, &f, (struct position){9999});
	assert_true(needs(A));
	assert_int_equal(need.lsn, 9999);
	fail_over(149);
	/* Its own write, which is the smaller one, is what it hears of. */
	assert_true(session_lost(&s, &f, &survived, &wrote));
	assert_int_equal(wrote.lsn, 150);

	setup(state);
	struct session_mark reader = {0};
	session_read_after(&reader, &f, (struct position){9999});
	fail_over(149);
	assert_false(session_lost(&reader, &f, &survived, &wrote));
	/* It is owed all the same. */
	assert_true(session_owed_since(&reader, &f) != 0);
}

int main(void)
{
#define each(test) cmocka_unit_test_setup(test, setup)
	const struct CMUnitTest tests[] = {
		each(session_that_saw_nothing_needs_nothing),
		each(session_that_saw_nothing_needs_nothing_after_a_failover),
		each(session_needs_its_write_everywhere),
		each(session_unknown_write_is_settled_by_a_later_primary_sample),
		each(session_primary_read_is_a_debt_to_the_primary),
		each(session_replica_read_binds_other_replicas_until_sampled),
		each(session_primary_sample_settles_a_replica_read_for_others_only),
		each(session_read_before_a_restart_binds_the_restarted_replica_too),
		each(session_read_on_an_old_connection_is_owed_to_the_primary),
		each(session_captured_position_settles_older_debts_only),
		each(session_commit_end_settles_no_debt),
		each(session_mark_of_an_older_generation_is_all_debt),
		each(session_mark_survives_the_return_of_its_primary),
		each(session_position_is_refused_while_something_is_owed),
		each(session_observed_read_binds_whoever_asks_for_its_position),
		each(session_observed_read_of_known_position_owes_nothing),
		each(session_observed_reads_count_once_the_mode_is_left),
		each(session_is_told_once_of_what_a_failover_cut_off),
		each(session_is_told_nothing_of_what_survived),
		each(session_is_told_of_what_it_wrote_on_a_twin),
		each(session_is_told_of_what_a_primary_of_unknown_history_took_along),
		each(session_is_told_of_what_the_first_primary_took_along),
		each(session_is_told_nothing_by_another_cluster),
		each(session_is_told_no_more_survived_than_it_wrote),
		each(session_is_told_nothing_that_nobody_knows),
		each(session_is_told_nothing_of_a_position_that_was_brought),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
