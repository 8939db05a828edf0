/* SPDX-License-Identifier: PostgreSQL */
#include "sql/tags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct tags tags_of(const char *sql)
{
	struct tags t;
	tags_parse(slice_str(sql), &t);
	return t;
}

static void expect_strip(const char *sql, const char *core, bool commented)
{
	bool had;
	struct slice s = sql_strip_comments(slice_str(sql), &had);
	if (!slice_eq_str(s, core) || had != commented)
		fail_msg("%s: got \"%.*s\", %d", sql, SLICE_ARG(s), had);
	assert_true(s.len == 0 || (s.ptr >= (const uint8_t *)sql &&
	                           s.ptr + s.len <= (const uint8_t *)sql + strlen(sql)));
}

static void comments_at_the_ends_are_stripped(void **state)
{
	expect_strip("SELECT 1", "SELECT 1", false);
	expect_strip("  SELECT 1 \n", "SELECT 1", false);
	expect_strip("/* a */ SELECT 1", "SELECT 1", true);
	expect_strip("-- a\nSELECT 1", "SELECT 1", true);
	expect_strip("--\nSELECT 1", "SELECT 1", true);
	expect_strip("SELECT 1 -- a", "SELECT 1", true);
	expect_strip("SELECT 1 --a\n-- b\n", "SELECT 1", true);
	expect_strip("SELECT 1/* a */", "SELECT 1", true);
	expect_strip("SELECT 1 /* a */;", "SELECT 1", true);
	expect_strip("SELECT 1; /* a */ ; ", "SELECT 1", true);
	expect_strip("/* a /* b */ c */ SELECT 1 /* d /* e */ */", "SELECT 1", true);
	expect_strip("/* a */ -- b\n /* c */ SELECT 1 /* d */ -- e", "SELECT 1", true);
	expect_strip("/* a */", "", true);
	expect_strip("", "", false);
	expect_strip(" ", "", false);
}

static void comments_inside_stay(void **state)
{
	expect_strip("SELECT /* a */ 1", "SELECT /* a */ 1", false);
	expect_strip("SELECT 1 /* a */ + 2 /* b */", "SELECT 1 /* a */ + 2", true);
	expect_strip("SELECT 1 -- a\n + 2", "SELECT 1 -- a\n + 2", false);
}

static void what_looks_like_a_comment_inside_quotes_is_none(void **state)
{
	expect_strip("SELECT '/* a */'", "SELECT '/* a */'", false);
	expect_strip("SELECT '-- a'", "SELECT '-- a'", false);
	expect_strip("SELECT \"-- a\"", "SELECT \"-- a\"", false);
	expect_strip("SELECT 'it''s' -- a", "SELECT 'it''s'", true);
	expect_strip("SELECT 'a -- b\n' -- c", "SELECT 'a -- b\n'", true);
	expect_strip("SELECT E'\\' -- a'", "SELECT E'\\' -- a'", false);
	expect_strip("SELECT e'\\'' -- a", "SELECT e'\\''", true);
	expect_strip("SELECT '\\' -- a", "SELECT '\\'", true);
	expect_strip("SELECT $$ -- a $$", "SELECT $$ -- a $$", false);
	expect_strip("SELECT $x$ $$ -- a $x$ -- b", "SELECT $x$ $$ -- a $x$", true);
	expect_strip("SELECT $1 -- a", "SELECT $1", true);
	expect_strip("SELECT a$b$c -- a", "SELECT a$b$c", true);
}

static void an_unterminated_comment_gives_the_text_unchanged(void **state)
{
	expect_strip("/* a SELECT 1", "/* a SELECT 1", false);
	expect_strip(" /* a /* b */ SELECT 1", " /* a /* b */ SELECT 1", false);
	expect_strip("SELECT 1 /* a /* b */", "SELECT 1 /* a /* b */", false);
}

static void tags_are_read_at_both_ends(void **state)
{
	struct tags t = tags_of("SELECT 1 /*tidemark_session='u42',tidemark_consistency='strong'*/");
	assert_true(t.present);
	assert_false(t.malformed);
	assert_string_equal(t.session, "u42");
	assert_string_equal(t.consistency, "strong");
	assert_string_equal(t.read_after, "");
	t = tags_of("/*tidemark_read_after='a-_.b'*/ SELECT 1");
	assert_string_equal(t.read_after, "a-_.b");
	t = tags_of("/* tidemark_session = 'a' */ SELECT 1 -- tidemark_consistency='eventual'");
	assert_string_equal(t.session, "a");
	assert_string_equal(t.consistency, "eventual");
	t = tags_of("SELECT 1 /*tidemark_session='a'*/;");
	assert_string_equal(t.session, "a");
}

