/* SPDX-License-Identifier: PostgreSQL */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <unistd.h>

#include "config/args.h"
#include "config/config.h"
#include "config/options.h"

static char path[] = "/tmp/t_config.XXXXXX";
static struct config_errors errors;
static struct settings *s;

static int make_file(void **state)
{
	int fd = mkstemp(path);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	return unlink(path);
}

static int forget(void **state)
{
	config_free(s);
	s = NULL;
	return 0;
}

/* argv ends with NULL; argv[0] is added. */
static bool load(const char *const *words)
{
	char *argv[16] = {(char *)"tidemark"};
	int argc = 1;

	for (; *words; words++)
		argv[argc++] = (char *)*words;
	config_free(s);
	memset(&errors, 0, sizeof(errors));
	s = config_load(argc, argv, &errors);
	/* All or nothing. */
	assert_int_equal(s != NULL, errors.count == 0);
	return s != NULL;
}

#define LOAD(...) load((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static bool load_text(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return LOAD(path);
}

/* The first error without the file's name. */
static const char *first_error(void)
{
	assert_true(errors.count > 0);
	const char *e = errors.lines[0];
	return strncmp(e, path, strlen(path)) == 0 ? e + strlen(path) : e;
}

#define NODES "[nodes]\nprimary = host=a\n"

static void flags_alone_serve_any_database(void **state)
{
	assert_true(LOAD("--primary", "host=a port=1", "--replica", "host=b", "--replica=host=c",
	                 "--listen", "127.0.0.1:7000", "--auth-type", "trust", "--wait_timeout=5ms"));
	assert_int_equal(s->node_count, 3);
	assert_string_equal(s->nodes[0].name, "primary");
	assert_string_equal(s->nodes[0].host, "a");
	assert_string_equal(s->nodes[1].name, "replica1");
	assert_string_equal(s->nodes[2].name, "replica2");
	assert_string_equal(s->nodes[2].host, "c");
	assert_int_equal(s->listen_port, 7000);
	assert_int_equal(s->policy.wait_timeout_us, 5000);
	assert_int_equal(s->database_count, 1);
	assert_string_equal(s->databases[0].name, "*");
	assert_int_equal(s->watch.connect_timeout_us, s->server_connect_timeout_us);
}

static void the_primary_comes_first_wherever_it_stands(void **state)
{
	assert_true(LOAD("--replica", "host=b", "--replica", "host=c", "--primary", "host=a"));
	assert_string_equal(s->nodes[0].name, "primary");
	assert_string_equal(s->nodes[1].name, "replica2");
	assert_string_equal(s->nodes[2].name, "replica1");
}

static void a_file_with_every_section(void **state)
{
	assert_true(
		load_text("; comment\n[pgbouncer]\nlisten_port = 7001\nquery_tags = off\n"
	              "[nodes]\nb = host=h2\nprimary = host=h1 password='a ; # b'\n"
	              "[databases]\nshop = dbname=shop2 pool_size=7 consistency=bounded\n"
	              "logs = scope=connection\n* =\n"));
	assert_int_equal(s->listen_port, 7001);
	assert_false(s->query_tags);
	assert_string_equal(s->nodes[0].host, "h1");
	assert_string_equal(s->nodes[0].secret, "a ; # b");
	assert_string_equal(s->nodes[1].name, "b");
	assert_int_equal(s->database_count, 3);
	assert_string_equal(s->databases[0].dbname, "shop2");
	assert_int_equal(s->databases[0].pool_size, 7);
	assert_true(s->databases[0].has_consistency);
	assert_int_equal(s->databases[0].consistency, LEVEL_BOUNDED);
	assert_false(s->databases[0].has_scope);
	assert_int_equal(s->databases[1].scope, SCOPE_CONNECTION);
	assert_string_equal(s->databases[2].name, "*");
}

static void flags_win_over_the_file(void **state)
{
	assert_true(load_text("[tidemark]\nlisten_port = 7001\nscope = connection\n" NODES
	                      "r = host=b\nr2 = host=c\n"));
	assert_true(LOAD("-c", path, "--listen-port", "7002", "-v", "--primary", "host=z"));
	assert_int_equal(s->listen_port, 7002);
	assert_int_equal(s->scope, SCOPE_CONNECTION);
	assert_int_equal(s->log_level, 0);
	assert_int_equal(s->node_count, 1);
	assert_string_equal(s->nodes[0].host, "z");
}

