/* SPDX-License-Identifier: PostgreSQL */
#include "pgbouncer_keys.h"

#include <string.h>
#include <strings.h>

#define TLS13_CIPHERS "those of TLS 1.3 are OpenSSL's choice: openssl.cnf has CipherSuites"
#define KERNEL "TCP_NODELAY and keepalive are on, the rest is the kernel's default"
#define TIMEOUT_ON_SERVER(setting) "set " setting " on the server: ALTER DATABASE … SET " setting
#define BOUND_BY_POOL_SIZE \
	"bounded by pool_size for each database, user and server (default_pool_size, or in [databases])"
#define MODE_SESSION                                                                                \
	"Tidemark pools by transaction and keeps session state for its client: settings are replayed, " \
	"and what cannot be (LISTEN, temporary tables, session locks) binds the client to its "         \
	"connection; docs/session-state.md"

const struct pgbouncer_key pgbouncer_keys[] = {
	{"application_name_add_host", KEY_INSTEAD, "0",
     "application_name reaches the servers as the client says it; SHOW CLIENTS has the addresses"},
	{"auth_ldap_options", KEY_REFUSED, "", "there is no LDAP: list the users in auth_file"},
	{"autodb_idle_timeout", KEY_MOOT, NULL,
     "a database that \"*\" brought in stays known until a restart; its connections do not"},
	{"cancel_wait_timeout", KEY_MOOT, NULL, "cancel requests take no place in a pool"},
	{"client_tls13_ciphers", KEY_INSTEAD, "", TLS13_CIPHERS},
	{"client_tls_dheparams", KEY_MOOT, NULL, "OpenSSL chooses"},
	{"client_tls_ecdhcurve", KEY_MOOT, NULL, "OpenSSL chooses"},
	{"conffile", KEY_MOOT, NULL, "the command line names the file"},
	{"disable_pqexec", KEY_REFUSED, "0",
     "a Query may hold several statements; the router judges them as a whole"},
	{"dns_max_ttl", KEY_MOOT, NULL, "names are resolved for each connection"},
	{"dns_nxdomain_ttl", KEY_MOOT, NULL, "names are resolved for each connection"},
	{"dns_zone_check_period", KEY_MOOT, NULL, "names are resolved for each connection"},
	{"idle_transaction_timeout", KEY_INSTEAD, "0",
     TIMEOUT_ON_SERVER("idle_in_transaction_session_timeout")},
	{"ignore_startup_parameters", KEY_MOOT, NULL,
     "startup parameters are settings, and are kept for the client"},
	{"job_name", KEY_MOOT, NULL, "only names the log"},
	{"listen_backlog", KEY_MOOT, NULL, "it is 1024"},
	{"log_disconnections", KEY_MOOT, NULL, "log_connections is for both"},
	{"log_pooler_errors", KEY_MOOT, NULL, "errors are counted, see /metrics"},
	{"log_stats", KEY_MOOT, NULL, "SHOW STATS and /metrics have them"},
	{"logfile", KEY_INSTEAD, "", "the log goes to stderr: let systemd or the shell redirect it"},
	{"login_notify_message", KEY_INSTEAD, "", "clients are told nothing at login"},
	{"max_db_client_connections", KEY_INSTEAD, "0", "max_client_conn bounds all clients together"},
	{"max_db_connections", KEY_INSTEAD, "0", BOUND_BY_POOL_SIZE},
	{"max_user_client_connections", KEY_INSTEAD, "0",
     "max_client_conn bounds all clients together"},
	{"max_user_connections", KEY_INSTEAD, "0", BOUND_BY_POOL_SIZE},
	{"min_pool_size", KEY_INSTEAD, "0", "connections are opened when they are wanted"},
	{"peer_id", KEY_INSTEAD, "0", "cancel requests must reach the router that the client has"},
	{"pidfile", KEY_INSTEAD, "", "the router runs in the foreground: systemd knows its process"},
	{"pkt_buf", KEY_MOOT, NULL, "buffers grow and shrink by themselves"},
	{"pool_idle_timeout", KEY_MOOT, NULL, "server_idle_timeout closes the connections of a pool"},
	{"pool_mode", KEY_INSTEAD, "transaction", MODE_SESSION},
	{"query_timeout", KEY_INSTEAD, "0", TIMEOUT_ON_SERVER("statement_timeout")},
	{"query_wait_notify", KEY_INSTEAD, "0", "a client that waits is told nothing"},
	{"reserve_pool_size", KEY_INSTEAD, "0", "raise default_pool_size by it"},
	{"reserve_pool_timeout", KEY_MOOT, NULL, "there is no reserve pool"},
	{"resolv_conf", KEY_MOOT, NULL, "the system's resolver is asked"},
	{"sbuf_loopcnt", KEY_MOOT, NULL, "each readiness is one read"},
	{"scram_iterations", KEY_INSTEAD, "4096", "it is 4096 for passwords in auth_file"},
	{"server_check_delay", KEY_MOOT, NULL, "the watcher asks every server all the time"},
	{"server_check_query", KEY_MOOT, NULL, "the watcher asks every server all the time"},
	{"server_fast_close", KEY_MOOT, NULL, "transactions end before connections are closed"},
	{"server_reset_query", KEY_MOOT, NULL,
     "session state is replayed, bound or taken away; docs/session-state.md"},
	{"server_reset_query_always", KEY_MOOT, NULL, "likewise"},
	{"server_round_robin", KEY_INSTEAD, "0", "the connection that was used last is used next"},
	{"server_tls13_ciphers", KEY_INSTEAD, "", TLS13_CIPHERS},
	{"service_name", KEY_MOOT, NULL, "only names the log"},
	{"so_reuseport", KEY_INSTEAD, "0",
     "one router is one thread: run several on ports of their own, with session_store = redis"},
	{"stats_period", KEY_MOOT, NULL, "averages are over a minute"},
	{"suspend_timeout", KEY_MOOT, NULL, "there is no SUSPEND"},
	{"syslog", KEY_INSTEAD, "0", "the log goes to stderr: systemd's journal takes it"},
	{"syslog_facility", KEY_MOOT, NULL, "the log goes to stderr"},
	{"syslog_ident", KEY_MOOT, NULL, "the log goes to stderr"},
	{"tcp_defer_accept", KEY_MOOT, NULL, KERNEL},
	{"tcp_keepalive", KEY_MOOT, NULL, KERNEL},
	{"tcp_keepcnt", KEY_MOOT, NULL, KERNEL},
	{"tcp_keepidle", KEY_MOOT, NULL, KERNEL},
	{"tcp_keepintvl", KEY_MOOT, NULL, KERNEL},
	{"tcp_socket_buffer", KEY_MOOT, NULL, KERNEL},
	{"tcp_user_timeout", KEY_MOOT, NULL, KERNEL},
	{"track_extra_parameters", KEY_MOOT, NULL, "every setting is kept for its client"},
	{"transaction_timeout", KEY_INSTEAD, "0", TIMEOUT_ON_SERVER("transaction_timeout")},
	{"unix_socket_group", KEY_REFUSED, "",
     "the socket is open to all: let the group of its directory decide"},
	{"unix_socket_mode", KEY_REFUSED, "0777|777",
     "the socket is open to all: let the mode of its directory decide"},
	{"user", KEY_INSTEAD, "", "start the router as the user it shall run as"},
	{"verbose", KEY_INSTEAD, "0", "log_level = debug"},
	{0},
};

