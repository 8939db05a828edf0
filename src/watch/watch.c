/* SPDX-License-Identifier: PostgreSQL
 *
 * The watchers: see watch.h for the states. Each member is one node's machine; it has one timer,
 * whose meaning follows from the state:
 *
 *   DOWN            tell about the loss, then connect when the back-off is over
 *   LOGIN           give up
 *   LEARN, ASKED    the answer is late: give up
 *   IDLE            ask
 *
 * (CONNECTING is bounded by dial().) A question is Bind/Execute/Sync of a prepared
 * statement and its answer one row, whatever is asked; LEARN comes back every LEARN_INTERVAL_US
 * because a live standby may follow its primary to another timeline without a word.
 *
 * A loss enters the fleet at once, but the owner's callback comes from the timer in the next turn:
 * watch_kick() and watch_distrust() are called from the middle of the owner's work.
 */
#include "watch.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "dial.h"
#include "history_fetch.h"
#include "pgwire/message.h"

/* Polling is as fine as a replica's usual delay divided by this. */
#define DELAY_GRAIN 16
#define LEARN_INTERVAL_US 1000000
#define BACKOFF_MIN_US 100000
#define BACKOFF_MAX_US 5000000
/* Up for less than this, the next try has to wait: a node that greets and hangs up must not make
 * us spin. */
#define STEADY_US 1000000
#define TIMER_ROUNDING_US 1000
#define READ_CHUNK 4096
#define MESSAGE_MAX 65536
#define APPLICATION_NAME "tidemark watch"

/* A standby's timeline: min_recovery_end_timeline moves only at the next restart point, minutes
 * after a live standby was re-pointed to a promoted primary; received_tli moves at once, but only
 * pg_monitor may see it and it is gone when the receiver stops. The larger one is right: both are
 * timelines of the standby's own history. */
static const char learn_sql[] =
	"SELECT pg_is_in_recovery(),"
	" (SELECT system_identifier FROM pg_control_system()),"
	" CASE WHEN pg_is_in_recovery() THEN"
	" GREATEST((SELECT min_recovery_end_timeline FROM pg_control_recovery()),"
	" (SELECT received_tli FROM pg_stat_wal_receiver), 0)"
	" ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,"
	" wal_block_size, bytes_per_wal_segment,"
	" (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint,"
	" current_setting('server_version_num'), current_setting('synchronous_commit')"
	" FROM pg_control_init()";

static const char position_sql[] =
	"SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery()"
	" THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END";

#define LEARN_STATEMENT "tidemark_learn"
#define POSITION_STATEMENT "tidemark_position"

enum watch_state {
	WATCH_DOWN,
	WATCH_CONNECTING,
	WATCH_LOGIN,
	WATCH_LEARN,
	WATCH_IDLE,
	WATCH_ASKED,
};

/* The row of either question. */
struct answer {
	bool present;
	enum node_role role;
	uint32_t timeline;
	struct position at; /* unset: the standby has replayed nothing yet */
	struct watch_facts facts;
};

struct member {
	struct watch *watch;
	int node;
	struct watch_node config;
	enum watch_state state;
	struct net_timer *timer;
	struct net_stream *stream; /* NULL: DOWN */
	struct login login;
	struct buf in, out;
	struct answer answer;
	bool up;             /* the fleet was told so */
	bool again;          /* kicked while a question was out */
	bool untold;         /* the owner has not heard of the loss yet */
	enum node_role role; /* valid while up, as is timeline */
	uint32_t timeline;
	int64_t asked_at_us, learnt_at_us, up_at_us;
	int64_t retry_at_us, backoff_us;
	uint64_t samples;
	struct watch_facts facts;
	struct history_fetch *fetch;
	/* What was last said of it in the log. */
	enum fleet_branch branch;
	char error[320];
};

struct watch {
	struct net_loop *loop;
	struct fleet *fleet;
	struct watch_settings settings;
	watch_fn fn;
	void *arg;
	bool busy;
	int64_t busy_since_us;
	int count;
	struct member members[];
};

static const char *role_name(enum node_role role)
{
	return role == NODE_ROLE_PRIMARY ? "primary" : "replica";
}

static void tell(struct member *m)
{
	if (m->watch->fn)
		m->watch->fn(m->watch->arg, m->node);
}

