/* SPDX-License-Identifier: PostgreSQL
 *
 * watch/watch.c against scripted servers (watch_server.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "watch/watch.h"
#include "watch_server.h"

#define MS 1000
#define SECOND 1000000
#define NODES 2

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

static bool replica_eligible(struct fixture *f)
{
	return fleet_replica_eligible(&f->fleet, 1, net_now_us());
}

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
	run_until(&f, replica_eligible); /* its history comes last */
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

/* ================= the primary's history ================= */

static bool history_known(struct fixture *f)
{
	return f->fleet.history.known;
}

static bool history_unknown(struct fixture *f)
{
	return !f->fleet.history.known;
}

static void watch_knows_the_first_timeline_without_asking(void **state)
{
	struct fixture f;
	setup(&f, 2);
	f.servers[0].timeline = f.servers[1].timeline = 1;
	start(&f);
	run_until(&f, history_known);
	assert_int_equal(f.fleet.history.timeline, 1);
	assert_int_equal(f.fleet.history.count, 0);
	run_for(&f, 50 * MS);
	assert_int_equal(f.servers[0].fetches, 0);
	teardown(&f);
}

static void watch_fetches_the_history_of_a_later_timeline_from_the_primary(void **state)
{
	struct fixture f;
	setup(&f, 2);
	f.settings.idle_interval_us = 10 * SECOND;
	start(&f);
	run_until(&f, all_sampled);
	if (!f.fleet.history.known) {
		int told = f.told[0];
		run_until(&f, history_known);
		assert_int_equal(f.told[0], told + 1);
	}
	assert_int_equal(f.fleet.history.timeline, 3);
	assert_true(history_fork(&f.fleet.history).lsn == 0x5000148);
	/* What happens to a replica is nothing to it. */
	watch_distrust(f.watch, 1, "for a test");
	run_until(&f, all_sampled);
	run_until(&f, replica_eligible);
	assert_true(f.fleet.history.known);
	assert_int_equal(f.servers[0].fetches, 1);
	/* The replica's own; its first connection may have gone before it had asked. */
	assert_true(f.servers[1].fetches >= 1 && f.servers[1].fetches <= 2);
	assert_int_equal(fleet_node_branch(&f.fleet, 1), BRANCH_SAME);
	teardown(&f);
}

static void watch_samples_while_the_history_does_not_come(void **state)
{
	static const enum history_mood moods[] = {HISTORY_SILENT_LOGIN, HISTORY_SILENT,
	                                          HISTORY_NOT_PERMITTED, HISTORY_GARBAGE};
	for (size_t i = 0; i < sizeof(moods) / sizeof(moods[0]); i++) {
		struct fixture f;
		setup(&f, 2);
		f.servers[0].history_mood = moods[i];
		start(&f);
		run_until(&f, all_sampled);
		uint64_t primary = watch_samples(f.watch, 0), replica = watch_samples(f.watch, 1);
		run_for(&f, 300 * MS);
		assert_true(watch_samples(f.watch, 0) >= primary + 10);
		assert_true(watch_samples(f.watch, 1) >= replica + 10);
		assert_int_equal(f.fleet.nodes[0].epoch, 0);
		assert_false(f.fleet.history.known);
		/* On which branch the primary is nobody knows. */
		assert_false(fleet_replica_eligible(&f.fleet, 1, net_now_us()));
		assert_int_equal(f.servers[0].fetches, 1);
		/* Two questions out at once, and the loop ends: nothing is left behind. */
		teardown(&f);
	}
}

