/* SPDX-License-Identifier: PostgreSQL */
#include "latency.h"

/* 256 buckets of 1 us, then 128 buckets an octave: of 2 us, of 4 us, ... */
static int bucket_of(uint64_t us)
{
	if (us < 256)
		return (int)us;
	int shift = 63 - __builtin_clzll(us) - 7;
	int i = 256 + (shift - 1) * 128 + (int)(us >> shift) - 128;
	return i < LATENCY_BUCKETS ? i : LATENCY_BUCKETS - 1;
}

static uint64_t bucket_edge_us(int i)
{
	if (i < 256)
		return (uint64_t)i;
	int shift = (i - 256) / 128 + 1;
	return (uint64_t)((i - 256) % 128 + 128) << shift;
}

void latency_record(struct latency *l, int64_t us)
{
	l->count++;
	l->buckets[bucket_of(us > 0 ? (uint64_t)us : 0)]++;
}

uint64_t latency_quantile_us(const struct latency *l, double q)
{
	uint64_t seen = 0;
	for (int i = 0; i < LATENCY_BUCKETS; i++) {
		seen += l->buckets[i];
		if (seen > 0 && (double)seen >= q * (double)l->count)
			return bucket_edge_us(i);
	}
	return 0;
}
