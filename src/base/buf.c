/* SPDX-License-Identifier: PostgreSQL */
#include "buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *b, size_t max)
{
	assert(max <= UINT32_MAX);
	*b = (struct buf){.max = (uint32_t)max};
}

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf){.max = b->max};
}

void buf_reset(struct buf *b)
{
	b->start = 0;
	b->len = 0;
	b->overflow = false;
}

static void slide_to_front(struct buf *b)
{
	if (b->start > 0) {
		memmove(b->data, b->data + b->start, b->len);
		b->start = 0;
	}
}

/* Doubles from 256 bytes, so that appends are amortised, and never past the maximum. */
static bool grow(struct buf *b, size_t want)
{
	size_t cap = b->cap ? b->cap : 256;
	while (cap < want)
		cap *= 2;
	if (cap > b->max)
		cap = b->max;
	uint8_t *data = realloc(b->data, cap);
	if (!data)
		return false;
	b->data = data;
	b->cap = (uint32_t)cap;
	return true;
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
	if (n > b->max || b->len > b->max - n) {
		b->overflow = true;
		return NULL;
	}
	if (b->start + b->len + n > b->cap) {
		slide_to_front(b);
		if (b->len + n > b->cap && !grow(b, b->len + n)) {
			b->overflow = true;
			return NULL;
		}
	}
	return b->data + b->start + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
	assert(b->start + b->len + n <= b->cap);
	b->len += (uint32_t)n;
}

bool buf_append(struct buf *b, const void *ptr, size_t n)
{
	if (n == 0)
		return true;
	uint8_t *at = buf_reserve(b, n);
	if (!at)
		return false;
	memcpy(at, ptr, n);
	b->len += (uint32_t)n;
	return true;
}

bool buf_append_str(struct buf *b, const char *text)
{
	return buf_append(b, text, strlen(text));
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	assert(n >= 0);

	/* One byte more for the NUL that vsnprintf writes; it is not committed. */
	uint8_t *at = buf_reserve(b, (size_t)n + 1);
	if (!at)
		return false;
	va_start(args, fmt);
	vsnprintf((char *)at, (size_t)n + 1, fmt, args);
	va_end(args);
	b->len += (uint32_t)n;
	return true;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->len);
	b->len -= (uint32_t)n;
	b->start = b->len == 0 ? 0 : b->start + (uint32_t)n;
}

void buf_truncate(struct buf *b, size_t len)
{
	assert(len <= b->len);
	b->len = (uint32_t)len;
}
