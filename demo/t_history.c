/* SPDX-License-Identifier: PostgreSQL
 *
 * The checker must catch each violation, and must not cry at legal concurrency.
 */
#include "history.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define A 0
#define B 1
#define KEY 3

static int setup(void **state)
{
	static struct history h;
	*state = &h;
	return history_init(&h, 2, 8) ? 0 : -1;
}

static int teardown(void **state)
{
	history_release(*state);
	return 0;
}

static enum history_verdict read_now(struct history *h, size_t session, uint64_t version)
{
	return history_read_ended(h, session, KEY, history_read_started(h, session, KEY), version);
}

static void a_read_of_ones_own_write_is_fine(void **state)
{
	history_wrote(*state, A, KEY, 5);
	assert_int_equal(read_now(*state, A, 5), HISTORY_OK);
	assert_int_equal(read_now(*state, A, 6), HISTORY_OK);
}

static void a_read_below_ones_own_write_is_stale(void **state)
{
	history_wrote(*state, A, KEY, 5);
	assert_int_equal(read_now(*state, A, 4), HISTORY_STALE);
	assert_int_equal(read_now(*state, A, 4), HISTORY_STALE);
}

static void a_missing_row_is_stale_only_after_a_write(void **state)
{
	assert_int_equal(read_now(*state, A, 0), HISTORY_OK);
	history_wrote(*state, A, KEY, 1);
	assert_int_equal(read_now(*state, A, 0), HISTORY_STALE);
}

static void a_read_below_an_earlier_read_is_backward(void **state)
{
	assert_int_equal(read_now(*state, A, 7), HISTORY_OK);
	assert_int_equal(read_now(*state, A, 6), HISTORY_BACKWARD);
	assert_int_equal(read_now(*state, A, 7), HISTORY_OK);
}

static void a_late_acknowledgement_does_not_lower_the_floor(void **state)
{
	history_wrote(*state, A, KEY, 9);
	history_wrote(*state, A, KEY, 8);
	assert_int_equal(read_now(*state, A, 8), HISTORY_STALE);
}

static void sessions_and_keys_do_not_oblige_each_other(void **state)
{
	struct history *h = *state;
	history_wrote(h, A, KEY, 5);
	assert_int_equal(read_now(h, A, 7), HISTORY_OK);
	assert_int_equal(read_now(h, B, 1), HISTORY_OK);
	struct history_view other = history_read_started(h, A, KEY + 1);
	assert_int_equal(history_read_ended(h, A, KEY + 1, other, 1), HISTORY_OK);
}

static void a_write_acknowledged_during_the_read_is_not_asked_for(void **state)
{
	struct history *h = *state;
	history_wrote(h, A, KEY, 5);
	struct history_view started = history_read_started(h, A, KEY);
	history_wrote(h, A, KEY, 6);
	assert_int_equal(history_read_ended(h, A, KEY, started, 5), HISTORY_OK);
	assert_int_equal(read_now(h, A, 5), HISTORY_STALE);
}

static void overlapping_reads_may_see_either_order(void **state)
{
	struct history *h = *state;
	struct history_view first = history_read_started(h, A, KEY);
	struct history_view second = history_read_started(h, A, KEY);
	assert_int_equal(history_read_ended(h, A, KEY, second, 9), HISTORY_OK);
	assert_int_equal(history_read_ended(h, A, KEY, first, 8), HISTORY_OK);
	assert_int_equal(read_now(h, A, 8), HISTORY_BACKWARD);
}

static void an_unacknowledged_write_may_be_seen_but_not_unseen(void **state)
{
	struct history *h = *state;
	history_wrote(h, A, KEY, 5);
	assert_int_equal(read_now(h, A, 6), HISTORY_OK); /* 6 is committed, its answer on the way */
	assert_int_equal(read_now(h, A, 5), HISTORY_BACKWARD);
}

static void a_forgotten_session_starts_anew(void **state)
{
	struct history *h = *state;
	history_wrote(h, A, KEY, 5);
	history_wrote(h, B, KEY, 5);
	history_forget(h, A);
	assert_int_equal(read_now(h, A, 1), HISTORY_OK);
	assert_int_equal(read_now(h, B, 1), HISTORY_STALE);
}

/* One register, many threads on one session. `lag` turns it into a replica: reads get what was
 * that many versions old before they started. */
struct register_run {
	struct history h;
	_Atomic uint64_t newest;
	uint64_t lag;
	_Atomic uint64_t flagged;
};

static void *register_client(void *arg)
{
	struct register_run *run = arg;
	for (int i = 0; i < 5000; i++) {
		history_wrote(&run->h, 0, 0, ++run->newest);
		uint64_t before = run->newest;
		struct history_view started = history_read_started(&run->h, 0, 0);
		uint64_t seen = run->newest;
		if (run->lag > 0)
			seen = before > run->lag ? before - run->lag : 0;
		if (history_read_ended(&run->h, 0, 0, started, seen) != HISTORY_OK)
			run->flagged++;
	}
	return NULL;
}

static uint64_t flagged_by_threads(uint64_t lag)
{
	struct register_run run = {.lag = lag};
	pthread_t threads[4];
	assert_true(history_init(&run.h, 1, 1));
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, register_client, &run), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	history_release(&run.h);
	return run.flagged;
}

static void threads_on_one_server_are_never_flagged(void **state)
{
	assert_int_equal(flagged_by_threads(0), 0);
}

static void threads_on_a_lagging_server_are_always_flagged(void **state)
{
	/* Four clients have at most four versions unacknowledged; 100 behind is always stale. */
	assert_int_equal(flagged_by_threads(100), 4 * 5000);
}

#define PROMISE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROMISE(a_read_of_ones_own_write_is_fine),
		PROMISE(a_read_below_ones_own_write_is_stale),
		PROMISE(a_missing_row_is_stale_only_after_a_write),
		PROMISE(a_read_below_an_earlier_read_is_backward),
		PROMISE(a_late_acknowledgement_does_not_lower_the_floor),
		PROMISE(sessions_and_keys_do_not_oblige_each_other),
		PROMISE(a_write_acknowledged_during_the_read_is_not_asked_for),
		PROMISE(overlapping_reads_may_see_either_order),
		PROMISE(an_unacknowledged_write_may_be_seen_but_not_unseen),
		PROMISE(a_forgotten_session_starts_anew),
		cmocka_unit_test(threads_on_one_server_are_never_flagged),
		cmocka_unit_test(threads_on_a_lagging_server_are_always_flagged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
