/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/history.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <setjmp.h>
#include <cmocka.h>

static struct history parsed(uint32_t timeline, const char *text)
{
	struct history h;
	assert_true(history_parse(&h, timeline, slice_str(text)));
	assert_true(h.known && h.timeline == timeline);
	return h;
}

static struct history_point point(uint32_t timeline, uint64_t fork, uint64_t at)
{
	return (struct history_point){.timeline = timeline, .fork = {fork}, .at = {at}};
}

/* Of a primary, which has all of its history, and with nothing known of the point's. */
static enum contains judge(const struct history *h, uint32_t timeline, uint64_t fork, uint64_t at)
{
	struct history_point p = point(timeline, fork, at);
	return history_contains(&p, NULL, h, HISTORY_END);
}

static enum contains judge_with(const struct history *of, uint64_t want, const struct history *h,
                                uint64_t at)
{
	struct history_point p = history_point(of, (struct position){want});
	return history_contains(&p, of, h, (struct position){at});
}

/* 1 to 0/100, 2 to 0/500, and now 4. */
static struct history of_four(void)
{
	return parsed(
		4, "1\t0/100\tno recovery target specified\n\n2\t0/500\tno recovery target specified\n");
}

/* ---- the text ---- */

static void history_of_the_first_timeline_needs_no_text(void **state)
{
	struct history h, same = parsed(1, "# nothing\n\n");
	history_first(&h);
	assert_true(h.known && h.timeline == 1 && h.count == 0);
	assert_false(position_is_set(history_fork(&h)));
	assert_memory_equal(&h, &same, sizeof(h));
}

/* The very bytes that PostgreSQL 15 keeps after two promotions. */
static void history_is_read_as_postgres_writes_it(void **state)
{
	struct history h = parsed(3,
	                          "1\t0/3000148\tno recovery target specified\n"
	                          "\n"
	                          "2\t16/B374D848\tat restore point \"a b\"\n");
	assert_int_equal(h.count, 2);
	assert_int_equal(h.past[0].timeline, 1);
	assert_int_equal(h.past[0].left.lsn, 0x3000148);
	assert_int_equal(h.past[1].timeline, 2);
	assert_int_equal(h.past[1].left.lsn, 0x16B374D848);
	assert_int_equal(history_fork(&h).lsn, 0x16B374D848);
	h = parsed(0x80000000, "  # by hand\r\n 7 \t A/b\r\n2147483647\t0/FF");
	assert_int_equal(h.count, 2);
	assert_int_equal(history_fork(&h).lsn, 0xFF);
}