/* ================= histories ================= */

static struct node *fleet_node(const struct member *m)
{
	return &m->watch->fleet->nodes[m->node];
}

/* Said once: it does not get better by itself. */
static void log_branch(struct member *m)
{
	enum fleet_branch b = fleet_node_branch(m->watch->fleet, m->node);
	const struct node *n = fleet_node(m);
	char at[POSITION_TEXT_MAX];
	if (!m->up || m->role != NODE_ROLE_REPLICA || b == m->branch)
		return;
	m->branch = b;
	if (b != BRANCH_DIVERGED)
		return;
	position_format(n->history_at, at);
	log_warn("node=%s has diverged: it was at %s on timeline %u, which is not on the history of the "
	         "primary's timeline %u; it serves no reads; rebuild it or use pg_rewind",
	         m->config.name, at, n->history.timeline, m->watch->fleet->timeline);
}

/* The timeline whose history is to be fetched, or a later one; 0: none is wanted. All of a server on
 * timeline 1 is known, as long as that is the primary's too. */
static uint32_t wanted_timeline(const struct member *m)
{
	const struct node *n = fleet_node(m);
	uint32_t primarys = m->watch->fleet->timeline;
	if (!m->up || (n->history.known && (n->timeline >= primarys || m->role == NODE_ROLE_PRIMARY)))
		return 0;
	if (m->role == NODE_ROLE_PRIMARY)
		return n->timeline > 1 ? n->timeline : 0;
	if (n->timeline == 1 && primarys <= 1)
		return 0;
	return primarys > n->timeline ? primarys : n->timeline > 0 ? n->timeline : 1;
}

static void fetch_what_is_wanted(struct member *m)
{
	uint32_t wanted = wanted_timeline(m), under_way;
	bool fetching = history_fetch_wants(m->fetch, &under_way);
	if (wanted == 0)
		history_fetch_stop(m->fetch);
	else if (!fetching || under_way != wanted)
		history_fetch_start(m->fetch, &m->config, m->role, m->facts.system_identifier, wanted);
}

/* A primary on timeline 1 has no past. */
static void take_first_timeline(struct member *m)
{
	struct node *n = fleet_node(m);
	if (!m->up || m->role != NODE_ROLE_PRIMARY || n->timeline != 1 || n->history.known)
		return;
	struct history h;
	history_first(&h);
	h.system = m->facts.system_identifier;
	bool taken = fleet_node_history(m->watch->fleet, m->node, &h, n->at, net_now_us());
	assert(taken);
}

/* After each change of the fleet's nodes. What is wanted of one depends on who is primary. */
static void follow(struct watch *w)
{
	for (int i = 0; i < w->count; i++)
		take_first_timeline(&w->members[i]);
	for (int i = 0; i < w->count; i++) {
		fetch_what_is_wanted(&w->members[i]);
		log_branch(&w->members[i]);
	}
}

static void on_history(void *arg, const struct history *h, struct position at)
{
	struct member *m = arg;
	char began[POSITION_TEXT_MAX];
	bool known = fleet_node(m)->history.known;
	if (!fleet_node_history(m->watch->fleet, m->node, h, at, net_now_us()))
		return;
	position_format(history_fork(h), began);
	if (m->role == NODE_ROLE_PRIMARY)
		log_info("node=%s timeline %u began at %s", m->config.name, h->timeline, began);
	else if (!known || h->timeline != m->timeline)
		log_info("node=%s is on timeline %u, which began at %s", m->config.name, h->timeline,
		         began);
	m->timeline = h->timeline;
	follow(m->watch);
	tell(m);
}

/* ================= losing a node ================= */

/* Once per change, not once per retry. */
static void log_trouble(const struct member *m, const char *why, bool was_up)
{
	if (was_up)
		log_warn("node=%s lost: %s; reconnecting", m->config.name, why);
	else if (strcmp(why, m->error) != 0)
		log_warn("node=%s cannot be watched: %s; retrying", m->config.name, why);
}

static void back_off(struct member *m, int64_t now_us)
{
	if (m->up && now_us - m->up_at_us >= STEADY_US) {
		m->backoff_us = BACKOFF_MIN_US;
		m->retry_at_us = now_us;
		return;
	}
	m->retry_at_us = now_us + m->backoff_us;
	m->backoff_us = m->backoff_us * 2 < BACKOFF_MAX_US ? m->backoff_us * 2 : BACKOFF_MAX_US;
}

