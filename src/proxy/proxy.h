/* SPDX-License-Identifier: PostgreSQL
 *
 * The objects of the proxy and how they hang together. Private to this folder and to admin/, which
 * only reads.
 *
 *   worker ─┬─ fleet, watch, waitlist, sessions          (consistency: who is how far)
 *           ├─ database ─┬─ catalog, stmt_cache, shared mark
 *           │            └─ account (database × user) ── pool (× node) ── server ⇄ client
 *           └─ client ── account, settings (vars), statements, mark
 *
 * One loop, one thread: nothing here is locked. Objects that die while they may be on the call
 * stack are put on worker.dead and freed after the loop's turn; clients that may go on are put on
 * worker.runnable and resumed there too, so no event handler re-enters another one.
 */
#ifndef TM_PROXY_PROXY_H
#define TM_PROXY_PROXY_H

#include "base/buf.h"
#include "base/list.h"
#include "consistency/token.h"
#include "consistency/waitlist.h"
#include "net/net.h"
#include "pgwire/login.h"
#include "pgwire/message.h"
#include "pgwire/reply.h"
#include "prepared.h"
#include "sessions.h"
#include "settings.h"
#include "sql/brief.h"
#include "sql/cache.h"
#include "store/store.h"
#include "stats.h"
#include "vars.h"
#include "watch/patroni.h"
#include "watch/watch.h"

/* One read of a socket takes up to this much. */
#define READ_CHUNK (64 * 1024)
/* What may wait for a peer that does not read: one chunk and what the router adds to it. */
#define OUT_MAX (4 * READ_CHUNK)
/* An extended-protocol batch is held until its Sync so that it can be judged as a whole; past this
 * it goes to the primary as it comes. The same for a reply that may have to be run again. */
#define HOLD_MAX (64 * 1024)
#define NAME_MAX_BYTES 64 /* NAMEDATALEN */

struct worker;
struct database;
struct account;
struct pool;
struct server;
struct client;

/* ------------------------------------------------------------------ pools */

/* default_transaction_isolation of new sessions there, as the last login found it. */
enum default_isolation { ISOLATION_UNKNOWN, ISOLATION_READ_COMMITTED, ISOLATION_OTHER };

struct pool {
	struct account *account;
	int node;
	enum default_isolation isolation;
	struct list idle; /* servers, last used first */
	struct list busy; /* servers connecting, in use or draining */
	int idle_count, busy_count;
	struct list waiting; /* clients, first come first served */
	int waiting_count;
	/* Reads that are here for want of a replica: how many were let in (in the queue, or on a
	 * server), and the others, whom everybody else passes. */
	int fallback_count;
	struct list held;
	int held_count;
	int64_t retry_at_us; /* after a failed connect: not before */
	char error[384], hint[256]; /* of the last failed connect; hint "": none */
	char sqlstate[6];
};

/* What a client hears at login, learnt from a server: one entry for each set of settings. */
struct welcome {
	struct list link;
	struct vars *vars;
	struct buf bytes; /* ParameterStatus messages */
};
#define WELCOMES_MAX 32

struct account {
	struct list link; /* database.accounts */
	struct database *database;
	char user[NAME_MAX_BYTES];
	bool lookups; /* its connections look users up (auth_lookup.h): no client is ever given one */
	enum secret_kind secret_kind; /* for the servers */
	char secret[256];
	struct list welcomes;
	int welcome_count;
	int client_count;
	int pause_count; /* clients held by PAUSE */
	bool asks_sequences; /* a client has asked for currval() or lastval(): account_asks_sequences() */
	int odd_isolation_count; /* servers whose default is not READ COMMITTED */
	struct pool pools[FLEET_NODES_MAX];
};

enum catalog_state { CATALOG_WANTED, CATALOG_LOADING, CATALOG_CURRENT };

