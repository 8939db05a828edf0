/* SPDX-License-Identifier: PostgreSQL
 *
 * watch/patroni.c against members on the same loop, which answer what the test tells them to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "watch/patroni.h"
#include "watch/patroni_answer.h"

#define MS 1000
#define SECOND 1000000
#define MEMBERS 2
#define CONNECTIONS 64

struct fixture;

struct member {
	struct fixture *f;
	struct net_listener *listener;
	const char *answer; /* NULL: silent */
	size_t length;      /* 0: as long as it is; what is beyond it are blanks */
	bool hangs_up;      /* at the end of the answer */
	int asked;
};

struct connection {
	struct member *m;
	struct net_stream *stream;
};

struct fixture {
	struct net_loop *loop;
	struct net_timer *guard;
	struct fleet fleet;
	struct patroni *patroni;
	struct patroni_settings settings;
	struct watch_node nodes[2];
	struct member members[MEMBERS];
	struct connection connections[CONNECTIONS];
	int connection_count, told;
	bool timed_out;
	bool (*until)(struct fixture *f);
};

#define HEAD "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
#define LEADS(host, port) \
	HEAD "{\"members\":[{\"role\":\"leader\",\"host\":\"" host "\",\"port\":" port "}]}"

static void on_request(void *owner, unsigned events)
{
	struct connection *c = owner;
	struct member *m = c->m;
	char request[1024];
	ssize_t n = net_stream_read(c->stream, request, sizeof(request) - 1);
	if (n == NET_AGAIN)
		return;
	if (n < 0) {
		net_stream_close(c->stream);
		c->stream = NULL;
		return;
	}
	request[n] = '\0';
	assert_ptr_equal(strstr(request, "GET /cluster HTTP/1.0\r\nHost: 127.0.0.1:"), request);
	m->asked++;
	if (!m->answer)
		return;
	size_t len = strlen(m->answer);
	(void)net_stream_write(c->stream, m->answer, len);
	char blanks[4096];
	memset(blanks, ' ', sizeof(blanks));
	while (len < m->length && net_stream_write(c->stream, blanks, sizeof(blanks)) > 0)
		len += sizeof(blanks);
	if (m->hangs_up) {
		net_stream_close(c->stream);
		c->stream = NULL;
	}
}

static void on_accept(void *arg, struct net_stream *s)
{
	struct member *m = arg;
	struct fixture *f = m->f;
	assert_true(f->connection_count < CONNECTIONS);
	struct connection *c = &f->connections[f->connection_count++];
	*c = (struct connection){.m = m, .stream = s};
	net_stream_set_owner(s, on_request, c);
}

