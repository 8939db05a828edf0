/* SPDX-License-Identifier: PostgreSQL
 *
 * The marks that could not be stored yet: one a key, the latest, at most `max`.
 *
 *             raise, new                    owed_sent                    the answer came
 *   (nothing) ──────────▶ unsent ◀───────────────────────▶ sent ──────────────────────▶ (nothing)
 *                                 raise, connection lost
 */
#ifndef TM_STORE_OWED_H
#define TM_STORE_OWED_H

#include "base/list.h"
#include "store/store.h"

struct owed {
	struct list in_bucket;
	struct list in_order; /* in unsent or sent */
	struct list waiters;  /* the owner's */
	struct store_mark mark;
	bool is_sent; /* with this mark, on the connection that is open */
	uint32_t hash;
	size_t key_len;
	char key[];
};

struct owed_table {
	struct list *buckets;
	size_t bucket_mask;
	struct list unsent, sent; /* oldest first */
	int count, max;
};

/* False: no memory. */
bool owed_init(struct owed_table *t, int max);
/* Frees all entries too. */
void owed_release(struct owed_table *t);
/* The entry of this key, made if need be, with its mark raised to `mark`. NULL: full, or no
 * memory. */
struct owed *owed_raise(struct owed_table *t, struct slice key, const struct store_mark *mark);
/* The oldest that is to be sent; NULL: none. */
struct owed *owed_next(const struct owed_table *t);
void owed_sent(struct owed_table *t, struct owed *o);
/* What was sent may be lost: all are to be sent again. */
void owed_all_unsent(struct owed_table *t);
void owed_remove(struct owed_table *t, struct owed *o);

#endif
