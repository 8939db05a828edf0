/* SPDX-License-Identifier: PostgreSQL */
#include "token0.h"

#include <stdio.h>

void token0_format(const struct token0 *t, char out[TOKEN0_TEXT_MAX])
{
	char at[POSITION_TEXT_MAX];
	position_format(t->at, at);
	snprintf(out, TOKEN0_TEXT_MAX, "t0-%llu-%u-%s", (unsigned long long)t->cluster, t->generation,
	         at);
}

/* Takes a decimal number up to `max` and the '-' behind it. */
static bool take_number(struct slice *text, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;
	size_t n = 0;
	for (; n < text->len && text->ptr[n] >= '0' && text->ptr[n] <= '9'; n++) {
		uint64_t digit = (uint64_t)(text->ptr[n] - '0');
		if (value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	if (n == 0 || n == text->len || text->ptr[n] != '-')
		return false;
	*text = slice_from(*text, n + 1);
	*out = value;
	return true;
}

bool token0_parse(struct slice text, struct token0 *out)
{
	struct slice rest = text;
	uint64_t cluster, generation;
	struct position at;

	if (rest.len < 3 || memcmp(rest.ptr, "t0-", 3) != 0)
		return false;
	rest = slice_from(rest, 3);
	if (!take_number(&rest, UINT64_MAX, &cluster) || !take_number(&rest, UINT32_MAX, &generation) ||
	    !position_parse(rest, &at))
		return false;

	/* One token has one text: leading zeros and lower case are not ours. */
	struct token0 t = {.cluster = cluster, .generation = (uint32_t)generation, .at = at};
	char canonical[TOKEN0_TEXT_MAX];
	token0_format(&t, canonical);
	if (!slice_eq_str(text, canonical))
		return false;
	*out = t;
	return true;
}