static void hang_up(struct member *m)
{
	net_stream_close(m->stream);
	m->stream = NULL;
	login_release(&m->login);
	buf_release(&m->in);
	buf_release(&m->out);
	m->state = WATCH_DOWN;
}

__attribute__((format(printf, 2, 3))) static void drop(struct member *m, const char *fmt, ...)
{
	char why[sizeof(m->error)];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);

	int64_t now_us = net_now_us();
	/* `why` may have pointed into what hang_up() frees: it is a copy by now. */
	hang_up(m);
	log_trouble(m, why, m->up);
	memcpy(m->error, why, sizeof(why));
	back_off(m, now_us);
	if (m->up) {
		m->up = false;
		m->untold = true;
		fleet_node_lost(m->watch->fleet, m->node, now_us);
		follow(m->watch);
	}
	net_timer_start(m->timer, m->untold ? 0 : m->retry_at_us - now_us);
}

/* ================= asking ================= */

static void flush(struct member *m)
{
	struct slice s = buf_slice(&m->out);
	assert(!m->out.overflow);
	if (s.len > 0) {
		ssize_t n = net_stream_write(m->stream, s.ptr, s.len);
		if (n < 0) {
			drop(m, "%s", net_stream_error(m->stream));
			return;
		}
		buf_consume(&m->out, (size_t)n);
	}
	net_stream_want(m->stream,
	                m->out.len > 0 ? NET_READABLE | NET_WRITABLE : (unsigned)NET_READABLE);
}

static void ask(struct member *m, enum watch_state question)
{
	bool learn = question == WATCH_LEARN;
	m->state = question;
	m->again = false;
	m->answer = (struct answer){0};
	write_bind_plain(&m->out, slice_str(""),
	                 slice_str(learn ? LEARN_STATEMENT : POSITION_STATEMENT), learn ? 0 : 1);
	write_execute(&m->out, slice_str(""));
	write_sync(&m->out);
	m->asked_at_us = net_now_us();
	net_timer_start(m->timer, m->watch->settings.answer_timeout_us);
	flush(m);
}

static void ask_what_is_due(struct member *m)
{
	bool learn = net_loop_now_us(m->watch->loop) - m->learnt_at_us >= LEARN_INTERVAL_US;
	ask(m, learn ? WATCH_LEARN : WATCH_ASKED);
}

/* Timers round up, to as much as two milliseconds for one; an early question does no harm. */
static void schedule(struct member *m)
{
	const struct watch_settings *set = &m->watch->settings;
	int64_t interval_us = set->idle_interval_us, from_us = m->asked_at_us;
	if (m->watch->busy && m->role == NODE_ROLE_REPLICA) {
		/* A wait for a replica that is usually late by 50 ms need not be told to the millisecond.
		 */
		int64_t delay_us = m->watch->fleet->nodes[m->node].replay_delay_us;
		int64_t fine_us = delay_us == LAG_UNKNOWN ? 0 : delay_us / DELAY_GRAIN;
		int64_t busy_us = fine_us > set->busy_interval_us ? fine_us : set->busy_interval_us;
		interval_us = busy_us < interval_us ? busy_us : interval_us;
		/* Whoever began to wait has kicked the one that matters: most waits end with its answer. */
		if (from_us < m->watch->busy_since_us)
			from_us = m->watch->busy_since_us;
	}
	int64_t left_us = from_us + interval_us - net_loop_now_us(m->watch->loop);
	if (left_us > 0)
		left_us = left_us > TIMER_ROUNDING_US ? left_us - TIMER_ROUNDING_US : 1;
	net_timer_start(m->timer, left_us);
}

static void prepare_and_learn(struct member *m)
{
	write_parse(&m->out, slice_str(LEARN_STATEMENT), slice_str(learn_sql), slice_str(""));
	write_parse(&m->out, slice_str(POSITION_STATEMENT), slice_str(position_sql), slice_str(""));
	ask(m, WATCH_LEARN);
}

/* ================= reading the answers ================= */