struct database {
	struct list link; /* worker.databases */
	struct worker *worker;
	char name[NAME_MAX_BYTES];   /* as clients ask for it */
	char dbname[NAME_MAX_BYTES]; /* on the servers */
	int pool_size;
	enum scope scope;
	struct route_policy policy;
	/* SCOPE_DATABASE: one mark for all names of one database on the servers. */
	struct session_mark *shared, own_shared;
	struct catalog *catalog;
	struct stmt_cache *cache;
	enum catalog_state catalog_state;
	struct server *catalog_loader; /* runs the load; one at a time */
	int64_t catalog_loaded_at_us;
	int64_t ddl_began_us, ddl_at_us; /* the first DDL that the catalog does not know, and the last */
	uint32_t
		ddl_count; /* DDL seen: what servers prepared before may have another result type now */
	bool paused;   /* its clients get no server … */
	bool disabled; /* no new clients */
	struct list accounts;
	struct database_stats stats, stats_last, stats_before; /* now; when STATS_PERIOD last ended; the
	                                                          one before */
};

/* ---------------------------------------------------------------- servers */

/*
 *   CONNECTING ─▶ LOGIN ─▶ VERIFY ─▶ IDLE ⇄ ACTIVE ─▶ (client gone, replies owed) DRAIN ─▶ IDLE
 *                                     ▲  ╲                                          ▲
 *                                     │   ▶ SYNC (settings replayed for a client) ──┤
 *                                     │   ▶ TASK (catalog, reset) ──────────────────┤
 *                                     ╰── UNSEEN (ACTIVE, and at rest: unseen.h) ◀───╯
 *        any error ─▶ dead
 */
enum server_state {
	SERVER_CONNECTING,
	SERVER_LOGIN,
	SERVER_VERIFY, /* is this the server the watcher knows? */
	SERVER_IDLE,
	SERVER_SYNC,
	SERVER_ACTIVE,
	SERVER_DRAIN,
	SERVER_TASK,
	SERVER_UNSEEN, /* asked what functions have left behind */
	SERVER_DEAD,
};

/* SOME: not settings, nor advisory locks. */
enum unseen { UNSEEN_NOTHING, UNSEEN_SOME, UNSEEN_ANY };
enum unseen_step { UNSEEN_ASKS, UNSEEN_COMPARES, UNSEEN_ROLLS_BACK };

enum server_task { TASK_NONE, TASK_CATALOG, TASK_RESET, TASK_LOOKUP };

#define SERVER_PARAMS_MAX 64

struct server {
	struct list link; /* pool.idle or pool.busy, worker.dead */
	struct worker *worker;
	struct pool *pool;
	struct net_stream *stream;
	enum server_state state;
	enum server_task task;
	struct client *client; /* ACTIVE, SYNC */
	struct client *asker;  /* TASK_LOOKUP: for whom; NULL: he is gone */
	int64_t lookup_asked_us;
	int64_t incarnation;   /* postmaster start of the server it talks to, µs since 1970 */
	enum default_isolation isolation; /* its own, at login */
	struct login *login;   /* while logging in */
	int64_t alone_since_us; /* in DRAIN or TASK without a client; 0: it is not, or was not seen so yet */

	struct replies replies;
	struct buf in;     /* bytes of the server not yet understood */
	struct buf out;    /* bytes the server's socket did not take */
	uint64_t skip;     /* bytes left of a message that is passed through */
	bool skip_forward; /* … to the client, else dropped */

	/* What this connection carries. */
	struct vars *vars;       /* NULL: not known, never to be reused */
	struct vars *vars_after; /* SYNC: what it will carry */
	struct server_stmts stmts;
	uint32_t stmts_ddl;   /* database.ddl_count when they were prepared */
	struct stmt *unnamed; /* what its unnamed statement is */
	uint64_t unnamed_by;  /* … for the client of that serial */
	bool capture_prepared, guard_prepared;
	uint8_t unseen_prepared; /* enum unseen, one bit each */
	/* Who may have called nextval() here, and who has run code that may have set what no question finds,
	 * settings of its own under names that nobody knows: a client's serial, 0 nobody, UINT64_MAX several. */
	uint64_t sequence_user, sets_user;
	struct digest who; /* the session's user and role, at login */
	/* What statements may have left here that nobody saw, by their own and by functions' doing; and the last of
	 * them: BRIEF_MAX bytes, NULL before there was one. */
	uint8_t unseen; /* enum unseen */
	char *suspect;
	/* The question about it. */
	uint8_t unseen_step;    /* enum unseen_step */
	uint8_t found;          /* enum bind_reason */
	bool row_seen;
	struct digest set_here; /* the session's settings */
	int64_t unseen_asked_us;
	struct buf params; /* ParameterStatus, "name\0value\0…" */
	uint32_t pid;
	uint8_t key[256];
	uint16_t key_len;

