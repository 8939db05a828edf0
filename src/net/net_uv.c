/* SPDX-License-Identifier: PostgreSQL
 *
 * net.h on libuv. Streams are our own non-blocking sockets watched with uv_poll_t: reads and writes
 * are plain recv() and send(), and the kernel's interest list is touched only when the wanted set
 * changes. uv_tcp_t would hold buffers and requests per stream and write behind our back.
 *
 * Lifetime: every object here begins with its libuv handle, and handle.data points to its `kind`,
 * which knows how to close it. Closing stops all callbacks at once; memory goes in libuv's
 * close callback at the end of the turn, so a callback may look at its object after it called out.
 *
 * Descriptors: uv_close() takes the descriptor off the kernel's list and off the batch of events
 * being handled, so close(fd) right after it is safe even if the number is reused within the turn.
 */
#include "net.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/list.h"
#include "base/log.h"

/* One wake-up of a listener takes no more than this, so that a storm of connections does not
 * starve those that are there. */
#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE_MS 100
#define ACCEPT_LOG_INTERVAL_US 10000000
#define LISTEN_SOCKETS_MAX 8
/* A connection is handed over when its first bytes are there, or after about this long without any.
 * Clients of PostgreSQL speak first. */
#define DEFER_ACCEPT_S 1
/* About a year: keeps sums of times far from overflow. */
#define TIMER_MAX_US (INT64_C(1) << 45)

/* ================= loop ================= */

struct net_loop {
	uv_loop_t uv;
	uv_prepare_t prepare;
	uv_async_t async;
	/* Streams with plain text to be read of which their sockets know nothing; idle runs while there
	 * are any. */
	struct list more;
	uv_idle_t idle;
	int64_t now_us; /* 0: the clock has not been read since the last wake-up */
	bool ending;    /* net_loop_run() is past its last turn */
	void (*after)(void *arg);
	void *after_arg;
	void (*wake)(void *arg);
	void *wake_arg;
};

struct kind {
	void (*close)(uv_handle_t *h);
};

static const struct kind *kind_of(const uv_handle_t *h)
{
	return h->data;
}

static void set_kind(void *handle, const struct kind *kind)
{
	((uv_handle_t *)handle)->data = (void *)(uintptr_t)kind;
}

static struct net_loop *loop_of(const uv_loop_t *uv)
{
	return container_of(uv, struct net_loop, uv);
}

static void free_handle(uv_handle_t *h)
{
	free(h);
}

/* For objects that own nothing but their memory. */
static void close_and_free(uv_handle_t *h)
{
	uv_close(h, free_handle);
}

static void close_only(uv_handle_t *h)
{
	uv_close(h, NULL);
}

static const struct kind kind_embedded = {.close = close_only};
static const struct kind kind_plain = {.close = close_and_free};

static void run_after(struct net_loop *l)
{
	if (l->after)
		l->after(l->after_arg);
}

/* libuv runs timers, then this, then sleeps, then events: so this is the one place that comes after
 * both. uv_check_t would miss what timers left behind until the next event. */
static void on_prepare(uv_prepare_t *h)
{
	struct net_loop *l = loop_of(h->loop);
	run_after(l);
	l->now_us = 0;
}

static void on_idle(uv_idle_t *h);

static void on_async(uv_async_t *h)
{
	struct net_loop *l = loop_of(h->loop);
	if (l->wake)
		l->wake(l->wake_arg);
}

struct net_loop *net_loop_new(void)
{
	struct net_loop *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	if (uv_loop_init(&l->uv) != 0) {
		free(l);
		return NULL;
	}
	/* The async handle stays referenced: it keeps an empty loop running until it is stopped. */
	if (uv_async_init(&l->uv, &l->async, on_async) != 0) {
		uv_loop_close(&l->uv);
		free(l);
		return NULL;
	}
	set_kind(&l->async, &kind_embedded);
	uv_prepare_init(&l->uv, &l->prepare);
	set_kind(&l->prepare, &kind_embedded);
	uv_prepare_start(&l->prepare, on_prepare);
	uv_unref((uv_handle_t *)&l->prepare);
	list_init(&l->more);
	uv_idle_init(&l->uv, &l->idle);
	set_kind(&l->idle, &kind_embedded);
	return l;
}

static void close_any(uv_handle_t *h, void *arg)
{
	if (!uv_is_closing(h))
		kind_of(h)->close(h);
}

void net_loop_free(struct net_loop *l)
{
	if (!l)
		return;
	l->after = NULL;
	uv_walk(&l->uv, close_any, NULL);
	/* Runs the close callbacks, and waits for resolver threads that cannot be called back. */
	while (uv_run(&l->uv, UV_RUN_DEFAULT) != 0)
		;
	int left = uv_loop_close(&l->uv);
	assert(left == 0);
	free(l);
}

void net_loop_run(struct net_loop *l)
{
	uv_run(&l->uv, UV_RUN_DEFAULT);
	l->ending = true;
	run_after(l);
	l->ending = false;
}

void net_loop_stop(struct net_loop *l)
{
	/* libuv would keep it for the next run. */
	if (!l->ending)
		uv_stop(&l->uv);
}

void net_loop_wake(struct net_loop *l)
{
	uv_async_send(&l->async);
}

void net_loop_set_wake(struct net_loop *l, void (*fn)(void *arg), void *arg)
{
	l->wake = fn;
	l->wake_arg = arg;
}

int64_t net_now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t net_loop_now_us(struct net_loop *l)
{
	if (l->now_us == 0)
		l->now_us = net_now_us();
	return l->now_us;
}

void net_loop_set_after(struct net_loop *l, void (*fn)(void *arg), void *arg)
{
	l->after = fn;
	l->after_arg = arg;
}

