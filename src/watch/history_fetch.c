/* SPDX-License-Identifier: PostgreSQL
 *
 * See history_fetch.h for the states. There is one timer, whose meaning follows from the state:
 *
 *   WAITING                   try again
 *   LOGIN, IDENTIFY, HISTORY  the answer is late: give up, and try again later
 *
 * (CONNECTING is bounded by dial().) Both questions are simple queries, which is all that a
 * replication connection takes, and the answer to either is one row.
 */
#include "history_fetch.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "dial.h"
#include "pgwire/message.h"

#define READ_CHUNK 4096
/* A history file has some 50 bytes for each time the cluster was promoted. */
#define MESSAGE_MAX 65536
#define APPLICATION_NAME "tidemark history"

#define INSUFFICIENT_PRIVILEGE "42501"
#define INVALID_AUTHORIZATION "28000"

enum fetch_state {
	FETCH_STOPPED,
	FETCH_CONNECTING,
	FETCH_LOGIN,
	FETCH_IDENTIFY,
	FETCH_HISTORY,
	FETCH_DONE, /* the owner is told when nothing of the connection is in use */
	FETCH_WAITING,
};

struct history_fetch {
	struct net_loop *loop;
	struct history_fetch_settings settings;
	history_fetch_fn fn;
	void *arg;
	/* What is wanted; kept when stopped. */
	const struct watch_node *server;
	enum node_role role;
	uint64_t system_identifier;
	uint32_t timeline;

	enum fetch_state state;
	struct net_timer *timer;
	struct net_stream *stream; /* NULL: STOPPED, WAITING */
	struct login login;
	struct buf in, out;
	bool answered; /* the row has come */
	uint32_t found; /* the timeline that it is on … */
	struct position at; /* … and how far */
	struct history history;
	int64_t backoff_us;
	char error[320]; /* the last one logged */
};

/* ================= failing ================= */

static void hang_up(struct history_fetch *f)
{
	net_stream_close(f->stream);
	f->stream = NULL;
	login_release(&f->login);
	buf_release(&f->in);
	buf_release(&f->out);
}

/* Once per change, not once per try. */
static void log_trouble(struct history_fetch *f, const char *why, bool refused)
{
	char advice[192] = "retrying";
	if (strcmp(why, f->error) == 0)
		return;
	(void)snprintf(f->error, sizeof(f->error), "%s", why);
	if (refused)
		(void)snprintf(advice, sizeof(advice),
		               "give role \"%s\" REPLICATION and pg_hba.conf a line for replication",
		               f->server->user);
	if (f->role == NODE_ROLE_PRIMARY)
		log_warn(
			"timeline %u of node=%s: its history cannot be read (%s); tokens and stored sessions "
			"will not be trusted, their reads go to the primary; %s",
			f->timeline, f->server->name, why, advice);
	else
		log_warn("node=%s: the history of its timeline cannot be read (%s); it serves no reads "
		         "while the primary is on a later timeline than the first; %s",
		         f->server->name, why, advice);
}

static void wait_and_retry(struct history_fetch *f)
{
	hang_up(f);
	f->state = FETCH_WAITING;
	net_timer_start(f->timer, f->backoff_us);
	f->backoff_us *= 2;
	if (f->backoff_us > f->settings.backoff_max_us)
		f->backoff_us = f->settings.backoff_max_us;
}

/* `sqlstate` as the server gave it, or empty. */
__attribute__((format(printf, 3, 4))) static void fail(struct history_fetch *f,
                                                       struct slice sqlstate, const char *fmt, ...)
{
	char why[sizeof(f->error)];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	log_trouble(f, why,
	            slice_eq_str(sqlstate, INSUFFICIENT_PRIVILEGE) ||
	                slice_eq_str(sqlstate, INVALID_AUTHORIZATION));

	/* The arguments may have pointed into what this frees. */
	wait_and_retry(f);
}

#define FAIL(f, ...) fail(f, (struct slice){0}, __VA_ARGS__)

/* ================= asking ================= */

static void flush(struct history_fetch *f)
{
	struct slice s = buf_slice(&f->out);
	assert(!f->out.overflow);
	if (s.len > 0) {
		ssize_t n = net_stream_write(f->stream, s.ptr, s.len);
		if (n < 0) {
			FAIL(f, "%s", net_stream_error(f->stream));
			return;
		}
		buf_consume(&f->out, (size_t)n);
	}
	net_stream_want(f->stream,
	                f->out.len > 0 ? NET_READABLE | NET_WRITABLE : (unsigned)NET_READABLE);
}

static void ask(struct history_fetch *f, enum fetch_state question, const char *text)
{
	f->state = question;
	f->answered = false;
	write_query(&f->out, slice_str(text));
	net_timer_start(f->timer, f->settings.answer_timeout_us);
	flush(f);
}

static void ask_for_history(struct history_fetch *f)
{
	char text[64];
	(void)snprintf(text, sizeof(text), "TIMELINE_HISTORY %u", f->found);
	ask(f, FETCH_HISTORY, text);
}

