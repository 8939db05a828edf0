/* SPDX-License-Identifier: PostgreSQL
 *
 * A scripted server for the tests of the watchers: threads that speak just enough of the protocol
 * on a loopback port and answer what the test tells them to. An ordinary connection answers the
 * watcher's two questions, a replication connection the two of the history's fetch; each has a
 * mood of its own.
 */
#ifndef TM_TESTS_WATCH_SERVER_H
#define TM_TESTS_WATCH_SERVER_H

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pgwire/message.h"

#define SERVER_MS 1000
/* What a message may have at most, and more. */
#define SERVER_OUT_MAX 200000

enum mood {
	MOOD_GOOD,
	MOOD_SILENT,
	MOOD_ERROR,
	MOOD_HANG_UP,
	MOOD_GARBAGE,
	MOOD_OVERSIZED,
	MOOD_NO_ROW,
	MOOD_TWO_ROWS,
	MOOD_NO_POSITION,
	MOOD_BAD_LEARN,
	MOOD_UNASKED,
	MOOD_REFUSE_LOGIN,
	MOOD_SLOW,
};

enum history_mood {
	HISTORY_GOOD,
	HISTORY_DRIBBLE, /* byte by byte */
	HISTORY_NOT_PERMITTED,
	HISTORY_NO_HBA_LINE,
	HISTORY_SILENT_LOGIN,
	HISTORY_SILENT,
	HISTORY_HANG_UP,
	HISTORY_CUT_MESSAGE, /* the end of the last message never comes */
	HISTORY_CUT_TEXT,    /* the text lacks its last 3 bytes */
	HISTORY_NO_FILE,
	HISTORY_OTHER_SYSTEM,
	HISTORY_OTHER_TIMELINE,
	HISTORY_NULL_IDENTITY,
	HISTORY_NO_IDENTITY,
	HISTORY_OTHER_NAME,
	HISTORY_NULL_TEXT,
	HISTORY_ONE_COLUMN,
	HISTORY_NO_ROW,
	HISTORY_TWO_ROWS,
	HISTORY_MALFORMED_ROW,
	HISTORY_MALFORMED_ERROR,
	HISTORY_GARBAGE,
	HISTORY_OVERSIZED,
	HISTORY_UNASKED,
	HISTORY_IN_TRANSACTION,
	HISTORY_CUT_AT, /* that many bytes of the answer, then hang up */
	HISTORY_FLIP,   /* one bit of the answer */
};

#define SERVER_HISTORY                                                    \
	"1\t0/3000000\tno recovery target specified\n\n" /* two promotions */ \
	"2\t0/5000148\tno recovery target specified\n"

struct server {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	int connections;
	int listen_fd, port;
	/* under the lock */
	enum mood mood;
	enum history_mood history_mood;
	bool recovery;
	int timeline;
	uint64_t lsn;
	const char *system;
	const char *commit;
	const char *history; /* NULL: SERVER_HISTORY */
	size_t cut_at, flip_bit, answer_len;
	int logins, questions;
	int fetches, fetches_ended, farewells; /* of replication connections */
};

#define WITH(server, statement)               \
	do {                                      \
		pthread_mutex_lock(&(server).lock);   \
		statement;                            \
		pthread_mutex_unlock(&(server).lock); \
	} while (0)

/* One connection. */
struct conversation {
	struct server *server;
	int fd;
	bool started, replication, learn;
	bool last; /* hang up when this is sent */
	uint8_t in[8192];
	size_t in_len;
	struct buf out;
};

static inline bool server_receive(struct conversation *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);
	if (n <= 0)
		return false;
	c->in_len += (size_t)n;
	return true;
}

static inline void server_drop_front(struct conversation *c, size_t n)
{
	memmove(c->in, c->in + n, c->in_len - n);
	c->in_len -= n;
}

static inline bool server_send(struct conversation *c, size_t piece)
{
	struct slice s = buf_slice(&c->out);
	bool good = true;
	for (size_t at = 0; good && at < s.len; at += piece) {
		size_t n = s.len - at < piece ? s.len - at : piece;
		good = send(c->fd, s.ptr + at, n, MSG_NOSIGNAL) == (ssize_t)n;
	}
	buf_reset(&c->out);
	return good;
}

