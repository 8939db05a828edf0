/* SPDX-License-Identifier: PostgreSQL
 *
 * A slice is a borrowed range of bytes: pointer and length, passed by value. It owns nothing;
 * the function that hands one out says which buffer it borrows and until when.
 * A zeroed slice is valid and empty.
 */
#ifndef TM_BASE_SLICE_H
#define TM_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct slice {
	const uint8_t *ptr;
	size_t len;
};

/* printf("%.*s", SLICE_ARG(s)) */
#define SLICE_ARG(s) (int)(s).len, (const char *)(s).ptr

static inline struct slice slice_of(const void *ptr, size_t len)
{
	return (struct slice){.ptr = ptr, .len = len};
}

/* Borrows `text` without its terminating NUL. NULL gives the empty slice. */
static inline struct slice slice_str(const char *text)
{
	return (struct slice){.ptr = (const uint8_t *)text, .len = text ? strlen(text) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *b)
{
	return slice_eq(a, slice_str(b));
}

/* ASCII case-insensitive. */
static inline bool slice_ieq_str(struct slice a, const char *b)
{
	return a.len == strlen(b) && (a.len == 0 || strncasecmp((const char *)a.ptr, b, a.len) == 0);
}

static inline struct slice slice_from(struct slice s, size_t off)
{
	return off >= s.len ? (struct slice){0} : slice_of(s.ptr + off, s.len - off);
}

#endif
