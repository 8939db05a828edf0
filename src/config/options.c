/* SPDX-License-Identifier: PostgreSQL */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>

#include "base/log.h"
#include "sql/classify.h"

#define US INT64_C(1)
#define MS (1000 * US)
#define SEC (1000 * MS)
#define HOUR (3600 * SEC)
#define DAY (24 * HOUR)
#define KB INT64_C(1024)
#define MB (1024 * KB)

/* PgBouncer's, with every name and operator in its schema. */
#define DEFAULT_AUTH_QUERY                                                                       \
	"SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL " \
	"ELSE rolpassword END FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 "    \
	"AND rolcanlogin"

#define FIELD(f) .offset = offsetof(struct settings, f), .size = sizeof(((struct settings *)0)->f)

static const struct option_word words_auth[] = {
	{"trust", AUTH_TYPE_TRUST},
	{"md5", AUTH_TYPE_MD5},
	{"scram-sha-256", AUTH_TYPE_SCRAM},
	{"plain", AUTH_TYPE_PLAIN},
	{"cert", AUTH_TYPE_CERT},
	{"peer", AUTH_TYPE_PEER},
	{"hba", AUTH_TYPE_HBA},
	{NULL, 0},
};

const struct option_word words_sslmode[] = {
	{"disable", SSLMODE_DISABLE},
	{"allow", SSLMODE_ALLOW},
	{"prefer", SSLMODE_PREFER},
	{"require", SSLMODE_REQUIRE},
	{"verify-ca", SSLMODE_VERIFY_CA},
	{"verify-full", SSLMODE_VERIFY_FULL},
	{NULL, 0},
};

const struct option_word words_consistency[] = {
	{"strong", LEVEL_STRONG},
	{"session", LEVEL_SESSION},
	{"bounded", LEVEL_BOUNDED},
	{"eventual", LEVEL_EVENTUAL},
	{NULL, 0},
};

const struct option_word words_scope[] = {
	{"database", SCOPE_DATABASE},
	{"connection", SCOPE_CONNECTION},
	{NULL, 0},
};

static const struct option_word words_binding[] = {
	{"none", TOKEN_BINDING_NONE},
	{"session", TOKEN_BINDING_SESSION},
	{NULL, 0},
};

static const struct option_word words_session_store[] = {
	{"memory", SESSION_STORE_MEMORY},
	{"redis", SESSION_STORE_REDIS},
	{NULL, 0},
};

static const struct option_word words_mode[] = {
	{"route", MODE_ROUTE},
	{"observe", MODE_OBSERVE},
	{NULL, 0},
};

static const struct option_word words_split[] = {
	{"off", SPLIT_OFF},
	{"read_committed", SPLIT_READ_COMMITTED},
	{NULL, 0},
};

static const struct option_word words_strategy[] = {
	{"position", STRATEGY_POSITION},
	{"pin_fixed", STRATEGY_PIN_FIXED},
	{"pin_auto", STRATEGY_PIN_AUTO},
	{NULL, 0},
};

static const struct option_word words_log_level[] = {
	{"debug", LOG_LEVEL_DEBUG},
	{"info", LOG_LEVEL_INFO},
	{"warn", LOG_LEVEL_WARN},
	{"error", LOG_LEVEL_ERROR},
	{NULL, 0},
};

