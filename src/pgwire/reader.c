/* SPDX-License-Identifier: PostgreSQL */
#include "reader.h"

/* NULL, and latched, if `n` bytes are not there. */
static const uint8_t *take(struct reader *r, size_t n)
{
	if (r->bad || reader_left(r) < n) {
		r->bad = true;
		return NULL;
	}
	const uint8_t *at = r->at;
	r->at += n;
	return at;
}

uint8_t reader_u8(struct reader *r)
{
	const uint8_t *p = take(r, 1);
	return p ? *p : 0;
}

uint16_t reader_u16(struct reader *r)
{
	const uint8_t *p = take(r, 2);
	return p ? load_be16(p) : 0;
}

uint32_t reader_u32(struct reader *r)
{
	const uint8_t *p = take(r, 4);
	return p ? load_be32(p) : 0;
}

struct slice reader_cstr(struct reader *r)
{
	size_t left = reader_left(r);
	const uint8_t *nul = NULL;
	if (!r->bad && left > 0) /* most names are empty */
		nul = *r->at == 0 ? r->at : memchr(r->at, 0, left);
	if (!nul) {
		r->bad = true;
		return (struct slice){0};
	}
	struct slice text = slice_of(r->at, (size_t)(nul - r->at));
	r->at = nul + 1;
	return text;
}

struct slice reader_bytes(struct reader *r, size_t n)
{
	const uint8_t *p = take(r, n);
	return p ? slice_of(p, n) : (struct slice){0};
}

struct slice reader_rest(struct reader *r)
{
	return r->bad ? (struct slice){0} : reader_bytes(r, reader_left(r));
}

bool reader_done(const struct reader *r)
{
	return !r->bad && r->at == r->end;
}