struct signal_watch {
	uv_signal_t handle;
	void (*fn)(void *arg, int signum);
	void *arg;
};

static void on_signal(uv_signal_t *h, int signum)
{
	struct signal_watch *w = (struct signal_watch *)h;
	w->fn(w->arg, signum);
}

bool net_loop_on_signal(struct net_loop *l, int signum, void (*fn)(void *arg, int signum),
                        void *arg)
{
	struct signal_watch *w = calloc(1, sizeof(*w));
	if (!w)
		return false;
	if (uv_signal_init(&l->uv, &w->handle) != 0) {
		free(w);
		return false;
	}
	set_kind(&w->handle, &kind_plain);
	w->fn = fn;
	w->arg = arg;
	if (uv_signal_start(&w->handle, on_signal, signum) != 0) {
		close_and_free((uv_handle_t *)&w->handle);
		return false;
	}
	return true;
}

struct fd_watch {
	uv_poll_t handle;
	void (*fn)(void *arg);
	void *arg;
};

static void on_watched_fd(uv_poll_t *h, int status, int events)
{
	struct fd_watch *w = (struct fd_watch *)h;
	w->fn(w->arg);
}

bool net_loop_watch_fd(struct net_loop *l, int fd, void (*fn)(void *arg), void *arg)
{
	struct fd_watch *w = calloc(1, sizeof(*w));
	if (!w)
		return false;
	if (uv_poll_init(&l->uv, &w->handle, fd) != 0) {
		free(w);
		return false;
	}
	set_kind(&w->handle, &kind_plain);
	w->fn = fn;
	w->arg = arg;
	uv_poll_start(&w->handle, UV_READABLE, on_watched_fd);
	return true;
}

static void fill_random(uint8_t *at, size_t len)
{
	while (len > 0) {
		ssize_t n = getrandom(at, len, 0);
		/* Cannot fail on a kernel that has it; without randomness nothing may go on. */
		if (n < 0 && errno != EINTR)
			abort();
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
}

/* Drawn in advance, so that a connection does not cost a system call; what was given out is wiped.
 */
void net_random(void *out, size_t len)
{
	static _Thread_local uint8_t drawn[512];
	static _Thread_local size_t left;
	if (len > sizeof(drawn)) {
		fill_random(out, len);
		return;
	}
	if (left < len) {
		fill_random(drawn, sizeof(drawn));
		left = sizeof(drawn);
	}
	left -= len;
	memcpy(out, drawn + left, len);
	explicit_bzero(drawn + left, len);
}

/* ================= addresses ================= */

struct address {
	socklen_t len;
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un local;
		struct sockaddr_storage storage;
	};
};

/* PostgreSQL's socket in this directory, or, with port 0, this very path. False: it does not fit in a
 * unix address. */
static bool address_unix(struct address *a, const char *dir, int port)
{
	*a = (struct address){.len = sizeof(a->local)};
	a->local.sun_family = AF_UNIX;
	size_t cap = sizeof(a->local.sun_path);
	int n = port ? snprintf(a->local.sun_path, cap, "%s/.s.PGSQL.%d", dir, port) :
	               snprintf(a->local.sun_path, cap, "%s", dir);
	return n > 0 && (size_t)n < sizeof(a->local.sun_path);
}

static void address_set_port(struct address *a, int port)
{
	if (a->any.sa_family == AF_INET)
		a->v4.sin_port = htons((uint16_t)port);
	else if (a->any.sa_family == AF_INET6)
		a->v6.sin6_port = htons((uint16_t)port);
}

static bool address_numeric(struct address *a, const char *host, int port)
{
	*a = (struct address){0};
	if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
		a->any.sa_family = AF_INET;
		a->len = sizeof(a->v4);
	} else if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
		a->any.sa_family = AF_INET6;
		a->len = sizeof(a->v6);
	} else {
		return false;
	}
	address_set_port(a, port);
	return true;
}

static void address_of_info(struct address *a, const struct addrinfo *info, int port)
{
	assert(info->ai_addrlen <= sizeof(a->storage));
	*a = (struct address){.len = info->ai_addrlen};
	memcpy(&a->storage, info->ai_addr, info->ai_addrlen);
	address_set_port(a, port);
}

