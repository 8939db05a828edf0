/* SPDX-License-Identifier: PostgreSQL
 *
 * Where a transaction may begin, and when it moves: verdicts over units that are cut from a client's
 * bytes. Nothing is connected; node 0 is the primary, node 1 the replica.
 */
#include "proxy/transaction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proxy/worker.h"
#include "sql/begin.h"

static struct worker *w;
static struct settings settings;
static struct database db;
static struct account account;
static struct client c;
static struct server replica;
static struct buf bytes;

static int setup(void **state)
{
	classify_thread_init();
	w = calloc(1, sizeof(*w));
	settings = (struct settings){.max_packet_size = 1 << 20,
	                             .split_transactions = SPLIT_READ_COMMITTED};
	w->settings = &settings;
	w->last_primary = NODE_NONE;
	vars_table_init(&w->vars);
	fleet_init(&w->fleet, 1000000);
	fleet_node_add(&w->fleet, slice_str("p"));
	fleet_node_add(&w->fleet, slice_str("a"));
	fleet_node_up(&w->fleet, 0, NODE_ROLE_PRIMARY, 1, net_now_us());
	db = (struct database){.worker = w, .catalog = catalog_new(100)};
	catalog_load_begin(db.catalog);
	catalog_load_add(db.catalog, slice_str("harmless"), false);
	catalog_load_add(db.catalog, slice_str("~offers"), true);
	catalog_load_commit(db.catalog);
	db.cache = stmt_cache_new(db.catalog, 64, 64);
	memset(&account, 0, sizeof(account));
	account.database = &db;
	account.pools[0].isolation = ISOLATION_READ_COMMITTED;
	memset(&replica, 0, sizeof(replica));
	replica.worker = w;
	replica.on_replica = true;
	replica.pool = &account.pools[1];
	memset(&c, 0, sizeof(c));
	c.worker = w;
	c.account = &account;
	c.vars = vars_ref(w->vars.none);
	buf_init(&bytes, 1 << 16);
	return 0;
}

static int teardown(void **state)
{
	client_stmts_clear(&c.stmts, db.cache);
	vars_put(&w->vars, c.vars);
	stmt_cache_free(db.cache);
	catalog_free(db.catalog);
	vars_table_release(&w->vars);
	buf_release(&bytes);
	free(w);
	return 0;
}

/* One Query; or, with "|" between its statements, a batch of the extended protocol. */
static struct unit cut(const char *text)
{
	struct unit u;
	buf_reset(&bytes);
	if (!strchr(text, '|')) {
		write_query(&bytes, slice_str(text));
	} else {
		for (const char *from = text; *from;) {
			size_t len = strcspn(from, "|");
			write_parse(&bytes, (struct slice){0}, slice_of(from, len), (struct slice){0});
			write_bind_plain(&bytes, (struct slice){0}, (struct slice){0}, 0);
			write_execute(&bytes, (struct slice){0});
			from += len + (from[len] == '|');
		}
		write_sync(&bytes);
	}
	assert_int_equal(unit_scan(&c, buf_slice(&bytes), false, &u), PARSE_OK);
	return u;
}

/* ---- where it begins ---- */