static void tags_of_others_are_passed_over(void **state)
{
	struct tags t = tags_of(
		"SELECT 1 /*action='%2Fparam*d',db_driver='x',"
		"tidemark_session='a%20b%27c',traceparent='00-5b-01'*/");
	assert_true(t.present && !t.malformed);
	assert_string_equal(t.session, "a b'c");
	t = tags_of("SELECT 1 /*route='%2Fusers'*/");
	assert_false(t.present || t.malformed);
	t = tags_of("SELECT 1 /* just a remark */");
	assert_false(t.present || t.malformed);
	t = tags_of("SELECT 1 /*tidemark_unknown='x'*/");
	assert_false(t.present);
}

static void an_escaped_quote_belongs_to_the_value(void **state)
{
	assert_string_equal(tags_of("SELECT 1 /*tidemark_session='a\\'b'*/").session, "a'b");
}

static void a_tag_anywhere_else_is_no_tag(void **state)
{
	assert_false(tags_of("SELECT '/*tidemark_session=''u''*/'").present);
	assert_false(tags_of("SELECT /*tidemark_session='u'*/ 1").present);
	assert_false(tags_of("SELECT \"/*tidemark_session='u'*/\"").present);
	assert_false(tags_of("SELECT $$ /*tidemark_session='u'*/ $$").present);
	assert_false(tags_of("SELECT 1 /* see tidemark_session='u' */").present);
}

static void an_unreadable_value_is_malformed(void **state)
{
	static const char *const bad[] = {
		"SELECT 1 /*tidemark_session='%4'*/",
		"SELECT 1 /*tidemark_session='%zz'*/",
		"SELECT 1 /*tidemark_session=''*/",
		"SELECT 1 /*tidemark_session=u*/",
		"SELECT 1 /*tidemark_session='u*/",
		"SELECT 1 /*tidemark_session*/",
		"SELECT 1 /*tidemark_session='%00'*/",
		"SELECT 1 /*tidemark_consistency='a-much-too-long-one'*/",
		"SELECT 1 /*tidemark_session='a' b*/",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!tags_of(bad[i]).malformed)
			fail_msg("%s", bad[i]);
}

static void a_value_of_the_greatest_length_fits(void **state)
{
	char sql[400];
	char value[TAG_VALUE_MAX + 1];
	memset(value, 'x', sizeof(value));
	snprintf(sql, sizeof(sql), "SELECT 1 /*tidemark_session='%.*s'*/", TAG_VALUE_MAX - 1, value);
	struct tags t = tags_of(sql);
	assert_true(t.present && !t.malformed);
	assert_int_equal(strlen(t.session), TAG_VALUE_MAX - 1);
	snprintf(sql, sizeof(sql), "SELECT 1 /*tidemark_session='%.*s'*/", TAG_VALUE_MAX, value);
	assert_true(tags_of(sql).malformed);
}

static void no_cut_and_no_flipped_bit_does_harm(void **state)
{
	static const char text[] =
		"/*tidemark_session='a%20\\'b',x='y'*/ SELECT 'a', $x$b$x$, E'\\'' "
		"/* c /* d */ */ , \"e\" -- f\n /*tidemark_consistency='strong'*/;";
	for (size_t cut = 0; cut < sizeof(text); cut++) {
		uint8_t *copy = malloc(cut + 1);
		memcpy(copy, text, cut);
		struct tags t;
		tags_parse(slice_of(copy, cut), &t);
		for (size_t bit = 0; bit < cut * 8; bit++) {
			copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
			tags_parse(slice_of(copy, cut), &t);
			copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comments_at_the_ends_are_stripped),
		cmocka_unit_test(comments_inside_stay),
		cmocka_unit_test(what_looks_like_a_comment_inside_quotes_is_none),
		cmocka_unit_test(an_unterminated_comment_gives_the_text_unchanged),
		cmocka_unit_test(tags_are_read_at_both_ends),
		cmocka_unit_test(tags_of_others_are_passed_over),
		cmocka_unit_test(an_escaped_quote_belongs_to_the_value),
		cmocka_unit_test(a_tag_anywhere_else_is_no_tag),
		cmocka_unit_test(an_unreadable_value_is_malformed),
		cmocka_unit_test(a_value_of_the_greatest_length_fits),
		cmocka_unit_test(no_cut_and_no_flipped_bit_does_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