	/* The turn it runs. */
	bool flushed;     /* was asked for all it owes */
	uint32_t unproven; /* outstanding answers of that kind: reply_is_unproven() */
	bool in_tx_after; /* once everything sent has run, a transaction is open */
	bool barrier;   /* what was sent drops prepared statements: nothing follows before its answer */
	bool mid_batch; /* messages of a batch were sent and its Sync was not: it may hold a transaction
	                   open */
	bool counted;   /* in the fleet's outstanding */
	bool on_replica;  /* the turn runs on a replica */
	bool pinned;      /* … and its transaction cannot move from there: transaction.h */
	bool observed;    /* … on the primary, though it could have (mode = observe) */
	bool reading;     /* the turn is a plain read on a replica: may be run again elsewhere */
	bool many;        /* … of more than one statement: held until it is complete */
	bool rolled_back; /* a command tag said ROLLBACK since the last rest */
	int captures;     /* capture questions outstanding */
	int64_t capture_asked_us;        /* when the oldest of them was sent */
	struct buf replay;               /* the bytes of such a read */
	/* A guarded read (route.h) whose guard is not answered yet: what it must have reached; the
	 * fleet's word on the node when that was decided; the guard's own answer. */
	struct position guard, guard_at;
	uint32_t guard_epoch, guard_generation;
	int64_t guard_asked_us;
	struct position guard_after;     /* FAULT_GUARD_AFTER */
	struct position captured_inside; /* FAULT_POSITION_INSIDE */

	bool fatal_seen; /* the server said FATAL, and the client heard it */
	/* An error of the router's own statements (SERVER_VERIFY, SYNC, TASK). */
	bool own_failed;
	char own_sqlstate[6];
	char own_error[256];
	int cancels;      /* cancel requests on their way: not reusable until they have landed */
	bool close_after; /* not to be pooled again */
	uint64_t serial;  /* never given twice, to clients and servers alike */
	bool used;        /* statements of clients have run on it */
	int64_t connected_at_us, released_at_us;
};

/* ---------------------------------------------------------------- clients */

/*
 *     TLS  LOOKUP
 *      ⇅    ⇅   ╲
 *   STARTUP ─▶ AUTH ─▶ WELCOME ─▶ READY ⇄ WAIT_POSITION
 *      │                             ⇅ ╲
 *      ▶ CONSOLE                     ⇅   WAIT_SERVER, WAIT_SYNC
 *   any: DEAD
 */
enum client_state {
	CLIENT_STARTUP,
	CLIENT_TLS,    /* shaking hands, which is the stream.s affair */
	CLIENT_LOOKUP, /* what is stored for the user is being asked for: auth_lookup.h */
	CLIENT_AUTH,
	CLIENT_WELCOME, /* needs a server to learn what to say at login */
	CLIENT_READY,
	CLIENT_WAIT_POSITION,
	CLIENT_WAIT_SERVER,
	CLIENT_WAIT_SYNC,
	CLIENT_WAIT_STORE,   /* what other routers know of its session is being asked for */
	CLIENT_WAIT_MARK,    /* ReadyForQuery is withheld until its session's mark is stored */
	CLIENT_WAIT_PRIMARY, /* there is none that can be reached: failover_timeout */
	CLIENT_CONSOLE,
	CLIENT_DEAD,
};

/* What stands behind an entry of the reply tracker (reply.tag), and its reply.data. */
enum reply_tag {
	TAG_PLAIN,                  /* nothing */
	TAG_PARSE_UNNAMED,          /* struct stmt, counted */
	TAG_PARSE_NAMED,            /* struct name_undo: the client's name was added; size: meaning */
	TAG_PARSE_INJECTED,         /* struct stmt, counted: prepared on this server only; size: meaning */
	TAG_PARSE_INJECTED_UNNAMED, /* the same, as the unnamed one */
	TAG_CLOSE_NAMED,            /* struct name_undo: the client's name was removed */
	TAG_CLOSE_EVICTED,          /* struct stmt, counted: closed on this server to make room; size: meaning */
	TAG_CAPTURE,                /* part of a capture: commit position asked behind a write */
	TAG_CAPTURE_PARSE,
	TAG_GUARD, /* part of a guard: position asked before a read */
	TAG_GUARD_PARSE,
	TAG_UNSEEN_PARSE,
	TAG_BEGIN, /* a BEGIN that was held back: the client has its answer */
	TAG_ASKED, /* struct pending_set: what a Query or Execute sets; size: its statements that are done */
	TAG_PORTAL, /* nothing: an Execute of what was bound before, and is not known any more */
	TAG_BYTES, /* LOCAL: malloc'ed message, reply.size bytes */
};