const struct option options[] = {
	/* ---- where clients come in ---- */
	{
		.name = "listen_addr",
		.group = GROUP_LISTEN,
		.type = OPTION_STRING,
		FIELD(listen_addr),
		.preset = "127.0.0.1",
		.help = "Address or host name on which clients are accepted",
		.doc =
			"\"*\" is every address of the machine; empty is no TCP at all. An address that other "
			"machines can reach needs auth_type to be said explicitly.",
		.pgbouncer = "listen_addr",
		.fixed = true,
	},
	{
		.name = "listen_port",
		.group = GROUP_LISTEN,
		.type = OPTION_INT,
		FIELD(listen_port),
		.preset = "6432",
		.min = 1,
		.max = 65535,
		.help = "Port on which clients are accepted",
		.doc = "Also part of the name of the unix socket.",
		.pgbouncer = "listen_port",
		.fixed = true,
	},
	{
		.name = "unix_socket_dir",
		.group = GROUP_LISTEN,
		.type = OPTION_STRING,
		FIELD(unix_socket_dir),
		.preset = "",
		.help = "Directory for a unix socket, .s.PGSQL.<listen_port>",
		.doc = "Empty is no unix socket.",
		.pgbouncer = "unix_socket_dir",
		.fixed = true,
	},
	{
		.name = "http_listen",
		.group = GROUP_LISTEN,
		.type = OPTION_HOSTPORT,
		FIELD(http_listen_addr),
		.port_offset = offsetof(struct settings, http_listen_port),
		.preset = "",
		.help = "HOST:PORT of /metrics (Prometheus) and /healthz",
		.doc =
			"Empty is no HTTP. A port alone listens on 127.0.0.1; nobody is asked for a password, so "
			"think before you listen on more.",
		.fixed = true,
	},

	/* ---- what they speak ---- */
	{
		.name = "client_tls_sslmode",
		.group = GROUP_TLS,
		.type = OPTION_ENUM,
		FIELD(client_tls.mode),
		.preset = "disable",
		.words = words_sslmode,
		.help = "Whether clients may or must use TLS",
		.doc =
			"disable: no TLS. allow, prefer: TLS where the client asks for it. require: TLS only, but for unix sockets. verify-ca, verify-full: TLS only, and with a certificate that client_tls_ca_file vouches for; the two are the same here. TLS 1.2 is the least. All of these options are read again on reload, for connections to come.",
		.pgbouncer = "client_tls_sslmode",
	},
	{
		.name = "client_tls_key_file",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(client_tls.key_file),
		.preset = "",
		.help = "Private key for client_tls_cert_file",
		.doc = "PEM, without a passphrase.",
		.pgbouncer = "client_tls_key_file",
	},
	{
		.name = "client_tls_cert_file",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(client_tls.cert_file),
		.preset = "",
		.help = "Certificate shown to clients",
		.doc = "PEM; certificates of authorities in between follow it in the same file.",
		.pgbouncer = "client_tls_cert_file",
	},
	{
		.name = "client_tls_ca_file",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(client_tls.ca_file),
		.preset = "",
		.help = "Authorities that vouch for the certificates of clients",
		.doc =
			"With it, clients are asked for a certificate, and one that is shown has to be good; only verify-ca and verify-full need one.",
		.pgbouncer = "client_tls_ca_file",
	},
	{
		.name = "client_tls_protocols",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(client_tls.protocols),
		.preset = "secure",
		.help = "TLS versions that clients may use",
		.doc = "secure is tlsv1.2,tlsv1.3; or one of them. Older ones are refused.",
		.pgbouncer = "client_tls_protocols",
	},
	{
		.name = "client_tls_ciphers",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(client_tls.ciphers),
		.preset = "default",
		.help = "Ciphers of TLS 1.2 that clients may use",
		.doc =
			"A list in the notation of OpenSSL. default, secure, normal and fast are all the same: AES-GCM and ChaCha20 with forward secrecy.",
		.pgbouncer = "client_tls_ciphers",
	},
	{
		.name = "server_tls_sslmode",
		.group = GROUP_TLS,
		.type = OPTION_ENUM,
		FIELD(server_tls.mode),
		.preset = "prefer",
		.words = words_sslmode,
		.help = "Whether TLS is spoken to servers whose line in [nodes] has no sslmode",
		.doc =
			"disable: no TLS. allow, prefer: TLS if the server has it, without asking who it is. require: TLS or nothing; who the server is counts only if there are authorities. verify-ca: its certificate must be vouched for. verify-full: and made out to the host of the node. Watchers and cancel requests do the same as pooled connections. A reload reads the files again; another mode needs a restart.",
		.pgbouncer = "server_tls_sslmode",
		.fixed = true,
	},
	{
		.name = "server_tls_ca_file",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(server_tls.ca_file),
		.preset = "",
		.help = "Authorities that vouch for servers without an sslrootcert",
		.doc = "PEM; or the word system, for those that the system trusts.",
		.pgbouncer = "server_tls_ca_file",
	},
	{
		.name = "server_tls_cert_file",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(server_tls.cert_file),
		.preset = "",
		.help = "Certificate shown to servers without an sslcert",
		.pgbouncer = "server_tls_cert_file",
	},
	{
		.name = "server_tls_key_file",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(server_tls.key_file),
		.preset = "",
		.help = "Its private key",
		.doc = "PEM, without a passphrase.",
		.pgbouncer = "server_tls_key_file",
	},
	{
		.name = "server_tls_protocols",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(server_tls.protocols),
		.preset = "secure",
		.help = "TLS versions spoken to servers",
		.doc = "As client_tls_protocols.",
		.pgbouncer = "server_tls_protocols",
	},
	{
		.name = "server_tls_ciphers",
		.group = GROUP_TLS,
		.type = OPTION_STRING,
		FIELD(server_tls.ciphers),
		.preset = "default",
		.help = "Ciphers of TLS 1.2 spoken to servers",
		.doc = "As client_tls_ciphers.",
		.pgbouncer = "server_tls_ciphers",
	},

	/* ---- who may come in ---- */
	{
		.name = "auth_type",
		.group = GROUP_AUTH,
		.type = OPTION_ENUM,
		FIELD(auth_type),
		.preset = "trust",
		.words = words_auth,
		.help = "How clients prove who they are",
		.doc =
			"trust asks for nothing: for a machine of your own. md5 and scram-sha-256 look the user up "
			"in auth_file. With md5, a user whose secret in the file is a SCRAM verifier is asked for "
			"SCRAM. plain asks for the password itself, over TLS or a unix socket only. cert takes the "
			"user from the common name in the client's certificate, and needs client_tls_sslmode = "
			"verify-full. peer asks the kernel who is at the other end of a unix socket. hba looks "
			"into auth_hba_file. See docs/authentication.md.",
		.pgbouncer = "auth_type",
	},
	{
		.name = "auth_hba_file",
		.group = GROUP_AUTH,
		.type = OPTION_STRING,
		FIELD(auth_hba_file),
		.preset = "",
		.help = "Rules in the format of pg_hba.conf, for auth_type = hba",
		.doc =
			"A line that is not understood is a fault of the whole file; docs/authentication.md has what "
			"is. Read again on reload.",
		.pgbouncer = "auth_hba_file",
	},
	{
		.name = "auth_ident_file",
		.group = GROUP_AUTH,
		.type = OPTION_STRING,
		FIELD(auth_ident_file),
		.preset = "",
		.help = "Maps in the format of pg_ident.conf, for map= in auth_hba_file",
		.doc = "Read again on reload.",
		.pgbouncer = "auth_ident_file",
	},
	{
		.name = "auth_file",
		.group = GROUP_AUTH,
		.type = OPTION_STRING,
		FIELD(auth_file),
		.preset = "",
		.help = "File of users and their secrets",
		.doc =
			"Lines of \"name\" \"secret\", as in PgBouncer's userlist.txt; a quote inside is doubled. The "
			"secret is a password, md5 and 32 hex digits, or a SCRAM-SHA-256 verifier as "
			"pg_authid.rolpassword has it. The same secrets log in to the servers, where that needs "
			"a password or, for md5, the hash. A relative path counts from the working directory. "
			"Read again on reload.",
		.pgbouncer = "auth_file",
	},
	{
		.name = "auth_user",
		.group = GROUP_AUTH,
		.type = OPTION_STRING,
		FIELD(lookup.user),
		.preset = "",
		.help = "Looks up on the primary, as this user, who is not in auth_file",
		.doc =
			"Without it only those of auth_file are known. Its own secret is what auth_file has for it. "
			"Can be said for a database, too: auth_user=… in [databases]. See docs/authentication.md.",
		.pgbouncer = "auth_user",
	},
	{
		.name = "auth_query",
		.group = GROUP_AUTH,
		.type = OPTION_STRING,
		FIELD(lookup.query),
		.preset = DEFAULT_AUTH_QUERY,
		.help = "The question for a user: $1 is the name",
		.doc =
			"One row with the name and what is stored for it (a password, md5…, SCRAM-SHA-256$…, or NULL: "
			"no password is right), or none. It is run with search_path = pg_catalog: functions and "
			"tables of your own need their schema. The default needs the rights to read pg_authid; better "
			"is a function of your own, SECURITY DEFINER, that heeds rolvaliduntil.",
		.pgbouncer = "auth_query",
	},
	{
		.name = "auth_dbname",
		.group = GROUP_AUTH,
		.type = OPTION_STRING,
		FIELD(lookup.dbname),
		.preset = "",
		.help = "The database of [databases] in which auth_query is run",
		.doc =
			"Without it: the one that the client asks for, or, if only * serves that one, the database of "
			"the primary's line in [nodes].",
		.pgbouncer = "auth_dbname",
	},
	{
		.name = "auth_query_ttl",
		.group = GROUP_AUTH,
		.type = OPTION_TIME,
		FIELD(auth_query_ttl_us),
		.preset = "5s",
		.min = 0,
		.max = HOUR,
		.help = "For how long an answer of auth_query counts",
		.doc =
			"It is forgotten at once when a login fails with it, and on reload. 1024 answers are kept. With 0 "
			"every login asks. For so long a user who was dropped, or whose password was changed or has run "
			"out, may still come in.",
	},
	{
		.name = "admin_users",
		.group = GROUP_AUTH,
		.type = OPTION_STRING,
		FIELD(admin_users),
		.preset = "postgres",
		.help = "Users that may connect to the admin database \"tidemark\"",
		.doc = "Comma separated. The database is also there under the name \"pgbouncer\", unless "
			   "[databases] lists one of that name.",
		.pgbouncer = "admin_users",
	},
	{
		.name = "stats_users",
		.group = GROUP_AUTH,
		.type = OPTION_STRING,
		FIELD(stats_users),
		.preset = "",
		.help = "Users that may connect to the admin database and look, and do nothing else",
		.doc = "Comma separated. SHOW is all they may say.",
		.pgbouncer = "stats_users",
	},

	/* ---- consistency ---- */
	{
		.name = "mode",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_ENUM,
		FIELD(mode),
		.preset = "route",
		.words = words_mode,
		.help = "Whether reads go to replicas, or it is only reported how that would be",
		.doc =
			"route: reads go to replicas. observe: everything runs on the primary, and SHOW OBSERVE on "
			"the admin database tells, by shape of statement, which reads would have gone to a replica "
			"and which of them a splitter without positions would have answered stale; see "
			"docs/observe.md. A reload changes it.",
	},
	{
		.name = "consistency",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_ENUM,
		FIELD(policy.level),
		.preset = "session",
		.words = words_consistency,
		.help = "What a read may see, unless the session says otherwise",
		.doc =
			"strong: the primary only. session: a session reads its own writes and never goes back in "
			"time. bounded: a replica whose lag is at most max_lag. eventual: any healthy replica. "
			"A client overrides it with SET tidemark.consistency, a startup option or a query tag.",
	},
	{
		.name = "scope",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_ENUM,
		FIELD(scope),
		.preset = "database",
		.words = words_scope,
		.help = "Who shares a session, among clients that name none",
		.doc =
			"database: all connections of one database; safe for an application with its own connection "
			"pool, where the write and the next read take different connections. connection: each "
			"connection for itself; cheaper, for applications that keep one connection per user or "
			"that name their sessions.",
	},
	{
		.name = "strategy",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_ENUM,
		FIELD(policy.strategy),
		.preset = "position",
		.words = words_strategy,
		.help = "How a session's writes are kept visible to it",
		.doc =
			"position: by the log position of its last commit. pin_fixed: after a write it reads from the "
			"primary for pin_window. pin_auto: the same, and the window follows the measured "
			"replication delay.",
	},
	{
		.name = "wait_timeout",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_TIME,
		FIELD(policy.wait_timeout_us),
		.preset = "100ms",
		.min = 0,
		.max = HOUR,
		.help = "How long a read may wait for a replica to catch up",
		.doc =
			"It waits only if a replica is expected to get there in time, else it goes to the primary at "
			"once. 0 never waits.",
	},
	{
		.name = "max_lag",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_TIME,
		FIELD(policy.max_lag_us),
		.preset = "100ms",
		.min = 0,
		.max = DAY,
		.help = "The most a replica may lag for consistency = bounded",
		.doc = "Measured against the router's own clock, not the servers'.",
	},
	{
		.name = "pin_window",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_TIME,
		FIELD(policy.pin_window_us),
		.preset = "5s",
		.min = 0,
		.max = DAY,
		.help =
			"How long a session reads from the primary after a write, with strategy = pin_fixed",
		.doc =
			"A window shorter than the replication lag lets stale reads through: positions do not.",
	},
	{
		.name = "split_transactions",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_ENUM,
		FIELD(split_transactions),
		.preset = "off",
		.words = words_split,
		.help = "Which transactions that may write can begin on a replica",
		.doc =
			"off: none. read_committed: one at the isolation level READ COMMITTED begins on a replica if "
			"its first statement is a plain read, and moves to the primary with the first that is not; "
			"docs/consistency.md says what an application could notice. BEGIN READ WRITE keeps a "
			"transaction on the primary; a client overrides this with SET "
			"tidemark.split_transactions or a startup option.",
	},
	{
		.name = "query_tags",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_BOOL,
		FIELD(query_tags),
		.preset = "on",
		.help = "Obey tidemark_… tags in leading and trailing SQL comments",
		.doc = "Switch it off where users can put comments into statements.",
	},
	{
		.name = "token_key_file",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_STRING,
		FIELD(token_key_file),
		.preset = "",
		.help = "File of the keys that sign and verify tokens, shared by all routers",
		.doc =
			"Lines of id:hex as tidemark token make-key prints them; the first key signs, all are "
			"accepted. Without it the router makes a key of its own when it starts: its tokens then "
			"mean nothing to other routers, nor after a restart, and reads that bring them go to the "
			"primary. docs/token.md tells how to replace a key.",
	},
	{
		.name = "token_ttl",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_TIME,
		FIELD(token_ttl_us),
		.preset = "1d",
		.min = 0,
		.max = 365 * DAY,
		.help = "Tokens older than this are not accepted; 0 is no limit",
		.doc = "A read that brings an expired token goes to the primary, and gets a fresh one.",
	},
	{
		.name = "token_binding",
		.group = GROUP_CONSISTENCY,
		.type = OPTION_ENUM,
		FIELD(token_binding),
		.preset = "none",
		.words = words_binding,
		.help = "What tokens are good for: any session, or only the one they were given to",
		.doc =
			"session: a token that is given out while tidemark.session is set is accepted with that "
			"name only.",
	},

	/* ---- sessions shared by several routers ---- */
	{
		.name = "session_store",
		.group = GROUP_STORE,
		.type = OPTION_ENUM,
		FIELD(session_store),
		.preset = "memory",
		.words = words_session_store,
		.help = "Where the marks of named sessions are kept",
		.doc =
			"memory: each router knows only what went through it. redis: routers that name the same Redis share them, and a session that writes through one reads its write through the other. Where Redis does not answer, named sessions read from the primary. docs/consistency.md has the details.",
		.fixed = true,
	},
	{
		.name = "redis",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(redis),
		.preset = "127.0.0.1:6379",
		.help = "HOST:PORT of Redis, or the directory-and-name of its unix socket",
		.doc =
			"With redis_sentinel_master, a comma separated list of sentinels. Redis must not evict keys: maxmemory-policy noeviction.",
		.fixed = true,
	},
	{
		.name = "redis_sentinel_master",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(store.sentinel_master),
		.preset = "",
		.help = "Name of the master that the sentinels are asked for",
		.doc = "Empty: redis is the server itself.",
		.fixed = true,
	},
	{
		.name = "redis_user",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(store.user),
		.preset = "",
		.help = "User to log in to Redis as",
		.doc = "Empty is the default user.",
		.fixed = true,
	},
	{
		.name = "redis_password",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(store.password),
		.preset = "",
		.help = "Password for Redis",
		.doc = "Better in the file than on the command line, where others can read it.",
		.fixed = true,
		.secret = true,
	},
	{
		.name = "redis_sentinel_password",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(store.sentinel_password),
		.preset = "",
		.help = "Password for the sentinels",
		.fixed = true,
		.secret = true,
	},
	{
		.name = "redis_db",
		.group = GROUP_STORE,
		.type = OPTION_INT,
		FIELD(store.database),
		.preset = "0",
		.min = 0,
		.max = 65535,
		.help = "Number of the Redis database",
		.fixed = true,
	},
	{
		.name = "redis_tls",
		.group = GROUP_STORE,
		.type = OPTION_BOOL,
		FIELD(store.tls),
		.preset = "off",
		.help = "Speak TLS to Redis",
		.fixed = true,
	},
	{
		.name = "redis_tls_ca_file",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(store.tls_ca_file),
		.preset = "",
		.help = "Certificates that Redis is verified against",
		.doc = "Empty is what the system trusts.",
		.fixed = true,
	},
	{
		.name = "redis_tls_cert_file",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(store.tls_cert_file),
		.preset = "",
		.help = "Certificate shown to Redis",
		.fixed = true,
	},
	{
		.name = "redis_tls_key_file",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(store.tls_key_file),
		.preset = "",
		.help = "Its private key",
		.fixed = true,
	},
	{
		.name = "redis_tls_server_name",
		.group = GROUP_STORE,
		.type = OPTION_STRING,
		FIELD(store.tls_server_name),
		.preset = "",
		.help = "Name the certificate of Redis must bear",
		.doc = "Empty is the host that is connected to.",
		.fixed = true,
	},
	{
		.name = "redis_command_timeout",
		.group = GROUP_STORE,
		.type = OPTION_TIME,
		FIELD(store.command_timeout_us),
		.preset = "30ms",
		.min = MS,
		.max = 10 * SEC,
		.help = "How long one answer of Redis may take",
		.doc = "A server that is slower counts as down.",
		.fixed = true,
	},
	{
		.name = "redis_connect_timeout",
		.group = GROUP_STORE,
		.type = OPTION_TIME,
		FIELD(store.connect_timeout_us),
		.preset = "500ms",
		.min = MS,
		.max = 60 * SEC,
		.help = "How long connecting to Redis may take",
		.fixed = true,
	},
	{
		.name = "redis_lease",
		.group = GROUP_STORE,
		.type = OPTION_TIME,
		FIELD(store.lease_us),
		.preset = "300ms",
		.min = 30 * MS,
		.max = 60 * SEC,
		.help =
			"After how long without a sign of life the other routers cease to rely on a router's marks",
		.doc =
			"At the beginning of an outage of Redis, writes of named sessions wait so long for their answer.",
		.fixed = true,
	},

	/* ---- the fleet ---- */
	{
		.name = "poll_idle_interval",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(watch.idle_interval_us),
		.preset = "250ms",
		.min = MS,
		.max = HOUR,
		.help = "How often a server's position is asked while nobody waits for it",
		.fixed = true,
	},
	{
		.name = "poll_busy_interval",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(watch.busy_interval_us),
		.preset = "1ms",
		.min = 100 * US,
		.max = 10 * SEC,
		.help = "How often the replicas' positions are asked while somebody waits for one",
		.doc =
			"A question costs the server about 13 µs of CPU. A replica whose usual delay is longer than "
			"16 times this is asked less often: every sixteenth of its delay.",
		.fixed = true,
	},
	{
		.name = "answer_timeout",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(watch.answer_timeout_us),
		.preset = "1s",
		.min = 10 * MS,
		.max = HOUR,
		.help = "A server that does not answer the watcher for so long is taken for lost",
		.fixed = true,
	},
	{
		.name = "sample_max_age",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(sample_max_age_us),
		.preset = "2s",
		.min = 10 * MS,
		.max = HOUR,
		.help = "A replica whose position is known only from so long ago serves no reads",
		.doc = "At least twice poll_idle_interval.",
		.fixed = true,
	},
	{
		.name = "patroni",
		.group = GROUP_FLEET,
		.type = OPTION_STRING,
		FIELD(patroni_members),
		.preset = "",
		.help = "Patroni's REST API, http://HOST:PORT of each member, comma separated",
		.doc =
			"A server is then taken for the primary only if Patroni calls it the leader too. [nodes] must "
			"use the host and port of Patroni's connect_address. Port 8008 if none is given.",
		.fixed = true,
	},
	{
		.name = "patroni_interval",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(patroni.interval_us),
		.preset = "1s",
		.min = 100 * MS,
		.max = 60 * SEC,
		.help = "How often Patroni is asked, one member after another",
		.fixed = true,
	},
	{
		.name = "patroni_max_age",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(patroni.max_age_us),
		.preset = "5s",
		.min = 2 * SEC,
		.max = HOUR,
		.help = "For how long Patroni's word holds; after that roles and histories alone decide",
		.doc =
			"At least patroni_interval and 1 s, the time limit of a question. As long as this a router waits "
			"for Patroni's first word, too.",
		.fixed = true,
	},
	{
		.name = "replica_max_lag",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(policy.replica_max_lag_us),
		.preset = "0",
		.min = 0,
		.max = DAY,
		.help = "A replica that lags more serves no reads, at any level; 0 is no limit",
		.doc =
			"By the router's own measure, as max_lag. A lag that is not known is over any limit; without "
			"a primary to compare with, the lag of every replica grows. Nothing waits for such a replica.",
	},
	{
		.name = "slow_start",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(slow_start_us),
		.preset = "10s",
		.min = 0,
		.max = HOUR,
		.help = "How long a replica that comes back takes to get its whole share of the reads",
		.doc =
			"Its caches are cold: it begins with a sixteenth. A session that no other replica satisfies "
			"is served all the same. 0 is at once.",
	},

	{
		.name = "outlier_latency",
		.group = GROUP_FLEET,
		.type = OPTION_INT,
		FIELD(outlier_factor),
		.preset = "0",
		.min = 0,
		.max = 1000,
		.help =
			"A replica that takes so many times as long as every other one is left out; 0 is never",
		.doc =
			"By the median of 32 reads, from sending them to their first row; for 10 s, longer each time that "
			"it is as slow again, and never the last replica. It is off because work that differs between "
			"replicas differs in time as well: switch it on where all do the same, with 10 say.",
	},
	{
		.name = "outlier_latency_floor",
		.group = GROUP_FLEET,
		.type = OPTION_TIME,
		FIELD(outlier_floor_us),
		.preset = "100ms",
		.min = 0,
		.max = HOUR,
		.help = "A replica that is faster than this is never left out for outlier_latency",
	},

	/* ---- pools ---- */
	{
		.name = "default_pool_size",
		.group = GROUP_POOLS,
		.type = OPTION_INT,
		FIELD(default_pool_size),
		.preset = "20",
		.min = 1,
		.max = 10000,
		.help = "Server connections per database, user and server",
		.doc = "A database of its own sets pool_size in [databases].",
		.pgbouncer = "default_pool_size",
	},
	{
		.name = "max_client_conn",
		.group = GROUP_POOLS,
		.type = OPTION_INT,
		FIELD(max_client_conn),
		.preset = "1000",
		.min = 1,
		.max = 1000000,
		.help = "Client connections at once; further ones are refused",
		.doc = "The limit of open files must allow for it.",
		.pgbouncer = "max_client_conn",
	},
	{
		.name = "max_pool_waiting",
		.group = GROUP_POOLS,
		.type = OPTION_INT,
		FIELD(max_pool_waiting),
		.preset = "10000",
		.min = 0,
		.max = 1000000,
		.help =
			"Clients that may wait for a server connection of one pool; further ones get an error",
	},
	{
		.name = "fallback_pool_share",
		.group = GROUP_POOLS,
		.type = OPTION_INT,
		FIELD(fallback_pool_share),
		.preset = "50",
		.min = 1,
		.max = 100,
		.help =
			"Percent of a pool of the primary that reads may take which are there for want of a replica",
		.doc =
			"So that losing the replicas cannot stampede the primary: what is over it waits, and writes pass, "
			"until query_wait_timeout and max_pool_waiting. At least one connection; 100 is no limit. A fleet "
			"without replicas has none.",
	},
	{
		.name = "max_prepared_statements",
		.group = GROUP_POOLS,
		.type = OPTION_INT,
		FIELD(max_prepared_statements),
		.preset = "200",
		.min = 1,
		.max = 100000,
		.help = "Prepared statements kept per server connection",
		.doc =
			"The least recently used goes first; a client never notices, because it is prepared again "
			"where needed. Unlike PgBouncer's, it cannot be 0: prepared statements always work.",
		.pgbouncer = "max_prepared_statements",
	},

	/* ---- times ---- */
	{
		.name = "query_wait_timeout",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(query_wait_timeout_us),
		.preset = "2min",
		.min = 0,
		.max = DAY,
		.help = "How long a client may wait for a server connection before it gets an error",
		.doc = "0 is no limit.",
		.pgbouncer = "query_wait_timeout",
	},
	{
		.name = "failover_timeout",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(failover_timeout_us),
		.preset = "10s",
		.min = 0,
		.max = HOUR,
		.help = "How long a statement waits for a primary when none can be reached",
		.doc =
			"A restart or a failover is a pause for what was not sent yet, and no error. What was sent gets its error "
			"at once. 0 is an error at once.",
	},
	{
		.name = "server_idle_timeout",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(server_idle_timeout_us),
		.preset = "10min",
		.min = 0,
		.max = 365 * DAY,
		.help = "Server connections unused for so long are closed",
		.doc = "0 is no limit.",
		.pgbouncer = "server_idle_timeout",
	},
	{
		.name = "server_lifetime",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(server_lifetime_us),
		.preset = "1h",
		.min = 0,
		.max = 365 * DAY,
		.help = "Server connections older than this are closed when they are next unused",
		.doc = "0 is no limit.",
		.pgbouncer = "server_lifetime",
	},
	{
		.name = "server_connect_timeout",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(server_connect_timeout_us),
		.preset = "5s",
		.min = 10 * MS,
		.max = HOUR,
		.help = "How long connecting and logging in to a server may take",
		.doc = "Also how long a connection may take to come free when its client has gone.",
		.pgbouncer = "server_connect_timeout",
	},
	{
		.name = "server_login_retry",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(server_login_retry_us),
		.preset = "1s",
		.min = 0,
		.max = HOUR,
		.help = "Pause after a failed connection to a server before the next attempt",
		.pgbouncer = "server_login_retry",
	},
	{
		.name = "client_login_timeout",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(client_login_timeout_us),
		.preset = "1min",
		.min = 10 * MS,
		.max = HOUR,
		.help = "How long a client may take to log in",
		.pgbouncer = "client_login_timeout",
	},
	{
		.name = "client_idle_timeout",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(client_idle_timeout_us),
		.preset = "0",
		.min = 0,
		.max = 365 * DAY,
		.help = "Clients silent for so long are disconnected",
		.doc = "0 is no limit.",
		.pgbouncer = "client_idle_timeout",
	},
	{
		.name = "client_eof_timeout",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(client_eof_timeout_us),
		.preset = "1min",
		.min = 10 * MS,
		.max = HOUR,
		.help = "How long a client that has ended what it sends is still answered",
		.doc =
			"It may have closed its sending half and wait for answers, or be gone: TCP tells no difference. "
			"After that it is disconnected, and what it waited for is cancelled.",
	},
	{
		.name = "shutdown_timeout",
		.group = GROUP_TIMEOUTS,
		.type = OPTION_TIME,
		FIELD(shutdown_timeout_us),
		.preset = "30s",
		.min = 0,
		.max = DAY,
		.help = "How long running transactions may go on after SIGTERM",
	},

	/* ---- limits ---- */
	{
		.name = "max_packet_size",
		.group = GROUP_LIMITS,
		.type = OPTION_SIZE,
		FIELD(max_packet_size),
		.preset = "16MB",
		.min = 2 * CLASSIFY_TEXT_MAX,
		.max = 1024 * MB - 1,
		.help = "The largest client message that is held in memory whole",
		.doc =
			"Larger ones are streamed where the protocol allows it, else refused. Memory is taken only "
			"while such a message is under way.",
		.pgbouncer = "max_packet_size",
	},
	{
		.name = "max_client_statements_size",
		.group = GROUP_LIMITS,
		.type = OPTION_SIZE,
		FIELD(max_client_statements_size),
		.preset = "16MB",
		.min = 64 * KB,
		.max = 1024 * MB,
		.help = "The most that the prepared statements of one client may take, names and texts",
		.doc =
			"The router keeps them so that it can prepare them on any server connection. One more fails "
			"with 53400; Close and DEALLOCATE make room. The texts that one server connection has "
			"prepared take no more either: those used longest ago are closed there.",
	},
	{
		.name = "max_waiting",
		.group = GROUP_LIMITS,
		.type = OPTION_INT,
		FIELD(max_waiting),
		.preset = "1000",
		.min = 0,
		.max = 1000000,
		.help = "Reads that may wait for a replica at once; further ones go to the primary",
		.fixed = true,
	},
	{
		.name = "max_sessions",
		.group = GROUP_LIMITS,
		.type = OPTION_INT,
		FIELD(max_sessions),
		.preset = "100000",
		.min = 16,
		.max = 10000000,
		.help = "Named sessions kept in memory",
		.doc = "Beyond it the least recently used is forgotten in a way that keeps its guarantee.",
		.fixed = true,
	},
	{
		.name = "session_ttl",
		.group = GROUP_LIMITS,
		.type = OPTION_TIME,
		FIELD(session_ttl_us),
		.preset = "1h",
		.min = SEC,
		.max = 30 * DAY,
		.help = "Named sessions unused for so long are forgotten",
		.doc = "Keep it above any replication lag you want to survive.",
	},
	{
		.name = "max_cached_statements",
		.group = GROUP_LIMITS,
		.type = OPTION_INT,
		FIELD(max_cached_statements),
		.preset = "5000",
		.min = 16,
		.max = 1000000,
		.help = "Classified statements kept per database",
		.fixed = true,
	},
	{
		.name = "observe_max_shapes",
		.group = GROUP_LIMITS,
		.type = OPTION_INT,
		FIELD(observe_max_shapes),
		.preset = "1000",
		.min = 16,
		.max = 10000,
		.help = "Shapes of statements that mode = observe tells apart",
		.doc =
			"Beyond it little-used ones are counted together as \"(others)\". Less than a kilobyte each, "
			"taken when the mode is first switched on.",
		.fixed = true,
	},
	{
		.name = "observe_max_pending",
		.group = GROUP_LIMITS,
		.type = OPTION_INT,
		FIELD(observe_max_pending),
		.preset = "1024",
		.min = 0,
		.max = 16384,
		.help = "Reads that mode = observe judges by the next sample; further ones stay undecided",
		.fixed = true,
	},

	/* ---- log ---- */
	{
		.name = "log_level",
		.group = GROUP_LOG,
		.type = OPTION_ENUM,
		FIELD(log_level),
		.preset = "info",
		.words = words_log_level,
		.help = "What is logged, to stderr",
		.doc = "-v on the command line is debug.",
	},
	{
		.name = "log_connections",
		.group = GROUP_LOG,
		.type = OPTION_BOOL,
		FIELD(log_connections),
		.preset = "on",
		.help = "Log clients that log in",
		.pgbouncer = "log_connections",
	},
};