static int new_socket(int family)
{
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Best effort: a connection without them still works. Accepted sockets inherit them. */
static void set_tcp_options(int fd)
{
	int on = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* ================= streams ================= */

struct connecting;

/*
 *   PLAIN ─▶ ASKING ─▶ SHAKING ─▶ SECURE
 *     │        └─ N ─▶ PLAIN  ▲
 *     └───────────────────────┘ without asking
 */
enum stream_link {
	LINK_PLAIN,
	LINK_ASKING,  /* SSLRequest was sent */
	LINK_SHAKING, /* hands; nothing of the owner's goes in or out */
	LINK_SECURE,
};

struct net_stream {
	uv_poll_t poll; /* first: see the top of the file */
	net_stream_fn fn;
	void *owner;
	struct connecting *connecting; /* NULL once connected or failed */
	struct tls *tls;   /* NULL: LINK_PLAIN */
	struct list more;  /* net_loop.more, or alone */
	const char *why;   /* comes before `error` */
	int fd;
	int error; /* libuv's code: a negative errno or UV_EAI_… */
	int low_water;
	enum stream_link link;
	uint8_t wanted; /* by the owner */
	uint8_t armed;  /* what libuv watches now */
	bool local;     /* unix socket */
	bool read_waits_to_write; /* TLS has to send something before it can read on */
	bool ended;     /* the owner has read NET_EOF */
};

_Static_assert(sizeof(struct net_stream) <= 256, "a stream at rest is small");
_Static_assert((int)NET_READABLE == (int)UV_READABLE && (int)NET_WRITABLE == (int)UV_WRITABLE,
               "events map as they are");

/* What a stream needs only until it is connected. Lives until its timer is closed and its resolver
 * request has come back, which may be after the stream itself is gone. */
struct connecting {
	uv_timer_t timer; /* the limit; or, once all is lost, the messenger of NET_FAILED */
	uv_getaddrinfo_t request;
	struct net_stream *stream; /* NULL: gave up */
	struct addrinfo *found;
	struct addrinfo *next;
	int port;
	int users; /* timer handle, request */
	enum net_tls_mode tls_mode; /* if the stream has a `tls` */
};

static void on_poll(uv_poll_t *h, int status, int events);

/* The end of file would make the socket readable for ever. Errors and hang-ups, which alone are
 * still of interest, are told to any watcher; UV_PRIORITIZED is one that has little else to tell. */
static unsigned after_the_end(unsigned events)
{
	return events & NET_READABLE ? (events & ~(unsigned)NET_READABLE) | UV_PRIORITIZED : events;
}

static void stream_arm(struct net_stream *s, unsigned events)
{
	if (s->ended)
		events = after_the_end(events);
	if (s->armed == events)
		return;
	s->armed = (uint8_t)events;
	if (events)
		uv_poll_start(&s->poll, (int)events, on_poll);
	else
		uv_poll_stop(&s->poll);
}

static void connecting_put(struct connecting *c)
{
	if (--c->users > 0)
		return;
	uv_freeaddrinfo(c->found);
	free(c);
}

static void on_connect_timer_closed(uv_handle_t *h)
{
	connecting_put((struct connecting *)h);
}

/* Parts the stream from its connecting state. */
static void connecting_detach(struct connecting *c)
{
	c->stream->connecting = NULL;
	c->stream = NULL;
	uv_cancel((uv_req_t *)&c->request);
	uv_close((uv_handle_t *)&c->timer, on_connect_timer_closed);
}

static void stream_close_handle(uv_handle_t *h)
{
	struct net_stream *s = (struct net_stream *)h;
	if (s->connecting)
		connecting_detach(s->connecting);
	list_remove(&s->more);
	tls_free(s->tls);
	s->tls = NULL;
	uv_close(h, free_handle);
	close(s->fd);
}

/* Closed by way of its stream, at the end of the walk in net_loop_free() at the latest. */
static void connecting_close_handle(uv_handle_t *h)
{
	struct connecting *c = (struct connecting *)h;
	stream_close_handle((uv_handle_t *)&c->stream->poll);
}

static const struct kind kind_stream = {.close = stream_close_handle};
static const struct kind kind_connecting = {.close = connecting_close_handle};

/* Takes fd, also on failure. */
static struct net_stream *stream_new(struct net_loop *l, int fd, bool local)
{
	struct net_stream *s = calloc(1, sizeof(*s));
	if (!s || uv_poll_init(&l->uv, &s->poll, fd) != 0) {
		free(s);
		close(fd);
		return NULL;
	}
	set_kind(&s->poll, &kind_stream);
	list_init(&s->more);
	s->fd = fd;
	s->low_water = 1;
	s->wanted = NET_READABLE;
	s->local = local;
	return s;
}

static void tell(struct net_stream *s, unsigned events)
{
	if (s->fn)
		s->fn(s->owner, events);
}

static void fail_now(struct net_stream *s)
{
	connecting_detach(s->connecting);
	stream_arm(s, 0);
	tell(s, NET_FAILED);
}

static void on_connect_timer(uv_timer_t *h)
{
	struct net_stream *s = ((struct connecting *)h)->stream;
	if (s->error == 0)
		s->error = UV_ETIMEDOUT;
	fail_now(s);
}

/* Always by way of the timer, so that the owner is never told from within net_connect(); and not
 * with a delay of 0, because libuv would run an owner that tries again at once in the same pass
 * over the timers, for ever. */
static void fail_soon(struct net_stream *s, int error)
{
	s->error = error;
	stream_arm(s, 0);
	uv_timer_start(&s->connecting->timer, on_connect_timer, 1, 0);
}

/* 0, or a negative errno if the attempt ended at once. */
static int connect_begin(struct net_stream *s, const struct address *a)
{
	int rc;
	do
		rc = connect(s->fd, &a->any, a->len);
	while (rc < 0 && errno == EINTR);
	if (rc < 0 && errno != EINPROGRESS)
		return -errno;
	stream_arm(s, NET_WRITABLE);
	return 0;
}

/* Each address gets a socket of its own under the same descriptor number, because a uv_poll_t is
 * bound to its number for life. */
static int replace_socket(struct net_stream *s, int family)
{
	stream_arm(s, 0);
	int fd = new_socket(family);
	if (fd < 0)
		return -errno;
	int rc = dup3(fd, s->fd, O_CLOEXEC) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static void connect_next(struct net_stream *s, int last_error)
{
	struct connecting *c = s->connecting;
	while (c->next) {
		struct address a;
		address_of_info(&a, c->next, c->port);
		c->next = c->next->ai_next;
		last_error = replace_socket(s, a.any.sa_family);
		if (last_error == 0) {
			set_tcp_options(s->fd);
			last_error = connect_begin(s, &a);
		}
		if (last_error == 0)
			return;
	}
	fail_soon(s, last_error);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
	struct connecting *c = container_of(request, struct connecting, request);
	c->found = found;
	if (c->stream) {
		c->next = found;
		connect_next(c->stream, status != 0 ? status : UV_EAI_NONAME);
	}
	connecting_put(c);
}

static void connect_resolve(struct net_stream *s, const char *host)
{
	static const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct connecting *c = s->connecting;
	int rc = uv_getaddrinfo(s->poll.loop, &c->request, on_resolved, host, NULL, &hints);
	if (rc == 0)
		c->users++;
	else
		fail_soon(s, rc);
}

/* libuv counts from its own idea of now, in whole milliseconds and cut: count from ours, so that
 * nothing fires early. Both are CLOCK_MONOTONIC. */
static void start_uv_timer(uv_timer_t *t, uv_timer_cb fn, int64_t delay_us)
{
	uint64_t delay_ms = 0;
	if (delay_us > 0) {
		int64_t capped_us = delay_us < TIMER_MAX_US ? delay_us : TIMER_MAX_US;
		uint64_t due_ms = ((uint64_t)(net_now_us() + capped_us) + 999) / 1000;
		delay_ms = due_ms - uv_now(t->loop);
	}
	uv_timer_start(t, fn, delay_ms, 0);
}

static bool connecting_new(struct net_loop *l, struct net_stream *s, int port, int64_t timeout_us)
{
	struct connecting *c = calloc(1, sizeof(*c));
	if (!c)
		return false;
	c->stream = s;
	c->port = port;
	c->users = 1;
	uv_timer_init(&l->uv, &c->timer);
	set_kind(&c->timer, &kind_connecting);
	start_uv_timer(&c->timer, on_connect_timer, timeout_us);
	s->connecting = c;
	return true;
}

/* ---- TLS ---- */

static bool would_block(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK;
}

static ssize_t socket_recv(void *arg, void *buf, size_t cap)
{
	struct net_stream *s = arg;
	ssize_t n;
	do
		n = recv(s->fd, buf, cap, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	if (n == 0)
		return TLS_EOF;
	if (would_block(errno))
		return TLS_AGAIN;
	s->error = -errno;
	return TLS_ERROR;
}

static ssize_t socket_send(void *arg, const void *ptr, size_t len)
{
	struct net_stream *s = arg;
	ssize_t n;
	do
		n = send(s->fd, ptr, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (would_block(errno))
		return TLS_AGAIN;
	s->error = -errno;
	return TLS_ERROR;
}

static const struct tls_io socket_io = {.recv = socket_recv, .send = socket_send};

/* What TLS holds makes no socket readable. */
static void note_more(struct net_stream *s)
{
	struct net_loop *l = loop_of(s->poll.loop);
	list_remove(&s->more);
	if (s->link != LINK_SECURE || s->ended || !(s->wanted & NET_READABLE) || !tls_has_more(s->tls))
		return;
	list_push_back(&l->more, &s->more);
	uv_idle_start(&l->idle, on_idle);
}

static void shake_hands(struct net_stream *s);

/* Those who have more still get their turn at the next round: others come between. */
static void on_idle(uv_idle_t *h)
{
	struct net_loop *l = loop_of(h->loop);
	struct list now;
	list_init(&now);
	while (!list_empty(&l->more)) {
		struct list *it = list_first(&l->more);
		list_remove(it);
		list_push_back(&now, it);
	}
	while (!list_empty(&now)) {
		struct net_stream *s = container_of(list_first(&now), struct net_stream, more);
		list_remove(&s->more);
		if (s->link == LINK_SHAKING)
			shake_hands(s);
		else
			tell(s, NET_READABLE);
		if (!uv_is_closing((uv_handle_t *)&s->poll))
			note_more(s);
	}
	if (list_empty(&l->more))
		uv_idle_stop(h);
}

static void stream_failed(struct net_stream *s, const char *why)
{
	s->why = why;
	if (s->connecting)
		connecting_detach(s->connecting);
	stream_arm(s, 0);
	tell(s, NET_FAILED);
}

static void stream_connected(struct net_stream *s)
{
	if (s->connecting)
		connecting_detach(s->connecting);
	stream_arm(s, s->wanted);
	tell(s, NET_CONNECTED);
	if (!uv_is_closing((uv_handle_t *)&s->poll))
		note_more(s);
}

static void shake_hands(struct net_stream *s)
{
	int rc = tls_shake_hands(s->tls);
	if (rc == TLS_AGAIN) {
		stream_arm(s, tls_wants_write(s->tls) ? NET_WRITABLE : NET_READABLE);
		return;
	}
	if (rc != 0) {
		stream_failed(s, tls_error(s->tls));
		return;
	}
	s->link = LINK_SECURE;
	stream_connected(s);
}

/* SSLRequest: https://www.postgresql.org/docs/15/protocol-message-formats.html */
static void ask_for_tls(struct net_stream *s)
{
	static const uint8_t request[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f};
	s->link = LINK_ASKING;
	if (socket_send(s, request, sizeof(request)) != sizeof(request))
		stream_failed(s, "the server closed the connection");
	else
		stream_arm(s, NET_READABLE);
}

/* One byte and no more: what came behind it in clear must not be taken for what was encrypted. */
static void on_tls_answer(struct net_stream *s)
{
	uint8_t answer = 0;
	ssize_t n = socket_recv(s, &answer, 1);
	if (n == TLS_AGAIN) {
		stream_arm(s, NET_READABLE);
	} else if (n != 1) {
		stream_failed(s, "the server closed the connection when it was asked for TLS");
	} else if (answer == 'S') {
		s->link = LINK_SHAKING;
		shake_hands(s);
	} else if (answer != 'N') {
		stream_failed(s, "what the server answers to the request for TLS is not PostgreSQL's");
	} else if (s->connecting->tls_mode == NET_TLS_PREFER) {
		tls_free(s->tls);
		s->tls = NULL;
		s->link = LINK_PLAIN;
		stream_connected(s);
	} else {
		stream_failed(s, "the server does not support TLS, but sslmode asks for it");
	}
}

bool net_stream_accept_tls(struct net_stream *s, struct tls_context *c, struct slice first)
{
	struct net_loop *l = loop_of(s->poll.loop);
	assert(!s->tls && !s->connecting);
	s->tls = tls_new(c, NULL, first, &socket_io, s);
	if (!s->tls)
		return false;
	s->link = LINK_SHAKING;
	stream_arm(s, 0);
	list_push_back(&l->more, &s->more);
	uv_idle_start(&l->idle, on_idle);
	return true;
}

const struct tls *net_stream_tls(const struct net_stream *s)
{
	return s->link == LINK_SECURE ? s->tls : NULL;
}

/* ---- connecting ---- */

static bool secure_later(struct net_stream *s, const struct net_tls *tls)
{
	if (!tls)
		return true;
	s->connecting->tls_mode = tls->mode;
	s->tls = tls_new(tls->context, tls->name, (struct slice){0}, &socket_io, s);
	return s->tls != NULL;
}

struct net_stream *net_connect_tls(struct net_loop *l, const char *host, int port,
                                   int64_t timeout_us, const struct net_tls *tls, net_stream_fn fn,
                                   void *owner)
{
	struct address a = {0};
	bool local = host[0] == '/';
	bool fits = !local || address_unix(&a, host, port);
	bool known = local || address_numeric(&a, host, port);

	/* A name gets a placeholder that connect_next() replaces. */
	int fd = new_socket(known ? a.any.sa_family : AF_INET);
	if (fd < 0)
		return NULL;
	struct net_stream *s = stream_new(l, fd, local);
	if (!s)
		return NULL;
	if (!connecting_new(l, s, port, timeout_us) || !secure_later(s, tls)) {
		net_stream_close(s);
		return NULL;
	}
	s->fn = fn;
	s->owner = owner;
	if (!fits) {
		fail_soon(s, UV_ENAMETOOLONG);
	} else if (known) {
		if (!local)
			set_tcp_options(fd);
		int rc = connect_begin(s, &a);
		if (rc != 0)
			fail_soon(s, rc);
	} else {
		connect_resolve(s, host);
	}
	return s;
}

struct net_stream *net_connect(struct net_loop *l, const char *host, int port, int64_t timeout_us,
                               net_stream_fn fn, void *owner)
{
	return net_connect_tls(l, host, port, timeout_us, NULL, fn, owner);
}

static void on_connect_event(struct net_stream *s)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error != 0) {
		connect_next(s, -error);
	} else if (!s->tls) {
		stream_connected(s);
	} else if (s->connecting->tls_mode != NET_TLS_DIRECT) {
		ask_for_tls(s);
	} else {
		s->link = LINK_SHAKING;
		shake_hands(s);
	}
}

static void on_ready_event(struct net_stream *s, int status, unsigned events)
{
	if (s->read_waits_to_write && events & NET_WRITABLE) {
		s->read_waits_to_write = false;
		events |= NET_READABLE;
		stream_arm(s, s->wanted);
	}
	if (events & UV_PRIORITIZED)
		events |= NET_READABLE;
	tell(s, status < 0 ? s->wanted : events & s->wanted);
	if (status < 0 && !uv_is_closing((uv_handle_t *)&s->poll))
		stream_arm(s, s->wanted);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct net_stream *s = (struct net_stream *)h;
	/* On EPOLLERR libuv stops the watcher. What is wrong is for the owner to find by reading or
	 * writing, whichever it wants. */
	if (status < 0)
		s->armed = 0;
	if (s->link == LINK_ASKING)
		on_tls_answer(s);
	else if (s->link == LINK_SHAKING)
		shake_hands(s);
	else if (s->connecting)
		on_connect_event(s);
	else
		on_ready_event(s, status, (unsigned)events);
}

void net_stream_set_owner(struct net_stream *s, net_stream_fn fn, void *owner)
{
	s->fn = fn;
	s->owner = owner;
}

void net_stream_want(struct net_stream *s, unsigned events)
{
	assert((events & ~(unsigned)(NET_READABLE | NET_WRITABLE)) == 0);
	s->wanted = (uint8_t)events;
	if (s->connecting || s->link == LINK_SHAKING)
		return;
	stream_arm(s, s->read_waits_to_write ? events | NET_WRITABLE : events);
	if (s->tls)
		note_more(s);
}

unsigned net_stream_wanted(const struct net_stream *s)
{
	return s->wanted;
}

static ssize_t end_reached(struct net_stream *s)
{
	s->ended = true;
	stream_arm(s, s->read_waits_to_write ? s->wanted | NET_WRITABLE : s->wanted);
	return NET_EOF;
}

/* Nothing was left to wake the owner for but this. */
static ssize_t broken_after_the_end(struct net_stream *s)
{
	int error = 0;
	socklen_t len = sizeof(error);
	(void)getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	s->error = error ? -error : UV_ECONNRESET;
	return NET_ERROR;
}

/* As many records as there are and as fit. */
static ssize_t read_tls(struct net_stream *s, uint8_t *buf, size_t cap)
{
	size_t got = 0;
	ssize_t n = TLS_AGAIN;
	if (s->link != LINK_SECURE)
		return NET_AGAIN;
	do {
		n = tls_read(s->tls, buf + got, cap - got);
		got += n > 0 ? (size_t)n : 0;
	} while (n > 0 && got < cap && tls_has_more(s->tls));
	s->read_waits_to_write = n == TLS_AGAIN && tls_wants_write(s->tls);
	if (s->read_waits_to_write)
		stream_arm(s, s->wanted | NET_WRITABLE);
	note_more(s);
	if (got > 0)
		return (ssize_t)got;
	if (n == TLS_ERROR)
		s->why = tls_error(s->tls);
	return n == TLS_AGAIN ? NET_AGAIN : n == TLS_EOF ? end_reached(s) : NET_ERROR;
}

ssize_t net_stream_read(struct net_stream *s, void *buf, size_t cap)
{
	assert(cap > 0);
	if (s->ended)
		return broken_after_the_end(s);
	if (s->tls)
		return read_tls(s, buf, cap);
	ssize_t n = socket_recv(s, buf, cap);
	return n > 0 ? n : n == TLS_EOF ? end_reached(s) : n == TLS_AGAIN ? NET_AGAIN : NET_ERROR;
}

static ssize_t write_tls(struct net_stream *s, const void *ptr, size_t len)
{
	if (s->link != LINK_SECURE)
		return 0;
	ssize_t n = tls_write(s->tls, ptr, len);
	if (n < 0)
		s->why = tls_error(s->tls);
	return n < 0 ? NET_ERROR : n;
}

ssize_t net_stream_write(struct net_stream *s, const void *ptr, size_t len)
{
	if (s->tls)
		return write_tls(s, ptr, len);
	ssize_t n = socket_send(s, ptr, len);
	return n >= 0 ? n : n == TLS_AGAIN ? 0 : NET_ERROR;
}

#define TLS_RECORD 16384

/* Small pieces share a record. */
static ssize_t writev_tls(struct net_stream *s, const struct iovec *iov, int count)
{
	uint8_t record[TLS_RECORD];
	size_t total = 0, at = 0;
	for (int i = 0; i < count;) {
		size_t len = 0;
		while (i < count && len < sizeof(record)) {
			size_t left = iov[i].iov_len - at;
			size_t n = left < sizeof(record) - len ? left : sizeof(record) - len;
			memcpy(record + len, (const uint8_t *)iov[i].iov_base + at, n);
			len += n;
			at = n < left ? at + n : 0;
			i += n == left;
		}
		ssize_t n = write_tls(s, record, len);
		if (n < 0)
			return n;
		total += (size_t)n;
		if ((size_t)n < len)
			break;
	}
	return (ssize_t)total;
}

ssize_t net_stream_writev(struct net_stream *s, const struct iovec *iov, int count)
{
	assert(count >= 0);
	if (s->tls)
		return writev_tls(s, iov, count);
	struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX),
	};
	ssize_t n;
	do
		n = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (would_block(errno))
		return 0;
	s->error = -errno;
	return NET_ERROR;
}

void net_stream_expect(struct net_stream *s, int bytes)
{
	/* Unix sockets wake at the first byte whatever is set; bytes of TLS are other ones. */
	if (s->low_water == bytes || s->local || s->tls)
		return;
	if (setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)) == 0)
		s->low_water = bytes;
}

