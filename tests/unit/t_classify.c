/* SPDX-License-Identifier: PostgreSQL */
#include "sql/classify.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct catalog *catalog;

static int make_catalog(void **state)
{
	classify_thread_init();
	catalog = catalog_new(100);
	catalog_load_begin(catalog);
	catalog_load_add(catalog, slice_str("stable_function"), false);
	catalog_load_add(catalog, slice_str("volatile_function"), true);
	catalog_load_add(catalog, slice_str("!watched_table"), true);
	catalog_load_add(catalog, slice_str("=@@@"), true);
	catalog_load_add(catalog, slice_str("@some_sequence"), true);
	catalog_load_add(catalog, slice_str("@some_unlogged_table"), true);
	return catalog_load_commit(catalog) ? 0 : -1;
}

static int drop_catalog(void **state)
{
	catalog_free(catalog);
	return 0;
}

/* State that no parser sees being made: the server session is asked about it, and about settings and locks only
 * where code of the database, or of the statement, may change them. */
static const struct {
	const char *sql;
	bool code, sets;
} unseen[] = {
	{"SELECT 1", false, false},
	{"SELECT stable_function(1)", false, false},
	{"SELECT nextval('s')", false, false},
	{"INSERT INTO t VALUES (1)", false, false},
	{"COPY t FROM STDIN", false, false},
	{"SELECT 1 @@ 2", false, false},
	{"EXPLAIN SELECT volatile_function()", false, false},
	{"SELECT volatile_function(1)", true, false},
	{"EXPLAIN ANALYZE SELECT volatile_function()", true, false},
	{"DECLARE c CURSOR FOR SELECT volatile_function()", true, false},
	{"INSERT INTO watched_table VALUES (1)", true, false},
	{"COPY watched_table FROM STDIN", true, false},
	{"SELECT 1 @@@ 2", true, false},
	{"SELECT 1 OPERATOR(public.@@@) 2", true, false},
	{"CALL volatile_function()", true, false},
	{"CALL made_since()", true, true},
	{"SELECT made_since(1)", true, true},
	{"SELECT lo_made_since(1)", true, true},
	{"SELECT lo_unlink(1)", false, false},
	{"SELECT query_to_xml($1, true, true, $2)", true, true},
	{"TRUNCATE t", true, false},
	{"CREATE TABLE x (a int)", true, false},
	{"SELECT 1; SELECT volatile_function(1)", true, false},
	{"DO 'BEGIN END'", true, true},
	{"NEWER SYNTAX", true, true},
};

static void what_may_leave_state_unseen_is_marked(void **state)
{
	for (size_t i = 0; i < sizeof(unseen) / sizeof(unseen[0]); i++) {
		uint32_t flags = classify(slice_str(unseen[i].sql), catalog).flags;
		if (!!(flags & TRAIT_USER_CODE) != unseen[i].code ||
		    !!(flags & TRAIT_CODE_SETS) != unseen[i].sets)
			fail_msg("%s: %s%s", unseen[i].sql, flags & TRAIT_USER_CODE ? "code " : "",
			         flags & TRAIT_CODE_SETS ? "sets" : "");
	}
}

/* docs/classification.md */

static const struct {
	const char *word;
	uint32_t flag;
	bool inverted;
} words[] = {
	{"begin", TRAIT_TX_BEGIN, false},
	{"copy", TRAIT_COPY, false},
	{"ddl", TRAIT_DDL, false},
	{"deallocate", TRAIT_DEALLOCATE, false},
	{"deallocate_all", TRAIT_DEALLOCATE_ALL, false},
	{"discard_all", TRAIT_DISCARD_ALL, false},
	{"empty", TRAIT_EMPTY, false},
	{"end", TRAIT_TX_END, false},
	{"inside", TRAIT_ROUTER_INSIDE, false},
	{"multi", TRAIT_MULTI, false},
	{"new-process", TRAIT_NEW_PROCESS, false},
	{"partial", TRAIT_TX_PARTIAL, false},
	{"sequences", TRAIT_ASKS_SEQUENCES, false},
	{"sets", TRAIT_SETS, false},
	{"time", TRAIT_SHOWS_TIME, false},
	{"uncapturable", TRAIT_CAPTURABLE, true},
	{"write", TRAIT_MAY_WRITE, false},
};

static bool has_word(struct slice list, const char *word)
{
	while (list.len) {
		const uint8_t *space = memchr(list.ptr, ' ', list.len);
		size_t len = space ? (size_t)(space - list.ptr) : list.len;
		if (slice_eq_str(slice_of(list.ptr, len), word))
			return true;
		list = slice_from(list, len + 1);
	}
	return false;
}

