/* SPDX-License-Identifier: PostgreSQL */
#include "pgwire/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "pgwire/message.h"

static struct replies r;

static int setup(void **state)
{
	r = (struct replies){0};
	return 0;
}

static int teardown(void **state)
{
	replies_release(&r);
	return 0;
}

static void push_to(uint8_t kind, uint8_t to, uint8_t bits)
{
	assert_true(replies_push(&r, (struct reply){.kind = kind, .to = to, .bits = bits}));
}

/* "PBES": an entry for each letter. */
static void sent(const char *letters)
{
	static const char all[] = "PBDECSQF";
	for (; *letters; letters++)
		push_to((uint8_t)(REPLY_PARSE + (strchr(all, *letters) - all)), REPLY_CLIENT, 0);
}

static struct reply_step got(uint8_t type)
{
	static const uint8_t idle[] = {TX_IDLE};
	struct frame f = {.type = type, .body_len = 0, .body = idle};
	if (type == BE_READY)
		f.body_len = 1;
	return replies_step(&r, &f);
}

static void expect(const char *types, enum reply_verdict verdict)
{
	for (; *types; types++) {
		if (got((uint8_t)*types).verdict != verdict)
			fail_msg("'%c' is judged otherwise", *types);
	}
}

static void drop_voided(struct reply_step step)
{
	for (uint32_t i = 0; i < step.voided; i++)
		replies_pop(&r);
}

static void a_batch_is_answered_in_order(void **state)
{
	sent("PBDES");
	assert_false(replies_at_rest(&r));
	expect("12tTDDCZ", REPLY_STEP_FORWARD);
	assert_int_equal(r.count, 0);
	assert_true(replies_at_rest(&r));
}

static void answers_nobody_asked_for_are_invalid(void **state)
{
	expect("123TnDCIsZGHWdcVE?", REPLY_STEP_INVALID);
	sent("P");
	expect("23TnDCIsZGHdcV?", REPLY_STEP_INVALID);
	sent("S");
	expect("1", REPLY_STEP_FORWARD);
	expect("1CD", REPLY_STEP_INVALID);
}

static void the_routers_own_are_swallowed(void **state)
{
	push_to(REPLY_PARSE, REPLY_QUIET, 0);
	push_to(REPLY_BIND, REPLY_NOBODY, 0);
	push_to(REPLY_SYNC, REPLY_NOBODY, 0);
	expect("12Z", REPLY_STEP_SWALLOW);
	push_to(REPLY_PARSE, REPLY_QUIET, 0);
	push_to(REPLY_SYNC, REPLY_CLIENT, 0);
	struct reply_step step = got(BE_ERROR);
	assert_int_equal(step.verdict, REPLY_STEP_FORWARD);
	drop_voided(step);
	expect("Z", REPLY_STEP_FORWARD);
}

static void an_error_voids_everything_up_to_sync(void **state)
{
	sent("PBQPBESPS");
	expect("1", REPLY_STEP_FORWARD);
	struct reply_step step = got(BE_ERROR);
	assert_int_equal(step.voided, 5); /* the query before the Sync is skipped as well */
	assert_true(r.failed);
	drop_voided(step);
	expect("Z1Z", REPLY_STEP_FORWARD);
	assert_false(r.failed);
	assert_true(replies_at_rest(&r));
}

static void the_error_of_a_query_voids_nothing(void **state)
{
	sent("QPS");
	assert_int_equal(got(BE_ERROR).voided, 0);
	expect("Z1Z", REPLY_STEP_FORWARD);
	assert_true(replies_at_rest(&r));
}

static void what_no_sync_was_sent_for_is_open(void **state)
{
	sent("Q");
	assert_false(r.open);
	sent("PB");
	assert_true(r.open);
	sent("Q");
	assert_true(r.open);
	sent("S");
	assert_false(r.open);
}

