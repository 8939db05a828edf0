/* SPDX-License-Identifier: PostgreSQL */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config/options.h"

static struct settings s;
static char why[256];

static bool set(const char *name, const char *text)
{
	const struct option *o = options_find(name);

	assert_non_null(o);
	why[0] = '\0';
	return option_set(o, &s, text, why, sizeof(why));
}

static int reset(void **state)
{
	options_defaults(&s);
	return 0;
}

static void defaults_are_those_of_the_table(void **state)
{
	assert_string_equal(s.listen_addr, "127.0.0.1");
	assert_int_equal(s.listen_port, 6432);
	assert_int_equal(s.policy.level, LEVEL_SESSION);
	assert_int_equal(s.policy.wait_timeout_us, 100000);
	assert_int_equal(s.policy.fault, FAULT_NONE);
	assert_int_equal(s.query_wait_timeout_us, INT64_C(120000000));
	assert_int_equal(s.max_packet_size, 16 * 1024 * 1024);
	assert_int_equal(s.scope, SCOPE_DATABASE);
	assert_true(s.query_tags);
	assert_int_equal(s.http_listen_port, 0);
}

static void every_row_is_complete_and_named_once(void **state)
{
	for (int i = 0; i < options_count; i++) {
		const struct option *o = &options[i];
		assert_non_null(o->help);
		assert_true(o->size > 0);
		assert_ptr_equal(options_find(o->name), o);
		if (o->type == OPTION_ENUM)
			assert_non_null(o->words);
		if (o->type == OPTION_TIME || o->type == OPTION_INT || o->type == OPTION_SIZE)
			assert_true(o->min < o->max);
		if (o->type == OPTION_TIME)
			assert_int_equal(o->size, sizeof(int64_t));
		if (o->type == OPTION_INT || o->type == OPTION_ENUM)
			assert_int_equal(o->size, sizeof(int));
	}
}

static void names_match_with_dashes_and_underscores(void **state)
{
	assert_ptr_equal(options_find("wait-timeout"), options_find("wait_timeout"));
	assert_null(options_find("wait"));
	assert_null(options_find("wait_timeout_"));
	assert_null(options_find(""));
}

static void times_take_units_and_bare_seconds(void **state)
{
	static const struct {
		const char *text;
		int64_t us;
	} rows[] = {{"100ms", 100000}, {"3s", 3000000},     {"2", 2000000},  {"1min", 60000000},
	            {"250us", 250},    {"0.5", 500000},     {"1.5ms", 1500}, {"0", 0},
	            {"10 ms", 10000},  {"1h", 3600000000L}, {"20MS", 20000}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(set("wait_timeout", rows[i].text));
		assert_int_equal(s.policy.wait_timeout_us, rows[i].us);
	}
}

static void what_is_no_time_is_refused_and_changes_nothing(void **state)
{
	static const char *const bad[] = {"abc",
	                                  "",
	                                  "ms",
	                                  "-1",
	                                  "1x",
	                                  "1.2.3",
	                                  "1e3",
	                                  "inf",
	                                  "0x10",
	                                  "1s1",
	                                  "99999999999999999999h",
	                                  " 1s",
	                                  "111111111111111111111111111111111"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(set("wait_timeout", bad[i]));
		assert_int_equal(s.policy.wait_timeout_us, 100000);
	}
	assert_false(set("wait_timeout", "abc"));
	assert_string_equal(why,
	                    "not a time; expected a number with us, ms, s, min, h or d, such as 100ms");
	assert_false(set("wait_timeout", "2h"));
	assert_string_equal(why, "out of range; expected 0 to 1h");
}

static void numbers_sizes_switches_and_words(void **state)
{
	assert_true(set("listen_port", "65535"));
	assert_int_equal(s.listen_port, 65535);
	assert_false(set("listen_port", "65536"));
	assert_false(set("listen_port", "0"));
	assert_false(set("listen_port", "+5"));
	assert_false(set("listen_port", "5 "));
	assert_false(set("listen_port", "99999999999999999999"));
	assert_true(set("max_packet_size", "1MB"));
	assert_int_equal(s.max_packet_size, 1024 * 1024);
	assert_true(set("max_packet_size", "200000"));
	assert_false(set("max_packet_size", "2GB"));
	assert_true(set("query_tags", "OFF"));
	assert_false(s.query_tags);
	assert_false(set("query_tags", "maybe"));
	assert_true(set("auth_type", "scram-sha-256"));
	assert_int_equal(s.auth_type, AUTH_TYPE_SCRAM);
	assert_false(set("auth_type", "ldap"));
	assert_string_equal(why, "not one of trust, md5, scram-sha-256, plain, cert, peer, hba");
}

static void strings_keep_to_their_room(void **state)
{
	char text[97];

	memset(text, 'x', 96);
	text[96] = '\0';
	assert_false(set("unix_socket_dir", text));
	text[95] = '\0';
	assert_true(set("unix_socket_dir", text));
	assert_string_equal(s.unix_socket_dir, text);
}

static void host_and_port(void **state)
{
	assert_true(set("http_listen", "localhost:9187"));
	assert_string_equal(s.http_listen_addr, "localhost");
	assert_int_equal(s.http_listen_port, 9187);
	assert_true(set("http_listen", "[::1]:80"));
	assert_string_equal(s.http_listen_addr, "::1");
	assert_true(set("http_listen", ":81"));
	assert_string_equal(s.http_listen_addr, "*");
	assert_true(set("http_listen", "82"));
	assert_string_equal(s.http_listen_addr, "127.0.0.1");
	assert_int_equal(s.http_listen_port, 82);
	assert_false(set("http_listen", "::1:80"));
	assert_false(set("http_listen", "localhost"));
	assert_false(set("http_listen", "localhost:"));
	assert_false(set("http_listen", "localhost:0"));
	assert_int_equal(s.http_listen_port, 82);
	assert_true(set("http_listen", ""));
	assert_int_equal(s.http_listen_port, 0);
}

static void a_slip_of_the_pen_finds_the_nearest_name(void **state)
{
	assert_string_equal(options_nearest("wait_timout"), "wait_timeout");
	assert_string_equal(options_nearest("listen-adr"), "listen_addr");
	assert_null(options_nearest("zzzzzzzz"));
}

static void copies_and_compares_a_field(void **state)
{
	struct settings other;

	options_defaults(&other);
	for (int i = 0; i < options_count; i++)
		assert_true(option_equal(&options[i], &s, &other));
	assert_true(set("http_listen", "localhost:1"));
	assert_false(option_equal(options_find("http_listen"), &s, &other));
	option_copy(options_find("http_listen"), &other, &s);
	assert_int_equal(other.http_listen_port, 1);
	assert_true(option_equal(options_find("http_listen"), &s, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(defaults_are_those_of_the_table, reset),
		cmocka_unit_test_setup(every_row_is_complete_and_named_once, reset),
		cmocka_unit_test_setup(names_match_with_dashes_and_underscores, reset),
		cmocka_unit_test_setup(times_take_units_and_bare_seconds, reset),
		cmocka_unit_test_setup(what_is_no_time_is_refused_and_changes_nothing, reset),
		cmocka_unit_test_setup(numbers_sizes_switches_and_words, reset),
		cmocka_unit_test_setup(strings_keep_to_their_room, reset),
		cmocka_unit_test_setup(host_and_port, reset),
		cmocka_unit_test_setup(a_slip_of_the_pen_finds_the_nearest_name, reset),
		cmocka_unit_test_setup(copies_and_compares_a_field, reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
