/* SPDX-License-Identifier: PostgreSQL
 *
 * Named sessions in memory: a name, shared by any number of connections, has one mark. Bounded,
 * with a time to live after the last use.
 *
 * Fails closed: a session that is not here may have written before (through a router that
 * restarted, before it expired or was evicted), so a new one starts owing a sample of the primary:
 * its first read sees at least everything committed until now.
 */
#ifndef TM_PROXY_SESSIONS_H
#define TM_PROXY_SESSIONS_H

#include "base/list.h"
#include "consistency/session.h"
#include "store/store.h"

#define SESSION_NAME_MAX 127

struct session {
	struct session *next; /* in its bucket */
	struct list lru;      /* most recent first */
	uint64_t hash;
	const void *database; /* only compared */
	uint32_t refs;        /* of connections and turns; only an unreferenced one may be evicted */
	int64_t used_at_us;
	struct session_mark mark;
	struct store_mark stored; /* with a store: what it is known to have */
	char name[SESSION_NAME_MAX + 1];
};

struct sessions {
	int count, max;
	int64_t ttl_us;
	bool elsewhere; /* marks are kept in a store too: a new session owes nothing, it asks there */
	uint32_t bucket_count;
	struct session **buckets;
	struct list lru;
	uint64_t created, expired, evicted;
};

bool sessions_init(struct sessions *s, int max, int64_t ttl_us);
void sessions_release(struct sessions *s);
/* Finds or makes it and takes a count. NULL: the name is empty or too long, no memory, or the table
 * is full of sessions in use: the caller then reads from the primary. `database` keeps the names of
 * different databases apart. */
struct session *sessions_get(struct sessions *s, const struct fleet *f, const void *database,
                             struct slice name, int64_t now_us);
void sessions_put(struct sessions *s, struct session *it, int64_t now_us);
/* Drops what has not been used for ttl_us; a bounded step, to be called now and then. */
void sessions_expire(struct sessions *s, int64_t now_us);

#endif
