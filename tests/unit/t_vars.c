/* SPDX-License-Identifier: PostgreSQL */
#include "proxy/vars.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct vars_table t;

static int setup(void **state)
{
	assert_true(vars_table_init(&t));
	return 0;
}

static int teardown(void **state)
{
	/* Everything was given back: only the empty set is left. */
	assert_int_equal(t.none->refs, 1);
	int left = 0;
	for (int i = 0; i < VARS_BUCKETS; i++)
		for (struct vars *v = t.buckets[i]; v; v = v->next)
			left++;
	assert_int_equal(left, 1);
	vars_table_release(&t);
	return 0;
}

/* `base` with one more setting; takes the count of `base`. */
static struct vars *with(struct vars *base, const char *name, const char *sql)
{
	struct vars *v = vars_with(&t, base, name, slice_str(sql));
	assert_non_null(v);
	vars_put(&t, base);
	return v;
}

static struct vars *none(void)
{
	return vars_ref(t.none);
}

static void expect_diff(const struct vars *from, const struct vars *to, const char *sql)
{
	struct buf b;
	buf_init(&b, 1000);
	assert_true(vars_diff(from, to, &b));
	if (!slice_eq_str(buf_slice(&b), sql))
		fail_msg("got %.*s", (int)b.len, (const char *)b.data);
	buf_release(&b);
}

static void equal_sets_are_one_object(void **state)
{
	struct vars *a = with(with(none(), "work_mem", "SET work_mem = 1"), "a.b", "SET a.b = 2");
	struct vars *b = with(with(none(), "a.b", "SET a.b = 2"), "work_mem", "SET work_mem = 1");
	assert_ptr_equal(a, b);
	assert_string_equal(vars_find(a, "a.b"), "SET a.b = 2");
	assert_null(vars_find(a, "a"));
	b = with(b, "work_mem", "SET work_mem = 3");
	assert_ptr_not_equal(a, b);
	assert_int_equal(b->count, 2);
	vars_put(&t, a);
	vars_put(&t, b);
}

static void what_is_taken_out_is_gone(void **state)
{
	struct vars *a = with(none(), "x", "SET x = 1");
	struct vars *b = vars_without(&t, a, "x");
	assert_ptr_equal(b, t.none);
	struct vars *c = vars_without(&t, a, "y");
	assert_ptr_equal(c, a);
	vars_put(&t, a);
	vars_put(&t, b);
	vars_put(&t, c);
	vars_put(&t, NULL);
}

static void sets_mean_the_same_that_differ_in_nothing_of_weight(void **state)
{
	struct vars *path = with(none(), "search_path", "SET search_path = a");
	struct vars *named = with(with(none(), "search_path", "SET search_path = a"), "application_name", "SET x = 1");
	struct vars *own = with(with(none(), "app.user", "SET app.user = 1"), "lock_timeout", "SET lock_timeout = 1");
	struct vars *zone = with(with(none(), "search_path", "SET search_path = a"), "timezone", "SET timezone = 1");
	assert_int_equal(t.none->meaning, MEANING_PLAIN);
	assert_int_equal(own->meaning, MEANING_PLAIN);
	assert_int_not_equal(path->meaning, MEANING_PLAIN);
	assert_int_equal(named->meaning, path->meaning);
	assert_int_not_equal(zone->meaning, path->meaning);
	uint32_t before = path->meaning;
	vars_put(&t, path);
	path = with(none(), "search_path", "SET search_path = a");
	assert_int_equal(path->meaning, before);
	vars_put(&t, named);
	vars_put(&t, path);
	path = with(none(), "search_path", "SET search_path = a");
	assert_int_not_equal(path->meaning, before);
	t.meanings = MEANING_UNKNOWN;
	struct vars *last = with(none(), "datestyle", "SET datestyle = iso");
	assert_int_equal(last->meaning, MEANING_UNKNOWN);
	vars_put(&t, last);
	vars_put(&t, path);
	vars_put(&t, own);
	vars_put(&t, zone);
}

static void the_difference_resets_and_sets(void **state)
{
	struct vars *a = with(with(none(), "x", "SET x = 1"), "y", "SET y = 1");
	struct vars *b = with(with(none(), "y", "SET y = 2"), "z", "SET z = 3");
	expect_diff(a, a, "");
	expect_diff(t.none, a, "SET x = 1\n;SET y = 1\n;");
	expect_diff(a, t.none, "RESET \"x\";RESET \"y\";");
	expect_diff(a, b, "RESET \"x\";SET y = 2\n;SET z = 3\n;");
	vars_put(&t, a);
	vars_put(&t, b);
}

static void names_are_quoted(void **state)
{
	struct vars *a = with(with(none(), "my.var", "SET my.var = 1"), "q\"; x", "SET q = 1");
	expect_diff(a, t.none, "RESET \"my\".\"var\";RESET \"q\"\"; x\";");
	vars_put(&t, a);
}

static void a_full_set_takes_no_more(void **state)
{
	struct vars *v = none();
	char name[32];
	for (int i = 0; i < VARS_MAX; i++) {
		snprintf(name, sizeof(name), "v%d", i);
		v = with(v, name, "SET");
	}
	assert_null(vars_with(&t, v, "one_more", slice_str("SET")));
	v = with(v, "v7", "SET again");
	vars_put(&t, v);

	static char text[VARS_BYTES];
	memset(text, 'x', sizeof(text) - 1);
	assert_null(vars_with(&t, t.none, "long", slice_str(text)));
}

static void a_buffer_that_is_too_small_is_told(void **state)
{
	struct vars *a = with(none(), "x", "SET x = 1");
	struct buf b;
	buf_init(&b, 5);
	assert_false(vars_diff(t.none, a, &b));
	buf_release(&b);
	vars_put(&t, a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(equal_sets_are_one_object, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_taken_out_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(sets_mean_the_same_that_differ_in_nothing_of_weight, setup, teardown),
		cmocka_unit_test_setup_teardown(the_difference_resets_and_sets, setup, teardown),
		cmocka_unit_test_setup_teardown(names_are_quoted, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_set_takes_no_more, setup, teardown),
		cmocka_unit_test_setup_teardown(a_buffer_that_is_too_small_is_told, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
