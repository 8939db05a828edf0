/* SPDX-License-Identifier: PostgreSQL */
#include "base/hist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void hist_edges_grow_and_hold_what_is_recorded(void **state)
{
	for (int i = 1; i < HIST_BUCKETS; i++)
		assert_true(hist_edge_us(i) > hist_edge_us(i - 1));
	for (uint64_t us = 0; us < 100000; us += us / 50 + 1) {
		struct hist h = {0};
		hist_record(&h, (int64_t)us);
		int at = 0;
		while (h.buckets[at] == 0)
			at++;
		assert_true(us <= hist_edge_us(at));
		assert_true(at == 0 || us > hist_edge_us(at - 1));
	}
}

static void hist_quantile_is_at_most_half_too_high(void **state)
{
	struct hist h = {0};
	for (int64_t us = 1; us <= 10000; us++)
		hist_record(&h, us);
	uint64_t p50 = hist_quantile_us(&h, 0.5), p99 = hist_quantile_us(&h, 0.99);
	assert_true(p50 >= 5000 && p50 <= 7500);
	assert_true(p99 >= 9900 && p99 <= 10000);
	assert_int_equal(hist_quantile_us(&(struct hist){0}, 0.5), 0);
}

static void hist_takes_negative_and_huge_values(void **state)
{
	struct hist h = {0};
	hist_record(&h, -5);
	hist_record(&h, INT64_MAX);
	assert_int_equal(h.count, 2);
	assert_int_equal(h.buckets[0], 1);
	assert_int_equal(h.buckets[HIST_BUCKETS - 1], 1);
}

static void hist_merge_adds(void **state)
{
	struct hist a = {0}, b = {0};
	hist_record(&a, 10);
	hist_record(&b, 1000);
	hist_merge(&a, &b);
	assert_int_equal(a.count, 2);
	assert_int_equal(a.sum_us, 1010);
	assert_int_equal(a.max_us, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hist_edges_grow_and_hold_what_is_recorded),
		cmocka_unit_test(hist_quantile_is_at_most_half_too_high),
		cmocka_unit_test(hist_takes_negative_and_huge_values),
		cmocka_unit_test(hist_merge_adds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
