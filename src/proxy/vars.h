/* SPDX-License-Identifier: PostgreSQL
 *
 * Session settings that are replayed: an immutable set of (name, statement that sets it), interned,
 * so that "does this server connection have this client's settings" is one pointer comparison.
 * Bounded: VARS_MAX settings and VARS_BYTES of text; a client with more is bound to its server.
 */
#ifndef TM_PROXY_VARS_H
#define TM_PROXY_VARS_H

#include "base/buf.h"

#define VARS_MAX 64
#define VARS_BYTES 8192
#define VARS_BUCKETS 256

struct var {
	const char *name; /* lower case */
	const char *sql;  /* a whole statement, such as SET search_path TO a, b */
};

/* sha256 in hexadecimal digits. */
struct digest {
	bool known, is_null;
	char hex[64];
};

/* What a text means depends on settings: its names are found by search_path, its literals read by
 * TimeZone, DateStyle and the like. Sets of one meaning differ in nothing that has a part in it;
 * numbers are never given twice. No settings, no number. */
enum { MEANING_PLAIN = 0, MEANING_UNKNOWN = UINT32_MAX };

struct vars {
	struct vars *next; /* in its bucket */
	struct vars *telling; /* what is left without settings that have no part; NULL: itself */
	uint32_t meaning;
	struct digest digest; /* of what a server shows that has them, and nothing else; unseen.c */
	uint32_t refs;
	uint64_t hash;
	bool serializable; /* its default_transaction_isolation is: no standby can do that */
	int count;
	struct var items[]; /* sorted by name; texts follow in the same allocation */
};

struct vars_table {
	struct vars *buckets[VARS_BUCKETS];
	struct vars *none; /* the empty set, always there */
	uint32_t meanings; /* given so far */
};

/* False: no memory. */
bool vars_table_init(struct vars_table *t);
void vars_table_release(struct vars_table *t);

/* Each returns a counted set, or NULL if it would pass the limits. `base` keeps its own count. */
struct vars *vars_with(struct vars_table *t, const struct vars *base, const char *name,
                       struct slice sql);
struct vars *vars_without(struct vars_table *t, const struct vars *base, const char *name);
struct vars *vars_ref(struct vars *v);
void vars_put(struct vars_table *t, struct vars *v);
/* NULL if not set. */
const char *vars_find(const struct vars *v, const char *name);
/* Appends the statements that turn a server with `from` into one with `to`, each ended by ";". */
bool vars_diff(const struct vars *from, const struct vars *to, struct buf *out);

#endif
