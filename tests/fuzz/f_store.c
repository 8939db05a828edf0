/* SPDX-License-Identifier: PostgreSQL
 *
 * The store of marks against a Redis that says anything, on a network of our own: nothing here
 * waits, and time goes on when the input says so. One command a line:
 *
 *   S           at the beginning: a sentinel is asked first       g, p, n   get; put; put without a
 * position <text       the server says text and a line end               x         whoever waits
 * longest goes away >text       … and no line end                                 t 250     250 ms
 * pass c, f, e     connected; failed; the server closes              w         the kernel takes
 * nothing, or again o           the cluster is another                            l         a
 * replica is far behind
 */
#include "fuzz.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "store/store.h"

#define WAITING_MAX 64
#define IN_FLIGHT_MAX 4
#define OWED_MAX 2

/* ================= the network ================= */

struct net_loop {
	int64_t now_us;
	struct list timers;
	struct net_stream *stream; /* the one that is open; NULL: none */
	struct list closed;
	bool stuck;
};

struct net_stream {
	struct list link;
	struct net_loop *loop;
	net_stream_fn fn;
	void *owner;
	struct buf said;
	bool connected, ended;
	unsigned wanted;
};

struct net_timer {
	struct list link;
	struct net_loop *loop;
	net_timer_fn fn;
	void *arg;
	int64_t due_us; /* INT64_MAX: stopped */
	bool dead;
};

static struct net_loop loop;

int64_t net_now_us(void)
{
	return loop.now_us;
}

void net_random(void *out, size_t len)
{
	memset(out, 7, len);
}

struct net_stream *net_connect_tls(struct net_loop *l, const char *host, int port,
                                   int64_t timeout_us, const struct net_tls *tls, net_stream_fn fn,
                                   void *owner)
{
	assert(!l->stream && !tls && host[0] != '\0' && timeout_us > 0);
	struct net_stream *s = calloc(1, sizeof(*s));
	assert(s);
	*s = (struct net_stream){.loop = l, .fn = fn, .owner = owner, .wanted = NET_READABLE};
	list_init(&s->link);
	buf_init(&s->said, 1 << 20);
	l->stream = s;
	return s;
}

void net_stream_want(struct net_stream *s, unsigned events)
{
	s->wanted = events;
}

ssize_t net_stream_read(struct net_stream *s, void *buf, size_t cap)
{
	assert(s == s->loop->stream && s->connected);
	size_t n = s->said.len < cap ? s->said.len : cap;
	if (n == 0)
		return s->ended ? NET_EOF : NET_AGAIN;
	memcpy(buf, buf_slice(&s->said).ptr, n);
	buf_consume(&s->said, n);
	return (ssize_t)n;
}

ssize_t net_stream_write(struct net_stream *s, const void *ptr, size_t len)
{
	assert(s == s->loop->stream && s->connected && len > 0);
	return s->loop->stuck ? 0 : (ssize_t)len;
}

const char *net_stream_error(const struct net_stream *s)
{
	return "broken";
}

void net_stream_close(struct net_stream *s)
{
	if (!s)
		return;
	assert(s == s->loop->stream);
	s->loop->stream = NULL;
	list_push_back(&s->loop->closed, &s->link);
}

struct net_timer *net_timer_new(struct net_loop *l, net_timer_fn fn, void *arg)
{
	struct net_timer *t = calloc(1, sizeof(*t));
	assert(t);
	*t = (struct net_timer){.loop = l, .fn = fn, .arg = arg, .due_us = INT64_MAX};
	list_push_back(&l->timers, &t->link);
	return t;
}

void net_timer_start(struct net_timer *t, int64_t delay_us)
{
	assert(!t->dead);
	t->due_us = t->loop->now_us + (delay_us > 0 ? delay_us : 0);
}

void net_timer_stop(struct net_timer *t)
{
	assert(!t->dead);
	t->due_us = INT64_MAX;
}

void net_timer_free(struct net_timer *t)
{
	if (!t)
		return;
	t->dead = true;
	t->due_us = INT64_MAX;
}

static void free_stream(struct net_stream *s)
{
	list_remove(&s->link);
	buf_release(&s->said);
	free(s);
}

/* What libuv does at the end of a turn. */
static void sweep(struct net_loop *l)
{
	list_for_each(it, &l->closed) free_stream(container_of(it, struct net_stream, link));
	list_for_each(it, &l->timers)
	{
		struct net_timer *t = container_of(it, struct net_timer, link);
		if (!t->dead)
			continue;
		list_remove(&t->link);
		free(t);
	}
}

static struct net_timer *next_due(struct net_loop *l, int64_t until_us)
{
	struct net_timer *next = NULL;
	list_for_each(it, &l->timers)
	{
		struct net_timer *t = container_of(it, struct net_timer, link);
		if (t->due_us <= until_us && (!next || t->due_us < next->due_us))
			next = t;
	}
	return next;
}

static void pass_time(struct net_loop *l, int64_t us)
{
	int64_t until_us = l->now_us + us;
	struct net_timer *t;
	for (int fired = 0; fired < 1000 && (t = next_due(l, until_us)); fired++) {
		if (t->due_us > l->now_us)
			l->now_us = t->due_us;
		t->due_us = INT64_MAX;
		t->fn(t->arg);
		sweep(l);
	}
	l->now_us = until_us;
}

