/* SPDX-License-Identifier: PostgreSQL */
#include "position.h"

#include <assert.h>
#include <stdio.h>

/* XLogPageHeaderData and XLogLongPageHeaderData, as they lie on disk in every supported version. */
#define PAGE_HEADER 24
#define SEGMENT_HEADER 40

struct position position_without_page_header(struct position p, uint32_t block, uint32_t segment)
{
	assert((block & (block - 1)) == 0 && (segment & (segment - 1)) == 0);

	if (segment != 0 && (p.lsn & (segment - 1)) == SEGMENT_HEADER)
		p.lsn -= SEGMENT_HEADER;
	else if (block != 0 && (p.lsn & (block - 1)) == PAGE_HEADER)
		p.lsn -= PAGE_HEADER;
	return p;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Takes one to eight hex digits off the front; false if there is none. */
static bool take_half(struct slice *text, uint32_t *out)
{
	size_t n = 0;
	*out = 0;
	while (n < text->len && n < 8 && hex_digit(text->ptr[n]) >= 0) {
		*out = *out << 4 | (uint32_t)hex_digit(text->ptr[n]);
		n++;
	}
	*text = slice_from(*text, n);
	return n > 0;
}

bool position_parse(struct slice text, struct position *out)
{
	uint32_t high, low;
	if (!take_half(&text, &high) || text.len == 0 || text.ptr[0] != '/')
		return false;
	text = slice_from(text, 1);
	if (!take_half(&text, &low) || text.len != 0)
		return false;
	*out = (struct position){.lsn = (uint64_t)high << 32 | low};
	return true;
}

void position_format(struct position p, char out[POSITION_TEXT_MAX])
{
	snprintf(out, POSITION_TEXT_MAX, "%X/%X", (uint32_t)(p.lsn >> 32), (uint32_t)p.lsn);
}