static void errors_say_file_line_fault_and_remedy(void **state)
{
	assert_false(load_text("[tidemark]\n\nwait_timeout = abc\n" NODES));
	assert_string_equal(first_error(),
	                    ":3: wait_timeout = \"abc\": not a time; expected a number with us, ms, s, "
	                    "min, h or d, such as 100ms");
	assert_false(load_text("[tidemark]\nwait_timout = 1s\n" NODES));
	assert_string_equal(first_error(),
	                    ":2: unknown option \"wait_timout\"; did you mean "
	                    "\"wait_timeout\"?");
	assert_false(load_text("[tidemark]\npool_mode = session\n" NODES));
	assert_string_equal(first_error(),
	                    ":2: pool_mode: Tidemark pools by transaction and keeps session state for its client: settings are replayed, and what cannot be (LISTEN, temporary tables, session locks) binds the client to its connection; docs/session-state.md: remove the line");
	assert_false(load_text("[tidemark]\nlisten_port = 1\nlisten_port = 2\n" NODES));
	assert_string_equal(first_error(), ":3: listen_port is given twice; the first time in line 2");
	assert_false(load_text("[tidemark]\nlisten_port\n" NODES));
	assert_string_equal(first_error(), ":2: expected name = value");
	assert_false(load_text(NODES "[other]\nx = 1\n"));
	assert_string_equal(first_error(),
	                    ":4: unknown section [other]; expected [tidemark], [nodes] or "
	                    "[databases]");
	assert_false(load_text("x = 1\n" NODES));
	assert_false(load_text(NODES "[tidemark\n"));
	assert_string_equal(first_error(), ":3: expected [section], name = value or a comment");
	assert_false(load_text("[nodes]\nprimary = hots=a\n"));
	assert_int_equal(errors.count, 1);
	assert_false(load_text(NODES "[databases]\nx = pool_size=0\n"));
	assert_string_equal(first_error(), ":4: x: pool_size=0: expected a number from 1 to 10000");
	assert_false(load_text(NODES "[databases]\nx = host=b\n"));
	assert_false(load_text(NODES "[databases]\nx =\nx =\n"));
	assert_false(load_text(NODES "primary = host=b\n"));
	assert_false(load_text(NODES "again = host=a\n"));
}

static void a_missing_primary_is_told(void **state)
{
	assert_false(load_text("[tidemark]\n"));
	assert_string_equal(first_error(), "no primary: add \"primary = host=… port=…\" under [nodes]");
	assert_false(LOAD("--replica", "host=a"));
	load((const char *const[]){NULL});
	assert_int_equal(errors.count, 1);
}

static void many_errors_are_counted_and_cut(void **state)
{
	char text[4096] = "[tidemark]\n";

	for (int i = 0; i < 30; i++) {
		size_t len = strlen(text);
		snprintf(text + len, sizeof(text) - len, "zzzz%d = 1\n", i);
	}
	assert_false(load_text(text));
	assert_int_equal(errors.count, 31);
}

static void a_long_line_is_one_error(void **state)
{
	char text[5000];

	memset(text, 'x', sizeof(text));
	memcpy(text, "[tidemark]\nadmin_users = ", 25);
	snprintf(text + 4000, sizeof(text) - 4000, "\nlisten_port = 9\n" NODES);
	assert_false(load_text(text));
	assert_int_equal(errors.count, 1);
	assert_string_equal(first_error(), ":2: the line is longer than 2000 bytes");
}

static void secrets_never_show_in_messages(void **state)
{
	assert_false(load_text("[nodes]\nprimary = host=a password=hush foo=1\n"));
	assert_null(strstr(errors.lines[0], "hush"));
	assert_false(LOAD("--primary", "password=hush foo=1"));
	assert_null(strstr(errors.lines[0], "hush"));

	/* One byte too long, and the value at fault is the secret itself. */
	char text[512], secret[300];
	memset(secret, 'h', sizeof(secret) - 1);
	secret[sizeof(secret) - 1] = '\0';
	static const char *const secrets[] = {"redis_password", "redis_sentinel_password"};
	for (int i = 0; i < 2; i++) {
		snprintf(text, sizeof(text), "[nodes]\nprimary = host=a\n[tidemark]\n%s = %s\n", secrets[i],
		         secret);
		assert_false(load_text(text));
		assert_null(strstr(errors.lines[0], "hhhh"));
		snprintf(text, sizeof(text), "--%s", secrets[i]);
		assert_false(LOAD("--primary", "host=a", text, secret));
		assert_null(strstr(errors.lines[0], "hhhh"));
	}
	assert_false(LOAD("--primary", "host=a", "--session-store", "redis", "--redis",
	                  "redis://:hush@127.0.0.1:6379"));
	assert_null(strstr(errors.lines[0], "hush"));
	assert_false(LOAD("--primary", "host=a", "--session-store", "redis", "--redis",
	                  "rediss://u:hush@127.0.0.1"));
	assert_null(strstr(errors.lines[0], "hush"));
}

