/* SPDX-License-Identifier: PostgreSQL
 *
 * One connection of a model server (model_pg.h). Messages are taken one by one; a statement of the
 * workload takes its time, in steps:
 *
 *   RUN ──▶ (LOCK: another transaction holds the row) ──▶ ANSWER ──▶ FLUSH (a commit) ──▶ next
 * message
 *
 * What a read shows is decided at the end of RUN; the answer leaves at the end of ANSWER. As in
 * PostgreSQL, a backend whose client has gone finishes what it was sent.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "model_node.h"
#include "pgwire/message.h"

#define BUFFER_MAX (1024 * 1024)
#define PREPARED_MAX 64
#define UPDATE_TEXT "UPDATE t SET v = v + 1 WHERE k = "
#define BLOCK_BEGIN "BEGIN; "
#define WATCHER "watch"
#define READ_ONLY "25006"

enum statement_kind {
	ST_NONE,
	ST_LEARN,
	ST_POSITION,
	ST_VERIFY,
	ST_CATALOG,
	ST_INSERT_POSITION,
	ST_WRITE_POSITION,
	ST_CAPTURE_ANY,
	ST_REPLAYED,
	ST_IDENTIFY,
	ST_HISTORY,
	ST_BEGIN,
	ST_COMMIT,
	ST_ROLLBACK,
	ST_UNSEEN,
	ST_SELECT,
	ST_UPDATE,
	ST_SETTING,
};

struct statement {
	enum statement_kind kind;
	int number; /* key, or timeline */
	int pieces; /* ST_SETTING: how many statements */
	bool block; /* ST_UPDATE: between BEGIN and COMMIT, in one Query */
};

enum step { STEP_NONE, STEP_RUN, STEP_LOCK, STEP_ANSWER, STEP_FLUSH };

struct backend {
	struct list link;
	struct model_node *node;
	struct net_stream *stream; /* NULL: the client has gone */
	struct net_timer *timer;
	struct buf in, out;
	bool started, failed; /* failed: skips to Sync */
	bool welcomed;        /* its login is over */
	bool watcher;         /* of user WATCHER */
	char tx;
	enum step step;
	struct statement now, portal;
	bool simple; /* now came as a Query */
	bool binary;
	/* The transaction's change, if it has one; it holds that row. */
	bool changed;
	int key;
	uint32_t version;
	int commit_record;
	struct {
		char name[64];
		struct statement st;
	} prepared[PREPARED_MAX];
	int prepared_count;
};

static void work(struct backend *b);

/* ================= what is asked ================= */

static bool begins(struct slice text, const char *with)
{
	size_t n = strlen(with);
	return text.len >= n && memcmp(text.ptr, with, n) == 0;
}

static const struct {
	const char *text;
	enum statement_kind kind;
} known[] = {
	{"SELECT pg_is_in_recovery(), (SELECT system_identifier", ST_LEARN},
	{"SELECT pg_is_in_recovery(), CASE", ST_POSITION},
	{"SELECT (extract(epoch from pg_catalog.pg_postmaster_start_time())", ST_VERIFY},
	{"WITH RECURSIVE harmless", ST_CATALOG},
	{"SELECT pg_catalog.pg_current_wal_insert_lsn()", ST_INSERT_POSITION},
	{"SELECT pg_catalog.pg_current_wal_lsn()", ST_WRITE_POSITION},
	{"SELECT CASE WHEN pg_catalog.pg_is_in_recovery()", ST_CAPTURE_ANY},
	{"SELECT pg_catalog.pg_last_wal_replay_lsn()", ST_REPLAYED},
	{"SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d", ST_UNSEEN},
	{"IDENTIFY_SYSTEM", ST_IDENTIFY},
	{"TIMELINE_HISTORY ", ST_HISTORY},
	{BLOCK_BEGIN UPDATE_TEXT, ST_UPDATE},
	{"BEGIN", ST_BEGIN},
	{"COMMIT", ST_COMMIT},
	{"ROLLBACK", ST_ROLLBACK},
	{"SELECT v FROM t WHERE k = ", ST_SELECT},
	{UPDATE_TEXT, ST_UPDATE},
	{"SET ", ST_SETTING},
	{"RESET ", ST_SETTING},
	{"DISCARD ", ST_SETTING},
};