static bool target_agrees(struct traits t, struct slice target)
{
	if (t.flags & TRAIT_ROUTER)
		return slice_eq_str(target, "router");
	if (t.flags & TRAIT_READ)
		return slice_eq_str(target, "replica");
	char expected[64];
	snprintf(expected, sizeof(expected), "primary: %s", route_reason_name(t.reason));
	return slice_eq_str(target, expected);
}

static bool words_agree(struct traits t, struct slice also)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		bool set = (t.flags & words[i].flag) != 0;
		if (has_word(also, words[i].word) != (set != words[i].inverted)) {
			print_error("  word: %s\n", words[i].word);
			return false;
		}
	}
	char binds[64];
	snprintf(binds, sizeof(binds), "binds:%s", bind_reason_name(t.binds));
	if (t.flags & TRAIT_BINDS)
		return has_word(also, binds);
	return t.binds == BIND_NONE && !(also.len && memmem(also.ptr, also.len, "binds:", 6));
}

static struct slice trim(struct slice s)
{
	while (s.len && s.ptr[0] == ' ')
		s = slice_from(s, 1);
	while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\n'))
		s.len--;
	return s;
}

/* "| `SQL` | target | also |" */
static bool parse_row(const char *line, struct slice *sql, struct slice *target, struct slice *also)
{
	if (strncmp(line, "| `", 3) != 0)
		return false;
	const char *sql_end = strstr(line + 3, "` | ");
	const char *bar = sql_end ? strchr(sql_end + 4, '|') : NULL;
	const char *end = bar ? strchr(bar + 1, '|') : NULL;
	if (!end)
		return false;
	*sql = slice_of(line + 3, (size_t)(sql_end - line - 3));
	*target = trim(slice_of(sql_end + 4, (size_t)(bar - sql_end - 4)));
	*also = trim(slice_of(bar + 1, (size_t)(end - bar - 1)));
	return true;
}

/* Found from this file's own name, which the build gives relative to where it runs the tests. */
static FILE *open_document(void)
{
	static const char here[] = "tests/unit/t_classify.c";
	static const char doc[] = "docs/classification.md";
	char path[4096];
	size_t root = strlen(__FILE__) - strlen(here);
	snprintf(path, sizeof(path), "%.*s%s", (int)root, __FILE__, doc);
	return fopen(path, "r");
}

static void every_row_of_the_document_is_true(void **state)
{
	FILE *doc = open_document();
	assert_non_null(doc);
	char line[512];
	int rows = 0, wrong = 0;
	while (fgets(line, sizeof(line), doc)) {
		struct slice sql, target, also;
		if (!parse_row(line, &sql, &target, &also))
			continue;
		rows++;
		struct traits t = classify(sql, catalog);
		if (target_agrees(t, target) && words_agree(t, also))
			continue;
		wrong++;
		print_error("%sis %s, flags %x, binds %s\n", line,
		            t.flags & TRAIT_READ ? "replica" : route_reason_name(t.reason), t.flags,
		            bind_reason_name(t.binds));
	}
	fclose(doc);
	assert_int_equal(wrong, 0);
	assert_true(rows > 150);
}

/* the rest */

static struct traits traits_of_text(const char *sql)
{
	return classify(slice_str(sql), catalog);
}

static bool is_read(const char *sql)
{
	return traits_of_text(sql).flags & TRAIT_READ;
}

static void without_a_catalog_only_built_in_functions_are_safe(void **state)
{
	struct catalog *empty = catalog_new(100);
	assert_true(classify(slice_str("SELECT lower(a) FROM t"), empty).flags & TRAIT_READ);
	assert_false(classify(slice_str("SELECT stable_function(1)"), empty).flags & TRAIT_READ);
	catalog_free(empty);
}

