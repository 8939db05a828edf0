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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_of_time_are_found_wherever_they_stand),
		cmocka_unit_test(parameters_are_bytes_and_know_no_escapes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
