/* SPDX-License-Identifier: PostgreSQL
 *
 * Which functions of one database may be called by a plain read. Built-in functions come from a
 * table made from PostgreSQL's own pg_proc (read-only and without an effect outside the snapshot);
 * the user's come from the primary's catalog, loaded at first use and again after DDL.
 *
 * Looked up by bare name: a name is safe only if every function of that name, in any schema, is.
 * Until a load has succeeded every name that is not built in is unsafe.
 */
#ifndef TM_SQL_CATALOG_H
#define TM_SQL_CATALOG_H

#include "base/slice.h"

struct catalog;

/* What the loader runs on the primary: rows (name text, unsafe bool 't'/'f'), one a function name
 * outside pg_catalog, where unsafe = any overload is volatile; and one, its name behind an '@', a
 * relation that reads differently on a replica (sequence, unlogged, foreign, or a view that reaches
 * such a relation, a server-local catalog or a volatile function). */
extern const char catalog_query[];

/* Bounded: past `max_names` the load fails and everything stays unsafe. NULL: no memory. */
struct catalog *catalog_new(int max_names);
void catalog_free(struct catalog *c);

/* begin, add…, commit: replaces the names at once and opens a new generation. A load that is not
 * committed (error, lost connection) changes nothing. Commit is false, and nothing changes, if a
 * row did not fit or the catalog was invalidated since begin: load again. */
void catalog_load_begin(struct catalog *c);
bool catalog_load_add(struct catalog *c, struct slice name, bool unsafe);
bool catalog_load_commit(struct catalog *c);
/* DDL was seen: user functions are unsafe until the next commit. */
void catalog_invalidate(struct catalog *c);
bool catalog_loaded(const struct catalog *c);
/* Changes whenever a verdict may have changed. */
uint32_t catalog_generation(const struct catalog *c);

enum function_safety {
	FUNCTION_SAFE,
	FUNCTION_UNSAFE,   /* volatile, unknown, or means something else on a replica */
	FUNCTION_ADVISORY, /* takes a session-level advisory lock: binds */
	FUNCTION_SET_CONFIG,
	FUNCTION_SEQUENCE,     /* currval, lastval */
	FUNCTION_LARGE_OBJECT, /* lo_open and the descriptor calls */
};
/* Defined by the user, as far as is known: what it does to the session is not seen. */
bool catalog_user_function(const struct catalog *c, struct slice name);
/* `name` is the last part of the function's name, as the parser folded it. */
enum function_safety catalog_function(const struct catalog *c, struct slice name);
/* Does writing to a relation of that name run the user's code: triggers, rules, functions of a
 * view? Rows of catalog_query named "!relation". Until a load has succeeded: yes. */
bool catalog_relation_runs_code(const struct catalog *c, struct slice name);
/* May reading a relation of that name show a clock: a view that asks for the time or calls the user's
 * code, a table with row security? Rows named "~relation". Until a load has succeeded: yes. */
bool catalog_relation_shows_time(const struct catalog *c, struct slice name);
/* May a relation of this bare name be read on a replica? Before a load: yes, but for the server's
 * own statistics and the like. The standby's refusal is the net. */
bool catalog_relation_safe(const struct catalog *c, struct slice name);

#endif
