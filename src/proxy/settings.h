/* SPDX-License-Identifier: PostgreSQL
 *
 * Everything the configuration says, as the proxy wants to read it. config/ fills it from the
 * options table; nothing here parses text. An instance is immutable once the worker has it, but
 * for SET at the console, which changes one option and says worker_reload(): a reload makes a new one.
 */
#ifndef TM_PROXY_SETTINGS_H
#define TM_PROXY_SETTINGS_H

#include "consistency/route.h"
#include "hba.h"
#include "consistency/token.h"
#include "net/tls.h"
#include "store/store.h"
#include "watch/patroni.h"
#include "watch/watch.h"

#define SETTINGS_USERS_MAX 4096
#define SETTINGS_DATABASES_MAX 256

struct tls_options {
	enum sslmode mode;
	char ca_file[256], cert_file[256], key_file[256];
	char protocols[64], ciphers[256];
};

enum auth_type {
	AUTH_TYPE_TRUST,
	AUTH_TYPE_MD5,
	AUTH_TYPE_SCRAM,
	AUTH_TYPE_PLAIN,
	AUTH_TYPE_CERT,
	AUTH_TYPE_PEER,
	AUTH_TYPE_HBA, /* as `hba` says */
};
enum scope { SCOPE_DATABASE, SCOPE_CONNECTION };
/* What a token that the router gives out is bound to. */
enum token_binding { TOKEN_BINDING_NONE, TOKEN_BINDING_SESSION };
/* Where the marks of named sessions are kept. */
enum session_store { SESSION_STORE_MEMORY, SESSION_STORE_REDIS };
enum router_mode { MODE_ROUTE, MODE_OBSERVE };
/* Transactions that may write: may one of these begin on a replica? */
enum split_transactions { SPLIT_OFF, SPLIT_READ_COMMITTED };

/* A line of the userlist file: "name" "secret". The secret is cleartext, "md5…" or
 * "SCRAM-SHA-256$…". */
struct user_entry {
	char name[64];
	char secret[256];
};

/* Where users are looked up that auth_file does not know: auth_lookup.h. */
struct auth_lookup {
	char user[64];   /* "": nowhere */
	char dbname[64]; /* a database of clients; "" is the one that the client asked for */
	char query[512];
};

/* A line of [databases]. name "*" is every database that has no line of its own. */
struct database_entry {
	char name[64];
	char dbname[64]; /* on the servers; "" is the same as the client asked for */
	int pool_size;   /* 0: default_pool_size */
	/* Who all clients of this database are on the servers; "" is each himself. Without a password:
	 * as auth_file has it. */
	char user[64], password[256];
	struct auth_lookup lookup; /* "" is what is said for all */
	bool has_consistency, has_scope;
	enum consistency_level consistency;
	enum scope scope;
};

struct settings {
	/* where clients come in */
	char listen_addr[256]; /* host name or address; "*" is any; "" is no TCP */
	int listen_port;
	char unix_socket_dir[96]; /* "" is none */
	char http_listen_addr[256];
	int http_listen_port; /* 0: no HTTP */

	struct tls_options client_tls, server_tls; /* the latter where [nodes] says nothing */
	struct tls_context *client_tls_context; /* made from it; NULL: clients come in clear */

	/* the fleet; nodes[0] is the configured primary, which says nothing of its role */
	int node_count;
	struct watch_node nodes[FLEET_NODES_MAX];
	struct watch_settings watch;
	char patroni_members[1024]; /* http://HOST:PORT, … */
	struct patroni_settings patroni;
	int64_t sample_max_age_us; /* for fleet_init() */
	int64_t slow_start_us;     /* these three are the fleet's */
	int outlier_factor;
	int64_t outlier_floor_us;

	/* who may */
	enum auth_type auth_type;
	char auth_hba_file[256], auth_ident_file[256];
	struct hba *hba;     /* what they say; NULL unless AUTH_TYPE_HBA */
	char auth_file[256]; /* where `users` came from; "" is none */
	int user_count;
	struct user_entry *users; /* sorted by name */
	struct auth_lookup lookup;
	int64_t auth_query_ttl_us; /* for how long an answer counts; 0: not at all */
	int database_count;
	struct database_entry *databases;
	char admin_users[512]; /* comma separated */
	char stats_users[512]; /* likewise */

	/* pools; times in µs, 0 is no limit */
	int default_pool_size; /* servers per database, user and node */
	int max_client_conn;
	int fallback_pool_share; /* percent of a pool of the primary for reads that lack a replica */
	int max_pool_waiting; /* clients that wait for a server of one pool */
	int64_t query_wait_timeout_us;
	int64_t failover_timeout_us; /* how long a statement waits for a primary */
	int64_t server_idle_timeout_us;
	int64_t server_lifetime_us;
	int64_t server_connect_timeout_us;
	int64_t server_login_retry_us;
	int64_t client_login_timeout_us;
	int64_t client_idle_timeout_us;
	int64_t client_eof_timeout_us; /* no 0: there is always a limit */
	int64_t shutdown_timeout_us; /* SIGTERM: how long running transactions may go on */
	int max_prepared_statements; /* per server connection, least recently used out first */
	size_t max_client_statements_size; /* of the prepared statements of one client */
	size_t max_packet_size; /* largest client message that is held in memory; larger ones stream */

	/* consistency */
	enum router_mode mode;
	struct route_policy policy;
	enum scope scope;
	enum split_transactions split_transactions;
	bool query_tags;
	char token_key_file[256]; /* where `token_keys` came from; "": keys of this process alone */
	struct token_keys token_keys;
	int64_t token_ttl_us; /* 0: tokens never expire */
	enum token_binding token_binding;
	int max_waiting;  /* statements that wait for a replica; further ones go to the primary */
	int max_sessions; /* named sessions in memory */
	enum session_store session_store;
	char redis[512]; /* HOST:PORT, …; or a unix socket */
	struct store_settings store;
	int64_t session_ttl_us;
	int max_cached_statements; /* per database */
	int observe_max_shapes;
	int observe_max_pending; /* reads that wait for a sample to be judged by */

	int log_level; /* enum log_level */
	bool log_connections;
};

#endif
