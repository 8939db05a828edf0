/* SPDX-License-Identifier: PostgreSQL
 *
 * net.h on a virtual clock: see sim.h. Time stands still during a turn and moves on by a
 * microsecond after it, so that a loop that spins is seen to take time.
 *
 * A connection has two ends. What one end writes travels as packets, each an event, that arrive in
 * order; an arrival is the kernel's doing and tells nobody by itself: a second event, the end's
 * wake-up, tells the owner as long as there is something that it wants (level-triggered).
 */
#include "sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/list.h"

#define WINDOW (64 * 1024)      /* bytes under way or unread, per direction */
#define SENT_TIMEOUT_US 4000000 /* of TCP, much shortened: a run lasts seconds */
#define KEEPALIVE_US 8000000
#define RETRANSMIT_US 200000
#define STRAGGLER_US 25000 /* one packet in so many is late by up to this */
#define STRAGGLERS 100
#define TRACE_LINE 512

/* ================= events ================= */

struct event {
	int64_t at_us;
	uint64_t number;
	size_t place; /* in the heap, from 1; 0: not there */
	/* Returns the loop whose turn it was; NULL: none was told. */
	struct net_loop *(*fn)(struct event *e);
};

struct link_state {
	int64_t cut_until_us;
	int64_t extra_us;
	int64_t usual_us;
	int loss_percent;
};

