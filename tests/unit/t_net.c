/* SPDX-License-Identifier: PostgreSQL
 *
 * net/net_uv.c against the real kernel on loopback. Every test has a guard timer: a callback that
 * does not come is a failure, not a hang.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/net.h"

#define SECOND 1000000

struct fixture {
	struct net_loop *loop;
	struct net_timer *guard;
	struct net_listener *listener;
	struct net_stream *client, *server;
	bool timed_out;
	int accepted, connected, failed, client_reads, server_reads, writables;
	char text[64];
	size_t got;
	int64_t since_us;
	int order[8];
	int count;
};

static void guard_fires(void *arg)
{
	struct fixture *f = arg;
	f->timed_out = true;
	net_loop_stop(f->loop);
}

static void setup(struct fixture *f)
{
	*f = (struct fixture){.loop = net_loop_new()};
	assert_non_null(f->loop);
	f->guard = net_timer_new(f->loop, guard_fires, f);
}

static void run(struct fixture *f)
{
	net_timer_start(f->guard, 5 * SECOND);
	net_loop_run(f->loop);
	net_timer_stop(f->guard);
	assert_false(f->timed_out);
}

static void teardown(struct fixture *f)
{
	net_stream_close(f->client);
	net_stream_close(f->server);
	if (f->listener)
		net_listener_close(f->listener);
	net_timer_free(f->guard);
	net_loop_free(f->loop);
}

static void listen_on(struct fixture *f, const char *host, int port, net_accept_fn fn)
{
	char error[256] = "";
	f->listener = net_listen(f->loop, host, port, 64, fn, f, error, sizeof(error));
	if (!f->listener)
		fail_msg("%s", error);
}

/* ---- echo ---- */
static void echo_events(void *owner, unsigned events)
{
	struct fixture *f = owner;
	char buf[64];
	assert_int_equal(events, NET_READABLE);
	ssize_t n = net_stream_read(f->server, buf, sizeof(buf));
	if (n == NET_EOF) {
		net_stream_close(f->server);
		f->server = NULL;
		net_loop_stop(f->loop);
		return;
	}
	assert_true(n > 0);
	assert_int_equal(net_stream_write(f->server, buf, (size_t)n), n);
}

static void echo_accept(void *arg, struct net_stream *s)
{
	struct fixture *f = arg;
	f->accepted++;
	f->server = s;
	net_stream_set_owner(s, echo_events, f);
}

static void echo_client_events(void *owner, unsigned events)
{
	struct fixture *f = owner;
	if (events & NET_CONNECTED) {
		struct iovec iov[2] = {{.iov_base = (char *)"hello ", .iov_len = 6},
		                       {.iov_base = (char *)"world", .iov_len = 5}};
		f->connected++;
		assert_int_equal(net_stream_writev(f->client, iov, 2), 11);
		return;
	}
	ssize_t n = net_stream_read(f->client, f->text + f->got, sizeof(f->text) - f->got);
	assert_true(n > 0);
	f->got += (size_t)n;
	if (f->got == 11) {
		net_stream_peer(f->client, f->text + 32, 32);
		net_stream_close(f->client);
		f->client = NULL;
	}
}

static void echo_over(const char *listen_host, const char *connect_host, int port, const char *peer)
{
	struct fixture f;
	setup(&f);
	listen_on(&f, listen_host, port, echo_accept);
	f.client = net_connect(f.loop, connect_host, net_listener_port(f.listener), SECOND,
	                       echo_client_events, &f);
	assert_non_null(f.client);
	assert_int_equal(f.connected, 0);
	run(&f);
	assert_int_equal(f.accepted, 1);
	assert_int_equal(f.connected, 1);
	assert_memory_equal(f.text, "hello world", 11);
	assert_memory_equal(f.text + 32, peer, strlen(peer));
	teardown(&f);
}

static void net_echoes_over_tcp(void **state)
{
	echo_over("127.0.0.1", "127.0.0.1", 0, "127.0.0.1:");
}

