/* SPDX-License-Identifier: PostgreSQL
 *
 * How much a replica is asked, for reasons that have nothing to do with what it has replayed: its
 * weight, the operator's word, whether pooled connections can be had, how long its answers take, and
 * how long it has been back. Asking a replica less, or not at all,
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

/* Reads whose median is one measurement of a replica's latency, and for how long it counts. */
#define LATENCY_BATCH 32
#define LATENCY_MAX_AGE_US INT64_C(30000000)
/* A replica that is left out is tried again after so long; twice as long each time that it fails
 * anew. */
#define PROBE_MAX_US INT64_C(30000000)
#define SLOW_MIN_US INT64_C(10000000)
#define SLOW_MAX_US INT64_C(300000000)

/* What every decision reads comes first. */
struct health {
	int weight;         /* 0: watched, and asked for nothing */
	bool drained;       /* the operator said DRAIN: no new reads */
	bool unreachable;   /* the watcher reaches it, pooled connections do not: not asked until one does */
	int64_t back_at_us; /* when it was last let in (again) */
	/* Its reads took far longer than those of all others: not asked before, if there are others. */
	int64_t slow_until_us, slow_for_us;
	int64_t probe_at_us, probe_after_us; /* unreachable: the next attempt */
	/* From sending a read to its first row: the last median, and the batch under way. */
	int64_t median_us, median_at_us; /* at 0: none */
	int batch_count;
	uint32_t batch[LATENCY_BATCH];
};

/* The operator wants it asked. */
static inline bool health_is_wanted(const struct health *h)
{
	return h->weight > 0 && !h->drained;
}

static inline bool health_is_asked(const struct health *h)
{
	return health_is_wanted(h) && !h->unreachable;
}

static inline bool health_is_slow(const struct health *h, int64_t now_us)
{
	return now_us < h->slow_until_us;
}

/* No connection could be had: true if that is news. The first probe is due after first_us. */
bool health_connect_failed(struct health *h, int64_t first_us, int64_t now_us);
/* One was had: true if that is news; the share grows slowly from now on. */
bool health_connected(struct health *h, int64_t now_us);
/* Time to try a connection that nobody waits for; the next one is due later. */
bool health_probe_due(struct health *h, int64_t now_us);

/* A read took so long to its first row. Cheap: every read on a replica comes here. */
void health_answered(struct health *h, int64_t took_us, int64_t now_us);
/* Leaves it out for a while, then lets it in slowly. */
void health_set_slow(struct health *h, int64_t now_us);
/* The last median, while it counts; 0: not known. */
static inline int64_t health_latency_us(const struct health *h, int64_t now_us)
{
	bool known = h->median_at_us != 0 && now_us - h->median_at_us <= LATENCY_MAX_AGE_US;
	return known ? h->median_us : 0;
}

/* Of one unit of weight, `back_us` after it was let in. */
uint32_t health_part(int64_t back_us, int64_t slow_start_us);

/* What it may have outstanding is in proportion to this; never 0 for one that is asked. A
 * slow_start_us of 0 is no slow start. Only ratios count: where all have just come back, all are
 * equal. */
static inline uint32_t health_share(const struct health *h, int64_t slow_start_us, int64_t now_us)
{
	int64_t back_us = now_us - h->back_at_us;
	uint32_t part = back_us >= slow_start_us ? SHARE_WHOLE : health_part(back_us, slow_start_us);
	return (uint32_t)h->weight * part;
}

#endif
