/* SPDX-License-Identifier: PostgreSQL
 *
 * watch/history_fetch.c against a scripted server (watch_server.h). What an operator is told is
 * part of the contract: the log goes to a file here and is looked at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>

#include "base/log.h"
#include "watch/history_fetch.h"
#include "watch_server.h"

#define MS 1000
#define SECOND 1000000
#define SYSTEM "-7710866184195784866"
#define SYSTEM_NUMBER ((uint64_t)INT64_C(-7710866184195784866))
#define LOG_MAX 16384

static struct fixture {
	struct net_loop *loop;
	struct net_timer *guard, *tick;
	struct history_fetch_settings settings;
	struct history_fetch *fetch;
	struct server server;
	struct watch_node node;
	struct history history;
	struct position at;
	int told;
	bool start_again; /* from the callback */
	bool timed_out;
	bool (*until)(void);
	int stderr_fd, log_fd;
	char log[LOG_MAX];
} x;

static void start(void)
{
	history_fetch_start(x.fetch, &x.node, NODE_ROLE_PRIMARY, SYSTEM_NUMBER, 3);
}

static void on_history(void *arg, const struct history *h, struct position at)
{
	assert_ptr_equal(arg, &x);
	x.told++;
	x.history = *h;
	x.at = at;
	if (x.start_again && x.told == 1)
		start();
}

static void on_guard(void *arg)
{
	x.timed_out = true;
	net_loop_stop(x.loop);
}

/* What a server's thread has done wakes nobody. */
static void on_tick(void *arg)
{
	net_timer_start(x.tick, MS);
}

static void check_until(void *arg)
{
	if (x.until && x.until())
		net_loop_stop(x.loop);
}

static void run_until(bool (*until)(void))
{
	x.until = until;
	net_timer_start(x.guard, 5 * SECOND);
	net_loop_run(x.loop);
	assert_false(x.timed_out);
	x.until = NULL;
}

static void run_for(int64_t us)
{
	x.until = NULL;
	net_timer_start(x.guard, us);
	net_loop_run(x.loop);
	x.timed_out = false;
}

static void mood(enum history_mood m)
{
	WITH(x.server, x.server.history_mood = m);
}

static int fetches(void)
{
	int n;
	WITH(x.server, n = x.server.fetches);
	return n;
}

/* All that was logged since the start. */
static const char *logged(void)
{
	ssize_t n = pread(x.log_fd, x.log, sizeof(x.log) - 1, 0);
	assert_true(n >= 0);
	x.log[n] = '\0';
	return x.log;
}

static int lines_logged(void)
{
	int lines = 0;
	for (const char *c = logged(); *c; c++)
		lines += *c == '\n';
	return lines;
}

static void log_to_file(void)
{
	char name[] = "/tmp/tidemark-t-history-XXXXXX";
	x.log_fd = mkstemp(name);
	assert_true(x.log_fd >= 0);
	unlink(name);
	assert_int_equal(fcntl(x.log_fd, F_SETFL, O_APPEND), 0);
	x.stderr_fd = dup(STDERR_FILENO);
	assert_int_equal(dup2(x.log_fd, STDERR_FILENO), STDERR_FILENO);
}

static int setup(void **state)
{
	x = (struct fixture){
		.loop = net_loop_new(),
		.settings = {.connect_timeout_us = 200 * MS,
	                 .answer_timeout_us = 100 * MS,
	                 .backoff_min_us = 10 * MS,
	                 .backoff_max_us = 40 * MS},
		.server = {.timeline = 3, .system = SYSTEM, .commit = "on"},
		.node = {.name = "a", .host = "127.0.0.1", .user = "watcher", .database = "postgres"},
	};
	x.guard = net_timer_new(x.loop, on_guard, NULL);
	x.tick = net_timer_new(x.loop, on_tick, NULL);
	net_timer_start(x.tick, MS);
	net_loop_set_after(x.loop, check_until, NULL);
	server_start(&x.server);
	x.node.port = x.server.port;
	x.fetch = history_fetch_new(x.loop, &x.settings, on_history, &x);
	assert_non_null(x.fetch);
	log_to_file();
	return 0;
}

