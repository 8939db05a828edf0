/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/token0.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static void token_comes_back_as_it_was(void **state)
{
	struct token0 t = {.cluster = UINT64_MAX, .generation = UINT32_MAX, .at = {UINT64_MAX}}, u;
	char text[TOKEN0_TEXT_MAX];
	token0_format(&t, text);
	assert_string_equal(text, "t0-18446744073709551615-4294967295-FFFFFFFF/FFFFFFFF");
	assert_true(token0_parse(slice_str(text), &u));
	assert_true(u.cluster == t.cluster && u.generation == t.generation && u.at.lsn == t.at.lsn);
}

static void token_refuses_every_truncation(void **state)
{
	struct token0 t = {.cluster = 7234567890123456789u, .generation = 3, .at = {0x16B374D848}}, u;
	char text[TOKEN0_TEXT_MAX];
	token0_format(&t, text);
	size_t digits = strlen("B374D848");
	for (size_t n = 0; n + digits <= strlen(text); n++)
		assert_false(token0_parse(slice_of(text, n), &u));
}

static void token_has_one_text_only(void **state)
{
	static const char *const bad[] = {"",
	                                  "t0",
	                                  "t0-1-2-",
	                                  "t1-1-2-3/4",
	                                  "T0-1-2-3/4",
	                                  "t0-1-2-3",
	                                  "t0-01-2-3/4",
	                                  "t0-1-02-3/4",
	                                  "t0-1-2-3/04",
	                                  "t0-1-2-a/b",
	                                  "t0--2-3/4",
	                                  "t0-1--3/4",
	                                  "t0-+1-2-3/4",
	                                  "t0-1-2-3/4 ",
	                                  "t0-1-4294967296-3/4",
	                                  "t0-18446744073709551616-0-3/4"};
	struct token0 t;
	assert_true(token0_parse(slice_str("t0-1-2-3/4"), &t));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(token0_parse(slice_str(bad[i]), &t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(token_comes_back_as_it_was),
		cmocka_unit_test(token_refuses_every_truncation),
		cmocka_unit_test(token_has_one_text_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