static void members_of_patroni_are_urls_without_secrets(void **state)
{
	static const char *const bad[] = {
		"db1:8008",        "https://db1:8008", "http://",        "http:///",
		"http://:8008",    "http://db1:0",     "http://db1:x",   "http://u:hush@db1",
		"http://db1/path", "http://::1:8008",  "http://[::1",    "http://[]:8008",
		"http://*:8008",   "http://db1,,",     "http://d b:808", "http://db1:99999",
	};
	const struct patroni_member *m;
	assert_true(LOAD("--primary", "host=a", "--patroni",
	                 "http://db1:8009/, http://db2 ,http://[::1]:1,http://[::2]"));
	m = s->patroni.members;
	assert_int_equal(s->patroni.member_count, 4);
	assert_string_equal(m[0].host, "db1");
	assert_int_equal(m[0].port, 8009);
	assert_string_equal(m[1].host, "db2");
	assert_int_equal(m[1].port, PATRONI_PORT);
	assert_string_equal(m[2].host, "::1");
	assert_int_equal(m[2].port, 1);
	assert_string_equal(m[3].host, "::2");
	assert_int_equal(m[3].port, PATRONI_PORT);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (LOAD("--primary", "host=a", "--patroni", bad[i]))
			fail_msg("taken: %s", bad[i]);
		assert_null(strstr(errors.lines[0], "hush"));
	}
	char many[PATRONI_MEMBERS_MAX * 16 + 32];
	size_t used = 0;
	for (int i = 0; i <= PATRONI_MEMBERS_MAX; i++) {
		used += (size_t)snprintf(many + used, sizeof(many) - used, "%shttp://db%d", i ? "," : "", i);
		assert_int_equal(LOAD("--primary", "host=a", "--patroni", many), i < PATRONI_MEMBERS_MAX);
	}
	assert_false(LOAD("--primary", "host=a", "--patroni", "http://db1", "--patroni-interval", "5s"));
}

/* Read in pieces, the rest of a long line was taken for a line of its own. */
static void lines_of_a_key_file_may_be_long(void **state)
{
	static const char key[] = "1:00112233445566778899aabbccddeeff";
	char text[1200];
	memset(text, '#', 511);
	snprintf(text + 511, sizeof(text) - 511, "%s\n2%s\n", key, key + 1);
	assert_false(load_text(text)); /* as a configuration: only written */
	assert_true(LOAD("--primary", "host=a", "--token-key-file", path));
	assert_int_equal(s->token_keys.count, 1);
	assert_int_equal(s->token_keys.keys[0].id, 2);
	snprintf(text, sizeof(text), "%s\n2%s%0600d\n", key, key + 1, 0);
	assert_false(load_text(text));
	assert_false(LOAD("--primary", "host=a", "--token-key-file", path));
	assert_non_null(strstr(errors.lines[0], ":2: "));
	assert_int_equal(errors.count, 1);
}

static void nobody_is_let_in_by_oversight(void **state)
{
	assert_false(LOAD("--primary", "host=a", "--listen", "*:6432"));
	assert_true(LOAD("--primary", "host=a", "--listen", "*:6432", "--auth-type", "trust"));
	assert_true(LOAD("--primary", "host=a", "--listen", "localhost:6432"));
	assert_false(LOAD("--primary", "host=a", "--auth-type", "md5"));
	assert_non_null(strstr(errors.lines[0], "auth_file"));
	assert_false(LOAD("--primary", "host=a", "--auth-file", "/nonexistent", "--auth-type", "md5"));
	assert_false(LOAD("--primary", "host=a", "--auth-file", "/dev/null"));
	assert_true(LOAD("--primary", "host=a", "--auth-file", "/dev/null", "--auth-type", "md5"));
}

static void faults_of_the_command_line(void **state)
{
	assert_false(LOAD("--primary", "host=a", "--wait-timout", "1s"));
	assert_string_equal(errors.lines[0],
	                    "--wait-timout: unknown option; did you mean --wait_timeout?");
	assert_false(LOAD("--primary", "host=a", "--test-fault", "write_pointer"));
	assert_false(LOAD("--primary"));
	assert_false(LOAD("--primary", "host=a", "--verbose=1"));
	assert_false(LOAD("--primary", "host=a", "-x"));
	assert_false(LOAD("a.ini", "b.ini"));
	assert_false(LOAD("--primary", "host=a", "--wait-timeout", "x"));
	assert_string_equal(errors.lines[0],
	                    "--wait_timeout \"x\": not a time; expected a number with us, "
	                    "ms, s, min, h or d, such as 100ms");
	assert_true(LOAD("--primary", "host=a", "--log-connections"));
	assert_true(LOAD("--log-connections", "--primary", "host=a"));
	assert_true(LOAD("--log-connections", "off", "--primary", "host=a"));
	assert_false(s->log_connections);
}

