/* SPDX-License-Identifier: PostgreSQL
 *
 * The seam to the world: loop, streams, listeners, timers. net_uv.c implements it on libuv; a
 * simulation can implement it on a virtual clock. No other folder knows libuv.
 *
 * Streams are level-triggered and hold no buffers: the owner is told "readable" and reads into
 * whatever buffer it likes; it writes at once and keeps what the kernel did not take. So a stream
 * at rest costs its handle and nothing else.
 *
 * Threads: everything here belongs to the loop's thread but net_loop_wake().
 */
#ifndef TM_NET_NET_H
#define TM_NET_NET_H

#include <sys/uio.h>

#include "base/slice.h"
#include "tls.h"

struct net_loop;
struct net_stream;
struct net_listener;
struct net_timer;

/* NULL: no memory or no descriptors. */
struct net_loop *net_loop_new(void);
/* Closes whatever is still open on it; the owners hear nothing. May wait for a name that is being
 * resolved. NULL is fine. */
void net_loop_free(struct net_loop *l);
/* Until net_loop_stop(), in whatever thread calls it. */
void net_loop_run(struct net_loop *l);
void net_loop_stop(struct net_loop *l);
/* Monotonic microseconds, read from the clock at each call. */
int64_t net_now_us(void);
/* The same, read at the first call after a wake-up and kept for the rest of the turn: never older
 * than the events that are being handled, and nearly free. Before sending something whose age
 * counts, ask net_now_us(). */
int64_t net_loop_now_us(struct net_loop *l);
/* Called once per loop turn, after all events and timers of the turn were handled and before the
 * loop sleeps, and once more when net_loop_run() ends; for deferred work. */
void net_loop_set_after(struct net_loop *l, void (*fn)(void *arg), void *arg);
/* Makes the loop call what net_loop_set_wake() gave it. From any thread and from signal handlers;
 * several calls before the loop comes round are one. */
void net_loop_wake(struct net_loop *l);
void net_loop_set_wake(struct net_loop *l, void (*fn)(void *arg), void *arg);
/* Calls fn(arg) on the loop when the process gets the signal. False on error. */
bool net_loop_on_signal(struct net_loop *l, int signum, void (*fn)(void *arg, int signum),
                        void *arg);
/* Watches somebody else's descriptor for readability (libmicrohttpd's epoll). */
bool net_loop_watch_fd(struct net_loop *l, int fd, void (*fn)(void *arg), void *arg);
void net_random(void *out, size_t len);

/* ---- streams ---- */
enum net_event {
	NET_READABLE = 1,  /* data, end of file or an error is there to be read */
	NET_WRITABLE = 2,  /* only while wanted */
	NET_CONNECTED = 4, /* once, of net_connect() and of net_stream_accept_tls() */
	NET_FAILED = 8,    /* that failed; net_stream_error() tells */
};
typedef void (*net_stream_fn)(void *owner, unsigned events);

/* Connects to host:port (IPv4, IPv6, name) or, if host begins with '/', to the unix socket
 * host/.s.PGSQL.port, or with port 0 to `host` itself. Resolves names without blocking. Tells
 * NET_CONNECTED or NET_FAILED later, never from within the call. Bounded by timeout_us. NULL: no
 * memory or no descriptors. TCP_NODELAY and keepalive are on. */
struct net_stream *net_connect(struct net_loop *l, const char *host, int port, int64_t timeout_us,
                               net_stream_fn fn, void *owner);

enum net_tls_mode {
	NET_TLS_DIRECT,  /* TLS from the first byte */
	NET_TLS_REQUIRE, /* PostgreSQL's SSLRequest first; a server without TLS fails */
	NET_TLS_PREFER,  /* … or is talked to in clear */
};
struct net_tls {
	enum net_tls_mode mode;
	struct tls_context *context;
	const char *name; /* see tls_new() */
};
/* The same, connected when TLS is up. Borrows `tls` for the call; NULL: in clear. */
struct net_stream *net_connect_tls(struct net_loop *l, const char *host, int port,
                                   int64_t timeout_us, const struct net_tls *tls, net_stream_fn fn,
                                   void *owner);
