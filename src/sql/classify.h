/* SPDX-License-Identifier: PostgreSQL
 *
 * Statement text to traits, on libpg_query's raw trees. What cannot be parsed, is too long or too
 * deep is a write of unknown kind: primary. docs/classification.md is the table of rules.
 */
#ifndef TM_SQL_CLASSIFY_H
#define TM_SQL_CLASSIFY_H

#include "catalog.h"
#include "traits.h"

/* Text above this many bytes is not parsed: libpg_query's parser and our walk can use ~400 bytes of
 * stack for each term of an expression. The thread that classifies needs CLASSIFY_STACK bytes. */
#define CLASSIFY_TEXT_MAX (64 * 1024)
#define CLASSIFY_STACK (4 * 1024 * 1024)

/* Once per thread, before the first classify(). */
void classify_thread_init(void);

/* Classifies the whole text (one or more statements): the union of their traits; `reason` is that
 * of the first statement that may not go to a replica. Pure but for libpg_query's arena. */
struct traits classify(struct slice text, const struct catalog *c);

/* The particulars of statements that the router acts on itself. Filled for a text of which the
 * traits say TRAIT_SETS, TRAIT_ROUTER, TRAIT_ROUTER_INSIDE, TRAIT_DEALLOCATE, TRAIT_TX_PARTIAL or
 * BIND_PREPARE, one call back a statement in order; SET SESSION CHARACTERISTICS, one for each option. */
enum set_kind {
	SET_VALUE, /* SET name = value (session level) */
	SET_LOCAL, /* SET LOCAL: ends with the transaction */
	SET_RESET, /* RESET name, SET name TO DEFAULT */
	SET_RESET_ALL,
	SET_SHOW,       /* SHOW name: only for names of the router ("tidemark.…") */
	SET_DEALLOCATE, /* name, or "" for ALL */
	SET_EXECUTE,    /* EXECUTE name, which may be a statement of the extended protocol */
	SET_SAVEPOINT,  /* name */
	SET_RELEASE,
	SET_ROLLBACK_TO,
};

struct set_stmt {
	enum set_kind kind;
	uint32_t nth;  /* its place among the statements of the text, from 0 */
	char name[64]; /* folded to lower case; "timezone" for TIME ZONE */
	/* The value as one text: a single constant, or constants joined by ", "; for router names. */
	char value[2400];  /* a list of tokens has up to 2375 bytes */
	bool value_ok;     /* false: not plain constants, or too long */
	struct slice text; /* this statement's own text, borrows the input: for replay */
};
typedef void (*set_stmt_fn)(void *arg, const struct set_stmt *s);
/* False if the text cannot be parsed. */
bool classify_settings(struct slice text, set_stmt_fn fn, void *arg);

/* One word and one sentence for `tidemark classify`. */
void traits_describe(struct traits t, char *out, size_t cap);

#endif
