/* SPDX-License-Identifier: PostgreSQL
 *
 * A target takes bytes that a stranger chose and does with them what the router does. It must not
 * crash, and what it asserts must hold. libFuzzer calls it (make fuzz), or driver.c (the unit
 * suite).
 */
#ifndef TM_FUZZ_H
#define TM_FUZZ_H

#include <assert.h>

#include "base/slice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte of what is left, 0 at its end: for choices. */
static inline uint8_t fuzz_byte(struct slice *in)
{
	uint8_t byte = in->len > 0 ? in->ptr[0] : 0;
	*in = slice_from(*in, 1);
	return byte;
}

/* The text up to the next line feed, which goes too. */
static inline struct slice fuzz_line(struct slice *in)
{
	const uint8_t *end = in->len > 0 ? memchr(in->ptr, '\n', in->len) : NULL;
	struct slice line = slice_of(in->ptr, end ? (size_t)(end - in->ptr) : in->len);
	*in = slice_from(*in, line.len + 1);
	return line;
}

#endif
