/* SPDX-License-Identifier: PostgreSQL */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void buf_keeps_what_is_appended_in_order(void **state)
{
	struct buf b;
	buf_init(&b, 100000);
	for (int i = 0; i < 5000; i++)
		assert_true(buf_printf(&b, "%d,", i));
	char *want = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&want, &len);
	for (int i = 0; i < 5000; i++)
		fprintf(f, "%d,", i);
	fclose(f);
	assert_int_equal(b.len, len);
	assert_memory_equal(b.data + b.start, want, len);
	free(want);
	buf_release(&b);
}

static void buf_refuses_past_its_maximum_and_says_so(void **state)
{
	struct buf b;
	buf_init(&b, 10);
	assert_true(buf_append(&b, "0123456789", 10));
	assert_false(b.overflow);
	assert_false(buf_append(&b, "x", 1));
	assert_true(b.overflow);
	assert_int_equal(b.len, 10);
	buf_reset(&b);
	assert_false(b.overflow);
	assert_null(buf_reserve(&b, 11));
	buf_release(&b);
}

static void buf_consumes_at_the_front_and_uses_the_room_again(void **state)
{
	struct buf b;
	buf_init(&b, 1000);
	uint8_t next_in = 0, next_out = 0;
	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < 7; i++, next_in++)
			assert_true(buf_append(&b, &next_in, 1));
		while (b.len > 3) {
			assert_int_equal(buf_slice(&b).ptr[0], next_out++);
			buf_consume(&b, 1);
		}
	}
	assert_true(b.cap <= 1000);
	buf_release(&b);
}

static void buf_of_zero_refuses_everything(void **state)
{
	struct buf b = {0};
	assert_false(buf_append(&b, "x", 1));
	assert_true(buf_append(&b, "", 0));
	assert_int_equal(buf_slice(&b).len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_keeps_what_is_appended_in_order),
		cmocka_unit_test(buf_refuses_past_its_maximum_and_says_so),
		cmocka_unit_test(buf_consumes_at_the_front_and_uses_the_room_again),
		cmocka_unit_test(buf_of_zero_refuses_everything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