/* ---- ordinary connections ---- */

static inline void server_welcome(struct conversation *c)
{
	write_auth(&c->out, AUTH_OK, slice_str(""));
	write_parameter_status(&c->out, slice_str("server_version"), slice_str("15.0"));
	write_key_data(&c->out, 1, slice_str("\1\2\3\4"));
	write_ready(&c->out, TX_IDLE);
}

static inline void server_login(struct conversation *c)
{
	c->server->logins++;
	if (c->server->mood == MOOD_REFUSE_LOGIN)
		write_error(&c->out, "FATAL", "28000", "no entry for you", NULL);
	else
		server_welcome(c);
}

static inline void server_learn_row(struct server *s, struct buf *out)
{
	char timeline[16];
	(void)snprintf(timeline, sizeof(timeline), "%d", s->timeline);
	struct slice values[] = {
		slice_str(s->recovery ? "t" : "f"),
		slice_str(s->system),
		slice_str(timeline),
		slice_str(s->mood == MOOD_BAD_LEARN ? "8000" : "8192"),
		slice_str("16777216"),
		slice_str("1700000000000001"),
		slice_str("150020"),
		slice_str(s->commit),
	};
	write_data_row(out, values, 8);
}

static inline void server_position_row(struct server *s, struct buf *out)
{
	uint8_t recovery = s->recovery ? 1 : 0, lsn[8];
	store_be32(lsn, (uint32_t)(s->lsn >> 32));
	store_be32(lsn + 4, (uint32_t)s->lsn);
	struct slice values[] = {slice_of(&recovery, 1),
	                         s->mood == MOOD_NO_POSITION ? slice_of(NULL, 0) : slice_of(lsn, 8)};
	write_data_row(out, values, 2);
}

static inline void server_row(struct conversation *c)
{
	if (c->learn)
		server_learn_row(c->server, &c->out);
	else
		server_position_row(c->server, &c->out);
}

/* False: hang up. */
static inline bool server_answer(struct conversation *c)
{
	struct buf *out = &c->out;
	enum mood mood = c->server->mood;
	c->server->questions++;
	if (mood == MOOD_SLOW)
		usleep(20 * SERVER_MS);
	message_end(out, message_begin(out, BE_BIND_COMPLETE));
	switch (mood) {
	case MOOD_SILENT:
		buf_reset(out);
		return true;
	case MOOD_HANG_UP:
		return false;
	case MOOD_ERROR:
		write_error(out, "FATAL", "57P01", "terminating connection", NULL);
		return true;
	case MOOD_GARBAGE:
		buf_append(out, "Z\0\0\0\1", 5);
		return true;
	case MOOD_OVERSIZED:
		buf_append(out, "D\0\x10\0\0", 5);
		return true;
	case MOOD_UNASKED:
		message_end(out, message_begin(out, BE_COPY_BOTH));
		return true;
	case MOOD_NO_ROW:
		break;
	case MOOD_TWO_ROWS:
		server_row(c);
		server_row(c);
		break;
	default:
		write_error(out, "NOTICE", "00000", "never mind", NULL);
		server_row(c);
		break;
	}
	write_command_complete(out, "SELECT 1");
	write_ready(out, TX_IDLE);
	return true;
}

/* ---- replication connections ---- */

/* As PostgreSQL does it: the one is said after the authentication, the other instead of it. */
static inline void server_replication_login(struct conversation *c)
{
	c->server->fetches++;
	switch (c->server->history_mood) {
	case HISTORY_SILENT_LOGIN:
		break;
	case HISTORY_NO_HBA_LINE:
		write_error(&c->out, "FATAL", "28000", "no pg_hba.conf entry for replication", NULL);
		break;
	case HISTORY_NOT_PERMITTED:
		write_auth(&c->out, AUTH_OK, slice_str(""));
		write_error(&c->out, "FATAL", "42501", "must be replication role", NULL);
		break;
	default:
		server_welcome(c);
		break;
	}
}