/* The client of an accepted stream begins with TLS now; `first` are bytes of that which were read
 * already. Tells NET_CONNECTED or NET_FAILED later, never from within the call; until then nothing
 * can be read or written, and how long it may take is the owner's affair. False: no memory. */
bool net_stream_accept_tls(struct net_stream *s, struct tls_context *c, struct slice first);
/* NULL: in clear, or not yet. */
const struct tls *net_stream_tls(const struct net_stream *s);
/* Changes who is told. */
void net_stream_set_owner(struct net_stream *s, net_stream_fn fn, void *owner);
/* Which events are wanted (NET_READABLE | NET_WRITABLE); a fresh stream wants NET_READABLE. No
 * system call if nothing changes. */
void net_stream_want(struct net_stream *s, unsigned events);
unsigned net_stream_wanted(const struct net_stream *s);

#define NET_AGAIN (-1) /* nothing now */
/* The other side closed, or ended what it sends and still reads: TCP tells no difference before
 * something is written. NET_READABLE, if wanted, is told once more when the connection is broken,
 * and reading gives NET_ERROR then. */
#define NET_EOF (-2)
#define NET_ERROR (-3) /* broken; net_stream_error() */
/* Bytes read (> 0), or one of the above. One system call; with TLS one for each record. */
ssize_t net_stream_read(struct net_stream *s, void *buf, size_t cap);
/* Bytes taken (>= 0; fewer than asked: full now, and the next call must begin with the rest), or
 * NET_ERROR. One system call; with TLS one for each record. */
ssize_t net_stream_write(struct net_stream *s, const void *ptr, size_t len);
ssize_t net_stream_writev(struct net_stream *s, const struct iovec *iov, int count);
/* No less than `bytes` are worth a wake-up: the owner knows that as many are on their way
 * (SO_RCVLOWAT; unix sockets ignore it). 1 goes back to normal. No system call if nothing
 * changes. */
void net_stream_expect(struct net_stream *s, int bytes);
const char *net_stream_error(const struct net_stream *s);
/* A unix socket. */
bool net_stream_is_local(const struct net_stream *s);
/* Who is at the other end of a unix socket, by the kernel's word. */
bool net_stream_peer_uid(const struct net_stream *s, uid_t *uid);
/* The address of the other side, IPv4 in the first four bytes; also for an IPv4 client of a socket
 * of both families. False: a unix socket, or gone. */
bool net_stream_address(const struct net_stream *s, bool *is_v6, uint8_t out[16]);
/* "10.0.0.1:5432" or "unix"; cut to cap. */
void net_stream_peer(const struct net_stream *s, char *out, size_t cap);
/* The same of our own end. */
void net_stream_own(const struct net_stream *s, char *out, size_t cap);
/* The owner hears nothing any more; memory goes when the loop lets it. NULL is fine. */
void net_stream_close(struct net_stream *s);

/* ---- listeners ---- */
typedef void (*net_accept_fn)(void *arg, struct net_stream *s);
/* Accepts until closed; the callback owns the stream and must set its owner. Hosts: an address, a
 * name (all its addresses), "*" (everything, both families) or a directory for a unix socket, whose
 * file is open to all and replaced if nobody listens there. `error` gets a sentence. Port 0 takes a
 * free one, see net_listener_port(). Out of descriptors: pauses for 100 ms. */
struct net_listener *net_listen(struct net_loop *l, const char *host, int port, int backlog,
                                net_accept_fn fn, void *arg, char *error, size_t error_cap);
int net_listener_port(const struct net_listener *l);
/* NULL is fine. */
void net_listener_close(struct net_listener *l);

/* ---- timers ---- */
typedef void (*net_timer_fn)(void *arg);
struct net_timer *net_timer_new(struct net_loop *l, net_timer_fn fn, void *arg);
/* One shot, never before `delay_us` have passed and as a rule less than two milliseconds after
 * that: both libuv and epoll_wait() count in whole ones. 0 is the next turn; a callback that
 * restarts its own timer with 0 starves everybody else. Restarts if running. No system call. */
void net_timer_start(struct net_timer *t, int64_t delay_us);
void net_timer_stop(struct net_timer *t);
/* NULL is fine. */
void net_timer_free(struct net_timer *t);

#endif