static void tell(struct net_loop *l, unsigned event)
{
	struct net_stream *s = l->stream;
	if (!s || (event == NET_READABLE && !s->connected))
		return;
	if ((event & (NET_CONNECTED | NET_FAILED)) && s->connected)
		return;
	s->connected |= event == NET_CONNECTED;
	s->fn(s->owner, event);
	sweep(l);
}

/* ================= who asks ================= */

struct asker {
	struct store_request *request; /* NULL: nobody */
};

static struct asker askers[WAITING_MAX];

static void on_got(void *arg, enum store_result r, const struct store_mark *mark)
{
	struct asker *a = arg;
	assert(a->request && (r == STORE_OK) == (mark != NULL));
	a->request = NULL;
}

static void on_put(void *arg, bool stored)
{
	struct asker *a = arg;
	assert(a->request);
	a->request = NULL;
}

static struct asker *free_asker(void)
{
	for (int i = 0; i < WAITING_MAX; i++)
		if (!askers[i].request)
			return &askers[i];
	return NULL;
}

static void ask(struct store *s, char what, struct slice rest)
{
	struct asker *a = free_asker();
	struct slice name = slice_of(rest.ptr, rest.len < 127 ? rest.len : 127);
	if (!a || name.len == 0)
		return;
	if (what == 'g') {
		a->request = store_get(s, slice_str("db"), name, on_got, a);
		return;
	}
	struct store_mark m = {.present = what == 'p', .timeline = 1, .at = {(uint64_t)net_now_us()}};
	a->request = store_put(s, slice_str("db"), name, m, on_put, a);
}

static void forget_one(void)
{
	for (int i = 0; i < WAITING_MAX; i++) {
		if (!askers[i].request)
			continue;
		store_forget(askers[i].request);
		askers[i].request = NULL;
		return;
	}
}

/* ================= what happens ================= */

static void say(struct slice text, const char *end)
{
	struct net_stream *s = loop.stream;
	if (!s || !s->connected || s->ended)
		return;
	buf_append(&s->said, text.ptr, text.len);
	buf_append_str(&s->said, end);
	/* One read takes what one event tells of. */
	while (loop.stream == s && s->said.len > 0)
		tell(&loop, NET_READABLE);
}

static int64_t milliseconds(struct slice text)
{
	int64_t ms = 0;
	for (size_t i = 0; i < text.len && ms < 100000; i++)
		if (text.ptr[i] >= '0' && text.ptr[i] <= '9')
			ms = ms * 10 + (text.ptr[i] - '0');
	return ms;
}

static void obey(struct store *s, struct slice line)
{
	char what = (char)fuzz_byte(&line);
	switch (what) {
	case 'g':
	case 'p':
	case 'n':
		ask(s, what, line);
		break;
	case 'x':
		forget_one();
		break;
	case '<':
		say(line, "\r\n");
		break;
	case '>':
		say(line, "");
		break;
	case 'c':
		tell(&loop, NET_CONNECTED);
		break;
	case 'f':
		tell(&loop, NET_FAILED);
		break;
	case 'e':
		if (loop.stream)
			loop.stream->ended = true;
		tell(&loop, NET_READABLE);
		break;
	case 'w':
		loop.stuck = !loop.stuck;
		if (!loop.stuck)
			tell(&loop, loop.stream && loop.stream->connected ? NET_WRITABLE : 0);
		break;
	case 't':
		pass_time(&loop, milliseconds(line) * 1000);
		break;
	case 'o':
		store_set_cluster(s, (uint64_t)net_now_us());
		break;
	case 'l':
		store_raise_ttl(s, milliseconds(line) * 1000);
		break;
	}
	sweep(&loop);
}

static void check(const struct store *s)
{
	struct store_stats st;
	store_stats(s, &st);
	/* Heartbeats, INFO and what stands for all that is owed come on top. */
	assert(st.in_flight >= 0 && st.in_flight <= IN_FLIGHT_MAX + 64);
	assert(st.owed >= 0 && st.owed <= OWED_MAX);
	assert(strnlen(st.error, sizeof(st.error)) < sizeof(st.error));
	/* A refusal may repeat the password. */
	assert(!strstr(st.error, "it refuses the user") || !strstr(st.error, "hush"));
	(void)store_covers(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t router[16] = "a router's name";
	struct slice in = slice_of(data, size);
	struct store_settings settings = {.addresses = {{.host = "one", .port = 1}, {.host = "/two"}},
	                                  .address_count = 1,
	                                  .password = "hush",
	                                  .sentinel_password = "hush",
	                                  .ttl_us = 1000000,
	                                  .max_in_flight = IN_FLIGHT_MAX,
	                                  .max_owed = OWED_MAX};
	log_set_level(LOG_LEVEL_ERROR + 1);
	memset(askers, 0, sizeof(askers));
	loop = (struct net_loop){.now_us = 1000000};
	list_init(&loop.timers);
	list_init(&loop.closed);
	if (size > 0 && data[0] == 'S') {
		memcpy(settings.sentinel_master, "it", 3);
		settings.address_count = 2;
	}
	struct store *s = store_new(&loop, &settings, router);
	assert(s);
	store_set_cluster(s, 1);
	pass_time(&loop, 1000);
	while (in.len > 0) {
		obey(s, fuzz_line(&in));
		check(s);
	}
	/* Nobody is told after this. */
	store_free(s);
	sweep(&loop);
	assert(!loop.stream && list_empty(&loop.timers) && list_empty(&loop.closed));
	return 0;
}
