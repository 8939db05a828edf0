/* SPDX-License-Identifier: PostgreSQL
 *
 * The parts of the store that need no Redis: the text of a mark, what is owed, what INFO says, and
 * replies cut at every byte. The store itself is tested on real servers by
 * tests/integration/test_store.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "store/info.h"
#include "store/mark.h"
#include "store/owed.h"
#include "store/resp.h"

static struct store_mark mark_of(uint32_t timeline, uint64_t fork, uint64_t at)
{
	return (struct store_mark){.present = true, .timeline = timeline, .fork = {fork}, .at = {at}};
}

/* ---- marks ---- */

static void a_mark_is_forty_digits_and_back(void **state)
{
	char text[MARK_TEXT_LEN + 1];
	struct store_mark m = mark_of(0x12AB, 0xFEDCBA9876543210, 0x42), back;
	mark_format(&m, text);
	assert_string_equal(text, "000012ABFEDCBA98765432100000000000000042");
	assert_true(mark_parse(slice_str(text), &back));
	assert_true(back.present && !mark_later(&m, &back) && !mark_later(&back, &m));
}

static void anything_else_is_no_mark(void **state)
{
	char text[MARK_TEXT_LEN + 1];
	struct store_mark m = mark_of(1, 2, 3), back;
	mark_format(&m, text);
	for (size_t len = 0; len < MARK_TEXT_LEN; len++)
		assert_false(mark_parse(slice_of(text, len), &back));
	for (size_t i = 0; i < MARK_TEXT_LEN; i++) {
		for (int c = 0; c < 256; c++) {
			char kept = text[i];
			bool hex = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
			text[i] = (char)c;
			assert_int_equal(mark_parse(slice_of(text, MARK_TEXT_LEN), &back), hex);
			text[i] = kept;
		}
	}
}

static void later_is_the_order_of_the_text(void **state)
{
	static const uint64_t values[] = {0, 1, 9, 10, 15, 16, 0xFFFFFFFF, 0x100000000, UINT64_MAX};
	enum { N = sizeof(values) / sizeof(values[0]), ALL = N * N * N };
	for (int i = 0; i < ALL; i++) {
		for (int j = 0; j < ALL; j += 7) {
			struct store_mark a =
				mark_of((uint32_t)values[i / N / N], values[i / N % N], values[i % N]);
			struct store_mark b =
				mark_of((uint32_t)values[j / N / N], values[j / N % N], values[j % N]);
			char x[MARK_TEXT_LEN + 1], y[MARK_TEXT_LEN + 1];
			mark_format(&a, x);
			mark_format(&b, y);
			assert_int_equal(mark_later(&a, &b), strcmp(x, y) > 0);
		}
	}
}

/* ---- what is owed ---- */

static void one_mark_a_key_the_latest(void **state)
{
	struct owed_table t;
	struct store_mark low = mark_of(1, 0, 5), high = mark_of(1, 0, 6);
	assert_true(owed_init(&t, 4));
	struct owed *o = owed_raise(&t, slice_str("a"), &high);
	assert_ptr_equal(owed_raise(&t, slice_str("a"), &low), o);
	assert_int_equal(t.count, 1);
	assert_int_equal(o->mark.at.lsn, 6);
	owed_release(&t);
}

static void a_mark_that_is_raised_is_sent_again(void **state)
{
	struct owed_table t;
	struct store_mark low = mark_of(1, 0, 5), high = mark_of(1, 0, 6);
	assert_true(owed_init(&t, 4));
	struct owed *o = owed_raise(&t, slice_str("a"), &low);
	assert_ptr_equal(owed_next(&t), o);
	owed_sent(&t, o);
	assert_null(owed_next(&t));
	owed_raise(&t, slice_str("a"), &low);
	assert_null(owed_next(&t));
	owed_raise(&t, slice_str("a"), &high);
	assert_ptr_equal(owed_next(&t), o);
	owed_sent(&t, o);
	owed_all_unsent(&t);
	assert_ptr_equal(owed_next(&t), o);
	owed_remove(&t, o);
	assert_int_equal(t.count, 0);
	assert_null(owed_next(&t));
	owed_release(&t);
}

