/* SPDX-License-Identifier: PostgreSQL
 *
 * Messages: what we write is byte for byte the protocol, what we read is checked to the last byte.
 * Parsers get their bytes at the end of an exact heap block, so that a sanitizer sees an overrun.
 */
#include "pgwire/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define BYTES(text) slice_of(text, sizeof(text) - 1)
/* BYTES as an initialiser of static data */
#define VEC(text)                                 \
	{                                             \
		(const uint8_t *)(text), sizeof(text) - 1 \
	}
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ================= parsers, as a table ================= */

static bool check_startup(struct slice body)
{
	struct startup s;
	struct slice name, value;
	if (!startup_parse(body, &s))
		return false;
	while (startup_next_param(&s.params, &name, &value))
		;
	assert_int_equal(s.params.len, 0); /* what was accepted can be walked to its end */
	return true;
}

static bool check_parse(struct slice body)
{
	struct msg_parse m;
	return msg_parse_parse(body, &m);
}

static bool check_bind(struct slice body)
{
	struct msg_bind m;
	return msg_bind_parse(body, &m);
}

static bool check_target(struct slice body)
{
	struct msg_target m;
	return msg_target_parse(body, &m);
}

static bool check_query(struct slice body)
{
	struct slice text;
	return msg_query_parse(body, &text);
}

static bool check_password(struct slice body)
{
	struct slice text;
	return msg_password_parse(body, &text);
}

static bool check_sasl_initial(struct slice body)
{
	struct slice mechanism, response;
	return msg_sasl_initial_parse(body, &mechanism, &response);
}

static bool check_error(struct slice body)
{
	struct error_fields e;
	return msg_error_parse(body, &e);
}

static bool check_parameter_status(struct slice body)
{
	struct slice name, value;
	return msg_parameter_status_parse(body, &name, &value);
}

static bool check_key_data(struct slice body)
{
	uint32_t pid;
	struct slice key;
	return msg_key_data_parse(body, &pid, &key);
}

static bool check_command_tag(struct slice body)
{
	struct slice tag;
	return msg_command_tag_parse(body, &tag);
}

static void sum_column(void *arg, int index, struct slice value)
{
	size_t *sum = arg;
	for (size_t i = 0; i < value.len; i++)
		*sum += value.ptr[i];
}

static bool check_data_row(struct slice body)
{
	size_t sum = 0;
	struct slice value;
	bool ok = msg_data_row_parse(body, sum_column, &sum);
	bool found = msg_data_row_column(body, 0, &value);
	assert_true(ok || !found);
	return ok;
}

struct vector {
	bool (*check)(struct slice body);
	struct slice body;
	size_t fixed; /* truncations from here on are good, too: the message ends in free bytes */
};

#define WHOLE SIZE_MAX

static const struct vector vectors[] = {
	{check_startup, VEC("\0\3\0\0user\0al\0database\0\0\0"), WHOLE},
	{check_startup, VEC("\0\3\0\0\0"), WHOLE},
	{check_startup, VEC("\0\3\0\2user\0a\0_pq_.x\0y\0\0"), WHOLE},
	{check_startup, VEC("\x04\xd2\x16\x2f"), WHOLE},
	{check_startup, VEC("\x04\xd2\x16\x30"), WHOLE},
	{check_startup, VEC("\x04\xd2\x16\x2e\0\0\0\1abcdefgh"), 12},
	{check_parse, VEC("s1\0SELECT $1\0\0\2\0\0\0\x17\0\0\0\x19"), WHOLE},
	{check_parse, VEC("\0\0\0\0"), WHOLE},
	{check_bind, VEC("p\0s1\0\0\0\0\0\0\0"), 5},
	{check_target, VEC("Ss1\0"), WHOLE},
	{check_target, VEC("P\0"), WHOLE},
	{check_query, VEC("SELECT 1\0"), WHOLE},
	{check_query, VEC("\0"), WHOLE},
	{check_password, VEC("secret\0"), WHOLE},
	{check_sasl_initial, VEC("SCRAM-SHA-256\0\0\0\0\3n,,"), WHOLE},
	{check_sasl_initial, VEC("X\0\xff\xff\xff\xff"), WHOLE},
	{check_error, VEC("SERROR\0VERROR\0C42P01\0Mno\0Dd\0Hh\0\0"), WHOLE},
	{check_error, VEC("\0"), WHOLE},
	{check_parameter_status, VEC("TimeZone\0UTC\0"), WHOLE},
	{check_key_data, VEC("\0\0\0\7abcd"), WHOLE},
	{check_key_data, VEC("\0\0\0\7abcdefghijkl"), 8},
	{check_command_tag, VEC("SELECT 1\0"), WHOLE},
	{check_data_row, VEC("\0\3\0\0\0\2hi\xff\xff\xff\xff\0\0\0\0"), WHOLE},
	{check_data_row, VEC("\0\0"), WHOLE},
};