static void net_echoes_by_name(void **state)
{
	echo_over("localhost", "localhost", 0, "");
}

static void net_listens_everywhere(void **state)
{
	echo_over("*", "127.0.0.1", 0, "127.0.0.1:");
}

static void net_echoes_over_unix_and_replaces_a_stale_socket(void **state)
{
	char dir[] = "/tmp/t_net_XXXXXX";
	char path[64];
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/.s.PGSQL.5432", dir);

	/* What a crash leaves behind: a bound file nobody listens on. */
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);

	echo_over(dir, dir, 5432, "unix");

	/* The listener took its file away. */
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rmdir(dir), 0);
}

static void net_refuses_a_unix_socket_in_use(void **state)
{
	struct fixture f;
	char dir[] = "/tmp/t_net_XXXXXX";
	char path[64], error[256] = "";
	struct stat st;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/.s.PGSQL.1", dir);
	setup(&f);
	listen_on(&f, dir, 1, echo_accept);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0777);
	assert_null(net_listen(f.loop, dir, 1, 8, echo_accept, &f, error, sizeof(error)));
	assert_non_null(strstr(error, "address already in use"));
	assert_int_equal(access(path, F_OK), 0);
	teardown(&f);
	assert_int_equal(rmdir(dir), 0);
}

/* ---- failing ---- */
static void expect_failure(void *owner, unsigned events)
{
	struct fixture *f = owner;
	assert_int_equal(events, NET_FAILED);
	f->failed++;
	(void)snprintf(f->text, sizeof(f->text), "%s", net_stream_error(f->client));
	net_loop_stop(f->loop);
}

static void failing(const char *host, int port, int64_t timeout_us, const char *why)
{
	struct fixture f;
	setup(&f);
	f.client = net_connect(f.loop, host, port, timeout_us, expect_failure, &f);
	assert_non_null(f.client);
	assert_int_equal(f.failed, 0);
	run(&f);
	assert_int_equal(f.failed, 1);
	if (why)
		assert_string_equal(f.text, why);
	assert_true(f.text[0] != '\0');
	teardown(&f);
}

static void net_tells_a_refused_connection(void **state)
{
	/* A port that was free a moment ago. */
	struct fixture f;
	setup(&f);
	listen_on(&f, "127.0.0.1", 0, echo_accept);
	int port = net_listener_port(f.listener);
	teardown(&f);
	failing("127.0.0.1", port, SECOND, "connection refused");
	failing("localhost", port, SECOND, "connection refused");
	failing("/nonexistent", 5432, SECOND, "no such file or directory");
}

static void net_tells_a_name_that_is_none(void **state)
{
	failing("no such host", 5432, 4 * SECOND, NULL);
	failing("", 5432, SECOND, NULL);
}

static void net_refuses_an_overlong_socket_path(void **state)
{
	char dir[200] = "/";
	memset(dir + 1, 'x', sizeof(dir) - 2);
	dir[sizeof(dir) - 1] = '\0';
	failing(dir, 5432, SECOND, "name too long");
}

/* A listening socket with a full backlog drops further SYNs, so the client waits. */
static void net_bounds_a_connect(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0), filler[4];
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	for (int i = 0; i < 4; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(filler[i], (struct sockaddr *)&a, sizeof(a));
	}
	int64_t before_us = net_now_us();
	failing("127.0.0.1", ntohs(a.sin_port), 50000, "connection timed out");
	assert_true(net_now_us() - before_us >= 50000);
	for (int i = 0; i < 4; i++)
		close(filler[i]);
	close(fd);
}

static void never(void *owner, unsigned events)
{
	fail_msg("told %u after close", events);
}

static void stop_loop(void *arg)
{
	net_loop_stop(((struct fixture *)arg)->loop);
}