/* An error may undo what the router and the server have come to call by a name. */
static inline bool reply_is_unproven(uint8_t tag)
{
	return tag == TAG_PARSE_NAMED || tag == TAG_PARSE_INJECTED ||
	       tag == TAG_PARSE_INJECTED_UNNAMED || tag == TAG_CLOSE_NAMED || tag == TAG_CLOSE_EVICTED;
}

/* reply.bits of entries that end with ReadyForQuery. */
enum turn_bit {
	TURN_WROTE = 1,
	TURN_DDL = 2,
	TURN_RAN = 4,   /* a statement was run on the server */
	TURN_BLIND = 8, /* … behind which no capture may be sent */
};

struct name_undo {
	struct stmt *stmt; /* counted */
	size_t len;
	uint8_t name[];
};

/* What was waited for in vain. */
enum timeout { TIMEOUT_NONE, TIMEOUT_SERVER, TIMEOUT_HELD };

/* Where a read goes that a replica has failed. */
enum rerun { RERUN_NONE, RERUN_ELSEWHERE, RERUN_PRIMARY };

/* What a connection said with SET tidemark.*; most never do. */
struct client_options {
	bool has_level, has_max_lag, has_wait_timeout, has_split, report;
	enum split_transactions split;
	enum consistency_level level;
	int64_t max_lag_us, wait_timeout_us;
	bool told_lost;     /* tidemark.lost is on */
	bool told_token;   /* a token was reported, and not taken back */
	struct token told; /* which, and for which session; only compared */
	const struct session *told_session;
	char session[SESSION_NAME_MAX + 1];
};

/* Since when a client is bound, and since which statement. */
struct bound_by {
	int64_t at_us;
	char brief[BRIEF_MAX];
};

/* A SET in a transaction that has not ended yet, or what bears on those: pending.h. */
struct pending_set {
	struct pending_set *next;
	enum set_kind kind;
	uint32_t nth;   /* of the statements of its text: until it is done */
	bool committed; /* and no ReadyForQuery since */
	bool restored; /* RESET: the startup packet's value is set again, in the same transaction */
	char name[64];
	size_t sql_len;
	char sql[];
};

/* A name that a DEALLOCATE among other statements takes away once it has run. */
struct pending_name {
	struct pending_name *next;
	char name[64];
};

/* Sessions that statements inside a transaction, or of a bound client, named by tag: what commits
 * is theirs too. */
#define TX_SESSIONS_MAX 8
struct tx_sessions {
	int count;
	struct session *it[TX_SESSIONS_MAX];
};

/* What is known of a user whom auth_file does not have. */
enum lookup {
	LOOKUP_NONE, /* nobody has been asked */
	LOOKUP_WAITS,
	LOOKUP_ASKED,
	LOOKUP_FOUND,
	LOOKUP_ABSENT, /* there is no such user */
	LOOKUP_FAILED,
};

/* Login in progress; freed after it. */
struct client_login {
	struct vars *vars;
	struct buf own; /* settings of the router's own, "name\0value\0…": they count once it is known
	                   who asks */
	bool console, scram, plain, first_done;
	char why[256]; /* AUTH_FORBIDDEN */
	char user[NAME_MAX_BYTES], database[NAME_MAX_BYTES];
	/* What is stored for the user: as auth_file has it, or looked up. "": nothing. */
	char secret[256];
	enum lookup lookup;
	struct server *lookup_server; /* LOOKUP_ASKED */
	int64_t lookup_began_us;
	char stored[MD5_PASSWORD_LEN + 1];
	uint8_t salt[4];
	bool known;                  /* the user exists, and has a password */
	bool has_keys;               /* … proved it by SCRAM */
	struct scram_keys keys;
	struct scram_server *server; /* while a SASL exchange runs */
};

enum console_wait { CONSOLE_WAITS_NOT, CONSOLE_WAITS_PAUSE, CONSOLE_WAITS_CLOSE };

