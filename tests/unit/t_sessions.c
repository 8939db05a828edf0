/* SPDX-License-Identifier: PostgreSQL */
#include "proxy/sessions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TTL 1000

static struct sessions all;
static struct fleet fleet;
static const int one_database, other_database;

static int setup(void **state)
{
	fleet_init(&fleet, 1000000);
	assert_true(sessions_init(&all, 4, TTL));
	return 0;
}

static int teardown(void **state)
{
	sessions_release(&all);
	return 0;
}

static struct session *get(const char *name, int64_t now)
{
	return sessions_get(&all, &fleet, &one_database, slice_str(name), now);
}

static void a_name_is_one_session_in_each_database(void **state)
{
	struct session *a = get("a", 1);
	assert_non_null(a);
	assert_string_equal(a->name, "a");
	assert_ptr_equal(get("a", 2), a);
	assert_int_equal(a->refs, 2);
	assert_ptr_not_equal(get("b", 2), a);
	struct session *o = sessions_get(&all, &fleet, &other_database, slice_str("a"), 2);
	assert_non_null(o);
	assert_ptr_not_equal(o, a);
	assert_int_equal(all.count, 3);
}

static void a_new_session_is_not_known_to_have_written_nothing(void **state)
{
	struct position at;
	struct session *a = get("a", 1);
	assert_false(session_position(&a->mark, &fleet, &at));
}

static void names_have_a_length(void **state)
{
	char name[SESSION_NAME_MAX + 2];
	memset(name, 'n', sizeof(name));
	name[SESSION_NAME_MAX + 1] = '\0';
	assert_null(get(name, 1));
	assert_null(get("", 1));
	name[SESSION_NAME_MAX] = '\0';
	assert_non_null(get(name, 1));
	assert_ptr_equal(get(name, 1), get(name, 1));
}

static void the_longest_unused_makes_room(void **state)
{
	const char *names[] = {"a", "b", "c", "d"};
	struct session *s[4];
	for (int i = 0; i < 4; i++)
		s[i] = get(names[i], i);
	assert_null(get("e", 5)); /* all are in use */
	sessions_put(&all, s[2], 6);
	sessions_put(&all, s[1], 7);
	assert_non_null(get("e", 8));
	assert_int_equal(all.evicted, 1);
	assert_ptr_equal(get("b", 9), s[1]); /* c went */
	assert_int_equal(all.count, 4);
	assert_null(get("c", 9));
}

static void what_is_not_used_expires(void **state)
{
	struct session *a = get("a", 0), *b = get("b", 0), *c = get("c", 0);
	sessions_put(&all, a, 10);
	sessions_put(&all, b, 500);
	sessions_expire(&all, 10 + TTL - 1);
	assert_int_equal(all.count, 3);
	sessions_expire(&all, 10 + TTL);
	assert_int_equal(all.count, 2);
	sessions_expire(&all, 100 * TTL);
	assert_int_equal(all.count, 1); /* c is in use */
	assert_ptr_equal(get("c", 1), c);
	assert_int_equal(all.expired, 2);
	sessions_put(&all, NULL, 1);
}

static void a_table_that_never_came_to_life_is_released(void **state)
{
	struct sessions zero = {0};
	sessions_release(&zero);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_name_is_one_session_in_each_database, setup, teardown),
		cmocka_unit_test_setup_teardown(a_new_session_is_not_known_to_have_written_nothing, setup,
	                                    teardown),
		cmocka_unit_test_setup_teardown(names_have_a_length, setup, teardown),
		cmocka_unit_test_setup_teardown(the_longest_unused_makes_room, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_used_expires, setup, teardown),
		cmocka_unit_test(a_table_that_never_came_to_life_is_released),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
