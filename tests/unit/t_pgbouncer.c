/* SPDX-License-Identifier: PostgreSQL */
#include "config/pgbouncer.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "config/config.h"
#include "config/options.h"
#include "config/pgbouncer_keys.h"

static struct config_errors errors, notes;
static char text[64 * 1024];
static char dir[64];

static const char sample[] =
	"; a comment\n"
	"[databases]\n"
	"shop = host=10.0.0.1 port=5433 dbname=shop_live pool_size=40\n"
	"'odd name' = host='10.0.0.1' port=5433 dbname='it''s'\n"
	"* = host=10.0.0.1 port=5433\n"
	"[users]\n"
	"bob = pool_mode=session max_user_connections=10\n"
	"[pgbouncer]\n"
	"listen_addr = 127.0.0.1\n"
	"listen_port = 7001\n"
	"auth_type = trust\n"
	"pool_mode = session\n"
	"admin_users = root, admin\n"
	"stats_users = watcher\n"
	"server_reset_query = DISCARD ALL\n"
	"query_timeout = 30\n"
	"max_packet_size = 2147483647\n"
	"logfile = /var/log/pgbouncer/pgbouncer.log\n";

static void path_of(char out[128], const char *name)
{
	(void)snprintf(out, 128, "%s/%s", dir, name);
}