const char *net_stream_error(const struct net_stream *s)
{
	if (s->why && s->why[0])
		return s->why;
	return s->error ? uv_strerror(s->error) : "";
}

static void format_v4(const struct in_addr *ip, uint16_t port_be, char *out, size_t cap)
{
	char text[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, ip, text, sizeof(text));
	(void)snprintf(out, cap, "%s:%d", text, ntohs(port_be));
}

static void format_v6(const struct sockaddr_in6 *a, char *out, size_t cap)
{
	char text[INET6_ADDRSTRLEN];
	struct in_addr v4;

	/* An IPv4 client of a listener on "*". */
	if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) {
		memcpy(&v4, a->sin6_addr.s6_addr + 12, sizeof(v4));
		format_v4(&v4, a->sin6_port, out, cap);
		return;
	}
	inet_ntop(AF_INET6, &a->sin6_addr, text, sizeof(text));
	(void)snprintf(out, cap, "[%s]:%d", text, ntohs(a->sin6_port));
}

static void format_address(const struct net_stream *s, const struct address *a, bool known,
                           char *out, size_t cap)
{
	if (s->local)
		(void)snprintf(out, cap, "unix");
	else if (!known)
		(void)snprintf(out, cap, "unknown");
	else if (a->any.sa_family == AF_INET)
		format_v4(&a->v4.sin_addr, a->v4.sin_port, out, cap);
	else
		format_v6(&a->v6, out, cap);
}

