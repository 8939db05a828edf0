/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/position.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static uint64_t parsed(const char *text)
{
	struct position p;
	assert_true(position_parse(slice_str(text), &p));
	return p.lsn;
}

static void position_reads_what_postgres_prints(void **state)
{
	assert_int_equal(parsed("0/0"), 0);
	assert_int_equal(parsed("16/B374D848"), 0x16B374D848);
	assert_int_equal(parsed("16/b374d848"), 0x16B374D848);
	assert_int_equal(parsed("FFFFFFFF/FFFFFFFF"), UINT64_MAX);
}

static void position_refuses_what_postgres_would_not_print(void **state)
{
	static const char *const bad[] = {"",     "/",    "0",     "0/",          "/0",
	                                  "0/0 ", " 0/0", "0x1/0", "123456789/0", "0/123456789",
	                                  "0//0", "-1/0", "G/0",   "0/G",         "1/2/3"};
	struct position p;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(position_parse(slice_str(bad[i]), &p));
	assert_false(position_parse(slice_of("0/0\0", 4), &p));
}

static void position_prints_without_leading_zeros(void **state)
{
	char text[POSITION_TEXT_MAX];
	position_format((struct position){0x16000000FF}, text);
	assert_string_equal(text, "16/FF");
	position_format((struct position){UINT64_MAX}, text);
	assert_string_equal(text, "FFFFFFFF/FFFFFFFF");
}

static void position_takes_the_next_page_header_off(void **state)
{
	uint32_t block = 8192, segment = 16u << 20;
	struct position page = {0x1000000 + 8192 + 24}, seg = {0x2000000 + 40}, mid = {0x1000000 + 100};
	assert_int_equal(position_without_page_header(page, block, segment).lsn, 0x1000000 + 8192);
	assert_int_equal(position_without_page_header(seg, block, segment).lsn, 0x2000000);
	assert_int_equal(position_without_page_header(mid, block, segment).lsn, mid.lsn);
	assert_int_equal(position_without_page_header(page, 0, 0).lsn, page.lsn);
}

static void position_none_is_reached_by_everyone(void **state)
{
	struct position none = {0}, some = {1};
	assert_true(position_reached(none, none));
	assert_true(position_reached(some, none));
	assert_false(position_reached(none, some));
	assert_false(position_is_set(none));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(position_reads_what_postgres_prints),
		cmocka_unit_test(position_refuses_what_postgres_would_not_print),
		cmocka_unit_test(position_prints_without_leading_zeros),
		cmocka_unit_test(position_takes_the_next_page_header_off),
		cmocka_unit_test(position_none_is_reached_by_everyone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
