/* SPDX-License-Identifier: PostgreSQL
 *
 * The queues of one pool, made by hand: nothing connects, and nobody reads. The pool of node 0, the
 * primary, has four connections, of which two are idle; fallback_pool_share lets two reads in.
 */
#include "proxy/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "proxy/worker.h"

#define CLIENTS 6

static struct worker *w;
static struct settings settings;
static struct database db;
static struct catalog *catalog;
static struct account account;
static struct pool *p;
static struct server servers[4];
static struct client clients[CLIENTS];

static int setup(void **state)
{
	w = calloc(1, sizeof(*w));
	w->loop = net_loop_new();
	settings = (struct settings){.fallback_pool_share = 50, .max_pool_waiting = 3};
	w->settings = &settings;
	w->last_primary = NODE_NONE;
	list_init(&w->runnable);
	fleet_init(&w->fleet, 1000000);
	fleet_node_add(&w->fleet, slice_str("p"));
	fleet_node_add(&w->fleet, slice_str("a"));
	fleet_node_up(&w->fleet, 0, NODE_ROLE_PRIMARY, 1, net_now_us());
	catalog = catalog_new(10);
	db = (struct database){.worker = w, .pool_size = 4, .catalog = catalog};
	memset(&account, 0, sizeof(account));
	account.database = &db;
	p = &account.pools[0];
	p->account = &account;
	list_init(&p->idle);
	list_init(&p->busy);
	list_init(&p->waiting);
	list_init(&p->held);
	memset(servers, 0, sizeof(servers));
	for (int i = 0; i < 4; i++) {
		servers[i].state = i < 2 ? SERVER_IDLE : SERVER_ACTIVE;
		list_push_back(i < 2 ? &p->idle : &p->busy, &servers[i].link);
	}
	p->idle_count = p->busy_count = 2;
	memset(clients, 0, sizeof(clients));
	for (int i = 0; i < CLIENTS; i++) {
		clients[i].worker = w;
		clients[i].account = &account;
		list_init(&clients[i].queue);
	}
	return 0;
}

static int teardown(void **state)
{
	net_loop_free(w->loop);
	catalog_free(catalog);
	free(w);
	return 0;
}

static enum pool_answer read_by(int i)
{
	struct server *s = NULL;
	return pool_acquire_fallback(p, &clients[i], &s);
}

static enum pool_answer write_by(int i)
{
	struct server *s = NULL;
	return pool_acquire(p, &clients[i], &s);
}

static bool woken(int i)
{
	for (struct list *it = w->runnable.next; it != &w->runnable; it = it->next) {
		if (it == &clients[i].queue)
			return true;
	}
	return false;
}

static void reads_over_their_share_are_held_and_writes_pass(void **state)
{
	db.pool_size = 2; /* one place */
	assert_int_equal(read_by(0), POOL_TAKEN);
	assert_int_equal(read_by(1), POOL_QUEUED);
	assert_true(clients[1].held && p->held_count == 1 && p->waiting_count == 0);
	assert_int_equal(p->idle_count, 1);
	assert_int_equal(write_by(2), POOL_TAKEN);
}

static void a_place_that_comes_free_goes_to_the_first_in_line(void **state)
{
	assert_int_equal(read_by(0), POOL_TAKEN);
	assert_int_equal(read_by(1), POOL_TAKEN);
	assert_int_equal(read_by(2), POOL_QUEUED);
	assert_int_equal(read_by(3), POOL_QUEUED);
	assert_int_equal(p->fallback_count, 2);
	pool_dismiss(&clients[0]);
	assert_true(woken(2) && !woken(3));
	/* The place is kept for it: somebody who comes now does not take it. */
	assert_int_equal(p->fallback_count, 2);
	assert_int_equal(read_by(4), POOL_QUEUED);
	assert_true(clients[4].held);
	assert_int_equal(read_by(2), POOL_QUEUED);
	assert_true(!clients[2].held && p->waiting_count == 1);
	/* Leaving gives it away, whatever it was doing. */
	pool_leave_queue(&clients[2]);
	pool_dismiss(&clients[2]);
	assert_true(woken(3));
	pool_dismiss(&clients[2]);
	assert_int_equal(p->fallback_count, 2);
}