static int number_at(struct slice text, size_t at)
{
	int n = 0;
	for (; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9'; at++)
		n = n * 10 + (text.ptr[at] - '0');
	return n;
}

static struct statement understand(struct slice text)
{
	struct statement st = {.kind = ST_NONE, .pieces = 1};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!begins(text, known[i].text))
			continue;
		st.kind = known[i].kind;
		st.number = number_at(text, strlen(known[i].text));
		break;
	}
	for (size_t i = 0; i + 1 < text.len; i++)
		st.pieces += text.ptr[i] == ';';
	st.block = st.kind == ST_UPDATE && begins(text, BLOCK_BEGIN);
	if (st.kind == ST_NONE) {
		fprintf(stderr, "the model server does not know: %.*s\n", SLICE_ARG(text));
		abort();
	}
	return st;
}

/* ================= answers ================= */

static void ready(struct backend *b)
{
	write_ready(&b->out, (uint8_t)b->tx);
}

static void row(struct backend *b, const struct slice *values, int count)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
	if (b->simple)
		write_row_description(&b->out, names, count);
	write_data_row(&b->out, values, count);
	write_command_complete(&b->out, b->now.kind == ST_UPDATE ? "UPDATE 1" : "SELECT 1");
}

static void position_row(struct backend *b, const uint8_t *recovery, uint64_t at)
{
	uint8_t lsn[8];
	assert(b->binary);
	store_be32(lsn, (uint32_t)(at >> 32));
	store_be32(lsn + 4, (uint32_t)at);
	struct slice values[2] = {slice_of(recovery, 1), slice_of(lsn, sizeof(lsn))};
	row(b, recovery ? values : values + 1, recovery ? 2 : 1);
}

static void text_row(struct backend *b, int count, const char *const *texts)
{
	struct slice values[8];
	assert(!b->binary);
	for (int i = 0; i < count; i++)
		values[i] = slice_str(texts[i]);
	row(b, values, count);
}

#define NUMBER_TEXT 24

static const char *number_text(char out[NUMBER_TEXT], int64_t n)
{
	(void)snprintf(out, NUMBER_TEXT, "%" PRId64, n);
	return out;
}

static void answer_learn(struct backend *b)
{
	const struct model_node *n = b->node;
	char system[NUMBER_TEXT], timeline[NUMBER_TEXT], start[NUMBER_TEXT];
	text_row(b, 8,
	         (const char *const[]){n->replica ? "t" : "f",
	                               number_text(system, (int64_t)node_system_identifier(n)),
	                               number_text(timeline, n->timeline), "8192", "16777216",
	                               number_text(start, node_started(n)), "150000",
	                               n->model->async_commit ? "off" : "on"});
}

static void answer_position(struct backend *b)
{
	const struct model_node *n = b->node;
	uint8_t recovery = n->replica;
	position_row(b, &recovery, n->replica ? node_replay_position(n) : node_insert_position(n));
}

/* 64 digits that stand for the session's user and role. */
#define WHO "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void answer_verify(struct backend *b)
{
	char start[NUMBER_TEXT];
	text_row(b, 4,
	         (const char *const[]){number_text(start, node_started(b->node)),
	                               b->node->replica ? "t" : "f", "t", WHO});
}

/* Functions have left nothing behind. */
static void answer_unseen(struct backend *b)
{
	static const uint8_t no = 0;
	struct slice values[7];
	for (int i = 0; i < 5; i++)
		values[i] = slice_of(&no, 1);
	values[5] = slice_str(WHO);
	values[6] = (struct slice){0};
	row(b, values, 7);
}

