/* SPDX-License-Identifier: PostgreSQL
 *
 * bench-idle PORT COUNT [USER [DBNAME [QUERY]]]: opens COUNT connections to 127.0.0.1:PORT, logs in
 * on each (trust only), runs QUERY once on each if one is given, prints "ready" and holds them all
 * until its input ends. So that the memory of a proxy can be taken with many clients at rest.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Few at a time: a listener's backlog overflows otherwise, and its clients wait a second. */
#define IN_FLIGHT_MAX 64
/* A source address has some 28 000 ports. */
#define PER_SOURCE_ADDRESS 10000
#define COUNT_MAX 100000
#define TIME_LIMIT_S 120

enum state {
	CONNECTING,
	LOGGING_IN, /* until the first ReadyForQuery */
	QUERYING,   /* until the second */
	HELD,
};

struct client {
	int fd;
	enum state state;
	unsigned char header[5]; /* type and length of the message that is coming */
	size_t header_have;
	size_t body_left;
};

static struct client *clients;
static int count, started, held;
static int loop;
static uint16_t port;
static char startup[512], query[1024];
static size_t startup_size, query_size;

_Noreturn static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench-idle: %s: %s (client %d of %d)\n", what, why, held + 1, count);
	exit(1);
}

static void put_be32(char *to, size_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (char)(value >> (24 - 8 * i));
}

static size_t be32(const unsigned char *p)
{
	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

static void prepare_messages(const char *user, const char *dbname, const char *sql)
{
	size_t at = 8;
	const char *words[] = {"user", user, "database", dbname};

	put_be32(startup + 4, 3 << 16);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t size = strlen(words[i]) + 1;
		if (at + size + 1 > sizeof(startup))
			die("startup message", "user or database name is too long");
		memcpy(startup + at, words[i], size);
		at += size;
	}
	startup[at++] = 0;
	put_be32(startup, at);
	startup_size = at;
	if (!sql)
		return;
	query_size = strlen(sql) + 1 + 5;
	if (query_size > sizeof(query))
		die("query", "too long");
	query[0] = 'Q';
	put_be32(query + 1, query_size - 1);
	memcpy(query + 5, sql, query_size - 5);
}

static void raise_file_limit(void)
{
	struct rlimit limit;
	rlim_t need = (rlim_t)count + 64;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit", strerror(errno));
	if (limit.rlim_cur >= need)
		return;
	limit.rlim_cur = need;
	if (limit.rlim_max < need)
		limit.rlim_max = need;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("cannot open that many files (ulimit -n)", strerror(errno));
}

static void client_start(struct client *c, int index)
{
	int one = 1;
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};

	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(index / PER_SOURCE_ADDRESS));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket", strerror(errno));
	/* The port is chosen at connect, when the whole address pair is known. */
	setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(c->fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		die("bind", strerror(errno));
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		die("connect", strerror(errno));
	if (epoll_ctl(loop, EPOLL_CTL_ADD, c->fd, &e) < 0)
		die("epoll_ctl", strerror(errno));
}

static void start_more(void)
{
	while (started < count && started - held < IN_FLIGHT_MAX) {
		client_start(&clients[started], started);
		started++;
	}
}

static void client_send(struct client *c, const char *data, size_t size)
{
	if (send(c->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size)
		die("send", strerror(errno));
}

static void client_connected(struct client *c)
{
	int error = 0;
	socklen_t size = sizeof(error);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error)
		die("connect", strerror(error ? error : errno));
	client_send(c, startup, startup_size);
	if (epoll_ctl(loop, EPOLL_CTL_MOD, c->fd, &e) < 0)
		die("epoll_ctl", strerror(errno));
	c->state = LOGGING_IN;
}

static void client_ready(struct client *c)
{
	if (c->state == LOGGING_IN && query_size) {
		client_send(c, query, query_size);
		c->state = QUERYING;
		return;
	}
	if (c->state == HELD)
		die("protocol", "ReadyForQuery that nobody asked for");
	c->state = HELD;
	held++;
}

/* Messages are told apart by their headers alone; `rest` is what follows in the same read. */
static void client_message(struct client *c, const unsigned char *rest, size_t rest_size)
{
	size_t length = be32(c->header + 1);

	if (length < 4)
		die("protocol", "bad message length");
	c->body_left = length - 4;
	if (c->header[0] == 'E') {
		fputs("bench-idle: server: ", stderr);
		for (size_t i = 0; i < rest_size; i++)
			fputc(rest[i] >= ' ' ? rest[i] : ' ', stderr);
		fputc('\n', stderr);
		die("protocol", "the server answered with an error");
	}
	if (c->header[0] == 'R' && rest_size >= 4 && be32(rest) != 0)
		die("login", "the server wants a password; this program has none");
	if (c->header[0] == 'Z')
		client_ready(c);
}

static void client_readable(struct client *c)
{
	unsigned char data[8192];
	ssize_t got = recv(c->fd, data, sizeof(data), 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		die("recv", got ? strerror(errno) : "the server closed the connection");
	for (size_t i = 0; i < (size_t)got;) {
		size_t left = (size_t)got - i;
		if (c->body_left) {
			size_t n = left < c->body_left ? left : c->body_left;
			c->body_left -= n;
			i += n;
			continue;
		}
		c->header[c->header_have++] = data[i++];
		if (c->header_have == sizeof(c->header)) {
			c->header_have = 0;
			client_message(c, data + i, left - 1);
		}
	}
}

static void open_all(void)
{
	struct epoll_event events[IN_FLIGHT_MAX];

	while (held < count) {
		start_more();
		int n = epoll_wait(loop, events, IN_FLIGHT_MAX, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait", strerror(errno));
		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;
			if (c->state == CONNECTING)
				client_connected(c);
			else
				client_readable(c);
		}
	}
}

static void check_all_alive(void)
{
	for (int i = 0; i < count; i++) {
		char byte;
		if (recv(clients[i].fd, &byte, 1, MSG_PEEK) == 0)
			die("hold", "the server closed a connection that was at rest");
	}
}

static long number(const char *text, long max)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*end || value < 1 || value > max) {
		fprintf(stderr, "bench-idle: %s is not a number from 1 to %ld\n", text, max);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	char byte;

	if (argc < 3 || argc > 6) {
		fprintf(stderr, "usage: bench-idle PORT COUNT [USER [DBNAME [QUERY]]]\n");
		return 2;
	}
	port = (uint16_t)number(argv[1], 65535);
	count = (int)number(argv[2], COUNT_MAX);
	prepare_messages(argc > 3 ? argv[3] : "postgres", argc > 4 ? argv[4] : "postgres",
	                 argc > 5 ? argv[5] : NULL);
	raise_file_limit();
	clients = calloc((size_t)count, sizeof(*clients));
	loop = epoll_create1(EPOLL_CLOEXEC);
	if (!clients || loop < 0)
		die("start", strerror(errno));
	alarm(TIME_LIMIT_S);
	open_all();
	alarm(0);
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	check_all_alive();
	return 0;
}
