/* SPDX-License-Identifier: PostgreSQL
 *
 * A growable byte buffer with a maximum given at birth. Bytes are appended at the end and
 * consumed at the front. Nothing grows past `max`: an append that would is refused and latches
 * `overflow`, so a sequence of appends may be checked once, at its end.
 *
 *   data            data+start          data+start+len         data+cap
 *    |--- consumed ---|------ live bytes ------|------- free -------|
 *
 * A zeroed struct is valid and empty, with maximum 0 (it refuses every append). Every client has some
 * that are empty nearly always, so the struct is small: 4 GiB - 1 is the most that a maximum can be.
 */
#ifndef TM_BASE_BUF_H
#define TM_BASE_BUF_H

#include "slice.h"

struct buf {
	uint8_t *data;
	uint32_t start;
	uint32_t len;
	uint32_t cap;
	uint32_t max;
	bool overflow;
};

/* The maximum counts live bytes. Allocates nothing. */
void buf_init(struct buf *b, size_t max);
/* Frees the memory; the maximum stays. */
void buf_release(struct buf *b);
/* Empties and clears `overflow`, keeps the memory. */
void buf_reset(struct buf *b);

/* Makes room for `n` more bytes; returns where they go, or NULL (and latches overflow). The bytes
 * count only after buf_commit(). */
[[gnu::warn_unused_result]] uint8_t *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);

/* False, with nothing appended and overflow latched, if it does not fit. */
bool buf_append(struct buf *b, const void *ptr, size_t n);
bool buf_append_str(struct buf *b, const char *text);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drops n (<= len) bytes at the front. */
void buf_consume(struct buf *b, size_t n);
/* Drops all but the first `len` (<= what there is). */
void buf_truncate(struct buf *b, size_t len);

/* Borrows the live bytes until the next call on this buffer. */
static inline struct slice buf_slice(const struct buf *b)
{
	return slice_of(b->data ? b->data + b->start : NULL, b->len);
}

#endif
