/* SPDX-License-Identifier: PostgreSQL */
#include "hist.h"

/* Bucket 0 holds 0..1; then two buckets an octave: (2^k .. 1.5*2^k] and (1.5*2^k .. 2^(k+1)]. */
static int bucket_of(uint64_t us)
{
	if (us <= 1)
		return 0;
	uint64_t v = us - 1;
	int k = 63 - __builtin_clzll(v);
	int i = 1 + 2 * k + (k > 0 ? (int)((v >> (k - 1)) & 1) : 0) - (k > 0 ? 1 : 0);
	return i < HIST_BUCKETS ? i : HIST_BUCKETS - 1;
}

uint64_t hist_edge_us(int i)
{
	if (i <= 0)
		return 1;
	if (i >= HIST_BUCKETS - 1)
		return UINT64_MAX;
	if (i == 1)
		return 2;
	int k = i / 2;
	return i % 2 == 0 ? (UINT64_C(1) << k) + (UINT64_C(1) << (k - 1)) : UINT64_C(1) << (k + 1);
}

void hist_record(struct hist *h, int64_t us)
{
	uint64_t v = us > 0 ? (uint64_t)us : 0;
	h->count++;
	h->sum_us += v;
	if (v > h->max_us)
		h->max_us = v;
	h->buckets[bucket_of(v)]++;
}

uint64_t hist_quantile_us(const struct hist *h, double q)
{
	uint64_t rank = (uint64_t)((double)h->count * q);
	uint64_t seen = 0;
	for (int i = 0; i < HIST_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen > 0 && seen >= rank)
			return hist_edge_us(i) < h->max_us ? hist_edge_us(i) : h->max_us;
	}
	return 0;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	into->count += from->count;
	into->sum_us += from->sum_us;
	if (from->max_us > into->max_us)
		into->max_us = from->max_us;
	for (int i = 0; i < HIST_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}
