/* SPDX-License-Identifier: PostgreSQL */
#include "sql/cache.h"
#include "sql/shape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct catalog *catalog;
static struct stmt_cache *cache;

static int set_up(void **state)
{
	catalog = catalog_new(100);
	cache = stmt_cache_new(catalog, 16, 16);
	return cache ? 0 : -1;
}

static int tear_down(void **state)
{
	stmt_cache_free(cache);
	catalog_free(catalog);
	return 0;
}

static struct traits traits_of(const char *sql)
{
	return stmt_cache_classify(cache, slice_str(sql));
}

static bool is_read(const char *sql)
{
	return traits_of(sql).flags & TRAIT_READ;
}

static bool same_shape(const char *a, const char *b)
{
	uint8_t out_a[1024], out_b[1024];
	struct shape x = shape_of(slice_str(a), out_a), y = shape_of(slice_str(b), out_b);
	return x.kind == y.kind && slice_eq(x.key, y.key);
}

static enum shape_kind kind_of(const char *sql)
{
	uint8_t out[1024];
	return shape_of(slice_str(sql), out).kind;
}

static void texts_that_differ_in_literals_share_a_shape(void **state)
{
	static const char *const pairs[][2] = {
		{"SELECT abalance FROM pgbench_accounts WHERE aid = 1",
	     "SELECT abalance FROM pgbench_accounts WHERE aid = 12345"},
		{"SELECT 'a'", "SELECT 'it''s'"},
		{"SELECT ''", "SELECT ''''"},
		{"SELECT 1.5", "SELECT 123456789012"},
		{"select x from t where y='a' limit 1;", "select x from t where y='b' limit 2"},
		{"  SELECT 1", "SELECT 2 \n;"},
		{"SELECT 1 /* a */", "/* b */ SELECT 2 -- c"},
		{"SELECT 1; -- x", "SELECT 1"},
		{"UPDATE t SET a = 1, b = '2' WHERE c = -3", "UPDATE t SET a = 4, b = '5' WHERE c = -6"},
		{"SELECT \"Na'me\" FROM t1 WHERE a1=1", "SELECT \"Na'me\" FROM t1 WHERE a1=2"},
	};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (!same_shape(pairs[i][0], pairs[i][1]) || kind_of(pairs[i][0]) != SHAPE_BLANKED)
			fail_msg("%s", pairs[i][0]);
}

static void texts_of_other_tokens_never_share_a_shape(void **state)
{
	static const char *const pairs[][2] = {
		{"SELECT 1", "SELECT '1'"},
		{"SELECT 1", "SELECT 1.5"},
		{"SELECT 1", "SELECT 12345678901"},
		{"SELECT a1", "SELECT a2"},
		{"SELECT $1", "SELECT $2"},
		{"SELECT \"1\"", "SELECT \"2\""},
		{"SELECT 1 FROM t", "SELECT 1  FROM t"},
		{"SELECT 'a' 'b'", "SELECT 'a''b'"},
		{"SELECT 1 FROM t FOR UPDATE", "SELECT 1 FROM t"},
		{"SELECT 1; DELETE FROM t", "SELECT 1"},
		{"SELECT 1;SELECT 2", "SELECT 1;SELECT '2'"},
		{"SELECT 1 -- x\n FROM t", "SELECT 1"},
		{"SELECT 1e5", "SELECT 1e6"},
		{"SELECT \1", "SELECT 1"},
		{"SELECT \3", "SELECT 'a'"},
	};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (same_shape(pairs[i][0], pairs[i][1]))
			fail_msg("%s | %s", pairs[i][0], pairs[i][1]);
}

