/* SPDX-License-Identifier: PostgreSQL
 *
 * A fleet by hand, time by hand: p (primary), a and b (replicas). Both start at 100, sampled at 10.
 */
#include "proxy/observe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { P, A, B };
#define MAX_SHAPES 16
#define MAX_PENDING 4
#define SECOND 1000000

static struct fleet f;
static struct session_mark s;
static struct observe *o;
static struct observe_totals t;
static const struct route_policy policy = {.level = LEVEL_SESSION, .wait_timeout_us = 1000};

static void sample(int node, uint64_t lsn, int64_t started_us)
{
	assert_true(fleet_node_sampled(&f, node, (struct position){lsn}, started_us, started_us + 1));
	observe_judge(o, &f, started_us + 1);
}

static int setup(void **state)
{
	memset(&s, 0, sizeof(s));
	o = observe_new(MAX_SHAPES, MAX_PENDING);
	fleet_init(&f, 10 * SECOND);
	fleet_node_add(&f, slice_str("p"));
	fleet_node_add(&f, slice_str("a"));
	fleet_node_add(&f, slice_str("b"));
	fleet_node_up(&f, P, NODE_ROLE_PRIMARY, 1, 1);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 1);
	fleet_node_up(&f, B, NODE_ROLE_REPLICA, 1, 1);
	for (int node = P; node <= B; node++)
		sample(node, 100, 10);
	return o ? 0 : -1;
}

static int teardown(void **state)
{
	observe_free(o);
	return 0;
}

/* The next naive read goes to the other one of the two. */
static struct route read_text(const char *text, int64_t now_us)
{
	struct route r = observe_decide(&f, &s, &policy, now_us);
	observe_read(o, &f, &s, &r, "app", slice_str(text), now_us);
	session_observed_read(&s, &f, NULL, 0, now_us);
	observe_totals(o, &t);
	return r;
}

static struct route read_at(int64_t now_us)
{
	return read_text("SELECT 1", now_us);
}

static void write_at(uint64_t lsn, int64_t now_us)
{
	session_wrote(&s, &f, (struct position){lsn}, now_us, now_us);
}

static void naive_is(uint64_t fresh, uint64_t stale, uint64_t undecided, int pending)
{
	observe_totals(o, &t);
	assert_int_equal(t.all.fresh, fresh);
	assert_int_equal(t.all.stale, stale);
	assert_int_equal(observe_undecided(&t.all) - (uint64_t)t.pending, undecided);
	assert_int_equal(t.pending, pending);
}

static const struct observe_row *row(int at)
{
	static struct observe_row copy;
	int count;
	const struct observe_row **rows = observe_rows(o, &count);
	assert_true(at < count);
	copy = *rows[at];
	free((void *)rows);
	return &copy;
}

/* ---- where it would have gone ---- */

static void everything_goes_to_the_primary_and_says_what_else_it_would(void **state)
{
	struct route r = read_at(20);
	assert_int_equal(r.target, ROUTE_PRIMARY);
	assert_int_equal(r.reason, REASON_OBSERVED);
	assert_int_equal(r.would, ROUTE_REPLICA);
	assert_int_equal(r.would_reason, REASON_REPLICA_FRESH);
	write_at(200, 30);
	assert_int_equal(read_at(31).would, ROUTE_WAIT);
	const struct route_policy hasty = {.level = LEVEL_SESSION};
	r = observe_decide(&f, &s, &hasty, 32);
	assert_int_equal(r.would, ROUTE_PRIMARY);
	assert_int_equal(r.would_reason, REASON_TOO_FAR_BEHIND);
	assert_int_equal(t.all.would[ROUTE_REPLICA], 1);
	assert_int_equal(t.all.would[ROUTE_WAIT], 1);
	assert_int_equal(t.all.by_reason[REASON_WAIT_REPLICA], 1);
}