static void answer_identify(struct backend *b)
{
	const struct model_node *n = b->node;
	char system[NUMBER_TEXT], timeline[NUMBER_TEXT], at[2 * NUMBER_TEXT];
	uint64_t lsn = n->replica ? node_replay_position(n) : node_insert_position(n);
	(void)snprintf(at, sizeof(at), "%" PRIX64 "/%" PRIX64, lsn >> 32, lsn & UINT32_MAX);
	text_row(b, 4,
	         (const char *const[]){number_text(system, (int64_t)node_system_identifier(b->node)),
	                               number_text(timeline, b->node->timeline), at, ""});
}

/* Where a timeline began; that of a stray primary somewhere else than the true one. */
static uint64_t began(const struct model_node *n, uint32_t timeline)
{
	bool own = node_is_twin(n) && timeline == n->timeline;
	return own ? wal_position(&n->wal, n->stray_from) : n->model->forks[timeline].at;
}

static void answer_history(struct backend *b)
{
	char name[NUMBER_TEXT], text[1024];
	size_t len = 0;
	(void)snprintf(name, sizeof(name), "%08X.history", (unsigned)b->now.number);
	for (int tli = 2; tli <= b->now.number; tli++) {
		uint64_t at = began(b->node, (uint32_t)tli);
		len += (size_t)snprintf(text + len, sizeof(text) - len,
		                        "%d\t%" PRIX64 "/%" PRIX64 "\tno recovery target specified\n",
		                        tli - 1, at >> 32, at & UINT32_MAX);
	}
	text_row(b, 2, (const char *const[]){name, text});
}

/* ================= transactions ================= */

static void let_go(struct backend *b)
{
	struct model_node *n = b->node;
	if (!b->changed)
		return;
	b->changed = false;
	n->holder[b->key] = NULL;
	list_for_each(it, &n->backends)
	{
		struct backend *other = container_of(it, struct backend, link);
		if (other->step == STEP_LOCK && other->now.number == b->key) {
			other->step = STEP_RUN;
			net_timer_start(other->timer, 0);
		}
	}
}

static void statement_failed(struct backend *b, const char *sqlstate, const char *message)
{
	write_error(&b->out, "ERROR", sqlstate, message, NULL);
	let_go(b);
	if (b->tx != TX_IDLE)
		b->tx = TX_FAILED;
	if (b->simple)
		ready(b);
	else
		b->failed = true;
}

static void commit_done(struct backend *b)
{
	b->step = STEP_NONE;
	let_go(b);
	b->tx = TX_IDLE;
	if (b->now.kind == ST_COMMIT || b->now.block)
		write_command_complete(&b->out, "COMMIT");
	if (b->simple || b->now.kind != ST_COMMIT)
		ready(b);
}

/* Behind it comes ReadyForQuery, unless it is a COMMIT whose Sync is to come. */
static void commit(struct backend *b)
{
	struct model_node *n = b->node;
	if (!b->changed) {
		commit_done(b);
		return;
	}
	b->commit_record = node_commit(n, b->key, b->version);
	if (n->model->async_commit) {
		commit_done(b);
		return;
	}
	b->step = STEP_FLUSH;
	net_timer_start(b->timer, sim_between(0, 1000));
}

void backends_flushed(struct model_node *n)
{
	list_for_each(it, &n->backends)
	{
		struct backend *b = container_of(it, struct backend, link);
		if (b->step != STEP_FLUSH || b->commit_record >= n->flushed)
			continue;
		commit_done(b);
		net_timer_start(b->timer, 0); /* goes on in a turn of its own */
	}
}

static void answer_end(struct backend *b)
{
	if (b->tx == TX_FAILED) {
		let_go(b);
		b->tx = TX_IDLE;
		write_command_complete(&b->out, "ROLLBACK");
		if (b->simple)
			ready(b);
		return;
	}
	commit(b);
}

/* ================= running ================= */