static bool check_tight(const struct vector *v, const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	assert_non_null(copy);
	if (len > 0)
		memcpy(copy, bytes, len);
	bool ok = v->check(slice_of(copy, len));
	free(copy);
	return ok;
}

static void every_vector_parses_and_every_truncation_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		const struct vector *v = &vectors[i];
		for (size_t n = 0; n <= v->body.len; n++) {
			bool want = n == v->body.len || n >= v->fixed;
			if (check_tight(v, v->body.ptr, n) != want)
				fail_msg("vector %zu cut to %zu bytes: wrong answer", i, n);
		}
	}
}

static void a_byte_too_many_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		const struct vector *v = &vectors[i];
		if (v->fixed != WHOLE || v->check == check_key_data)
			continue;
		uint8_t longer[64] = {0};
		memcpy(longer, v->body.ptr, v->body.len);
		longer[v->body.len] = 'x';
		if (check_tight(v, longer, v->body.len + 1))
			fail_msg("vector %zu with a byte too many was taken", i);
	}
}

static void every_single_bit_flip_is_safe(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		for (size_t bit = 0; bit < 8 * vectors[i].body.len; bit++) {
			uint8_t flipped[64];
			memcpy(flipped, vectors[i].body.ptr, vectors[i].body.len);
			flipped[bit / 8] ^= (uint8_t)(1u << bit % 8);
			check_tight(&vectors[i], flipped, vectors[i].body.len);
		}
	}
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void random_damage_is_safe(void **state)
{
	(void)state;
	uint64_t seed = 0x7469646d61726b00u;
	for (int round = 0; round < 20000; round++) {
		const struct vector *v = &vectors[next_random(&seed) % COUNT(vectors)];
		uint8_t bytes[64];
		memcpy(bytes, v->body.ptr, v->body.len);
		for (uint64_t n = next_random(&seed) % 6; n > 0; n--)
			bytes[next_random(&seed) % v->body.len] = (uint8_t)next_random(&seed);
		check_tight(v, bytes, next_random(&seed) % (v->body.len + 1));
	}
}

/* ================= what the parsers say ================= */

static void startup_tells_its_kind_and_parameters(void **state)
{
	(void)state;
	struct startup s;
	struct slice name, value;
	assert_true(startup_parse(BYTES("\0\3\0\2user\0al\0database\0d\0\0"), &s));
	assert_int_equal(s.code, 0x00030002);
	assert_true(startup_next_param(&s.params, &name, &value));
	assert_true(slice_eq_str(name, "user") && slice_eq_str(value, "al"));
	assert_true(startup_next_param(&s.params, &name, &value));
	assert_true(slice_eq_str(name, "database") && slice_eq_str(value, "d"));
	assert_false(startup_next_param(&s.params, &name, &value));

	assert_true(startup_parse(BYTES("\x04\xd2\x16\x2f"), &s));
	assert_int_equal(s.code, PROTOCOL_SSL);
	assert_true(startup_parse(BYTES("\x04\xd2\x16\x30"), &s));
	assert_int_equal(s.code, PROTOCOL_GSSENC);
}

static void startup_refuses_other_major_versions_but_names_them(void **state)
{
	(void)state;
	struct startup s;
	assert_false(startup_parse(BYTES("\0\2\0\0user\0a\0\0"), &s));
	assert_int_equal(s.code, 0x00020000);
	assert_false(startup_parse(BYTES("\0\4\0\0user\0a\0\0"), &s));
	assert_false(startup_parse(BYTES("\0\3\0\0user\0a\0"), &s));
	assert_false(startup_parse(BYTES("\0\3\0\0user\0\0a"), &s));
}

static void cancel_keys_are_4_to_256_bytes(void **state)
{
	(void)state;
	uint8_t body[8 + 300] = {0x04, 0xd2, 0x16, 0x2e, 0, 0, 1, 0};
	for (size_t len = 0; len <= 300; len++) {
		struct startup s;
		uint32_t pid;
		struct slice key;
		bool want = len >= 4 && len <= 256;
		assert_int_equal(startup_parse(slice_of(body, 8 + len), &s), want);
		assert_int_equal(msg_key_data_parse(slice_of(body + 4, 4 + len), &pid, &key), want);
		if (want) {
			assert_int_equal(s.cancel_pid, 256);
			assert_int_equal(s.cancel_key.len, len);
			assert_int_equal(pid, 256);
			assert_int_equal(key.len, len);
		}
	}
}