static const struct {
	const char *begin, *first;
	enum route_reason objection; /* REASON_COUNT: none */
} beginnings[] = {
	{"BEGIN", "SELECT * FROM t", REASON_COUNT},
	{"START TRANSACTION", "SELECT 1; SELECT 2", REASON_COUNT},
	{"BEGIN ISOLATION LEVEL READ COMMITTED", "SELECT 1", REASON_COUNT},
	{"BEGIN ISOLATION LEVEL READ UNCOMMITTED", "SELECT 1", REASON_COUNT},
	{"BEGIN READ ONLY", "SELECT now()", REASON_COUNT},
	{"BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ", "SELECT 1", REASON_COUNT},
	{"BEGIN READ WRITE", "SELECT 1", REASON_TRANSACTION},
	{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1", REASON_TRANSACTION},
	{"BEGIN ISOLATION LEVEL SERIALIZABLE", "SELECT 1", REASON_TRANSACTION},
	{"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "SELECT 1", REASON_TRANSACTION},
	{"BEGIN", "UPDATE t SET a = 1", REASON_WRITE},
	{"BEGIN", "SELECT 1 FOR UPDATE", REASON_LOCKING},
	{"BEGIN", "SELECT nextval('s')", REASON_UNSAFE_FUNCTION},
	{"BEGIN", "SET LOCAL work_mem = '1MB'", REASON_UTILITY},
	{"BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", REASON_TRANSACTION},
	{"BEGIN", "LOCK TABLE t", REASON_LOCKING},
	{"BEGIN", "SAVEPOINT a", REASON_TRANSACTION},
	{"BEGIN", "COMMIT AND CHAIN", REASON_TRANSACTION},
	{"BEGIN", "DECLARE k CURSOR FOR SELECT 1", REASON_TRANSACTION},
	/* What shows a time does so where it will stay. */
	{"BEGIN", "SELECT now()", REASON_TRANSACTION},
	{"BEGIN", "SELECT CURRENT_DATE", REASON_TRANSACTION},
	{"BEGIN", "SELECT * FROM t WHERE d < LOCALTIMESTAMP", REASON_TRANSACTION},
	{"BEGIN", "SELECT CURRENT_USER", REASON_COUNT},
	{"BEGIN", "SELECT clock_timestamp()", REASON_TRANSACTION},
	{"BEGIN", "SELECT age(d) FROM t", REASON_TRANSACTION},
	{"BEGIN", "SELECT harmless()", REASON_TRANSACTION},
	{"BEGIN", "SELECT * FROM offers", REASON_TRANSACTION},
	{"BEGIN", "SELECT 'today'::date", REASON_TRANSACTION},
	{"BEGIN", "SELECT '2020-01-01'::date", REASON_COUNT},
	{"BEGIN", "SELECT d::date FROM t", REASON_TRANSACTION},
	{"BEGIN", "SELECT * FROM t WHERE d = 'now'", REASON_TRANSACTION},
	{"BEGIN", "SELECT * FROM t WHERE d = 'then'", REASON_COUNT},
	{"BEGIN", "SELECT * FROM unlisted", REASON_COUNT},
	/* In one batch, and in one text. */
	{NULL, "BEGIN|SELECT 1|", REASON_COUNT},
	{NULL, "BEGIN|SELECT 1|COMMIT|", REASON_COUNT},
	{NULL, "BEGIN|SELECT 1|UPDATE t SET a = 1|COMMIT|", REASON_WRITE},
	{NULL, "BEGIN|SELECT now()|", REASON_TRANSACTION},
	{NULL, "BEGIN READ WRITE|SELECT 1|", REASON_TRANSACTION},
	{NULL, "BEGIN|", REASON_TRANSACTION},
};

static void a_transaction_begins_on_a_replica_only_with_a_plain_timeless_read(void **state)
{
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
		c.hold = HOLD_NONE;
		if (beginnings[i].begin) {
			struct unit held = cut(beginnings[i].begin);
			assert_int_equal(transaction_controls(c.hold, held.traits), HOLD_HELD);
			transaction_control(&c, held.traits);
			unit_release(&c, &held);
		}
		struct unit u = cut(beginnings[i].first);
		enum route_reason r = transaction_objection(&c, &u, transaction_begins(&c, &u));
		if (r != beginnings[i].objection)
			fail_msg("%s, %s: %s", beginnings[i].begin ? beginnings[i].begin : "",
			         beginnings[i].first, r == REASON_COUNT ? "none" : route_reason_name(r));
		unit_release(&c, &u);
	}
}

/* Two texts of one shape share their traits, but not their literals. */
static void literals_of_one_shape_are_told_apart(void **state)
{
	c.hold = HOLD_HELD;
	c.begin = BEGIN_PLAIN;
	static const char *const texts[] = {"SELECT * FROM t WHERE d = 'a'", "SELECT * FROM t WHERE d = 'now'",
	                                    "SELECT * FROM t WHERE d = 'b'"};
	for (int i = 0; i < 3; i++) {
		struct unit u = cut(texts[i]);
		assert_int_equal(u.shows_time, i == 1);
		unit_release(&c, &u);
	}
}

static enum route_reason objection_to(const char *begin)
{
	struct unit u = cut(begin);
	transaction_control(&c, u.traits);
	unit_release(&c, &u);
	u = cut("SELECT 1");
	enum route_reason r = transaction_objection(&c, &u, transaction_begins(&c, &u));
	unit_release(&c, &u);
	c.hold = HOLD_NONE;
	return r;
}

static void set_isolation(const char *sql)
{
	struct vars *set = vars_with(&w->vars, w->vars.none, "default_transaction_isolation", slice_str(sql));
	vars_put(&w->vars, c.vars);
	c.vars = set;
}

static void the_level_by_default_has_to_be_known(void **state)
{
	assert_int_equal(objection_to("BEGIN"), REASON_COUNT);
	account.pools[0].isolation = ISOLATION_UNKNOWN;
	assert_int_equal(objection_to("BEGIN"), REASON_TRANSACTION);
	assert_int_equal(objection_to("BEGIN ISOLATION LEVEL READ COMMITTED"), REASON_COUNT);
	account.pools[0].isolation = ISOLATION_OTHER;
	assert_int_equal(objection_to("BEGIN"), REASON_TRANSACTION);
	/* The client's own word counts for more. */
	set_isolation("SET default_transaction_isolation TO 'read committed'");
	assert_int_equal(objection_to("BEGIN"), REASON_COUNT);
	account.pools[0].isolation = ISOLATION_READ_COMMITTED;
	set_isolation("SET default_transaction_isolation = 'repeatable read'");
	assert_int_equal(objection_to("BEGIN"), REASON_TRANSACTION);
	set_isolation("SET default_transaction_isolation = serializable");
	assert_int_equal(objection_to("BEGIN"), REASON_TRANSACTION);
}

static void one_odd_server_is_enough_to_doubt_the_default(void **state)
{
	account.odd_isolation_count = 1;
	assert_int_equal(objection_to("BEGIN"), REASON_TRANSACTION);
	assert_int_equal(objection_to("BEGIN ISOLATION LEVEL READ COMMITTED"), REASON_COUNT);
}

static void without_a_primary_nothing_is_split_by_default(void **state)
{
	fleet_node_lost(&w->fleet, 0, net_now_us());
	assert_int_equal(objection_to("BEGIN"), REASON_TRANSACTION);
}

static void off_is_off_and_a_client_may_say_otherwise(void **state)
{
	settings.split_transactions = SPLIT_OFF;
	assert_int_equal(objection_to("BEGIN"), REASON_TRANSACTION);
	assert_int_equal(objection_to("BEGIN READ ONLY"), REASON_COUNT);
	struct client_options o = {.has_split = true, .split = SPLIT_READ_COMMITTED};
	c.options = &o;
	assert_int_equal(objection_to("BEGIN"), REASON_COUNT);
	settings.split_transactions = SPLIT_READ_COMMITTED;
	o.split = SPLIT_OFF;
	assert_int_equal(objection_to("BEGIN"), REASON_TRANSACTION);
	c.options = NULL;
}

/* ---- on the replica ---- */

static const struct {
	const char *statement;
	enum transaction_next split, read_only, snapshot; /* READ COMMITTED twice; REPEATABLE READ */
} moves[] = {
	{"SELECT 1", TRANSACTION_ASKS, TRANSACTION_ASKS, TRANSACTION_STAYS},
	{"SELECT 1|SELECT 2|", TRANSACTION_ASKS, TRANSACTION_ASKS, TRANSACTION_STAYS},
	{"", TRANSACTION_STAYS, TRANSACTION_STAYS, TRANSACTION_STAYS},
	{"COMMIT", TRANSACTION_STAYS, TRANSACTION_STAYS, TRANSACTION_STAYS},
	{"ROLLBACK", TRANSACTION_STAYS, TRANSACTION_STAYS, TRANSACTION_STAYS},
	{"SELECT 1|COMMIT|", TRANSACTION_ASKS, TRANSACTION_ASKS, TRANSACTION_STAYS},
	{"COMMIT AND CHAIN", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_MOVES},
	{"UPDATE t SET a = 1", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_STAYS},
	{"SELECT 1|UPDATE t SET a = 1|", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_STAYS},
	{"SELECT 1 FOR SHARE", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_STAYS},
	{"SAVEPOINT a", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_STAYS},
	{"SET LOCAL work_mem = '1MB'", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_STAYS},
	{"SHOW work_mem", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_STAYS},
	{"LISTEN a", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_FAILS},
	{"SELECT now()", TRANSACTION_MOVES, TRANSACTION_ASKS, TRANSACTION_STAYS},
	{"SELECT * FROM t WHERE d = 'now'", TRANSACTION_MOVES, TRANSACTION_ASKS, TRANSACTION_STAYS},
	{"SELECT harmless()", TRANSACTION_MOVES, TRANSACTION_ASKS, TRANSACTION_STAYS},
	{"DECLARE k CURSOR FOR SELECT 1", TRANSACTION_MOVES, TRANSACTION_ASKS, TRANSACTION_STAYS},
	{"SELECT", TRANSACTION_ASKS, TRANSACTION_ASKS, TRANSACTION_STAYS},
	{"SELEC", TRANSACTION_MOVES, TRANSACTION_MOVES, TRANSACTION_STAYS},
};

static void expect_move(size_t i, const char *what, enum transaction_next expected)
{
	struct unit u = cut(moves[i].statement);
	enum transaction_next next = transaction_next(&c, &u);
	if (next != expected)
		fail_msg("%s: %s: %d", what, moves[i].statement, next);
	unit_release(&c, &u);
}

static void what_moves_a_transaction_and_what_does_not(void **state)
{
	c.server = &replica;
	replica.replies.tx = TX_OPEN;
	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
		replica.pinned = false;
		c.begin = BEGIN_PLAIN | BEGIN_READ_COMMITTED;
		expect_move(i, "split", moves[i].split);
		c.begin = BEGIN_PLAIN | BEGIN_READ_ONLY;
		expect_move(i, "read only", moves[i].read_only);
		replica.pinned = true;
		expect_move(i, "snapshot", moves[i].snapshot);
	}
	c.server = NULL;
}

