/* SPDX-License-Identifier: PostgreSQL
 *
 * watch/watch.c against scripted servers: threads that speak just enough of the protocol on a
 * loopback port and answer what the test tells them to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "pgwire/message.h"
#include "watch/watch.h"

#define MS 1000
#define SECOND 1000000
#define NODES 2

/* ================= the scripted server ================= */

enum mood {
	MOOD_GOOD,
	MOOD_SILENT,
	MOOD_ERROR,
	MOOD_HANG_UP,
	MOOD_GARBAGE,
	MOOD_OVERSIZED,
	MOOD_NO_ROW,
	MOOD_TWO_ROWS,
	MOOD_NO_POSITION,
	MOOD_BAD_LEARN,
	MOOD_UNASKED,
	MOOD_REFUSE_LOGIN,
	MOOD_SLOW,
};

struct server {
	pthread_t thread;
	pthread_mutex_t lock;
	int listen_fd, port;
	/* under the lock */
	enum mood mood;
	bool recovery;
	int timeline;
	uint64_t lsn;
	const char *system;
	const char *commit;
	int logins, questions;
};

struct bytes {
	uint8_t data[8192];
	size_t len;
};

static bool receive(int fd, struct bytes *in)
{
	ssize_t n = recv(fd, in->data + in->len, sizeof(in->data) - in->len, 0);
	if (n <= 0)
		return false;
	in->len += (size_t)n;
	return true;
}

static void drop_front(struct bytes *in, size_t n)
{
	memmove(in->data, in->data + n, in->len - n);
	in->len -= n;
}

static bool send_all(int fd, struct buf *out)
{
	struct slice s = buf_slice(out);
	bool good = s.len == 0 || send(fd, s.ptr, s.len, MSG_NOSIGNAL) == (ssize_t)s.len;
	buf_reset(out);
	return good;
}

static void answer_login(struct server *s, struct buf *out)
{
	s->logins++;
	if (s->mood == MOOD_REFUSE_LOGIN) {
		write_error(out, "FATAL", "28000", "no entry for you", NULL);
		return;
	}
	write_auth(out, AUTH_OK, slice_str(""));
	write_parameter_status(out, slice_str("server_version"), slice_str("15.0"));
	write_key_data(out, 1, 2);
	write_ready(out, TX_IDLE);
}

static void write_learn_row(struct server *s, struct buf *out)
{
	char timeline[16];
	(void)snprintf(timeline, sizeof(timeline), "%d", s->timeline);
	struct slice values[] = {
		slice_str(s->recovery ? "t" : "f"),
		slice_str(s->system),
		slice_str(timeline),
		slice_str(s->mood == MOOD_BAD_LEARN ? "8000" : "8192"),
		slice_str("16777216"),
		slice_str("1700000000000001"),
		slice_str("150020"),
		slice_str(s->commit),
	};
	write_data_row(out, values, 8);
}

static void write_position_row(struct server *s, struct buf *out)
{
	uint8_t recovery = s->recovery ? 1 : 0, lsn[8];
	store_be32(lsn, (uint32_t)(s->lsn >> 32));
	store_be32(lsn + 4, (uint32_t)s->lsn);
	struct slice values[] = {slice_of(&recovery, 1),
	                         s->mood == MOOD_NO_POSITION ? slice_of(NULL, 0) : slice_of(lsn, 8)};
	write_data_row(out, values, 2);
}

static void write_row(struct server *s, bool learn, struct buf *out)
{
	if (learn)
		write_learn_row(s, out);
	else
		write_position_row(s, out);
}

/* False: hang up. */
static bool answer_question(struct server *s, bool learn, struct buf *out)
{
	enum mood mood = s->mood;
	s->questions++;
	if (mood == MOOD_SLOW)
		usleep(20 * MS);
	message_end(out, message_begin(out, BE_BIND_COMPLETE));
	switch (mood) {
	case MOOD_SILENT:
		buf_reset(out);
		return true;
	case MOOD_HANG_UP:
		return false;
	case MOOD_ERROR:
		write_error(out, "FATAL", "57P01", "terminating connection", NULL);
		return true;
	case MOOD_GARBAGE:
		buf_append(out, "Z\0\0\0\1", 5);
		return true;
	case MOOD_OVERSIZED:
		buf_append(out, "D\0\x10\0\0", 5);
		return true;
	case MOOD_UNASKED:
		message_end(out, message_begin(out, BE_COPY_BOTH));
		return true;
	case MOOD_NO_ROW:
		break;
	case MOOD_TWO_ROWS:
		write_row(s, learn, out);
		write_row(s, learn, out);
		break;
	default:
		write_error(out, "NOTICE", "00000", "never mind", NULL);
		write_row(s, learn, out);
		break;
	}
	write_command_complete(out, "SELECT 1");
	write_ready(out, TX_IDLE);
	return true;
}

