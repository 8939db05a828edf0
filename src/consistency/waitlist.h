/* SPDX-License-Identifier: PostgreSQL
 *
 * Statements that wait for a replica to catch up, or for a sample. Woken by position, by sample,
 * by deadline, or removed when their client leaves. Intrusive and bounded: a full list refuses, and
 * the statement goes to the primary.
 *
 * Each is in two of three binary heaps: by the position it needs or by the sample it awaits, and by
 * deadline. So a new replica position costs O(log n) per statement it wakes and O(1) otherwise.
 */
#ifndef TM_CONSISTENCY_WAITLIST_H
#define TM_CONSISTENCY_WAITLIST_H

#include "fleet.h"

struct waiter {
	struct position need; /* unset: waits for a sample only */
	int64_t sample_after_us;
	int64_t deadline_us;
	/* private */
	int slot, deadline_slot; /* heap slots + 1; 0: not in the list */
};

struct waitlist {
	int count, max; /* waiters */
	/* private: min-heaps of at most `max` */
	int position_count, sample_count;
	struct waiter **by_position; /* lowest need first */
	struct waiter **by_sample;   /* earliest sample_after_us first */
	struct waiter **by_deadline;
};

/* Allocates for `max` waiters at once. False: no memory. */
bool waitlist_init(struct waitlist *w, int max);
void waitlist_release(struct waitlist *w);
/* False if full. Borrows the waiter until it is popped or removed. */
[[gnu::warn_unused_result]] bool waitlist_add(struct waitlist *w, struct waiter *it);
/* Safe if it is not in the list. */
void waitlist_remove(struct waitlist *w, struct waiter *it);
/* Pops one waiter that should be decided again because of what the fleet now knows: some eligible
 * replica has reached its need, or any up node has a sample started after sample_after_us. NULL:
 * none. A popped waiter that must go on waiting is added again by the caller after the loop. */
struct waiter *waitlist_pop_ready(struct waitlist *w, const struct fleet *f, int64_t now_us);
/* Pops one whose deadline is at or before now. NULL: none. */
struct waiter *waitlist_pop_expired(struct waitlist *w, int64_t now_us);
/* Pops any, for when the fleet changed altogether. NULL: empty. */
struct waiter *waitlist_pop_any(struct waitlist *w);
/* The earliest deadline, or INT64_MAX. */
int64_t waitlist_next_deadline(const struct waitlist *w);

#endif