static void the_table_is_full_at_its_maximum(void **state)
{
	enum { MAX = 5000 };
	struct owed_table t;
	struct store_mark m = mark_of(1, 0, 5);
	char key[16];
	assert_true(owed_init(&t, MAX));
	for (int i = 0; i < MAX; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		assert_non_null(owed_raise(&t, slice_str(key), &m));
	}
	assert_null(owed_raise(&t, slice_str("one more"), &m));
	assert_non_null(owed_raise(&t, slice_str("k77"), &m));
	assert_int_equal(t.count, MAX);
	owed_remove(&t, owed_next(&t));
	assert_non_null(owed_raise(&t, slice_str("one more"), &m));
	owed_release(&t);
}

/* ---- INFO ---- */

#define INFO_TEXT                                                                           \
	"# Server\r\nredis_version:7.0.15\r\nrun_id:aaaa\r\n# Memory\r\nmaxmemory:0\r\n"        \
	"maxmemory_policy:allkeys-lru\r\nmaxmemory_human:0B\r\nloading:0\r\nevicted_keys:3\r\n" \
	"role:master\r\nmaster_replid:bbbb\r\n"

static void info_tells_what_counts(void **state)
{
	struct info i;
	assert_true(info_parse(slice_str(INFO_TEXT), &i));
	assert_string_equal(i.incarnation, "aaaa:bbbb:3");
	assert_true(i.is_master && !i.loading && !i.evicts && !i.stops_without_replicas);
	assert_true(
		info_parse(slice_str("maxmemory:1\r\n" INFO_TEXT "min_slaves_good_slaves:0\r\n"), &i));
	assert_true(i.evicts && i.stops_without_replicas);
	assert_string_equal(i.policy, "allkeys-lru");
	assert_true(info_parse(slice_str("redis_version:6.2.1\r\nrole:slave\r\nloading:1\r\n" INFO_TEXT
	                                 "min_slaves_good_slaves:0\r\n"),
	                       &i));
	assert_true(!i.is_master && i.loading && !i.stops_without_replicas);
}

static void info_that_is_cut_is_refused_or_whole(void **state)
{
	struct info i;
	size_t len = strlen(INFO_TEXT);
	for (size_t cut = 0; cut < len; cut++) {
		char *text = malloc(cut ? cut : 1); /* as long as it says, for AddressSanitizer */
		memcpy(text, INFO_TEXT, cut);
		if (info_parse(slice_of(text, cut), &i))
			assert_memory_equal(i.incarnation, "aaaa:", 5);
		else
			assert_true(cut < len - strlen("\r\nmaster_replid:bbbb\r\n"));
		free(text);
	}
}

/* ---- replies ---- */

struct talk {
	struct net_loop *loop;
	struct net_stream *server;
	struct net_timer *timer;
	struct resp *client;
	struct slice first, second;
	char heard[1024], lost[128];
};

