/* SPDX-License-Identifier: PostgreSQL
 *
 * bare-relay LISTEN_PORT UPSTREAM_PORT: the least a proxy can do, as the yardstick of `make bench`.
 *
 * Accepts on loopback, connects to the upstream, and then one recv and one send each way for what
 * arrives: no look at the bytes, no pool, no timer. What it costs is the kernel's price of a hop
 * through user space; what another proxy costs beyond it is that proxy's own.
 *
 * One thread, level-triggered epoll, interest changed only under back-pressure: a side that cannot
 * take what it was given stops the reading of the other side until it could.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE 65536
#define EVENTS_MAX 256
#define BACKLOG 4096

struct pair;

/* One of the two connections of a pair, with the bytes it could not take yet. */
struct side {
	int fd;
	uint32_t interest; /* as the kernel has it */
	bool ended;        /* nothing more will be read from it */
	bool shut;         /* our sending half is closed */
	struct pair *pair;
	char *unsent; /* BUFFER_SIZE bytes, made at the first back-pressure */
	size_t unsent_from, unsent_to;
};

struct pair {
	struct side client, server;
	bool connecting;
	bool dead; /* closed, but events of this batch may still name it */
	struct pair *next_dead;
};

static int loop;
static uint16_t upstream_port;
static struct pair *dead_pairs;
static char buffer[BUFFER_SIZE];