static void parse_gives_its_parts(void **state)
{
	(void)state;
	struct msg_parse m;
	assert_true(msg_parse_parse(BYTES("s1\0SELECT $1\0\0\1\0\0\0\x17"), &m));
	assert_true(slice_eq_str(m.name, "s1") && slice_eq_str(m.query, "SELECT $1"));
	assert_int_equal(m.type_count, 1);
	assert_int_equal(load_be32(m.types.ptr), 23);
}

static void bind_and_targets_give_their_names(void **state)
{
	(void)state;
	struct msg_bind b;
	struct msg_target t;
	assert_true(msg_bind_parse(BYTES("p\0s1\0\0\1"), &b));
	assert_true(slice_eq_str(b.portal, "p") && slice_eq_str(b.statement, "s1"));
	assert_int_equal(b.rest.len, 2);
	assert_true(msg_target_parse(BYTES("Pp\0"), &t));
	assert_int_equal(t.kind, 'P');
	assert_true(slice_eq_str(t.name, "p"));
	assert_false(msg_target_parse(BYTES("Xp\0"), &t));
}

static void sasl_initial_may_have_no_response(void **state)
{
	(void)state;
	struct slice mechanism, response;
	assert_true(msg_sasl_initial_parse(BYTES("X\0\xff\xff\xff\xff"), &mechanism, &response));
	assert_null(response.ptr);
	assert_true(msg_sasl_initial_parse(BYTES("X\0\0\0\0\1y"), &mechanism, &response));
	assert_true(slice_eq_str(mechanism, "X") && slice_eq_str(response, "y"));
	assert_false(msg_sasl_initial_parse(BYTES("X\0\xff\xff\xff\xfe"), &mechanism, &response));
}

static void error_prefers_the_untranslated_severity(void **state)
{
	(void)state;
	struct error_fields e;
	assert_true(msg_error_parse(BYTES("SFEHLER\0VERROR\0C42P01\0Mm\0Dd\0Hh\0Fx.c\0\0"), &e));
	assert_true(slice_eq_str(e.severity, "ERROR") && slice_eq_str(e.sqlstate, "42P01"));
	assert_true(slice_eq_str(e.message, "m") && slice_eq_str(e.detail, "d"));
	assert_true(slice_eq_str(e.hint, "h"));
	assert_true(msg_error_parse(BYTES("VERROR\0SFEHLER\0C42\0\0"), &e));
	assert_true(slice_eq_str(e.severity, "ERROR"));
	assert_int_equal(e.sqlstate.len, 0);
	assert_true(msg_error_parse(BYTES("SFATAL\0\0"), &e));
	assert_true(slice_eq_str(e.severity, "FATAL"));
}

static void count_calls(void *arg, int index, struct slice value)
{
	int *calls = arg;
	assert_int_equal(index, *calls);
	++*calls;
}

static void data_row_tells_null_from_empty(void **state)
{
	(void)state;
	struct slice row = BYTES("\0\3\0\0\0\2hi\xff\xff\xff\xff\0\0\0\0");
	struct slice v;
	int calls = 0;
	assert_true(msg_data_row_column(row, 0, &v) && slice_eq_str(v, "hi"));
	assert_true(msg_data_row_column(row, 1, &v));
	assert_null(v.ptr);
	assert_true(msg_data_row_column(row, 2, &v));
	assert_non_null(v.ptr);
	assert_int_equal(v.len, 0);
	assert_false(msg_data_row_column(row, 3, &v));
	assert_false(msg_data_row_column(row, -1, &v));
	assert_true(msg_data_row_parse(row, count_calls, &calls));
	assert_int_equal(calls, 3);
}

static void malformed_row_is_not_half_delivered(void **state)
{
	(void)state;
	int calls = 0;
	assert_false(msg_data_row_parse(BYTES("\0\2\0\0\0\1a\0\0\0\2b"), count_calls, &calls));
	assert_int_equal(calls, 0);
}

/* ================= writers, as a table ================= */

static bool w_startup(struct buf *b)
{
	return write_startup(b, slice_str("al"), slice_str("d"), slice_str("x"));
}

static bool w_startup_user_only(struct buf *b)
{
	return write_startup(b, slice_str("al"), (struct slice){0}, (struct slice){0});
}