const int options_count = (int)(sizeof(options) / sizeof(options[0]));

static char fold(char c)
{
	return c == '-' ? '_' : c;
}

static bool name_equal(const char *a, const char *b)
{
	while (*a && fold(*a) == fold(*b)) {
		a++;
		b++;
	}
	return fold(*a) == fold(*b);
}

const struct option *options_find(const char *name)
{
	for (int i = 0; i < options_count; i++) {
		if (name_equal(options[i].name, name))
			return &options[i];
	}
	return NULL;
}

#define NAME_MAX_LEN 48

/* Levenshtein distance; names longer than NAME_MAX_LEN are far from everything. */
static size_t distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	size_t row[NAME_MAX_LEN + 1];

	if (la > NAME_MAX_LEN || lb > NAME_MAX_LEN)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = diagonal + (fold(a[i - 1]) != fold(b[j - 1]));
			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}

const char *options_nearest(const char *name)
{
	const char *best = NULL;
	size_t best_distance = strlen(name) / 3 + 1;

	for (int i = 0; i < options_count; i++) {
		size_t d = distance(name, options[i].name);
		if (d <= best_distance && (!best || d < best_distance)) {
			best = options[i].name;
			best_distance = d;
		}
	}
	return best;
}

/* ---- parsing of values ---- */