/* Somebody at the admin console. */
struct console {
	char user[NAME_MAX_BYTES];
	bool admin; /* of admin_users; else of stats_users, who may only look */
	/* Its answer comes when … is done; what it says meanwhile has to wait. */
	enum console_wait waits;
	struct database *waits_for; /* NULL: all */
};

struct client {
	struct list link;  /* worker.clients, worker.dead */
	struct list queue; /* pool.waiting, pool.held, worker.await_primary, await_resume, runnable; else
	                      alone */
	struct worker *worker;
	struct net_stream *stream;
	struct account *account;
	struct server *server;
	struct pool *waits_for; /* WAIT_SERVER */
	struct pool *fallback_of; /* counted in its fallback_count */
	struct pool *granted;   /* a server came free there: may take it ahead of those behind */
	struct client_login *login;
	struct console *console; /* CONSOLE */
	struct buf in, out;
	struct buf redo; /* a read that is to be run again: comes before `in` once the client goes on */
	uint64_t skip;   /* bytes left of a message that is passed through to the server */
	bool skip_drop;  /* … or thrown away */
	bool wants_unused; /* WAIT_SERVER: for one on which nothing was run yet (TRAIT_NEW_PROCESS) */

	enum client_state state;
	bool greeted;       /* its first packet has come */
	bool direct_tls;    /* it began with TLS, unasked */
	uint8_t bound;      /* enum bind_reason: client_bind() */
	uint8_t hold;       /* enum transaction_hold */
	uint8_t begin;      /* … of a transaction with these options */
	bool begun_before;  /* … which has read something on a replica already */
	bool to_sync;       /* skipping everything up to Sync after an error of ours */
	bool batch_failed;  /* the same, where the server was made to fail too and is sent the Sync */
	bool tx_wrote;      /* the open transaction may have written, by what was answered */
	bool sent_wrote;    /* the same, by what was sent since the last rest */
	bool copy_alone;    /* the last Query is one COPY and no more, outside transactions, and nothing was
	                       outstanding before it */
	bool sent_blind;    /* a capture must not follow what is outstanding: it may be a COPY */
	bool tx_ddl;        /* … and may have changed the catalog */
	bool tx_sets;       /* settings may have changed since the last rest */
	bool sets_unknown;  /* bound, and its settings are those of its server only */
	uint8_t batch_bits; /* enum turn_bit of a batch whose Sync has not been sent */
	bool tell_params;   /* a RESET went back to startup settings that only another connection had */
	bool turn_error;    /* an ErrorResponse went by, and neither the end of its transaction nor a
	                       ReadyForQuery without a failed one since */
	uint8_t sets_asked; /* by what is outstanding (TAG_ASKED), and by what was since the last ReadyForQuery */
	bool token_doubted; /* a token was refused, and the primary has shown nothing since */
	bool mark_whole;    /* of its session, if others share it: what they stored before its last
	                       statement is in the mark here, or owed */
	uint8_t rerun;      /* enum rerun: of what is being run again */
	uint32_t tried;     /* the replicas that have failed it, one bit each */
	bool guard_missed;  /* a replica had not got there yet: what is run again is not guarded */
	bool local_portal_open; /* the unnamed portal is a statement of the router's own */
	bool paused;            /* not reading: what came in has to wait, and there is enough of it */
	bool wants_more;        /* what came in cannot be judged before more of it is here */
	bool in_pause;          /* held by PAUSE: in worker.await_resume, or was until just now */
	bool cancelled;         /* a cancel request came while it waited */
	uint8_t timed_out;      /* enum timeout: waited longer than query_wait_timeout */
	bool held;              /* WAIT_SERVER: in pool.held */
	bool waited_for_others;
	bool scope_joins;    /* the open transaction counts for the scope's own mark as well as for those in
	                        tx_sessions: the named session was left in it */
	uint8_t last_reason; /* of the last statement: SHOW tidemark.route */
	int8_t last_node;

	struct vars *vars, *startup_vars;
	struct pending_set *pending_sets;
	struct client_stmts stmts;
	struct stmt *unnamed;
	struct stmt *local_stmt; /* behind the open local portal */
	struct pending_name *deallocates; /* by the text under way, in order */