static int teardown(void **state)
{
	dup2(x.stderr_fd, STDERR_FILENO);
	close(x.stderr_fd);
	close(x.log_fd);
	history_fetch_free(x.fetch);
	net_timer_free(x.guard);
	net_timer_free(x.tick);
	net_loop_free(x.loop);
	server_stop(&x.server);
	return 0;
}

static bool known(void)
{
	return x.told > 0;
}

static bool something_logged(void)
{
	return logged()[0] != '\0';
}

static bool connection_ended(void)
{
	int n;
	WITH(x.server, n = x.server.fetches_ended);
	return n > 0;
}

/* ================= a good server ================= */

static void check_history(void)
{
	assert_true(x.history.known);
	assert_int_equal(x.history.timeline, 3);
	assert_int_equal(x.history.count, 2);
	assert_int_equal(x.history.past[0].timeline, 1);
	assert_true(x.history.past[0].left.lsn == 0x3000000);
	assert_true(history_fork(&x.history).lsn == 0x5000148);
}

static void fetch_tells_once_and_says_goodbye(void **state)
{
	start();
	assert_int_equal(x.told, 0);
	run_until(known);
	check_history();
	run_for(100 * MS);
	assert_int_equal(x.told, 1);
	assert_int_equal(fetches(), 1);
	assert_int_equal(x.server.farewells, 1);
	assert_int_equal(x.server.fetches_ended, 1);
	assert_string_equal(logged(), "");
}

static void fetch_takes_an_answer_that_comes_byte_by_byte(void **state)
{
	mood(HISTORY_DRIBBLE);
	start();
	run_until(known);
	check_history();
	assert_string_equal(logged(), "");
}

static bool known_twice(void)
{
	return x.told == 2;
}

static void fetch_may_be_started_anew_by_whom_it_tells(void **state)
{
	x.start_again = true;
	start();
	run_until(known_twice);
	check_history();
	assert_int_equal(fetches(), 2);
}

/* A history whose message has `size` bytes: the two lines and a long comment. */
static char *history_of_message_size(size_t size)
{
	size_t len = size - strlen("D....nn....00000003.history....");
	size_t lines = strlen(SERVER_HISTORY);
	char *text = malloc(len + 1);
	assert_non_null(text);
	memcpy(text, SERVER_HISTORY, lines);
	memset(text + lines, '#', len - lines);
	text[len - 1] = '\n';
	text[len] = '\0';
	return text;
}

static void fetch_takes_64_kilobytes_and_not_a_byte_more(void **state)
{
	char *fits = history_of_message_size(65536), *too_long = history_of_message_size(65537);
	WITH(x.server, x.server.history = too_long);
	start();
	run_until(something_logged);
	assert_non_null(strstr(logged(), "malformed or too long"));
	run_for(100 * MS);
	assert_int_equal(x.told, 0);
	WITH(x.server, x.server.history = fits);
	run_until(known);
	check_history();
	free(fits);
	free(too_long);
}

/* ================= a bad one ================= */

#define NOT_ONE "it is not a history of timeline 3"

