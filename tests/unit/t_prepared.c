/* SPDX-License-Identifier: PostgreSQL */
#include "proxy/prepared.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct catalog *catalog;
static struct stmt_cache *cache;
static struct client_stmts names;
static struct server_stmts there;

static int setup(void **state)
{
	catalog = catalog_new(100);
	cache = stmt_cache_new(catalog, 16, 16);
	assert_non_null(cache);
	names = (struct client_stmts){0};
	server_stmts_init(&there);
	return 0;
}

static int teardown(void **state)
{
	client_stmts_clear(&names, cache);
	server_stmts_clear(&there, cache);
	stmt_cache_free(cache);
	catalog_free(catalog);
	return 0;
}

static struct stmt *statement(int i)
{
	char text[32];
	snprintf(text, sizeof(text), "SELECT %d", i);
	struct stmt *s = stmt_get(cache, slice_str(text), (struct slice){0});
	assert_non_null(s);
	return s;
}

static bool add(const char *name, struct stmt *s)
{
	return client_stmts_add(&names, cache, slice_str(name), stmt_ref(s));
}

static void names_lead_to_statements(void **state)
{
	struct stmt *a = statement(1), *b = statement(2);
	uint32_t refs = a->refs;
	assert_null(client_stmts_find(&names, slice_str("x")));
	assert_null(client_stmts_remove(&names, slice_str("x")));
	assert_true(add("x", a));
	assert_true(add("y", b));
	assert_ptr_equal(client_stmts_find(&names, slice_str("x")), a);
	assert_ptr_equal(client_stmts_find(&names, slice_str("y")), b);
	assert_null(client_stmts_find(&names, slice_str("")));

	/* A name that exists is refused, and the count given back. */
	assert_false(add("x", a));
	assert_int_equal(a->refs, refs + 1);
	assert_ptr_equal(client_stmts_remove(&names, slice_str("x")), a);
	stmt_put(cache, a);
	assert_int_equal(a->refs, refs);
	assert_null(client_stmts_find(&names, slice_str("x")));
	stmt_put(cache, a);
	stmt_put(cache, b);
}

static void many_names_and_no_more_than_the_limit(void **state)
{
	struct stmt *a = statement(1);
	uint32_t refs = a->refs;
	char name[16];
	for (int i = 0; i < CLIENT_STATEMENTS_MAX; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		assert_true(add(name, a));
	}
	assert_false(add("one more", a));
	for (int i = 0; i < CLIENT_STATEMENTS_MAX; i += 777) {
		snprintf(name, sizeof(name), "n%d", i);
		assert_ptr_equal(client_stmts_find(&names, slice_str(name)), a);
	}
	client_stmts_clear(&names, cache);
	assert_int_equal(names.count, 0);
	assert_int_equal(a->refs, refs);
	stmt_put(cache, a);
}

static void names_and_texts_take_so_much_and_give_it_back(void **state)
{
	struct stmt *a = statement(1), *b = statement(2);
	assert_true(add("x", a));
	size_t one = names.bytes;
	assert_true(one > a->text_len);
	assert_true(client_stmts_fit(&names, slice_str("y"), b, 2 * one));
	assert_false(client_stmts_fit(&names, slice_str("y"), b, 2 * one - 1));
	assert_false(client_stmts_fit(&names, slice_str("yy"), b, 2 * one));
	assert_true(add("y", b));
	assert_int_equal(names.bytes, 2 * one);
	stmt_put(cache, client_stmts_remove(&names, slice_str("x")));
	assert_int_equal(names.bytes, one);
	client_stmts_clear(&names, cache);
	assert_int_equal(names.bytes, 0);
	stmt_put(cache, a);
	stmt_put(cache, b);
}

static void the_least_recently_used_is_oldest(void **state)
{
	struct stmt *s[40];
	assert_null(server_stmts_oldest(&there));
	for (int i = 0; i < 40; i++) {
		s[i] = statement(i);
		assert_false(server_stmts_touch(&there, s[i], 0));
		assert_true(server_stmts_add(&there, s[i], 0));
	}
	assert_int_equal(there.count, 40);
	assert_true(server_stmts_touch(&there, s[0], 0));
	assert_ptr_equal(server_stmts_oldest(&there)->stmt, s[1]);
	server_stmts_drop(&there, cache, s[1], 0);
	server_stmts_drop(&there, cache, s[1], 0);
	assert_false(server_stmts_touch(&there, s[1], 0));
	assert_ptr_equal(server_stmts_oldest(&there)->stmt, s[2]);
	for (int i = 2; i < 40; i++)
		assert_true(server_stmts_touch(&there, s[i], 0));
	assert_ptr_equal(server_stmts_oldest(&there)->stmt, s[0]);
	for (int i = 0; i < 40; i++)
		stmt_put(cache, s[i]);
}

static void each_meaning_is_a_statement_of_its_own(void **state)
{
	struct stmt *a = statement(1);
	assert_true(server_stmts_add(&there, a, MEANING_PLAIN));
	assert_false(server_stmts_touch(&there, a, 7));
	assert_true(server_stmts_add(&there, a, 7));
	assert_int_equal(there.bytes, 2 * a->text_len);
	server_stmts_drop(&there, cache, a, MEANING_PLAIN);
	assert_true(server_stmts_touch(&there, a, 7));
	assert_int_equal(server_stmts_oldest(&there)->meaning, 7);
	assert_int_equal(there.bytes, a->text_len);
	stmt_put(cache, a);
}

static void names_on_servers_are_unique(void **state)
{
	char name[STMT_NAME_MAX];
	struct stmt s = {.id = 0};
	assert_int_equal(stmt_server_name(&s, MEANING_PLAIN, name), strlen(STMT_NAME_PREFIX) + 1);
	assert_string_equal(name, STMT_NAME_PREFIX "0");
	s.id = 0x10;
	stmt_server_name(&s, 0x2a, name);
	assert_string_equal(name, STMT_NAME_PREFIX "10_2a");
	s.id = UINT64_MAX;
	assert_true(stmt_server_name(&s, MEANING_UNKNOWN - 1, name) < STMT_NAME_MAX);
	assert_string_equal(name, STMT_NAME_PREFIX "ffffffffffffffff_fffffffe");
	assert_int_equal(stmt_server_name(&s, MEANING_UNKNOWN, name), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_lead_to_statements, setup, teardown),
		cmocka_unit_test_setup_teardown(many_names_and_no_more_than_the_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(names_and_texts_take_so_much_and_give_it_back, setup, teardown),
		cmocka_unit_test_setup_teardown(each_meaning_is_a_statement_of_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(the_least_recently_used_is_oldest, setup, teardown),
		cmocka_unit_test_setup_teardown(names_on_servers_are_unique, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