static void a_read_at_level_strong_is_none_to_observe(void **state)
{
	const struct route_policy strong = {.level = LEVEL_STRONG};
	assert_int_equal(observe_decide(&f, &s, &strong, 20).reason, REASON_STRONG);
}

/* The primary shows more at each read, and no replica has it: still nobody waits. */
static void what_the_primary_showed_does_not_bind_later_reads(void **state)
{
	for (int i = 0; i < 10; i++) {
		sample(P, 200 + (uint64_t)i, 20 + i * 10);
		assert_int_equal(read_at(25 + i * 10).would, ROUTE_REPLICA);
	}
	naive_is(10, 0, 0, 0);
}

/* … but a read that routing sends there would have bound the session to what it saw there. */
static void a_read_that_routing_sends_to_the_primary_binds_the_next(void **state)
{
	const struct route_policy hasty = {.level = LEVEL_SESSION};
	write_at(200, 20);
	struct route r = observe_decide(&f, &s, &hasty, 21);
	assert_int_equal(r.would, ROUTE_PRIMARY);
	observe_read(o, &f, &s, &r, "app", slice_str("SELECT 1"), 21);
	sample(A, 210, 30);
	sample(B, 210, 30);
	/* They have its write, but what it saw on the primary is not known yet. */
	assert_int_equal(observe_decide(&f, &s, &hasty, 40).would_reason, REASON_MARK_UNKNOWN);
	sample(P, 220, 50);
	assert_int_equal(observe_decide(&f, &s, &hasty, 60).would_reason, REASON_TOO_FAR_BEHIND);
	sample(A, 220, 70);
	r = observe_decide(&f, &s, &hasty, 80);
	assert_int_equal(r.would, ROUTE_REPLICA);
	assert_int_equal(r.would_node, A);
}

static void a_routed_read_binds_the_session_to_what_its_replica_had(void **state)
{
	sample(A, 300, 20);
	f.nodes[B].outstanding = 1;
	assert_int_equal(read_at(30).would_node, A);
	fleet_node_lost(&f, A, 40);
	assert_int_equal(read_at(50).would, ROUTE_WAIT);
	sample(B, 300, 60);
	assert_int_equal(read_at(70).would_node, B);
}

/* ---- split naively ---- */

static void a_replica_known_to_be_there_is_fresh_at_once(void **state)
{
	read_at(20);
	read_at(21);
	write_at(100, 30);
	read_at(31);
	naive_is(3, 0, 0, 0);
	assert_int_equal(observe_awaited(o, &f), 0);
}

static void stale_is_only_what_a_sample_started_after_the_read_shows(void **state)
{
	write_at(200, 20);
	read_at(30);
	naive_is(0, 0, 0, 1);
	assert_int_equal(observe_awaited(o, &f), 1 << A);
	sample(B, 150, 40); /* another one is no witness */
	sample(A, 150, 30); /* nor one that may have been asked before */
	naive_is(0, 0, 0, 1);
	sample(A, 150, 31);
	naive_is(0, 1, 0, 0);
	assert_int_equal(row(0)->n.stale, 1);
}

static void a_replica_that_got_there_between_the_samples_is_undecided(void **state)
{
	write_at(200, 20);
	read_at(30);
	sample(A, 200, 31);
	naive_is(0, 0, 1, 0);
	assert_int_equal(observe_undecided(&row(0)->n), 1);
}

static void replicas_take_turns(void **state)
{
	write_at(200, 20);
	sample(A, 200, 25);
	for (int i = 0; i < 4; i++)
		read_at(30 + i);
	naive_is(2, 0, 0, 2);
	sample(B, 100, 40);
	naive_is(2, 2, 0, 0);
	fleet_node_lost(&f, A, 50);
	read_at(60);
	assert_int_equal(observe_awaited(o, &f), 1 << B);
	fleet_node_lost(&f, B, 70);
	observe_judge(o, &f, 71);
	read_at(80); /* nobody to split to */
	naive_is(2, 2, 2, 0);
}