static void a_held_read_that_leaves_takes_no_place(void **state)
{
	read_by(0);
	read_by(1);
	read_by(2);
	pool_leave_queue(&clients[2]);
	pool_dismiss(&clients[2]);
	assert_int_equal(p->held_count, 0);
	assert_int_equal(p->fallback_count, 2);
	pool_dismiss(&clients[0]);
	pool_dismiss(&clients[1]);
	assert_int_equal(p->fallback_count, 0);
	assert_false(woken(2));
}

/* It timed out: its own queue is the worker's by now, and it is resumed later. */
static void a_held_read_that_was_woken_otherwise_is_passed_over(void **state)
{
	for (int i = 0; i < 4; i++)
		read_by(i);
	worker_make_runnable(w, &clients[2]);
	pool_dismiss(&clients[0]);
	assert_true(woken(3));
	pool_dismiss(&clients[1]);
	assert_int_equal(p->held_count, 1);
	pool_leave_queue(&clients[2]);
	assert_int_equal(p->held_count, 0);
	assert_int_equal(p->fallback_count, 1);
}

static void the_queue_has_one_limit_for_all(void **state)
{
	read_by(0);
	read_by(1); /* no idle server is left */
	assert_int_equal(read_by(2), POOL_QUEUED);
	assert_int_equal(read_by(3), POOL_QUEUED);
	assert_int_equal(write_by(4), POOL_QUEUED);
	assert_int_equal(read_by(5), POOL_FULL);
	assert_int_equal(write_by(5), POOL_FULL);
	assert_null(clients[5].fallback_of);
	assert_int_equal(p->held_count + p->waiting_count, settings.max_pool_waiting);
}

static void without_a_limit_or_without_replicas_nobody_is_held(void **state)
{
	settings.fallback_pool_share = 100;
	read_by(0);
	read_by(1);
	read_by(2);
	assert_false(clients[2].held);
	settings.fallback_pool_share = 1;
	read_by(3);
	assert_true(clients[3].held);
	w->fleet.nodes[1].health.weight = 0;
	settings.max_pool_waiting = 9;
	pool_leave_queue(&clients[3]);
	read_by(3);
	assert_false(clients[3].held);
}

/* Nobody is kept waiting for a place where there is nothing to have. */
static void a_pool_that_is_down_holds_nobody(void **state)
{
	list_init(&p->idle);
	list_init(&p->busy);
	p->idle_count = p->busy_count = 0;
	p->retry_at_us = net_now_us() + 10000000;
	p->fallback_count = 2;
	assert_int_equal(read_by(0), POOL_DOWN);
	assert_null(clients[0].fallback_of);
}

static void who_goes_to_another_pool_gives_its_place_away(void **state)
{
	struct server *s;
	struct pool *other = &account.pools[1];
	*other = (struct pool){.account = &account, .node = 1, .retry_at_us = INT64_MAX};
	list_init(&other->idle);
	list_init(&other->busy);
	list_init(&other->waiting);
	list_init(&other->held);
	w->fleet.nodes[0].health.weight = 1;
	read_by(0);
	read_by(1);
	read_by(2);
	assert_int_equal(pool_acquire_fallback(other, &clients[0], &s), POOL_DOWN);
	assert_true(woken(2));
	assert_int_equal(p->fallback_count, 2);
}

/* Four idle servers, in this order. */
static void idle_of(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t users[] = {a, b, c, d};
	list_init(&p->idle);
	list_init(&p->busy);
	for (int i = 0; i < 4; i++) {
		servers[i] = (struct server){.state = SERVER_IDLE, .sequence_user = users[i]};
		list_push_back(&p->idle, &servers[i].link);
	}
	p->idle_count = 4;
	p->busy_count = 0;
}

static int taken_by(int i)
{
	struct server *s = NULL;
	return pool_acquire(p, &clients[i], &s) == POOL_TAKEN ? (int)(s - servers) : -1;
}