static void on_told(void *arg)
{
	((struct fixture *)arg)->told++;
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

static void setup(struct fixture *f)
{
	char error[200];
	*f = (struct fixture){.loop = net_loop_new()};
	assert_non_null(f->loop);
	f->guard = net_timer_new(f->loop, on_guard, f);
	net_loop_set_after(f->loop, check_until, f);
	fleet_init(&f->fleet, SECOND);
	f->settings = (struct patroni_settings){.member_count = MEMBERS,
	                                        .interval_us = 20 * MS,
	                                        .max_age_us = 400 * MS,
	                                        .timeout_us = 60 * MS};
	for (int i = 0; i < MEMBERS; i++) {
		struct member *m = &f->members[i];
		*m = (struct member){.f = f, .hangs_up = true};
		m->listener = net_listen(f->loop, "127.0.0.1", 0, 16, on_accept, m, error, sizeof(error));
		assert_non_null(m->listener);
		snprintf(f->settings.members[i].host, sizeof(f->settings.members[i].host), "127.0.0.1");
		f->settings.members[i].port = net_listener_port(m->listener);
		snprintf(f->nodes[i].name, sizeof(f->nodes[i].name), "node%d", i);
		snprintf(f->nodes[i].host, sizeof(f->nodes[i].host), "db%d.example", i);
		f->nodes[i].port = 5432;
		fleet_node_add(&f->fleet, slice_str(f->nodes[i].name));
	}
}

static void start(struct fixture *f)
{
	f->patroni = patroni_new(f->loop, &f->fleet, f->nodes, &f->settings, on_told, f);
	assert_non_null(f->patroni);
	/* A router that starts trusts nobody yet. */
	assert_int_equal(f->fleet.leader, LEADER_NONE);
	assert_false(patroni_settled(f->patroni));
}

static void teardown(struct fixture *f)
{
	patroni_free(f->patroni);
	for (int i = 0; i < f->connection_count; i++)
		net_stream_close(f->connections[i].stream);
	for (int i = 0; i < MEMBERS; i++)
		net_listener_close(f->members[i].listener);
	net_timer_free(f->guard);
	net_loop_free(f->loop);
}

static struct patroni_stats stats(struct fixture *f)
{
	struct patroni_stats s;
	patroni_stats(f->patroni, &s);
	return s;
}

static bool first_leads(struct fixture *f)
{
	return f->fleet.leader == 0;
}

static bool second_leads(struct fixture *f)
{
	return f->fleet.leader == 1;
}

static bool nobody_knows(struct fixture *f)
{
	return f->fleet.leader == LEADER_UNKNOWN;
}

static bool three_words(struct fixture *f)
{
	return stats(f).words >= 3;
}

static void patroni_tells_who_leads_and_asks_members_in_turn(void **state)
{
	struct fixture f;
	setup(&f);
	f.members[0].answer = f.members[1].answer = LEADS("DB1.example", "5432");
	start(&f);
	run_until(&f, second_leads);
	assert_true(patroni_settled(f.patroni) && stats(&f).fresh);
	run_until(&f, three_words);
	/* Told once, asked on. */
	assert_int_equal(f.told, 1);
	assert_true(f.members[0].asked >= 1 && f.members[1].asked >= 1);
	f.members[0].answer = f.members[1].answer = LEADS("db0.example", "5432");
	run_until(&f, first_leads);
	assert_int_equal(f.told, 2);
	teardown(&f);
}

static void patroni_that_names_nobody_of_ours_leaves_no_leader(void **state)
{
	struct fixture f;
	setup(&f);
	f.members[0].answer = LEADS("db0.example", "5433");
	f.members[1].answer = LEADS("db0.example.", "5432");
	start(&f);
	run_until(&f, three_words);
	assert_int_equal(f.fleet.leader, LEADER_NONE);
	assert_true(patroni_settled(f.patroni));
	assert_int_equal(f.told, 1);
	f.members[0].answer = f.members[1].answer = HEAD "{\"members\":[]}";
	run_for(&f, 100 * MS);
	assert_int_equal(f.fleet.leader, LEADER_NONE);
	teardown(&f);
}

static void patroni_that_is_paused_without_a_leader_knows_nothing(void **state)
{
	struct fixture f;
	setup(&f);
	f.members[0].answer = f.members[1].answer = HEAD "{\"members\":[],\"pause\":true}";
	start(&f);
	run_until(&f, nobody_knows);
	assert_true(stats(&f).fresh);
	teardown(&f);
}

static void patroni_goes_to_the_next_member_when_one_fails(void **state)
{
	static const char *const bad[] = {
		NULL, /* silent */
		"HTTP/1.0 503 Service Unavailable\r\n\r\n{}",
		"SSH-2.0-x\r\n",
		HEAD "{\"members\":",
		HEAD "{}",
		"",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fixture f;
		setup(&f);
		f.members[0].answer = bad[i];
		f.members[1].answer = LEADS("db0.example", "5432");
		start(&f);
		run_until(&f, first_leads);
		assert_true(f.members[0].asked == 1 && stats(&f).failed == 1 && stats(&f).words == 1);
		teardown(&f);
	}
}

static void patroni_does_not_wait_for_the_end_of_a_length(void **state)
{
	struct fixture f;
	setup(&f);
	f.members[0].answer = "HTTP/1.1 200 OK\r\nContent-Length: 63\r\n\r\n"
						  "{\"members\":[{\"role\":\"leader\",\"host\":\"db1.example\",\"port\":5432}]";
	f.members[0].hangs_up = false;
	start(&f);
	run_for(&f, 40 * MS);
	/* 63 bytes and no closing brace: not an answer. */
	assert_int_equal(f.fleet.leader, LEADER_NONE);
	f.members[0].answer = f.members[1].answer =
		"HTTP/1.1 200 OK\r\nContent-Length: 66\r\n\r\n"
		"{\"members\":[{\"role\":\"leader\",\"host\":\"db1.example\",\"port\":5432}]}  ";
	f.members[1].hangs_up = false;
	run_until(&f, second_leads);
	teardown(&f);
}

static void patroni_answer_that_is_too_long_is_none(void **state)
{
	struct fixture f;
	setup(&f);
	f.settings.member_count = 1;
	f.settings.timeout_us = SECOND;
	f.members[0].answer = LEADS("db0.example", "5432");
	f.members[0].length = PATRONI_ANSWER_MAX + 4096;
	start(&f);
	run_until(&f, nobody_knows);
	assert_true(stats(&f).failed > 0);
	assert_int_equal(stats(&f).words, 0);
	teardown(&f);
}

static void patroni_that_falls_silent_is_forgotten(void **state)
{
	struct fixture f;
	setup(&f);
	f.members[0].answer = f.members[1].answer = LEADS("db0.example", "5432");
	start(&f);
	run_until(&f, first_leads);
	f.members[0].answer = f.members[1].answer = NULL;
	int64_t silent_us = net_now_us();
	run_until(&f, nobody_knows);
	int64_t took_us = net_now_us() - silent_us;
	/* Of the moment of the last question. */
	assert_true(took_us > 350 * MS - f.settings.interval_us && took_us < 2 * SECOND);
	assert_false(stats(&f).fresh);
	assert_int_equal(f.told, 2);
	f.members[1].answer = LEADS("db1.example", "5432");
	run_until(&f, second_leads);
	assert_true(stats(&f).fresh);
	teardown(&f);
}

static void patroni_that_never_answers_is_waited_for_as_long_as_a_word_holds(void **state)
{
	struct fixture f;
	setup(&f);
	start(&f);
	run_for(&f, 300 * MS);
	assert_int_equal(f.fleet.leader, LEADER_NONE);
	assert_false(patroni_settled(f.patroni));
	run_until(&f, nobody_knows);
	assert_true(patroni_settled(f.patroni));
	teardown(&f);
}

static bool refused_thrice(struct fixture *f)
{
	return stats(f).failed >= 3;
}

static void patroni_members_that_refuse_are_asked_once_an_interval(void **state)
{
	struct fixture f;
	setup(&f);
	for (int i = 0; i < MEMBERS; i++) {
		net_listener_close(f.members[i].listener);
		f.members[i].listener = NULL;
	}
	int64_t since_us = net_now_us();
	start(&f);
	run_until(&f, refused_thrice);
	run_for(&f, 100 * MS);
	assert_in_range(stats(&f).failed, 3, MEMBERS * ((net_now_us() - since_us) / (20 * MS) + 1));
	teardown(&f);
}

static bool asked_twice(struct fixture *f)
{
	return f->members[0].asked + f->members[1].asked == 2;
}

static void patroni_kick_asks_before_the_interval_and_not_at_once(void **state)
{
	struct fixture f;
	setup(&f);
	f.settings.interval_us = 10 * SECOND;
	f.settings.max_age_us = 20 * SECOND;
	f.members[0].answer = f.members[1].answer = LEADS("db0.example", "5432");
	start(&f);
	run_until(&f, first_leads);
	for (int i = 0; i < 100; i++)
		patroni_kick(f.patroni);
	run_for(&f, 50 * MS);
	assert_int_equal(f.members[0].asked + f.members[1].asked, 1);
	run_until(&f, asked_twice);
	run_for(&f, 50 * MS);
	assert_int_equal(f.members[0].asked + f.members[1].asked, 2);
	teardown(&f);
}

int main(void)
{
	log_set_level(LOG_LEVEL_ERROR + 1);
#define T(name) cmocka_unit_test(name)
	const struct CMUnitTest tests[] = {
		T(patroni_tells_who_leads_and_asks_members_in_turn),
		T(patroni_that_names_nobody_of_ours_leaves_no_leader),
		T(patroni_that_is_paused_without_a_leader_knows_nothing),
		T(patroni_goes_to_the_next_member_when_one_fails),
		T(patroni_does_not_wait_for_the_end_of_a_length),
		T(patroni_answer_that_is_too_long_is_none),
		T(patroni_that_falls_silent_is_forgotten),
		T(patroni_that_never_answers_is_waited_for_as_long_as_a_word_holds),
		T(patroni_members_that_refuse_are_asked_once_an_interval),
		T(patroni_kick_asks_before_the_interval_and_not_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