/* A shows 300; then it is the turn of B, which is behind. */
static void a_read_that_goes_back_in_time_is_stale_without_a_write(void **state)
{
	sample(A, 300, 20);
	read_at(30);
	naive_is(1, 0, 0, 0);
	read_at(31);
	sample(B, 290, 40);
	naive_is(1, 1, 0, 0);
}

static void what_is_owed_is_known_with_the_primarys_sample(void **state)
{
	session_wrote_unknown(&s, &f, 20);
	read_at(30);
	assert_int_equal(observe_awaited(o, &f), 1 << P | 1 << A);
	sample(A, 150, 31);
	assert_int_equal(observe_awaited(o, &f), 1 << P);
	/* Not the last sample counts, but the first after the read. */
	sample(A, 500, 35);
	naive_is(0, 0, 0, 1);
	sample(P, 400, 40);
	naive_is(0, 1, 0, 0);

	session_wrote_unknown(&s, &f, 50);
	read_at(60); /* B */
	sample(P, 400, 70);
	naive_is(0, 1, 0, 1);
	sample(B, 400, 71);
	naive_is(0, 1, 1, 0);

	sample(A, 600, 80);
	sample(B, 600, 80);
	session_wrote_unknown(&s, &f, 90);
	read_at(100);
	sample(P, 450, 110);
	naive_is(1, 1, 1, 0);
}

static void what_cannot_be_told_in_a_second_stays_undecided(void **state)
{
	write_at(200, 20);
	read_at(30);
	observe_judge(o, &f, 30 + SECOND - 1);
	naive_is(0, 0, 0, 1);
	observe_judge(o, &f, 30 + SECOND);
	naive_is(0, 0, 1, 0);
}

static void a_lost_witness_tells_nothing(void **state)
{
	write_at(200, 20);
	read_at(30);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 1, 40);
	sample(A, 90, 50);
	naive_is(0, 0, 1, 0);
	read_at(60);
	fleet_node_lost(&f, P, 70);
	fleet_node_up(&f, A, NODE_ROLE_PRIMARY, 2, 80);
	sample(B, 100, 90);
	naive_is(0, 0, 2, 0);
}

static void a_new_primary_voids_what_was_seen(void **state)
{
	sample(A, 300, 20);
	read_at(30);
	assert_int_equal(s.observed.naive.lsn, 300);
	fleet_node_lost(&f, P, 40);
	static const struct history second = {
		.known = true, .timeline = 2, .count = 1, .past = {{1, {150}}}};
	fleet_node_up(&f, B, NODE_ROLE_PRIMARY, 2, 50);
	fleet_node_up(&f, A, NODE_ROLE_REPLICA, 2, 50);
	assert_true(fleet_node_history(&f, B, &second, f.nodes[B].at, 50));
	assert_true(fleet_node_history(&f, A, &second, f.nodes[A].at, 50));
	sample(A, 200, 60);
	assert_int_equal(read_at(70).would_reason, REASON_WAIT_SAMPLE);
	assert_int_equal(s.observed.routed.lsn, 0);
	sample(B, 250, 80);
	assert_int_equal(read_at(90).would_reason, REASON_WAIT_REPLICA);
	sample(A, 250, 100);
	assert_int_equal(read_at(110).would, ROUTE_REPLICA);
}

/* ---- limits ---- */

static void a_full_queue_leaves_reads_undecided(void **state)
{
	write_at(200, 20);
	for (int i = 0; i < MAX_PENDING + 3; i++)
		read_at(30);
	naive_is(0, 0, 3, MAX_PENDING);
	sample(A, 100, 40);
	sample(B, 100, 40);
	naive_is(0, MAX_PENDING, 3, 0);
	read_at(50);
	naive_is(0, MAX_PENDING, 3, 1);
}

