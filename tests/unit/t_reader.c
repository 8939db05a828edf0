/* SPDX-License-Identifier: PostgreSQL
 *
 * The reader: in bounds always, latched after the first failure, exact at the end.
 */
#include "pgwire/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static const uint8_t body[] = {7, 0x01, 0x02, 0x0a, 0x0b, 0x0c, 0x0d, 'h', 'i', 0, 'x', 'y', 'z'};

static bool read_all(struct slice in)
{
	struct reader r = reader_of(in);
	uint8_t a = reader_u8(&r);
	uint16_t b = reader_u16(&r);
	uint32_t c = reader_u32(&r);
	struct slice text = reader_cstr(&r);
	struct slice bytes = reader_bytes(&r, 3);
	return reader_done(&r) && a == 7 && b == 0x0102 && c == 0x0a0b0c0du &&
	       slice_eq_str(text, "hi") && slice_eq_str(bytes, "xyz");
}

static void whole_body_is_read_and_every_truncation_refused(void **state)
{
	(void)state;
	for (size_t n = 0; n <= sizeof(body); n++) {
		uint8_t *in = malloc(n ? n : 1);
		memcpy(in, body, n);
		assert_int_equal(read_all(slice_of(in, n)), n == sizeof(body));
		free(in);
	}
}

static void left_over_bytes_are_refused(void **state)
{
	(void)state;
	uint8_t in[sizeof(body) + 1] = {0};
	memcpy(in, body, sizeof(body));
	assert_false(read_all(slice_of(in, sizeof(in))));
}

static void failure_latches_and_later_takes_give_nothing(void **state)
{
	(void)state;
	struct reader r = reader_of(slice_str("abc"));
	assert_int_equal(reader_u32(&r), 0);
	assert_true(r.bad);
	assert_int_equal(reader_u8(&r), 0);
	assert_int_equal(reader_u16(&r), 0);
	assert_null(reader_cstr(&r).ptr);
	assert_null(reader_bytes(&r, 1).ptr);
	assert_int_equal(reader_rest(&r).len, 0);
	assert_false(reader_done(&r));
}

static void text_without_nul_is_bad(void **state)
{
	(void)state;
	struct reader r = reader_of(slice_str("abc"));
	assert_null(reader_cstr(&r).ptr);
	assert_true(r.bad);
}

static void empty_takes_are_good_and_not_null(void **state)
{
	(void)state;
	struct reader r = reader_of(slice_of("\0", 1));
	struct slice text = reader_cstr(&r);
	assert_non_null(text.ptr);
	assert_int_equal(text.len, 0);
	assert_non_null(reader_bytes(&r, 0).ptr);
	assert_int_equal(reader_rest(&r).len, 0);
	assert_true(reader_done(&r));
}

static void huge_take_is_bad(void **state)
{
	(void)state;
	struct reader r = reader_of(slice_str("abc"));
	assert_null(reader_bytes(&r, SIZE_MAX).ptr);
	assert_true(r.bad);
}

static void empty_body_is_done(void **state)
{
	(void)state;
	struct reader r = reader_of((struct slice){0});
	assert_true(reader_done(&r));
	assert_null(reader_cstr(&r).ptr);
	assert_false(reader_done(&r));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_body_is_read_and_every_truncation_refused),
		cmocka_unit_test(left_over_bytes_are_refused),
		cmocka_unit_test(failure_latches_and_later_takes_give_nothing),
		cmocka_unit_test(text_without_nul_is_bad),
		cmocka_unit_test(empty_takes_are_good_and_not_null),
		cmocka_unit_test(huge_take_is_bad),
		cmocka_unit_test(empty_body_is_done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
