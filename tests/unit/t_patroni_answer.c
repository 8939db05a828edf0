/* SPDX-License-Identifier: PostgreSQL */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "watch/patroni_answer.h"

/* ================= HTTP ================= */

#define OK "HTTP/1.0 200 OK\r\n"

static enum parse_result parse(const char *text, bool ended, struct http_answer *a)
{
	return http_answer_parse(slice_str(text), ended, a);
}

static void answer_has_a_length_or_ends_with_its_connection(void **state)
{
	struct http_answer a;
	assert_int_equal(parse(OK "Server: x\r\ncontent-length:  2 \r\n\r\n{}", false, &a), PARSE_OK);
	assert_int_equal(a.status, 200);
	assert_true(slice_eq_str(a.body, "{}"));
	assert_int_equal(parse(OK "\r\n{}", false, &a), PARSE_PARTIAL);
	assert_int_equal(parse(OK "\r\n{}", true, &a), PARSE_OK);
	assert_true(slice_eq_str(a.body, "{}"));
	assert_int_equal(parse("HTTP/1.1 503\r\n\r\n", true, &a), PARSE_OK);
	assert_int_equal(a.status, 503);
}

static void answer_that_is_not_quite_http_is_invalid(void **state)
{
	static const char *const bad[] = {
		"HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.0  200 OK\r\n\r\n",
		"HTTP/1.0 20 OK\r\n\r\n",
		"HTTP/1.0 2000 OK\r\n\r\n",
		"HTTP/1.0 099 OK\r\n\r\n",
		"HTTP/1.0 600 OK\r\n\r\n",
		"\r\nHTTP/1.0 200 OK\r\n\r\n",
		OK "no colon\r\n\r\n",
		OK ": no name\r\n\r\n",
		OK "A : blank\r\n\r\n",
		OK "A: 1\r\n folded: 2\r\n\r\n",
		OK "Transfer-Encoding: chunked\r\n\r\n",
		OK "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
		OK "Content-Length: \r\n\r\n",
		OK "Content-Length: -1\r\n\r\n",
		OK "Content-Length: +2\r\n\r\n{}",
		OK "Content-Length: 2, 2\r\n\r\n{}",
		OK "Content-Length: 262145\r\n\r\n",
		OK "Content-Length: 18446744073709551618\r\n\r\n{}",
		OK "Content-Length: 2\r\n\r\n{}x",
	};
	struct http_answer a;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse(bad[i], false, &a) != PARSE_INVALID)
			fail_msg("taken: %s", bad[i]);
	}
	/* Cut short. */
	assert_int_equal(parse(OK "Content-Length: 3\r\n\r\n{}", true, &a), PARSE_INVALID);
	assert_int_equal(parse(OK "Server: x", true, &a), PARSE_INVALID);
	assert_int_equal(parse("", true, &a), PARSE_INVALID);
}

static const char with_length[] = OK "Server: x\r\nContent-Length: 14\r\n\r\n{\"members\":[]}";

static void answer_is_partial_at_every_split_and_invalid_at_every_truncation(void **state)
{
	struct http_answer a;
	size_t len = sizeof(with_length) - 1;
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(http_answer_parse(slice_of(with_length, i), false, &a), PARSE_PARTIAL);
		assert_int_equal(http_answer_parse(slice_of(with_length, i), true, &a), PARSE_INVALID);
	}
	assert_int_equal(http_answer_parse(slice_of(with_length, len), false, &a), PARSE_OK);
	assert_int_equal(a.body.len, 14);
}

/* In memory of its own size, so that a sanitizer sees a step beyond. */
static void answer_with_any_bit_flipped_is_safe(void **state)
{
	size_t len = sizeof(with_length) - 1;
	for (size_t bit = 0; bit < len * 8; bit++) {
		struct http_answer a;
		struct patroni_cluster c;
		const char *why;
		char *copy = malloc(len);
		assert_non_null(copy);
		memcpy(copy, with_length, len);
		copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
		if (http_answer_parse(slice_of(copy, len), true, &a) == PARSE_OK &&
		    patroni_cluster_parse(a.body, &c, &why))
			assert_false(c.has_leader);
		free(copy);
	}
}

static void answer_is_bounded_in_head_and_body(void **state)
{
	size_t cap = PATRONI_ANSWER_MAX + 100;
	char *text = malloc(cap);
	struct http_answer a;
	assert_non_null(text);
	/* A head of exactly the most, and of one byte more. */
	size_t field = PATRONI_HEAD_MAX - strlen(OK) - strlen("A:\r\n\r\n");
	for (size_t more = 0; more < 2; more++) {
		size_t at = (size_t)snprintf(text, cap, OK "A:");
		memset(text + at, 'x', field + more);
		memcpy(text + at + field + more, "\r\n\r\n", 4);
		assert_int_equal(http_answer_parse(slice_of(text, at + field + more + 4), true, &a),
		                 more ? PARSE_INVALID : PARSE_OK);
	}
	/* A line that does not end. */
	memset(text, 'x', cap);
	assert_int_equal(http_answer_parse(slice_of(text, PATRONI_HEAD_MAX), false, &a), PARSE_PARTIAL);
	assert_int_equal(http_answer_parse(slice_of(text, PATRONI_HEAD_MAX + 1), false, &a),
	                 PARSE_INVALID);
	/* The same of the body. */
	size_t head = (size_t)snprintf(text, cap, OK "\r\n");
	text[head] = 'x';
	assert_int_equal(http_answer_parse(slice_of(text, head + PATRONI_BODY_MAX), true, &a), PARSE_OK);
	assert_int_equal(http_answer_parse(slice_of(text, head + PATRONI_BODY_MAX + 1), false, &a),
	                 PARSE_INVALID);
	free(text);
}