static void die(const char *what)
{
	fprintf(stderr, "bare-relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static struct side *other(struct side *s)
{
	return s == &s->pair->client ? &s->pair->server : &s->pair->client;
}

static void pair_close(struct pair *p)
{
	if (p->dead)
		return;
	close(p->client.fd);
	close(p->server.fd);
	p->dead = true;
	p->next_dead = dead_pairs;
	dead_pairs = p;
}

static void bury_dead_pairs(void)
{
	while (dead_pairs) {
		struct pair *p = dead_pairs;
		dead_pairs = p->next_dead;
		free(p->client.unsent);
		free(p->server.unsent);
		free(p);
	}
}

static bool has_unsent(const struct side *s)
{
	return s->unsent_from < s->unsent_to;
}

/* Tells the kernel what the two sides wait for now, if that changed. */
static void pair_update_interest(struct pair *p)
{
	struct side *sides[] = {&p->client, &p->server};

	for (int i = 0; i < 2; i++) {
		struct side *s = sides[i];
		uint32_t want = 0;
		if (!s->ended && !has_unsent(other(s)))
			want |= EPOLLIN;
		if (has_unsent(s))
			want |= EPOLLOUT;
		if (want == s->interest)
			continue;
		struct epoll_event e = {.events = want, .data.ptr = s};
		if (epoll_ctl(loop, EPOLL_CTL_MOD, s->fd, &e) < 0)
			die("epoll_ctl");
		s->interest = want;
	}
}

/* Passes on the end of one side, once all that came before it has been sent. */
static bool pass_on_end(struct side *from)
{
	struct side *to = other(from);

	if (from->ended && !to->shut && !has_unsent(to)) {
		to->shut = true;
		if (shutdown(to->fd, SHUT_WR) < 0)
			return false;
	}
	return !(from->shut && to->shut);
}

static bool keep_unsent(struct side *to, const char *data, size_t size)
{
	if (!to->unsent)
		to->unsent = malloc(BUFFER_SIZE);
	if (!to->unsent)
		return false;
	memcpy(to->unsent, data, size);
	to->unsent_from = 0;
	to->unsent_to = size;
	return true;
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* False: the pair is over. */
static bool on_readable(struct side *from)
{
	struct side *to = other(from);
	ssize_t got, sent;

	if (from->ended || has_unsent(to))
		return true;
	got = recv(from->fd, buffer, sizeof(buffer), 0);
	if (got < 0)
		return would_block();
	if (got == 0) {
		from->ended = true;
		if (!pass_on_end(from))
			return false;
		pair_update_interest(from->pair);
		return true;
	}
	sent = send(to->fd, buffer, (size_t)got, MSG_NOSIGNAL);
	if (sent == got)
		return true;
	if (sent < 0) {
		if (!would_block())
			return false;
		sent = 0;
	}
	if (!keep_unsent(to, buffer + sent, (size_t)(got - sent)))
		return false;
	pair_update_interest(from->pair);
	return true;
}

/* False: the pair is over. */
static bool on_writable(struct side *to)
{
	ssize_t sent;

	if (!has_unsent(to))
		return true;
	sent =
		send(to->fd, to->unsent + to->unsent_from, to->unsent_to - to->unsent_from, MSG_NOSIGNAL);
	if (sent < 0)
		return would_block();
	to->unsent_from += (size_t)sent;
	if (!pass_on_end(other(to)))
		return false;
	pair_update_interest(to->pair);
	return true;
}

/* Watches the client from here on, so that no byte is read before it can be sent. */
static bool on_connected(struct pair *p)
{
	int error = 0;
	socklen_t size = sizeof(error);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = &p->client};

	if (getsockopt(p->server.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error)
		return false;
	p->connecting = false;
	if (epoll_ctl(loop, EPOLL_CTL_ADD, p->client.fd, &e) < 0)
		return false;
	p->client.interest = EPOLLIN;
	pair_update_interest(p);
	return true;
}

static void on_event(struct side *s, uint32_t events)
{
	struct pair *p = s->pair;
	bool alive = true;

	if (p->dead)
		return;
	if (p->connecting) {
		if (!on_connected(p))
			pair_close(p);
		return;
	}
	if (events & EPOLLOUT)
		alive = on_writable(s);
	/* A hang-up is learnt by reading up to it; what was read to its end has nothing more to say. */
	if (alive && (events & EPOLLERR || (s->ended && events & EPOLLHUP)))
		alive = false;
	else if (alive && events & (EPOLLIN | EPOLLHUP))
		alive = on_readable(s);
	if (!alive)
		pair_close(p);
}

static void on_accept(int listener)
{
	int one = 1;
	struct sockaddr_in address = loopback(upstream_port);
	struct pair *p;
	int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (client < 0) {
		if (!would_block() && errno != ECONNABORTED)
			die("accept");
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		die("calloc");
	p->connecting = true;
	p->client = (struct side){.fd = client, .pair = p};
	p->server = (struct side){.pair = p, .interest = EPOLLOUT};
	p->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->server.fd < 0)
		die("socket");
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(p->server.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

	struct epoll_event e = {.events = EPOLLOUT, .data.ptr = &p->server};
	if ((connect(p->server.fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
	     errno != EINPROGRESS) ||
	    epoll_ctl(loop, EPOLL_CTL_ADD, p->server.fd, &e) < 0)
		pair_close(p);
}

static int listen_on(uint16_t port)
{
	int one = 1;
	struct sockaddr_in address = loopback(port);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
		die("listen");
	if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
	return fd;
}

static uint16_t port_of(const char *text)
{
	char *end;
	long port = strtol(text, &end, 10);

	if (*end || port < 1 || port > 65535) {
		fprintf(stderr, "bare-relay: %s is not a port\n", text);
		exit(2);
	}
	return (uint16_t)port;
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS_MAX];
	int listener;

	if (argc != 3) {
		fprintf(stderr, "usage: bare-relay LISTEN_PORT UPSTREAM_PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	upstream_port = port_of(argv[2]);
	loop = epoll_create1(EPOLL_CLOEXEC);
	if (loop < 0)
		die("epoll_create1");
	listener = listen_on(port_of(argv[1]));

	for (;;) {
		int n = epoll_wait(loop, events, EVENTS_MAX, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				on_event(events[i].data.ptr, events[i].events);
			else
				on_accept(listener);
		}
		bury_dead_pairs();
	}
}