	struct session_mark *mark;      /* the session's: shared, named, or own */
	struct session_mark *own;       /* SCOPE_CONNECTION */
	struct session *session;        /* named */
	struct session_mark *turn_mark; /* of the statement being run; == mark unless tagged */
	struct session *turn_session;
	struct tx_sessions *tx_sessions; /* further sessions tagged in the open transaction */
	struct session_mark *wait_mark;  /* the mark as it was when a statement began to wait */
	struct position own_write; /* last captured write of this connection, for the statistics */
	struct bound_by *bound_by; /* NULL if not bound */
	struct client_options *options;
	struct client_options *startup_options; /* what RESET ALL and DISCARD ALL go back to */

	/* Named sessions that other routers share: marks.h. */
	struct store_request *store_request;
	struct session *asked_session; /* counted */
	uint8_t marks_answer;          /* enum marks_answer */
	int mark_writes;               /* on their way to the store */
	struct buf late;               /* WAIT_MARK: the ReadyForQuery that is withheld */

	struct waiter waiter;
	int64_t waiting_since_us;    /* for a position, a sample or a server */
	int64_t turn_queued_at_us;   /* WAIT_SERVER: since */
	int64_t no_primary_since_us; /* WAIT_PRIMARY: since */
	int64_t turn_started_us, query_started_us;
	int64_t connected_at_us;
	int64_t seen_at_us;  /* connected, or last statement */
	/* Nothing more is taken from it: what it has asked for is answered, then it hears `last_words`
	 * (NULL: none), then it is closed. client_end(). 0: not so. */
	int64_t ended_at_us;
	int64_t probed_at_us;
	const char *last_words;
	char *user;  /* whom it logged in as; NULL: the account's */
	uint32_t id; /* with the key: what a cancel request must say */
	uint8_t cancel_key_len;
	uint8_t cancel_key[32];
	uint64_t serial;     /* never given twice */
};

/* ----------------------------------------------------------------- worker */

/* Averages are made over so long. */
#define STATS_PERIOD_US 60000000

/* The console of the admin database; admin/ provides it. Appends whole messages but ReadyForQuery.
 */
typedef void (*console_fn)(void *arg, struct client *by, struct slice sql, struct buf *out);

/* LEAVING: nobody new comes in, and who is here is served until it goes. DRAINING: … until its
 * transaction ends. */
enum worker_state { WORKER_RUNNING, WORKER_LEAVING, WORKER_DRAINING, WORKER_STOPPED };

struct worker {
	enum worker_state state;
	struct net_loop *loop;
	const struct settings *settings;
	struct net_listener *tcp, *unix_socket;

	struct fleet fleet;
	struct watch *watch;
	struct patroni *patroni; /* NULL: there is none */
	struct waitlist waitlist;
	bool observing;          /* mode = observe … */
	struct observe *observe; /* … and its report; NULL before it was ever switched on */
	struct net_timer *wait_timer, *tick_timer;
	int last_primary; /* the node that was primary last */
	int64_t drain_until_us;

	struct sessions sessions;
	struct store *store;     /* of marks that other routers share; NULL: none do */
	struct list mark_writes; /* on their way there */
	struct vars_table vars;
	struct list databases;
	struct lookup_cache *lookups; /* NULL: nothing was looked up yet */
	bool paused; /* all of them, also those to come */
	struct list clients;
	int client_count;
	struct client **by_id; /* cancel keys: id - 1 is the slot */
	uint32_t by_id_cap, by_id_next;
	struct list runnable;
	struct list await_primary;
	struct list await_resume; /* held by PAUSE */
	int consoles_waiting;
	uint32_t fenced;        /* nodes, by bit: was said, and done */
	uint32_t primary_epoch; /* of the primary as last seen up, with the generation below */
	uint32_t primary_generation;
	struct list dead_clients, dead_servers;
	struct list cancels;

	struct stats stats;
	int64_t started_at_us;
	int64_t stats_last_us; /* when the last STATS_PERIOD ended; 0: none has */
	uint64_t next_serial;
	/* The bytes of the capture and of the guard, made once. */
	struct buf capture_parse, capture_parse_replica, capture_ask, guard_parse, guard_ask;
	struct buf unseen_parse[UNSEEN_ANY + 1]; /* likewise */
	console_fn console;
	void *console_arg;
	bool (*reload)(void *arg);
	bool (*set)(void *arg, const char *name, const char *value, char *why, size_t cap);
	void *reload_arg;
	uint8_t chunk[READ_CHUNK];
};

#endif