/* ================= JSON ================= */

#define LEADER "{\"name\":\"a\",\"role\":\"leader\",\"host\":\"db1\",\"port\":5433}"
#define REPLICA "{\"name\":\"b\",\"role\":\"replica\",\"host\":\"db2\",\"port\":5433,\"lag\":0}"

static bool cluster(const char *text, struct patroni_cluster *c)
{
	const char *why = NULL;
	bool good = patroni_cluster_parse(slice_str(text), c, &why);
	assert_true(good || (why && why[0] != '\0'));
	return good;
}

static void cluster_names_its_leader(void **state)
{
	struct patroni_cluster c;
	assert_true(cluster("{\"members\":[" REPLICA "," LEADER "],\"scope\":\"x\"}", &c));
	assert_true(c.has_leader && !c.paused);
	assert_string_equal(c.host, "db1");
	assert_int_equal(c.port, 5433);
	assert_true(cluster("{\"members\":[{\"role\":\"master\",\"host\":\"::1\"}],\"pause\":true}", &c));
	assert_true(c.has_leader && c.paused);
	assert_string_equal(c.host, "::1");
	assert_int_equal(c.port, 5432);
}

static void cluster_without_a_leader_that_writes_has_none(void **state)
{
	struct patroni_cluster c;
	assert_true(cluster("{\"members\":[]}", &c) && !c.has_leader);
	assert_true(cluster("{\"members\":[" REPLICA "]}", &c) && !c.has_leader);
	assert_true(cluster("{\"members\":[{\"role\":\"standby_leader\",\"host\":\"a\",\"port\":1}]}", &c));
	assert_false(c.has_leader);
}

static void cluster_that_is_hostile_says_nothing(void **state)
{
	static const char *const bad[] = {
		"",
		"null",
		"[]",
		"{}",
		"{\"members\":{}}",
		"{\"members\":[1]}",
		"{\"members\":[{}]}",
		"{\"members\":[{\"role\":1}]}",
		"{\"members\":[" LEADER "," LEADER "]}",
		"{\"members\":[" LEADER "],\"members\":[]}",
		"{\"members\":[{\"role\":\"replica\",\"role\":\"leader\",\"host\":\"a\",\"port\":1}]}",
		"{\"members\":[{\"role\":\"leader\"}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":\"\",\"port\":1}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":7,\"port\":1}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":\"a\\u0000b\",\"port\":1}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":\"a\",\"port\":0}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":\"a\",\"port\":65536}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":\"a\",\"port\":\"5432\"}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":\"a\",\"port\":5432.0}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":\"a\",\"port\":4294972728}]}",
		"{\"members\":[{\"role\":\"leader\",\"host\":\"a\",\"port\":99999999999999999999}]}",
		"{\"members\":[" REPLICA "],\"x\":1e999}",
		"{\"members\":[" REPLICA "],\"pause\":1}",
		"{\"members\":[" LEADER "]} x",
		"{\"members\":[" LEADER "]",
	};
	struct patroni_cluster c;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (cluster(bad[i], &c))
			fail_msg("taken: %s", bad[i]);
		assert_false(c.has_leader);
	}
}

static void cluster_has_a_host_of_255_bytes_at_most(void **state)
{
	char text[512], host[257];
	struct patroni_cluster c;
	memset(host, 'h', 256);
	for (int len = 255; len <= 256; len++) {
		host[len] = '\0';
		(void)snprintf(text, sizeof(text),
		               "{\"members\":[{\"role\":\"leader\",\"host\":\"%s\",\"port\":1}]}", host);
		assert_int_equal(cluster(text, &c), len == 255);
		host[len] = 'h';
	}
}

static void cluster_nested_as_deep_as_it_fits_is_refused(void **state)
{
	struct patroni_cluster c;
	char *text = malloc(PATRONI_BODY_MAX + 1);
	assert_non_null(text);
	memset(text, '[', PATRONI_BODY_MAX);
	text[PATRONI_BODY_MAX] = '\0';
	assert_false(cluster(text, &c));
	free(text);
}

int main(void)
{
#define T(name) cmocka_unit_test(name)
	const struct CMUnitTest tests[] = {
		T(answer_has_a_length_or_ends_with_its_connection),
		T(answer_that_is_not_quite_http_is_invalid),
		T(answer_is_partial_at_every_split_and_invalid_at_every_truncation),
		T(answer_with_any_bit_flipped_is_safe),
		T(answer_is_bounded_in_head_and_body),
		T(cluster_names_its_leader),
		T(cluster_without_a_leader_that_writes_has_none),
		T(cluster_that_is_hostile_says_nothing),
		T(cluster_has_a_host_of_255_bytes_at_most),
		T(cluster_nested_as_deep_as_it_fits_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