/* It was switched off while it is there: what it may not do holds on. */
static void a_split_transaction_stays_one(void **state)
{
	settings.split_transactions = SPLIT_OFF;
	c.server = &replica;
	c.begin = BEGIN_PLAIN | BEGIN_READ_COMMITTED;
	replica.replies.tx = TX_OPEN;
	struct unit u = cut("SELECT * FROM t WHERE d = 'now'");
	assert_int_equal(transaction_next(&c, &u), TRANSACTION_MOVES);
	unit_release(&c, &u);
	c.server = NULL;
}

static void a_failed_one_ends_where_it_is(void **state)
{
	c.server = &replica;
	c.begin = BEGIN_PLAIN | BEGIN_READ_COMMITTED;
	replica.replies.tx = TX_FAILED;
	static const char *const texts[] = {"ROLLBACK", "SELECT now()", "UPDATE t SET a = 1"};
	for (int i = 0; i < 3; i++) {
		struct unit u = cut(texts[i]);
		assert_int_equal(transaction_next(&c, &u), TRANSACTION_STAYS);
		unit_release(&c, &u);
	}
	c.server = NULL;
}

/* The primary it moves to may have another default by then. */
static void the_level_goes_along(void **state)
{
	struct unit u = cut("SELECT 1");
	c.hold = HOLD_HELD;
	c.begin = BEGIN_PLAIN;
	replica.isolation = ISOLATION_OTHER;
	replica.replies.tx = TX_IDLE;
	transaction_sent(&c, &replica, &u);
	assert_int_equal(c.begin, BEGIN_PLAIN | BEGIN_READ_COMMITTED);
	assert_false(replica.pinned);
	unit_release(&c, &u);
}

static void only_a_transaction_that_has_read_has_begun_before(void **state)
{
	replica.replies.tx = TX_OPEN;
	transaction_ready(&c, &replica, TX_OPEN);
	assert_true(c.begun_before);
	transaction_ready(&c, &replica, TX_IDLE);
	assert_false(c.begun_before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_transaction_begins_on_a_replica_only_with_a_plain_timeless_read),
		TEST(literals_of_one_shape_are_told_apart),
		TEST(the_level_by_default_has_to_be_known),
		TEST(one_odd_server_is_enough_to_doubt_the_default),
		TEST(without_a_primary_nothing_is_split_by_default),
		TEST(off_is_off_and_a_client_may_say_otherwise),
		TEST(what_moves_a_transaction_and_what_does_not),
		TEST(a_split_transaction_stays_one),
		TEST(a_failed_one_ends_where_it_is),
		TEST(the_level_goes_along),
		TEST(only_a_transaction_that_has_read_has_begun_before),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
