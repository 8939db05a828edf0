/* SPDX-License-Identifier: PostgreSQL
 *
 *   AWAY ──▶ LOGIN ──▶ (NAMING) ──▶ PAUSE ⇄ BUSY
 *    ▲                                        │ any failure of the connection
 *    └────────────────────────────────────────┘
 */
#include "model_client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../demo/history.h"
#include "model_pg.h"
#include "pgwire/message.h"

#define ROUTER_PORT 6432
#define CONNECT_LIMIT_US 5000000
#define AWAY_MAX_US 200000
#define NAMED_SESSIONS 2
#define BUFFER_MAX (256 * 1024)

enum client_state { AWAY, LOGIN, NAMING, PAUSE, BUSY };
enum operation { OP_READ, OP_WRITE, OP_TRANSACTION, OP_BLOCK };
/*
 *   BEGIN ──▶ (READ) ──▶ UPDATE ──▶ COMMIT
 *     ╰──────────┴──────────┴── failed ──▶ UNDO
 */
enum round { ROUND_BEGIN, ROUND_READ, ROUND_UPDATE, ROUND_COMMIT, ROUND_UNDO };
/* Of the last round; before and after it there are none. */
enum errand { ERRAND_NONE, ERRAND_WRITE, ERRAND_READ, ERRAND_DONE };

struct model_client {
	struct clients *all;
	int number;
	size_t session;
	enum client_state state;
	enum errand errand;
	struct net_stream *stream;
	struct net_timer *timer; /* the pause; or the limit */
	struct buf in, out;
	/* What runs. */
	enum operation operation;
	uint32_t began_on; /* the timeline of the primary then */
	int key;
	enum round round; /* of a transaction: what runs */
	bool reads_first; /* … it reads what it is going to write */
	struct history_view view;
	uint64_t age; /* clients.age when it began */
	bool answered, failed;
	uint64_t version;
};

struct clients {
	struct client_settings settings;
	struct client_counts counts;
	struct net_loop *loop;
	struct history history;
	struct ledger ledger;
	bool resting, judging;
	uint64_t age; /* of what the checker knows */
	struct model_client it[];
};

static void on_timer(void *arg);
static void on_stream(void *owner, unsigned events);

/* ================= sending ================= */

static void flush(struct model_client *c)
{
	struct slice s = buf_slice(&c->out);
	if (s.len > 0) {
		ssize_t n = net_stream_write(c->stream, s.ptr, s.len);
		/* A broken stream is readable, too: the loss is noticed there. */
		buf_consume(&c->out, n > 0 ? (size_t)n : 0);
	}
	net_stream_want(c->stream, NET_READABLE | (c->out.len > 0 ? NET_WRITABLE : 0u));
}

static void send_simple(struct model_client *c, const char *sql)
{
	c->answered = c->failed = false;
	write_query(&c->out, slice_str(sql));
	flush(c);
}

static void send_either(struct model_client *c, const char *sql)
{
	if (sim_chance(50)) {
		send_simple(c, sql);
		return;
	}
	c->answered = c->failed = false;
	write_parse(&c->out, (struct slice){0}, slice_str(sql), (struct slice){0});
	write_bind_plain(&c->out, (struct slice){0}, (struct slice){0}, 0);
	write_execute(&c->out, (struct slice){0});
	write_sync(&c->out);
	flush(c);
}

/* A whole transaction in one Query. */
static void send_block(struct model_client *c)
{
	char sql[128];
	(void)snprintf(sql, sizeof(sql),
	               "BEGIN; UPDATE t SET v = v + 1 WHERE k = %d RETURNING v; COMMIT", c->key);
	send_simple(c, sql);
}

static void send_write(struct model_client *c)
{
	char sql[96];
	(void)snprintf(sql, sizeof(sql), "UPDATE t SET v = v + 1 WHERE k = %d RETURNING v", c->key);
	send_either(c, sql);
}

static void send_read(struct model_client *c)
{
	char sql[64];
	(void)snprintf(sql, sizeof(sql), "SELECT v FROM t WHERE k = %d", c->key);
	send_either(c, sql);
}

static void begin_transaction(struct model_client *c)
{
	c->reads_first = sim_chance(50);
	send_simple(c, "BEGIN");
}

static const char *const operation_names[] = {"read", "write", "transaction", "block"};