static void what_is_not_plainly_simple_is_its_own_shape(void **state)
{
	static const char *const texts[] = {
		"SELECT 'a\\'",
		"SELECT E'a'",
		"SELECT e'a'",
		"SELECT B'01'",
		"SELECT X'1F'",
		"SELECT N'a'",
		"SELECT U&'a'",
		"SELECT u&'\\0041'",
		"SELECT $$a$$",
		"SELECT $x$a$x$",
		"SELECT 1e5",
		"SELECT 0x1F",
		"SELECT 1_000",
		"SELECT 1a",
		"SELECT 1..2",
		"SELECT 1.",
		"SELECT .5",
		"SELECT 1.5.2",
		"SELECT 1 /* a */ + 2",
		"SELECT 1 -- a\n + 2",
		"SELECT 'a",
		"SELECT \"a",
		"SELECT 1; SELECT 2",
		"SET a.b = 1",
		"BEGIN",
		"",
		";",
		"(SELECT 1)",
		"EXPLAIN (ANALYZE 0) SELECT 1",
		"COPY t TO STDOUT",
		"SELECTED 1",
		"SELECT $1a",
		"SELECT \x7f",
		"SELECT 1 /* a",
		"SELECT 1$",
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (kind_of(texts[i]) != SHAPE_OWN)
			fail_msg("%s", texts[i]);
}

/* Blanked or not, the cache must say what the classifier says. */
static void the_cache_agrees_with_the_classifier(void **state)
{
	static const char *const pieces[] = {
		"SELECT ",     "a",
		" FROM t",     "'",
		"''",          "\"",
		"1",           "1.5",
		"$1",          "$$",
		"--",          "/*",
		"*/",          "\n",
		" ",           ";",
		"nextval(",    "'s'",
		")",           "(",
		", ",          " FOR UPDATE",
		"E",           "\\",
		"&",           "INSERT INTO t ",
		"VALUES (1)",  "DELETE FROM t",
		"99999999999", ".",
		"::int",       "WITH x AS (",
		"-",           "x",
	};
	uint64_t seed = 42;
	for (int round = 0; round < 30000; round++) {
		char text[256] = "SELECT ";
		size_t len = round % 4 ? 7 : 0;
		for (int n = 1 + round % 9; n; n--) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			const char *piece = pieces[(seed >> 33) % (sizeof(pieces) / sizeof(pieces[0]))];
			memcpy(text + len, piece, strlen(piece));
			len += strlen(piece);
		}
		struct traits direct = classify(slice_of(text, len), catalog);
		struct traits cached = stmt_cache_classify(cache, slice_of(text, len));
		if (direct.flags != cached.flags || direct.binds != cached.binds ||
		    (direct.reason != cached.reason && !(direct.flags & TRAIT_READ)))
			fail_msg("%.*s: %x %x", (int)len, text, direct.flags, cached.flags);
	}
	assert_true(stmt_cache_stats(cache).shapes <= 16);
}

static void changing_literals_hit_one_shape(void **state)
{
	char sql[128];
	for (int i = 1; i < 1000; i++) {
		snprintf(sql, sizeof(sql), "SELECT abalance FROM pgbench_accounts WHERE aid = %d", i);
		assert_true(is_read(sql));
	}
	struct stmt_cache_stats stats = stmt_cache_stats(cache);
	assert_int_equal(stats.shape_misses, 1);
	assert_int_equal(stats.shape_hits, 998);
	assert_int_equal(stats.shapes, 1);
}

/* One shape, and what it does hangs on its literals. */
static void each_text_of_set_config_is_classified(void **state)
{
	for (int i = 0; i < 2; i++) {
		assert_int_equal(traits_of("SELECT set_config('role', 'a', false)").binds, BIND_SET_CONFIG);
		struct traits t = traits_of("SELECT set_config('a.b', 'a', false)");
		assert_true(t.flags & TRAIT_SETS && !(t.flags & TRAIT_BINDS));
		assert_int_equal(traits_of("SELECT set_config('search_path', 'pg_temp', false)").binds,
		                 BIND_SET_CONFIG);
	}
	assert_int_equal(stmt_cache_stats(cache).shapes, 1);
}

static void set_config_of_the_user_is_not_ours(void **state)
{
	assert_true(traits_of("SELECT set_config('a.b', 'a', false)").flags & TRAIT_SETS);
	catalog_load_begin(catalog);
	assert_true(catalog_load_add(catalog, slice_str("set_config"), true));
	assert_true(catalog_load_commit(catalog));
	assert_false(traits_of("SELECT set_config('a.b', 'a', false)").flags & TRAIT_SETS);
}