static bool on_message(struct server *s, const struct frame *f, bool *learn, struct buf *out)
{
	struct msg_bind bind;
	if (f->type == FE_PARSE)
		message_end(out, message_begin(out, BE_PARSE_COMPLETE));
	if (f->type == FE_BIND && msg_bind_parse(frame_body(f), &bind))
		*learn = slice_eq_str(bind.statement, "tidemark_learn");
	return f->type != FE_SYNC || answer_question(s, *learn, out);
}

static bool on_bytes(struct server *s, struct bytes *in, bool *started, bool *learn,
                     struct buf *out)
{
	struct frame f;
	struct slice body;
	if (!*started) {
		if (startup_frame(slice_of(in->data, in->len), &body) != PARSE_OK)
			return true;
		drop_front(in, 4 + body.len);
		*started = true;
		answer_login(s, out);
	}
	while (frame_peek(slice_of(in->data, in->len), &f) == PARSE_OK &&
	       frame_complete(&f, slice_of(in->data, in->len))) {
		if (!on_message(s, &f, learn, out))
			return false;
		drop_front(in, frame_size(&f));
	}
	return true;
}

static void serve(struct server *s, int fd)
{
	static _Thread_local struct bytes in;
	struct buf out;
	bool started = false, learn = false, good = true;
	in.len = 0;
	buf_init(&out, 65536);
	while (good && receive(fd, &in)) {
		pthread_mutex_lock(&s->lock);
		good = on_bytes(s, &in, &started, &learn, &out);
		pthread_mutex_unlock(&s->lock);
		good = good && send_all(fd, &out);
	}
	buf_release(&out);
	close(fd);
}

static void *server_main(void *arg)
{
	struct server *s = arg;
	int fd;
	while ((fd = accept(s->listen_fd, NULL, NULL)) >= 0)
		serve(s, fd);
	return NULL;
}

