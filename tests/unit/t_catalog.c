/* SPDX-License-Identifier: PostgreSQL */
#include "sql/catalog.h"
#include "sql/builtin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static enum function_safety safety(const struct catalog *c, const char *name)
{
	return catalog_function(c, slice_str(name));
}

static void load(struct catalog *c, const char *name, bool unsafe)
{
	catalog_load_begin(c);
	assert_true(catalog_load_add(c, slice_str(name), unsafe));
	assert_true(catalog_load_commit(c));
}

static void the_table_of_built_in_functions_is_sorted(void **state)
{
	assert_true(builtin_safe_function_count > 1500);
	for (int i = 1; i < builtin_safe_function_count; i++)
		assert_true(strcmp(builtin_safe_functions[i - 1], builtin_safe_functions[i]) < 0);
}

static void every_built_in_function_of_the_table_is_found(void **state)
{
	struct catalog *c = catalog_new(10);
	for (int i = 0; i < builtin_safe_function_count; i++)
		assert_int_equal(safety(c, builtin_safe_functions[i]), FUNCTION_SAFE);
	catalog_free(c);
}

static void what_means_something_else_on_a_replica_is_unsafe(void **state)
{
	static const char *const names[] = {
		"nextval",
		"setval",
		"txid_current",
		"txid_current_if_assigned",
		"pg_current_xact_id",
		"txid_current_snapshot",
		"pg_current_snapshot",
		"pg_notify",
		"lo_create",
		"lo_put",
		"lo_unlink",
		"lo_import",
		"lo_get",
		"pg_logical_emit_message",
		"pg_current_wal_lsn",
		"pg_current_wal_insert_lsn",
		"pg_is_in_recovery",
		"pg_last_wal_replay_lsn",
		"pg_advisory_xact_lock",
		"pg_advisory_unlock",
		"pg_advisory_unlock_all",
		"pg_cancel_backend",
		"pg_terminate_backend",
		"pg_reload_conf",
		"pg_stat_reset",
		"pg_stat_get_activity",
		"pg_backend_pid",
		"pg_export_snapshot",
		"inet_server_addr",
		"inet_server_port",
		"inet_client_addr",
		"pg_postmaster_start_time",
		"current_setting",
		"query_to_xml",
		"table_to_xml",
		"ts_stat",
		"ts_rewrite",
		"pg_switch_wal",
		"pg_promote",
		"pg_read_file",
		"pg_ls_dir",
		"pg_walfile_name",
		"pg_lock_status",
		"pg_cursor",
		"pg_prepared_statement",
		"pg_show_all_settings",
		"pg_get_replication_slots",
		"pg_listening_channels",
		"dblink",
		"no_such_function",
		"",
	};
	struct catalog *c = catalog_new(10);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (safety(c, names[i]) != FUNCTION_UNSAFE)
			fail_msg("%s", names[i]);
	catalog_free(c);
}

static void harmless_volatile_functions_are_safe(void **state)
{
	static const char *const names[] = {"random", "clock_timestamp", "timeofday", "gen_random_uuid",
	                                    "now",    "count",           "pg_sleep"};
	struct catalog *c = catalog_new(10);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(safety(c, names[i]), FUNCTION_SAFE);
	catalog_free(c);
}

static void functions_that_bind_have_a_kind_of_their_own(void **state)
{
	struct catalog *c = catalog_new(10);
	assert_int_equal(safety(c, "pg_advisory_lock"), FUNCTION_ADVISORY);
	assert_int_equal(safety(c, "pg_try_advisory_lock_shared"), FUNCTION_ADVISORY);
	assert_int_equal(safety(c, "set_config"), FUNCTION_SET_CONFIG);
	assert_int_equal(safety(c, "currval"), FUNCTION_SEQUENCE);
	assert_int_equal(safety(c, "lastval"), FUNCTION_SEQUENCE);
	assert_int_equal(safety(c, "lo_open"), FUNCTION_UNSAFE);
	catalog_free(c);
}

static void nothing_of_the_user_is_safe_before_a_load(void **state)
{
	struct catalog *c = catalog_new(10);
	assert_false(catalog_loaded(c));
	assert_int_equal(safety(c, "mine"), FUNCTION_UNSAFE);
	load(c, "mine", false);
	assert_true(catalog_loaded(c));
	assert_int_equal(safety(c, "mine"), FUNCTION_SAFE);
	assert_int_equal(safety(c, "min"), FUNCTION_SAFE);
	assert_int_equal(safety(c, "mine2"), FUNCTION_UNSAFE);
	catalog_free(c);
}