static void read_row(struct backend *b)
{
	char value[NUMBER_TEXT];
	uint32_t v = b->changed && b->key == b->now.number ? b->version : b->node->rows[b->now.number];
	text_row(b, 1, (const char *const[]){number_text(value, v)});
}

/* False: it waits, or failed. */
static bool update_row(struct backend *b)
{
	struct model_node *n = b->node;
	int key = b->now.number;
	char value[NUMBER_TEXT];
	if (n->replica) {
		statement_failed(b, READ_ONLY, "cannot execute UPDATE in a read-only transaction");
		return false;
	}
	if (n->holder[key] && n->holder[key] != b) {
		b->step = STEP_LOCK;
		return false;
	}
	assert(!b->changed);
	n->holder[key] = b;
	b->changed = true;
	b->key = key;
	b->version = n->rows[key] + 1;
	wal_append(&n->wal, WAL_CHANGE, key, b->version);
	text_row(b, 1, (const char *const[]){number_text(value, b->version)});
	return true;
}

static int64_t answer_delay_us(void)
{
	return sim_below(20) == 0 ? sim_between(0, 15000) : sim_between(0, 200);
}

/* The workload's own, after their time. */
static void run(struct backend *b)
{
	b->step = STEP_NONE;
	if (b->tx == TX_FAILED) {
		statement_failed(b, "25P02", "current transaction is aborted");
		return;
	}
	if (b->now.kind == ST_SELECT)
		read_row(b);
	else if (!update_row(b))
		return;
	b->step = STEP_ANSWER;
	net_timer_start(b->timer, answer_delay_us());
}

static void answered(struct backend *b)
{
	b->step = STEP_NONE;
	if (!b->simple)
		return;
	if (b->tx == TX_IDLE || b->now.block)
		commit(b);
	else
		ready(b);
}

static void complete(struct backend *b, const char *tag)
{
	write_command_complete(&b->out, tag);
	if (b->simple)
		ready(b);
}

static void answer_now(struct backend *b)
{
	switch (b->now.kind) {
	case ST_LEARN:
		answer_learn(b);
		break;
	case ST_POSITION:
		answer_position(b);
		break;
	case ST_VERIFY:
		answer_verify(b);
		break;
	case ST_CATALOG:
		complete(b, "SELECT 0");
		return;
	case ST_INSERT_POSITION:
	case ST_WRITE_POSITION:
		if (b->node->replica) {
			statement_failed(b, "55000", "recovery is in progress");
			return;
		}
		position_row(b, NULL,
		             b->now.kind == ST_INSERT_POSITION ? node_insert_position(b->node)
		                                               : node_write_position(b->node));
		break;
	case ST_CAPTURE_ANY:
		position_row(b, NULL,
		             b->node->replica ? node_replay_position(b->node)
		                              : node_insert_position(b->node));
		break;
	case ST_UNSEEN:
		answer_unseen(b);
		break;
	case ST_REPLAYED:
		position_row(b, NULL, node_replay_position(b->node));
		break;
	case ST_IDENTIFY:
		answer_identify(b);
		break;
	default:
		answer_history(b);
		break;
	}
	if (b->simple)
		ready(b);
}

static void execute(struct backend *b, struct statement st, bool simple)
{
	b->now = st;
	b->simple = simple;
	switch (st.kind) {
	case ST_SELECT:
	case ST_UPDATE:
		if (st.block) {
			b->tx = TX_OPEN;
			write_command_complete(&b->out, "BEGIN");
		}
		b->step = STEP_RUN;
		net_timer_start(b->timer, sim_between(0, 300));
		break;
	case ST_BEGIN:
		b->tx = TX_OPEN;
		complete(b, "BEGIN");
		break;
	case ST_COMMIT:
		answer_end(b);
		break;
	case ST_ROLLBACK:
		let_go(b);
		b->tx = TX_IDLE;
		complete(b, "ROLLBACK");
		break;
	case ST_SETTING:
		for (int i = 1; i < st.pieces; i++)
			write_command_complete(&b->out, "SET");
		complete(b, "SET");
		break;
	default:
		answer_now(b);
		break;
	}
}

