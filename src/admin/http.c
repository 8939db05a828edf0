/* SPDX-License-Identifier: PostgreSQL */
#include "http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "metrics.h"
#include "page.h"

#define CONNECTIONS_MAX 32
#define CONNECTION_TIMEOUT_S 10
#define CONNECTION_MEMORY ((size_t)16 * 1024)
#define BODY_MAX ((size_t)1024 * 1024)
#define LISTEN_BACKLOG 32
/* With nothing to do but look at time-outs and the limit. */
#define TICK_US 1000000
/* How often libmicrohttpd may ask for another round before everybody else gets a turn. */
#define ROUNDS_MAX 16

struct admin_http {
	struct worker *worker;
	struct MHD_Daemon *daemon;
	struct net_timer *timer;
};

/* ------------------------------------------------------------------ requests */

static enum MHD_Result answer(struct MHD_Connection *conn, unsigned status, const char *type,
                              struct slice body)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(body.len, (void *)(uintptr_t)body.ptr,
	                                                         MHD_RESPMEM_MUST_COPY);
	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, "Content-Type", type);
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, "Allow", "GET, HEAD");
	enum MHD_Result queued = MHD_queue_response(conn, status, r);
	MHD_destroy_response(r);
	return queued;
}

static enum MHD_Result answer_text(struct MHD_Connection *conn, unsigned status, const char *text)
{
	return answer(conn, status, "text/plain; charset=utf-8", slice_str(text));
}

static enum MHD_Result answer_made(struct MHD_Connection *conn, const struct worker *w,
                                   void (*make)(const struct worker *w, struct buf *out),
                                   const char *type)
{
	struct buf body;
	buf_init(&body, BODY_MAX);
	make(w, &body);
	enum MHD_Result r = body.overflow ? answer_text(conn, MHD_HTTP_INTERNAL_SERVER_ERROR,
	                                                "the answer is too large\n")
	                                  : answer(conn, MHD_HTTP_OK, type, buf_slice(&body));
	buf_release(&body);
	return r;
}

static enum MHD_Result answer_health(struct MHD_Connection *conn, const struct worker *w)
{
	const char *why = admin_unhealthy(w);
	char line[256];
	snprintf(line, sizeof(line), "%s\n", why ? why : "ok");
	return answer_text(conn, why ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, line);
}

/* libmicrohttpd calls it first when the head is there and again, with *seen as it was left, when
 * the request is complete; an answer at the first call costs the connection. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **seen)
{
	const struct admin_http *h = arg;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_text(conn, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
	if (!*seen) {
		*seen = arg;
		return MHD_YES;
	}
	if (*upload_len > 0) {
		*upload_len = 0;
		return MHD_YES;
	}
	if (strcmp(url, "/metrics") == 0)
		return answer_made(conn, h->worker, admin_metrics,
		                   "text/plain; version=0.0.4; charset=utf-8");
	if (strcmp(url, "/healthz") == 0)
		return answer_health(conn, h->worker);
	if (strcmp(url, "/") == 0)
		return answer_made(conn, h->worker, admin_page, "text/html; charset=utf-8");
	return answer_text(conn, MHD_HTTP_NOT_FOUND, "there are /, /metrics and /healthz\n");
}

/* ---------------------------------------------------------------------- loop */

/* When it must be run again though its descriptor stays silent. Always after a while: at its limit
 * of connections it stops listening, and begins again only in a run after the one that closed some.
 */
static int64_t next_run_us(struct MHD_Daemon *d)
{
	MHD_UNSIGNED_LONG_LONG ms;
	if (MHD_get_timeout(d, &ms) != MHD_YES || ms >= TICK_US / 1000)
		return TICK_US;
	return (int64_t)ms * 1000;
}

static void on_activity(void *arg)
{
	struct admin_http *h = arg;
	int64_t next = 0;
	for (int i = 0; i < ROUNDS_MAX && next == 0; i++) {
		MHD_run(h->daemon);
		next = next_run_us(h->daemon);
	}
	net_timer_start(h->timer, next > 1000 ? next : 1000);
}

/* ------------------------------------------------------------ life and end */

static int listen_on(const struct addrinfo *a)
{
	int on = 1, off = 0;
	int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
		return fd;
	int failed = errno;
	close(fd);
	errno = failed;
	return -1;
}

/* The first address of the host that can be had; "*" is every address of both families. */
static int open_listener(const char *host, int port, char *error, size_t cap)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
	bool any = strcmp(host, "*") == 0;
	char service[16];
	snprintf(service, sizeof(service), "%d", port);
	int rc = getaddrinfo(any ? "::" : host, service, &hints, &found);
	if (rc != 0) {
		snprintf(error, cap, "http_listen: cannot resolve \"%s\": %s", host, gai_strerror(rc));
		return -1;
	}
	int fd = -1;
	for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
		fd = listen_on(a);
	int failed = errno;
	freeaddrinfo(found);
	if (fd < 0 && any && (failed == EAFNOSUPPORT || failed == EADDRNOTAVAIL))
		return open_listener("0.0.0.0", port, error, cap);
	if (fd < 0)
		snprintf(error, cap, "http_listen: cannot listen on %s:%d: %s", host, port,
		         strerror(failed));
	return fd;
}

/* Mostly about what peers sent, which anybody may make it say as often as they like. */
__attribute__((format(printf, 2, 0))) static void log_line(void *arg, const char *fmt, va_list args)
{
	char line[512];
	int n = vsnprintf(line, sizeof(line), fmt, args);
	while (n > 0 && n < (int)sizeof(line) && line[n - 1] == '\n')
		line[--n] = '\0';
	log_debug("admin http: %s", line);
}

static bool start(struct admin_http *h, char *error, size_t cap)
{
	const struct settings *s = h->worker->settings;
	int fd = open_listener(s->http_listen_addr, s->http_listen_port, error, cap);
	if (fd < 0)
		return false;
	snprintf(error, cap, "http_listen: the HTTP server cannot start");
	h->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, h, /* options: */
		MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
		MHD_OPTION_END);
	if (!h->daemon)
		return false; /* it has closed the socket */
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	h->timer = net_timer_new(h->worker->loop, on_activity, h);
	if (!info || !h->timer || !net_loop_watch_fd(h->worker->loop, info->epoll_fd, on_activity, h))
		return false;
	net_timer_start(h->timer, TICK_US);
	return true;
}

struct admin_http *admin_http_new(struct worker *w, char *error, size_t cap)
{
	struct admin_http *h = calloc(1, sizeof(*h));
	if (!h) {
		snprintf(error, cap, "out of memory");
		return NULL;
	}
	h->worker = w;
	if (!start(h, error, cap)) {
		admin_http_free(h);
		return NULL;
	}
	log_info("admin http on %s:%d", w->settings->http_listen_addr, w->settings->http_listen_port);
	return h;
}

void admin_http_free(struct admin_http *h)
{
	if (!h)
		return;
	net_timer_free(h->timer);
	if (h->daemon)
		MHD_stop_daemon(h->daemon);
	free(h);
}
