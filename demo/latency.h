/* SPDX-License-Identifier: PostgreSQL
 *
 * Latencies in microseconds, fine enough to compare two medians: exact below 256 us, to within
 * 0.8 % above (base/hist.h is coarser, for metrics). A zeroed struct is valid and empty.
 */
#ifndef TM_DEMO_LATENCY_H
#define TM_DEMO_LATENCY_H

#include <stdint.h>

#define LATENCY_BUCKETS (256 + 24 * 128)

struct latency {
	uint64_t count;
	uint64_t buckets[LATENCY_BUCKETS];
};

/* Beyond an hour counts as about an hour. */
void latency_record(struct latency *l, int64_t us);
/* The lower edge of the bucket that holds quantile q (0 < q <= 1); 0 when empty. */
uint64_t latency_quantile_us(const struct latency *l, double q);

#endif