static void help_and_version_are_seen_among_other_words(void **state)
{
	char *help[] = {(char *)"tidemark", (char *)"--nonsense", (char *)"-h"};
	char *version[] = {(char *)"tidemark", (char *)"--version"};

	assert_int_equal(config_action(3, help), CONFIG_HELP);
	assert_int_equal(config_action(2, version), CONFIG_VERSION);
	assert_int_equal(config_action(1, version), CONFIG_LOAD);
}

static int kept;

static void on_kept(void *arg, const char *name)
{
	kept++;
}

static void a_reload_keeps_what_needs_a_restart(void **state)
{
	assert_true(LOAD("--primary", "host=a"));
	struct settings *now = s;
	s = NULL;
	assert_true(LOAD("--primary", "host=b", "--listen-port", "9", "--scope", "connection"));
	config_keep_fixed(s, now, on_kept, NULL);
	assert_int_equal(kept, 2);
	assert_int_equal(s->listen_port, 6432);
	assert_string_equal(s->nodes[0].host, "a");
	assert_int_equal(s->scope, SCOPE_CONNECTION);
	config_free(now);
}

static void a_reload_changes_weights_by_name(void **state)
{
	assert_true(LOAD("--primary", "host=p", "--replica", "host=a", "--replica", "host=b weight=5"));
	struct settings *now = s;
	s = NULL;
	kept = 0;
	assert_true(LOAD("--primary", "host=p", "--replica", "host=a weight=3", "--replica",
	                 "host=b weight=0"));
	config_keep_fixed(s, now, on_kept, NULL);
	assert_int_equal(kept, 0);
	assert_int_equal(s->nodes[1].weight, 3);
	assert_int_equal(s->nodes[2].weight, 0);
	/* A server that is gone from the file stays, with the weight it had. */
	assert_true(LOAD("--primary", "host=p weight=2", "--replica", "host=a weight=7"));
	config_keep_fixed(s, now, on_kept, NULL);
	assert_int_equal(kept, 1);
	assert_int_equal(s->node_count, 3);
	assert_int_equal(s->nodes[0].weight, 2);
	assert_int_equal(s->nodes[1].weight, 7);
	assert_int_equal(s->nodes[2].weight, 5);
	config_free(now);
}

static void a_running_configuration_changes_one_number_at_a_time(void **state)
{
	struct settings *t = calloc(1, sizeof(*t));
	char why[256];
	assert_non_null(t);
	options_defaults(t);
	struct settings before = *t;
	static const char *const refused[][2] = {
		{"listen_port", "1"},  {"auth_type", "trust"},     {"redis_password", "x"},
		{"no_such", "1"},      {"default_pool_size", "0"}, {"token_key_file", "/x"},
		{"admin_users", "me"}, {"client_tls_sslmode", "require"},
	};
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (config_change(t, refused[i][0], refused[i][1], why, sizeof(why)))
			fail_msg("%s was changed", refused[i][0]);
		assert_true(why[0] != '\0');
	}
	assert_memory_equal(t, &before, sizeof(*t));
	assert_true(config_change(t, "default_pool_size", "7", why, sizeof(why)));
	assert_int_equal(t->default_pool_size, 7);
	assert_true(config_change(t, "strategy", "pin_fixed", why, sizeof(why)));
	t->session_store = SESSION_STORE_REDIS;
	assert_false(config_change(t, "strategy", "position", why, sizeof(why)));
	assert_false(config_change(t, "session_ttl", "1d", why, sizeof(why)));
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_configuration_changes_one_number_at_a_time),
		cmocka_unit_test_teardown(flags_alone_serve_any_database, forget),
		cmocka_unit_test_teardown(the_primary_comes_first_wherever_it_stands, forget),
		cmocka_unit_test_teardown(a_file_with_every_section, forget),
		cmocka_unit_test_teardown(flags_win_over_the_file, forget),
		cmocka_unit_test_teardown(errors_say_file_line_fault_and_remedy, forget),
		cmocka_unit_test_teardown(a_missing_primary_is_told, forget),
		cmocka_unit_test_teardown(many_errors_are_counted_and_cut, forget),
		cmocka_unit_test_teardown(a_long_line_is_one_error, forget),
		cmocka_unit_test_teardown(secrets_never_show_in_messages, forget),
		cmocka_unit_test_teardown(members_of_patroni_are_urls_without_secrets, forget),
		cmocka_unit_test_teardown(lines_of_a_key_file_may_be_long, forget),
		cmocka_unit_test_teardown(nobody_is_let_in_by_oversight, forget),
		cmocka_unit_test_teardown(faults_of_the_command_line, forget),
		cmocka_unit_test_teardown(help_and_version_are_seen_among_other_words, forget),
		cmocka_unit_test_teardown(a_reload_keeps_what_needs_a_restart, forget),
		cmocka_unit_test_teardown(a_reload_changes_weights_by_name, forget),
	};
	return cmocka_run_group_tests(tests, make_file, remove_file);
}
