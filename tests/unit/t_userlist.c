/* SPDX-License-Identifier: PostgreSQL */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config/userlist.h"

static struct user_entry *users;
static int count;
static int faults;
static int last_line;
static char last[256];

static void on_fault(void *arg, int line, const char *what)
{
	faults++;
	last_line = line;
	snprintf(last, sizeof(last), "%s", what);
}

static bool parse(const char *text)
{
	faults = 0;
	free(users);
	return userlist_parse(slice_str(text), &users, &count, on_fault, NULL);
}

static int drop(void **state)
{
	free(users);
	users = NULL;
	return 0;
}

static void lines_are_sorted_by_name(void **state)
{
	assert_true(
		parse("; users\n\n\"zoe\" \"z\"\r\n# more\n  \"bob\"\t\"s3\" \"ignored\"\n\"amy\" \"\""));
	assert_int_equal(count, 3);
	assert_string_equal(users[0].name, "amy");
	assert_string_equal(users[0].secret, "");
	assert_string_equal(users[1].name, "bob");
	assert_string_equal(users[1].secret, "s3");
	assert_string_equal(users[2].name, "zoe");
}

static void doubled_quotes_are_one(void **state)
{
	assert_true(parse("\"a\"\"b\" \"\"\"x\"\"\"\n"));
	assert_string_equal(users[0].name, "a\"b");
	assert_string_equal(users[0].secret, "\"x\"");
}

static void faults_have_lines_and_all_are_told(void **state)
{
	assert_false(parse("bob secret\n\"ok\" \"x\"\n\"open\n\"a\" \"b\n\"only\"\n\"\" \"x\"\n"));
	assert_int_equal(faults, 5);
	assert_int_equal(last_line, 6);
	assert_int_equal(count, 1);
	assert_false(parse("\"a\" \"1\"\n\"b\" \"2\"\n\"a\" \"3\"\n"));
	assert_string_equal(last, "user \"a\" is listed twice");
}

static void too_long_is_refused(void **state)
{
	char text[512];

	memset(text, 'x', sizeof(text));
	text[0] = '"';
	snprintf(text + 65, sizeof(text) - 65, "\" \"s\"");
	assert_false(parse(text));
	memmove(text + 64, text + 65, strlen(text + 65) + 1);
	assert_true(parse(text));
	assert_int_equal(strlen(users[0].name), 63);
}

static void a_broken_verifier_is_refused(void **state)
{
	assert_false(parse("\"a\" \"SCRAM-SHA-256$4096:xx\"\n"));
	assert_true(parse("\"a\" \"md5d41d8cd98f00b204e9800998ecf8427e\"\n"));
}

static void a_missing_file_is_told(void **state)
{
	faults = 0;
	assert_false(userlist_load("/nonexistent/userlist.txt", &users, &count, on_fault, NULL));
	assert_int_equal(faults, 1);
	assert_int_equal(count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(lines_are_sorted_by_name, drop),
		cmocka_unit_test_teardown(doubled_quotes_are_one, drop),
		cmocka_unit_test_teardown(faults_have_lines_and_all_are_told, drop),
		cmocka_unit_test_teardown(too_long_is_refused, drop),
		cmocka_unit_test_teardown(a_broken_verifier_is_refused, drop),
		cmocka_unit_test_teardown(a_missing_file_is_told, drop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