/* ================= messages ================= */

static void on_parse(struct backend *b, struct slice body)
{
	struct msg_parse p;
	bool good = msg_parse_parse(body, &p);
	assert(good);
	int i = 0;
	while (i < b->prepared_count && !slice_eq_str(p.name, b->prepared[i].name))
		i++;
	assert(i < PREPARED_MAX);
	if (i == b->prepared_count)
		b->prepared_count++;
	(void)snprintf(b->prepared[i].name, sizeof(b->prepared[i].name), "%.*s", SLICE_ARG(p.name));
	b->prepared[i].st = understand(p.query);
	message_end(&b->out, message_begin(&b->out, BE_PARSE_COMPLETE));
}

static void on_bind(struct backend *b, struct slice body)
{
	struct msg_bind m;
	bool good = msg_bind_parse(body, &m);
	assert(good);
	for (int i = 0; i < b->prepared_count; i++) {
		if (!slice_eq_str(m.statement, b->prepared[i].name))
			continue;
		b->portal = b->prepared[i].st;
		b->binary = m.rest.len >= 2 && m.rest.ptr[m.rest.len - 1] == 1;
		message_end(&b->out, message_begin(&b->out, BE_BIND_COMPLETE));
		return;
	}
	b->simple = false;
	statement_failed(b, "26000", "prepared statement does not exist");
}

static void on_sync(struct backend *b)
{
	b->failed = false;
	b->simple = false;
	b->now = (struct statement){0};
	if (b->tx == TX_IDLE)
		commit(b);
	else
		ready(b);
}

/* False: the client says goodbye. */
static bool on_message(struct backend *b, const struct frame *f)
{
	struct slice body = frame_body(f), text;
	if (f->type == FE_TERMINATE)
		return false;
	if (b->failed && f->type != FE_SYNC)
		return true;
	switch (f->type) {
	case FE_QUERY:
		if (msg_query_parse(body, &text)) {
			b->binary = false;
			execute(b, understand(text), true);
		}
		break;
	case FE_PARSE:
		on_parse(b, body);
		break;
	case FE_BIND:
		on_bind(b, body);
		break;
	case FE_EXECUTE:
		execute(b, b->portal, false);
		break;
	case FE_DESCRIBE:
		message_end(&b->out, message_begin(&b->out, BE_NO_DATA));
		break;
	case FE_CLOSE:
		message_end(&b->out, message_begin(&b->out, BE_CLOSE_COMPLETE));
		break;
	case FE_SYNC:
		on_sync(b);
		break;
	case FE_FLUSH:
		break;
	default:
		fprintf(stderr, "the model server does not know message '%c'\n", f->type);
		abort();
	}
	return true;
}

static void welcome(struct backend *b)
{
	b->welcomed = true;
	write_auth(&b->out, AUTH_OK, (struct slice){0});
	write_parameter_status(&b->out, slice_str("server_version"), slice_str("15.0"));
	write_parameter_status(&b->out, slice_str("client_encoding"), slice_str("UTF8"));
	write_parameter_status(&b->out, slice_str("standard_conforming_strings"), slice_str("on"));
	uint32_t pid = (uint32_t)sim_below(100000), key = (uint32_t)sim_below(UINT32_MAX);
	write_key_data(&b->out, pid, slice_of((const uint8_t *)&key, sizeof(key)));
	ready(b);
}

/* ================= bytes ================= */

static void backend_free(struct backend *b)
{
	let_go(b);
	net_stream_close(b->stream);
	net_timer_free(b->timer);
	buf_release(&b->in);
	buf_release(&b->out);
	list_remove(&b->link);
	free(b);
}

static void client_gone(struct backend *b)
{
	net_stream_close(b->stream);
	b->stream = NULL;
}