static void history_refuses_what_postgres_would_not_write(void **state)
{
	static const struct {
		uint32_t timeline;
		const char *text;
	} bad[] = {
		{0, ""},
		{2, ""},
		{2, "# nothing\n"},
		{1, "1\t0/100\n"},
		{2, "2\t0/100\n"},
		{2, "3\t0/100\n"},
		{3, "1\t0/100\n1\t0/200\n"},
		{4, "2\t0/100\n1\t0/200\n"},
		{2, "0\t0/100\n"},
		{2, "1\n"},
		{2, "1\t\n"},
		{2, "1\t0/0\n"},
		{2, "1\t100\n"},
		{2, "1\t0/1G0\n"},
		{2, "1\t0/100x reason\n"},
		{2, "+1\t0/100\n"},
		{2, "x\t0/100\n"},
		{2, "1,0/100\n"},
		{UINT32_MAX, "4294967296\t0/100\n"},
		{2, "4294967297\t0/100\n"},
		{2, "00000000001\t0/100\n"},
		{2, "1\t0/100\nnonsense\n"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct history h;
		history_first(&h);
		assert_false(history_parse(&h, bad[i].timeline, slice_str(bad[i].text)));
		assert_false(h.known);
		assert_int_equal(judge(&h, 1, 0, 1), CONTAINS_UNKNOWN);
	}
}

/* ---- judging ---- */

static void position_on_the_servers_own_timeline_is_part_of_its_history(void **state)
{
	struct history h = of_four(), first;
	assert_int_equal(judge(&h, 4, 0x500, 0x501), CONTAINS_YES);
	assert_int_equal(judge(&h, 4, 0x500, UINT64_MAX), CONTAINS_YES);
	history_first(&first);
	assert_int_equal(judge(&first, 1, 0, UINT64_MAX), CONTAINS_YES);
}

/* facts: token 0/26577BF0, cut at 0/26577800, and the new primary is at 0/265A9300 already. */
static void position_that_a_failover_cut_off_is_lost(void **state)
{
	struct history h = of_four(),
				   lossy = parsed(2, "1\t0/26577800\tno recovery target specified\n");
	assert_int_equal(judge(&lossy, 1, 0, 0x26577BF0), CONTAINS_LOST);
	assert_int_equal(judge(&h, 1, 0, 0xFF), CONTAINS_YES);
	assert_int_equal(judge(&h, 1, 0, 0x100), CONTAINS_YES);
	assert_int_equal(judge(&h, 1, 0, 0x101), CONTAINS_LOST);
	assert_int_equal(judge(&h, 2, 0x100, 0x500), CONTAINS_YES);
	assert_int_equal(judge(&h, 2, 0x100, 0x501), CONTAINS_LOST);
}

static void position_of_a_standby_promoted_independently_is_lost(void **state)
{
	struct history two = parsed(2, "1\t0/100\n"), h = of_four(), first;
	/* The server's own timeline, which began elsewhere. */
	assert_int_equal(judge(&two, 2, 0xF0, 0x101), CONTAINS_LOST);
	assert_int_equal(judge(&two, 2, 0x200, 0x201), CONTAINS_LOST);
	assert_int_equal(judge(&two, 2, 0, 1), CONTAINS_LOST);
	/* One of its past. */
	assert_int_equal(judge(&h, 2, 0xF0, 0x101), CONTAINS_LOST);
	assert_int_equal(judge(&h, 2, 0x200, 0x201), CONTAINS_LOST);
	/* One that it never had. */
	assert_int_equal(judge(&h, 3, 0x200, 0x201), CONTAINS_LOST);
	history_first(&first);
	assert_int_equal(judge(&first, 1, 5, 6), CONTAINS_LOST);
}

static void position_before_the_histories_part_is_common_to_both(void **state)
{
	struct history h = of_four(), three = parsed(3, "1\t0/100\n");
	assert_int_equal(judge(&h, 2, 0xF0, 0xF0), CONTAINS_YES);
	assert_int_equal(judge(&h, 2, 0x200, 0x100), CONTAINS_YES);
	assert_int_equal(judge(&h, 2, 0x200, 0x101), CONTAINS_LOST);
	assert_int_equal(judge(&three, 2, 0x200, 0x100), CONTAINS_YES);
	assert_int_equal(judge(&three, 2, 0x200, 0x200), CONTAINS_LOST);
}

/* 3 may have come from another 2, which left the common history earlier than both forks say. */
static void position_before_the_fork_of_an_unknown_parent_is_not_believed(void **state)
{
	struct history h = of_four();
	assert_int_equal(judge(&h, 3, 0x200, 0x80), CONTAINS_UNKNOWN);
	assert_int_equal(judge(&h, 4, 0x600, 0x400), CONTAINS_UNKNOWN);
}

static void position_of_a_younger_timeline_is_unknown(void **state)
{
	struct history h = of_four();
	assert_int_equal(judge(&h, 5, 0x600, 0x700), CONTAINS_UNKNOWN);
	assert_int_equal(judge(&h, 5, 0x600, 1), CONTAINS_UNKNOWN);
}

static void position_is_unknown_without_a_history(void **state)
{
	struct history h = {0};
	assert_int_equal(judge(&h, 1, 0, 1), CONTAINS_UNKNOWN);
	assert_int_equal(judge(&h, 0, 0, 1), CONTAINS_UNKNOWN);
}

/* The very bytes of PostgreSQL 15 after a recovery with target timeline 2 that stopped before 2
 * began: it names 2 as the parent, at a position that 2 never had. */
static void timeline_left_before_it_began_ends_its_parents_too(void **state)
{
	struct history h = parsed(3,
	                          "1\t0/4000090\tno recovery target specified\n"
	                          "\n"
	                          "2\t0/3025AE0\tafter LSN 0/3025AA0\n");
	assert_int_equal(judge(&h, 1, 0, 0x3025AE0), CONTAINS_YES);
	assert_int_equal(judge(&h, 1, 0, 0x3025AE1), CONTAINS_LOST);
	assert_int_equal(judge(&h, 1, 0, 0x4000090), CONTAINS_LOST);
	assert_int_equal(judge(&h, 2, 0x4000090, 0x4000091), CONTAINS_LOST);
	assert_int_equal(judge(&h, 3, 0x3025AE0, 0x4000091), CONTAINS_YES);
}

/* A history of timelines 1 … n, each left at 0x1000 times its number, and now n + 1. */
static struct history of_many(uint32_t n)
{
	char text[HISTORY_MAX * 64];
	size_t len = 0;
	for (uint32_t t = 1; t <= n; t++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%u\t0/%X\tpromoted\n", t, t << 12);
	return parsed(n + 1, text);
}

static void history_of_greatest_length_is_whole(void **state)
{
	struct history h = of_many(HISTORY_MAX);
	assert_int_equal(h.count, HISTORY_MAX);
	assert_int_equal(judge(&h, 1, 0, 0x1000), CONTAINS_YES);
	assert_int_equal(judge(&h, 1, 0, 0x1001), CONTAINS_LOST);
}

static void history_longer_than_that_does_not_know_its_oldest(void **state)
{
	struct history h = of_many(HISTORY_MAX + 2);
	assert_int_equal(h.count, HISTORY_MAX);
	assert_int_equal(judge(&h, 1, 0, 0x500), CONTAINS_UNKNOWN);
	assert_int_equal(judge(&h, 2, 0x1000, 0x5000), CONTAINS_UNKNOWN);
	assert_int_equal(judge(&h, 2, 0x800, 0x700), CONTAINS_UNKNOWN);
	/* The oldest that is left still has its fork. */
	assert_int_equal(judge(&h, 3, 0x2000, 0x3000), CONTAINS_YES);
	assert_int_equal(judge(&h, 3, 0x2000, 0x3001), CONTAINS_LOST);
	assert_int_equal(judge(&h, 3, 0x2001, 0x3000), CONTAINS_LOST);
	assert_int_equal(judge(&h, HISTORY_MAX + 3, history_fork(&h).lsn, UINT64_MAX), CONTAINS_YES);
}

/* ---- with both histories, and a server that has not all of its own ---- */

static void server_on_the_points_branch_is_judged_by_number(void **state)
{
	struct history h = of_four();
	assert_int_equal(judge_with(&h, 0x600, &h, 0x600), CONTAINS_YES);
	assert_int_equal(judge_with(&h, 0x600, &h, 0x5FF), CONTAINS_NOT_YET);
	/* It goes the same way, and is still on an earlier part of it. */
	assert_int_equal(judge_with(&h, 0x600, &h, 0x80), CONTAINS_NOT_YET);
	assert_int_equal(judge_with(&h, 0x80, &h, 0x80), CONTAINS_YES);
}

static void server_that_was_left_behind_may_follow_until_it_is_beyond_the_fork(void **state)
{
	struct history h = of_four(), first, two = parsed(2, "1\t0/100\n");
	history_first(&first);
	assert_int_equal(judge_with(&h, 0x600, &first, 0xFF), CONTAINS_NOT_YET);
	assert_int_equal(judge_with(&h, 0x600, &first, 0x100), CONTAINS_NOT_YET);
	assert_int_equal(judge_with(&h, 0x600, &first, 0x101), CONTAINS_DIVERGED);
	assert_int_equal(judge_with(&h, 0x100, &first, 0x100), CONTAINS_YES);
	assert_int_equal(judge_with(&h, 0x101, &first, 0x100), CONTAINS_NOT_YET);
	/* Numbers far beyond what the primary has written. */
	assert_int_equal(judge_with(&h, 0x600, &first, UINT64_MAX), CONTAINS_DIVERGED);
	assert_int_equal(judge_with(&h, 0x600, &two, 0x500), CONTAINS_NOT_YET);
	assert_int_equal(judge_with(&h, 0x600, &two, 0x501), CONTAINS_DIVERGED);
}

static void server_of_an_independent_promotion_is_compared_by_fork(void **state)
{
	struct history two = parsed(2, "1\t0/100\n"), twin = parsed(2, "1\t0/F0\n");
	assert_int_equal(judge_with(&two, 0x101, &twin, 0x200), CONTAINS_LOST);
	assert_int_equal(judge_with(&twin, 0x101, &two, 0x200), CONTAINS_LOST);
	assert_int_equal(judge_with(&two, 0xF0, &twin, 0x200), CONTAINS_YES);
	assert_int_equal(judge_with(&two, 0xF1, &twin, 0x200), CONTAINS_LOST);
	assert_int_equal(judge_with(&two, 0xF0, &twin, 0xEF), CONTAINS_NOT_YET);
	assert_false(history_same_branch(&two, &twin));
	assert_false(history_descends(&two, &twin) || history_descends(&twin, &two));
}

/* What judge() cannot know of 3, whose parent is another 2, is known with its history. */
static void history_of_the_point_tells_where_it_comes_from(void **state)
{
	struct history h = of_four(), other = parsed(3, "1\t0/40\n2\t0/200\n");
	assert_int_equal(judge_with(&other, 0x40, &h, UINT64_MAX), CONTAINS_YES);
	assert_int_equal(judge_with(&other, 0x41, &h, UINT64_MAX), CONTAINS_LOST);
	/* A later timeline than the server's: an old primary is not given up, it has diverged. */
	assert_int_equal(judge_with(&h, 0x501, &other, UINT64_MAX), CONTAINS_LOST);
	assert_int_equal(judge_with(&h, 0x40, &other, 0x3F), CONTAINS_NOT_YET);
	/* Another branch's history is none of the point's. */
	struct history_point p = point(5, 0x600, 0x601);
	assert_int_equal(history_contains(&p, &other, &h, HISTORY_END), CONTAINS_UNKNOWN);
}

static void server_of_another_cluster_is_never_judged(void **state)
{
	struct history h = of_four(), other = of_four();
	h.system = 1;
	other.system = 2;
	assert_int_equal(judge_with(&h, 0x600, &h, 0x600), CONTAINS_YES);
	assert_int_equal(judge_with(&h, 0x600, &other, 0x600), CONTAINS_UNKNOWN);
	assert_false(history_same_branch(&h, &other));
	assert_true(history_same_branch(&h, &h));
}

static void history_descends_from_the_branches_it_names(void **state)
{
	struct history h = of_four(), two = parsed(2, "1\t0/100\n"), twin = parsed(2, "1\t0/F0\n"),
				   first, unknown = {0};
	history_first(&first);
	assert_true(history_descends(&h, &two) && history_descends(&h, &first));
	assert_false(history_descends(&h, &twin) || history_descends(&two, &h));
	assert_false(history_descends(&h, &h));
	assert_false(history_descends(&h, &unknown) || history_descends(&unknown, &first));
	assert_false(history_same_branch(&unknown, &unknown));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(history_of_the_first_timeline_needs_no_text),
		cmocka_unit_test(history_is_read_as_postgres_writes_it),
		cmocka_unit_test(history_refuses_what_postgres_would_not_write),
		cmocka_unit_test(position_on_the_servers_own_timeline_is_part_of_its_history),
		cmocka_unit_test(position_that_a_failover_cut_off_is_lost),
		cmocka_unit_test(position_of_a_standby_promoted_independently_is_lost),
		cmocka_unit_test(position_before_the_histories_part_is_common_to_both),
		cmocka_unit_test(position_before_the_fork_of_an_unknown_parent_is_not_believed),
		cmocka_unit_test(position_of_a_younger_timeline_is_unknown),
		cmocka_unit_test(position_is_unknown_without_a_history),
		cmocka_unit_test(timeline_left_before_it_began_ends_its_parents_too),
		cmocka_unit_test(history_of_greatest_length_is_whole),
		cmocka_unit_test(history_longer_than_that_does_not_know_its_oldest),
		cmocka_unit_test(server_on_the_points_branch_is_judged_by_number),
		cmocka_unit_test(server_that_was_left_behind_may_follow_until_it_is_beyond_the_fork),
		cmocka_unit_test(server_of_an_independent_promotion_is_compared_by_fork),
		cmocka_unit_test(history_of_the_point_tells_where_it_comes_from),
		cmocka_unit_test(server_of_another_cluster_is_never_judged),
		cmocka_unit_test(history_descends_from_the_branches_it_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