static void the_comment_is_told_for_each_text_of_a_shape(void **state)
{
	assert_false(traits_of("SELECT 1").flags & TRAIT_COMMENTED);
	assert_true(traits_of("SELECT 2 /*tidemark_session='u'*/").flags & TRAIT_COMMENTED);
	assert_false(traits_of("SELECT 3").flags & TRAIT_COMMENTED);
	assert_true(traits_of("-- a\nSET x.y = 1").flags & TRAIT_COMMENTED);
	assert_false(traits_of("SET x.y = 1").flags & TRAIT_COMMENTED);
}

static void a_shape_that_is_in_use_survives_a_flood(void **state)
{
	char sql[64];
	for (int i = 0; i < 500; i++) {
		assert_true(is_read("SELECT hot FROM t"));
		snprintf(sql, sizeof(sql), "SELECT cold%d FROM t", i);
		assert_true(is_read(sql));
	}
	struct stmt_cache_stats stats = stmt_cache_stats(cache);
	assert_int_equal(stats.shapes, 16);
	assert_int_equal(stats.shape_misses, 501);
}

static void a_new_catalog_classifies_again(void **state)
{
	assert_false(is_read("SELECT mine(1)"));
	catalog_load_begin(catalog);
	assert_true(catalog_load_add(catalog, slice_str("mine"), false));
	assert_true(catalog_load_commit(catalog));
	assert_true(is_read("SELECT mine(2)"));
	catalog_invalidate(catalog);
	assert_false(is_read("SELECT mine(3)"));
	assert_int_equal(stmt_cache_stats(cache).shapes, 1);
}

static void a_refused_shape_stays_away_until_the_catalog_changes(void **state)
{
	struct stmt *s = stmt_get(cache, slice_str("SELECT * FROM v WHERE a = 1"), (struct slice){0});
	assert_true(stmt_traits(cache, s).flags & TRAIT_READ);
	stmt_cache_refuse(cache, slice_str("SELECT * FROM v WHERE a = 2"));
	struct traits t = traits_of("SELECT * FROM v WHERE a = 3");
	assert_false(t.flags & TRAIT_READ);
	assert_true(t.flags & TRAIT_MAY_WRITE);
	assert_int_equal(t.reason, REASON_REFUSED_BEFORE);
	assert_int_equal(stmt_traits(cache, s).reason, REASON_REFUSED_BEFORE);
	assert_true(is_read("SELECT * FROM w WHERE a = 3"));
	catalog_load_begin(catalog);
	assert_true(catalog_load_commit(catalog));
	assert_true(is_read("SELECT * FROM v WHERE a = 4"));
	assert_true(stmt_traits(cache, s).flags & TRAIT_READ);
	stmt_put(cache, s);
}

static void a_long_text_is_classified_but_not_kept(void **state)
{
	size_t len = SHAPE_TEXT_MAX + 1;
	char *sql = malloc(len);
	memset(sql, ' ', len);
	memcpy(sql, "SELECT 1", 8);
	struct slice text = slice_of(sql, len);
	assert_true(stmt_cache_classify(cache, text).flags & TRAIT_READ);
	assert_int_equal(stmt_cache_stats(cache).shapes, 0);
	stmt_cache_refuse(cache, text);
	assert_int_equal(stmt_cache_classify(cache, text).reason, REASON_REFUSED_BEFORE);
	sql[7] = '2';
	assert_true(stmt_cache_classify(cache, text).flags & TRAIT_READ);
	sql[7] = '1';
	catalog_load_begin(catalog);
	assert_true(catalog_load_commit(catalog));
	assert_true(stmt_cache_classify(cache, text).flags & TRAIT_READ);
	free(sql);
}

static void one_text_with_the_same_types_is_one_statement(void **state)
{
	static const uint8_t int4[] = {0, 0, 0, 23}, int8[] = {0, 0, 0, 20};
	struct slice text = slice_str("SELECT $1");
	struct stmt *a = stmt_get(cache, text, slice_of(int4, 4));
	struct stmt *b = stmt_get(cache, text, slice_of(int4, 4));
	struct stmt *c = stmt_get(cache, text, slice_of(int8, 4));
	struct stmt *d = stmt_get(cache, text, (struct slice){0});
	assert_ptr_equal(a, b);
	assert_int_equal(a->refs, 2);
	assert_true(a->id != c->id && a->id != d->id && c->id != d->id);
	assert_int_equal(a->type_count, 1);
	assert_memory_equal(a->types, int4, 4);
	assert_int_equal(a->text_len, 9);
	assert_memory_equal(a->text, "SELECT $1", 9);
	assert_int_equal(stmt_cache_stats(cache).statement_hits, 1);
	stmt_put(cache, a);
	stmt_put(cache, b);
	stmt_put(cache, c);
	stmt_put(cache, d);
	assert_ptr_equal(stmt_get(cache, text, slice_of(int4, 4)), a);
	stmt_put(cache, a);
}