static void flush(struct backend *b)
{
	struct slice s = buf_slice(&b->out);
	assert(!b->out.overflow);
	if (b->stream && s.len > 0) {
		ssize_t n = net_stream_write(b->stream, s.ptr, s.len);
		if (n < 0)
			client_gone(b);
		else
			buf_consume(&b->out, (size_t)n);
	}
	if (!b->stream)
		buf_reset(&b->out);
	else
		net_stream_want(b->stream, NET_READABLE | (b->out.len > 0 ? NET_WRITABLE : 0u));
}

static bool frozen(const struct backend *b)
{
	return node_hangs(b->node) || (b->node->revert != REVERT_NONE && b->started && !b->watcher);
}

/* False: there is no whole message, or it was the last. */
static bool next(struct backend *b)
{
	struct slice in = buf_slice(&b->in), body;
	struct frame f;
	if (b->started && !b->welcomed)
		welcome(b);
	if (!b->started) {
		struct startup st;
		if (startup_frame(in, &body) != PARSE_OK)
			return false;
		bool good = startup_parse(body, &st);
		assert(good);
		if (st.code != PROTOCOL_3_0) { /* a cancel request: nothing to cancel here */
			client_gone(b);
			return false;
		}
		b->watcher = slice_eq_str(st.user, WATCHER);
		b->started = true;
		buf_consume(&b->in, 4 + body.len);
		return true;
	}
	if (frame_peek(in, &f) != PARSE_OK || !frame_complete(&f, in))
		return false;
	if (!on_message(b, &f)) {
		client_gone(b);
		return false;
	}
	buf_consume(&b->in, frame_size(&f));
	return true;
}

static void work(struct backend *b)
{
	while (b->step == STEP_NONE && !frozen(b) && next(b))
		;
	if (frozen(b)) {
		if (b->stream)
			net_stream_want(b->stream, 0);
		return;
	}
	flush(b);
	if (!b->stream && b->step == STEP_NONE)
		backend_free(b);
}

static void on_timer(void *arg)
{
	struct backend *b = arg;
	if (frozen(b))
		return; /* backends_thaw() starts it again */
	if (b->step == STEP_RUN)
		run(b);
	else if (b->step == STEP_ANSWER)
		answered(b);
	else if (b->step == STEP_FLUSH)
		node_flush(b->node, b->commit_record + 1); /* starts this timer again */
	work(b);
}

static void on_stream(void *owner, unsigned events)
{
	struct backend *b = owner;
	if (!frozen(b) && events & NET_READABLE) {
		uint8_t *at = buf_reserve(&b->in, 4096);
		ssize_t n = at ? net_stream_read(b->stream, at, 4096) : NET_ERROR;
		if (n > 0)
			buf_commit(&b->in, (size_t)n);
		else if (n != NET_AGAIN)
			client_gone(b);
	}
	work(b);
}

void backend_accept(void *node, struct net_stream *s)
{
	struct model_node *n = node;
	struct backend *b = calloc(1, sizeof(*b));
	assert(b);
	b->node = n;
	b->stream = s;
	b->tx = TX_IDLE;
	buf_init(&b->in, BUFFER_MAX);
	buf_init(&b->out, BUFFER_MAX);
	b->timer = net_timer_new(n->loop, on_timer, b);
	list_push_back(&n->backends, &b->link);
	net_stream_set_owner(s, on_stream, b);
}

void backends_thaw(struct model_node *n)
{
	list_for_each(it, &n->backends)
	{
		struct backend *b = container_of(it, struct backend, link);
		net_timer_start(b->timer, 0);
	}
}

void backends_drop_others(struct model_node *n)
{
	list_for_each(it, &n->backends)
	{
		struct backend *b = container_of(it, struct backend, link);
		if (!b->watcher)
			backend_free(b);
	}
}

void backends_drop(struct model_node *n)
{
	while (!list_empty(&n->backends))
		backend_free(container_of(list_first(&n->backends), struct backend, link));
}