bool net_stream_is_local(const struct net_stream *s)
{
	return s->local;
}

bool net_stream_peer_uid(const struct net_stream *s, uid_t *uid)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	if (!s->local || getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return false;
	*uid = who.uid;
	return true;
}

bool net_stream_address(const struct net_stream *s, bool *is_v6, uint8_t out[16])
{
	struct address a = {.len = sizeof(a.storage)};
	memset(out, 0, 16);
	if (s->local || getpeername(s->fd, &a.any, &a.len) < 0)
		return false;
	bool mapped = a.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr);
	*is_v6 = a.any.sa_family == AF_INET6 && !mapped;
	if (*is_v6)
		memcpy(out, &a.v6.sin6_addr, 16);
	else if (mapped)
		memcpy(out, a.v6.sin6_addr.s6_addr + 12, 4);
	else
		memcpy(out, &a.v4.sin_addr, 4);
	return true;
}

void net_stream_peer(const struct net_stream *s, char *out, size_t cap)
{
	struct address a = {.len = sizeof(a.storage)};
	bool known = !s->local && getpeername(s->fd, &a.any, &a.len) == 0;
	format_address(s, &a, known, out, cap);
}

void net_stream_own(const struct net_stream *s, char *out, size_t cap)
{
	struct address a = {.len = sizeof(a.storage)};
	bool known = !s->local && getsockname(s->fd, &a.any, &a.len) == 0;
	format_address(s, &a, known, out, cap);
}

