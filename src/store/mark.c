/* SPDX-License-Identifier: PostgreSQL */
#include "mark.h"

#include <inttypes.h>

void mark_format(const struct store_mark *mark, char out[MARK_TEXT_LEN + 1])
{
	(void)snprintf(out, MARK_TEXT_LEN + 1, "%08" PRIX32 "%016" PRIX64 "%016" PRIX64, mark->timeline,
	               mark->fork.lsn, mark->at.lsn);
}

static bool hex_parse(const uint8_t *text, int digits, uint64_t *out)
{
	uint64_t value = 0;
	for (int i = 0; i < digits; i++) {
		uint8_t c = text[i];
		if (c >= '0' && c <= '9')
			value = value << 4 | (uint64_t)(c - '0');
		else if (c >= 'A' && c <= 'F')
			value = value << 4 | (uint64_t)(c - 'A' + 10);
		else
			return false;
	}
	*out = value;
	return true;
}

bool mark_parse(struct slice text, struct store_mark *out)
{
	uint64_t timeline, fork, at;
	if (text.len != MARK_TEXT_LEN || !hex_parse(text.ptr, 8, &timeline) ||
	    !hex_parse(text.ptr + 8, 16, &fork) || !hex_parse(text.ptr + 24, 16, &at))
		return false;
	*out = (struct store_mark){
		.present = true, .timeline = (uint32_t)timeline, .fork = {fork}, .at = {at}};
	return true;
}

bool mark_later(const struct store_mark *a, const struct store_mark *b)
{
	if (a->timeline != b->timeline)
		return a->timeline > b->timeline;
	if (a->fork.lsn != b->fork.lsn)
		return a->fork.lsn > b->fork.lsn;
	return a->at.lsn > b->at.lsn;
}
