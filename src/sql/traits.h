/* SPDX-License-Identifier: PostgreSQL
 *
 * What the router must know of a statement before it runs: small, copyable, literal-free.
 */
#ifndef TM_SQL_TRAITS_H
#define TM_SQL_TRAITS_H

#include "consistency/route.h"

enum trait {
	/* A plain read: may run on a replica with the same meaning as on the primary. */
	TRAIT_READ = 1 << 0,
	/* May leave a commit behind, so its position must be captured when its transaction ends. */
	TRAIT_MAY_WRITE = 1 << 1,
	/* A capture may be pipelined right behind it: parsed, cannot be COPY FROM STDIN. */
	TRAIT_CAPTURABLE = 1 << 2,
	TRAIT_TX_BEGIN = 1 << 3, /* BEGIN, START TRANSACTION */
	TRAIT_TX_END =
		1 << 4, /* COMMIT, END, ROLLBACK, ABORT, PREPARE TRANSACTION (not TO SAVEPOINT) */
	TRAIT_TX_PARTIAL = 1 << 5, /* SAVEPOINT, RELEASE, ROLLBACK TO */
	TRAIT_DDL = 1 << 6,        /* may change the catalog: functions must be read again */
	TRAIT_BINDS = 1 << 7,      /* makes session state that cannot be replayed; see traits.binds */
	TRAIT_SETS = 1 << 8,       /* SET/RESET at session level; see set_stmt (not cached) */
	TRAIT_MULTI = 1 << 9,      /* more than one statement */
	TRAIT_EMPTY = 1 << 10,     /* no statement at all */
	TRAIT_ROUTER = 1 << 11,    /* alone, and SET/SHOW/RESET tidemark.*: answered by the router */
	TRAIT_ROUTER_INSIDE = 1 << 12, /* SET tidemark.* among other statements */
	TRAIT_DISCARD_ALL = 1 << 13,
	TRAIT_DEALLOCATE = 1 << 14,     /* DEALLOCATE name or ALL; see set_stmt.name ("" is ALL) */
	TRAIT_COMMENTED = 1 << 15,      /* has a leading or trailing comment: look for query tags */
	TRAIT_DEALLOCATE_ALL = 1 << 16, /* DEALLOCATE ALL, DISCARD ALL, DISCARD PLANS is not one */
	TRAIT_COPY = 1 << 17,           /* any COPY */
	TRAIT_USER_CODE =
		1 << 19, /* runs functions of the user's that may change session state unseen */
	TRAIT_CODE_SETS = 1 << 25, /* … which may be settings and session advisory locks */
	TRAIT_SETS_LOCAL = 1 << 27, /* may change settings for its transaction: SET LOCAL, set_config() */
	TRAIT_LOADS = 1 << 26,     /* LOAD: the library stays in that server process */
	/* What its client sees tells what the server process has done before: it takes one that nobody
	 * has used. */
	TRAIT_NEW_PROCESS = 1 << 29,
	/* Asks for currval() or lastval(), or makes what does whenever a table is used. */
	TRAIT_ASKS_SEQUENCES = 1 << 30,
	TRAIT_SEES_STATEMENTS = 1 << 28, /* reads pg_prepared_statements, where the router's own show */
	TRAIT_RESULT_FREE = 1 << 18,     /* returns no rows (utility without result): for Describe */
	/* COMMIT or ROLLBACK and nothing more: not AND CHAIN, not PREPARE TRANSACTION, alone. */
	TRAIT_TX_PLAIN_END = 1 << 20,
	TRAIT_TX_START = 1 << 23, /* START TRANSACTION, which answers by its own name */
	TRAIT_TX_CLOSED =
		1 << 24,            /* run to its end it leaves no transaction open, whatever was before */
	TRAIT_CURSOR = 1 << 21, /* DECLARE, without hold, over what would be a plain read */
	/* A plain read that may show a clock, and so when its transaction began: now() and the like, or
	 * code of the user's. Literals are looked at by whoever needs to know: shows_time.h. */
	TRAIT_SHOWS_TIME = 1 << 22,
};

enum bind_reason {
	BIND_NONE,
	BIND_TEMP, /* temporary table, view, function */
	BIND_LISTEN,
	BIND_HOLD,       /* DECLARE … WITH HOLD */
	BIND_PREPARE,    /* SQL PREPARE / EXECUTE */
	BIND_ADVISORY,   /* session advisory lock */
	BIND_ROLE,       /* SET ROLE, SET SESSION AUTHORIZATION */
	BIND_SET_CONFIG, /* set_config() at session level */
	BIND_LOAD,
	BIND_SETTINGS, /* settings whose state cannot be told (rolled back in part, too many) */
	BIND_SEQUENCE, /* currval(), lastval() */
	BIND_STATISTICS, /* looks at what it has itself done in the cumulative statistics */
	BIND_UNSEEN, /* what functions left behind is not known, or not yet */
	BIND_COUNT,
};
const char *bind_reason_name(enum bind_reason reason);

struct traits {
	uint32_t flags; /* enum trait */
	uint8_t reason; /* enum route_reason: why it may not go to a replica; unused for TRAIT_READ */
	uint8_t binds;  /* enum bind_reason */
	uint8_t begin;  /* the text is one BEGIN that cannot fail: its options (begin.h); else 0 */
};

#endif
