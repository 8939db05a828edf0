/* SPDX-License-Identifier: PostgreSQL */
#include "health.h"

uint32_t health_share(const struct health *h, int64_t slow_start_us, int64_t now_us)
{
	uint32_t weight = (uint32_t)h->weight;
	int64_t back_us = now_us - h->back_at_us;
	if (back_us >= slow_start_us)
		return weight * SHARE_WHOLE;
	int64_t part = back_us > 0 ? back_us * SHARE_WHOLE / slow_start_us : 0;
	return weight * (uint32_t)(part > SHARE_LEAST ? part : SHARE_LEAST);
}