/* Decimal, with a sign: a system identifier above 2^63 is shown as a negative bigint. */
static bool number_parse(struct slice s, int64_t *out)
{
	bool negative = s.len > 0 && s.ptr[0] == '-';
	size_t i = negative ? 1 : 0;
	int64_t v = 0;
	if (s.len == i)
		return false;
	for (; i < s.len; i++) {
		int digit = s.ptr[i] - '0';
		if (digit < 0 || digit > 9 || __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_sub_overflow(v, digit, &v))
			return false;
	}
	/* Summed up below zero, because there is one more number there. */
	if (!negative && v == INT64_MIN)
		return false;
	*out = negative ? v : -v;
	return true;
}

static bool column_number(struct slice row, int index, int64_t min, int64_t max, int64_t *out)
{
	struct slice value;
	return msg_data_row_column(row, index, &value) && value.ptr && number_parse(value, out) &&
	       *out >= min && *out <= max;
}

static bool power_of_two(int64_t v)
{
	return v > 0 && (v & (v - 1)) == 0;
}

static bool answer_learn(struct slice row, struct answer *a)
{
	struct slice recovery, commit;
	int64_t system, timeline, block, segment, start, version;
	if (!msg_data_row_column(row, 0, &recovery) || !msg_data_row_column(row, 7, &commit) ||
	    !column_number(row, 1, INT64_MIN, INT64_MAX, &system) ||
	    !column_number(row, 2, 0, INT32_MAX, &timeline) ||
	    !column_number(row, 3, 1, 1 << 16, &block) ||
	    !column_number(row, 4, 1, 1 << 30, &segment) ||
	    !column_number(row, 5, 0, INT64_MAX, &start) ||
	    !column_number(row, 6, 0, INT32_MAX, &version))
		return false;
	if (!power_of_two(block) || !power_of_two(segment))
		return false;
	if (slice_eq_str(recovery, "t"))
		a->role = NODE_ROLE_REPLICA;
	else if (slice_eq_str(recovery, "f"))
		a->role = NODE_ROLE_PRIMARY;
	else
		return false;
	a->timeline = (uint32_t)timeline;
	a->facts = (struct watch_facts){
		.known = true,
		.wal_block_size = (uint32_t)block,
		.wal_segment_size = (uint32_t)segment,
		.system_identifier = (uint64_t)system,
		.postmaster_start_us = start,
		.server_version_num = (int)version,
		.async_commit = slice_eq_str(commit, "off"),
	};
	return true;
}

static bool answer_position(struct slice row, struct answer *a)
{
	struct slice recovery, at;
	if (!msg_data_row_column(row, 0, &recovery) || !msg_data_row_column(row, 1, &at))
		return false;
	if (recovery.len != 1 || recovery.ptr[0] > 1)
		return false;
	a->role = recovery.ptr[0] ? NODE_ROLE_REPLICA : NODE_ROLE_PRIMARY;
	if (at.ptr && at.len != 8)
		return false;
	a->at.lsn = at.ptr ? load_be64(at.ptr) : 0;
	/* Only a standby that has replayed nothing yet has no position. */
	return position_is_set(a->at) || a->role == NODE_ROLE_REPLICA;
}

/* ================= acting on the answers ================= */

/* A replica of somebody else's cluster may hold positions that look fine and data that are not. The
 * primary's identity counts, whoever comes up first. False: m itself was dropped. */
static bool same_cluster(struct member *m, enum node_role role, uint64_t system)
{
	static const char fmt[] =
		"it belongs to another cluster (system identifier %llu) than %s "
		"(%llu): check its host and port";
	for (int i = 0; i < m->watch->count; i++) {
		struct member *o = &m->watch->members[i];
		uint64_t theirs = o->facts.system_identifier;
		if (o == m || !o->up || o->role == role || theirs == system)
			continue;
		if (role == NODE_ROLE_REPLICA) {
			drop(m, fmt, (unsigned long long)system, o->config.name, (unsigned long long)theirs);
			return false;
		}
		drop(o, fmt, (unsigned long long)theirs, m->config.name, (unsigned long long)system);
	}
	return true;
}

