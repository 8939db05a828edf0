/* SPDX-License-Identifier: PostgreSQL */
#include "admin/console.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "admin_world.h"

#define ROWS_MAX 128
#define COLUMNS_MAX 40

/* An answer, taken apart. NULL is "<null>". */
struct answer {
	char kinds[ROWS_MAX + 4];
	int columns, rows;
	char names[COLUMNS_MAX][64];
	char cells[ROWS_MAX][COLUMNS_MAX][256];
	char sqlstate[6], message[256], hint[256], tag[64];
};

static struct world x;
static struct answer got;
static struct buf out;

static void copy(char *to, size_t cap, struct slice from)
{
	snprintf(to, cap, "%.*s", SLICE_ARG(from));
}

static void take_cell(void *arg, int index, struct slice value)
{
	copy(got.cells[got.rows][index], 256, value.ptr ? value : slice_str("<null>"));
}

static void take_names(struct slice body)
{
	got.columns = body.ptr[0] << 8 | body.ptr[1];
	assert_true(got.columns <= COLUMNS_MAX);
	body = slice_from(body, 2);
	for (int i = 0; i < got.columns; i++) {
		struct slice name = slice_of(body.ptr, strnlen((const char *)body.ptr, body.len));
		copy(got.names[i], 64, name);
		body = slice_from(body, name.len + 1 + 18);
	}
	assert_int_equal(body.len, 0);
}

static void take_message(const struct frame *f)
{
	struct error_fields e;
	struct slice tag;
	switch (f->type) {
	case BE_ROW_DESCRIPTION:
		take_names(frame_body(f));
		break;
	case BE_DATA_ROW:
		assert_true(got.rows < ROWS_MAX);
		assert_true(msg_data_row_parse(frame_body(f), take_cell, NULL));
		got.rows++;
		break;
	case BE_COMMAND_COMPLETE:
		assert_true(msg_command_tag_parse(frame_body(f), &tag));
		copy(got.tag, sizeof(got.tag), tag);
		break;
	case BE_ERROR:
		assert_true(msg_error_parse(frame_body(f), &e));
		copy(got.sqlstate, sizeof(got.sqlstate), e.sqlstate);
		copy(got.message, sizeof(got.message), e.message);
		copy(got.hint, sizeof(got.hint), e.hint);
		break;
	default:
		assert_int_equal(f->type, BE_EMPTY_QUERY);
	}
}

static void run(const char *sql)
{
	memset(&got, 0, sizeof(got));
	buf_reset(&out);
	console_run(NULL, &x.admin, slice_str(sql), &out);
	assert_false(out.overflow);
	struct slice rest = buf_slice(&out);
	for (int n = 0; rest.len > 0; n++) {
		struct frame f = {0};
		assert_int_equal(frame_peek(rest, &f), PARSE_OK);
		assert_true(frame_complete(&f, rest));
		assert_true(n < ROWS_MAX + 3);
		got.kinds[n] = (char)f.type;
		take_message(&f);
		rest = slice_from(rest, frame_size(&f));
	}
}

static int column(const char *name)
{
	for (int i = 0; i < got.columns; i++) {
		if (strcmp(got.names[i], name) == 0)
			return i;
	}
	fail_msg("no column %s", name);
	return -1;
}

static const char *cell(int row, const char *name)
{
	assert_true(row < got.rows);
	return got.cells[row][column(name)];
}

static int setup(void **state)
{
	world_init(&x);
	buf_init(&out, 8 * 1024 * 1024);
	return 0;
}

static int teardown(void **state)
{
	buf_release(&out);
	world_release(&x);
	return 0;
}

/* ------------------------------------------------------------------ commands */

static void commands_may_be_written_in_any_case_and_end_with_semicolons(void **state)
{
	static const char *const texts[] = {"SHOW FLEET", "show fleet;", "  Show\tFleet ; ;\n",
	                                    "sHoW   fLeEt ;", "SHOW FLEET\r\n"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		run(texts[i]);
		assert_string_equal(got.kinds, "TDDDC");
		assert_string_equal(got.tag, "SHOW");
	}
}

static void an_empty_command_is_an_empty_query(void **state)
{
	static const char *const texts[] = {"", " ", ";", " ;\n; "};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		run(texts[i]);
		assert_string_equal(got.kinds, "I");
	}
}

static void unknown_commands_are_syntax_errors_with_a_hint(void **state)
{
	char long_one[5001];
	memset(long_one, 'x', sizeof(long_one) - 1);
	long_one[sizeof(long_one) - 1] = '\0';
	const char *const texts[] = {"SHOW",           "SHOW NOTHING", "SELECT 1",
	                             "SHOW FLEET NOW", "SHOW FLEET;x", "SHOW FLEET; SHOW FLEET",
	                             "\x01\xff",       long_one};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		run(texts[i]);
		assert_string_equal(got.kinds, "E");
		assert_string_equal(got.sqlstate, "42601");
		assert_non_null(strstr(got.hint, "SHOW HELP"));
	}
}