static void net_forgets_a_connect_that_was_closed(void **state)
{
	struct fixture f;
	setup(&f);
	net_stream_close(net_connect(f.loop, "localhost", 1, SECOND, never, &f));
	net_stream_close(net_connect(f.loop, "127.0.0.1", 1, SECOND, never, &f));
	net_stream_close(net_connect(f.loop, "/nonexistent", 1, SECOND, never, &f));
	net_stream_close(NULL);
	struct net_timer *t = net_timer_new(f.loop, stop_loop, &f);
	net_timer_start(t, 20000);
	run(&f);
	net_timer_free(t);
	teardown(&f);
}

/* ---- closing within callbacks ---- */
#define PAIRS 8
static struct net_stream *pair_server[PAIRS];
static int pair_count, pair_told;

/* All are readable in the same turn; whoever is told first closes everybody and opens a new
 * connection, which gets a descriptor number of one just closed. */
static void first_closes_all(void *owner, unsigned events)
{
	struct fixture *f = owner;
	pair_told++;
	for (int i = 0; i < PAIRS; i++)
		net_stream_close(pair_server[i]);
	f->client = net_connect(f->loop, "127.0.0.1", 1, SECOND, expect_failure, f);
}

static void collect(void *arg, struct net_stream *s)
{
	net_stream_want(s, 0);
	pair_server[pair_count++] = s;
	if (pair_count == PAIRS)
		net_loop_stop(((struct fixture *)arg)->loop);
}

static void ignore_events(void *owner, unsigned events)
{
}

static void net_delivers_nothing_to_streams_closed_in_the_same_turn(void **state)
{
	struct fixture f;
	struct net_stream *clients[PAIRS];
	setup(&f);
	pair_count = pair_told = 0;
	listen_on(&f, "127.0.0.1", 0, collect);
	int port = net_listener_port(f.listener);
	for (int i = 0; i < PAIRS; i++)
		clients[i] = net_connect(f.loop, "127.0.0.1", port, SECOND, ignore_events, &f);
	run(&f);
	for (int i = 0; i < PAIRS; i++) {
		assert_int_equal(net_stream_write(clients[i], "x", 1), 1);
		net_stream_set_owner(pair_server[i], first_closes_all, &f);
		net_stream_want(pair_server[i], NET_READABLE);
	}
	run(&f); /* until the new connection was refused */
	assert_int_equal(pair_told, 1);
	assert_int_equal(f.failed, 1);
	for (int i = 0; i < PAIRS; i++)
		net_stream_close(clients[i]);
	teardown(&f);
}

static void close_listener_on_accept(void *arg, struct net_stream *s)
{
	struct fixture *f = arg;
	f->accepted++;
	net_stream_close(s);
	net_listener_close(f->listener);
	f->listener = NULL;
	net_loop_stop(f->loop);
}

static void net_listener_may_be_closed_by_its_callback(void **state)
{
	struct fixture f;
	setup(&f);
	listen_on(&f, "127.0.0.1", 0, close_listener_on_accept);
	int port = net_listener_port(f.listener);
	f.client = net_connect(f.loop, "127.0.0.1", port, SECOND, ignore_events, &f);
	f.server = net_connect(f.loop, "127.0.0.1", port, SECOND, ignore_events, &f);
	run(&f);
	assert_int_equal(f.accepted, 1);
	teardown(&f);
}

/* ---- wanting ---- */
static void pair_accept(void *arg, struct net_stream *s)
{
	struct fixture *f = arg;
	f->server = s;
	net_stream_want(s, 0);
	net_loop_stop(f->loop);
}

static void count_events(void *owner, unsigned events)
{
	struct fixture *f = owner;
	if (events & NET_CONNECTED)
		return;
	if (events & NET_WRITABLE) {
		f->writables++;
		net_stream_want(f->server, 0);
	}
	if (events & NET_READABLE) {
		f->server_reads++;
		f->since_us = net_now_us() - f->since_us;
		net_stream_want(f->server, 0);
	}
	net_loop_stop(f->loop);
}