static void *field(const struct option *o, struct settings *s)
{
	return (char *)s + o->offset;
}

static const void *field_const(const struct option *o, const struct settings *s)
{
	return (const char *)s + o->offset;
}

static bool parse_bool(const char *text, bool *value)
{
	static const char *const yes[] = {"on", "yes", "true", "1"};
	static const char *const no[] = {"off", "no", "false", "0"};

	for (int i = 0; i < 4; i++) {
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*value = strcasecmp(text, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

/* Digits only; no sign, no blanks. */
static bool parse_int(const char *text, int64_t *value)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	*value = n;
	return errno == 0 && *end == '\0';
}

struct unit {
	const char *name; /* NULL ends the list; "" is what a bare number means */
	int64_t scale;
};

static const struct unit units_time[] = {
	{"us", US},  {"ms", MS}, {"s", SEC}, {"min", 60 * SEC},
	{"h", HOUR}, {"d", DAY}, {"", SEC},  {NULL, 0},
};

static const struct unit units_size[] = {
	{"kB", KB}, {"MB", MB}, {"GB", 1024 * MB}, {"", 1}, {NULL, 0},
};

/* A decimal number with a unit; the result is cut to whole units of scale 1. */
static bool parse_scaled(const char *text, const struct unit *units, int64_t *value)
{
	size_t digits = strspn(text, "0123456789");
	size_t len = strspn(text, "0123456789.");
	char number[32];

	if (digits == 0 || len >= sizeof(number))
		return false;
	memcpy(number, text, len);
	number[len] = '\0';
	char *end;
	double n = strtod(number, &end);
	if (*end)
		return false;
	const char *unit = text + len + strspn(text + len, " ");
	for (; units->name; units++) {
		if (strcasecmp(unit, units->name) != 0)
			continue;
		double scaled = n * (double)units->scale;
		if (scaled > 9e18)
			return false;
		*value = (int64_t)(scaled + 0.5);
		return true;
	}
	return false;
}

static void format_scaled(int64_t value, const struct unit *units, char *out, size_t cap)
{
	const struct unit *best = NULL;

	for (const struct unit *u = units; u->name; u++) {
		if (*u->name && value % u->scale == 0 && value != 0 && (!best || u->scale > best->scale))
			best = u;
	}
	if (best)
		snprintf(out, cap, "%lld%s", (long long)(value / best->scale), best->name);
	else
		snprintf(out, cap, "%lld", (long long)value);
}

void option_format_number(const struct option *o, int64_t value, char *out, size_t cap)
{
	if (o->type == OPTION_TIME)
		format_scaled(value, units_time, out, cap);
	else if (o->type == OPTION_SIZE)
		format_scaled(value, units_size, out, cap);
	else
		snprintf(out, cap, "%lld", (long long)value);
}

bool option_parse_word(const struct option_word *words, const char *text, int *value, char *why,
                       size_t cap)
{
	size_t used = 0;

	for (const struct option_word *w = words; w->word; w++) {
		if (strcasecmp(text, w->word) == 0) {
			*value = w->value;
			return true;
		}
	}
	used = (size_t)snprintf(why, cap, "not one of");
	for (const struct option_word *w = words; w->word && used < cap; w++)
		used += (size_t)snprintf(why + used, cap - used, "%s %s", w == words ? "" : ",", w->word);
	return false;
}

bool option_parse_hostport(const char *text, char *host, size_t cap, int *port, char *why,
                           size_t why_cap)
{
	const char *colon = strrchr(text, ':');
	const char *digits = colon ? colon + 1 : text;
	struct slice name = slice_of(text, colon ? (size_t)(colon - text) : 0);
	int64_t number;

	if (!parse_int(digits, &number) || number < 1 || number > 65535) {
		snprintf(
			why, why_cap,
			"not an address with a port (1 to 65535); expected HOST:PORT, such as 127.0.0.1:6432");
		return false;
	}
	if (name.len >= 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']')
		name = slice_of(name.ptr + 1, name.len - 2);
	else if (memchr(name.ptr, ':', name.len)) {
		snprintf(why, why_cap, "an IPv6 address needs brackets, such as [::1]:6432");
		return false;
	}
	if (name.len == 0)
		name = slice_str(colon ? "*" : "127.0.0.1");
	if (name.len >= cap) {
		snprintf(why, why_cap, "the host name is longer than %zu bytes", cap - 1);
		return false;
	}
	memcpy(host, name.ptr, name.len);
	host[name.len] = '\0';
	*port = (int)number;
	return true;
}

static bool in_range(const struct option *o, int64_t value, char *why, size_t cap)
{
	char low[32], high[32];

	if (value >= o->min && value <= o->max)
		return true;
	option_format_number(o, o->min, low, sizeof(low));
	option_format_number(o, o->max, high, sizeof(high));
	snprintf(why, cap, "out of range; expected %s to %s", low, high);
	return false;
}

static bool set_string(const struct option *o, struct settings *s, const char *text, char *why,
                       size_t cap)
{
	size_t len = strlen(text);

	if (len >= o->size) {
		snprintf(why, cap, "longer than %zu bytes", o->size - 1);
		return false;
	}
	memset(field(o, s), 0, o->size);
	memcpy(field(o, s), text, len);
	return true;
}

static bool set_number(const struct option *o, struct settings *s, int64_t value, char *why,
                       size_t cap)
{
	if (!in_range(o, value, why, cap))
		return false;
	if (o->type == OPTION_INT)
		memcpy(field(o, s), &(int){(int)value}, sizeof(int));
	else if (o->type == OPTION_SIZE)
		memcpy(field(o, s), &(size_t){(size_t)value}, sizeof(size_t));
	else
		memcpy(field(o, s), &value, sizeof(value));
	return true;
}

bool option_set(const struct option *o, struct settings *s, const char *text, char *why, size_t cap)
{
	int64_t number;
	int word;
	bool flag;

	switch (o->type) {
	case OPTION_BOOL:
		if (!parse_bool(text, &flag)) {
			snprintf(why, cap, "not a switch; expected on or off");
			return false;
		}
		memcpy(field(o, s), &flag, sizeof(flag));
		return true;
	case OPTION_INT:
		if (!parse_int(text, &number)) {
			snprintf(why, cap, "not a whole number; expected %lld to %lld", (long long)o->min,
			         (long long)o->max);
			return false;
		}
		return set_number(o, s, number, why, cap);
	case OPTION_TIME:
		if (!parse_scaled(text, units_time, &number)) {
			snprintf(why, cap,
			         "not a time; expected a number with us, ms, s, min, h or d, such as %s",
			         strcmp(o->preset, "0") == 0 ? "10s" : o->preset);
			return false;
		}
		return set_number(o, s, number, why, cap);
	case OPTION_SIZE:
		if (!parse_scaled(text, units_size, &number)) {
			snprintf(why, cap, "not a size; expected a number with kB, MB or GB, such as %s",
			         o->preset);
			return false;
		}
		return set_number(o, s, number, why, cap);
	case OPTION_ENUM:
		if (!option_parse_word(o->words, text, &word, why, cap))
			return false;
		memcpy(field(o, s), &word, sizeof(word));
		return true;
	case OPTION_STRING:
		return set_string(o, s, text, why, cap);
	case OPTION_HOSTPORT:
		if (*text == '\0') {
			*(char *)field(o, s) = '\0';
			memset((char *)s + o->port_offset, 0, sizeof(int));
			return true;
		}
		return option_parse_hostport(text, field(o, s), o->size,
		                             (int *)(void *)((char *)s + o->port_offset), why, cap);
	}
	return false;
}

void options_defaults(struct settings *s)
{
	char why[128];

	memset(s, 0, sizeof(*s));
	for (int i = 0; i < options_count; i++) {
		/* A default that its own row refuses is our fault; t_options sees it. */
		if (!option_set(&options[i], s, options[i].preset, why, sizeof(why)))
			abort();
	}
}

static const int *port_of(const struct option *o, const struct settings *s)
{
	return (const int *)(const void *)((const char *)s + o->port_offset);
}

void option_format(const struct option *o, const struct settings *s, char *out, size_t cap)
{
	const void *at = field_const(o, s);
	int number;
	int64_t wide;
	size_t size;

	switch (o->type) {
	case OPTION_BOOL:
		snprintf(out, cap, "%s", *(const bool *)at ? "on" : "off");
		break;
	case OPTION_INT:
		memcpy(&number, at, sizeof(number));
		snprintf(out, cap, "%d", number);
		break;
	case OPTION_TIME:
		memcpy(&wide, at, sizeof(wide));
		option_format_number(o, wide, out, cap);
		break;
	case OPTION_SIZE:
		memcpy(&size, at, sizeof(size));
		option_format_number(o, (int64_t)size, out, cap);
		break;
	case OPTION_ENUM:
		memcpy(&number, at, sizeof(number));
		snprintf(out, cap, "%d", number);
		for (const struct option_word *w = o->words; w->word; w++) {
			if (w->value == number)
				snprintf(out, cap, "%s", w->word);
		}
		break;
	case OPTION_STRING:
		snprintf(out, cap, "%s", (const char *)at);
		break;
	case OPTION_HOSTPORT:
		if (*(const char *)at == '\0')
			snprintf(out, cap, "%s", "");
		else if (strchr(at, ':'))
			snprintf(out, cap, "[%s]:%d", (const char *)at, *port_of(o, s));
		else
			snprintf(out, cap, "%s:%d", (const char *)at, *port_of(o, s));
		break;
	}
}

/* Files, addresses and who may come in hang together with others: only a whole configuration can be
 * checked. */
bool option_changeable(const struct option *o)
{
	return !o->fixed && !o->secret && o->group != GROUP_AUTH && o->group != GROUP_TLS && o->type != OPTION_STRING &&
	       o->type != OPTION_HOSTPORT;
}

bool option_equal(const struct option *o, const struct settings *a, const struct settings *b)
{
	if (o->type == OPTION_STRING)
		return strcmp(field_const(o, a), field_const(o, b)) == 0;
	if (o->type == OPTION_HOSTPORT)
		return strcmp(field_const(o, a), field_const(o, b)) == 0 &&
		       *port_of(o, a) == *port_of(o, b);
	return memcmp(field_const(o, a), field_const(o, b), o->size) == 0;
}

void option_copy(const struct option *o, struct settings *into, const struct settings *from)
{
	memcpy(field(o, into), field_const(o, from), o->size);
	if (o->type == OPTION_HOSTPORT)
		memcpy((char *)into + o->port_offset, port_of(o, from), sizeof(int));
}