static void a_write_is_found_wherever_an_expression_may_stand(void **state)
{
	static const char *const holes[] = {
		"SELECT %s",
		"SELECT 1 WHERE %s",
		"SELECT 1 FROM t JOIN u ON %s",
		"SELECT 1 GROUP BY %s",
		"SELECT 1 FROM t HAVING %s",
		"SELECT 1 ORDER BY %s",
		"SELECT 1 LIMIT %s",
		"SELECT 1 OFFSET %s",
		"SELECT DISTINCT ON (%s) 1",
		"SELECT sum(a) FILTER (WHERE %s) FROM t",
		"SELECT sum(%s) FROM t",
		"SELECT string_agg(a, 'b' ORDER BY %s) FROM t",
		"SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY %s) FROM t",
		"SELECT sum(a) OVER (PARTITION BY %s) FROM t",
		"SELECT sum(a) OVER (ORDER BY %s) FROM t",
		"SELECT sum(a) OVER (ROWS %s PRECEDING) FROM t",
		"SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY %s)",
		"SELECT CASE %s WHEN 1 THEN 2 END",
		"SELECT CASE WHEN %s THEN 2 END",
		"SELECT CASE WHEN true THEN %s END",
		"SELECT CASE WHEN true THEN 2 ELSE %s END",
		"SELECT coalesce(1, %s)",
		"SELECT greatest(1, %s)",
		"SELECT nullif(1, %s)",
		"SELECT ARRAY[1, %s]",
		"SELECT ROW(1, %s)",
		"SELECT (1, %s) = (2, 3)",
		"SELECT a[%s] FROM t",
		"SELECT a[1:%s] FROM t",
		"SELECT (%s).field",
		"SELECT %s IS NULL",
		"SELECT %s IS NOT TRUE",
		"SELECT NOT %s",
		"SELECT - %s",
		"SELECT %s::text",
		"SELECT CAST(%s AS text)",
		"SELECT %s COLLATE \"C\"",
		"SELECT %s AT TIME ZONE 'UTC'",
		"SELECT 1 IN (1, %s)",
		"SELECT 1 BETWEEN 0 AND %s",
		"SELECT 'a' LIKE %s",
		"SELECT 'a' SIMILAR TO 'b' ESCAPE %s",
		"SELECT 1 = ANY (%s)",
		"SELECT 1 IS DISTINCT FROM %s",
		"SELECT (SELECT %s)",
		"SELECT EXISTS (SELECT %s)",
		"SELECT 1 IN (SELECT %s)",
		"SELECT %s IN (SELECT 1)",
		"SELECT ARRAY(SELECT %s)",
		"SELECT lower(x => %s)",
		"SELECT concat(VARIADIC %s)",
		"SELECT * FROM (SELECT %s) AS s",
		"SELECT * FROM t, LATERAL (SELECT %s) AS s",
		"SELECT * FROM generate_series(1, %s)",
		"SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(%s))",
		"SELECT * FROM t TABLESAMPLE system (%s)",
		"SELECT * FROM t TABLESAMPLE system (1) REPEATABLE (%s)",
		"SELECT * FROM XMLTABLE('/a' PASSING %s COLUMNS b text)",
		"SELECT * FROM XMLTABLE('/a' PASSING x COLUMNS b text DEFAULT %s)",
		"SELECT xmlelement(NAME a, %s)",
		"SELECT xmlelement(NAME a, xmlattributes(%s AS b))",
		"SELECT xmlforest(%s AS b)",
		"SELECT xmlserialize(CONTENT %s AS text)",
		"SELECT 1 GROUP BY GROUPING SETS ((%s), ())",
		"SELECT 1 GROUP BY CUBE (%s)",
		"VALUES (1, %s)",
		"SELECT 1 UNION SELECT %s",
		"SELECT %s EXCEPT SELECT 1",
		"WITH x AS (SELECT %s) SELECT 1",
		"WITH x AS MATERIALIZED (VALUES (%s)) SELECT 1",
		"EXPLAIN ANALYZE SELECT %s",
		"COPY (SELECT %s) TO STDOUT",
	};
	for (size_t i = 0; i < sizeof(holes) / sizeof(holes[0]); i++) {
		char sql[256];
		snprintf(sql, sizeof(sql), holes[i], "(1)");
		if (!is_read(sql))
			fail_msg("not a read: %s", sql);
		snprintf(sql, sizeof(sql), holes[i], "nextval('s')");
		struct traits t = traits_of_text(sql);
		if ((t.flags & TRAIT_READ) || !(t.flags & TRAIT_MAY_WRITE) ||
		    t.reason != REASON_UNSAFE_FUNCTION)
			fail_msg("not seen: %s", sql);
		snprintf(sql, sizeof(sql), holes[i], "(SELECT 1 FROM t FOR SHARE)");
		if (traits_of_text(sql).reason != REASON_LOCKING)
			fail_msg("lock not seen: %s", sql);
	}
}

static void a_window_clause_called_last_value_is_no_sequence(void **state)
{
	assert_true(is_read("SELECT last_value(x) OVER () FROM t"));
	assert_false(is_read("SELECT is_called FROM s"));
	assert_false(is_read("SELECT s.log_cnt FROM s"));
}

static void the_reason_is_that_of_the_first_statement_that_is_no_read(void **state)
{
	assert_int_equal(traits_of_text("SELECT 1; SELECT nextval('s'); DELETE FROM t").reason,
	                 REASON_UNSAFE_FUNCTION);
	assert_int_equal(traits_of_text("SELECT 1; COPY t FROM STDIN").reason, REASON_WRITE);
}

static void a_copy_in_anywhere_forbids_the_capture(void **state)
{
	assert_false(traits_of_text("UPDATE t SET a = 1; COPY t FROM STDIN").flags & TRAIT_CAPTURABLE);
	assert_false(traits_of_text("COPY t FROM STDIN; UPDATE t SET a = 1").flags & TRAIT_CAPTURABLE);
}

