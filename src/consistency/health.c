/* SPDX-License-Identifier: PostgreSQL */
#include "health.h"

#include <string.h>

uint32_t health_part(int64_t back_us, int64_t slow_start_us)
{
	int64_t part = back_us > 0 ? back_us * SHARE_WHOLE / slow_start_us : 0;
	return (uint32_t)(part > SHARE_LEAST ? part : SHARE_LEAST);
}

/* ---- connections ---- */

bool health_connect_failed(struct health *h, int64_t first_us, int64_t now_us)
{
	bool news = !h->unreachable;
	int64_t after_us = news ? first_us : 2 * h->probe_after_us;
	h->unreachable = true;
	h->probe_after_us = after_us < PROBE_MAX_US ? after_us : PROBE_MAX_US;
	h->probe_at_us = now_us + h->probe_after_us;
	return news;
}

bool health_connected(struct health *h, int64_t now_us)
{
	if (!h->unreachable)
		return false;
	h->unreachable = false;
	h->back_at_us = now_us;
	return true;
}

bool health_probe_due(struct health *h, int64_t now_us)
{
	if (!h->unreachable || now_us < h->probe_at_us)
		return false;
	/* The probe's own failure sets it anew; this one is for a probe that comes to nothing. */
	h->probe_at_us = now_us + PROBE_MAX_US;
	return true;
}

/* ---- latency ---- */

/* Hoare's FIND ("Algorithm 65", CACM 1961): puts in order only what the median takes. */
static int64_t median(uint32_t of[LATENCY_BATCH])
{
	const int middle = LATENCY_BATCH / 2;
	int low = 0, high = LATENCY_BATCH - 1;
	while (low < high) {
		uint32_t pivot = of[middle];
		int i = low, j = high;
		while (i <= j) {
			while (of[i] < pivot)
				i++;
			while (pivot < of[j])
				j--;
			if (i > j)
				break;
			uint32_t swap = of[i];
			of[i++] = of[j];
			of[j--] = swap;
		}
		if (j < middle)
			low = i;
		if (i > middle)
			high = j;
	}
	return of[middle];
}

void health_answered(struct health *h, int64_t took_us, int64_t now_us)
{
	uint32_t took = took_us < 0 ? 0 : took_us > UINT32_MAX ? UINT32_MAX : (uint32_t)took_us;
	h->batch[h->batch_count++] = took;
	if (h->batch_count < LATENCY_BATCH)
		return;
	/* 0 would be "not known". */
	h->median_us = median(h->batch) + 1;
	h->median_at_us = now_us;
	h->batch_count = 0;
}

void health_set_slow(struct health *h, int64_t now_us)
{
	/* Again, soon after it was let in: for longer. */
	bool again = h->slow_for_us > 0 && now_us - h->slow_until_us < h->slow_for_us;
	int64_t for_us = again ? 2 * h->slow_for_us : SLOW_MIN_US;
	h->slow_for_us = for_us < SLOW_MAX_US ? for_us : SLOW_MAX_US;
	h->slow_until_us = h->back_at_us = now_us + h->slow_for_us;
	h->batch_count = 0;
	h->median_at_us = 0;
}