static void make_pair(struct fixture *f)
{
	listen_on(f, "127.0.0.1", 0, pair_accept);
	f->client =
		net_connect(f->loop, "127.0.0.1", net_listener_port(f->listener), SECOND, ignore_events, f);
	run(f);
	net_stream_set_owner(f->server, count_events, f);
}

static void run_for(struct fixture *f, int64_t us)
{
	struct net_timer *t = net_timer_new(f->loop, stop_loop, f);
	net_timer_start(t, us);
	run(f);
	net_timer_free(t);
}

static void net_tells_only_what_is_wanted(void **state)
{
	struct fixture f;
	setup(&f);
	make_pair(&f);
	assert_int_equal(net_stream_wanted(f.client), NET_READABLE);
	assert_int_equal(net_stream_write(f.client, "abc", 3), 3);
	run_for(&f, 20000);
	assert_int_equal(f.server_reads, 0);

	net_stream_want(f.server, NET_WRITABLE);
	run(&f);
	assert_int_equal(f.writables, 1);
	assert_int_equal(f.server_reads, 0);

	/* Level-triggered: what was not read is told again. */
	for (int i = 1; i <= 2; i++) {
		net_stream_want(f.server, NET_READABLE);
		run(&f);
		assert_int_equal(f.server_reads, i);
	}
	char buf[8];
	assert_int_equal(net_stream_read(f.server, buf, sizeof(buf)), 3);
	assert_int_equal(net_stream_read(f.server, buf, sizeof(buf)), NET_AGAIN);
	teardown(&f);
}

static void net_writes_what_fits_and_tells_when_there_is_room(void **state)
{
	struct fixture f;
	static char block[1 << 20];
	setup(&f);
	make_pair(&f);
	net_stream_want(f.client, 0);
	ssize_t n;
	while ((n = net_stream_write(f.server, block, sizeof(block))) > 0)
		;
	assert_int_equal(n, 0);
	net_stream_want(f.server, NET_WRITABLE);
	run_for(&f, 20000);
	assert_int_equal(f.writables, 0);
	while (net_stream_read(f.client, block, sizeof(block)) > 0)
		;
	run(&f);
	assert_int_equal(f.writables, 1);
	teardown(&f);
}

static void net_tells_a_reset_as_readable(void **state)
{
	struct fixture f;
	char buf[8];
	setup(&f);
	make_pair(&f);
	/* Closing with unread bytes sends a reset. */
	assert_int_equal(net_stream_write(f.server, "abc", 3), 3);
	run_for(&f, 5000);
	net_stream_close(f.client);
	f.client = NULL;
	net_stream_want(f.server, NET_READABLE);
	run(&f);
	assert_int_equal(f.server_reads, 1);
	assert_int_equal(net_stream_read(f.server, buf, sizeof(buf)), NET_ERROR);
	assert_string_equal(net_stream_error(f.server), "connection reset by peer");
	assert_int_equal(net_stream_write(f.server, "x", 1), NET_ERROR);
	teardown(&f);
}

static void net_tells_the_end_once_and_then_that_the_connection_broke(void **state)
{
	struct fixture f;
	char buf[8];
	setup(&f);
	make_pair(&f);
	net_stream_close(f.client);
	f.client = NULL;
	net_stream_want(f.server, NET_READABLE);
	run(&f);
	assert_int_equal(f.server_reads, 1);
	assert_int_equal(net_stream_read(f.server, buf, sizeof(buf)), NET_EOF);
	net_stream_want(f.server, NET_READABLE);
	run_for(&f, 20000);
	assert_int_equal(f.server_reads, 1);

	/* It might have gone on reading. */
	assert_int_equal(net_stream_write(f.server, "abc", 3), 3);
	run(&f);
	assert_int_equal(f.server_reads, 2);
	assert_int_equal(net_stream_read(f.server, buf, sizeof(buf)), NET_ERROR);
	assert_string_not_equal(net_stream_error(f.server), "");
	teardown(&f);
}