/* ================= reading the answers ================= */

/* systemid, timeline, xlogpos, dbname */
static void on_identity(struct history_fetch *f, struct slice row)
{
	struct slice system, timeline, at;
	char expected_system[24];
	if (!msg_data_row_column(row, 0, &system) || !msg_data_row_column(row, 1, &timeline) ||
	    !msg_data_row_column(row, 2, &at) || !history_timeline_parse(timeline, &f->found) ||
	    f->found == 0 || !position_parse(at, &f->at)) {
		FAIL(f, "malformed answer to IDENTIFY_SYSTEM");
		return;
	}
	(void)snprintf(expected_system, sizeof(expected_system), "%llu",
	               (unsigned long long)f->system_identifier);
	bool other_timeline = f->role == NODE_ROLE_PRIMARY && f->found != f->timeline;
	if (!slice_eq_str(system, expected_system) || other_timeline)
		FAIL(f, "another server answers there: system identifier %.*s, timeline %u",
		     SLICE_ARG(system), f->found);
	else
		f->answered = true;
}

/* PostgreSQL ends every line; the last one without its end may have been cut amid a number. */
static bool ends_with_line(struct slice text)
{
	return text.len > 0 && text.ptr[text.len - 1] == '\n';
}

/* filename, content */
static void on_history(struct history_fetch *f, struct slice row)
{
	struct slice name, content;
	char expected_name[24];
	(void)snprintf(expected_name, sizeof(expected_name), "%08X.history", f->found);
	if (!msg_data_row_column(row, 0, &name) || !msg_data_row_column(row, 1, &content) ||
	    !slice_eq_str(name, expected_name) || !ends_with_line(content) ||
	    !history_parse(&f->history, f->found, content))
		FAIL(f, "it is not a history of timeline %u", f->found);
	else
		f->answered = true;
}

static void on_row(struct history_fetch *f, struct slice row)
{
	if (f->answered)
		FAIL(f, "more than one row where one was expected");
	else if (f->state == FETCH_IDENTIFY)
		on_identity(f, row);
	else
		on_history(f, row);
}

static void on_answered(struct history_fetch *f)
{
	if (!f->answered)
		FAIL(f, "an answer without a row");
	else if (f->state == FETCH_IDENTIFY && f->found > 1)
		ask_for_history(f);
	else
		f->state = FETCH_DONE;
}

static void on_server_error(struct history_fetch *f, struct slice body)
{
	struct error_fields e;
	if (msg_error_parse(body, &e))
		fail(f, e.sqlstate, "%.*s (%.*s)", SLICE_ARG(e.message), SLICE_ARG(e.sqlstate));
	else
		FAIL(f, "malformed error message from the server");
}

static void on_login_message(struct history_fetch *f, const struct frame *frame)
{
	uint8_t random[SCRAM_NONCE_RAW] = {0};
	if (frame->type == BE_AUTHENTICATION)
		net_random(random, sizeof(random));
	switch (login_feed(&f->login, frame, random, &f->out)) {
	case LOGIN_MORE:
		flush(f);
		break;
	case LOGIN_DONE:
		login_release(&f->login);
		ask(f, FETCH_IDENTIFY, "IDENTIFY_SYSTEM");
		break;
	case LOGIN_FAILED:
		fail(f, slice_str(f->login.sqlstate), "%s (%s)", f->login.error, f->login.sqlstate);
		break;
	}
}

static void on_answer_message(struct history_fetch *f, const struct frame *frame)
{
	switch (frame->type) {
	case BE_PARAMETER_STATUS:
	case BE_NOTICE:
	case BE_ROW_DESCRIPTION:
	case BE_COMMAND_COMPLETE:
		break;
	case BE_ERROR:
		on_server_error(f, frame_body(frame));
		break;
	case BE_DATA_ROW:
		on_row(f, frame_body(frame));
		break;
	case BE_READY:
		if (frame->body_len == 1 && frame->body[0] == TX_IDLE)
			on_answered(f);
		else
			FAIL(f, "the server is in a transaction after a replication command");
		break;
	default:
		FAIL(f, "unexpected message of type 0x%02x from the server", frame->type);
		break;
	}
}

/* False: nothing complete is left, or the connection is. */
static bool next_message(struct history_fetch *f)
{
	struct slice in = buf_slice(&f->in);
	struct frame frame;
	enum parse_result r = frame_peek(in, &frame);
	if (r == PARSE_INVALID || (r == PARSE_OK && frame_size(&frame) > MESSAGE_MAX)) {
		FAIL(f, "the server sent a message that is malformed or too long");
		return false;
	}
	if (r == PARSE_PARTIAL || !frame_complete(&frame, in))
		return false;
	if (f->state == FETCH_LOGIN)
		on_login_message(f, &frame);
	else
		on_answer_message(f, &frame);
	if (f->state == FETCH_WAITING || f->state == FETCH_DONE)
		return false;
	buf_consume(&f->in, frame_size(&frame));
	return true;
}