static void copy_in_takes_earlier_syncs_back(void **state)
{
	sent("BE");
	push_to(REPLY_SYNC, REPLY_CLIENT, 5);
	expect("2", REPLY_STEP_FORWARD);
	struct reply_step step = got(BE_COPY_IN);
	assert_int_equal(step.verdict, REPLY_STEP_FORWARD);
	assert_int_equal(step.inherited, 5);
	assert_int_equal(r.copy, COPY_IN);
	assert_int_equal(r.count, 1);
	assert_true(r.open);
	replies_copy_ends(&r);
	assert_int_equal(r.copy, COPY_NONE);
	sent("S");
	expect("CZ", REPLY_STEP_FORWARD);
	assert_true(replies_at_rest(&r));
}

static void a_copy_that_was_ended_in_advance_keeps_its_sync(void **state)
{
	sent("BES");
	replies_copy_ends(&r);
	push_to(REPLY_SYNC, REPLY_CLIENT, 9);
	expect("2G", REPLY_STEP_FORWARD);
	assert_int_equal(r.copy, COPY_NONE);
	assert_int_equal(r.count, 2);
	assert_int_equal(replies_at(&r, 1)->bits, 9);
	expect("CZ", REPLY_STEP_FORWARD);
	assert_true(replies_at_rest(&r));
}

static void a_query_may_copy_both_ways(void **state)
{
	sent("Q");
	expect("G", REPLY_STEP_FORWARD);
	expect("d", REPLY_STEP_INVALID);
	expect("C", REPLY_STEP_FORWARD);
	expect("H", REPLY_STEP_FORWARD);
	assert_int_equal(r.copy, COPY_OUT);
	expect("ddcCZ", REPLY_STEP_FORWARD);
	assert_true(replies_at_rest(&r));
}

static void the_ring_grows_and_is_bounded(void **state)
{
	for (uint32_t i = 0; i < REPLIES_MAX; i++) {
		assert_true(replies_push(&r, (struct reply){.kind = REPLY_CLOSE, .size = i}));
		if (i % 3 == 0 && i < 1000) {
			struct reply e = replies_pop(&r);
			assert_int_equal(e.size, i / 3);
		}
	}
	while (r.count < REPLIES_MAX)
		sent("C");
	assert_false(replies_push(&r, (struct reply){.kind = REPLY_CLOSE}));
	expect("3", REPLY_STEP_FORWARD);
	sent("S");
	assert_int_equal(r.count, REPLIES_MAX);
}

/* What passes is only forwarded: for every message, entry and COPY state. */
static void what_passes_the_tracker_would_forward_and_forget(void **state)
{
	int passed = 0;
	for (int kind = REPLY_PARSE; kind <= REPLY_FUNCTION; kind++) {
		for (int n = 0; n < 256 * 4 * 4; n++) {
			uint8_t type = (uint8_t)(n & 255), to = n >> 8 & 3, copy = (uint8_t)(n >> 10);
			if (to == REPLY_LOCAL)
				continue;
			setup(state);
			push_to((uint8_t)kind, to, 7);
			r.copy = copy;
			struct replies before = r;
			if (replies_passes(&r, type)) {
				struct reply_step step = got(type);
				assert_int_equal(step.verdict, REPLY_STEP_FORWARD);
				assert_true(!step.completed && step.voided == 0 && step.inherited == 0);
				assert_memory_equal(&r, &before, sizeof(r));
				passed++;
			}
			teardown(state);
		}
	}
	/* Rows of two kinds and descriptions of one in each state; tags outside COPY. */
	assert_int_equal(passed, 3 * 4 + 1);
	assert_false(replies_passes(&r, BE_DATA_ROW));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_batch_is_answered_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_nobody_asked_for_are_invalid, setup, teardown),
		cmocka_unit_test_setup_teardown(the_routers_own_are_swallowed, setup, teardown),
		cmocka_unit_test_setup_teardown(an_error_voids_everything_up_to_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(the_error_of_a_query_voids_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(what_no_sync_was_sent_for_is_open, setup, teardown),
		cmocka_unit_test_setup_teardown(copy_in_takes_earlier_syncs_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_copy_that_was_ended_in_advance_keeps_its_sync, setup,
	                                    teardown),
		cmocka_unit_test_setup_teardown(what_passes_the_tracker_would_forward_and_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(a_query_may_copy_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(the_ring_grows_and_is_bounded, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