#define SAY_ON_SERVER "ALTER DATABASE … SET, or ALTER ROLE … SET, on the server"

const struct pgbouncer_key pgbouncer_database_keys[] = {
	{"application_name", KEY_REFUSED, NULL, SAY_ON_SERVER},
	{"client_encoding", KEY_REFUSED, NULL, SAY_ON_SERVER},
	{"connect_query", KEY_REFUSED, NULL, SAY_ON_SERVER},
	{"datestyle", KEY_REFUSED, NULL, SAY_ON_SERVER},
	{"load_balance_hosts", KEY_MOOT, NULL, "one host is the primary, the others are replicas"},
	{"max_db_client_connections", KEY_INSTEAD, "0", "max_client_conn bounds all clients together"},
	{"max_db_connections", KEY_INSTEAD, "0", BOUND_BY_POOL_SIZE},
	{"min_pool_size", KEY_INSTEAD, "0", "connections are opened when they are wanted"},
	{"pool_mode", KEY_INSTEAD, "transaction", MODE_SESSION},
	{"query_wait_timeout", KEY_INSTEAD, NULL, "query_wait_timeout is for all databases"},
	{"reserve_pool", KEY_INSTEAD, "0", "raise pool_size by it"},
	{"reserve_pool_size", KEY_INSTEAD, "0", "raise pool_size by it"},
	{"server_lifetime", KEY_INSTEAD, NULL, "server_lifetime is for all databases"},
	{"timezone", KEY_REFUSED, NULL, SAY_ON_SERVER},
	{0},
};

const struct pgbouncer_key pgbouncer_user_keys[] = {
	{"client_idle_timeout", KEY_INSTEAD, "0", "client_idle_timeout is for all users"},
	{"idle_transaction_timeout", KEY_INSTEAD, "0",
     "ALTER ROLE … SET idle_in_transaction_session_timeout on the server"},
	{"max_user_client_connections", KEY_INSTEAD, "0",
     "max_client_conn bounds all clients together"},
	{"max_user_connections", KEY_INSTEAD, "0",
     "ALTER ROLE … CONNECTION LIMIT on the server, or pool_size of the database"},
	{"pool_mode", KEY_INSTEAD, "transaction", MODE_SESSION},
	{"pool_size", KEY_INSTEAD, NULL, "pool_size is by database"},
	{"query_timeout", KEY_INSTEAD, "0", "ALTER ROLE … SET statement_timeout on the server"},
	{"reserve_pool_size", KEY_INSTEAD, "0", "raise pool_size of the database by it"},
	{"transaction_timeout", KEY_INSTEAD, "0", "ALTER ROLE … SET transaction_timeout on the server"},
	{0},
};

const struct pgbouncer_key *pgbouncer_key_find(const struct pgbouncer_key *keys, const char *name)
{
	for (; keys->name; keys++) {
		if (strcasecmp(keys->name, name) == 0)
			return keys;
	}
	return NULL;
}