static void begin(struct model_client *c)
{
	const struct client_settings *s = &c->all->settings;
	c->state = BUSY;
	c->round = ROUND_BEGIN;
	c->reads_first = false;
	c->age = c->all->age;
	c->began_on = model_timeline(c->all->ledger.model);
	c->key = (int)sim_below(MODEL_KEYS);
	c->operation = OP_READ;
	if (c->errand == ERRAND_WRITE || (c->errand == ERRAND_NONE && sim_chance(s->write_percent)))
		c->operation = sim_chance(70) ? OP_WRITE : sim_chance(50) ? OP_TRANSACTION : OP_BLOCK;
	sim_trace("client %d: %s of %d", c->number, operation_names[c->operation], c->key);
	net_timer_start(c->timer, CLIENT_LIMIT_US);
	c->view = history_read_started(&c->all->history, c->session, (size_t)c->key);
	if (c->operation == OP_READ)
		send_read(c);
	else if (c->operation == OP_WRITE)
		send_write(c);
	else if (c->operation == OP_BLOCK)
		send_block(c);
	else
		begin_transaction(c);
}

/* ================= connecting ================= */

static void broke_protocol(struct model_client *c, const char *how)
{
	c->all->counts.protocol++;
	sim_trace("client %d: PROTOCOL: %s", c->number, how);
}

static void go_away(struct model_client *c)
{
	net_stream_close(c->stream);
	c->stream = NULL;
	buf_reset(&c->in);
	buf_reset(&c->out);
	c->state = AWAY;
	net_timer_start(c->timer, sim_between(0, AWAY_MAX_US));
}

static void dial(struct model_client *c)
{
	c->state = LOGIN;
	c->all->counts.connects++;
	if (c->all->settings.scope == SESSIONS_CONNECTION) {
		history_forget(&c->all->history, c->session);
		ledger_forget(&c->all->ledger, (int)c->session);
	}
	net_timer_start(c->timer, CLIENT_LIMIT_US);
	c->stream = net_connect(c->all->loop, "router", ROUTER_PORT, CONNECT_LIMIT_US, on_stream, c);
}

static void lost(struct model_client *c, const char *why)
{
	sim_trace("client %d: connection lost: %s", c->number, why);
	c->all->counts.errors++;
	/* The network went between the two: what the router sent last was on its way. */
	if (c->stream && net_stream_error(c->stream) && strcmp(why, net_stream_error(c->stream)) == 0)
		ledger_unheard(&c->all->ledger, (int)c->session);
	if (c->state == BUSY && c->operation != OP_READ)
		ledger_open(&c->all->ledger, (int)c->session);
	if (c->errand != ERRAND_NONE)
		broke_protocol(c, "lost in the last round, which nothing disturbs");
	go_away(c);
}

static void pause_now(struct model_client *c)
{
	c->state = PAUSE;
	net_timer_start(c->timer, sim_between(0, c->all->settings.pause_max_us));
}

/* ================= judging ================= */

static bool judged(struct model_client *c)
{
	bool yes = c->all->judging && c->age == c->all->age;
	c->all->counts.unjudged += !yes;
	return yes;
}

static void judge_read(struct model_client *c)
{
	struct client_counts *n = &c->all->counts;
	n->reads++;
	if (!judged(c))
		return;
	switch (history_read_ended(&c->all->history, c->session, (size_t)c->key, c->view, c->version)) {
	case HISTORY_OK:
		break;
	case HISTORY_STALE:
		n->stale++;
		sim_trace("client %d: STALE: read %llu, had written %llu", c->number,
		          (unsigned long long)c->version, (unsigned long long)c->view.written);
		break;
	case HISTORY_BACKWARD:
		n->backward++;
		sim_trace("client %d: BACKWARD: read %llu, had read %llu", c->number,
		          (unsigned long long)c->version, (unsigned long long)c->view.read);
		break;
	}
}

static void judge_write(struct model_client *c)
{
	struct client_counts *n = &c->all->counts;
	n->writes++;
	ledger_wrote(&c->all->ledger, (int)c->session, c->key, (uint32_t)c->version);
	/* The old primary may have said so, at a position further on than what the new one took over. */
	if (c->began_on != model_timeline(c->all->ledger.model))
		ledger_open(&c->all->ledger, (int)c->session);
	if (!judged(c))
		return;
	if (c->version <= c->view.written) {
		n->write_back++;
		sim_trace("client %d: WRITE BACK: wrote %llu after %llu", c->number,
		          (unsigned long long)c->version, (unsigned long long)c->view.written);
	} else if (c->version <= c->view.read) {
		n->not_follow++;
		sim_trace("client %d: NOT FOLLOWING: wrote %llu, had read %llu", c->number,
		          (unsigned long long)c->version, (unsigned long long)c->view.read);
	}
	history_wrote(&c->all->history, c->session, (size_t)c->key, c->version);
}

/* ================= answers ================= */

static void operation_ended(struct model_client *c)
{
	if (c->failed) {
		c->all->counts.errors++;
	} else {
		sim_trace("client %d: %s of %d: %llu", c->number, operation_names[c->operation], c->key,
		          (unsigned long long)c->version);
		if (c->operation == OP_READ)
			judge_read(c);
		else
			judge_write(c);
	}
	if (c->errand != ERRAND_NONE && !c->failed)
		c->errand++;
	pause_now(c);
}