static void ddl_makes_user_functions_unsafe_until_the_next_load(void **state)
{
	struct catalog *c = catalog_new(10);
	load(c, "mine", false);
	uint32_t generation = catalog_generation(c);
	catalog_invalidate(c);
	assert_false(catalog_loaded(c));
	assert_true(catalog_generation(c) != generation);
	assert_int_equal(safety(c, "mine"), FUNCTION_UNSAFE);
	assert_int_equal(safety(c, "lower"), FUNCTION_SAFE);
	generation = catalog_generation(c);
	load(c, "mine", false);
	assert_true(catalog_generation(c) != generation);
	assert_int_equal(safety(c, "mine"), FUNCTION_SAFE);
	catalog_free(c);
}

static void a_user_function_that_shadows_a_built_in_one_decides(void **state)
{
	struct catalog *c = catalog_new(10);
	load(c, "lower", true);
	assert_int_equal(safety(c, "lower"), FUNCTION_UNSAFE);
	catalog_invalidate(c);
	assert_int_equal(safety(c, "lower"), FUNCTION_UNSAFE);
	load(c, "nextval", false);
	catalog_free(c);
}

static void one_unsafe_overload_makes_the_name_unsafe(void **state)
{
	struct catalog *c = catalog_new(10);
	catalog_load_begin(c);
	assert_true(catalog_load_add(c, slice_str("f"), false));
	assert_true(catalog_load_add(c, slice_str("f"), true));
	assert_true(catalog_load_add(c, slice_str("f"), false));
	assert_true(catalog_load_commit(c));
	assert_int_equal(safety(c, "f"), FUNCTION_UNSAFE);
	catalog_free(c);
}

static void a_load_that_is_not_committed_changes_nothing(void **state)
{
	struct catalog *c = catalog_new(10);
	load(c, "old", false);
	uint32_t generation = catalog_generation(c);
	catalog_load_begin(c);
	assert_true(catalog_load_add(c, slice_str("new"), false));
	assert_int_equal(catalog_generation(c), generation);
	assert_int_equal(safety(c, "old"), FUNCTION_SAFE);
	assert_int_equal(safety(c, "new"), FUNCTION_UNSAFE);
	load(c, "newer", false);
	assert_int_equal(safety(c, "old"), FUNCTION_UNSAFE);
	assert_int_equal(safety(c, "new"), FUNCTION_UNSAFE);
	catalog_free(c);
}

static void a_load_that_ddl_overtook_is_refused(void **state)
{
	struct catalog *c = catalog_new(10);
	catalog_load_begin(c);
	assert_true(catalog_load_add(c, slice_str("f"), false));
	catalog_invalidate(c);
	assert_false(catalog_load_commit(c));
	assert_int_equal(safety(c, "f"), FUNCTION_UNSAFE);
	load(c, "f", false);
	assert_int_equal(safety(c, "f"), FUNCTION_SAFE);
	catalog_free(c);
}

static void past_its_bound_a_load_fails(void **state)
{
	struct catalog *c = catalog_new(3);
	catalog_load_begin(c);
	assert_true(catalog_load_add(c, slice_str("a"), false));
	assert_true(catalog_load_add(c, slice_str("b"), false));
	assert_true(catalog_load_add(c, slice_str("c"), false));
	assert_false(catalog_load_add(c, slice_str("d"), false));
	assert_false(catalog_load_commit(c));
	assert_false(catalog_loaded(c));
	assert_int_equal(safety(c, "a"), FUNCTION_UNSAFE);
	catalog_free(c);
}

static void many_names_are_all_found(void **state)
{
	enum { NAMES = 5000 };
	struct catalog *c = catalog_new(NAMES);
	char name[32];
	catalog_load_begin(c);
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "function_%d", i);
		assert_true(catalog_load_add(c, slice_str(name), i % 3 == 0));
	}
	assert_true(catalog_load_commit(c));
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "function_%d", i);
		assert_int_equal(safety(c, name), i % 3 == 0 ? FUNCTION_UNSAFE : FUNCTION_SAFE);
	}
	catalog_free(c);
}