static void net_expect_waits_for_that_many_bytes(void **state)
{
	struct fixture f;
	char buf[128] = {0};
	setup(&f);
	make_pair(&f);
	net_stream_expect(f.server, 100);
	net_stream_want(f.server, NET_READABLE);
	assert_int_equal(net_stream_write(f.client, buf, 60), 60);
	run_for(&f, 20000);
	assert_int_equal(f.server_reads, 0);
	assert_int_equal(net_stream_write(f.client, buf, 40), 40);
	run(&f);
	assert_int_equal(f.server_reads, 1);
	assert_int_equal(net_stream_read(f.server, buf, sizeof(buf)), 100);

	net_stream_expect(f.server, 1);
	net_stream_want(f.server, NET_READABLE);
	assert_int_equal(net_stream_write(f.client, buf, 1), 1);
	run(&f);
	assert_int_equal(f.server_reads, 2);
	teardown(&f);
}

/* ---- many connections in one go ---- */
#define MANY 200
static struct net_stream *many_server[MANY];

static void many_accept(void *arg, struct net_stream *s)
{
	struct fixture *f = arg;
	many_server[f->accepted++] = s;
	if (f->accepted == MANY)
		net_loop_stop(f->loop);
}

static void net_accepts_more_than_one_batch(void **state)
{
	struct fixture f;
	static struct net_stream *clients[MANY];
	setup(&f);
	char error[256];
	f.listener = net_listen(f.loop, "127.0.0.1", 0, MANY, many_accept, &f, error, sizeof(error));
	for (int i = 0; i < MANY; i++)
		clients[i] = net_connect(f.loop, "127.0.0.1", net_listener_port(f.listener), SECOND,
		                         ignore_events, &f);
	run(&f);
	assert_int_equal(f.accepted, MANY);
	/* Half are left for net_loop_free() to close. */
	for (int i = 0; i < MANY; i += 2) {
		net_stream_close(clients[i]);
		net_stream_close(many_server[i]);
	}
	teardown(&f);
}

/* ---- timers, hooks, threads ---- */
struct tick {
	struct fixture *f;
	int id;
};

static void tick_fires(void *arg)
{
	struct tick *t = arg;
	t->f->order[t->f->count++] = t->id;
	if (t->id == 3)
		net_loop_stop(t->f->loop);
}

