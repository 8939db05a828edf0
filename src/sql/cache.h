/* SPDX-License-Identifier: PostgreSQL
 *
 * The statement cache of one database, so that a statement is parsed once and looked up after that.
 *
 *  shapes      text with its literals blanked out ──▶ traits. "WHERE id = 1" and "… = 2" are one
 *              shape. Only texts that a simple, unambiguous scan can blank (no backslash, no dollar
 *              quote, no comment inside, begins with SELECT, INSERT, UPDATE, DELETE, WITH, VALUES
 * or TABLE) share a shape; any other text is its own. Two texts of one shape have the same token
 *              kinds in the same order, so the same traits. Comments at both ends are left out.
 *              A text above SHAPE_TEXT_MAX has no shape: it is classified each time.
 *  statements  exact text and parameter types ──▶ one counted object with an id, the identity of a
 *              prepared statement on every server connection. A text with 'now', 'today' and the like
 *              in a literal is a new one each time.
 *
 * Both by XXH3, verified in full (pitfall 19). Bounded, least recently used out first; a statement
 * in use is kept alive by its count.
 */
#ifndef TM_SQL_CACHE_H
#define TM_SQL_CACHE_H

#include "classify.h"

#define SHAPE_TEXT_MAX (16 * 1024)

struct stmt_cache;

struct stmt {
	uint64_t id; /* unique in this process, never reused */
	uint32_t refs;
	uint32_t text_len;
	uint16_t type_count;
	bool cached; /* still findable */
	/* Private links follow in the implementation's own struct; text and types (big-endian OIDs) are
	 * allocated behind it and never change. */
	const uint8_t *text;
	const uint8_t *types;
};

struct stmt_cache_stats {
	uint64_t shape_hits, shape_misses, statement_hits, statement_misses;
	int shapes, statements;
};

/* The catalog must outlive the cache. Limits >= 16. NULL: no memory. */
struct stmt_cache *stmt_cache_new(struct catalog *catalog, int max_shapes, int max_statements);
void stmt_cache_free(struct stmt_cache *c);

/* Traits of a text. A shape of an older catalog generation is classified again. */
struct traits stmt_cache_classify(struct stmt_cache *c, struct slice text);
/* A standby refused this text: from now on its shape has REASON_REFUSED_BEFORE and may write, until
 * the catalog changes. */
void stmt_cache_refuse(struct stmt_cache *c, struct slice text);

/* Finds or makes the statement; takes a count for the caller. NULL: no memory. */
struct stmt *stmt_get(struct stmt_cache *c, struct slice text, struct slice types_be);
struct stmt *stmt_ref(struct stmt *s);
void stmt_put(struct stmt_cache *c, struct stmt *s);
/* The traits of a statement, cheaper than by text. */
struct traits stmt_traits(struct stmt_cache *c, struct stmt *s);

struct stmt_cache_stats stmt_cache_stats(const struct stmt_cache *c);

#endif