void net_stream_close(struct net_stream *s)
{
	if (s)
		stream_close_handle((uv_handle_t *)&s->poll);
}

/* ================= listeners ================= */

struct listen_socket {
	uv_poll_t poll;
	struct net_listener *listener;
	int fd;
	int batch; /* how many to accept at the next wake-up, at most */
};

struct net_listener {
	uv_timer_t pause;
	net_accept_fn fn;
	void *arg;
	int port;
	int count;
	int users; /* handles not closed yet */
	bool local, deferred;
	struct address path; /* local: the socket file, and what it was when we made it */
	dev_t device;
	ino_t inode;
	int64_t logged_at_us;
	struct listen_socket sockets[LISTEN_SOCKETS_MAX];
};

static void on_accept_event(uv_poll_t *h, int status, int events);

static void listener_poll(struct net_listener *l)
{
	for (int i = 0; i < l->count; i++)
		uv_poll_start(&l->sockets[i].poll, UV_READABLE, on_accept_event);
}

static void on_pause_over(uv_timer_t *h)
{
	listener_poll((struct net_listener *)h);
}

/* The waiting connection keeps the socket readable: without a pause the loop would spin. */
static void listener_pause(struct net_listener *l, int error)
{
	int64_t now_us = net_now_us();
	if (l->logged_at_us == 0 || now_us - l->logged_at_us > ACCEPT_LOG_INTERVAL_US) {
		log_warn(
			"cannot accept connections on port %d: %s; retrying every %d ms, raise the limit "
			"of open files (ulimit -n) if it persists",
			l->port, uv_strerror(error), ACCEPT_PAUSE_MS);
		l->logged_at_us = now_us;
	}
	for (int i = 0; i < l->count; i++)
		uv_poll_stop(&l->sockets[i].poll);
	uv_timer_start(&l->pause, on_pause_over, ACCEPT_PAUSE_MS, 0);
}