static void no_queue_at_all_is_a_limit_too(void **state)
{
	observe_free(o);
	o = observe_new(MAX_SHAPES, 0);
	read_at(20);
	write_at(200, 30);
	read_at(40);
	naive_is(1, 0, 1, 0);
}

static void read_shape(int number, int64_t now_us)
{
	char text[64];
	snprintf(text, sizeof(text), "SELECT * FROM t%d WHERE id = 7", number);
	read_text(text, now_us);
}

static void a_full_table_counts_the_least_read_among_the_others(void **state)
{
	int64_t now = 100;
	for (int i = 0; i < MAX_SHAPES; i++) {
		for (int n = 0; n < (i == 3 ? 1 : 2); n++)
			read_shape(i, now++);
	}
	assert_int_equal(t.shapes, MAX_SHAPES);
	assert_int_equal(t.evicted, 0);
	read_shape(100, now++);
	assert_int_equal(t.evicted, 1);
	assert_int_equal(t.others.reads, 1);
	for (int i = 0; i < 1000; i++)
		read_shape(200 + i, now++);
	assert_int_equal(t.shapes, MAX_SHAPES);
	assert_int_equal(t.evicted, 1001);
	uint64_t sum = t.others.reads, fresh = t.others.fresh;
	for (int i = 0; i < MAX_SHAPES; i++) {
		sum += row(i)->n.reads;
		fresh += row(i)->n.fresh;
		/* One row changes hands; those that were read twice stay. */
		assert_true(i == MAX_SHAPES - 1 || row(i)->n.reads == 2);
	}
	assert_int_equal(sum, 2 * MAX_SHAPES - 1 + 1001);
	assert_int_equal(sum, t.all.reads);
	assert_int_equal(fresh, t.all.fresh);
	assert_int_equal(t.others.would[ROUTE_REPLICA], t.others.reads);
}

/* Its row belongs to another shape by the time it is judged. */
static void a_verdict_follows_an_evicted_shape(void **state)
{
	write_at(200, 20);
	read_shape(0, 30);
	for (int i = 1; i < MAX_SHAPES + 1; i++) {
		read_shape(i, 30 + i);
		read_shape(i, 30 + i);
	}
	assert_int_equal(t.evicted, 1);
	sample(A, 100, 100);
	sample(B, 100, 100);
	observe_totals(o, &t);
	assert_int_equal(t.others.stale, 1);
	assert_int_equal(t.all.stale, MAX_PENDING);
	uint64_t sum = t.others.stale;
	for (int i = 0; i < MAX_SHAPES; i++)
		sum += row(i)->n.stale;
	assert_int_equal(sum, MAX_PENDING);
}

/* ---- texts ---- */

static void texts_of_one_shape_are_one_row(void **state)
{
	read_text("SELECT a FROM t WHERE id = 1 AND v = 'x'", 20);
	read_text("/* c */ SELECT a FROM t WHERE id = 42 AND v = 'it''s'", 21);
	assert_int_equal(t.shapes, 1);
	assert_string_equal(row(0)->shape, "SELECT a FROM t WHERE id = ? AND v = ?");
	assert_string_equal(row(0)->database, "app");
	struct route r = observe_decide(&f, &s, &policy, 22);
	observe_read(o, &f, &s, &r, "other", slice_str("SELECT a FROM t WHERE id = 1 AND v = 'x'"), 22);
	observe_totals(o, &t);
	assert_int_equal(t.shapes, 2);
}

static void shown_texts_are_one_line_and_valid(void **state)
{
	read_text(
		"SELECT\n\t \"gr\xc3\xb6\xc3\x9f"
		"e\"  FROM t",
		20);
	assert_string_equal(row(0)->shape,
	                    "SELECT \"gr\xc3\xb6\xc3\x9f"
	                    "e\" FROM t");
	teardown(state);
	setup(state);
	read_text("SELECT \xff\xc3 \xed\xa0\x80 \xc0\xaf x", 20);
	assert_string_equal(row(0)->shape, "SELECT ?? ??? ?? x");
}