static void watch_forgets_the_history_with_the_primary_and_fetches_anew(void **state)
{
	struct fixture f;
	setup(&f, 2);
	start(&f);
	run_until(&f, history_known);
	watch_distrust(f.watch, 0, "for a test");
	assert_false(f.fleet.history.known);
	run_until(&f, history_known);
	assert_int_equal(f.servers[0].fetches, 2);

	/* The replica is promoted: its history counts from now on. */
	WITH(f.servers[0], f.servers[0].mood = MOOD_REFUSE_LOGIN);
	WITH(f.servers[1], f.servers[1].recovery = false; f.servers[1].timeline = 4);
	WITH(f.servers[1], f.servers[1].history = SERVER_HISTORY "3\t0/7000000\tx\n");
	watch_distrust(f.watch, 0, "for a test");
	run_until(&f, history_unknown);
	run_until(&f, history_known);
	assert_int_equal(f.fleet.primary, 1);
	assert_int_equal(f.fleet.history.timeline, 4);
	assert_true(history_fork(&f.fleet.history).lsn == 0x7000000);
	teardown(&f);
}

static bool timeline_4_known(struct fixture *f)
{
	return f->fleet.history.known && f->fleet.history.timeline == 4;
}

static void watch_fetches_anew_when_the_primary_says_that_it_is_on_another_timeline(void **state)
{
	struct fixture f;
	setup(&f, 1);
	start(&f);
	run_until(&f, history_known);
	WITH(f.servers[0], f.servers[0].timeline = 4);
	run_until(&f, timeline_4_known);
	assert_int_equal(f.servers[0].logins, 1);
	assert_int_equal(f.servers[0].fetches, 2);
	teardown(&f);
}

static bool two_primaries(struct fixture *f)
{
	return f->fleet.two_primaries;
}

static void watch_keeps_the_history_for_when_the_second_of_two_primaries_goes(void **state)
{
	struct fixture f;
	setup(&f, 2);
	start(&f);
	run_until(&f, history_known);
	WITH(f.servers[1], f.servers[1].recovery = false);
	run_until(&f, two_primaries);
	assert_false(f.fleet.history.known);
	run_for(&f, 50 * MS);
	/* Both are on timeline 3. */
	assert_false(f.fleet.history.known);
	WITH(f.servers[1], f.servers[1].mood = MOOD_REFUSE_LOGIN);
	watch_distrust(f.watch, 1, "for a test");
	run_until(&f, history_known);
	/* The one that stayed was never lost. */
	assert_int_equal(f.fleet.primary, 0);
	assert_int_equal(f.fleet.nodes[0].epoch, 0);
	assert_int_equal(f.servers[0].fetches, 1);
	teardown(&f);
}

/* The answer that was on its way when the primary was lost belongs to nobody. */
static void watch_believes_no_history_of_a_primary_that_is_lost(void **state)
{
	struct fixture f;
	setup(&f, 1);
	f.servers[0].history_mood = HISTORY_SILENT;
	start(&f);
	run_until(&f, all_sampled);
	run_for(&f, 50 * MS);
	assert_int_equal(f.servers[0].fetches, 1);
	WITH(f.servers[0], f.servers[0].mood = MOOD_REFUSE_LOGIN);
	watch_distrust(f.watch, 0, "for a test");
	WITH(f.servers[0], f.servers[0].history_mood = HISTORY_GOOD);
	/* At once, not only when the answer is late. */
	run_for(&f, 50 * MS);
	assert_int_equal(f.servers[0].fetches_ended, 1);
	run_for(&f, 1200 * MS);
	assert_false(f.fleet.history.known);
	assert_int_equal(f.servers[0].fetches, 1);
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watch_knows_the_first_timeline_without_asking),
		cmocka_unit_test(watch_fetches_the_history_of_a_later_timeline_from_the_primary),
		cmocka_unit_test(watch_samples_while_the_history_does_not_come),
		cmocka_unit_test(watch_forgets_the_history_with_the_primary_and_fetches_anew),
		cmocka_unit_test(watch_fetches_anew_when_the_primary_says_that_it_is_on_another_timeline),
		cmocka_unit_test(watch_keeps_the_history_for_when_the_second_of_two_primaries_goes),
		cmocka_unit_test(watch_believes_no_history_of_a_primary_that_is_lost),
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