static void put_file(const char *name, const char *content, size_t len)
{
	char path[128];
	path_of(path, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(content, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static bool translate_bytes(const char *ini, size_t len, bool primary_given)
{
	char path[128];
	struct buf out;
	memset(&errors, 0, sizeof(errors));
	memset(&notes, 0, sizeof(notes));
	put_file("pgbouncer.ini", ini, len);
	path_of(path, "pgbouncer.ini");
	buf_init(&out, PGBOUNCER_TEXT_MAX);
	bool ok = pgbouncer_translate(path, primary_given, &out, &errors, &notes);
	assert_int_equal(ok, errors.count == 0);
	assert_true(out.len < sizeof(text));
	memcpy(text, out.data, out.len);
	text[out.len] = '\0';
	buf_release(&out);
	return ok;
}

static bool translate(const char *ini)
{
	return translate_bytes(ini, strlen(ini), false);
}

static struct settings *load(const char *ini, const char *replica)
{
	char path[128];
	put_file("pgbouncer.ini", ini, strlen(ini));
	path_of(path, "pgbouncer.ini");
	char *argv[] = {(char[]){"tidemark"},
	                (char[]){"--from"},
	                path,
	                replica ? (char[]){"--replica"} : NULL,
	                (char *)replica,
	                NULL};
	memset(&errors, 0, sizeof(errors));
	memset(&notes, 0, sizeof(notes));
	return config_load_noting(replica ? 5 : 3, argv, &errors, &notes);
}

static const char *said(const struct config_errors *e, const char *part)
{
	for (int i = 0; i < e->count && i < CONFIG_ERRORS_MAX; i++) {
		if (strstr(e->lines[i], part))
			return e->lines[i];
	}
	return NULL;
}

static void assert_said(const struct config_errors *e, const char *part)
{
	if (!said(e, part))
		fail_msg("nobody said \"%s\"; first: %s", part, e->count ? e->lines[0] : "nothing");
}

static int setup(void **state)
{
	(void)snprintf(dir, sizeof(dir), "/tmp/t_pgbouncer.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const names[] = {"pgbouncer.ini", "more.ini", "userlist.txt"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[128];
		path_of(path, names[i]);
		(void)unlink(path);
	}
	return rmdir(dir);
}

/* ------------------------------------------------------------------- the text */

static void a_sample_becomes_settings(void **state)
{
	struct settings *s = load(sample, "host=10.0.0.2 port=5433");
	if (!s)
		fail_msg("%s", errors.lines[0]);
	assert_int_equal(s->node_count, 2);
	assert_string_equal(s->nodes[0].host, "10.0.0.1");
	assert_int_equal(s->nodes[0].port, 5433);
	assert_string_equal(s->nodes[0].database, "shop_live");
	assert_string_equal(s->nodes[1].host, "10.0.0.2");
	assert_int_equal(s->database_count, 3);
	assert_string_equal(s->databases[0].dbname, "shop_live");
	assert_int_equal(s->databases[0].pool_size, 40);
	assert_string_equal(s->databases[1].name, "odd name");
	assert_string_equal(s->databases[1].dbname, "it's");
	assert_int_equal(s->listen_port, 7001);
	assert_string_equal(s->admin_users, "root, admin");
	assert_string_equal(s->stats_users, "watcher");
	config_free(s);
}

static void what_is_not_the_same_is_said_with_its_line(void **state)
{
	assert_true(translate(sample));
	assert_said(&notes, "pgbouncer.ini:12: pool_mode: not honoured");
	assert_said(&notes, "pgbouncer.ini:15: server_reset_query: not needed");
	assert_said(&notes, "pgbouncer.ini:16: query_timeout: not honoured: set statement_timeout");
	assert_said(&notes, "pgbouncer.ini:17: max_packet_size");
	assert_said(&notes, "pgbouncer.ini:18: logfile");
	assert_said(&notes, "pgbouncer.ini:7: pool_mode");
	assert_said(&notes, "pgbouncer.ini:7: max_user_connections");
}

static void what_a_silent_file_means_is_kept(void **state)
{
	assert_true(translate("[databases]\na = host=h\n[pgbouncer]\n"));
	assert_non_null(strstr(text, "auth_type = md5\n"));
	assert_non_null(strstr(text, "listen_addr = \n"));
	assert_non_null(strstr(text, "admin_users = \n"));
	assert_non_null(strstr(text, "max_client_conn = 100\n"));
	assert_non_null(strstr(text, "server_login_retry = 15\n"));
}

static void the_last_line_of_a_key_counts(void **state)
{
	assert_true(
		translate("[databases]\na = host=h\n[pgbouncer]\nlisten_port = 1\nlisten_port = 2\n"));
	assert_non_null(strstr(text, "listen_port = 2\n"));
	assert_null(strstr(text, "listen_port = 1\n"));
}

static void harmless_values_need_no_word(void **state)
{
	assert_true(translate(
		"[databases]\na = host=h pool_mode=transaction max_db_connections=0\n[pgbouncer]\n"
		"pool_mode = transaction\nclient_tls_sslmode = disable\nreserve_pool_size = 0\n"
		"server_tls_sslmode = prefer\nunix_socket_mode = 0777\nlogfile =\n"));
	assert_int_equal(notes.count, 1); /* who the watcher is */
}

static void included_files_are_read_where_they_stand(void **state)
{
	char ini[512], path[128];
	static const char more[] = "listen_port = 7002\npool_mode = session\n";
	put_file("more.ini", more, sizeof(more) - 1);
	path_of(path, "more.ini");
	(void)snprintf(ini, sizeof(ini),
	               "[databases]\na = host=h\n[pgbouncer]\n%%include %s\nlisten_addr = x\n", path);
	bool ok = translate(ini);
	if (!ok)
		fail_msg("%s", errors.lines[0]);
	assert_non_null(strstr(text, "listen_port = 7002\n"));
	assert_non_null(strstr(text, "listen_addr = x\n"));
	assert_said(&notes, "more.ini:2: pool_mode");
}

static void files_that_include_themselves_end(void **state)
{
	char ini[256], path[128];
	path_of(path, "pgbouncer.ini");
	(void)snprintf(ini, sizeof(ini), "[databases]\na = host=h\n[pgbouncer]\n%%include %s\n", path);
	assert_false(translate(ini));
	assert_said(&errors, "more than 10 deep");
	assert_false(translate("[databases]\na = host=h\n%include /nowhere/at/all\n"));
	assert_said(&errors, "/nowhere/at/all: cannot be opened");
}

/* ------------------------------------------------------------------- refusals */

static void one_fleet_only(void **state)
{
	assert_false(translate("[databases]\na = host=h1\nb = host=h2\nc = host=h1 port=5433\n"));
	assert_int_equal(errors.count, 2);
	assert_said(&errors, "pgbouncer.ini:3: b: host=h2 port=5432 is another server than that of");
	assert_said(&errors, "pgbouncer.ini:4: c:");
	assert_false(translate("[databases]\na = host=h1,h2\n"));
	assert_said(&errors, "--replica");
	assert_false(translate("[databases]\na = dbname=b\n"));
	assert_said(&errors, "no host");
	assert_true(translate_bytes("[databases]\na = dbname=b\n", 26, true));
	assert_false(translate("[pgbouncer]\nlisten_port = 1\n"));
	assert_said(&errors, "[databases] is empty");
}

static void what_would_be_less_safe_is_refused(void **state)
{
	static const char *const lines[] = {
		"disable_pqexec = 1",
		"unix_socket_mode = 0700",
		"auth_type = ldap",
		"auth_type = any",
		"auth_type = pam",
		"listen_addr = 127.0.0.1,::1",
		"unix_socket_dir = @abstract",
		"no_such_key = 1",
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char ini[256];
		(void)snprintf(ini, sizeof(ini), "[databases]\na = host=h\n[pgbouncer]\n%s\n", lines[i]);
		if (translate(ini))
			fail_msg("%s was taken", lines[i]);
		assert_said(&errors, "pgbouncer.ini:4: ");
	}
	assert_false(translate("[databases]\na = host=h connect_query='SET x = ''hush'''\n"));
	assert_said(&errors, "connect_query");
	assert_null(said(&errors, "hush"));
}

static void who_may_come_in_is_kept(void **state)
{
	assert_true(
		translate("[databases]\n"
	              "a = host=h user=u password='hu''sh' auth_user=au auth_dbname=a\n"
	              "b = host=h auth_query='SELECT u, p FROM f($1)'\n"
	              "[pgbouncer]\nauth_user = me\nauth_query = SELECT x($1)\nauth_dbname = b\n"));
	assert_non_null(
		strstr(text, "a = user='u' password='hu\\'sh' auth_user='au' auth_dbname='a'\n"));
	assert_non_null(strstr(text, "b = auth_query='SELECT u, p FROM f($1)'\n"));
	assert_non_null(strstr(text, "auth_user = me\n"));
	assert_non_null(strstr(text, "auth_query = SELECT x($1)\n"));
	assert_non_null(strstr(text, "auth_dbname = b\n"));
	assert_said(&notes, "need their schema");
}

static void odd_pairs_are_refused(void **state)
{
	static const char *const values[] = {"host",
	                                     "=",
	                                     "host='h",
	                                     "host=h port=0",
	                                     "host=h port=x",
	                                     "host=h what=1",
	                                     "host=h pool_size=0",
	                                     "host=h 'q'"};
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char ini[256];
		(void)snprintf(ini, sizeof(ini), "[databases]\na = %s\n", values[i]);
		if (translate(ini))
			fail_msg("%s was taken", values[i]);
	}
}

static void the_watcher_uses_a_password_that_is_known(void **state)
{
	char ini[512], path[128];
	static const char users[] =
		"\"root\" \"SCRAM-SHA-256$4096:x\"\n\"watcher\" \"it's \\\\ secret\"\n";
	put_file("userlist.txt", users, sizeof(users) - 1);
	path_of(path, "userlist.txt");
	(void)snprintf(ini, sizeof(ini),
	               "[databases]\na = host=h\n[pgbouncer]\nauth_type = md5\nauth_file = %s\n"
	               "admin_users = root\nstats_users = watcher\nlisten_addr = 127.0.0.1\n",
	               path);
	struct settings *s;
	/* The verifier above is broken on purpose: the file's faults are told when it is loaded. */
	s = load(ini, NULL);
	assert_null(s);
	assert_said(&errors, "userlist.txt:1:");
	static const char good[] = "\"root\" \"\"\n\"watcher\" \"it's \\ secret\"\n";
	put_file("userlist.txt", good, sizeof(good) - 1);
	s = load(ini, NULL);
	if (!s)
		fail_msg("%s", errors.lines[0]);
	assert_string_equal(s->nodes[0].user, "watcher");
	assert_string_equal(s->nodes[0].secret, "it's \\ secret");
	config_free(s);
}

/* --------------------------------------------------------------- whatever comes */

static void every_truncation_is_safe(void **state)
{
	for (size_t n = 0; n < sizeof(sample); n++)
		(void)translate_bytes(sample, n < sizeof(sample) - 1 ? n : n - 1, false);
}

static void every_flipped_byte_is_safe(void **state)
{
	char copy[sizeof(sample)];
	for (size_t i = 0; i < sizeof(sample) - 1; i++) {
		for (int bit = 0; bit < 8; bit += 3) {
			memcpy(copy, sample, sizeof(sample));
			copy[i] ^= (char)(1 << bit);
			(void)translate_bytes(copy, sizeof(sample) - 1, false);
		}
	}
}

/* SHOW CONFIG of 1.18 and of 1.25. */
static void every_key_of_pgbouncer_is_known(void **state)
{
	static const char keys[] =
		"admin_users application_name_add_host auth_dbname auth_file auth_hba_file auth_ident_file "
		"auth_ldap_options auth_query auth_type auth_user autodb_idle_timeout cancel_wait_timeout "
		"client_idle_timeout client_login_timeout client_tls13_ciphers client_tls_ca_file "
		"client_tls_cert_file client_tls_ciphers client_tls_dheparams client_tls_ecdhcurve "
		"client_tls_key_file client_tls_protocols client_tls_sslmode conffile default_pool_size "
		"disable_pqexec dns_max_ttl dns_nxdomain_ttl dns_zone_check_period idle_transaction_timeout "
		"ignore_startup_parameters job_name listen_addr listen_backlog listen_port log_connections "
		"log_disconnections log_pooler_errors log_stats logfile login_notify_message max_client_conn "
		"max_db_client_connections max_db_connections max_packet_size max_prepared_statements "
		"max_user_client_connections max_user_connections min_pool_size peer_id pidfile pkt_buf "
		"pool_mode pool_idle_timeout query_timeout query_wait_notify query_wait_timeout "
		"reserve_pool_size reserve_pool_timeout resolv_conf sbuf_loopcnt scram_iterations "
		"server_check_delay server_check_query server_connect_timeout server_fast_close "
		"server_idle_timeout server_lifetime server_login_retry server_reset_query "
		"server_reset_query_always server_round_robin server_tls13_ciphers server_tls_ca_file "
		"server_tls_cert_file server_tls_ciphers server_tls_key_file server_tls_protocols "
		"server_tls_sslmode service_name so_reuseport stats_period stats_users suspend_timeout syslog "
		"syslog_facility syslog_ident tcp_defer_accept tcp_keepalive tcp_keepcnt tcp_keepidle "
		"tcp_keepintvl tcp_socket_buffer tcp_user_timeout track_extra_parameters transaction_timeout "
		"unix_socket_dir unix_socket_group unix_socket_mode user verbose";
	char copy[sizeof(keys)], *save = NULL;
	int count = 0;
	memcpy(copy, keys, sizeof(keys));
	for (char *key = strtok_r(copy, " ", &save); key; key = strtok_r(NULL, " ", &save)) {
		if (!pgbouncer_knows(key))
			fail_msg("%s is not known", key);
		count++;
	}
	assert_int_equal(count, 101);
	assert_false(pgbouncer_knows("no_such_key"));
	assert_non_null(pgbouncer_advice("pool_mode"));
	assert_null(pgbouncer_advice("wait_timeout"));
}

static void advice_is_for_what_is_no_option(void **state)
{
	for (int i = 0; i < options_count; i++) {
		if (options[i].pgbouncer && pgbouncer_key_find(pgbouncer_keys, options[i].pgbouncer))
			fail_msg("%s is an option, and has a row of advice", options[i].pgbouncer);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_sample_becomes_settings),
		T(what_is_not_the_same_is_said_with_its_line),
		T(what_a_silent_file_means_is_kept),
		T(the_last_line_of_a_key_counts),
		T(harmless_values_need_no_word),
		T(included_files_are_read_where_they_stand),
		T(files_that_include_themselves_end),
		T(one_fleet_only),
		T(what_would_be_less_safe_is_refused),
		T(who_may_come_in_is_kept),
		T(odd_pairs_are_refused),
		T(the_watcher_uses_a_password_that_is_known),
		T(every_truncation_is_safe),
		T(every_flipped_byte_is_safe),
		T(every_key_of_pgbouncer_is_known),
		T(advice_is_for_what_is_no_option),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