static bool w_startup_replication(struct buf *b)
{
	return write_startup_replication(b, slice_str("al"), slice_str("x"));
}

static bool w_cancel(struct buf *b)
{
	return write_cancel(b, 7, slice_str("abcde"));
}

static bool w_query(struct buf *b)
{
	return write_query(b, slice_str("SELECT 1"));
}

static bool w_parse(struct buf *b)
{
	return write_parse(b, slice_str("s"), slice_str("q"), slice_of("\0\0\0\x19", 4));
}

static bool w_bind(struct buf *b)
{
	return write_bind_plain(b, slice_str(""), slice_str("s"), 1);
}

static bool w_bind_text(struct buf *b)
{
	return write_bind_text(b, slice_str(""), slice_str("s"), slice_str("a.b"), 1);
}

static bool w_bind_null(struct buf *b)
{
	return write_bind_text(b, slice_str(""), slice_str("s"), (struct slice){0}, 1);
}

static bool w_execute(struct buf *b)
{
	return write_execute(b, slice_str("p"));
}

static bool w_describe(struct buf *b)
{
	return write_describe(b, 'S', slice_str("s"));
}

static bool w_close(struct buf *b)
{
	return write_close(b, 'P', slice_str("p"));
}

static bool w_password(struct buf *b)
{
	return write_password(b, slice_str("pw"));
}

static bool w_sasl_initial(struct buf *b)
{
	return write_sasl_initial(b, slice_str("M"), slice_str("n,,"));
}

static bool w_sasl_response(struct buf *b)
{
	return write_sasl_response(b, slice_str("c=x"));
}

static bool w_auth_ok(struct buf *b)
{
	return write_auth(b, AUTH_OK, (struct slice){0});
}

static bool w_auth_md5(struct buf *b)
{
	return write_auth(b, AUTH_MD5, slice_str("salt"));
}

static bool w_parameter_status(struct buf *b)
{
	return write_parameter_status(b, slice_str("a"), slice_str("b"));
}

static bool w_key_data(struct buf *b)
{
	return write_key_data(b, 1, slice_str("\xff\xfe\xfd\xfc"));
}

static bool w_ready(struct buf *b)
{
	return write_ready(b, TX_OPEN);
}

static bool w_error(struct buf *b)
{
	return write_error(b, "ERROR", "25006", "no", "do");
}

static bool w_notice(struct buf *b)
{
	return write_error(b, "NOTICE", "00000", "hi", NULL);
}

static bool w_command_complete(struct buf *b)
{
	return write_command_complete(b, "SHOW");
}

static bool w_row_description(struct buf *b)
{
	return write_row_description(b, (const char *const[]){"c"}, 1);
}

static bool w_data_row(struct buf *b)
{
	return write_data_row(b, (const struct slice[]){slice_str("x"), {0}, slice_str("")}, 3);
}

static bool w_negotiate(struct buf *b)
{
	struct startup st;
	return startup_parse(BYTES("\0\3\0\x9" "_pq_.x\0y\0user\0a\0\0"), &st) && write_negotiate(b, &st);
}