static void types_of_a_broken_length_give_no_statement(void **state)
{
	assert_null(stmt_get(cache, slice_str("SELECT $1"), slice_of("abc", 3)));
}

static void a_statement_in_use_outlives_its_place_in_the_cache(void **state)
{
	struct stmt *kept = stmt_get(cache, slice_str("SELECT 'kept'"), (struct slice){0});
	uint64_t id = kept->id;
	for (int i = 0; i < 100; i++) {
		char sql[32];
		snprintf(sql, sizeof(sql), "SELECT %d", i);
		stmt_put(cache, stmt_get(cache, slice_str(sql), (struct slice){0}));
	}
	assert_int_equal(stmt_cache_stats(cache).statements, 16);
	assert_false(kept->cached);
	assert_memory_equal(kept->text, "SELECT 'kept'", 13);
	assert_true(stmt_traits(cache, kept).flags & TRAIT_READ);
	struct stmt *again = stmt_get(cache, slice_str("SELECT 'kept'"), (struct slice){0});
	assert_true(again->id != id);
	stmt_put(cache, again);
	stmt_put(cache, kept);
}

static void the_least_recently_used_statement_goes_first(void **state)
{
	struct slice hot = slice_str("SELECT hot");
	struct stmt *first = stmt_get(cache, hot, (struct slice){0});
	uint64_t id = first->id;
	stmt_put(cache, first);
	for (int i = 0; i < 100; i++) {
		char sql[32];
		snprintf(sql, sizeof(sql), "SELECT %d", i);
		stmt_put(cache, stmt_get(cache, slice_str(sql), (struct slice){0}));
		struct stmt *s = stmt_get(cache, hot, (struct slice){0});
		assert_int_equal(s->id, id);
		stmt_put(cache, s);
	}
}

static void the_bytes_of_statements_are_bounded(void **state)
{
	enum { BIG = 10 * 1024 * 1024 };
	char *text = malloc(BIG);
	memset(text, 'x', BIG);
	for (int i = 0; i < 12; i++) {
		text[0] = (char)('a' + i);
		struct stmt *s = stmt_get(cache, slice_of(text, BIG), (struct slice){0});
		assert_int_equal(s->text_len, BIG);
		stmt_put(cache, s);
	}
	assert_true(stmt_cache_stats(cache).statements <= 6);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_that_differ_in_literals_share_a_shape),
		cmocka_unit_test(texts_of_other_tokens_never_share_a_shape),
		cmocka_unit_test(what_is_not_plainly_simple_is_its_own_shape),
		cmocka_unit_test_setup_teardown(the_cache_agrees_with_the_classifier, set_up, tear_down),
		cmocka_unit_test_setup_teardown(changing_literals_hit_one_shape, set_up, tear_down),
		cmocka_unit_test_setup_teardown(each_text_of_set_config_is_classified, set_up, tear_down),
		cmocka_unit_test_setup_teardown(set_config_of_the_user_is_not_ours, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_comment_is_told_for_each_text_of_a_shape, set_up,
	                                    tear_down),
		cmocka_unit_test_setup_teardown(a_shape_that_is_in_use_survives_a_flood, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_new_catalog_classifies_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_refused_shape_stays_away_until_the_catalog_changes,
	                                    set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_long_text_is_classified_but_not_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_text_with_the_same_types_is_one_statement, set_up,
	                                    tear_down),
		cmocka_unit_test_setup_teardown(types_of_a_broken_length_give_no_statement, set_up,
	                                    tear_down),
		cmocka_unit_test_setup_teardown(a_statement_in_use_outlives_its_place_in_the_cache, set_up,
	                                    tear_down),
		cmocka_unit_test_setup_teardown(the_least_recently_used_statement_goes_first, set_up,
	                                    tear_down),
		cmocka_unit_test_setup_teardown(the_bytes_of_statements_are_bounded, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