static void a_text_that_ends_its_transaction_is_closed(void **state)
{
	static const struct {
		const char *text;
		bool closed;
	} texts[] = {
		{"COMMIT", true},
		{"ROLLBACK", true},
		{"PREPARE TRANSACTION 'x'", true},
		{"BEGIN; INSERT INTO t VALUES (1); COMMIT", true},
		{"INSERT INTO t VALUES (1); END", true},
		{"COMMIT; INSERT INTO t VALUES (1)", true},
		{"BEGIN; COMMIT; BEGIN; SAVEPOINT a; ROLLBACK TO a; COMMIT", true},
		{"INSERT INTO t VALUES (1)", false},
		{"BEGIN", false},
		{"COMMIT; BEGIN", false},
		{"COMMIT AND CHAIN", false},
		{"BEGIN; INSERT INTO t VALUES (1); ROLLBACK AND CHAIN", false},
		{"SAVEPOINT a; ROLLBACK TO a", false},
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal((traits_of_text(texts[i].text).flags & TRAIT_TX_CLOSED) != 0, texts[i].closed);
}

static void comments_at_the_ends_are_noted(void **state)
{
	assert_true(traits_of_text("/* x */ SELECT 1").flags & TRAIT_COMMENTED);
	assert_true(traits_of_text("SELECT 1 /*tidemark_session='u'*/").flags & TRAIT_COMMENTED);
	assert_true(traits_of_text("SELECT 1 -- x").flags & TRAIT_COMMENTED);
	assert_false(traits_of_text("SELECT /* x */ 1").flags & TRAIT_COMMENTED);
	assert_false(traits_of_text("SELECT '/* x */'").flags & TRAIT_COMMENTED);
	assert_true(traits_of_text("not sql /* x */").flags & TRAIT_COMMENTED);
}

static void only_commands_are_free_of_results(void **state)
{
	static const char *const free_of[] = {"BEGIN",
	                                      "SET a.b = 1",
	                                      "CREATE TABLE t ()",
	                                      "DISCARD ALL",
	                                      "SET tidemark.session = 'x'",
	                                      "LISTEN c",
	                                      "BEGIN; COMMIT"};
	static const char *const has[] = {"SELECT 1",
	                                  "SHOW work_mem",
	                                  "EXPLAIN CREATE TABLE t AS SELECT 1",
	                                  "EXECUTE p",
	                                  "FETCH c",
	                                  "CALL p()",
	                                  "SHOW tidemark.token",
	                                  "BEGIN; SELECT 1; COMMIT",
	                                  "COPY t TO STDOUT"};
	for (size_t i = 0; i < sizeof(free_of) / sizeof(free_of[0]); i++)
		assert_true(traits_of_text(free_of[i]).flags & TRAIT_RESULT_FREE);
	for (size_t i = 0; i < sizeof(has) / sizeof(has[0]); i++)
		assert_false(traits_of_text(has[i]).flags & TRAIT_RESULT_FREE);
}

static void a_zero_byte_is_not_parsed(void **state)
{
	struct traits t = classify(slice_of("SELECT 1\0; DROP TABLE t", 23), catalog);
	assert_int_equal(t.reason, REASON_UNPARSABLE);
	assert_false(t.flags & TRAIT_CAPTURABLE);
}

static void a_description_names_target_and_reason(void **state)
{
	char out[256];
	traits_describe(traits_of_text("SELECT 1"), out, sizeof(out));
	assert_string_equal(out, "replica: plain read");
	traits_describe(traits_of_text("SHOW tidemark.token"), out, sizeof(out));
	assert_memory_equal(out, "router: ", 8);
	traits_describe(traits_of_text("SELECT pg_advisory_lock(1)"), out, sizeof(out));
	assert_memory_equal(out, "primary: ", 9);
	assert_non_null(strstr(out, "advisory_lock"));
}

/* SET and its kin */

struct seen {
	int count;
	struct set_stmt all[8];
	char texts[8][128];
};

static void see(void *arg, const struct set_stmt *s)
{
	struct seen *seen = arg;
	assert_true(seen->count < 8);
	seen->all[seen->count] = *s;
	snprintf(seen->texts[seen->count], sizeof(seen->texts[0]), "%.*s", SLICE_ARG(s->text));
	seen->count++;
}

static struct seen settings_of(const char *sql)
{
	struct seen seen = {0};
	assert_true(classify_settings(slice_str(sql), see, &seen));
	return seen;
}

static void expect_set(const char *sql, enum set_kind kind, const char *name, const char *value)
{
	struct seen seen = settings_of(sql);
	if (seen.count != 1 || seen.all[0].kind != kind || strcmp(seen.all[0].name, name) != 0 ||
	    seen.all[0].value_ok != (value != NULL) ||
	    strcmp(seen.all[0].value, value ? value : "") != 0)
		fail_msg("%s: %d, kind %d, %s = %s", sql, seen.count, seen.all[0].kind, seen.all[0].name,
		         seen.all[0].value);
}

static void the_particulars_of_a_set_are_told(void **state)
{
	expect_set("SET Work_Mem = '1MB'", SET_VALUE, "work_mem", "1MB");
	expect_set("SET work_mem TO 4096", SET_VALUE, "work_mem", "4096");
	expect_set("SET x.y = -1.5", SET_VALUE, "x.y", "-1.5");
	expect_set("SET enable_seqscan = off", SET_VALUE, "enable_seqscan", "off");
	expect_set("SET enable_seqscan = true", SET_VALUE, "enable_seqscan", "true");
	expect_set("SET search_path = a, 'B', \"C\"", SET_VALUE, "search_path", "a, B, C");
	expect_set("SET TIME ZONE 'UTC'", SET_VALUE, "timezone", "UTC");
	expect_set("SET TIME ZONE INTERVAL '1' HOUR", SET_VALUE, "timezone", NULL);
	expect_set("SET TIME ZONE LOCAL", SET_RESET, "timezone", NULL);
	expect_set("SET NAMES 'latin1'", SET_VALUE, "client_encoding", "latin1");
	expect_set("SET a.b TO DEFAULT", SET_RESET, "a.b", NULL);
	expect_set("RESET work_mem", SET_RESET, "work_mem", NULL);
	expect_set("RESET ALL", SET_RESET_ALL, "", NULL);
	expect_set("SET LOCAL work_mem = 1", SET_LOCAL, "work_mem", "1");
	expect_set("SET tidemark.session = 'User 42'", SET_VALUE, "tidemark.session", "User 42");
	expect_set("SET LOCAL tidemark.consistency = strong", SET_LOCAL, "tidemark.consistency",
	           "strong");
	expect_set("SHOW tidemark.token", SET_SHOW, "tidemark.token", NULL);
	expect_set("DEALLOCATE \"Plan\"", SET_DEALLOCATE, "Plan", NULL);
	expect_set("DEALLOCATE ALL", SET_DEALLOCATE, "", NULL);
}

static void what_cannot_be_replayed_is_not_told(void **state)
{
	assert_int_equal(settings_of("SET ROLE x").count, 0);
	assert_int_equal(settings_of("SET SESSION AUTHORIZATION x").count, 0);
	assert_int_equal(settings_of("SET TRANSACTION READ ONLY").count, 0);
	assert_int_equal(settings_of("SET transaction_isolation = serializable").count, 0);
	assert_int_equal(settings_of("SHOW work_mem").count, 0);
}

static void each_set_of_a_text_has_its_own_text(void **state)
{
	struct seen seen = settings_of(" SET a.a = 1 ;\n SELECT 2; RESET b.b;SET c.c = 'x;y' ; ");
	assert_int_equal(seen.count, 3);
	assert_string_equal(seen.texts[0], "SET a.a = 1");
	assert_string_equal(seen.texts[1], "RESET b.b");
	assert_string_equal(seen.texts[2], "SET c.c = 'x;y'");
	assert_int_equal(seen.all[0].nth, 0);
	assert_int_equal(seen.all[1].nth, 2);
	assert_int_equal(seen.all[2].nth, 3);
}

static void session_characteristics_are_defaults(void **state)
{
	struct seen seen = settings_of("SELECT 1; SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, "
	                               "ISOLATION LEVEL REPEATABLE READ, NOT DEFERRABLE; RESET a");
	assert_int_equal(seen.count, 4);
	assert_string_equal(seen.all[0].name, "default_transaction_read_only");
	assert_string_equal(seen.texts[0], "SET default_transaction_read_only = '1'");
	assert_string_equal(seen.texts[1], "SET default_transaction_isolation = 'repeatable read'");
	assert_string_equal(seen.texts[2], "SET default_transaction_deferrable = '0'");
	for (int i = 0; i < 3; i++)
		assert_true(seen.all[i].nth == 1 && seen.all[i].kind == SET_VALUE && seen.all[i].value_ok);
	assert_int_equal(seen.all[3].nth, 2);
	assert_int_equal(settings_of("SET LOCAL transaction_isolation = 'serializable'").count, 0);
}

static void set_config_is_told_as_a_set(void **state)
{
	struct seen seen = settings_of("SELECT set_config('App.Who', 'O''Neil \\', false) AS who, "
	                               "pg_catalog.set_config('search_path', 'a, b', false)");
	assert_int_equal(seen.count, 2);
	assert_string_equal(seen.all[0].name, "app.who");
	assert_string_equal(seen.all[0].value, "O'Neil \\");
	assert_string_equal(seen.texts[0],
	                    "SELECT WHERE pg_catalog.set_config('app.who', 'O''Neil \\', false) IS NULL");
	assert_string_equal(seen.texts[1],
	                    "SELECT WHERE pg_catalog.set_config('search_path', 'a, b', false) IS NULL");
	static const char *const others[] = {
		"SELECT set_config('a.b', 'c', true)",
		"SELECT set_config('a.b', NULL, false)",
		"SELECT set_config('a.b', $1, false)",
		"SELECT set_config('a.b', 'c', false), 1",
		"SELECT set_config('a.b', 'c', false) FROM t",
		"SELECT set_config('a.b', 'c', false) WHERE x",
		"SELECT set_config('a.b', 'c', false) LIMIT 0",
		"SELECT DISTINCT set_config('a.b', 'c', false)",
		"SELECT set_config('a.b', 'c', false) UNION SELECT 'x'",
		"SELECT mine.set_config('a.b', 'c', false)",
		"SELECT upper(set_config('a.b', 'c', false))",
		"SELECT set_config('a b', 'c', false)",
		"SELECT set_config('a''b', 'c', false)",
		"SELECT set_config('role', 'c', false)",
		"SELECT set_config('tidemark.session', 'c', false)",
		"SELECT set_config('standard_conforming_strings', 'off', false)",
		"SELECT set_config('search_path', '  \"pg_temp\"', false)",
		"SELECT set_config(VARIADIC ARRAY['a.b', 'c', false])",
		"EXPLAIN ANALYZE SELECT set_config('a.b', 'c', false)",
	};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(settings_of(others[i]).count, 0);
		assert_false(traits_of_text(others[i]).flags & TRAIT_SETS);
	}
	char sql[1200] = "SELECT set_config('a.b', '";
	size_t at = strlen(sql);
	memset(sql + at, 'x', 1025);
	memcpy(sql + at + 1025, "', false)", 10);
	assert_int_equal(settings_of(sql).count, 0);
	assert_int_equal(traits_of_text(sql).binds, BIND_SET_CONFIG);
}