static void hear(struct talk *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void hear(struct talk *t, const char *fmt, ...)
{
	size_t n = strlen(t->heard);
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(t->heard + n, sizeof(t->heard) - n, fmt, args);
	va_end(args);
}

static void hear_value(struct talk *t, const struct resp_value *v)
{
	if (v->type == RESP_NIL)
		hear(t, "nil ");
	else if (v->type == RESP_INTEGER)
		hear(t, "%d ", (int)v->integer);
	else if (v->type == RESP_ARRAY)
		hear(t, "array ");
	else
		hear(t, "%s'%.*s' ", v->type == RESP_ERROR ? "!" : "", SLICE_ARG(v->text));
}

static void on_reply(void *owner, const struct resp_reply *reply)
{
	struct talk *t = owner;
	hear_value(t, &reply->top);
	for (int i = 0; i < reply->count; i++)
		hear_value(t, &reply->items[i]);
}

static void on_lost(void *owner, const char *why)
{
	struct talk *t = owner;
	(void)snprintf(t->lost, sizeof(t->lost), "%s", why);
	resp_close(t->client);
	net_loop_stop(t->loop);
}

static void on_server(void *owner, unsigned events)
{
	char bytes[256];
	struct talk *t = owner;
	(void)net_stream_read(t->server, bytes, sizeof(bytes));
}

static void send_second(void *arg)
{
	struct talk *t = arg;
	(void)net_stream_write(t->server, t->second.ptr, t->second.len);
	net_stream_close(t->server);
}

static void on_accept(void *arg, struct net_stream *s)
{
	struct talk *t = arg;
	t->server = s;
	net_stream_set_owner(s, on_server, t);
	if (t->first.len > 0)
		(void)net_stream_write(s, t->first.ptr, t->first.len);
	net_timer_start(t->timer, 1000);
}

/* The server says `text`, in two pieces, and closes. */
static struct talk talk(const char *text, size_t len, size_t cut)
{
	static const struct resp_handlers handlers = {.reply = on_reply, .lost = on_lost};
	struct talk t = {.loop = net_loop_new(),
	                 .first = slice_of(text, cut),
	                 .second = slice_of(text + cut, len - cut)};
	char error[256];
	struct net_listener *l =
		net_listen(t.loop, "127.0.0.1", 0, 8, on_accept, &t, error, sizeof(error));
	t.timer = net_timer_new(t.loop, send_second, &t);
	t.client =
		resp_connect(t.loop, "127.0.0.1", net_listener_port(l), 1000000, NULL, NULL, &handlers, &t);
	const struct slice words[] = {slice_str("PING")};
	resp_send(t.client, words, 1);
	net_loop_run(t.loop);
	net_timer_free(t.timer);
	net_listener_close(l);
	net_loop_free(t.loop);
	return t;
}

static void replies_are_the_same_wherever_they_are_cut(void **state)
{
	static const char text[] =
		"+OK\r\n:-12\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n$1\r\nx\r\n:0\r\n*0\r\n-ERR no\r\n$0\r\n\r\n";
	for (size_t cut = 0; cut <= sizeof(text) - 1; cut++) {
		struct talk t = talk(text, sizeof(text) - 1, cut);
		assert_string_equal(t.heard, "'OK' -12 'a\r\n' nil array 'x' 0 array !'ERR no' '' ");
		assert_string_equal(t.lost, "the server closed the connection");
	}
}

static void replies_have_limits(void **state)
{
	static char large[RESP_REPLY_MAX + 100];
	int n = snprintf(large, sizeof(large), "$%d\r\n", RESP_REPLY_MAX - 20);
	memset(large + n, 'x', RESP_REPLY_MAX - 20);
	memcpy(large + n + RESP_REPLY_MAX - 20, "\r\n", 2);
	struct talk t = talk(large, (size_t)n + RESP_REPLY_MAX - 18, 10);
	assert_string_equal(t.lost, "the server closed the connection");
	n = snprintf(large, sizeof(large), "$%d\r\n", 200000);
	memset(large + n, 'x', sizeof(large) - (size_t)n);
	t = talk(large, sizeof(large), 10);
	assert_string_equal(t.lost, "a reply is too large");
	static const char *const shapes[] = {"*9\r\n", "*2147483647\r\n", "*1\r\n*1\r\n:1\r\n"};
	for (int i = 0; i < 3; i++) {
		t = talk(shapes[i], strlen(shapes[i]), 2);
		assert_string_equal(t.lost, "a reply is of another shape than expected");
	}
	t = talk("HTTP/1.1 200 OK\r\n", 17, 3);
	assert_string_equal(t.lost, "what it says is not Redis's protocol");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mark_is_forty_digits_and_back),
		cmocka_unit_test(anything_else_is_no_mark),
		cmocka_unit_test(later_is_the_order_of_the_text),
		cmocka_unit_test(one_mark_a_key_the_latest),
		cmocka_unit_test(a_mark_that_is_raised_is_sent_again),
		cmocka_unit_test(the_table_is_full_at_its_maximum),
		cmocka_unit_test(info_tells_what_counts),
		cmocka_unit_test(info_that_is_cut_is_refused_or_whole),
		cmocka_unit_test(replies_are_the_same_wherever_they_are_cut),
		cmocka_unit_test(replies_have_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
