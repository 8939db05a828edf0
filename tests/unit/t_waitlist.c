/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/waitlist.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static struct fleet f;
static struct waitlist w;

static int setup(void **state)
{
	fleet_init(&f, 1000);
	fleet_node_add(&f, slice_str("p"));
	fleet_node_add(&f, slice_str("r"));
	fleet_node_up(&f, 0, NODE_ROLE_PRIMARY, 1, 10);
	fleet_node_up(&f, 1, NODE_ROLE_REPLICA, 1, 10);
	return waitlist_init(&w, 2) ? 0 : -1;
}

static int teardown(void **state)
{
	waitlist_release(&w);
	return 0;
}

static void waitlist_wakes_by_position_lowest_first(void **state)
{
	struct waiter high = {.need = {200}, .deadline_us = 50},
				  low = {.need = {100}, .deadline_us = 90};
	assert_true(waitlist_add(&w, &high) && waitlist_add(&w, &low));
	assert_null(waitlist_pop_ready(&w, &f, 20));

	assert_true(fleet_node_sampled(&f, 1, (struct position){150}, 20, 21));
	assert_ptr_equal(waitlist_pop_ready(&w, &f, 21), &low);
	assert_null(waitlist_pop_ready(&w, &f, 21));
	assert_true(fleet_node_sampled(&f, 1, (struct position){200}, 30, 31));
	assert_ptr_equal(waitlist_pop_ready(&w, &f, 31), &high);
	assert_int_equal(w.count, 0);
}

static void waitlist_does_not_wake_for_the_primary_position(void **state)
{
	struct waiter it = {.need = {100}, .deadline_us = 50};
	assert_true(waitlist_add(&w, &it));
	assert_true(fleet_node_sampled(&f, 0, (struct position){500}, 20, 21));
	assert_null(waitlist_pop_ready(&w, &f, 21));
}

static void waitlist_wakes_by_a_sample_started_later(void **state)
{
	struct waiter it = {.sample_after_us = 20, .deadline_us = 50};
	assert_true(waitlist_add(&w, &it));
	assert_true(fleet_node_sampled(&f, 0, (struct position){500}, 20, 25));
	assert_null(waitlist_pop_ready(&w, &f, 25));
	assert_true(fleet_node_sampled(&f, 0, (struct position){500}, 21, 26));
	assert_ptr_equal(waitlist_pop_ready(&w, &f, 26), &it);
}

static void waitlist_expires_in_order_of_deadlines(void **state)
{
	struct waiter a = {.need = {100}, .deadline_us = 60}, b = {.deadline_us = 50};
	assert_int_equal(waitlist_next_deadline(&w), INT64_MAX);
	assert_true(waitlist_add(&w, &a) && waitlist_add(&w, &b));
	assert_int_equal(waitlist_next_deadline(&w), 50);
	assert_null(waitlist_pop_expired(&w, 49));
	assert_ptr_equal(waitlist_pop_expired(&w, 60), &b);
	assert_ptr_equal(waitlist_pop_expired(&w, 60), &a);
	assert_null(waitlist_pop_expired(&w, 60));
}

static void waitlist_refuses_when_full(void **state)
{
	struct waiter a = {.need = {1}}, b = {.need = {2}}, c = {.need = {3}};
	assert_true(waitlist_add(&w, &a) && waitlist_add(&w, &b));
	assert_false(waitlist_add(&w, &c));
	waitlist_remove(&w, &a);
	assert_true(waitlist_add(&w, &c));
}

static void waitlist_removal_is_safe_at_any_time(void **state)
{
	struct waiter a = {.need = {1}};
	waitlist_remove(&w, &a);
	assert_true(waitlist_add(&w, &a));
	waitlist_remove(&w, &a);
	waitlist_remove(&w, &a);
	assert_null(waitlist_pop_any(&w));
}

int main(void)
{
#define each(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		each(waitlist_wakes_by_position_lowest_first),
		each(waitlist_does_not_wake_for_the_primary_position),
		each(waitlist_wakes_by_a_sample_started_later),
		each(waitlist_expires_in_order_of_deadlines),
		each(waitlist_refuses_when_full),
		each(waitlist_removal_is_safe_at_any_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