static void a_name_that_does_not_fit_binds(void **state)
{
	char sql[256] = "SET a.";
	memset(sql + 6, 'b', 100);
	memcpy(sql + 106, " = 1", 5);
	assert_int_equal(traits_of_text(sql).binds, BIND_SETTINGS);
	assert_int_equal(settings_of(sql).count, 0);
}

static void a_value_that_does_not_fit_is_said_so(void **state)
{
	char sql[2600] = "SET a.b = '";
	memset(sql + 11, 'x', 2400);
	memcpy(sql + 2411, "'", 2);
	expect_set(sql, SET_VALUE, "a.b", NULL);
}

static void settings_of_what_cannot_be_parsed_fail(void **state)
{
	struct seen seen = {0};
	assert_false(classify_settings(slice_str("SET SET SET"), see, &seen));
	assert_int_equal(seen.count, 0);
}

/* Depth. Everything below runs in a thread whose stack is what a worker promises. */

struct text {
	char *ptr;
	size_t len;
};

static void text_add(struct text *t, const char *part)
{
	size_t len = strlen(part);
	assert_true(t->len + len <= CLASSIFY_TEXT_MAX + 4096);
	memcpy(t->ptr + t->len, part, len);
	t->len += len;
}

/* begin (open)* middle (close)* end, as often as fits into `limit`. */
static void text_nest(struct text *t, const char *const part[5], size_t limit)
{
	size_t fixed = strlen(part[0]) + strlen(part[2]) + strlen(part[4]);
	size_t n = (limit - fixed) / (strlen(part[1]) + strlen(part[3]));
	t->len = 0;
	text_add(t, part[0]);
	for (size_t i = 0; i < n; i++)
		text_add(t, part[1]);
	text_add(t, part[2]);
	for (size_t i = 0; i < n; i++)
		text_add(t, part[3]);
	text_add(t, part[4]);
}

