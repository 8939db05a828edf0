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

/* Settings of one's own ("app.user") of which code speaks: no view of the server lists them, so each has to be
 * asked for by name. Those that the functions of the database name, by rows "$name", and those learnt from
 * statements that run code. Names joined by ',', lower case; bounded: what does not fit is left out. */
#define CATALOG_CUSTOM_MAX 4096
struct slice catalog_custom_names(const struct catalog *c);
/* Learns the names that stand as literals in a statement. They are kept over loads. */
void catalog_learn_custom(struct catalog *c, struct slice text);

enum function_safety {
	FUNCTION_SAFE,
	FUNCTION_UNSAFE,   /* volatile, unknown, or means something else on a replica */
	FUNCTION_ADVISORY, /* takes a session-level advisory lock: binds */
	FUNCTION_SET_CONFIG,
	FUNCTION_SEQUENCE, /* currval, lastval */
	FUNCTION_STATISTICS, /* pg_stat_force_next_flush */
};
/* Defined by the user, as far as is known: what it does to the session is not seen. */
bool catalog_user_function(const struct catalog *c, struct slice name);
/* Is there one of the user's by that name? Where the catalog was never read: no. */
bool catalog_names_function(const struct catalog *c, struct slice name);
/* … and not in the catalog: made since that was read, and not by way of the router. */
bool catalog_strange_function(const struct catalog *c, struct slice name);
/* `name` is the last part of the function's name, as the parser folded it. */
enum function_safety catalog_function(const struct catalog *c, struct slice name);
/* Does writing to a relation of that name run the user's code: triggers, rules, functions of a
 * view? Rows of catalog_query named "!relation". Until a load has succeeded: yes. */
bool catalog_relation_runs_code(const struct catalog *c, struct slice name);
/* May reading a relation of that name show a clock: a view that asks for the time or calls the user's
 * code, a table with row security? Rows named "~relation". Until a load has succeeded: yes. */
bool catalog_relation_shows_time(const struct catalog *c, struct slice name);
/* Not known to run a function that is none of a read's: rows "=operator". Before a load: yes. */
bool catalog_operator_safe(const struct catalog *c, struct slice name);
/* Is there any code in the database that may change settings, or take session advisory locks? A row "#". Until
 * a load has succeeded: yes. */
bool catalog_code_sets(const struct catalog *c);
/* Does a default, a view, a policy, … ask for currval() or lastval()? A row "%". Before a load: no. */
bool catalog_asks_sequences(const struct catalog *c);
/* May a relation of this bare name be read on a replica? Before a load: yes, but for the server's
 * own statistics and the like. The standby's refusal is the net. */
bool catalog_relation_safe(const struct catalog *c, struct slice name);

#endif