static void fetch_believes_no_bad_answer_and_says_what_was_wrong(void **state)
{
	static const struct {
		enum history_mood mood;
		const char *why;
	} rows[] = {
		{HISTORY_NOT_PERMITTED, "must be replication role (42501)"},
		{HISTORY_NO_HBA_LINE, "no pg_hba.conf entry for replication (28000)"},
		{HISTORY_SILENT_LOGIN, "no answer to the login within 200 ms"},
		{HISTORY_SILENT, "no answer within 100 ms"},
		{HISTORY_HANG_UP, "the server closed the connection"},
		{HISTORY_CUT_MESSAGE, "no answer within 100 ms"},
		{HISTORY_CUT_TEXT, NOT_ONE},
		{HISTORY_NO_FILE, "could not open file (58P01)"},
		{HISTORY_OTHER_SYSTEM, "another server answers there: system identifier 42, timeline 3"},
		{HISTORY_OTHER_TIMELINE,
	     "another server answers there: system identifier "
	     "10735877889513766750, timeline 4"},
		{HISTORY_NULL_IDENTITY, "malformed answer to IDENTIFY_SYSTEM"},
		{HISTORY_NO_IDENTITY, "an answer without a row"},
		{HISTORY_OTHER_NAME, NOT_ONE},
		{HISTORY_NULL_TEXT, NOT_ONE},
		{HISTORY_ONE_COLUMN, NOT_ONE},
		{HISTORY_NO_ROW, "an answer without a row"},
		{HISTORY_TWO_ROWS, "more than one row where one was expected"},
		{HISTORY_MALFORMED_ROW, NOT_ONE},
		{HISTORY_MALFORMED_ERROR, "malformed error message from the server"},
		{HISTORY_GARBAGE, "the server sent a message that is malformed or too long"},
		{HISTORY_OVERSIZED, "the server sent a message that is malformed or too long"},
		{HISTORY_UNASKED, "unexpected message of type 0x57 from the server"},
		{HISTORY_IN_TRANSACTION, "the server is in a transaction after a replication command"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char expected[512];
		(void)snprintf(
			expected, sizeof(expected),
			"WARN timeline 3 of node=a: its history cannot be read (%s); tokens and "
			"stored sessions will not be trusted, their reads go to the primary; %s\n",
			rows[i].why,
			rows[i].mood == HISTORY_NOT_PERMITTED || rows[i].mood == HISTORY_NO_HBA_LINE
				? "give role \"watcher\" REPLICATION and pg_hba.conf a line for replication"
				: "retrying");
		mood(rows[i].mood);
		start();
		run_until(something_logged);
		assert_non_null(strstr(logged(), expected));
		/* It recovers by itself. */
		mood(HISTORY_GOOD);
		assert_int_equal(x.told, 0);
		run_until(known);
		check_history();
		assert_int_equal(lines_logged(), 1);
		x.told = 0;
		assert_int_equal(ftruncate(x.log_fd, 0), 0);
	}
}

static void fetch_refuses_a_text_that_is_no_history(void **state)
{
	static const char *const texts[] = {
		"",
		"\n",
		"# nothing but a comment\n",
		"good morning\n",
		"1\t0/3000000\tx\n3\t0/5000148\tx\n",
		"2\t0/5000148\tx\n1\t0/3000000\tx\n",
		"1\t0/\tx\n",
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		WITH(x.server, x.server.history = texts[i]);
		start();
		run_until(something_logged);
		assert_non_null(strstr(logged(), NOT_ONE));
		assert_int_equal(x.told, 0);
		history_fetch_stop(x.fetch);
		/* Another target, or the same words would not be said again. */
		history_fetch_start(x.fetch, &x.node, NODE_ROLE_PRIMARY, SYSTEM_NUMBER, 2);
		history_fetch_stop(x.fetch);
		assert_int_equal(ftruncate(x.log_fd, 0), 0);
	}
}

/* One try: until the server sees the connection end. */
static void try_once(void)
{
	WITH(x.server, x.server.fetches_ended = 0);
	start();
	run_until(connection_ended);
	history_fetch_stop(x.fetch);
}

static void fetch_believes_no_answer_that_is_cut_off_anywhere(void **state)
{
	size_t cut = 0;
	mood(HISTORY_CUT_AT);
	do {
		WITH(x.server, x.server.cut_at = cut++);
		try_once();
	} while (x.told == 0 && cut < 1000);
	assert_int_equal(cut - 1, x.server.answer_len);
	check_history();
}

/* What comes of a changed digit cannot be told from the truth; all else is refused, or is the same
 * history. */
static void fetch_survives_every_flipped_bit(void **state)
{
	int known_ones = 0, refused = 0;
	history_fetch_free(x.fetch);
	x.settings.answer_timeout_us = 5 * MS;
	x.fetch = history_fetch_new(x.loop, &x.settings, on_history, &x);
	assert_non_null(x.fetch);
	mood(HISTORY_FLIP);
	try_once();
	for (size_t bit = 0; bit < x.server.answer_len * 8; bit += 3) {
		x.told = 0;
		WITH(x.server, x.server.flip_bit = bit);
		try_once();
		if (x.told == 0) {
			refused++;
			continue;
		}
		known_ones++;
		assert_true(x.history.known && x.history.timeline == 3);
		assert_in_range(x.history.count, 1, 2);
	}
	assert_true(known_ones > 100 && refused > 100);
}

static void fetch_says_why_it_cannot_connect(void **state)
{
	char expected[128];
	struct server nobody = {0};
	server_start(&nobody);
	server_stop(&nobody);
	x.node.port = nobody.port;
	start();
	run_until(something_logged);
	(void)snprintf(expected, sizeof(expected),
	               "(cannot connect to 127.0.0.1 port %d: connection refused)", nobody.port);
	assert_non_null(strstr(logged(), expected));
	run_for(100 * MS);
	assert_int_equal(lines_logged(), 1);
}

/* ================= trying again ================= */

static bool tried_five_times(void)
{
	return fetches() >= 5;
}

static void fetch_backs_off_up_to_a_limit_and_complains_once(void **state)
{
	mood(HISTORY_NOT_PERMITTED);
	int64_t before_us = net_now_us();
	start();
	run_until(tried_five_times);
	/* 10 + 20 + 40 + 40 */
	assert_true(net_now_us() - before_us >= 110 * MS);
	int tries = fetches();
	run_for(400 * MS);
	/* Every 40 ms, not less often: without the limit there would be two. */
	assert_in_range(fetches(), tries + 5, tries + 11);
	assert_int_equal(lines_logged(), 1);

	/* The same trouble after a loss of the primary is the same trouble, … */
	start();
	tries = fetches();
	run_for(100 * MS);
	assert_true(fetches() > tries);
	assert_int_equal(lines_logged(), 1);
	/* … another trouble or another timeline is not. */
	mood(HISTORY_NO_HBA_LINE);
	run_for(100 * MS);
	assert_int_equal(lines_logged(), 2);
	history_fetch_start(x.fetch, &x.node, NODE_ROLE_PRIMARY, SYSTEM_NUMBER, 4);
	run_for(100 * MS);
	assert_int_equal(lines_logged(), 3);
}

static bool asked(void)
{
	return fetches() > 0;
}

static void fetch_that_is_stopped_hangs_up_and_is_silent(void **state)
{
	static const enum history_mood moods[] = {HISTORY_SILENT_LOGIN, HISTORY_SILENT,
	                                          HISTORY_NOT_PERMITTED};
	/* Connecting: nobody hears of it. */
	start();
	history_fetch_stop(x.fetch);
	history_fetch_stop(x.fetch);
	run_for(50 * MS);
	assert_int_equal(fetches(), 0);
	for (size_t i = 0; i < sizeof(moods) / sizeof(moods[0]); i++) {
		WITH(x.server, x.server.fetches = x.server.fetches_ended = 0);
		mood(moods[i]);
		start();
		run_until(asked);
		run_for(20 * MS); /* the question is out, or the back-off has begun */
		history_fetch_stop(x.fetch);
		run_for(5 * MS);
		int tries = fetches();
		run_until(connection_ended);
		mood(HISTORY_GOOD);
		run_for(150 * MS);
		assert_int_equal(fetches(), tries);
		assert_int_equal(x.told, 0);
	}
}

int main(void)
{
#define each(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		each(fetch_tells_once_and_says_goodbye),
		each(fetch_takes_an_answer_that_comes_byte_by_byte),
		each(fetch_may_be_started_anew_by_whom_it_tells),
		each(fetch_takes_64_kilobytes_and_not_a_byte_more),
		each(fetch_believes_no_bad_answer_and_says_what_was_wrong),
		each(fetch_refuses_a_text_that_is_no_history),
		each(fetch_believes_no_answer_that_is_cut_off_anywhere),
		each(fetch_survives_every_flipped_bit),
		each(fetch_says_why_it_cannot_connect),
		each(fetch_backs_off_up_to_a_limit_and_complains_once),
		each(fetch_that_is_stopped_hangs_up_and_is_silent),
	};
	log_set_level(LOG_LEVEL_WARN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
