/* SPDX-License-Identifier: PostgreSQL
 *
 * Frames: partial input is never mistaken for a message, bad lengths are refused.
 */
#include "pgwire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* On the heap at its exact size, so that a sanitizer sees one byte too far. */
static uint8_t *tight(const void *bytes, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return copy;
}

static const uint8_t query[] = {'Q', 0, 0, 0, 8, 'a', 'b', 'c', 0};
static const uint8_t startup[] = {0, 0, 0, 17, 0, 3, 0, 0, 'u', 's', 'e', 'r', 0, 'a', 0, 0, 0};

static void peek_needs_the_header_only(void **state)
{
	(void)state;
	for (size_t n = 0; n <= sizeof(query); n++) {
		uint8_t *in = tight(query, n);
		struct frame f = {0};
		enum parse_result got = frame_peek(slice_of(in, n), &f);
		assert_int_equal(got, n < FRAME_HEADER ? PARSE_PARTIAL : PARSE_OK);
		if (got == PARSE_OK) {
			assert_int_equal(f.type, 'Q');
			assert_int_equal(f.body_len, 4);
			assert_int_equal(frame_size(&f), sizeof(query));
			assert_ptr_equal(f.body, in + FRAME_HEADER);
			assert_int_equal(frame_complete(&f, slice_of(in, n)), n == sizeof(query));
		}
		free(in);
	}
}

static void peek_refuses_lengths_out_of_bounds(void **state)
{
	(void)state;
	static const struct {
		uint32_t len;
		enum parse_result want;
	} cases[] = {
		{0, PARSE_INVALID},
		{3, PARSE_INVALID},
		{4, PARSE_OK},
		{FRAME_BODY_MAX + 4, PARSE_OK},
		{FRAME_BODY_MAX + 5, PARSE_INVALID},
		{0x80000000u, PARSE_INVALID},
		{UINT32_MAX, PARSE_INVALID},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t in[FRAME_HEADER] = {'D'};
		struct frame f;
		store_be32(in + 1, cases[i].len);
		assert_int_equal(frame_peek(slice_of(in, sizeof(in)), &f), cases[i].want);
	}
}

static void startup_is_partial_until_whole(void **state)
{
	(void)state;
	for (size_t n = 0; n <= sizeof(startup); n++) {
		uint8_t *in = tight(startup, n);
		struct slice body = {0};
		enum parse_result got = startup_frame(slice_of(in, n), &body);
		assert_int_equal(got, n < sizeof(startup) ? PARSE_PARTIAL : PARSE_OK);
		if (got == PARSE_OK) {
			assert_ptr_equal(body.ptr, in + 4);
			assert_int_equal(body.len, sizeof(startup) - 4);
		}
		free(in);
	}
}

static void startup_leaves_what_follows(void **state)
{
	(void)state;
	uint8_t in[sizeof(startup) + 3] = {0};
	struct slice body;
	memcpy(in, startup, sizeof(startup));
	assert_int_equal(startup_frame(slice_of(in, sizeof(in)), &body), PARSE_OK);
	assert_int_equal(body.len, sizeof(startup) - 4);
}

static void startup_refuses_lengths_out_of_bounds_at_once(void **state)
{
	(void)state;
	static const struct {
		uint32_t len;
		enum parse_result want;
	} cases[] = {
		{0, PARSE_INVALID},
		{7, PARSE_INVALID},
		{9, PARSE_PARTIAL},
		{STARTUP_PACKET_MAX, PARSE_PARTIAL},
		{STARTUP_PACKET_MAX + 1, PARSE_INVALID},
		{0x16030100u, PARSE_INVALID}, /* a TLS ClientHello */
		{0x47455420u, PARSE_INVALID}, /* "GET " */
		{UINT32_MAX, PARSE_INVALID},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t in[8] = {0};
		struct slice body;
		store_be32(in, cases[i].len);
		for (size_t n = 4; n <= sizeof(in); n++)
			assert_int_equal(startup_frame(slice_of(in, n), &body), cases[i].want);
	}
}

static void big_endian_loads_and_stores_are_inverse(void **state)
{
	(void)state;
	uint8_t b[8] = {0x01, 0x02, 0x03, 0x04, 0xf5, 0xf6, 0xf7, 0xf8};
	assert_int_equal(load_be16(b), 0x0102);
	assert_int_equal(load_be32(b + 4), 0xf5f6f7f8u);
	assert_true(load_be64(b) == 0x01020304f5f6f7f8u);
	store_be32(b, 0xfedcba98u);
	store_be16(b + 4, 0x8001);
	assert_int_equal(load_be32(b), 0xfedcba98u);
	assert_int_equal(load_be16(b + 4), 0x8001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peek_needs_the_header_only),
		cmocka_unit_test(peek_refuses_lengths_out_of_bounds),
		cmocka_unit_test(startup_is_partial_until_whole),
		cmocka_unit_test(startup_leaves_what_follows),
		cmocka_unit_test(startup_refuses_lengths_out_of_bounds_at_once),
		cmocka_unit_test(big_endian_loads_and_stores_are_inverse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
