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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_has_no_weight_or_is_drained_is_not_asked),
		cmocka_unit_test(shares_are_as_weights),
		cmocka_unit_test(a_slow_start_begins_small_and_grows_to_the_whole),
		cmocka_unit_test(without_a_slow_start_the_share_is_whole_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