static void server_start(struct server *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	pthread_mutex_init(&s->lock, NULL);
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s->listen_fd, 8), 0);
	assert_int_equal(getsockname(s->listen_fd, (struct sockaddr *)&a, &len), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_stop(struct server *s)
{
	shutdown(s->listen_fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->listen_fd);
	pthread_mutex_destroy(&s->lock);
}

/* ================= the fixture ================= */

struct fixture {
	struct net_loop *loop;
	struct net_timer *guard;
	struct fleet fleet;
	struct watch *watch;
	struct server servers[NODES];
	int count;
	int told[NODES];
	bool timed_out;
	bool (*until)(struct fixture *f);
	struct watch_settings settings;
};

static void on_told(void *arg, int node)
{
	((struct fixture *)arg)->told[node]++;
}

static void on_guard(void *arg)
{
	struct fixture *f = arg;
	f->timed_out = true;
	net_loop_stop(f->loop);
}

static void check_until(void *arg)
{
	struct fixture *f = arg;
	if (f->until && f->until(f))
		net_loop_stop(f->loop);
}

static void run_until(struct fixture *f, bool (*until)(struct fixture *f))
{
	f->until = until;
	net_timer_start(f->guard, 5 * SECOND);
	net_loop_run(f->loop);
	assert_false(f->timed_out);
	f->until = NULL;
}

static void run_for(struct fixture *f, int64_t us)
{
	net_timer_start(f->guard, us);
	net_loop_run(f->loop);
	f->timed_out = false;
}

/* `count` servers of one cluster: a primary, then replicas. */
static void setup(struct fixture *f, int count)
{
	*f = (struct fixture){.loop = net_loop_new(), .count = count};
	assert_non_null(f->loop);
	f->guard = net_timer_new(f->loop, on_guard, f);
	net_loop_set_after(f->loop, check_until, f);
	fleet_init(&f->fleet, 500 * MS);
	f->settings =
		(struct watch_settings){.idle_interval_us = 10 * MS, .answer_timeout_us = 200 * MS};
	for (int i = 0; i < count; i++) {
		f->servers[i] = (struct server){.recovery = i > 0,
		                                .timeline = 3,
		                                .lsn = 0x2000018,
		                                .system = "-7710866184195784866",
		                                .commit = "on"};
		server_start(&f->servers[i]);
	}
}

static void start(struct fixture *f)
{
	struct watch_node nodes[NODES] = {0};
	for (int i = 0; i < f->count; i++) {
		struct watch_node *n = &nodes[i];
		(void)snprintf(n->name, sizeof(n->name), "node%d", i);
		(void)snprintf(n->host, sizeof(n->host), "127.0.0.1");
		(void)snprintf(n->user, sizeof(n->user), "watcher");
		(void)snprintf(n->database, sizeof(n->database), "postgres");
		n->port = f->servers[i].port;
		assert_int_equal(fleet_node_add(&f->fleet, slice_str(n->name)), i);
	}
	f->watch = watch_new(f->loop, &f->fleet, nodes, f->count, &f->settings, on_told, f);
	assert_non_null(f->watch);
	assert_int_equal(f->told[0], 0);
}

static void teardown(struct fixture *f)
{
	watch_free(f->watch);
	net_timer_free(f->guard);
	net_loop_free(f->loop);
	for (int i = 0; i < f->count; i++)
		server_stop(&f->servers[i]);
}

#define WITH(server, statement)               \
	do {                                      \
		pthread_mutex_lock(&(server).lock);   \
		statement;                            \
		pthread_mutex_unlock(&(server).lock); \
	} while (0)

static bool all_sampled(struct fixture *f)
{
	for (int i = 0; i < f->count; i++)
		if (!f->fleet.nodes[i].up || !position_is_set(f->fleet.nodes[i].at))
			return false;
	return true;
}

static bool first_down(struct fixture *f)
{
	return !f->fleet.nodes[0].up && watch_error(f->watch, 0)[0] != '\0';
}

static bool last_down(struct fixture *f)
{
	return !f->fleet.nodes[f->count - 1].up;
}

/* ================= tests ================= */

static void watch_learns_role_identity_and_position(void **state)
{
	struct fixture f;
	setup(&f, 2);
	f.servers[0].commit = "off";
	start(&f);
	assert_string_equal(watch_error(f.watch, 0), "not connected yet");
	run_until(&f, all_sampled);

	const struct watch_facts *facts = watch_facts(f.watch, 0);
	assert_true(facts->known);
	assert_int_equal(facts->wal_block_size, 8192);
	assert_int_equal(facts->wal_segment_size, 16777216);
	assert_true(facts->system_identifier == (uint64_t)INT64_C(-7710866184195784866));
	assert_true(facts->postmaster_start_us == INT64_C(1700000000000001));
	assert_int_equal(facts->server_version_num, 150020);
	assert_true(facts->async_commit);
	assert_false(watch_facts(f.watch, 1)->async_commit);
	assert_string_equal(watch_error(f.watch, 0), "");

	assert_int_equal(f.fleet.primary, 0);
	assert_int_equal(f.fleet.nodes[0].timeline, 3);
	assert_int_equal(f.fleet.nodes[1].role, NODE_ROLE_REPLICA);
	/* Only the primary's position is relieved of the next page's header. */
	assert_true(f.fleet.nodes[0].at.lsn == 0x2000000);
	assert_true(f.fleet.nodes[1].at.lsn == 0x2000018);
	assert_true(f.fleet.nodes[0].sampled_at_us <= net_now_us());
	assert_true(fleet_replica_eligible(&f.fleet, 1, net_now_us()));
	assert_true(f.told[0] >= 2 && f.told[1] >= 2);
	teardown(&f);
}

static bool has_moved(struct fixture *f)
{
	return f->fleet.nodes[1].at.lsn == 0x3000000;
}

static void watch_follows_the_position(void **state)
{
	struct fixture f;
	setup(&f, 2);
	start(&f);
	run_until(&f, all_sampled);
	WITH(f.servers[1], f.servers[1].lsn = 0x3000000);
	run_until(&f, has_moved);
	assert_int_equal(f.fleet.nodes[1].epoch, 0);
	teardown(&f);
}

static void watch_takes_no_sample_from_a_replica_without_a_position(void **state)
{
	struct fixture f;
	setup(&f, 2);
	f.servers[1].mood = MOOD_NO_POSITION;
	start(&f);
	run_for(&f, 100 * MS);
	assert_true(f.fleet.nodes[1].up);
	assert_false(position_is_set(f.fleet.nodes[1].at));
	assert_int_equal(watch_samples(f.watch, 1), 0);
	assert_true(f.servers[1].questions > 3);
	teardown(&f);
}

static void watch_drops_a_server_that_talks_nonsense(void **state)
{
	static const struct {
		enum mood mood;
		const char *error;
	} rows[] = {
		{MOOD_SILENT, "no answer within 200 ms"},
		{MOOD_ERROR, "terminating connection (57P01)"},
		{MOOD_HANG_UP, "the server closed the connection"},
		{MOOD_GARBAGE, "the server sent a message that is malformed or too long"},
		{MOOD_OVERSIZED, "the server sent a message that is malformed or too long"},
		{MOOD_NO_ROW, "it answered without a row"},
		{MOOD_TWO_ROWS, "its answer about its role and position makes no sense"},
		{MOOD_NO_POSITION, "its answer about its role and position makes no sense"},
		{MOOD_UNASKED, "unexpected message of type 0x57 from the server"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture f;
		setup(&f, 1);
		start(&f);
		run_until(&f, all_sampled);
		int told = f.told[0];
		WITH(f.servers[0], f.servers[0].mood = rows[i].mood);
		run_until(&f, first_down);
		assert_string_equal(watch_error(f.watch, 0), rows[i].error);
		assert_int_equal(f.fleet.primary, NODE_NONE);
		WITH(f.servers[0], f.servers[0].mood = MOOD_GOOD);
		run_until(&f, all_sampled);
		assert_true(f.told[0] >= told + 3);
		assert_int_equal(f.fleet.nodes[0].epoch, 1);
		teardown(&f);
	}
}

static bool tried_thrice(struct fixture *f)
{
	int logins;
	WITH(f->servers[0], logins = f->servers[0].logins);
	return logins >= 3;
}

static void refused(enum mood mood, const char *error)
{
	struct fixture f;
	setup(&f, 1);
	f.servers[0].mood = mood;
	start(&f);
	int64_t before_us = net_now_us();
	run_until(&f, tried_thrice);
	/* The back-off doubles from 100 ms. */
	assert_true(net_now_us() - before_us >= 300 * MS);
	run_until(&f, first_down);
	assert_string_equal(watch_error(f.watch, 0), error);
	assert_int_equal(f.told[0], 0);
	assert_int_equal(f.fleet.nodes[0].epoch, 0);
	teardown(&f);
}

static void watch_backs_off_when_it_is_refused(void **state)
{
	refused(MOOD_REFUSE_LOGIN, "no entry for you (28000)");
	refused(MOOD_BAD_LEARN, "its answer about its role and position makes no sense");
}

static void watch_tells_why_it_cannot_connect(void **state)
{
	struct fixture f;
	char expected[128];
	setup(&f, 1);
	server_stop(&f.servers[0]);
	start(&f);
	run_for(&f, 50 * MS);
	(void)snprintf(expected, sizeof(expected),
	               "cannot connect to 127.0.0.1 port %d: connection refused", f.servers[0].port);
	assert_string_equal(watch_error(f.watch, 0), expected);
	f.count = 0;
	teardown(&f);
}

static bool replica_became_primary(struct fixture *f)
{
	return f->fleet.primary == 1;
}

static void watch_sees_a_promotion_by_the_answers(void **state)
{
	struct fixture f;
	setup(&f, 2);
	start(&f);
	run_until(&f, all_sampled);
	WITH(f.servers[0], f.servers[0].mood = MOOD_HANG_UP);
	WITH(f.servers[1], f.servers[1].recovery = false; f.servers[1].timeline = 4);
	run_until(&f, replica_became_primary);
	assert_int_equal(f.fleet.nodes[1].epoch, 1);
	assert_int_equal(f.fleet.nodes[1].timeline, 4);
	assert_int_equal(f.servers[1].logins, 2);
	teardown(&f);
}

static bool on_timeline_4(struct fixture *f)
{
	return f->fleet.nodes[1].timeline == 4 && position_is_set(f->fleet.nodes[1].at);
}

static void watch_learns_the_timeline_again_on_a_live_connection(void **state)
{
	struct fixture f;
	setup(&f, 2);
	start(&f);
	run_until(&f, all_sampled);
	WITH(f.servers[1], f.servers[1].timeline = 4);
	run_until(&f, on_timeline_4);
	assert_int_equal(f.servers[1].logins, 1);

	/* It cannot go back: the better source of the two has gone silent. */
	WITH(f.servers[1], f.servers[1].timeline = 3);
	run_for(&f, 1100 * MS);
	assert_int_equal(f.fleet.nodes[1].timeline, 4);
	assert_true(f.fleet.nodes[1].up);
	teardown(&f);
}

static bool epoch_2(struct fixture *f)
{
	return f->fleet.nodes[1].epoch == 1 && all_sampled(f);
}

static void watch_starts_anew_when_a_position_goes_backwards(void **state)
{
	struct fixture f;
	setup(&f, 2);
	start(&f);
	run_until(&f, all_sampled);
	WITH(f.servers[1], f.servers[1].lsn = 0x1000000);
	run_until(&f, last_down);
	assert_string_equal(watch_error(f.watch, 1),
	                    "its position went backwards: it was restarted or replaced");
	run_until(&f, epoch_2);
	assert_true(f.fleet.nodes[1].at.lsn == 0x1000000);
	assert_int_equal(f.servers[1].logins, 2);
	teardown(&f);
}

static void watch_refuses_a_replica_of_another_cluster(void **state)
{
	struct fixture f;
	setup(&f, 2);
	f.servers[1].system = "42";
	start(&f);
	run_for(&f, 500 * MS);
	assert_int_equal(f.fleet.primary, 0);
	assert_false(f.fleet.nodes[1].up);
	assert_non_null(strstr(watch_error(f.watch, 1), "another cluster (system identifier 42)"));
	teardown(&f);
}

static void watch_makes_one_question_of_many_kicks(void **state)
{
	struct fixture f;
	setup(&f, 1);
	f.settings.idle_interval_us = 10 * SECOND;
	start(&f);
	run_until(&f, all_sampled);
	WITH(f.servers[0], f.servers[0].mood = MOOD_SLOW);
	uint64_t before = watch_samples(f.watch, 0);
	int64_t kicked_at_us = 0;
	for (int i = 0; i < 5; i++) {
		kicked_at_us = net_now_us();
		watch_kick(f.watch, 0);
	}
	run_for(&f, 200 * MS);
	/* The first kick asks; the others came during its question and are one more. */
	assert_int_equal(watch_samples(f.watch, 0), before + 2);
	assert_true(f.fleet.nodes[0].sampled_at_us >= kicked_at_us);
	teardown(&f);
}

static void watch_polls_replicas_fast_only_while_busy(void **state)
{
	struct fixture f;
	setup(&f, 2);
	f.settings.idle_interval_us = 10 * SECOND;
	start(&f);
	run_until(&f, all_sampled);
	uint64_t before = watch_samples(f.watch, 1);
	run_for(&f, 50 * MS);
	assert_int_equal(watch_samples(f.watch, 1), before);
	watch_set_busy(f.watch, true);
	watch_set_busy(f.watch, true);
	run_for(&f, 100 * MS);
	assert_true(watch_samples(f.watch, 1) >= before + 10);
	assert_true(watch_samples(f.watch, 0) < before + 5);
	watch_set_busy(f.watch, false);
	run_for(&f, 20 * MS);
	before = watch_samples(f.watch, 1);
	run_for(&f, 50 * MS);
	assert_int_equal(watch_samples(f.watch, 1), before);
	teardown(&f);
}

static void watch_distrust_takes_the_node_out_at_once_and_tells_later(void **state)
{
	struct fixture f;
	setup(&f, 1);
	start(&f);
	run_until(&f, all_sampled);
	int told = f.told[0];
	watch_distrust(f.watch, 0, "it refused a write (25006)");
	assert_false(f.fleet.nodes[0].up);
	assert_string_equal(watch_error(f.watch, 0), "it refused a write (25006)");
	assert_int_equal(f.told[0], told);
	watch_distrust(f.watch, 0, "again");
	watch_kick(f.watch, 0);
	run_until(&f, all_sampled);
	assert_true(f.told[0] >= told + 3);
	assert_int_equal(f.fleet.nodes[0].epoch, 1);
	assert_int_equal(f.servers[0].logins, 2);
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watch_learns_role_identity_and_position),
		cmocka_unit_test(watch_follows_the_position),
		cmocka_unit_test(watch_takes_no_sample_from_a_replica_without_a_position),
		cmocka_unit_test(watch_drops_a_server_that_talks_nonsense),
		cmocka_unit_test(watch_backs_off_when_it_is_refused),
		cmocka_unit_test(watch_tells_why_it_cannot_connect),
		cmocka_unit_test(watch_sees_a_promotion_by_the_answers),
		cmocka_unit_test(watch_learns_the_timeline_again_on_a_live_connection),
		cmocka_unit_test(watch_starts_anew_when_a_position_goes_backwards),
		cmocka_unit_test(watch_refuses_a_replica_of_another_cluster),
		cmocka_unit_test(watch_makes_one_question_of_many_kicks),
		cmocka_unit_test(watch_polls_replicas_fast_only_while_busy),
		cmocka_unit_test(watch_distrust_takes_the_node_out_at_once_and_tells_later),
	};
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