static inline void server_identity_row(struct server *s, struct buf *out)
{
	char system[24], timeline[16];
	(void)snprintf(system, sizeof(system), "%llu",
	               (unsigned long long)strtoll(s->system, NULL, 10));
	(void)snprintf(timeline, sizeof(timeline), "%d",
	               s->history_mood == HISTORY_OTHER_TIMELINE ? s->timeline + 1 : s->timeline);
	struct slice values[] = {
		slice_str(s->history_mood == HISTORY_OTHER_SYSTEM ? "42" : system),
		slice_str(timeline),
		slice_str("0/6000000"),
		{0},
	};
	if (s->history_mood == HISTORY_NULL_IDENTITY)
		values[0] = values[1] = (struct slice){0};
	if (s->history_mood != HISTORY_NO_IDENTITY)
		write_data_row(out, values, 4);
}

static inline void server_history_row(struct server *s, struct buf *out)
{
	char name[32];
	(void)snprintf(name, sizeof(name), "%08X.history",
	               s->history_mood == HISTORY_OTHER_NAME ? s->timeline + 1 : s->timeline);
	struct slice values[] = {slice_str(name), slice_str(s->history ? s->history : SERVER_HISTORY)};
	if (s->history_mood == HISTORY_CUT_TEXT)
		values[1].len -= 3;
	if (s->history_mood == HISTORY_NULL_TEXT)
		values[1] = (struct slice){0};
	write_data_row(out, values, s->history_mood == HISTORY_ONE_COLUMN ? 1 : 2);
}

static inline void server_spoil(struct conversation *c)
{
	struct server *s = c->server;
	s->answer_len = c->out.len;
	if (s->history_mood == HISTORY_CUT_AT && s->cut_at < c->out.len) {
		buf_truncate(&c->out, s->cut_at);
		c->last = true;
	}
	if (s->history_mood == HISTORY_FLIP && s->flip_bit / 8 < c->out.len)
		c->out.data[c->out.start + s->flip_bit / 8] ^= (uint8_t)(1u << s->flip_bit % 8);
}

/* False: hang up. */
static inline bool server_history_answer(struct conversation *c)
{
	struct buf *out = &c->out;
	write_row_description(out, (const char *const[]){"filename", "content"}, 2);
	switch (c->server->history_mood) {
	case HISTORY_SILENT:
		buf_reset(out);
		return true;
	case HISTORY_HANG_UP:
		return false;
	case HISTORY_NO_FILE:
		buf_reset(out);
		write_error(out, "ERROR", "58P01", "could not open file", NULL);
		break;
	case HISTORY_MALFORMED_ERROR:
		buf_append(out, "E\0\0\0\5M", 6);
		break;
	case HISTORY_MALFORMED_ROW:
		buf_append(out, "D\0\0\0\x0a\0\2\0\0\xff\xff", 11);
		break;
	case HISTORY_GARBAGE:
		buf_append(out, "D\0\0\0\1", 5);
		break;
	case HISTORY_OVERSIZED:
		buf_append(out, "D\0\1\0\0", 5);
		break;
	case HISTORY_UNASKED:
		message_end(out, message_begin(out, BE_COPY_BOTH));
		break;
	case HISTORY_NO_ROW:
		break;
	case HISTORY_TWO_ROWS:
		server_history_row(c->server, out);
		server_history_row(c->server, out);
		break;
	case HISTORY_CUT_MESSAGE:
		server_history_row(c->server, out);
		out->len -= 10;
		return true;
	default:
		server_history_row(c->server, out);
		break;
	}
	write_command_complete(out, "TIMELINE_HISTORY");
	write_ready(out, c->server->history_mood == HISTORY_IN_TRANSACTION ? TX_OPEN : TX_IDLE);
	server_spoil(c);
	return true;
}

