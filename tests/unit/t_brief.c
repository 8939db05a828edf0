/* SPDX-License-Identifier: PostgreSQL */
#include "sql/brief.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct {
	const char *sql, *brief;
} texts[] = {
	{"", ""},
	{"SELECT state.login(7)", "SELECT state.login(?)"},
	{"  SELECT\n\t f('a''b', 1.5,  E'\\'x')", "SELECT f(?, ?.?, ?"},
	{"SELECT set_config('app.secret', 'hush', false)", "SELECT set_config(?, ?, false)"},
	{"LISTEN news -- to the secret", "LISTEN news"},
	{"/* secret */ LISTEN /* more */ \"News\";", "LISTEN \"News\";"},
	{"LISTEN news /* secret", "LISTEN news"},
	{"SET my.password = hush", "SET my.password = ?"},
	{"set session my.password to hush, hush2 , 'hush3'", "set session my.password to ?, ? , ?"},
	{"SET ROLE admin; SET a TO b; PREPARE p AS SELECT 1", "SET ROLE admin; SET a TO ?; PREPARE p AS SELECT ?"},
	{"ALTER ROLE u SET a = hush", "ALTER ROLE u SET a = ?"},
	{"CREATE ROLE u PASSWORD 'hush'", "CREATE ROLE u PASSWORD ?"},
	{"DO $$ BEGIN PERFORM f('hush'); END $$", "DO ?"},
	{"DO $x$ hush $$ $x$ LANGUAGE plpgsql", "DO ? LANGUAGE plpgsql"},
	{"SELECT $1, U&'hush', N'hush', x'ff'", "SELECT $?, U&?, ?, ?"},
	{"SELECT 'hush", "SELECT ?"},
	/* With standard_conforming_strings off the string goes on. */
	{"SELECT 'a\\', hush, 'b'", "SELECT ?"},
	{"SELECT \"K\xc3\xa4se\", \x01", "SELECT ?, ?"},
};

static void nothing_that_is_data_is_shown(void **state)
{
	char brief[BRIEF_MAX];
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		sql_brief(slice_str(texts[i].sql), brief);
		assert_string_equal(brief, texts[i].brief);
		assert_null(strstr(brief, "hush"));
	}
}

static void it_fits_whatever_comes(void **state)
{
	char brief[BRIEF_MAX], sql[1024];
	for (size_t len = 0; len < sizeof(sql); len++) {
		memset(sql, 'x', len);
		sql_brief(slice_of((const uint8_t *)sql, len), brief);
		if (len <= BRIEF_MAX - 4)
			assert_int_equal(strlen(brief), len);
		else
			assert_string_equal(brief + strlen(brief) - 3, "...");
		memset(sql, '(', len);
		sql_brief(slice_of((const uint8_t *)sql, len), brief);
		assert_true(strlen(brief) < BRIEF_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_that_is_data_is_shown),
		cmocka_unit_test(it_fits_whatever_comes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
