/* SPDX-License-Identifier: PostgreSQL
 *
 * How much a replica is asked, for reasons that have nothing to do with what it has replayed: its
 * weight, the operator's word, and how long it has been back. Asking a replica less, or not at all,
 * never makes an answer stale; so nothing here is a matter of consistency, and nothing here makes a
 * replica eligible that is not (fleet.h).
 *
 *   share of the reads
 *        weight ┤            ╭───────────── full
 *               │        ╭───╯
 *               │    ╭───╯ slow start
 *   weight / 16 ┤────╯
 *               └────┬───────┬─────────▶ time
 *                  back    + slow_start
 */
#ifndef TM_CONSISTENCY_HEALTH_H
#define TM_CONSISTENCY_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#define HEALTH_WEIGHT_MAX 1000
/* Of one unit of weight, when it is not reduced; and what a slow start begins with. */
#define SHARE_WHOLE 256
#define SHARE_LEAST 16

struct health {
	int weight;         /* 0: watched, and asked for nothing */
	bool drained;       /* the operator said DRAIN: no new reads */
	int64_t back_at_us; /* when it was last let in (again) */
};

static inline bool health_is_asked(const struct health *h)
{
	return h->weight > 0 && !h->drained;
}

/* What it may have outstanding is in proportion to this; never 0 for one that is asked. A
 * slow_start_us of 0 is no slow start. Only ratios count: where all have just come back, all are
 * equal. */
uint32_t health_share(const struct health *h, int64_t slow_start_us, int64_t now_us);

#endif