static void help_lists_commands_that_work(void **state)
{
	run("SHOW HELP");
	struct answer help = got;
	assert_true(help.rows >= 10);
	for (int i = 0; i < help.rows; i++) {
		if (strncmp(help.cells[i][0], "SHOW", 4) != 0)
			continue;
		run(help.cells[i][0]);
		assert_int_equal(got.kinds[0], BE_ROW_DESCRIPTION);
		assert_int_equal(strlen(got.kinds), got.rows + 2);
	}
}

static void a_result_that_does_not_fit_is_an_error_alone(void **state)
{
	buf_release(&out);
	buf_init(&out, 2048);
	run("SHOW ROUTING");
	assert_string_equal(got.kinds, "E");
	assert_string_equal(got.sqlstate, "54000");
}

static void secrets_are_never_shown(void **state)
{
	run("SHOW HELP");
	struct answer help = got;
	for (int i = 0; i < help.rows; i++) {
		if (strncmp(help.cells[i][0], "SHOW", 4) != 0)
			continue;
		run(help.cells[i][0]);
		assert_null(memmem(out.data + out.start, out.len, WORLD_KEY, WORLD_KEY_LEN));
		assert_null(memmem(out.data + out.start, out.len, "bobs-password", 13));
	}
}

static void those_who_may_only_look_can_do_nothing_else(void **state)
{
	run("SHOW HELP");
	struct answer help = got;
	x.seat.admin = false;
	for (int i = 0; i < help.rows; i++) {
		run(help.cells[i][0]);
		bool show = strncmp(help.cells[i][0], "SHOW", 4) == 0;
		assert_string_equal(got.sqlstate, show ? "" : "42501");
	}
	assert_int_equal(x.w->state, WORKER_RUNNING);
}

static bool reload_answer;
static int reloads;

static bool count_reload(void *arg)
{
	reloads++;
	return reload_answer;
}

static void reload_asks_the_program_and_tells_its_answer(void **state)
{
	run("RELOAD");
	assert_string_equal(got.sqlstate, "0A000");
	x.w->reload = count_reload;
	reloads = 0;
	reload_answer = true;
	run("reload;");
	assert_string_equal(got.tag, "RELOAD");
	reload_answer = false;
	run("RELOAD");
	assert_string_equal(got.sqlstate, "F0000");
	assert_int_equal(reloads, 2);
}

/* ------------------------------------------------------------------- tables */

static void fleet_has_these_columns_and_null_for_what_is_not_known(void **state)
{
	static const char *const names[] = {"name",        "host",      "port",     "role",
	                                    "state",       "epoch",     "timeline", "history",
	                                    "position",    "lag_bytes", "lag_ms",   "replay_delay_ms",
	                                    "outstanding", "samples",   "error",    "weight",
	                                    "share_pct",   "drained",   "branch",   "patroni"};
	run("SHOW FLEET");
	assert_int_equal(got.columns, 20);
	for (int i = 0; i < got.columns; i++)
		assert_string_equal(got.names[i], names[i]);
	assert_string_equal(cell(0, "name"), "p");
	assert_string_equal(cell(0, "role"), "primary");
	assert_string_equal(cell(0, "position"), "0/3000");
	assert_string_equal(cell(0, "patroni"), "<null>");
	assert_string_equal(cell(0, "lag_bytes"), "<null>");
	assert_string_equal(cell(1, "role"), "replica");
	assert_string_equal(cell(1, "state"), "up");
	assert_string_equal(cell(1, "lag_bytes"), "8192");
	assert_true(strtod(cell(1, "lag_ms"), NULL) > 0);
	assert_string_equal(cell(2, "role"), "unknown");
	assert_string_equal(cell(2, "state"), "down");
	assert_string_equal(cell(2, "position"), "<null>");
	assert_string_equal(cell(2, "timeline"), "<null>");
	assert_string_equal(cell(2, "lag_ms"), "<null>");
	assert_string_equal(cell(0, "share_pct"), "<null>");
	assert_string_equal(cell(1, "weight"), "1");
	assert_string_equal(cell(1, "share_pct"), "100.0");
	assert_string_equal(cell(1, "drained"), "no");
}