static void comes_up(struct member *m, const struct answer *a, int64_t now_us)
{
	if (!same_cluster(m, a->role, a->facts.system_identifier))
		return;
	m->up = true;
	m->branch = BRANCH_UNKNOWN;
	m->up_at_us = now_us;
	m->role = a->role;
	m->timeline = a->timeline;
	m->facts = a->facts;
	m->error[0] = '\0';
	log_info("node=%s up as %s at %s port %d: timeline %u, server version %d", m->config.name,
	         role_name(m->role), m->config.host, m->config.port, m->timeline,
	         m->facts.server_version_num);
	fleet_node_system(m->watch->fleet, m->node, m->facts.system_identifier);
	fleet_node_up(m->watch->fleet, m->node, m->role, m->timeline, now_us);
	follow(m->watch);
	tell(m);
}

/* A live standby only ever moves to later timelines; a lower number means that the better of its
 * two sources has gone silent. */
static void learns_again(struct member *m, const struct answer *a, int64_t now_us)
{
	if (a->facts.system_identifier != m->facts.system_identifier ||
	    a->facts.postmaster_start_us != m->facts.postmaster_start_us) {
		drop(m, "it is another server than before");
		return;
	}
	m->facts = a->facts;
	if (a->timeline <= m->timeline)
		return;
	log_info("node=%s moved from timeline %u to %u", m->config.name, m->timeline, a->timeline);
	m->timeline = a->timeline;
	fleet_node_up(m->watch->fleet, m->node, m->role, m->timeline, now_us);
	follow(m->watch);
	tell(m);
}

static void on_learnt(struct member *m, const struct answer *a, int64_t now_us)
{
	m->learnt_at_us = now_us;
	m->state = WATCH_IDLE;
	if (m->up)
		learns_again(m, a, now_us);
	else
		comes_up(m, a, now_us);
	/* The owner may have kicked, or lost faith, meanwhile. */
	if (m->state == WATCH_IDLE)
		ask(m, WATCH_ASKED);
}

static void on_position(struct member *m, const struct answer *a, int64_t now_us)
{
	struct position at = a->at;
	m->state = WATCH_IDLE;
	if (position_is_set(at)) {
		if (m->role == NODE_ROLE_PRIMARY)
			at = position_without_page_header(at, m->facts.wal_block_size,
			                                  m->facts.wal_segment_size);
		if (!fleet_node_sampled(m->watch->fleet, m->node, at, m->asked_at_us, now_us)) {
			drop(m, "its position went backwards: it was restarted or replaced");
			return;
		}
		m->samples++;
		tell(m);
	}
	if (m->state != WATCH_IDLE)
		return;
	if (m->again)
		ask_what_is_due(m);
	else
		schedule(m);
}

static void on_answered(struct member *m)
{
	const struct answer a = m->answer;
	int64_t now_us = net_now_us();
	if (!a.present)
		drop(m, "it answered without a row");
	else if (m->up && a.role != m->role)
		drop(m, "it is %s now and was %s", role_name(a.role), role_name(m->role));
	else if (m->state == WATCH_LEARN)
		on_learnt(m, &a, now_us);
	else
		on_position(m, &a, now_us);
}

static void on_row(struct member *m, struct slice body)
{
	bool good = m->state == WATCH_LEARN ? answer_learn(body, &m->answer)
	                                    : answer_position(body, &m->answer);
	if (!good || m->answer.present)
		drop(m, "its answer about its role and position makes no sense");
	else
		m->answer.present = true;
}

static void on_server_error(struct member *m, struct slice body)
{
	struct error_fields e;
	if (msg_error_parse(body, &e))
		drop(m, "%.*s (%.*s)", SLICE_ARG(e.message), SLICE_ARG(e.sqlstate));
	else
		drop(m, "malformed error message from the server");
}

static void on_login_message(struct member *m, const struct frame *f)
{
	uint8_t random[SCRAM_NONCE_RAW] = {0};
	if (f->type == BE_AUTHENTICATION)
		net_random(random, sizeof(random));
	switch (login_feed(&m->login, f, random, &m->out)) {
	case LOGIN_MORE:
		flush(m);
		break;
	case LOGIN_DONE:
		login_release(&m->login);
		prepare_and_learn(m);
		break;
	case LOGIN_FAILED:
		drop(m, "%s (%s)", m->login.error, m->login.sqlstate);
		break;
	}
}

