/* SPDX-License-Identifier: PostgreSQL
 *
 * Counters of one worker. They only grow; readers take differences. Times in µs.
 */
#ifndef TM_PROXY_STATS_H
#define TM_PROXY_STATS_H

#include "base/hist.h"
#include "consistency/route.h"
#include "consistency/token.h"

/* Why a read on a replica, of which the client had seen nothing, was run again. */
enum rerun_cause {
	RERUN_REFUSED,  /* no standby can do it: on the primary */
	RERUN_CONFLICT, /* recovery cancelled it: on another replica, as all that follow */
	RERUN_ENDED,    /* the server ended its connection and said why */
	RERUN_DAMAGED,  /* the replica could not read its own files */
	RERUN_LOST,     /* the connection broke without a word */
	RERUN_CAUSES,
};
/* "refused" …; and what it counts. */
const char *rerun_cause_name(enum rerun_cause cause);
const char *rerun_cause_words(enum rerun_cause cause);

struct stats {
	uint64_t by_reason[REASON_COUNT]; /* statements (or batches) by where they went and why */
	uint64_t reads_total;             /* plain reads by classification, outside transactions */
	uint64_t reads_replica;
	uint64_t reads_primary;
	uint64_t reads_waited;      /* that waited for a replica or a sample, wherever they went then */
	uint64_t waited_for_others; /* … though the connection's own writes were already there */
	uint64_t primary_for_others; /* went to the primary, likewise */
	uint64_t discriminating;     /* decisions at which an eligible replica was behind the mark */
	uint64_t wait_timeouts;
	uint64_t waitlist_full;
	uint64_t left_out_unreachable, left_out_slow; /* times that a replica was left out */
	uint64_t guards;            /* reads sent to a replica that had to prove its position */
	uint64_t guards_missed;     /* … and had not got there: decided again */
	uint64_t held_back; /* reads that fallback_pool_share kept back for a while */
	uint64_t retried;           /* refused or failed by a replica, run again */
	uint64_t reruns[RERUN_CAUSES];
	uint64_t transactions_moved; /* from a replica, by a statement that is no plain read */
	uint64_t captures;          /* commit positions captured behind a statement */
	uint64_t captures_failed;   /* position unknown: the session owes a sample */
	uint64_t writes_uncaptured; /* unparsable, COPY among others: likewise, by design */
	uint64_t tags_malformed;
	uint64_t tokens[TOKEN_VERDICTS]; /* that came, by what was found */
	uint64_t sessions_lost;   /* sessions told that a failover may have cut off their writes */
	uint64_t marks_owed;      /* statements acknowledged before their mark was in the store */
	uint64_t marks_uncovered; /* … while nothing made other routers doubt */
	uint64_t marks_lost;      /* stored marks that are cut off from the primary's history */
	uint64_t marks_unknown;   /* stored marks of which nobody knows whether it has them */
	uint64_t client_errors;   /* protocol violations */
	uint64_t logins, login_failures;
	uint64_t lookups;        /* users asked for by auth_query */
	uint64_t lookups_kept;   /* … that an earlier answer was good for */
	uint64_t lookups_failed; /* … without an answer */
	uint64_t cancels, cancels_refused;
	uint64_t server_connects, server_connect_failures;
	uint64_t syncs;    /* settings replayed on a server connection */
	uint64_t prepares; /* statements prepared on a server connection that lacked them */
	uint64_t binds;    /* clients bound to their primary connection */
	/* Questions about what functions had left in a session, and those that found something. */
	uint64_t unseen_asked, unseen_found;
	uint64_t catalog_loads, catalog_load_failures;
	struct hist token_wait; /* how long reads waited */
};

/* Per database, in PgBouncer's terms. */
struct database_stats {
	uint64_t xact_count, query_count;
	uint64_t received, sent; /* bytes from and to clients */
	uint64_t xact_time_us, query_time_us, wait_time_us;
};

#endif
