/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SLOW 1000000

static uint32_t share(int weight, int64_t back_for_us)
{
	struct health h = {.weight = weight, .back_at_us = 5000000};
	return health_share(&h, SLOW, 5000000 + back_for_us);
}

static void what_has_no_weight_or_is_drained_is_not_asked(void **state)
{
	assert_false(health_is_asked(&(struct health){0}));
	assert_true(health_is_asked(&(struct health){.weight = 1}));
	assert_false(health_is_asked(&(struct health){.weight = 1, .drained = true}));
}

static void shares_are_as_weights(void **state)
{
	assert_int_equal(share(1, SLOW), SHARE_WHOLE);
	assert_int_equal(share(3, SLOW), 3 * SHARE_WHOLE);
	assert_int_equal(share(HEALTH_WEIGHT_MAX, SLOW), HEALTH_WEIGHT_MAX * SHARE_WHOLE);
}

static void a_slow_start_begins_small_and_grows_to_the_whole(void **state)
{
	assert_int_equal(share(2, 0), 2 * SHARE_LEAST);
	assert_int_equal(share(2, SLOW / 2), SHARE_WHOLE);
	assert_int_equal(share(2, SLOW - 1), 2 * (SHARE_WHOLE - 1));
	uint32_t last = 0;
	for (int64_t t = -10; t < SLOW + 10; t += 997) {
		assert_true(share(1, t) >= last && share(1, t) >= SHARE_LEAST);
		last = share(1, t);
	}
	/* The moment of a sample may lie a little before that of the return. */
	assert_int_equal(share(1, -1), SHARE_LEAST);
}

static void without_a_slow_start_the_share_is_whole_at_once(void **state)
{
	struct health h = {.weight = 1, .back_at_us = 77};
	assert_int_equal(health_share(&h, 0, 77), SHARE_WHOLE);
}

/* ---- connections ---- */

static void a_node_without_connections_is_left_out_until_one_is_had(void **state)
{
	struct health h = {.weight = 1};
	assert_false(health_probe_due(&h, 100));
	assert_false(health_connected(&h, 100));
	assert_int_equal(h.back_at_us, 0);
	assert_true(health_connect_failed(&h, 1000, 100));
	assert_false(health_is_asked(&h));
	assert_true(health_is_wanted(&h));
	assert_false(health_probe_due(&h, 1099));
	assert_true(health_probe_due(&h, 1100));
	/* One at a time. */
	assert_false(health_probe_due(&h, 1101));
	assert_true(health_connected(&h, 1500));
	assert_true(health_is_asked(&h));
	assert_int_equal(h.back_at_us, 1500);
	assert_false(health_probe_due(&h, INT64_MAX / 2));
}

static void probes_back_off_to_a_limit(void **state)
{
	struct health h = {.weight = 1};
	int64_t now = 0, after = 1000;
	health_connect_failed(&h, after, now);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(h.probe_at_us, now + after);
		now = h.probe_at_us;
		assert_true(health_probe_due(&h, now));
		assert_false(health_connect_failed(&h, 1000, now));
		after = 2 * after < PROBE_MAX_US ? 2 * after : PROBE_MAX_US;
	}
	assert_int_equal(after, PROBE_MAX_US);
	health_connected(&h, now);
	assert_true(health_connect_failed(&h, 1000, now));
	assert_int_equal(h.probe_at_us, now + 1000);
}

/* ---- latency ---- */

static void the_median_of_a_batch_is_the_latency(void **state)
{
	struct health h = {0};
	for (int i = 0; i < LATENCY_BATCH - 1; i++)
		health_answered(&h, (i * 7919) % 1000, 5);
	assert_int_equal(health_latency_us(&h, 5), 0);
	health_answered(&h, 1, 6);
	assert_true(health_latency_us(&h, 6) > 1 && health_latency_us(&h, 6) < 1000);
	/* Half but one may be anything. */
	for (int i = 0; i < LATENCY_BATCH; i++)
		health_answered(&h, i < LATENCY_BATCH / 2 - 1 ? INT64_MAX : 100, 7);
	assert_int_equal(health_latency_us(&h, 7), 101);
	for (int i = 0; i < LATENCY_BATCH; i++)
		health_answered(&h, i % 2 ? -5 : INT64_MAX, 8);
	assert_int_equal(health_latency_us(&h, 8), (int64_t)UINT32_MAX + 1);
	assert_int_equal(health_latency_us(&h, 8 + LATENCY_MAX_AGE_US), (int64_t)UINT32_MAX + 1);
	assert_int_equal(health_latency_us(&h, 9 + LATENCY_MAX_AGE_US), 0);
}

static void a_slow_one_comes_back_slowly_and_goes_for_longer_each_time(void **state)
{
	struct health h = {.weight = 1};
	int64_t now = 1000;
	health_set_slow(&h, now);
	assert_true(health_is_slow(&h, now + SLOW_MIN_US - 1));
	assert_false(health_is_slow(&h, now + SLOW_MIN_US));
	assert_int_equal(health_share(&h, 1000000, now + SLOW_MIN_US), SHARE_LEAST);
	int64_t last = SLOW_MIN_US;
	for (int i = 0; i < 10; i++) {
		now = h.slow_until_us + 1;
		health_set_slow(&h, now);
		assert_int_equal(h.slow_for_us, 2 * last < SLOW_MAX_US ? 2 * last : SLOW_MAX_US);
		last = h.slow_for_us;
	}
	now = h.slow_until_us + last;
	health_set_slow(&h, now);
	assert_int_equal(h.slow_for_us, SLOW_MIN_US);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_has_no_weight_or_is_drained_is_not_asked),
		cmocka_unit_test(shares_are_as_weights),
		cmocka_unit_test(a_slow_start_begins_small_and_grows_to_the_whole),
		cmocka_unit_test(without_a_slow_start_the_share_is_whole_at_once),
		cmocka_unit_test(a_node_without_connections_is_left_out_until_one_is_had),
		cmocka_unit_test(probes_back_off_to_a_limit),
		cmocka_unit_test(the_median_of_a_batch_is_the_latency),
		cmocka_unit_test(a_slow_one_comes_back_slowly_and_goes_for_longer_each_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