static void long_texts_are_cut_and_told_apart(void **state)
{
	static char text[3 * 16 * 1024];
	memset(text, 'x', sizeof(text) - 1);
	memcpy(text, "SELECT ", 7);
	text[1000] = '\0';
	read_text(text, 20);
	text[999] = 'y';
	read_text(text, 21);
	assert_int_equal(t.shapes, 2);
	size_t len = strlen(row(0)->shape);
	assert_int_equal(len, OBSERVE_TEXT_CHARS + 3);
	assert_string_equal(row(0)->shape + len - 3, "…");
	/* Beyond what the statement cache blanks, the beginning counts. */
	text[1000] = 'x';
	read_text(text, 22);
	text[sizeof(text) - 2] = 'z';
	read_text(text, 23);
	assert_int_equal(t.shapes, 3);
}

static void a_text_of_wide_characters_is_cut_between_them(void **state)
{
	char text[600] = "";
	for (int i = 0; i < 140; i++)
		memcpy(&text[i * 4], "\xf0\x9f\x8c\x8a", 4);
	read_text(text, 20);
	const char *shape = row(0)->shape;
	size_t len = strlen(shape);
	assert_true(len < OBSERVE_TEXT_MAX);
	assert_int_equal((len - 3) % 4, 0);
	assert_string_equal(shape + len - 3, "…");
}

static void rows_come_by_staleness_then_by_reads(void **state)
{
	read_shape(1, 20);
	for (int i = 0; i < 3; i++)
		read_shape(2, 21 + i);
	write_at(200, 30);
	read_shape(3, 31);
	sample(A, 100, 40);
	sample(B, 100, 40);
	assert_string_equal(row(0)->shape, "SELECT * FROM t3 WHERE id = ?");
	assert_string_equal(row(1)->shape, "SELECT * FROM t2 WHERE id = ?");
	assert_string_equal(row(2)->shape, "SELECT * FROM t1 WHERE id = ?");
}

static void nothing_is_known_before_the_first_read(void **state)
{
	int count = -1;
	assert_null(observe_rows(o, &count));
	assert_int_equal(count, 0);
	assert_null(observe_rows(NULL, &count));
	observe_totals(NULL, &t);
	assert_int_equal(t.all.reads, 0);
}

int main(void)
{
#define each(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		each(everything_goes_to_the_primary_and_says_what_else_it_would),
		each(a_read_at_level_strong_is_none_to_observe),
		each(what_the_primary_showed_does_not_bind_later_reads),
		each(a_read_that_routing_sends_to_the_primary_binds_the_next),
		each(a_routed_read_binds_the_session_to_what_its_replica_had),
		each(a_replica_known_to_be_there_is_fresh_at_once),
		each(stale_is_only_what_a_sample_started_after_the_read_shows),
		each(a_replica_that_got_there_between_the_samples_is_undecided),
		each(replicas_take_turns),
		each(a_read_that_goes_back_in_time_is_stale_without_a_write),
		each(what_is_owed_is_known_with_the_primarys_sample),
		each(what_cannot_be_told_in_a_second_stays_undecided),
		each(a_lost_witness_tells_nothing),
		each(a_new_primary_voids_what_was_seen),
		each(a_full_queue_leaves_reads_undecided),
		each(no_queue_at_all_is_a_limit_too),
		each(a_full_table_counts_the_least_read_among_the_others),
		each(a_verdict_follows_an_evicted_shape),
		each(texts_of_one_shape_are_one_row),
		each(shown_texts_are_one_line_and_valid),
		each(long_texts_are_cut_and_told_apart),
		each(a_text_of_wide_characters_is_cut_between_them),
		each(rows_come_by_staleness_then_by_reads),
		each(nothing_is_known_before_the_first_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