static const struct {
	bool (*write)(struct buf *b);
	struct slice want;
} writers[] = {
	{w_startup, VEC("\0\0\0\x2f\0\3\0\0user\0al\0database\0d\0application_name\0x\0\0")},
	{w_startup_replication,
     VEC("\0\0\0\x35\0\3\0\0user\0al\0replication\0true\0application_name\0x\0\0")},
	{w_startup_user_only, VEC("\0\0\0\x11\0\3\0\0user\0al\0\0")},
	{w_cancel, VEC("\0\0\0\x11\x04\xd2\x16\x2e\0\0\0\7abcde")},
	{w_query, VEC("Q\0\0\0\x0dSELECT 1\0")},
	{w_parse, VEC("P\0\0\0\x0es\0q\0\0\1\0\0\0\x19")},
	{w_bind, VEC("B\0\0\0\x0f\0s\0\0\0\0\0\0\1\0\1")},
	{w_bind_text, VEC("B\0\0\0\x16\0s\0\0\0\0\1\0\0\0\3a.b\0\1\0\1")},
	{w_bind_null, VEC("B\0\0\0\x13\0s\0\0\0\0\1\xff\xff\xff\xff\0\1\0\1")},
	{w_execute, VEC("E\0\0\0\x0ap\0\0\0\0\0")},
	{w_describe, VEC("D\0\0\0\7Ss\0")},
	{w_close, VEC("C\0\0\0\7Pp\0")},
	{write_sync, VEC("S\0\0\0\4")},
	{write_terminate, VEC("X\0\0\0\4")},
	{w_password, VEC("p\0\0\0\7pw\0")},
	{w_sasl_initial, VEC("p\0\0\0\x0dM\0\0\0\0\3n,,")},
	{w_sasl_response, VEC("p\0\0\0\7c=x")},
	{w_auth_ok, VEC("R\0\0\0\x08\0\0\0\0")},
	{w_auth_md5, VEC("R\0\0\0\x0c\0\0\0\5salt")},
	{w_parameter_status, VEC("S\0\0\0\x08"
                             "a\0b\0")},
	{w_key_data, VEC("K\0\0\0\x0c\0\0\0\1\xff\xfe\xfd\xfc")},
	{w_ready, VEC("Z\0\0\0\5T")},
	{w_error, VEC("E\0\0\0\x22SERROR\0VERROR\0C25006\0Mno\0Hdo\0\0")},
	{w_notice, VEC("N\0\0\0\x20SNOTICE\0VNOTICE\0C00000\0Mhi\0\0")},
	{w_command_complete, VEC("C\0\0\0\x09SHOW\0")},
	{w_row_description,
     VEC("T\0\0\0\x1a\0\1c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0")},
	{w_data_row, VEC("D\0\0\0\x13\0\3\0\0\0\1x\xff\xff\xff\xff\0\0\0\0")},
	{w_negotiate, VEC("v\0\0\0\x13\0\3\0\2\0\0\0\1_pq_.x\0")},
};

static void writers_write_the_protocol_to_the_byte(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 4096);
	for (size_t i = 0; i < COUNT(writers); i++) {
		size_t before = b.len;
		assert_true(writers[i].write(&b));
		struct slice got = slice_from(buf_slice(&b), before);
		if (!slice_eq(got, writers[i].want))
			fail_msg("writer %zu: %zu bytes written, %zu wanted, or other ones", i, got.len,
			         writers[i].want.len);
	}
	buf_release(&b);
}

static void a_message_that_does_not_fit_leaves_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(writers); i++) {
		for (size_t room = 0; room < writers[i].want.len; room++) {
			struct buf b;
			buf_init(&b, 3 + room);
			assert_true(buf_append_str(&b, "old"));
			assert_false(writers[i].write(&b));
			assert_true(b.overflow);
			assert_true(slice_eq_str(buf_slice(&b), "old"));
			buf_release(&b);
		}
	}
}

static void writers_work_behind_consumed_bytes(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 600);
	for (int i = 0; i < 400; i++) {
		assert_true(write_query(&b, slice_str("SELECT 1")));
		assert_true(write_sync(&b));
		assert_true(slice_eq(buf_slice(&b), BYTES("Q\0\0\0\x0dSELECT 1\0S\0\0\0\4")));
		buf_consume(&b, 14);
		assert_true(slice_eq(buf_slice(&b), BYTES("S\0\0\0\4")));
		buf_consume(&b, 5);
	}
	buf_release(&b);
}

static void a_text_with_a_nul_is_refused(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 100);
	assert_false(write_query(&b, BYTES("SELECT\0 1")));
	assert_int_equal(b.len, 0);
	buf_reset(&b);
	assert_true(write_query(&b, BYTES("SELECT 1")));
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_vector_parses_and_every_truncation_is_refused),
		cmocka_unit_test(a_byte_too_many_is_refused),
		cmocka_unit_test(every_single_bit_flip_is_safe),
		cmocka_unit_test(random_damage_is_safe),
		cmocka_unit_test(startup_tells_its_kind_and_parameters),
		cmocka_unit_test(startup_refuses_other_major_versions_but_names_them),
		cmocka_unit_test(cancel_keys_are_4_to_256_bytes),
		cmocka_unit_test(parse_gives_its_parts),
		cmocka_unit_test(bind_and_targets_give_their_names),
		cmocka_unit_test(sasl_initial_may_have_no_response),
		cmocka_unit_test(error_prefers_the_untranslated_severity),
		cmocka_unit_test(data_row_tells_null_from_empty),
		cmocka_unit_test(malformed_row_is_not_half_delivered),
		cmocka_unit_test(writers_write_the_protocol_to_the_byte),
		cmocka_unit_test(a_message_that_does_not_fit_leaves_nothing),
		cmocka_unit_test(writers_work_behind_consumed_bytes),
		cmocka_unit_test(a_text_with_a_nul_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