static const char *const nests[][5] = {
	{"SELECT 1", "+1", "", "", ""},
	{"SELECT ", "(", "1", ")", ""},
	{"SELECT ", "-", "1", "", ""},
	{"SELECT ", "- ", "1", "", ""},
	{"SELECT ", "NOT ", "true", "", ""},
	{"SELECT a", "[1]", "", "", ""},
	{"SELECT a", "::b", "", "", ""},
	{"SELECT a", ".b", "", "", ""},
	{"SELECT a", " IS NULL", "", "", ""},
	{"SELECT a", " COLLATE b", "", "", ""},
	{"SELECT 1", " AND 1", "", "", ""},
	{"SELECT 1", " OR (1 AND 1", "", ")", ""},
	{"SELECT 1", " UNION SELECT 1", "", "", ""},
	{"SELECT 1", ", 1", "", "", ""},
	{"SELECT ", "(SELECT ", "1", ")", ""},
	{"SELECT * FROM ", "(SELECT * FROM ", "t", ") a", ""},
	{"", "(", "SELECT 1", ")", ""},
	{"SELECT ", "CASE WHEN ", "true", " THEN 1 END", ""},
	{"SELECT ", "ARRAY[", "1", "]", ""},
	{"SELECT ", "ROW(", "1", ")", ""},
	{"SELECT ", "lower(", "a", ")", ""},
	{"SELECT ", "coalesce(1, ", "a", ")", ""},
	{"SELECT ", "EXISTS(SELECT ", "a", ")", ""},
	{"SELECT * FROM t", " JOIN t USING (a)", "", "", ""},
	{"SELECT * FROM t", ", t", "", "", ""},
	{"SELECT * FROM ", "(t JOIN ", "t", " ON true)", ""},
	{"", "WITH a AS (", "SELECT 1", ") SELECT 1", ""},
	{"VALUES (1)", ",(1)", "", "", ""},
	{"SELECT 1", ";SELECT 1", "", "", ""},
	{"SELECT 1 /*", "/*", "", "*/", "*/"},
	{"SELECT 1 WHERE a IN (1", ",1", ")", "", ""},
	/* The parser's own recursive walk is in these error messages. */
	{"(SELECT 1 LIMIT 1) LIMIT 1", "+1", "", "", ""},
	{"(SELECT 1 LIMIT 1", "+1", ") LIMIT 1", "", ""},
	{"(SELECT 1 OFFSET 1", "+1", ") OFFSET 1", "", ""},
	{"(SELECT 1 LIMIT a", "::a", ") LIMIT 1", "", ""},
	{"(SELECT 1 LIMIT a", "[1]", ") LIMIT 1", "", ""},
	{"(SELECT 1 LIMIT ", "(SELECT ", "1", ")", ") LIMIT 1"},
	{"CREATE VIEW v AS SELECT 1", "+1", "", "", ""},
	{"CREATE RULE r AS ON SELECT TO t DO (SELECT 1", ";SELECT 1", "", "", ")"},
	{"EXPLAIN SELECT ", "(", "1", ")", ""},
	{"CREATE TABLE t (a int DEFAULT ", "(", "1", ")", ")"},
	{"INSERT INTO t VALUES (1", "+1", ")", "", ""},
	{"UPDATE t SET (a) = (", "(", "1", ")", ")"},
};