static void drain_takes_a_replica_out_and_undrain_lets_it_in_again(void **state)
{
	run("drain a\"b\\c;");
	assert_string_equal(got.kinds, "C");
	assert_string_equal(got.tag, "DRAIN");
	run("SHOW FLEET");
	assert_string_equal(cell(1, "state"), "drained");
	assert_string_equal(cell(1, "share_pct"), "0.0");
	assert_string_equal(cell(1, "drained"), "yes");
	run("DRAIN lost");
	assert_string_equal(got.tag, "DRAIN");
	run("SHOW FLEET");
	assert_string_equal(cell(2, "state"), "down");
	assert_string_equal(cell(2, "drained"), "yes");
	x.w->fleet.slow_start_us = INT64_C(3600000000);
	run(" UNDRAIN\t\"a\"b\\c\" ");
	assert_string_equal(got.tag, "UNDRAIN");
	run("SHOW FLEET");
	assert_string_equal(cell(1, "state"), "up");
	assert_true(health_share(&x.w->fleet.nodes[1].health, x.w->fleet.slow_start_us,
	                         net_now_us()) < SHARE_WHOLE);
}

static void what_cannot_be_drained_is_told(void **state)
{
	static const char *const strangers[] = {"DRAIN",   "DRAIN ;",    "DRAIN nobody", "UNDRAIN P",
	                                        "DRAIN \"", "DRAIN lost lost"};
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		run(strangers[i]);
		assert_string_equal(got.kinds, "E");
		assert_string_equal(got.sqlstate, "42704");
	}
	run("DRAIN p");
	assert_string_equal(got.sqlstate, "55000");
	assert_non_null(strstr(got.hint, "Promote"));
	run("SHOW FLEET");
	assert_string_equal(cell(0, "drained"), "no");
}

static void fleet_shows_who_is_fenced_and_who_has_diverged(void **state)
{
	struct fleet *f = &x.w->fleet;
	struct history first, second = {
		.known = true, .timeline = 2, .count = 1, .past = {{1, {0x2000}}}};
	history_first(&first);
	fleet_node_up(f, 2, NODE_ROLE_PRIMARY, 2, 1000);
	run("SHOW FLEET");
	assert_string_equal(cell(0, "state"), "fenced");
	assert_string_equal(cell(2, "state"), "fenced");
	assert_true(fleet_node_history(f, 0, &first, (struct position){0x3000}, 1000));
	assert_true(fleet_node_history(f, 2, &second, (struct position){0x4000}, 1000));
	assert_true(fleet_node_history(f, 1, &first, (struct position){0x2001}, 1000));
	run("SHOW FLEET");
	assert_string_equal(cell(0, "state"), "fenced");
	assert_string_equal(cell(2, "state"), "up");
	assert_string_equal(cell(1, "state"), "diverged");
	assert_string_equal(cell(1, "branch"), "diverged");
	assert_string_equal(cell(2, "branch"), "<null>");
	assert_true(fleet_node_history(f, 1, &first, (struct position){0x2000}, 1000));
	run("SHOW FLEET");
	assert_string_equal(cell(1, "state"), "not_eligible");
	assert_string_equal(cell(1, "branch"), "behind");
}

static void fleet_tells_of_the_primary_whether_its_history_is_known(void **state)
{
	struct history h;
	run("SHOW FLEET");
	assert_string_equal(cell(0, "history"), "unknown");
	assert_string_equal(cell(1, "history"), "<null>");
	assert_string_equal(cell(2, "history"), "<null>");
	history_first(&h);
	assert_true(fleet_node_history(&x.w->fleet, 0, &h, (struct position){0}, 1000));
	run("SHOW FLEET");
	assert_string_equal(cell(0, "history"), "known");
	assert_string_equal(cell(1, "history"), "<null>");
}

static void a_replica_with_an_old_sample_is_not_eligible(void **state)
{
	x.w->fleet.sample_max_age_us = 1;
	run("SHOW FLEET");
	assert_string_equal(cell(1, "state"), "not_eligible");
}

static void routing_names_every_reason_once_and_says_what_it_means(void **state)
{
	run("SHOW ROUTING");
	assert_int_equal(got.columns, 3);
	assert_int_equal(got.rows, 19 + RERUN_CAUSES + TOKEN_VERDICTS + REASON_COUNT);
	for (int i = 0; i < got.rows; i++) {
		assert_true(strlen(cell(i, "meaning")) > 0);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(cell(i, "name"), cell(j, "name"));
	}
	int write = 19 + RERUN_CAUSES + TOKEN_VERDICTS + REASON_WRITE;
	assert_string_equal(cell(write, "name"), "reason_write");
	assert_int_equal(strtoll(cell(write, "value"), NULL, 10), 100 + REASON_WRITE);
}