static void on_answer_message(struct member *m, const struct frame *f)
{
	bool asked = m->state == WATCH_LEARN || m->state == WATCH_ASKED;
	switch (f->type) {
	case BE_PARAMETER_STATUS:
	case BE_NOTICE:
	case BE_NOTIFICATION:
		return;
	case BE_ERROR:
		on_server_error(m, frame_body(f));
		return;
	case BE_PARSE_COMPLETE:
	case BE_BIND_COMPLETE:
	case BE_COMMAND_COMPLETE:
		if (asked)
			return;
		break;
	case BE_DATA_ROW:
		if (asked) {
			on_row(m, frame_body(f));
			return;
		}
		break;
	case BE_READY:
		if (asked && f->body_len == 1 && f->body[0] == TX_IDLE) {
			on_answered(m);
			return;
		}
		break;
	default:
		break;
	}
	drop(m, "unexpected message of type 0x%02x from the server", f->type);
}

/* False: nothing complete is left, or the connection is. */
static bool next_message(struct member *m)
{
	struct slice in = buf_slice(&m->in);
	struct frame f;
	enum parse_result r = frame_peek(in, &f);
	if (r == PARSE_INVALID || (r == PARSE_OK && frame_size(&f) > MESSAGE_MAX)) {
		drop(m, "the server sent a message that is malformed or too long");
		return false;
	}
	if (r == PARSE_PARTIAL || !frame_complete(&f, in))
		return false;
	if (m->state == WATCH_LOGIN)
		on_login_message(m, &f);
	else
		on_answer_message(m, &f);
	if (m->state == WATCH_DOWN)
		return false;
	buf_consume(&m->in, frame_size(&f));
	return true;
}

static void on_readable(struct member *m)
{
	uint8_t *room = buf_reserve(&m->in, READ_CHUNK);
	if (!room) {
		drop(m, "out of memory");
		return;
	}
	ssize_t n = net_stream_read(m->stream, room, READ_CHUNK);
	if (n == NET_AGAIN)
		return;
	if (n < 0) {
		drop(m, "%s",
		     n == NET_EOF ? "the server closed the connection" : net_stream_error(m->stream));
		return;
	}
	buf_commit(&m->in, (size_t)n);
	while (next_message(m))
		;
}

/* ================= connecting ================= */

static void on_connected(struct member *m)
{
	const struct watch_node *c = &m->config;
	m->state = WATCH_LOGIN;
	net_timer_start(m->timer, m->watch->settings.connect_timeout_us);
	if (!login_start(&m->login, slice_str(c->user), slice_str(c->database),
	                 slice_str(APPLICATION_NAME), c->secret_kind, slice_str(c->secret), &m->out)) {
		drop(m, "its user, database or password is missing or too long");
		return;
	}
	dial_bind(c, m->stream, &m->login);
	flush(m);
}

static void on_stream(void *owner, unsigned events)
{
	struct member *m = owner;
	if (events & NET_FAILED) {
		drop(m, "cannot connect to %s port %d: %s", m->config.host, m->config.port,
		     net_stream_error(m->stream));
	} else if (events & NET_CONNECTED) {
		on_connected(m);
	} else {
		if (events & NET_WRITABLE)
			flush(m);
		if ((events & NET_READABLE) && m->state != WATCH_DOWN)
			on_readable(m);
	}
}

static void begin(struct member *m)
{
	buf_init(&m->in, MESSAGE_MAX + READ_CHUNK);
	buf_init(&m->out, READ_CHUNK);
	m->state = WATCH_CONNECTING;
	m->stream =
		dial(m->watch->loop, &m->config, m->watch->settings.connect_timeout_us, on_stream, m);
	if (!m->stream)
		drop(m, "cannot open a socket: out of memory or descriptors (ulimit -n)");
}

static void on_down_timer(struct member *m)
{
	if (m->untold) {
		m->untold = false;
		tell(m);
	}
	int64_t left_us = m->retry_at_us - net_now_us();
	if (left_us > 0)
		net_timer_start(m->timer, left_us);
	else
		begin(m);
}

