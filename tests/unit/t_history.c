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

static enum history_verdict judge(const struct history *h, uint32_t timeline, uint64_t fork,
                                  uint64_t at)
{
	return history_judge(h, timeline, (struct position){fork}, (struct position){at});
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
		assert_int_equal(judge(&h, 1, 0, 1), HISTORY_UNKNOWN);
	}
}

/* ---- judging ---- */

static void position_on_the_servers_own_timeline_is_part_of_its_history(void **state)
{
	struct history h = of_four(), first;
	assert_int_equal(judge(&h, 4, 0x500, 0x501), HISTORY_PART);
	assert_int_equal(judge(&h, 4, 0x500, UINT64_MAX), HISTORY_PART);
	history_first(&first);
	assert_int_equal(judge(&first, 1, 0, UINT64_MAX), HISTORY_PART);
}

/* facts: token 0/26577BF0, cut at 0/26577800, and the new primary is at 0/265A9300 already. */
static void position_that_a_failover_cut_off_is_lost(void **state)
{
	struct history h = of_four(),
				   lossy = parsed(2, "1\t0/26577800\tno recovery target specified\n");
	assert_int_equal(judge(&lossy, 1, 0, 0x26577BF0), HISTORY_LOST);
	assert_int_equal(judge(&h, 1, 0, 0xFF), HISTORY_PART);
	assert_int_equal(judge(&h, 1, 0, 0x100), HISTORY_PART);
	assert_int_equal(judge(&h, 1, 0, 0x101), HISTORY_LOST);
	assert_int_equal(judge(&h, 2, 0x100, 0x500), HISTORY_PART);
	assert_int_equal(judge(&h, 2, 0x100, 0x501), HISTORY_LOST);
}

static void position_of_a_standby_promoted_independently_is_lost(void **state)
{
	struct history two = parsed(2, "1\t0/100\n"), h = of_four(), first;
	/* The server's own timeline, which began elsewhere. */
	assert_int_equal(judge(&two, 2, 0xF0, 0x101), HISTORY_LOST);
	assert_int_equal(judge(&two, 2, 0x200, 0x201), HISTORY_LOST);
	assert_int_equal(judge(&two, 2, 0, 1), HISTORY_LOST);
	/* One of its past. */
	assert_int_equal(judge(&h, 2, 0xF0, 0x101), HISTORY_LOST);
	assert_int_equal(judge(&h, 2, 0x200, 0x201), HISTORY_LOST);
	/* One that it never had. */
	assert_int_equal(judge(&h, 3, 0x200, 0x201), HISTORY_LOST);
	history_first(&first);
	assert_int_equal(judge(&first, 1, 5, 6), HISTORY_LOST);
}

static void position_before_the_histories_part_is_common_to_both(void **state)
{
	struct history h = of_four(), three = parsed(3, "1\t0/100\n");
	assert_int_equal(judge(&h, 2, 0xF0, 0xF0), HISTORY_PART);
	assert_int_equal(judge(&h, 2, 0x200, 0x100), HISTORY_PART);
	assert_int_equal(judge(&h, 2, 0x200, 0x101), HISTORY_LOST);
	assert_int_equal(judge(&three, 2, 0x200, 0x100), HISTORY_PART);
	assert_int_equal(judge(&three, 2, 0x200, 0x200), HISTORY_LOST);
}

/* 3 may have come from another 2, which left the common history earlier than both forks say. */
static void position_before_the_fork_of_an_unknown_parent_is_not_believed(void **state)
{
	struct history h = of_four();
	assert_int_equal(judge(&h, 3, 0x200, 0x80), HISTORY_UNKNOWN);
	assert_int_equal(judge(&h, 4, 0x600, 0x400), HISTORY_UNKNOWN);
}

static void position_of_a_younger_timeline_is_unknown(void **state)
{
	struct history h = of_four();
	assert_int_equal(judge(&h, 5, 0x600, 0x700), HISTORY_UNKNOWN);
	assert_int_equal(judge(&h, 5, 0x600, 1), HISTORY_UNKNOWN);
}

static void position_is_unknown_without_a_history(void **state)
{
	struct history h = {0};
	assert_int_equal(judge(&h, 1, 0, 1), HISTORY_UNKNOWN);
	assert_int_equal(judge(&h, 0, 0, 1), HISTORY_UNKNOWN);
}

/* The very bytes of PostgreSQL 15 after a recovery with target timeline 2 that stopped before 2
 * began: it names 2 as the parent, at a position that 2 never had. */
static void timeline_left_before_it_began_ends_its_parents_too(void **state)
{
	struct history h = parsed(3,
	                          "1\t0/4000090\tno recovery target specified\n"
	                          "\n"
	                          "2\t0/3025AE0\tafter LSN 0/3025AA0\n");
	assert_int_equal(judge(&h, 1, 0, 0x3025AE0), HISTORY_PART);
	assert_int_equal(judge(&h, 1, 0, 0x3025AE1), HISTORY_LOST);
	assert_int_equal(judge(&h, 1, 0, 0x4000090), HISTORY_LOST);
	assert_int_equal(judge(&h, 2, 0x4000090, 0x4000091), HISTORY_LOST);
	assert_int_equal(judge(&h, 3, 0x3025AE0, 0x4000091), HISTORY_PART);
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
	assert_int_equal(judge(&h, 1, 0, 0x1000), HISTORY_PART);
	assert_int_equal(judge(&h, 1, 0, 0x1001), HISTORY_LOST);
}

static void history_longer_than_that_does_not_know_its_oldest(void **state)
{
	struct history h = of_many(HISTORY_MAX + 2);
	assert_int_equal(h.count, HISTORY_MAX);
	assert_int_equal(judge(&h, 1, 0, 0x500), HISTORY_UNKNOWN);
	assert_int_equal(judge(&h, 2, 0x1000, 0x5000), HISTORY_UNKNOWN);
	assert_int_equal(judge(&h, 2, 0x800, 0x700), HISTORY_UNKNOWN);
	/* The oldest that is left still has its fork. */
	assert_int_equal(judge(&h, 3, 0x2000, 0x3000), HISTORY_PART);
	assert_int_equal(judge(&h, 3, 0x2000, 0x3001), HISTORY_LOST);
	assert_int_equal(judge(&h, 3, 0x2001, 0x3000), HISTORY_LOST);
	assert_int_equal(judge(&h, HISTORY_MAX + 3, history_fork(&h).lsn, UINT64_MAX), HISTORY_PART);
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