static void enter_round(struct model_client *c, enum round round)
{
	c->round = round;
	if (round == ROUND_READ)
		send_read(c);
	else if (round == ROUND_UPDATE)
		send_write(c);
	else
		send_simple(c, round == ROUND_COMMIT ? "COMMIT" : "ROLLBACK");
}

/* What it writes has to follow what it has read. */
static void transaction_has_read(struct model_client *c)
{
	judge_read(c);
	c->view = history_read_started(&c->all->history, c->session, (size_t)c->key);
}

static void on_transaction_ready(struct model_client *c, uint8_t tx)
{
	enum round done = c->round;
	if (c->failed) {
		if ((done == ROUND_READ || done == ROUND_UPDATE) && tx != TX_IDLE)
			enter_round(c, ROUND_UNDO);
		else
			operation_ended(c);
		return;
	}
	switch (done) {
	case ROUND_BEGIN:
		enter_round(c, c->reads_first ? ROUND_READ : ROUND_UPDATE);
		break;
	case ROUND_READ:
		transaction_has_read(c);
		enter_round(c, ROUND_UPDATE);
		break;
	case ROUND_UPDATE:
		if (tx != TX_IDLE) {
			enter_round(c, ROUND_COMMIT);
			break;
		}
		c->failed = true;
		operation_ended(c);
		break;
	case ROUND_COMMIT:
	case ROUND_UNDO:
		c->failed = done == ROUND_UNDO;
		operation_ended(c);
		break;
	}
}

static void on_ready(struct model_client *c, uint8_t tx)
{
	char sql[64];
	switch (c->state) {
	case LOGIN:
		if (c->all->settings.scope != SESSIONS_NAMED) {
			pause_now(c);
			break;
		}
		c->state = NAMING;
		(void)snprintf(sql, sizeof(sql), "SET tidemark.session = 's%zu'", c->session);
		send_simple(c, sql);
		break;
	case NAMING:
		pause_now(c);
		break;
	case BUSY:
		if (c->operation == OP_TRANSACTION)
			on_transaction_ready(c, tx);
		else if (tx != TX_IDLE)
			lost(c, "a block has failed");
		else
			operation_ended(c);
		break;
	default:
		broke_protocol(c, "ReadyForQuery for nothing");
		break;
	}
}

static void on_error(struct model_client *c, struct slice body)
{
	struct error_fields e = {0};
	(void)msg_error_parse(body, &e);
	sim_trace("client %d: %.*s %.*s: %.*s", c->number, SLICE_ARG(e.severity), SLICE_ARG(e.sqlstate),
	          SLICE_ARG(e.message));
	c->failed = true;
	if (c->errand != ERRAND_NONE)
		broke_protocol(c, "an error in the last round, which nothing disturbs");
}

/* A session that several share may be told of the loss of a write before its writer has heard that it
 * was done. */
static bool write_under_way(const struct model_client *c)
{
	for (int i = 0; i < c->all->settings.count; i++) {
		const struct model_client *other = &c->all->it[i];
		if (other->session == c->session && other->state == BUSY && other->operation != OP_READ)
			return true;
	}
	return false;
}

static void on_notice(struct model_client *c, struct slice body)
{
	struct error_fields e = {0};
	if (!msg_error_parse(body, &e) || !slice_eq_str(e.sqlstate, "01000"))
		return;
	sim_trace("client %d: is told: %.*s", c->number, SLICE_ARG(e.message));
	c->all->counts.told++;
	if (!ledger_told(&c->all->ledger, (int)c->session) && !write_under_way(c)) {
		c->all->counts.told_of_nothing++;
		sim_trace("client %d: TOLD OF NO LOSS", c->number);
	}
}

static uint64_t number(struct slice text)
{
	uint64_t n = 0;
	for (size_t i = 0; i < text.len; i++)
		n = n * 10 + (text.ptr[i] - '0');
	return n;
}

static void on_message(struct model_client *c, const struct frame *f)
{
	struct slice value;
	switch (f->type) {
	case BE_DATA_ROW:
		if (c->answered || !msg_data_row_column(frame_body(f), 0, &value))
			broke_protocol(c, "a row too many");
		else
			c->version = number(value);
		c->answered = true;
		break;
	case BE_ERROR:
		on_error(c, frame_body(f));
		break;
	case BE_NOTICE:
		on_notice(c, frame_body(f));
		break;
	case BE_READY:
		on_ready(c, f->body[0]);
		break;
	default:
		break;
	}
}