static void on_timer(void *arg)
{
	struct member *m = arg;
	switch (m->state) {
	case WATCH_DOWN:
		on_down_timer(m);
		break;
	case WATCH_IDLE:
		ask_what_is_due(m);
		break;
	case WATCH_LOGIN:
		drop(m, "no answer to the login within %lld ms",
		     (long long)m->watch->settings.connect_timeout_us / 1000);
		break;
	case WATCH_LEARN:
	case WATCH_ASKED:
		drop(m, "no answer within %lld ms", (long long)m->watch->settings.answer_timeout_us / 1000);
		break;
	case WATCH_CONNECTING:
		break;
	}
}

/* ================= the owner's side ================= */

static int64_t or_default(int64_t value_us, int64_t default_us)
{
	return value_us > 0 ? value_us : default_us;
}

static struct watch_settings effective(const struct watch_settings *s)
{
	return (struct watch_settings){
		.idle_interval_us = or_default(s->idle_interval_us, 250000),
		.busy_interval_us = or_default(s->busy_interval_us, 1000),
		.answer_timeout_us = or_default(s->answer_timeout_us, 1000000),
		.connect_timeout_us = or_default(s->connect_timeout_us, 3000000),
	};
}

static struct history_fetch *fetch_new(struct member *m)
{
	const struct watch *w = m->watch;
	const struct history_fetch_settings settings = {
		.connect_timeout_us = w->settings.connect_timeout_us,
		.answer_timeout_us = w->settings.answer_timeout_us,
		.backoff_min_us = HISTORY_BACKOFF_MIN_US,
		.backoff_max_us = HISTORY_BACKOFF_MAX_US,
	};
	return history_fetch_new(w->loop, &settings, on_history, m);
}

static bool member_init(struct member *m, struct watch *w, int node, const struct watch_node *c)
{
	m->watch = w;
	m->node = node;
	m->config = *c;
	m->backoff_us = BACKOFF_MIN_US;
	(void)snprintf(m->error, sizeof(m->error), "not connected yet");
	m->timer = net_timer_new(w->loop, on_timer, m);
	m->fetch = fetch_new(m);
	if (!m->timer || !m->fetch)
		return false;
	/* From the loop: the owner hears nothing from within watch_new(). */
	net_timer_start(m->timer, 0);
	return true;
}

struct watch *watch_new(struct net_loop *loop, struct fleet *fleet, const struct watch_node *nodes,
                        int count, const struct watch_settings *settings, watch_fn fn, void *arg)
{
	assert(count >= 0 && count <= FLEET_NODES_MAX && count == fleet->count);
	struct watch *w = calloc(1, sizeof(*w) + (size_t)count * sizeof(w->members[0]));
	if (!w)
		return NULL;
	w->loop = loop;
	w->fleet = fleet;
	w->settings = effective(settings);
	w->fn = fn;
	w->arg = arg;
	for (int i = 0; i < count; i++) {
		w->count = i + 1;
		if (!member_init(&w->members[i], w, i, &nodes[i])) {
			watch_free(w);
			return NULL;
		}
	}
	return w;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	for (int i = 0; i < w->count; i++) {
		struct member *m = &w->members[i];
		history_fetch_free(m->fetch);
		hang_up(m);
		net_timer_free(m->timer);
		explicit_bzero(&m->config, sizeof(m->config));
	}
	free(w);
}

static struct member *member(const struct watch *w, int node)
{
	assert(node >= 0 && node < w->count);
	return (struct member *)(uintptr_t)&w->members[node];
}

void watch_kick(struct watch *w, int node)
{
	struct member *m = member(w, node);
	if (m->state == WATCH_IDLE)
		ask_what_is_due(m);
	else
		m->again = true;
}

void watch_set_busy(struct watch *w, bool busy)
{
	if (w->busy == busy)
		return;
	w->busy = busy;
	w->busy_since_us = net_loop_now_us(w->loop);
	for (int i = 0; i < w->count; i++)
		if (w->members[i].state == WATCH_IDLE)
			schedule(&w->members[i]);
}

void watch_primary_changed(struct watch *w)
{
	follow(w);
}

const struct watch_facts *watch_facts(const struct watch *w, int node)
{
	return &member(w, node)->facts;
}

const char *watch_error(const struct watch *w, int node)
{
	return member(w, node)->error;
}

uint64_t watch_samples(const struct watch *w, int node)
{
	return member(w, node)->samples;
}

void watch_distrust(struct watch *w, int node, const char *why)
{
	struct member *m = member(w, node);
	if (m->up)
		drop(m, "%s", why);
}