static void a_connection_is_kept_for_who_advanced_its_sequences(void **state)
{
	clients[0].serial = 7;
	clients[1].serial = 8;
	idle_of(8, 0, 7, UINT64_MAX);
	assert_int_equal(taken_by(0), 0); /* nobody has asked for them yet */
	account.asks_sequences = true;
	idle_of(8, 0, 7, UINT64_MAX);
	assert_int_equal(taken_by(0), 2);
	assert_int_equal(taken_by(0), 1);
	assert_int_equal(taken_by(0), 3);
	assert_int_equal(taken_by(0), 0); /* there is no other */
}

static void rather_than_take_a_kept_one_the_pool_grows_and_then_takes_the_oldest(void **state)
{
	account.asks_sequences = true;
	idle_of(8, 9, 10, 11);
	db.pool_size = 5;
	p->retry_at_us = INT64_MAX; /* it cannot */
	assert_int_equal(taken_by(0), 3);
	/* Who was granted one waits no longer. */
	clients[1].granted = p;
	p->retry_at_us = 0;
	assert_int_equal(taken_by(1), 2);
}

static void who_has_gone_keeps_nothing(void **state)
{
	for (int i = 1; i < FLEET_NODES_MAX; i++)
		list_init(&account.pools[i].idle);
	account.asks_sequences = true;
	idle_of(8, 9, 8, 9);
	account_forget_sequences(&account, 9);
	assert_int_equal(servers[0].sequence_user, 8);
	assert_int_equal(servers[1].sequence_user, UINT64_MAX);
	assert_int_equal(servers[3].sequence_user, UINT64_MAX);
	account.asks_sequences = false;
}

static void the_catalog_too_may_ask_for_sequences(void **state)
{
	assert_false(account_asks_sequences(&account));
	catalog_load_begin(catalog);
	assert_true(catalog_load_add(catalog, slice_str("%"), true) && catalog_load_commit(catalog));
	assert_true(account_asks_sequences(&account));
	/* DDL: until it is read again. */
	catalog_invalidate(catalog);
	assert_true(account_asks_sequences(&account));
	catalog_load_begin(catalog);
	assert_true(catalog_load_commit(catalog));
	assert_false(account_asks_sequences(&account));
}

/* The pool is full, and one more connection is on its way. */
static void who_wants_an_unused_connection_waits_for_it_and_holds_nobody_up(void **state)
{
	idle_of(0, 0, 0, 0);
	list_remove(&servers[3].link);
	list_push_back(&p->busy, &servers[3].link);
	servers[3].state = SERVER_CONNECTING;
	p->idle_count = 3;
	p->busy_count = 1;
	servers[0].used = servers[1].used = true;
	servers[2].serial = 4; /* older than the client */
	clients[0].serial = 5;
	clients[0].wants_unused = true;
	assert_int_equal(write_by(0), POOL_QUEUED);
	assert_int_equal(p->idle_count, 3);
	assert_int_equal(taken_by(1), 0);
	pool_kick(p);
	assert_false(woken(0));
	servers[2].serial = 6;
	pool_kick(p);
	assert_true(woken(0));
	assert_int_equal(taken_by(0), 2);
	/* None can be had: any will do. */
	clients[2].wants_unused = true;
	p->retry_at_us = INT64_MAX;
	assert_int_equal(taken_by(2), 1);
}

int main(void)
{
#define each(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		each(reads_over_their_share_are_held_and_writes_pass),
		each(a_place_that_comes_free_goes_to_the_first_in_line),
		each(a_held_read_that_leaves_takes_no_place),
		each(a_held_read_that_was_woken_otherwise_is_passed_over),
		each(the_queue_has_one_limit_for_all),
		each(without_a_limit_or_without_replicas_nobody_is_held),
		each(a_pool_that_is_down_holds_nobody),
		each(who_goes_to_another_pool_gives_its_place_away),
		each(a_connection_is_kept_for_who_advanced_its_sequences),
		each(rather_than_take_a_kept_one_the_pool_grows_and_then_takes_the_oldest),
		each(who_has_gone_keeps_nothing),
		each(the_catalog_too_may_ask_for_sequences),
		each(who_wants_an_unused_connection_waits_for_it_and_holds_nobody_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