static struct {
	uint64_t chance[2];
	bool verbose;
	int64_t now_us;
	uint64_t hash, next_number;
	uint32_t next_connection;
	struct event **heap;
	size_t heap_len, heap_cap;
	char hosts[SIM_HOSTS_MAX][16];
	bool powered[SIM_HOSTS_MAX];
	int left_open[SIM_HOSTS_MAX];
	int host_count;
	struct link_state links[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
	struct list listeners, connections, loops, dead_streams;
} world;

static bool before(const struct event *a, const struct event *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

static void heap_put(size_t place, struct event *e)
{
	world.heap[place - 1] = e;
	e->place = place;
}

static void heap_up(size_t place, struct event *e)
{
	for (; place > 1 && before(e, world.heap[place / 2 - 1]); place /= 2)
		heap_put(place, world.heap[place / 2 - 1]);
	heap_put(place, e);
}

static void heap_down(size_t place, struct event *e)
{
	for (size_t child; (child = place * 2) <= world.heap_len; place = child) {
		if (child < world.heap_len && before(world.heap[child], world.heap[child - 1]))
			child++;
		if (!before(world.heap[child - 1], e))
			break;
		heap_put(place, world.heap[child - 1]);
	}
	heap_put(place, e);
}

static void event_cancel(struct event *e)
{
	size_t place = e->place;
	if (place == 0)
		return;
	e->place = 0;
	struct event *last = world.heap[--world.heap_len];
	if (last == e)
		return;
	if (place > 1 && before(last, world.heap[place / 2 - 1]))
		heap_up(place, last);
	else
		heap_down(place, last);
}

static void event_at(struct event *e, int64_t at_us)
{
	event_cancel(e);
	if (world.heap_len == world.heap_cap) {
		world.heap_cap = world.heap_cap ? world.heap_cap * 2 : 256;
		world.heap = realloc(world.heap, world.heap_cap * sizeof(*world.heap));
		assert(world.heap);
	}
	e->at_us = at_us > world.now_us ? at_us : world.now_us;
	e->number = world.next_number++;
	heap_up(++world.heap_len, e);
}

/* ================= chance ================= */

/* xorshift128+: small, and good enough to choose faults with. */
static uint64_t draw(void)
{
	uint64_t a = world.chance[0], b = world.chance[1];
	world.chance[0] = b;
	a ^= a << 23;
	world.chance[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
	return world.chance[1] + b;
}

static uint64_t spread(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

uint64_t sim_below(uint64_t n)
{
	return n ? (draw() >> 11) % n : 0;
}

int64_t sim_between(int64_t low, int64_t high)
{
	return low + (int64_t)sim_below((uint64_t)(high - low + 1));
}

bool sim_chance(int percent)
{
	return sim_below(100) < (uint64_t)percent;
}

void net_random(void *out, size_t len)
{
	uint8_t *at = out;
	for (size_t i = 0; i < len; i++)
		at[i] = (uint8_t)(draw() >> 24);
}

/* ================= trace ================= */

static void hash_bytes(const void *ptr, size_t len)
{
	const uint8_t *at = ptr;
	for (size_t i = 0; i < len; i++)
		world.hash = (world.hash ^ at[i]) * 0x100000001b3u;
}

void sim_trace(const char *fmt, ...)
{
	char line[TRACE_LINE];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	hash_bytes(&world.now_us, sizeof(world.now_us));
	hash_bytes(line, n < 0 ? 0 : strlen(line));
	if (world.verbose)
		printf("%10.6f %s\n", (double)world.now_us / 1e6, line);
}

uint64_t sim_hash(void)
{
	return world.hash;
}

/* ================= clock ================= */

int64_t net_now_us(void)
{
	return world.now_us;
}

/* Linked with --wrap: what asks the machine's clock gets the world's (src/base/log.c, tokens). */
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
time_t __wrap_time(time_t *out);

#define EPOCH_S 1700000000

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	*ts = (struct timespec){.tv_sec = EPOCH_S + world.now_us / 1000000,
	                        .tv_nsec = world.now_us % 1000000 * 1000};
	return 0;
}

time_t __wrap_time(time_t *out)
{
	time_t now = EPOCH_S + world.now_us / 1000000;
	if (out)
		*out = now;
	return now;
}

/* ================= loops ================= */

struct net_loop {
	struct list link;
	int host;
	bool stopped;
	void (*after)(void *arg);
	void *after_arg;
	void (*wake)(void *arg);
	void *wake_arg;
	struct event wake_event;
	int streams, timers;
};

static struct net_loop *on_wake(struct event *e)
{
	struct net_loop *l = container_of(e, struct net_loop, wake_event);
	if (l->wake)
		l->wake(l->wake_arg);
	return l;
}

struct net_loop *sim_loop_new(const char *host)
{
	struct net_loop *l = calloc(1, sizeof(*l));
	assert(l);
	l->host = sim_host(host);
	l->wake_event.fn = on_wake;
	list_push_back(&world.loops, &l->link);
	return l;
}

struct net_loop *net_loop_new(void)
{
	return sim_loop_new("router");
}

static void free_dead_streams(void);

static void run_after(struct net_loop *l)
{
	if (l->after)
		l->after(l->after_arg);
	free_dead_streams();
}

static struct net_loop *dispatch_next(void)
{
	struct event *e = world.heap[0];
	event_cancel(e);
	assert(e->at_us <= world.now_us);
	return e->fn(e);
}

/* Several events that are due may be handled in one turn, as epoll hands them out. */
static void turn(void)
{
	if (world.heap[0]->at_us > world.now_us)
		world.now_us = world.heap[0]->at_us;
	struct net_loop *l = dispatch_next();
	while (l && !l->stopped && world.heap_len > 0 && world.heap[0]->at_us <= world.now_us &&
	       sim_chance(50)) {
		struct net_loop *other = dispatch_next();
		if (other && other != l) {
			run_after(l);
			l = other;
		}
	}
	if (l)
		run_after(l);
	world.now_us++;
}

/* Runs the whole world until this loop is stopped. */
void net_loop_run(struct net_loop *l)
{
	l->stopped = false;
	while (!l->stopped && world.heap_len > 0)
		turn();
	run_after(l);
}

void net_loop_stop(struct net_loop *l)
{
	l->stopped = true;
}

int64_t net_loop_now_us(struct net_loop *l)
{
	return world.now_us;
}

void net_loop_set_after(struct net_loop *l, void (*fn)(void *arg), void *arg)
{
	l->after = fn;
	l->after_arg = arg;
}

void net_loop_wake(struct net_loop *l)
{
	event_at(&l->wake_event, world.now_us);
}

void net_loop_set_wake(struct net_loop *l, void (*fn)(void *arg), void *arg)
{
	l->wake = fn;
	l->wake_arg = arg;
}

bool net_loop_on_signal(struct net_loop *l, int signum, void (*fn)(void *arg, int signum),
                        void *arg)
{
	return true; /* none come */
}

bool net_loop_watch_fd(struct net_loop *l, int fd, void (*fn)(void *arg), void *arg)
{
	return false; /* there are no descriptors here */
}

/* ================= connections and their ends ================= */

struct net_stream {
	struct list link; /* world.dead_streams, once closed */
	struct net_loop *loop;
	net_stream_fn fn;
	void *owner;
	struct connection *connection;
	int side;
	unsigned wanted;
	bool connected, eof, broken;
	bool ended; /* the owner has read the end */
	const char *error;
	struct buf in;
	struct event wake;  /* something is there that is wanted */
	struct event limit; /* of connecting */
};

/* Lives until both ends are closed and no packet is under way. */
struct connection {
	struct list link; /* world.connections */
	uint32_t id;
	int host[2];
	struct net_stream *end[2];
	int64_t last_arrival_us[2]; /* of packets to that end */
	size_t unread[2];           /* bytes on their way to that end, or there */
	bool silent;
	int packets;
};

enum packet_kind { PACKET_OPEN, PACKET_OPENED, PACKET_DATA, PACKET_END, PACKET_RESET };

struct packet {
	struct event event;
	struct connection *connection;
	int to;
	enum packet_kind kind;
	int port;
	const char *error;
	size_t len;
	uint8_t bytes[];
};

static const char *const packet_names[] = {"open", "opened", "data", "end", "reset"};

static void connection_put(struct connection *c)
{
	if (c->end[0] || c->end[1] || c->packets > 0)
		return;
	list_remove(&c->link);
	free(c);
}

static struct net_loop *on_packet(struct event *e);

static struct link_state *link_of(int a, int b)
{
	return &world.links[a][b];
}

static int64_t arrival(const struct connection *c, int to)
{
	const struct link_state *k = link_of(c->host[!to], c->host[to]);
	int64_t at = world.now_us + k->usual_us + k->extra_us + sim_between(0, k->usual_us / 2);
	if (sim_below(STRAGGLERS) == 0)
		at += sim_between(0, STRAGGLER_US);
	if (k->loss_percent > 0 && sim_chance(k->loss_percent))
		at += RETRANSMIT_US;
	if (world.now_us < k->cut_until_us)
		at = k->cut_until_us + sim_between(0, RETRANSMIT_US);
	return at > c->last_arrival_us[to] ? at : c->last_arrival_us[to];
}

static struct packet *packet_new(struct connection *c, int to, enum packet_kind kind, size_t len)
{
	struct packet *p = calloc(1, sizeof(*p) + len);
	assert(p);
	p->event.fn = on_packet;
	p->connection = c;
	p->to = to;
	p->kind = kind;
	p->len = len;
	c->packets++;
	return p;
}

static void packet_send(struct packet *p)
{
	struct connection *c = p->connection;
	c->last_arrival_us[p->to] = arrival(c, p->to);
	event_at(&p->event, c->last_arrival_us[p->to]);
}

static void send_kind(struct connection *c, int to, enum packet_kind kind)
{
	packet_send(packet_new(c, to, kind, 0));
}

/* What an end learns of its own kernel, without the network. */
static void break_later(struct connection *c, int side, int64_t in_us, const char *error)
{
	struct packet *p = packet_new(c, side, PACKET_RESET, 0);
	p->error = error;
	event_at(&p->event, world.now_us + in_us);
}

static unsigned ready_events(const struct net_stream *s)
{
	unsigned ready = 0;
	if (!s->connected)
		return 0;
	if (s->in.len > 0 || (s->eof && !s->ended) || s->broken)
		ready |= NET_READABLE;
	if (s->broken || s->connection->unread[!s->side] < WINDOW)
		ready |= NET_WRITABLE;
	return ready & s->wanted;
}

static void stream_poke(struct net_stream *s)
{
	if (s && s->fn && s->wake.place == 0 && ready_events(s))
		event_at(&s->wake, world.now_us);
}

static struct net_loop *on_stream_wake(struct event *e)
{
	struct net_stream *s = container_of(e, struct net_stream, wake);
	struct net_loop *l = s->loop;
	unsigned ready = ready_events(s);
	if (!ready || !s->fn)
		return NULL;
	/* Level-triggered: again in the next turn, if it is still so. */
	event_at(&s->wake, world.now_us + 1);
	s->fn(s->owner, ready);
	return l;
}

static void connect_failed(struct net_stream *s, const char *error)
{
	event_cancel(&s->limit);
	s->error = error;
	s->broken = true;
	if (s->fn)
		s->fn(s->owner, NET_FAILED);
}

static struct net_loop *on_connect_limit(struct event *e)
{
	struct net_stream *s = container_of(e, struct net_stream, limit);
	struct net_loop *l = s->loop;
	connect_failed(s, "connection timed out");
	return l;
}

static struct net_stream *stream_new(struct net_loop *l, struct connection *c, int side)
{
	struct net_stream *s = calloc(1, sizeof(*s));
	assert(s);
	list_init(&s->link);
	s->loop = l;
	s->connection = c;
	s->side = side;
	s->wanted = NET_READABLE;
	s->wake.fn = on_stream_wake;
	s->limit.fn = on_connect_limit;
	buf_init(&s->in, WINDOW);
	c->end[side] = s;
	l->streams++;
	return s;
}

struct net_stream *net_connect(struct net_loop *l, const char *host, int port, int64_t timeout_us,
                               net_stream_fn fn, void *owner)
{
	struct connection *c = calloc(1, sizeof(*c));
	assert(c);
	c->id = ++world.next_connection;
	c->host[0] = l->host;
	c->host[1] = sim_host(host);
	list_push_back(&world.connections, &c->link);
	struct net_stream *s = stream_new(l, c, 0);
	s->fn = fn;
	s->owner = owner;
	event_at(&s->limit, world.now_us + timeout_us);
	struct packet *p = packet_new(c, 1, PACKET_OPEN, 0);
	p->port = port;
	packet_send(p);
	return s;
}

/* Takes it from its owner; the memory goes after the turn. */
static void stream_detach(struct net_stream *s)
{
	struct connection *c = s->connection;
	event_cancel(&s->wake);
	event_cancel(&s->limit);
	c->end[s->side] = NULL;
	s->loop->streams--;
	s->fn = NULL;
	list_push_back(&world.dead_streams, &s->link);
	connection_put(c);
}

static void free_dead_streams(void)
{
	while (!list_empty(&world.dead_streams)) {
		struct net_stream *s =
			container_of(list_first(&world.dead_streams), struct net_stream, link);
		list_remove(&s->link);
		buf_release(&s->in);
		free(s);
	}
}

/* Nothing is encrypted here. */
struct net_stream *net_connect_tls(struct net_loop *l, const char *host, int port,
                                   int64_t timeout_us, const struct net_tls *tls, net_stream_fn fn,
                                   void *owner)
{
	return net_connect(l, host, port, timeout_us, fn, owner);
}

bool net_stream_accept_tls(struct net_stream *s, struct tls_context *c, struct slice first)
{
	return false;
}

const struct tls *net_stream_tls(const struct net_stream *s)
{
	return NULL;
}

void net_stream_close(struct net_stream *s)
{
	if (!s)
		return;
	struct connection *c = s->connection;
	if (!s->broken && !c->silent && world.powered[c->host[s->side]])
		send_kind(c, !s->side, s->in.len > 0 || !s->connected ? PACKET_RESET : PACKET_END);
	stream_detach(s);
}

void net_stream_set_owner(struct net_stream *s, net_stream_fn fn, void *owner)
{
	s->fn = fn;
	s->owner = owner;
	stream_poke(s);
}

void net_stream_want(struct net_stream *s, unsigned events)
{
	s->wanted = events;
	stream_poke(s);
}

unsigned net_stream_wanted(const struct net_stream *s)
{
	return s->wanted;
}

void net_stream_expect(struct net_stream *s, int bytes)
{
	/* Allowed to wake earlier, as unix sockets do. */
}

/* One in eight is short, so that no owner can rely on getting all. */
static size_t cut_short(size_t n)
{
	return n > 1 && sim_below(8) == 0 ? 1 + sim_below(n) : n;
}

ssize_t net_stream_read(struct net_stream *s, void *buf, size_t cap)
{
	if (s->broken)
		return NET_ERROR;
	if (s->in.len == 0) {
		s->ended = s->eof;
		return s->eof ? NET_EOF : NET_AGAIN;
	}
	size_t n = cut_short(s->in.len < cap ? s->in.len : cap);
	memcpy(buf, buf_slice(&s->in).ptr, n);
	buf_consume(&s->in, n);
	s->connection->unread[s->side] -= n;
	stream_poke(s->connection->end[!s->side]);
	return (ssize_t)n;
}

ssize_t net_stream_write(struct net_stream *s, const void *ptr, size_t len)
{
	struct connection *c = s->connection;
	if (s->broken)
		return NET_ERROR;
	size_t room = WINDOW - c->unread[!s->side];
	size_t n = cut_short(len < room ? len : room);
	if (n == 0)
		return 0;
	c->unread[!s->side] += n;
	if (c->silent) {
		break_later(c, s->side, SENT_TIMEOUT_US, "connection timed out");
		return (ssize_t)n;
	}
	struct packet *p = packet_new(c, !s->side, PACKET_DATA, n);
	memcpy(p->bytes, ptr, n);
	packet_send(p);
	return (ssize_t)n;
}

ssize_t net_stream_writev(struct net_stream *s, const struct iovec *iov, int count)
{
	ssize_t sum = 0;
	for (int i = 0; i < count; i++) {
		ssize_t n = iov[i].iov_len ? net_stream_write(s, iov[i].iov_base, iov[i].iov_len) : 0;
		if (n < 0)
			return n;
		sum += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return sum;
}

const char *net_stream_error(const struct net_stream *s)
{
	return s->error ? s->error : "";
}

bool net_stream_is_local(const struct net_stream *s)
{
	return false;
}

bool net_stream_peer_uid(const struct net_stream *s, uid_t *uid)
{
	return false;
}

bool net_stream_address(const struct net_stream *s, bool *is_v6, uint8_t out[16])
{
	return false;
}

void net_stream_peer(const struct net_stream *s, char *out, size_t cap)
{
	(void)snprintf(out, cap, "%s:%u", world.hosts[s->connection->host[!s->side]],
	               s->connection->id);
}

void net_stream_own(const struct net_stream *s, char *out, size_t cap)
{
	(void)snprintf(out, cap, "%s:%u", world.hosts[s->connection->host[s->side]], s->connection->id);
}

/* ================= arrivals ================= */

struct net_listener {
	struct list link;
	struct net_loop *loop;
	int port;
	net_accept_fn fn;
	void *arg;
};

static struct net_listener *listener_find(int host, int port)
{
	list_for_each(it, &world.listeners)
	{
		struct net_listener *l = container_of(it, struct net_listener, link);
		if (l->loop->host == host && l->port == port)
			return l;
	}
	return NULL;
}

static struct net_loop *accept_one(struct connection *c, int port)
{
	struct net_listener *l = listener_find(c->host[1], port);
	if (!l) {
		send_kind(c, 0, PACKET_RESET);
		return NULL;
	}
	struct net_stream *s = stream_new(l->loop, c, 1);
	struct net_loop *loop = l->loop;
	s->connected = true;
	send_kind(c, 0, PACKET_OPENED);
	l->fn(l->arg, s);
	return loop;
}

static struct net_loop *on_opened(struct net_stream *s)
{
	struct net_loop *l = s->loop;
	event_cancel(&s->limit);
	s->connected = true;
	stream_poke(s);
	if (s->fn)
		s->fn(s->owner, NET_CONNECTED);
	return l;
}

static struct net_loop *on_reset(struct net_stream *s, const char *error)
{
	struct net_loop *l = s->loop;
	if (s->broken)
		return NULL;
	if (!s->connected) {
		connect_failed(s, "connection refused");
		return l;
	}
	s->broken = true;
	s->error = error ? error : "connection reset by peer";
	stream_poke(s);
	return NULL;
}

static struct net_loop *deliver(struct packet *p)
{
	struct connection *c = p->connection;
	struct net_stream *s = c->end[p->to];
	bool own = p->error != NULL;
	if (!world.powered[c->host[p->to]] || (c->silent && !own))
		return NULL;
	if (p->kind == PACKET_OPEN)
		return c->end[0] ? accept_one(c, p->port) : NULL;
	if (!s) {
		/* Nobody is there any more: the sender is told so. */
		if ((p->kind == PACKET_DATA || p->kind == PACKET_OPENED) && c->end[!p->to])
			send_kind(c, !p->to, PACKET_RESET);
		return NULL;
	}
	switch (p->kind) {
	case PACKET_OPENED:
		return on_opened(s);
	case PACKET_RESET:
		return on_reset(s, p->error);
	case PACKET_END:
		s->eof = true;
		break;
	default:
		if (!s->broken) {
			bool fits = buf_append(&s->in, p->bytes, p->len);
			assert(fits);
		}
		break;
	}
	stream_poke(s);
	return NULL;
}

static struct net_loop *on_packet(struct event *e)
{
	struct packet *p = container_of(e, struct packet, event);
	struct connection *c = p->connection;
	hash_bytes(p->bytes, p->len);
	sim_trace("connection %u %s to %s: %s %zu", c->id, world.hosts[c->host[!p->to]],
	          world.hosts[c->host[p->to]], packet_names[p->kind], p->len);
	struct net_loop *l = deliver(p);
	c->packets--;
	free(p);
	connection_put(c);
	return l;
}

/* ================= listeners ================= */

struct net_listener *net_listen(struct net_loop *loop, const char *host, int port, int backlog,
                                net_accept_fn fn, void *arg, char *error, size_t error_cap)
{
	struct net_listener *l = calloc(1, sizeof(*l));
	assert(l && !listener_find(loop->host, port));
	*l = (struct net_listener){.loop = loop, .port = port, .fn = fn, .arg = arg};
	list_push_back(&world.listeners, &l->link);
	return l;
}

int net_listener_port(const struct net_listener *l)
{
	return l->port;
}

void net_listener_close(struct net_listener *l)
{
	if (!l)
		return;
	list_remove(&l->link);
	free(l);
}

/* ================= timers ================= */

struct net_timer {
	struct event event;
	struct net_loop *loop;
	net_timer_fn fn;
	void *arg;
};

static struct net_loop *on_timer(struct event *e)
{
	struct net_timer *t = container_of(e, struct net_timer, event);
	struct net_loop *l = t->loop;
	t->fn(t->arg);
	return l;
}

struct net_timer *net_timer_new(struct net_loop *l, net_timer_fn fn, void *arg)
{
	struct net_timer *t = calloc(1, sizeof(*t));
	assert(t);
	*t = (struct net_timer){.event.fn = on_timer, .loop = l, .fn = fn, .arg = arg};
	l->timers++;
	return t;
}

void net_timer_start(struct net_timer *t, int64_t delay_us)
{
	/* As late as net.h lets it be. */
	int64_t late_us = delay_us > 0 ? sim_between(0, 1500) : 1;
	event_at(&t->event, world.now_us + (delay_us < SIM_FOREVER ? delay_us : SIM_FOREVER) + late_us);
}

void net_timer_stop(struct net_timer *t)
{
	event_cancel(&t->event);
}

void net_timer_free(struct net_timer *t)
{
	if (!t)
		return;
	event_cancel(&t->event);
	t->loop->timers--;
	free(t);
}

/* ================= hosts and links ================= */

int sim_host(const char *name)
{
	for (int i = 0; i < world.host_count; i++)
		if (strcmp(world.hosts[i], name) == 0)
			return i;
	assert(world.host_count < SIM_HOSTS_MAX);
	int host = world.host_count++;
	(void)snprintf(world.hosts[host], sizeof(world.hosts[host]), "%s", name);
	world.powered[host] = true;
	for (int i = 0; i <= host; i++)
		world.links[i][host].usual_us = world.links[host][i].usual_us = sim_between(40, 300);
	return host;
}

void sim_link_cut(int a, int b, int64_t until_us)
{
	link_of(a, b)->cut_until_us = link_of(b, a)->cut_until_us = until_us;
}

void sim_link_slow(int a, int b, int64_t extra_us)
{
	link_of(a, b)->extra_us = link_of(b, a)->extra_us = extra_us;
}

void sim_link_lossy(int a, int b, int percent)
{
	link_of(a, b)->loss_percent = link_of(b, a)->loss_percent = percent;
}

bool sim_link_up(int a, int b)
{
	return world.powered[a] && world.powered[b] && world.now_us >= link_of(a, b)->cut_until_us;
}

static bool connects(const struct connection *c, int a, int b)
{
	return (c->host[0] == a && c->host[1] == b) || (c->host[0] == b && c->host[1] == a);
}

static void go_silent(struct connection *c)
{
	c->silent = true;
	for (int side = 0; side < 2; side++)
		break_later(c, side, KEEPALIVE_US, "connection timed out");
}

int sim_links_reset(int a, int b, int percent)
{
	int count = 0;
	list_for_each(it, &world.connections)
	{
		struct connection *c = container_of(it, struct connection, link);
		if (!connects(c, a, b) || !sim_chance(percent))
			continue;
		for (int side = 0; side < 2; side++)
			break_later(c, side, sim_between(0, 1000), "connection reset by peer");
		count++;
	}
	return count;
}

int sim_links_silent(int a, int b, int percent)
{
	int count = 0;
	list_for_each(it, &world.connections)
	{
		struct connection *c = container_of(it, struct connection, link);
		if (!connects(c, a, b) || c->silent || !sim_chance(percent))
			continue;
		go_silent(c);
		count++;
	}
	return count;
}

void sim_host_power(int host, bool on)
{
	world.powered[host] = on;
	if (on)
		return;
	list_for_each(it, &world.connections)
	{
		struct connection *c = container_of(it, struct connection, link);
		if (!c->silent && (c->host[0] == host || c->host[1] == host))
			go_silent(c);
	}
}

int sim_left_open(int host)
{
	return world.left_open[host];
}

/* ================= begin and end ================= */

void net_loop_free(struct net_loop *l)
{
	if (!l)
		return;
	l->after = NULL;
	world.left_open[l->host] += l->streams + l->timers;
	list_for_each(it, &world.connections)
	{
		struct connection *c = container_of(it, struct connection, link);
		struct net_stream *ends[2] = {c->end[0], c->end[1]};
		for (int side = 0; side < 2; side++)
			if (ends[side] && ends[side]->loop == l)
				net_stream_close(ends[side]);
	}
	event_cancel(&l->wake_event);
	free_dead_streams();
	list_remove(&l->link);
	free(l);
}

void sim_begin(uint64_t seed, bool verbose)
{
	memset(&world, 0, sizeof(world));
	world.chance[0] = spread(seed);
	world.chance[1] = spread(world.chance[0]);
	world.verbose = verbose;
	world.now_us = 1000000;
	world.hash = 0xcbf29ce484222325u;
	list_init(&world.listeners);
	list_init(&world.connections);
	list_init(&world.loops);
	list_init(&world.dead_streams);
	(void)sim_host("router");
}

static void drop_packets(void)
{
	for (size_t i = 0; i < world.heap_len; i++) {
		struct event *e = world.heap[i];
		if (e->fn != on_packet)
			continue;
		struct packet *p = container_of(e, struct packet, event);
		p->connection->packets--;
		connection_put(p->connection);
		free(p);
	}
}

void sim_end(void)
{
	while (!list_empty(&world.loops))
		net_loop_free(container_of(list_first(&world.loops), struct net_loop, link));
	drop_packets();
	assert(list_empty(&world.connections) && list_empty(&world.listeners));
	free(world.heap);
	world.heap = NULL;
}
