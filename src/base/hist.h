/* SPDX-License-Identifier: PostgreSQL
 *
 * Histogram of microseconds with power-of-two-and-half buckets: 1, 2, 3, 4, 6, 8, 12, 16 …
 * Fixed size, no allocation; quantiles are exact to within one bucket (at most 50 % high).
 * A zeroed struct is valid and empty.
 */
#ifndef TM_BASE_HIST_H
#define TM_BASE_HIST_H

#include <stdint.h>

#define HIST_BUCKETS 64

struct hist {
	uint64_t count;
	uint64_t sum_us;
	uint64_t max_us;
	uint64_t buckets[HIST_BUCKETS];
};

/* Negative values count as 0. */
void hist_record(struct hist *h, int64_t us);
/* Upper edge, inclusive, of bucket i (0 <= i < HIST_BUCKETS); the last one has none: UINT64_MAX. */
uint64_t hist_edge_us(int i);
/* The upper edge of the bucket that holds quantile q (0 < q <= 1); 0 when empty. */
uint64_t hist_quantile_us(const struct hist *h, double q);
void hist_merge(struct hist *into, const struct hist *from);

#endif
