/* SPDX-License-Identifier: PostgreSQL
 *
 * mode = observe: everything runs on the primary, and for each plain read that could have been
 * split it is noted, by shape of statement,
 *
 *   would   what route_decide() would have said: a replica at once, after a wait, the primary
 *   naive   whether a splitter that sends every read to the next eligible replica in turn would
 *           have shown the session less than it had written or read before
 *
 * Naive results are evidence, never a guess. `need` is what the session must see, and the picked
 * replica's own samples are the witnesses:
 *
 *   samples of it     ──S1────────────read────────S2───▶ time
 *                       │               S2 was started after the read
 *                       S1 at the need ................................ fresh
 *                                       S2 still behind the need ...... stale
 *                                       S1 behind it, S2 at it ........ undecided
 *
 * A read that is not fresh by S1 waits, as a few numbers, in a bounded queue for S2 and, if what
 * the session owes has no position yet, for the primary's sample. No room, one second gone, or the
 * replica lost: undecided. So `reads` is always fresh + stale + undecided (those that wait among
 * these).
 *
 * The table of shapes is bounded too; what is evicted goes on in the row "(others)", so the sums
 * stay exact. Texts are kept with their literals blanked where the statement cache can do so
 * (sql/shape.h).
 *
 * The sessions' real marks do not take part in these reads (struct session_observed): the primary
 * has shown more than a replica would have, and marks that knew it would make every later read look
 * stale. Whoever leaves the mode is told by session_observed_counts().
 */
#ifndef TM_PROXY_OBSERVE_H
#define TM_PROXY_OBSERVE_H

#include "consistency/route.h"

struct worker;
struct client;
struct unit;
struct observe;

#define OBSERVE_TEXT_CHARS 120
#define OBSERVE_TEXT_MAX 256 /* bytes with NUL */

struct observe_counts {
	uint64_t reads;
	uint64_t would[3];                /* by enum route_target */
	uint64_t by_reason[REASON_COUNT]; /* the same, by its reason */
	uint64_t fresh, stale;            /* the rest is undecided */
};

static inline uint64_t observe_undecided(const struct observe_counts *n)
{
	return n->reads - n->fresh - n->stale;
}

struct observe_row {
	char database[64];
	char shape[OBSERVE_TEXT_MAX]; /* printable UTF-8, cut */
	struct observe_counts n;
	/* private */
	uint64_t hash[2];
	uint64_t id; /* of this use of the row */
	int64_t used_at_us;
	int32_t next; /* in its chain */
};

struct observe_totals {
	struct observe_counts all;
	struct observe_counts others; /* of shapes that were evicted */
	uint64_t evicted;
	int shapes, shapes_max;
	int pending, pending_max;
};

/* ---- the account: knows a fleet, and nobody else ---- */

/* NULL: no memory. */
struct observe *observe_new(int max_shapes, int max_pending);
/* NULL is fine. */
void observe_free(struct observe *o);
/* Level strong: as route_decide(). Else REASON_OBSERVED, and in `would…` what it would have been.
 * Settles the mark. */
struct route observe_decide(const struct fleet *f, struct session_mark *mark,
                            const struct route_policy *policy, int64_t now_us);
/* The read that observe_decide() has just decided runs now. */
void observe_read(struct observe *o, const struct fleet *f, struct session_mark *mark,
                  const struct route *r, const char *database, struct slice text, int64_t now_us);
/* Judges what waits, after each sample and now and then. */
void observe_judge(struct observe *o, const struct fleet *f, int64_t now_us);
/* Nodes of which a sample is awaited, one bit each. */
uint32_t observe_awaited(const struct observe *o, const struct fleet *f);
void observe_totals(const struct observe *o, struct observe_totals *t);
/* The rows, most stale first, then most read. An array of *count pointers into `o`, good until the
 * next read; the caller frees the array. NULL: no memory, or none. */
const struct observe_row **observe_rows(const struct observe *o, int *count);

/* ---- the worker's side ---- */

/* Takes settings.mode over: at the start, and after a reload. False: no memory for the account. */
bool observe_switch(struct worker *w);
/* A read with REASON_OBSERVED goes on its way. */
void observe_count(struct client *c, const struct unit *u, const struct route *r);
/* The fleet changed. */
void observe_sampled(struct worker *w);
/* Somebody would be waiting for a replica now: poll as if. */
bool observe_busy(const struct worker *w);
/* One line in the log, if there is something to tell. */
void observe_summary(const struct worker *w);

#endif