static void finish(struct history_fetch *f)
{
	/* The callback may start anew. */
	struct history h = f->history;
	if (f->found == 1)
		history_first(&h);
	h.system = f->system_identifier;
	write_terminate(&f->out);
	struct slice bye = buf_slice(&f->out);
	(void)net_stream_write(f->stream, bye.ptr, bye.len);
	f->error[0] = '\0';
	if (f->found < f->timeline)
		wait_and_retry(f);
	else
		history_fetch_stop(f);
	f->fn(f->arg, &h, f->at);
}

static void on_readable(struct history_fetch *f)
{
	uint8_t *room = buf_reserve(&f->in, READ_CHUNK);
	if (!room) {
		FAIL(f, "out of memory");
		return;
	}
	ssize_t n = net_stream_read(f->stream, room, READ_CHUNK);
	if (n == NET_AGAIN)
		return;
	if (n < 0) {
		FAIL(f, "%s",
		     n == NET_EOF ? "the server closed the connection" : net_stream_error(f->stream));
		return;
	}
	buf_commit(&f->in, (size_t)n);
	while (next_message(f))
		;
	if (f->state == FETCH_DONE)
		finish(f);
}

/* ================= connecting ================= */

static void on_connected(struct history_fetch *f)
{
	const struct watch_node *c = f->server;
	f->state = FETCH_LOGIN;
	net_timer_start(f->timer, f->settings.connect_timeout_us);
	if (!login_start_replication(&f->login, slice_str(c->user), slice_str(APPLICATION_NAME),
	                             c->secret_kind, slice_str(c->secret), &f->out)) {
		FAIL(f, "the user or password is missing or too long");
		return;
	}
	dial_bind(c, f->stream, &f->login);
	flush(f);
}

static void on_stream(void *owner, unsigned events)
{
	struct history_fetch *f = owner;
	if (events & NET_FAILED) {
		FAIL(f, "cannot connect to %s port %d: %s", f->server->host, f->server->port,
		     net_stream_error(f->stream));
	} else if (events & NET_CONNECTED) {
		on_connected(f);
	} else {
		if (events & NET_WRITABLE)
			flush(f);
		if ((events & NET_READABLE) && f->stream)
			on_readable(f);
	}
}

static void begin(struct history_fetch *f)
{
	buf_init(&f->in, MESSAGE_MAX + READ_CHUNK);
	buf_init(&f->out, READ_CHUNK);
	f->state = FETCH_CONNECTING;
	f->stream = dial(f->loop, f->server, f->settings.connect_timeout_us, on_stream, f);
	if (!f->stream)
		FAIL(f, "cannot open a socket: out of memory or descriptors (ulimit -n)");
}

static void on_timer(void *arg)
{
	struct history_fetch *f = arg;
	switch (f->state) {
	case FETCH_WAITING:
		begin(f);
		break;
	case FETCH_LOGIN:
		FAIL(f, "no answer to the login within %lld ms",
		     (long long)f->settings.connect_timeout_us / 1000);
		break;
	case FETCH_IDENTIFY:
	case FETCH_HISTORY:
		FAIL(f, "no answer within %lld ms", (long long)f->settings.answer_timeout_us / 1000);
		break;
	case FETCH_STOPPED:
	case FETCH_CONNECTING:
	case FETCH_DONE:
		break;
	}
}

/* ================= the owner's side ================= */

struct history_fetch *history_fetch_new(struct net_loop *loop,
                                        const struct history_fetch_settings *settings,
                                        history_fetch_fn fn, void *arg)
{
	struct history_fetch *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->loop = loop;
	f->settings = *settings;
	f->fn = fn;
	f->arg = arg;
	f->timer = net_timer_new(loop, on_timer, f);
	if (!f->timer) {
		free(f);
		return NULL;
	}
	return f;
}

void history_fetch_free(struct history_fetch *f)
{
	if (!f)
		return;
	history_fetch_stop(f);
	net_timer_free(f->timer);
	free(f);
}

void history_fetch_start(struct history_fetch *f, const struct watch_node *server,
                         enum node_role role, uint64_t system_identifier, uint32_t timeline)
{
	assert(role == NODE_ROLE_REPLICA || timeline > 1);
	history_fetch_stop(f);
	/* A primary that comes back with the same trouble is not worth another line in the log. */
	if (f->server != server || f->system_identifier != system_identifier || f->timeline != timeline)
		f->error[0] = '\0';
	f->server = server;
	f->role = role;
	f->system_identifier = system_identifier;
	f->timeline = timeline;
	f->backoff_us = f->settings.backoff_min_us;
	begin(f);
}

void history_fetch_stop(struct history_fetch *f)
{
	hang_up(f);
	net_timer_stop(f->timer);
	f->state = FETCH_STOPPED;
}

bool history_fetch_wants(const struct history_fetch *f, uint32_t *timeline)
{
	*timeline = f->timeline;
	return f->state != FETCH_STOPPED;
}