static void server_local_and_loaded_relations_are_unsafe(void **state)
{
	struct catalog *c = catalog_new(10);
	assert_true(catalog_relation_safe(c, slice_str("t")));
	assert_true(catalog_relation_safe(c, slice_str("pg_class")));
	assert_true(catalog_relation_safe(c, slice_str("pg_stats")));
	assert_true(catalog_relation_safe(c, slice_str("pg_statistic")));
	assert_false(catalog_relation_safe(c, slice_str("pg_stat_activity")));
	assert_false(catalog_relation_safe(c, slice_str("pg_statio_user_tables")));
	assert_false(catalog_relation_safe(c, slice_str("pg_locks")));
	assert_false(catalog_relation_safe(c, slice_str("pg_replication_slots")));
	assert_false(catalog_relation_safe(c, slice_str("pg_sequences")));
	load(c, "@s", true);
	assert_false(catalog_relation_safe(c, slice_str("s")));
	assert_true(catalog_relation_safe(c, slice_str("t")));
	catalog_invalidate(c);
	assert_false(catalog_relation_safe(c, slice_str("s")));
	catalog_free(c);
}

static void code_is_known_by_its_marks(void **state)
{
	struct catalog *c = catalog_new(10);
	assert_true(catalog_code_sets(c) && catalog_relation_runs_code(c, slice_str("t")));
	assert_true(catalog_operator_safe(c, slice_str("=")));
	load(c, "!t", true);
	assert_false(catalog_code_sets(c));
	assert_true(catalog_relation_runs_code(c, slice_str("t")));
	assert_false(catalog_relation_runs_code(c, slice_str("u")));
	load(c, "#", true);
	assert_true(catalog_code_sets(c));
	load(c, "=@@", true);
	assert_false(catalog_operator_safe(c, slice_str("@@")));
	assert_true(catalog_operator_safe(c, slice_str("@")));
	/* DDL was seen. */
	catalog_invalidate(c);
	assert_true(catalog_code_sets(c));
	assert_false(catalog_operator_safe(c, slice_str("@@")));
	catalog_free(c);
}

static void settings_that_code_names_are_known(void **state)
{
	struct catalog *c = catalog_new(10);
	assert_int_equal(catalog_custom_names(c).len, 0);
	catalog_learn_custom(c, slice_str("SELECT f('App.User', 'x', 'a.b.c$1', 'a.', '.a', '1.2', 'a..b', 'a.b"));
	catalog_learn_custom(c, slice_str("DO $$ BEGIN PERFORM set_config('app.user', 'it', false); END $$"));
	assert_true(slice_eq_str(catalog_custom_names(c), "app.user,a.b.c$1"));
	load(c, "$my.secret", true);
	assert_true(slice_eq_str(catalog_custom_names(c), "app.user,a.b.c$1,my.secret"));
	catalog_invalidate(c);
	load(c, "$my.secret", true);
	assert_true(slice_eq_str(catalog_custom_names(c), "app.user,a.b.c$1,my.secret"));
	/* The bound. */
	for (int i = 0; i < 2000; i++) {
		char text[32];
		snprintf(text, sizeof(text), "'some.name_%d'", i);
		catalog_learn_custom(c, slice_str(text));
	}
	assert_in_range(catalog_custom_names(c).len, CATALOG_CUSTOM_MAX - 20, CATALOG_CUSTOM_MAX);
	catalog_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_of_built_in_functions_is_sorted),
		cmocka_unit_test(every_built_in_function_of_the_table_is_found),
		cmocka_unit_test(what_means_something_else_on_a_replica_is_unsafe),
		cmocka_unit_test(harmless_volatile_functions_are_safe),
		cmocka_unit_test(functions_that_bind_have_a_kind_of_their_own),
		cmocka_unit_test(nothing_of_the_user_is_safe_before_a_load),
		cmocka_unit_test(ddl_makes_user_functions_unsafe_until_the_next_load),
		cmocka_unit_test(a_user_function_that_shadows_a_built_in_one_decides),
		cmocka_unit_test(one_unsafe_overload_makes_the_name_unsafe),
		cmocka_unit_test(a_load_that_is_not_committed_changes_nothing),
		cmocka_unit_test(a_load_that_ddl_overtook_is_refused),
		cmocka_unit_test(past_its_bound_a_load_fails),
		cmocka_unit_test(many_names_are_all_found),
		cmocka_unit_test(server_local_and_loaded_relations_are_unsafe),
		cmocka_unit_test(code_is_known_by_its_marks),
		cmocka_unit_test(settings_that_code_names_are_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
