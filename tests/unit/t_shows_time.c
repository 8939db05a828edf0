/* SPDX-License-Identifier: PostgreSQL */
#include "sql/shows_time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const struct {
	const char *text;
	bool shows;
} texts[] = {
	{"", false},
	{"SELECT 1", false},
	{"SELECT 'now'::timestamptz", true},
	{"SELECT * FROM t WHERE d < 'TODAY'", true},
	{"SELECT * FROM t WHERE d < 'Tomorrow 10:00'", true},
	{"SELECT * FROM t WHERE d = 'yesterday'", true},
	{"SELECT * FROM t WHERE d = '10:00 now'", true},
	{"now", true},
	{"SELECT known, snow, nowhere, todays FROM t", false},
	{"SELECT * FROM t WHERE d = 'nowz'", false},
	{"SELECT now1 FROM t", true}, /* letters by letters */
	{"SELECT E'n\\x6fw'::timestamptz", true},
	{"SELECT U&'n!006fw' UESCAPE '!'", true},
	{"SELECT * FROM t WHERE d = 'epoch'", false},
};

static void words_of_time_are_found_wherever_they_stand(void **state)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (text_shows_time(slice_str(texts[i].text)) != texts[i].shows)
			fail_msg("%s", texts[i].text);
}

static void parameters_are_bytes_and_know_no_escapes(void **state)
{
	assert_true(bytes_show_time(slice_of("\0\0\0\3now\0", 8)));
	assert_false(bytes_show_time(slice_str("E'n\\x6fw'")));
	assert_false(bytes_show_time((struct slice){0}));
}

static const struct {
	const char *text;
	bool shows;
} literals[] = {
	{"", false},
	{"SELECT now()", false},
	{"SELECT today FROM t WHERE n = $1 AND x = 'a'", false},
	{"SELECT 'now'::timestamptz", true},
	{"SELECT ' TODAY '::date", true},
	{"SELECT 'it''s', 'yesterday'", true},
	{"SELECT 'it''s yesterday'", true},
	{"SELECT \"o'clock\", now() FROM t", false},
	{"SELECT \"now\" FROM t", false},
	{"SELECT 'now", true},
	{"SELECT 'a' || now() -- don't", true}, /* a comment: all words count */
	{"SELECT /* ' */ 'now'", true},
	{"SELECT $$now$$::date", true},
	{"SELECT $a$x$a$, n FROM t", false},
	{"SELECT E'no\\167'::date", true},
	{"SELECT U&'no!0077' UESCAPE '!'", true},
	{"SELECT u & '1' FROM t", false},
};

static void only_literals_count_where_they_can_be_told(void **state)
{
	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++)
		if (literals_show_time(slice_str(literals[i].text)) != literals[i].shows)
			fail_msg("%s", literals[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_literals_count_where_they_can_be_told),
		cmocka_unit_test(words_of_time_are_found_wherever_they_stand),
		cmocka_unit_test(parameters_are_bytes_and_know_no_escapes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
