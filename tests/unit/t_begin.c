/* SPDX-License-Identifier: PostgreSQL */
#include "sql/begin.h"
#include "sql/classify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static uint8_t options_of(const char *sql)
{
	return classify(slice_str(sql), NULL).begin;
}

/* ISOLATION LEVEL has 5 values with "none", the other two options 3 each. */
static void every_combination_survives_text_and_back(void **state)
{
	char text[BEGIN_TEXT_MAX];
	int seen = 0;
	for (int isolation = 0; isolation <= 4; isolation++) {
		for (int access = 0; access < 3; access++) {
			for (int deferrable = 0; deferrable < 3; deferrable++) {
				uint8_t begin = (uint8_t)(BEGIN_PLAIN | isolation << 1 | access << 4 |
				                          deferrable << 6);
				size_t len = begin_text(begin, text);
				assert_int_equal(len, strlen(text));
				assert_int_equal(options_of(text), begin);
				seen++;
			}
		}
	}
	assert_int_equal(seen, 45);
}

static void other_ways_to_say_it(void **state)
{
	assert_int_equal(options_of("start transaction read only"), BEGIN_PLAIN | BEGIN_READ_ONLY);
	assert_int_equal(options_of("BEGIN WORK;"), BEGIN_PLAIN);
	assert_int_equal(options_of("BEGIN TRANSACTION READ WRITE, NOT DEFERRABLE"),
	                 BEGIN_PLAIN | BEGIN_READ_WRITE | BEGIN_NOT_DEFERRABLE);
}

static void what_may_fail_or_is_more_has_none(void **state)
{
	static const char *const texts[] = {
		"BEGIN READ ONLY READ WRITE",
		"BEGIN READ ONLY READ ONLY",
		"BEGIN ISOLATION LEVEL SERIALIZABLE ISOLATION LEVEL READ COMMITTED",
		"BEGIN DEFERRABLE NOT DEFERRABLE",
		"BEGIN ISOLATION LEVEL SNAPSHOT",
		"BEGIN; SELECT 1",
		"BEGIN; BEGIN",
		"SELECT 1; BEGIN",
		"COMMIT",
		"COMMIT AND CHAIN",
		"SAVEPOINT a",
		"SELECT 1",
		"SET TRANSACTION READ ONLY",
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(options_of(texts[i]), 0);
}

static uint32_t flags_of(const char *sql)
{
	return classify(slice_str(sql), NULL).flags;
}

static void plain_ends(void **state)
{
	assert_true(flags_of("COMMIT") & TRAIT_TX_PLAIN_END);
	assert_true(flags_of("ABORT") & TRAIT_TX_PLAIN_END);
	assert_false(flags_of("COMMIT AND CHAIN") & TRAIT_TX_PLAIN_END);
	assert_false(flags_of("ROLLBACK AND CHAIN") & TRAIT_TX_PLAIN_END);
	assert_false(flags_of("PREPARE TRANSACTION 'x'") & TRAIT_TX_PLAIN_END);
	assert_false(flags_of("ROLLBACK TO a") & TRAIT_TX_PLAIN_END);
	assert_false(flags_of("SELECT 1; COMMIT") & TRAIT_TX_PLAIN_END);
}

int main(void)
{
	classify_thread_init();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_combination_survives_text_and_back),
		cmocka_unit_test(other_ways_to_say_it),
		cmocka_unit_test(what_may_fail_or_is_more_has_none),
		cmocka_unit_test(plain_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