static void net_timers_fire_in_order_and_not_early(void **state)
{
	struct fixture f;
	setup(&f);
	struct tick ticks[] = {{&f, 3}, {&f, 1}, {&f, 2}, {&f, 9}};
	struct net_timer *t[4];
	for (int i = 0; i < 4; i++)
		t[i] = net_timer_new(f.loop, tick_fires, &ticks[i]);
	int64_t start_us = net_now_us();
	net_timer_start(t[0], 30500);
	net_timer_start(t[1], 1);
	net_timer_start(t[2], 1000000);
	net_timer_start(t[2], 15000); /* restarts */
	net_timer_start(t[3], 10000);
	net_timer_stop(t[3]);
	run(&f);
	assert_true(net_now_us() - start_us >= 30500);
	assert_int_equal(f.count, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(f.order[i], i + 1);
	net_timer_start(t[0], INT64_MAX);
	for (int i = 0; i < 4; i++)
		net_timer_free(t[i]);
	net_timer_free(NULL);
	teardown(&f);
}

static void deferred_work(void *arg)
{
	struct fixture *f = arg;
	if (f->writables == 1) {
		f->writables = 2;
		net_loop_stop(f->loop);
	}
}

static void leave_work(void *arg)
{
	((struct fixture *)arg)->writables = 1;
}

static void net_after_hook_runs_before_the_loop_sleeps(void **state)
{
	struct fixture f;
	setup(&f);
	net_loop_set_after(f.loop, deferred_work, &f);
	struct net_timer *t = net_timer_new(f.loop, leave_work, &f);
	net_timer_start(t, 1000);
	run(&f);
	assert_int_equal(f.writables, 2);
	net_timer_free(t);
	teardown(&f);
}

static void check_clock(void *arg)
{
	struct fixture *f = arg;
	assert_true(net_loop_now_us(f->loop) - f->since_us >= 20000);
	assert_true(net_loop_now_us(f->loop) == net_loop_now_us(f->loop));
	net_loop_stop(f->loop);
}

static void net_loop_clock_is_as_fresh_as_the_wake_up(void **state)
{
	struct fixture f;
	setup(&f);
	f.since_us = net_loop_now_us(f.loop);
	struct net_timer *t = net_timer_new(f.loop, check_clock, &f);
	net_timer_start(t, 20000);
	run(&f);
	net_timer_free(t);
	teardown(&f);
}

static void *run_in_thread(void *arg)
{
	net_loop_run(arg);
	return NULL;
}

static void net_loop_runs_in_a_thread_and_is_woken(void **state)
{
	struct fixture f;
	pthread_t thread;
	setup(&f);
	net_loop_set_wake(f.loop, stop_loop, &f);
	assert_int_equal(pthread_create(&thread, NULL, run_in_thread, f.loop), 0);
	usleep(5000);
	net_loop_wake(f.loop);
	pthread_join(thread, NULL);
	teardown(&f);
}

static void signalled(void *arg, int signum)
{
	struct fixture *f = arg;
	f->count = signum;
	net_loop_stop(f->loop);
}

static void net_loop_hears_signals(void **state)
{
	struct fixture f;
	setup(&f);
	assert_true(net_loop_on_signal(f.loop, SIGUSR1, signalled, &f));
	raise(SIGUSR1);
	run(&f);
	assert_int_equal(f.count, SIGUSR1);
	teardown(&f);
}

static void net_loop_watches_a_foreign_descriptor(void **state)
{
	struct fixture f;
	int fds[2];
	setup(&f);
	assert_int_equal(pipe(fds), 0);
	assert_true(net_loop_watch_fd(f.loop, fds[0], stop_loop, &f));
	assert_int_equal(write(fds[1], "x", 1), 1);
	run(&f);
	teardown(&f);
	close(fds[0]);
	close(fds[1]);
}

static void net_random_differs(void **state)
{
	uint8_t a[32] = {0}, b[32] = {0};
	net_random(a, sizeof(a));
	net_random(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(net_echoes_over_tcp),
		cmocka_unit_test(net_echoes_by_name),
		cmocka_unit_test(net_listens_everywhere),
		cmocka_unit_test(net_echoes_over_unix_and_replaces_a_stale_socket),
		cmocka_unit_test(net_refuses_a_unix_socket_in_use),
		cmocka_unit_test(net_tells_a_refused_connection),
		cmocka_unit_test(net_tells_a_name_that_is_none),
		cmocka_unit_test(net_refuses_an_overlong_socket_path),
		cmocka_unit_test(net_bounds_a_connect),
		cmocka_unit_test(net_forgets_a_connect_that_was_closed),
		cmocka_unit_test(net_delivers_nothing_to_streams_closed_in_the_same_turn),
		cmocka_unit_test(net_listener_may_be_closed_by_its_callback),
		cmocka_unit_test(net_tells_only_what_is_wanted),
		cmocka_unit_test(net_writes_what_fits_and_tells_when_there_is_room),
		cmocka_unit_test(net_tells_a_reset_as_readable),
		cmocka_unit_test(net_tells_the_end_once_and_then_that_the_connection_broke),
		cmocka_unit_test(net_expect_waits_for_that_many_bytes),
		cmocka_unit_test(net_accepts_more_than_one_batch),
		cmocka_unit_test(net_timers_fire_in_order_and_not_early),
		cmocka_unit_test(net_after_hook_runs_before_the_loop_sleeps),
		cmocka_unit_test(net_loop_clock_is_as_fresh_as_the_wake_up),
		cmocka_unit_test(net_loop_runs_in_a_thread_and_is_woken),
		cmocka_unit_test(net_loop_hears_signals),
		cmocka_unit_test(net_loop_watches_a_foreign_descriptor),
		cmocka_unit_test(net_random_differs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