static void *classify_every_nest(void *arg)
{
	struct text t = {.ptr = malloc(CLASSIFY_TEXT_MAX + 4096)};
	classify_thread_init();
	for (size_t i = 0; i < sizeof(nests) / sizeof(nests[0]); i++) {
		for (size_t limit = 256; limit <= CLASSIFY_TEXT_MAX; limit *= 4) {
			text_nest(&t, nests[i], limit);
			classify(slice_of(t.ptr, t.len), catalog);
		}
	}
	/* At the cap: long, but flat to the parser. One over: not parsed. */
	text_nest(&t, nests[0], CLASSIFY_TEXT_MAX);
	assert_true(t.len == CLASSIFY_TEXT_MAX);
	assert_true(classify(slice_of(t.ptr, t.len), catalog).flags & TRAIT_READ);
	text_add(&t, " ");
	struct traits over = classify(slice_of(t.ptr, t.len), catalog);
	assert_int_equal(over.reason, REASON_TOO_LONG);
	assert_true(over.flags & TRAIT_MAY_WRITE);
	assert_false(over.flags & TRAIT_CAPTURABLE);
	/* A write at the very bottom is still found. */
	static const char *const deep[5] = {"SELECT nextval('s')", "+1", "", "", ""};
	text_nest(&t, deep, CLASSIFY_TEXT_MAX);
	assert_int_equal(classify(slice_of(t.ptr, t.len), catalog).reason, REASON_UNSAFE_FUNCTION);
	free(t.ptr);
	return arg;
}

static void *in_thread(void *(*run)(void *), size_t stack)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	assert_int_equal(pthread_attr_setstacksize(&attr, stack), 0);
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, &attr, run, catalog), 0);
	pthread_attr_destroy(&attr);
	void *result = NULL;
	pthread_join(thread, &result);
	return result;
}

static void no_text_overflows_the_stack(void **state)
{
	assert_non_null(in_thread(classify_every_nest, CLASSIFY_STACK));
	/* There is room to spare: half of it will do. */
	assert_non_null(in_thread(classify_every_nest, CLASSIFY_STACK / 2));
}