static void clients_tell_state_session_and_last_route(void **state)
{
	run("SHOW CLIENTS");
	assert_int_equal(got.rows, 3);
	assert_string_equal(cell(0, "user"), "bob");
	assert_string_equal(cell(0, "state"), "idle");
	assert_string_equal(cell(0, "session"), "user-42");
	assert_string_equal(cell(0, "last_route"), "replica_fresh");
	assert_string_equal(cell(0, "node"), "a\"b\\c");
	assert_string_equal(cell(1, "state"), "active");
	assert_string_equal(cell(1, "bound"), "listen");
	assert_string_equal(cell(1, "last_route"), "<null>");
	assert_string_equal(cell(2, "state"), "waiting_replica");
	assert_true(strtol(cell(2, "wait_us"), NULL, 10) >= 20000);
}

static void a_client_that_logs_in_has_no_user_yet(void **state)
{
	x.named.account = NULL;
	x.named.state = CLIENT_STARTUP;
	x.named.session = NULL;
	run("SHOW CLIENTS");
	assert_string_equal(cell(0, "user"), "<null>");
	assert_string_equal(cell(0, "state"), "login");
}

static void servers_and_pools_count_who_does_what(void **state)
{
	run("SHOW SERVERS");
	assert_int_equal(got.rows, 2);
	assert_string_equal(cell(0, "state"), "active");
	assert_string_equal(cell(0, "remote_pid"), "4712");
	assert_string_equal(cell(0, "link"), "0x2");
	assert_string_equal(cell(1, "state"), "idle");
	assert_string_equal(cell(1, "age_s"), "65");
	assert_string_equal(cell(1, "link"), "");
	run("SHOW POOLS");
	assert_int_equal(got.rows, 1);
	assert_string_equal(cell(0, "cl_active"), "3");
	assert_string_equal(cell(0, "sv_active"), "1");
	assert_string_equal(cell(0, "sv_idle"), "1");
	run("SHOW NODE_POOLS");
	assert_int_equal(got.rows, 3);
	assert_string_equal(cell(0, "node"), "p");
	assert_string_equal(cell(0, "cl_active"), "1");
	assert_string_equal(cell(0, "sv_active"), "1");
	assert_string_equal(cell(0, "sv_idle"), "1");
	assert_string_equal(cell(0, "pool_mode"), "transaction");
	assert_string_equal(cell(1, "sv_idle"), "0");
}

static void databases_stats_and_lists_count(void **state)
{
	run("SHOW DATABASES");
	assert_string_equal(cell(0, "name"), "app");
	assert_string_equal(cell(0, "database"), "app_on_servers");
	assert_string_equal(cell(0, "current_client_connections"), "3");
	assert_string_equal(cell(0, "current_connections"), "2");
	run("SHOW STATS");
	assert_string_equal(cell(0, "database"), "app");
	assert_string_equal(cell(0, "total_query_count"), "7");
	run("SHOW LISTS");
	assert_string_equal(cell(6, "list"), "used_clients");
	assert_string_equal(cell(6, "items"), "3");
}

static void every_command_and_column_is_documented(void **state)
{
	char *doc = world_source("docs/observability.md");
	run("SHOW HELP");
	struct answer help = got;
	for (int i = 0; i < help.rows; i++) {
		char wanted[96];
		snprintf(wanted, sizeof(wanted), "`%s`", help.cells[i][0]);
		const char *section = strstr(doc, wanted);
		if (!section)
			fail_msg("docs/observability.md lacks %s", wanted);
		if (strncmp(help.cells[i][0], "SHOW", 4) != 0)
			continue;
		run(help.cells[i][0]);
		for (int c = 0; c < got.columns; c++) {
			snprintf(wanted, sizeof(wanted), "`%s`", got.names[c]);
			if (!strstr(section, wanted))
				fail_msg("docs/observability.md lacks %s of %s", wanted, help.cells[i][0]);
		}
	}
	free(doc);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(commands_may_be_written_in_any_case_and_end_with_semicolons),
		T(an_empty_command_is_an_empty_query),
		T(unknown_commands_are_syntax_errors_with_a_hint),
		T(help_lists_commands_that_work),
		T(a_result_that_does_not_fit_is_an_error_alone),
		T(secrets_are_never_shown),
		T(those_who_may_only_look_can_do_nothing_else),
		T(reload_asks_the_program_and_tells_its_answer),
		T(fleet_has_these_columns_and_null_for_what_is_not_known),
		T(drain_takes_a_replica_out_and_undrain_lets_it_in_again),
		T(what_cannot_be_drained_is_told),
		T(fleet_tells_of_the_primary_whether_its_history_is_known),
		T(fleet_shows_who_is_fenced_and_who_has_diverged),
		T(a_replica_with_an_old_sample_is_not_eligible),
		T(routing_names_every_reason_once_and_says_what_it_means),
		T(clients_tell_state_session_and_last_route),
		T(a_client_that_logs_in_has_no_user_yet),
		T(servers_and_pools_count_who_does_what),
		T(databases_stats_and_lists_count),
		T(every_command_and_column_is_documented),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
