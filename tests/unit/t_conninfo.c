/* SPDX-License-Identifier: PostgreSQL */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config/conninfo.h"

static struct watch_node n;
static char why[256];

static bool parse(const char *text)
{
	memset(&n, 0, sizeof(n));
	why[0] = '\0';
	return conninfo_node(text, &n, why, sizeof(why));
}

static void empty_text_is_all_defaults(void **state)
{
	assert_true(parse(" \t "));
	assert_string_equal(n.host, "127.0.0.1");
	assert_int_equal(n.port, 5432);
	assert_string_equal(n.user, "postgres");
	assert_string_equal(n.database, "postgres");
	assert_int_equal(n.secret_kind, SECRET_NONE);
}

static void quoted_values(void **state)
{
	assert_true(parse("host = db1 port=5433 user='a b' password='it\\'s \\\\ =x' dbname=''"));
	assert_string_equal(n.host, "db1");
	assert_int_equal(n.port, 5433);
	assert_string_equal(n.user, "a b");
	assert_string_equal(n.secret, "it's \\ =x");
	assert_int_equal(n.secret_kind, SECRET_PLAIN);
	assert_string_equal(n.database, "");
	assert_true(parse("password=a\\ b host=/run/pg"));
	assert_string_equal(n.secret, "a b");
	assert_string_equal(n.host, "/run/pg");
}

static void a_weight_is_a_small_number(void **state)
{
	assert_true(parse("host=a"));
	assert_int_equal(n.weight, 1);
	assert_true(parse("host=a weight=0"));
	assert_int_equal(n.weight, 0);
	assert_true(parse("postgresql://a/b?weight=1000"));
	assert_int_equal(n.weight, 1000);
	static const char *const wrong[] = {"weight=1001", "weight=-1", "weight=", "weight=''",
	                                    "weight=3x", "weight=0.5"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_false(parse(wrong[i]));
		assert_non_null(strstr(why, "expected a number from 0 to 1000"));
	}
}

static void tls_may_be_direct_and_logins_bound(void **state)
{
	assert_true(parse("host=a"));
	assert_false(n.tls_direct);
	assert_int_equal(n.channel_binding, CHANNEL_BINDING_PREFER);
	assert_true(parse("sslnegotiation=direct channel_binding=require"));
	assert_true(n.tls_direct);
	assert_int_equal(n.channel_binding, CHANNEL_BINDING_REQUIRE);
	assert_true(parse("postgresql://a/b?sslnegotiation=postgres&channel_binding=disable"));
	assert_false(n.tls_direct);
	assert_int_equal(n.channel_binding, CHANNEL_BINDING_DISABLE);
	assert_false(parse("sslnegotiation=tls"));
	assert_non_null(strstr(why, "expected postgres or direct"));
	assert_false(parse("channel_binding="));
	assert_non_null(strstr(why, "expected disable, prefer or require"));
}

static void faults_are_named(void **state)
{
	assert_false(parse("hst=x"));
	assert_non_null(strstr(why, "\"hst\""));
	assert_false(parse("host"));
	assert_string_equal(why, "\"host\" has no value; expected host=…");
	assert_false(parse("host='x"));
	assert_string_equal(why, "the value of host has no closing quote");
	assert_false(parse("port=0"));
	assert_false(parse("port=65536"));
	assert_false(parse("port=5432x"));
	assert_false(parse("port=''"));
	assert_false(parse("host=a,b"));
	assert_false(parse("host=''"));
	assert_false(parse("=x"));
	assert_false(parse("sslmode=on"));
	assert_non_null(strstr(why, "verify-full"));
	assert_true(parse("sslmode=disable"));
	assert_true(n.has_sslmode && n.sslmode == SSLMODE_DISABLE);
	assert_true(parse("sslmode=verify-full sslrootcert=/a sslcert=/b sslkey=/c"));
	assert_int_equal(n.sslmode, SSLMODE_VERIFY_FULL);
	assert_string_equal(n.sslrootcert, "/a");
	assert_string_equal(n.sslcert, "/b");
	assert_string_equal(n.sslkey, "/c");
}

static void too_long_is_refused_not_cut(void **state)
{
	char text[1024];

	memset(text, 'x', sizeof(text));
	memcpy(text, "host=", 5);
	text[5 + 256] = '\0';
	assert_false(parse(text));
	text[5 + 255] = '\0';
	assert_true(parse(text));
	assert_int_equal(strlen(n.host), 255);
	text[5 + 255] = 'x';
	text[5 + 256] = 'x';
	text[1000] = '\0';
	assert_false(parse(text));
}

static void uris(void **state)
{
	assert_true(parse("postgresql://bob:s%40c%2Fret@db1:5433/shop?sslmode=prefer"));
	assert_string_equal(n.host, "db1");
	assert_int_equal(n.port, 5433);
	assert_string_equal(n.user, "bob");
	assert_string_equal(n.secret, "s@c/ret");
	assert_string_equal(n.database, "shop");
	assert_true(parse("postgres://db2"));
	assert_string_equal(n.host, "db2");
	assert_string_equal(n.user, "postgres");
	assert_true(parse("postgresql://[::1]:77/"));
	assert_string_equal(n.host, "::1");
	assert_int_equal(n.port, 77);
	assert_true(parse("postgresql:///d?host=/run/pg&port=9"));
	assert_string_equal(n.host, "/run/pg");
	assert_int_equal(n.port, 9);
	assert_true(parse("postgresql://%2Frun%2Fpg/d"));
	assert_string_equal(n.host, "/run/pg");
	assert_false(parse("postgresql://h/d%4"));
	assert_false(parse("postgresql://h/d%00"));
	assert_false(parse("postgresql://h/d%zz"));
	assert_false(parse("postgresql://h:p/d"));
	assert_false(parse("postgresql://h/d?foo=1"));
	assert_non_null(strstr(why, "\"foo\""));
	assert_true(parse("postgresql://h/%64"));
	assert_string_equal(n.database, "d");
}

static void no_truncation_of_a_text_is_unsafe(void **state)
{
	static const char *const texts[] = {
		"host = db1 port=5433 user='a b' password='it\\'s' dbname=x",
		"postgresql://bob:s%40c@[::1]:5433/shop?sslmode=prefer&port=1",
	};

	for (size_t i = 0; i < 2; i++) {
		for (size_t len = 0; len <= strlen(texts[i]); len++) {
			char *copy = strndup(texts[i], len);
			(void)!parse(copy);
			free(copy);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_text_is_all_defaults),
		cmocka_unit_test(quoted_values),
		cmocka_unit_test(a_weight_is_a_small_number),
		cmocka_unit_test(tls_may_be_direct_and_logins_bound),
		cmocka_unit_test(faults_are_named),
		cmocka_unit_test(too_long_is_refused_not_cut),
		cmocka_unit_test(uris),
		cmocka_unit_test(no_truncation_of_a_text_is_unsafe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