static inline bool server_command(struct conversation *c, struct slice text)
{
	char expected[64];
	(void)snprintf(expected, sizeof(expected), "TIMELINE_HISTORY %d", c->server->timeline);
	if (slice_eq_str(text, expected))
		return server_history_answer(c);
	if (!slice_eq_str(text, "IDENTIFY_SYSTEM"))
		return false;
	write_row_description(&c->out,
	                      (const char *const[]){"systemid", "timeline", "xlogpos", "dbname"}, 4);
	server_identity_row(c->server, &c->out);
	write_command_complete(&c->out, "IDENTIFY_SYSTEM");
	write_ready(&c->out, TX_IDLE);
	return true;
}

/* ---- both ---- */

static inline bool server_on_message(struct conversation *c, const struct frame *f)
{
	struct msg_bind bind;
	struct slice text;
	switch (f->type) {
	case FE_PARSE:
		message_end(&c->out, message_begin(&c->out, BE_PARSE_COMPLETE));
		return true;
	case FE_BIND:
		if (msg_bind_parse(frame_body(f), &bind))
			c->learn = slice_eq_str(bind.statement, "tidemark_learn");
		return true;
	case FE_SYNC:
		return server_answer(c);
	case FE_QUERY:
		return c->replication && msg_query_parse(frame_body(f), &text) && server_command(c, text);
	case FE_TERMINATE:
		if (c->replication)
			c->server->farewells++;
		return false;
	}
	return true;
}

static inline void server_on_startup(struct conversation *c, struct slice body)
{
	struct startup startup;
	struct slice name, value;
	c->started = true;
	if (!startup_parse(body, &startup))
		return;
	while (startup_next_param(&startup.params, &name, &value))
		if (slice_eq_str(name, "replication"))
			c->replication = slice_eq_str(value, "true");
	if (c->replication)
		server_replication_login(c);
	else
		server_login(c);
}

static inline bool server_on_bytes(struct conversation *c)
{
	struct frame f;
	struct slice body;
	if (!c->started) {
		if (startup_frame(slice_of(c->in, c->in_len), &body) != PARSE_OK)
			return true;
		server_on_startup(c, body);
		server_drop_front(c, 4 + body.len);
	}
	while (frame_peek(slice_of(c->in, c->in_len), &f) == PARSE_OK &&
	       frame_complete(&f, slice_of(c->in, c->in_len))) {
		if (!server_on_message(c, &f))
			return false;
		server_drop_front(c, frame_size(&f));
	}
	return true;
}

static inline void *server_converse(void *arg)
{
	struct conversation *c = arg;
	struct server *s = c->server;
	bool good = true;
	buf_init(&c->out, SERVER_OUT_MAX);
	while (good && !c->last && server_receive(c)) {
		size_t piece;
		pthread_mutex_lock(&s->lock);
		good = server_on_bytes(c);
		piece = c->replication && s->history_mood == HISTORY_DRIBBLE ? 1 : SERVER_OUT_MAX;
		pthread_mutex_unlock(&s->lock);
		good = good && server_send(c, piece);
	}
	buf_release(&c->out);
	close(c->fd);
	WITH(*s, s->fetches_ended += c->replication; s->connections--; pthread_cond_signal(&s->ended));
	free(c);
	return NULL;
}

static inline void *server_main(void *arg)
{
	struct server *s = arg;
	pthread_t thread;
	int fd, on = 1;
	while ((fd = accept(s->listen_fd, NULL, NULL)) >= 0) {
		struct conversation *c = calloc(1, sizeof(*c));
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (!c)
			abort();
		*c = (struct conversation){.server = s, .fd = fd};
		WITH(*s, s->connections++);
		if (pthread_create(&thread, NULL, server_converse, c) != 0)
			abort();
		pthread_detach(thread);
	}
	return NULL;
}

static inline void server_start(struct server *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->ended, NULL);
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s->listen_fd, 8), 0);
	assert_int_equal(getsockname(s->listen_fd, (struct sockaddr *)&a, &len), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

/* When nobody is connected any more. */
static inline void server_stop(struct server *s)
{
	shutdown(s->listen_fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	WITH(*s, while (s->connections > 0) pthread_cond_wait(&s->ended, &s->lock));
	close(s->listen_fd);
	pthread_cond_destroy(&s->ended);
	pthread_mutex_destroy(&s->lock);
}

#endif
