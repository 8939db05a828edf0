/* SPDX-License-Identifier: PostgreSQL
 *
 * The only door to libpg_query and PostgreSQL's own headers: text in, raw parse trees out, and a
 * walk over them that uses no stack of the thread.
 *
 * libpg_query never overflows the stack while it parses: its grammar keeps its own bounded stack.
 * Only walks over the finished tree do, since "1+1+…" is a tree as deep as the text is long. We
 * therefore walk with an explicit stack on the heap. One recursive walk is left inside the parser:
 * exprLocation(), when it complains of a second LIMIT or OFFSET, at 32 bytes a term;
 * CLASSIFY_TEXT_MAX keeps it below 1 MB.
 */
#ifndef TM_SQL_TREE_H
#define TM_SQL_TREE_H

#include "classify.h"

#include <postgres.h>
#include <catalog/pg_class.h>
#include <nodes/parsenodes.h>
#include <pg_query.h>
#include <pg_query/pg_query_internal.h>

/* port.h turns these into PostgreSQL's own; we want the C library's. */
#undef printf
#undef fprintf
#undef snprintf
#undef vsnprintf
#undef strerror
#undef strerror_r

/* A parse. Begin and end must pair; the trees live until the end. */
struct parse {
	List *statements; /* of RawStmt; NIL for no statement at all */
	bool ok;
	MemoryContext context;
};
void parse_begin(struct parse *p, struct slice text);
void parse_end(struct parse *p);

/* What a walk over a query found; a zeroed struct is a plain read. */
struct query_facts {
	bool writes; /* INSERT, UPDATE, DELETE, MERGE or SELECT INTO, at any level */
	bool into_temp;
	bool locks;           /* FOR UPDATE … FOR KEY SHARE */
	bool unsafe_function; /* calls one, or reads a relation that does */
	bool runs_code;       /* names a relation whose writing runs the user's code */
	bool user_code;       /* calls a function of the user's that is not known to be harmless */
	bool strange_code;    /* … and that is not in the catalog */
	bool sets_local;      /* calls set_config() */
	bool shows_time;      /* may show a clock, its literals and parameters left aside */
	bool server_local;    /* reads what differs from server to server */
	bool statements;      /* … the session's prepared statements */
	bool unknown;         /* holds a node that we do not know, or is too large */
	uint8_t binds;        /* enum bind_reason, the first found */
};
/* Walks `root` (any query or expression; NULL is fine) and adds to `facts`. */
void query_walk(Node *root, const struct catalog *c, struct query_facts *facts);

/* What kind of thing a SET, RESET or SHOW names. */
enum setting_class {
	SETTING_PLAIN,       /* a value that can be replayed on another connection */
	SETTING_ROUTER,      /* tidemark.* */
	SETTING_TRANSACTION, /* belongs to the transaction, whatever the SET says */
	SETTING_ROLE,        /* role, session_authorization */
	SETTING_SESSION,     /* session state that cannot be replayed */
	SETTING_DEFAULTS,    /* SESSION CHARACTERISTICS: default_transaction_* by other names */
};
enum setting_class setting_class(const char *name);
/* Why a session-level SET of a plain setting is more than a value to replay. `value`: the first, "" if it
 * is no string; NULL: RESET. */
enum bind_reason setting_binds(const char *name, const char *value);
/* Is it nothing but set_config('name', 'value', false), once or more often, with constants that SET could
 * set as well? */
bool select_sets(const Node *n);

/* Is the relation made in the temporary schema? */
bool relation_is_temp(const RangeVar *rel);

#endif
