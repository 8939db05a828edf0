/* SPDX-License-Identifier: PostgreSQL
 *
 * A checked reader of one message body. Every take is bounds-checked; the first that fails
 * latches `bad` and all later ones give zero values, so a parser checks once, with
 * reader_done(), which also demands that the body was used up exactly.
 */
#ifndef TM_PGWIRE_READER_H
#define TM_PGWIRE_READER_H

#include "frame.h"

struct reader {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
};

static inline struct reader reader_of(struct slice body)
{
	return (struct reader){.at = body.ptr, .end = body.ptr + body.len};
}

static inline size_t reader_left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
/* Without its NUL; borrows the body. */
struct slice reader_cstr(struct reader *r);
struct slice reader_bytes(struct reader *r, size_t n);
/* Everything that is left; never bad. */
struct slice reader_rest(struct reader *r);
/* True if nothing failed and nothing is left over. */
bool reader_done(const struct reader *r);

#endif