static void on_readable(struct model_client *c)
{
	uint8_t *at = buf_reserve(&c->in, 4096);
	assert(at);
	ssize_t n = net_stream_read(c->stream, at, 4096);
	if (n == NET_AGAIN)
		return;
	if (n < 0) {
		lost(c, n == NET_EOF ? "closed" : net_stream_error(c->stream));
		return;
	}
	buf_commit(&c->in, (size_t)n);
	struct frame f;
	while (frame_peek(buf_slice(&c->in), &f) == PARSE_OK && frame_complete(&f, buf_slice(&c->in))) {
		size_t size = frame_size(&f);
		on_message(c, &f);
		if (c->state == AWAY)
			return;
		buf_consume(&c->in, size);
	}
}

static void on_stream(void *owner, unsigned events)
{
	struct model_client *c = owner;
	if (events & NET_FAILED) {
		lost(c, net_stream_error(c->stream));
		return;
	}
	if (events & NET_CONNECTED)
		write_startup(&c->out, slice_str("app"), slice_str("app"), (struct slice){0});
	flush(c);
	if (events & NET_READABLE)
		on_readable(c);
}

static void on_timer(void *arg)
{
	struct model_client *c = arg;
	bool idle = c->all->resting || c->errand == ERRAND_DONE;
	switch (c->state) {
	case AWAY:
		if (!idle)
			dial(c);
		break;
	case PAUSE:
		if (!idle)
			begin(c);
		break;
	default:
		c->all->counts.hangs++;
		sim_trace("client %d: HANGS", c->number);
		go_away(c);
		break;
	}
}

/* ================= all of them ================= */

static size_t session_of(const struct client_settings *s, int client)
{
	switch (s->scope) {
	case SESSIONS_CONNECTION:
		return (size_t)client;
	case SESSIONS_DATABASE:
		return 0;
	default:
		return (size_t)client % NAMED_SESSIONS;
	}
}

struct clients *clients_new(const struct client_settings *s, const struct model *m)
{
	struct clients *all = calloc(1, sizeof(*all) + (size_t)s->count * sizeof(all->it[0]));
	assert(all);
	all->settings = *s;
	all->loop = sim_loop_new("clients");
	all->judging = true;
	bool good = history_init(&all->history, (size_t)s->count, MODEL_KEYS);
	assert(good);
	ledger_init(&all->ledger, m, s->count);
	for (int i = 0; i < s->count; i++) {
		struct model_client *c = &all->it[i];
		c->all = all;
		c->number = i;
		c->session = session_of(s, i);
		buf_init(&c->in, BUFFER_MAX);
		buf_init(&c->out, BUFFER_MAX);
		c->timer = net_timer_new(all->loop, on_timer, c);
		net_timer_start(c->timer, sim_between(0, AWAY_MAX_US));
	}
	return all;
}

void clients_free(struct clients *all)
{
	for (int i = 0; i < all->settings.count; i++) {
		struct model_client *c = &all->it[i];
		net_stream_close(c->stream);
		net_timer_free(c->timer);
		buf_release(&c->in);
		buf_release(&c->out);
	}
	history_release(&all->history);
	ledger_release(&all->ledger);
	free(all);
}

const struct client_counts *clients_counts(const struct clients *all)
{
	return &all->counts;
}

void clients_rest(struct clients *all)
{
	all->resting = true;
}

bool clients_at_rest(const struct clients *all)
{
	for (int i = 0; i < all->settings.count; i++) {
		const struct model_client *c = &all->it[i];
		bool still = c->state == AWAY || c->state == PAUSE;
		if (!still || (!all->resting && c->errand != ERRAND_DONE))
			return false;
	}
	return true;
}

void clients_close(struct clients *all)
{
	all->resting = true;
	for (int i = 0; i < all->settings.count; i++)
		go_away(&all->it[i]);
}

void clients_last_round(struct clients *all)
{
	all->resting = false;
	for (int i = 0; i < all->settings.count; i++) {
		all->it[i].errand = ERRAND_WRITE;
		net_timer_start(all->it[i].timer, sim_between(0, AWAY_MAX_US));
	}
}

void clients_judge(struct clients *all, bool judge)
{
	all->judging = judge;
	all->age++;
	for (size_t i = 0; i < (size_t)all->settings.count; i++)
		history_forget(&all->history, i);
}

bool clients_judged(const struct clients *all)
{
	return all->judging;
}

struct ledger *clients_ledger(struct clients *all)
{
	return &all->ledger;
}

void clients_judge_losses(struct clients *all)
{
	int untold = all->settings.scope == SESSIONS_CONNECTION ? 0 : ledger_untold(&all->ledger);
	if (untold > 0)
		sim_trace("%d sessions were NOT TOLD of their loss", untold);
	all->counts.untold += (uint64_t)untold;
}