static bool out_of_resources(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_accepted(struct net_listener *l, int fd)
{
	struct net_stream *s = stream_new(loop_of(l->pause.loop), fd, l->local);
	if (!s) {
		listener_pause(l, UV_ENOMEM);
		return;
	}
	l->fn(l->arg, s);
	/* Its first bytes are there as a rule: it is not worth a turn of the loop to be told so. */
	if (l->deferred && !uv_is_closing((uv_handle_t *)&s->poll))
		tell(s, NET_READABLE);
	if (!uv_is_closing((uv_handle_t *)&s->poll))
		stream_arm(s, s->wanted);
}

static void on_accept_event(uv_poll_t *h, int status, int events)
{
	struct listen_socket *ls = (struct listen_socket *)h;
	struct net_listener *l = ls->listener;
	if (status < 0) {
		listener_pause(l, status);
		return;
	}
	/* One at a time as long as they come one at a time: to ask in vain costs a system call. */
	int batch = ls->batch;
	ls->batch = batch < ACCEPT_BATCH ? batch * 2 : ACCEPT_BATCH;
	for (int i = 0; i < batch; i++) {
		int fd = accept4(ls->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			on_accepted(l, fd);
		} else if (would_block(errno)) {
			ls->batch = 1;
			return;
		} else if (out_of_resources(errno)) {
			listener_pause(l, -errno);
			return;
		}
		/* Anything else is an error of one connection that is gone already: accept(2). */
		if (!uv_is_active((uv_handle_t *)h))
			return; /* closed or paused by what was accepted */
	}
}

static void on_listener_closed(uv_handle_t *h)
{
	struct net_listener *l =
		h->type == UV_TIMER ? (struct net_listener *)h : ((struct listen_socket *)h)->listener;
	if (--l->users == 0)
		free(l);
}

/* Only if it is still ours: another router may have taken the path over meanwhile. */
static void remove_socket_file(const struct net_listener *l)
{
	struct stat st;
	if (l->inode != 0 && stat(l->path.local.sun_path, &st) == 0 && st.st_dev == l->device &&
	    st.st_ino == l->inode)
		(void)unlink(l->path.local.sun_path);
}

void net_listener_close(struct net_listener *l)
{
	if (!l)
		return;
	remove_socket_file(l);
	uv_close((uv_handle_t *)&l->pause, on_listener_closed);
	for (int i = 0; i < l->count; i++) {
		uv_close((uv_handle_t *)&l->sockets[i].poll, on_listener_closed);
		close(l->sockets[i].fd);
	}
}

static void listener_close_handle(uv_handle_t *h)
{
	net_listener_close((struct net_listener *)h);
}

static void listen_socket_close_handle(uv_handle_t *h)
{
	net_listener_close(((struct listen_socket *)h)->listener);
}

static const struct kind kind_listener = {.close = listener_close_handle};
static const struct kind kind_listen_socket = {.close = listen_socket_close_handle};

/* Takes fd, also on failure. 0 or a negative errno. */
static int listener_add(struct net_listener *l, int fd, int backlog)
{
	struct listen_socket *ls = &l->sockets[l->count];
	int rc = listen(fd, backlog) < 0 ? -errno : uv_poll_init(l->pause.loop, &ls->poll, fd);
	if (rc != 0) {
		close(fd);
		return rc;
	}
	ls->batch = 1;
	set_kind(&ls->poll, &kind_listen_socket);
	ls->listener = l;
	ls->fd = fd;
	l->count++;
	l->users++;
	return 0;
}

/* A descriptor bound to `a`, or a negative errno. */
static int bind_tcp(const struct address *a, int v6_only)
{
	int on = 1;
	int fd = new_socket(a->any.sa_family);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->any.sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof(v6_only));
	set_tcp_options(fd);
	if (bind(fd, &a->any, a->len) < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static int bound_port(int fd)
{
	struct address a = {.len = sizeof(a.storage)};
	if (getsockname(fd, &a.any, &a.len) < 0)
		return 0;
	return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

static int listen_tcp(struct net_listener *l, const struct address *a, int v6_only, int backlog)
{
	int fd = bind_tcp(a, v6_only);
	if (fd < 0)
		return fd;
	int port = bound_port(fd);
	int defer_s = DEFER_ACCEPT_S;
	l->deferred = setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof(defer_s)) == 0;
	int rc = listener_add(l, fd, backlog);
	if (rc == 0)
		l->port = port;
	return rc;
}

/* Both families on one socket, or IPv4 alone where the kernel has no IPv6. */
static int listen_everywhere(struct net_listener *l, int port, int backlog)
{
	struct address a;
	address_numeric(&a, "::", port);
	int rc = listen_tcp(l, &a, 0, backlog);
	if (rc != -EAFNOSUPPORT && rc != -EADDRNOTAVAIL)
		return rc;
	address_numeric(&a, "0.0.0.0", port);
	return listen_tcp(l, &a, 1, backlog);
}

/* Every address of the name, as PostgreSQL does with "localhost". Blocks: this is start-up. */
static int listen_name(struct net_listener *l, const char *host, int port, int backlog)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *found = NULL;
	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return UV_EAI_NONAME;
	int rc = UV_EAI_NONAME;
	for (struct addrinfo *it = found; it && l->count < LISTEN_SOCKETS_MAX; it = it->ai_next) {
		struct address a;
		address_of_info(&a, it, l->count > 0 ? l->port : port);
		rc = listen_tcp(l, &a, 1, backlog);
		/* A name may have an address of a family this machine does not have. */
		if (rc != 0 && rc != -EADDRNOTAVAIL && rc != -EAFNOSUPPORT)
			break;
	}
	freeaddrinfo(found);
	return l->count > 0 && (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT) ? 0 : rc;
}

/* A crash leaves the file behind, and bind() refuses it. Nobody answers there: it may go. */
static bool remove_stale_socket(const struct address *a)
{
	int fd = new_socket(AF_UNIX);
	if (fd < 0)
		return false;
	bool stale = connect(fd, &a->any, a->len) < 0 && errno == ECONNREFUSED;
	close(fd);
	return stale && unlink(a->local.sun_path) == 0;
}

static int bind_unix(const struct address *a)
{
	int fd = new_socket(AF_UNIX);
	if (fd < 0)
		return -errno;
	int rc = bind(fd, &a->any, a->len);
	if (rc < 0 && errno == EADDRINUSE) {
		if (remove_stale_socket(a))
			rc = bind(fd, &a->any, a->len);
		else
			errno = EADDRINUSE;
	}
	if (rc < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static int listen_unix(struct net_listener *l, const char *dir, int port, int backlog)
{
	struct stat st;
	l->local = true;
	l->port = port;
	if (!address_unix(&l->path, dir, port))
		return UV_ENAMETOOLONG;
	int fd = bind_unix(&l->path);
	if (fd < 0)
		return fd;
	if (stat(l->path.local.sun_path, &st) == 0) {
		l->device = st.st_dev;
		l->inode = st.st_ino;
	}
	/* Who may connect is decided by authentication, not by the file's mode. */
	if (chmod(l->path.local.sun_path, 0777) < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return listener_add(l, fd, backlog);
}

static int listen_any(struct net_listener *l, const char *host, int port, int backlog)
{
	struct address a;
	if (host[0] == '/')
		return listen_unix(l, host, port, backlog);
	if (strcmp(host, "*") == 0)
		return listen_everywhere(l, port, backlog);
	if (address_numeric(&a, host, port))
		return listen_tcp(l, &a, 1, backlog);
	return listen_name(l, host, port, backlog);
}

struct net_listener *net_listen(struct net_loop *loop, const char *host, int port, int backlog,
                                net_accept_fn fn, void *arg, char *error, size_t error_cap)
{
	struct net_listener *l = calloc(1, sizeof(*l));
	if (!l) {
		(void)snprintf(error, error_cap, "out of memory");
		return NULL;
	}
	uv_timer_init(&loop->uv, &l->pause);
	set_kind(&l->pause, &kind_listener);
	l->users = 1;
	l->fn = fn;
	l->arg = arg;
	int rc = listen_any(l, host, port, backlog);
	if (rc != 0) {
		(void)snprintf(error, error_cap, "cannot listen on %s port %d: %s", host, port,
		               uv_strerror(rc));
		net_listener_close(l);
		return NULL;
	}
	listener_poll(l);
	return l;
}

int net_listener_port(const struct net_listener *l)
{
	return l->port;
}

/* ================= timers ================= */

struct net_timer {
	uv_timer_t handle;
	net_timer_fn fn;
	void *arg;
};

static void on_timer(uv_timer_t *h)
{
	struct net_timer *t = (struct net_timer *)h;
	t->fn(t->arg);
}

struct net_timer *net_timer_new(struct net_loop *l, net_timer_fn fn, void *arg)
{
	struct net_timer *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	uv_timer_init(&l->uv, &t->handle);
	set_kind(&t->handle, &kind_plain);
	t->fn = fn;
	t->arg = arg;
	return t;
}

void net_timer_start(struct net_timer *t, int64_t delay_us)
{
	start_uv_timer(&t->handle, on_timer, delay_us);
}

void net_timer_stop(struct net_timer *t)
{
	uv_timer_stop(&t->handle);
}

void net_timer_free(struct net_timer *t)
{
	if (t)
		close_and_free((uv_handle_t *)&t->handle);
}