static void comments_in_comments_do_not_take_seconds(void **state)
{
	struct text t = {.ptr = malloc(CLASSIFY_TEXT_MAX + 4096)};
	static const char *const deep[5] = {"SELECT 1 /*", "/*", "", "*/", "*/"};
	text_nest(&t, deep, CLASSIFY_TEXT_MAX);
	assert_int_equal(classify(slice_of(t.ptr, t.len), catalog).reason, REASON_UNPARSABLE);
	text_nest(&t, deep, 512);
	assert_true(classify(slice_of(t.ptr, t.len), catalog).flags & TRAIT_READ);
	static const char *const banner[5] = {"/", "*", "*/ SELECT 1", "", ""};
	text_nest(&t, banner, CLASSIFY_TEXT_MAX);
	assert_true(classify(slice_of(t.ptr, t.len), catalog).flags & TRAIT_READ);
	free(t.ptr);
}

static uint32_t random_next(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

static void *classify_garbage(void *arg)
{
	static const char *const seeds[] = {
		"SELECT a.b, count(*) FROM t AS a WHERE x = 'it''s' AND y > 1.5e3 OR z IN (1, 2) ORDER BY 1",
		"WITH x AS (INSERT INTO t VALUES ($1, E'\\n', U&'\\0041') RETURNING *) SELECT * FROM x",
		"UPDATE t SET a = (SELECT max(b) FROM u WHERE u.id = t.id) WHERE c BETWEEN 1 AND 2; COMMIT",
		"SET LOCAL search_path TO a, 'b'; DEALLOCATE ALL; SHOW tidemark.token; RESET ALL -- x",
		"CREATE FUNCTION f(a int) RETURNS int LANGUAGE plpgsql AS $x$ BEGIN RETURN $1; END $x$",
		"COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, HEADER) /*tidemark_session='u%20',b='c'*/",
		"EXPLAIN (ANALYZE off, BUFFERS 1, FORMAT json) DECLARE c CURSOR WITH HOLD FOR VALUES (1)",
		"SELECT * FROM XMLTABLE('/a' PASSING b COLUMNS c int PATH 'd', e FOR ORDINALITY) AS f(g)",
	};
	uint64_t state = 1;
	classify_thread_init();
	for (int round = 0; round < 20000; round++) {
		char text[256];
		const char *seed = seeds[random_next(&state) % (sizeof(seeds) / sizeof(seeds[0]))];
		size_t len = strlen(seed);
		memcpy(text, seed, len);
		for (uint32_t flips = 1 + random_next(&state) % 4; flips; flips--)
			text[random_next(&state) % len] ^= (char)(1 << random_next(&state) % 8);
		len -= random_next(&state) % 8 == 0 ? random_next(&state) % len : 0;
		struct seen seen = {0};
		classify(slice_of(text, len), catalog);
		classify_settings(slice_of(text, len), see, &seen);
	}
	return arg;
}

static void no_flipped_bit_does_harm(void **state)
{
	assert_non_null(in_thread(classify_garbage, CLASSIFY_STACK));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_may_leave_state_unseen_is_marked),
		cmocka_unit_test(every_row_of_the_document_is_true),
		cmocka_unit_test(without_a_catalog_only_built_in_functions_are_safe),
		cmocka_unit_test(a_write_is_found_wherever_an_expression_may_stand),
		cmocka_unit_test(a_window_clause_called_last_value_is_no_sequence),
		cmocka_unit_test(the_reason_is_that_of_the_first_statement_that_is_no_read),
		cmocka_unit_test(a_copy_in_anywhere_forbids_the_capture),
		cmocka_unit_test(a_text_that_ends_its_transaction_is_closed),
		cmocka_unit_test(comments_at_the_ends_are_noted),
		cmocka_unit_test(only_commands_are_free_of_results),
		cmocka_unit_test(a_zero_byte_is_not_parsed),
		cmocka_unit_test(a_description_names_target_and_reason),
		cmocka_unit_test(the_particulars_of_a_set_are_told),
		cmocka_unit_test(what_cannot_be_replayed_is_not_told),
		cmocka_unit_test(each_set_of_a_text_has_its_own_text),
		cmocka_unit_test(session_characteristics_are_defaults),
		cmocka_unit_test(set_config_is_told_as_a_set),
		cmocka_unit_test(a_name_that_does_not_fit_binds),
		cmocka_unit_test(a_value_that_does_not_fit_is_said_so),
		cmocka_unit_test(settings_of_what_cannot_be_parsed_fail),
		cmocka_unit_test(no_text_overflows_the_stack),
		cmocka_unit_test(comments_in_comments_do_not_take_seconds),
		cmocka_unit_test(no_flipped_bit_does_harm),
	};
	return cmocka_run_group_tests(tests, make_catalog, drop_catalog);
}
