/* SPDX-License-Identifier: PostgreSQL
 *
 * A client is a small machine, moved on by answers and by the clock:
 *
 *   CONNECTING --all conns ready--> RESTING --time--> WRITING --last step--> READING --+
 *       ^                             ^  ^               | SQL error            |      |
 *       |                             |  +-- RECOVERING <+----------------------+      |
 *       |                             +------------------------------------------------+
 *       +-- DOWN <-- connection lost, from anywhere          RESTING --end of run--> DONE
 */
#include "workload.h"

#include "history.h"
#include "latency.h"

#include <assert.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_LIMIT_US 15000000 /* for all clients, at the start */
#define DRAIN_LIMIT_US 5000000    /* for answers on their way when the run ends */
#define RECONNECT_US 100000
#define AFTER_ERROR_US 10000
#define SQL_SIZE 160
#define MAX_CONNS (1 + WORKLOAD_MAX_READ_DSNS)

enum client_state {
	CLIENT_CONNECTING,
	CLIENT_RESTING,
	CLIENT_WRITING,
	CLIENT_READING,
	CLIENT_RECOVERING,
	CLIENT_DOWN,
	CLIENT_DONE
};

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_PREPARING, CONN_READY };

struct conn {
	struct client *client;
	PGconn *pg;
	enum conn_state state;
	int setup_step; /* CONN_PREPARING: the next of the statements it starts with */
	int fd;         /* as registered with epoll; -1: none */
	bool busy;      /* a command is under way */
	bool failed;    /* ... and has answered with an error */
	uint64_t value; /* ... the number it has returned, 0 when none */
};

struct client {
	struct workload *workload;
	int id;
	enum client_state state;
	size_t step;      /* of the write, or the read's number */
	int64_t wake_us;  /* RESTING, DOWN: when to go on */
	int64_t began_us; /* of the write or read under way */
	int written_key;
	uint64_t version; /* of the write under way */
	int read_key;
	struct conn *read_tx; /* its reads are in a transaction, which is open on this one */
	bool read_tx_control; /* … whose BEGIN or COMMIT is under way */
	struct history_view view; /* of the read under way */
	uint64_t cycles;
	unsigned next_read_conn;
	struct conn conns[MAX_CONNS]; /* the first one writes */
};

struct workload {
	const struct workload_options *options;
	struct workload_result *result;
	struct client *clients;
	int conns_per_client;
	int epoll_fd;
	bool started;
	int64_t started_us;
	int64_t end_us;
	int64_t progress_us;
	uint64_t random;
	uint64_t *next_version; /* a key; used by set_version */
	struct history history;
	struct latency read_latency;
	struct latency write_latency;
};

enum step {
	STEP_BEGIN,
	STEP_READ,
	STEP_WRITE,
	STEP_READ_BACK, /* what the open transaction has written */
	STEP_COMMIT,
	STEP_PREPARE,
	STEP_COMMIT_PREPARED
};

struct script {
	size_t length;
	enum step steps[5];
};

static const struct script scripts[] = {
	[WORKLOAD_AUTOCOMMIT] = {1, {STEP_WRITE}},
	[WORKLOAD_EXPLICIT] = {3, {STEP_BEGIN, STEP_WRITE, STEP_COMMIT}},
	[WORKLOAD_READ_WRITE] = {4, {STEP_BEGIN, STEP_READ, STEP_WRITE, STEP_COMMIT}},
	[WORKLOAD_ORM] = {5, {STEP_BEGIN, STEP_READ, STEP_WRITE, STEP_READ_BACK, STEP_COMMIT}},
	[WORKLOAD_TWO_PHASE] = {4, {STEP_BEGIN, STEP_WRITE, STEP_PREPARE, STEP_COMMIT_PREPARED}},
};

static int64_t clock_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* xorshift64*: 0 <= result < n. */
static unsigned random_below(struct workload *w, unsigned n)
{
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return (unsigned)((w->random * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % n;
}

/* libpq's messages end with a newline, and may go on with hints nobody asked for here. */
static void first_line(char *to, size_t size, const char *text)
{
	snprintf(to, size, "%.*s", (int)strcspn(text, "\n"), text);
}

static size_t session_of(const struct client *c)
{
	return c->workload->options->session == WORKLOAD_SHARED ? 0 : (size_t)c->id;
}

/* --- statements ------------------------------------------------------------------------------ */

/* With `values`, key and version are written into the text; without, they are $1 and $2. */
static void write_sql(const struct workload_options *o, char *sql, const char *key,
                      const char *version)
{
	if (o->write_function != NULL)
		snprintf(sql, SQL_SIZE, "SELECT %s(%s)", o->write_function, key);
	else if (o->set_version)
		snprintf(sql, SQL_SIZE, "UPDATE tm_ryw SET version = %s WHERE key = %s", version, key);
	else
		snprintf(sql, SQL_SIZE,
		         "UPDATE tm_ryw SET version = version + 1 WHERE key = %s RETURNING version", key);
}

static void read_sql(char *sql, const char *key)
{
	snprintf(sql, SQL_SIZE, "SELECT version FROM tm_ryw WHERE key = %s", key);
}

static bool takes_version(const struct workload_options *o)
{
	return o->set_version && o->write_function == NULL;
}

/* --- connections ----------------------------------------------------------------------------- */

static void client_lost(struct client *c, const char *why);
static void client_connected(struct client *c);
static void client_answered(struct client *c, struct conn *conn);

static void conn_watch(struct conn *conn, uint32_t events)
{
	int epoll_fd = conn->client->workload->epoll_fd;
	struct epoll_event event = {.events = events, .data.ptr = conn};
	int fd = PQsocket(conn->pg);
	/* libpq may try the next address on another socket, which may even have the same number. */
	if (conn->fd == fd && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return;
	conn->fd = fd;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void conn_close(struct conn *conn)
{
	PQfinish(conn->pg); /* closing the socket takes it out of epoll */
	*conn = (struct conn){.client = conn->client, .fd = -1};
}

/* A command was handed to libpq: `sent` is what PQsend...() said. */
static void conn_sent(struct conn *conn, int sent)
{
	int unsent = sent ? PQflush(conn->pg) : -1;
	if (unsent < 0) {
		client_lost(conn->client, PQerrorMessage(conn->pg));
		return;
	}
	conn->busy = true;
	conn->failed = false;
	conn->value = 0;
	if (unsent > 0)
		conn_watch(conn, EPOLLIN | EPOLLOUT);
}

static void discard_notice(void *arg, const char *message)
{
	(void)arg;
	(void)message;
}

static void conn_open(struct conn *conn)
{
	struct client *c = conn->client;
	const struct workload_options *o = c->workload->options;
	long i = conn - c->conns;
	const char *dsn = i > 0 && o->read_dsn_count > 0 ? o->read_dsns[i - 1] : o->write_dsn;
	conn->pg = PQconnectStart(dsn);
	if (conn->pg == NULL || PQstatus(conn->pg) == CONNECTION_BAD) {
		client_lost(c, conn->pg != NULL ? PQerrorMessage(conn->pg) : "out of memory");
		return;
	}
	PQsetNoticeProcessor(conn->pg, discard_notice, NULL);
	conn->state = CONN_CONNECTING;
	conn_watch(conn, EPOLLOUT);
}

/* Sends the next statement that the connection starts with, or becomes ready. */
static void conn_prepare(struct conn *conn)
{
	struct client *c = conn->client;
	const struct workload_options *o = c->workload->options;
	bool writes = conn == c->conns;
	bool reads = c->workload->conns_per_client == 1 || !writes || o->tx == WORKLOAD_READ_WRITE ||
	             o->tx == WORKLOAD_ORM;
	char sql[SQL_SIZE];
	while (conn->setup_step < 4) {
		int step = conn->setup_step++;
		if (step == 0 && o->session == WORKLOAD_NAMED) {
			snprintf(sql, sizeof(sql), "SET tidemark.session = 'w%d'", c->id);
			conn_sent(conn, PQsendQuery(conn->pg, sql));
			return;
		}
		if (step == 1 && o->async_commit && writes) {
			conn_sent(conn, PQsendQuery(conn->pg, "SET synchronous_commit = off"));
			return;
		}
		if (step == 2 && o->protocol == WORKLOAD_PREPARED && writes) {
			write_sql(o, sql, "$1", "$2");
			conn_sent(conn, PQsendPrepare(conn->pg, "tm_w", sql, 0, NULL));
			return;
		}
		if (step == 3 && o->protocol == WORKLOAD_PREPARED && reads) {
			read_sql(sql, "$1");
			conn_sent(conn, PQsendPrepare(conn->pg, "tm_r", sql, 0, NULL));
			return;
		}
	}
	conn->state = CONN_READY;
	client_connected(c);
}

static void conn_go_on_connecting(struct conn *conn)
{
	switch (PQconnectPoll(conn->pg)) {
	case PGRES_POLLING_READING:
		conn_watch(conn, EPOLLIN);
		break;
	case PGRES_POLLING_WRITING:
		conn_watch(conn, EPOLLOUT);
		break;
	case PGRES_POLLING_OK:
		PQsetnonblocking(conn->pg, 1);
		conn_watch(conn, EPOLLIN);
		conn->state = CONN_PREPARING;
		conn_prepare(conn);
		break;
	default:
		client_lost(conn->client, PQerrorMessage(conn->pg));
	}
}

static void conn_note_error(struct conn *conn, const char *text)
{
	struct workload_result *result = conn->client->workload->result;
	conn->failed = true;
	result->errors++;
	if (result->message[0] == '\0')
		first_line(result->message, sizeof(result->message), text);
}

static void conn_absorb(struct conn *conn, const PGresult *answer)
{
	switch (PQresultStatus(answer)) {
	case PGRES_COMMAND_OK:
		/* COMMIT of a failed transaction "succeeds" so. */
		if (strcmp(PQcmdStatus((PGresult *)answer), "ROLLBACK") == 0 &&
		    conn->client->state == CLIENT_WRITING)
			conn_note_error(conn, "COMMIT answered ROLLBACK");
		break;
	case PGRES_TUPLES_OK:
		if (PQntuples(answer) > 0 && PQnfields(answer) > 0)
			conn->value = strtoull(PQgetvalue(answer, 0, 0), NULL, 10);
		break;
	default:
		conn_note_error(conn, PQresultErrorMessage(answer));
	}
}

/* The answer to the command under way is complete. */
static void conn_answered(struct conn *conn)
{
	conn->busy = false;
	if (PQstatus(conn->pg) == CONNECTION_BAD)
		client_lost(conn->client, NULL);
	else if (conn->state == CONN_READY)
		client_answered(conn->client, conn);
	else if (conn->failed)
		client_lost(conn->client, NULL);
	else
		conn_prepare(conn);
}

static void conn_receive(struct conn *conn, uint32_t events)
{
	if ((events & EPOLLOUT) && PQflush(conn->pg) == 0)
		conn_watch(conn, EPOLLIN);
	if (!PQconsumeInput(conn->pg)) {
		client_lost(conn->client, PQerrorMessage(conn->pg));
		return;
	}
	while (conn->busy && !PQisBusy(conn->pg)) {
		PGresult *answer = PQgetResult(conn->pg);
		if (answer != NULL)
			conn_absorb(conn, answer);
		else
			conn_answered(conn); /* may send the next command, or close */
		PQclear(answer);
	}
}

static void conn_event(struct conn *conn, uint32_t events)
{
	if (conn->state == CONN_CONNECTING)
		conn_go_on_connecting(conn);
	else if (conn->state != CONN_DOWN)
		conn_receive(conn, events);
}

/* Sends a step of the cycle in the protocol asked for. */
static void conn_send(struct conn *conn, const char *name, const char *sql, int nparams,
                      const char *const *params)
{
	if (conn->client->workload->options->protocol == WORKLOAD_PREPARED)
		conn_sent(conn, PQsendQueryPrepared(conn->pg, name, nparams, params, NULL, NULL, 0));
	else
		conn_sent(conn, PQsendQueryParams(conn->pg, sql, nparams, NULL, params, NULL, NULL, 0));
}

/* --- clients --------------------------------------------------------------------------------- */

static bool run_is_over(const struct workload *w)
{
	const struct workload_options *o = w->options;
	return (o->stop != NULL && *o->stop) || (w->started && clock_us() >= w->end_us);
}

static void client_rest(struct client *c, int64_t pause_us)
{
	const struct workload_options *o = c->workload->options;
	bool done = o->transactions > 0 && c->cycles >= o->transactions;
	c->state = done || run_is_over(c->workload) ? CLIENT_DONE : CLIENT_RESTING;
	c->wake_us = clock_us() + pause_us;
}

static int64_t think_us(struct workload *w)
{
	unsigned mean_us = (unsigned)w->options->think_ms * 1000;
	return mean_us > 0 ? mean_us / 2 + random_below(w, mean_us + 1) : 0;
}

/* `why` is NULL where the error was counted already. */
static void client_lost(struct client *c, const char *why)
{
	struct workload *w = c->workload;
	if (why != NULL)
		conn_note_error(&c->conns[0], why);
	for (int i = 0; i < w->conns_per_client; i++)
		conn_close(&c->conns[i]);
	if (w->options->session == WORKLOAD_OWN)
		history_forget(&w->history, session_of(c));
	c->state = CLIENT_DOWN;
	c->wake_us = clock_us() + RECONNECT_US;
}

static void client_connect(struct client *c)
{
	c->state = CLIENT_CONNECTING;
	for (int i = 0; i < c->workload->conns_per_client && c->state == CLIENT_CONNECTING; i++)
		conn_open(&c->conns[i]);
}

static void client_connected(struct client *c)
{
	for (int i = 0; i < c->workload->conns_per_client; i++) {
		if (c->conns[i].state != CONN_READY)
			return;
	}
	client_rest(c, 0);
}

/* One of the keys that only this client writes; where keys are few, clients share them. */
static int own_key(const struct client *c)
{
	struct workload *w = c->workload;
	int clients = w->options->clients;
	int keys = w->options->keys;
	if (c->id >= keys)
		return c->id % keys;
	unsigned mine = (unsigned)((keys - 1 - c->id) / clients + 1);
	return c->id + (int)random_below(w, mine) * clients;
}

static int choose_read_key(const struct client *c)
{
	struct workload *w = c->workload;
	const struct workload_options *o = w->options;
	bool just_written = c->state == CLIENT_READING && c->step == 0 && (o->reads_per_write > 1 || !o->read_any);
	if (just_written || (o->read_any && random_below(w, 2) == 0))
		return c->written_key;
	return o->read_any ? (int)random_below(w, (unsigned)o->keys) : own_key(c);
}

static void send_write(struct client *c)
{
	struct conn *conn = &c->conns[0];
	const struct workload_options *o = c->workload->options;
	char sql[SQL_SIZE], key[16], version[24];
	if (takes_version(o))
		c->version = c->workload->next_version[c->written_key]++;
	snprintf(key, sizeof(key), "%d", c->written_key);
	snprintf(version, sizeof(version), "%" PRIu64, c->version);
	if (o->protocol == WORKLOAD_SIMPLE) {
		write_sql(o, sql, key, version);
		conn_sent(conn, PQsendQuery(conn->pg, sql));
		return;
	}
	const char *params[] = {key, version};
	write_sql(o, sql, "$1", "$2");
	conn_send(conn, "tm_w", sql, takes_version(o) ? 2 : 1, params);
}

static void send_read_of(struct client *c, struct conn *conn, int read_key)
{
	struct workload *w = c->workload;
	char sql[SQL_SIZE], key[16];
	c->read_key = read_key;
	snprintf(key, sizeof(key), "%d", c->read_key);
	c->began_us = clock_us();
	c->view = history_read_started(&w->history, session_of(c), (size_t)c->read_key);
	if (w->options->protocol == WORKLOAD_SIMPLE) {
		read_sql(sql, key);
		conn_sent(conn, PQsendQuery(conn->pg, sql));
		return;
	}
	const char *params[] = {key};
	read_sql(sql, "$1");
	conn_send(conn, "tm_r", sql, 1, params);
}

static void send_read_on(struct client *c, struct conn *conn)
{
	send_read_of(c, conn, choose_read_key(c));
}

static void send_write_step(struct client *c)
{
	struct conn *conn = &c->conns[0];
	char sql[SQL_SIZE];
	switch (scripts[c->workload->options->tx].steps[c->step]) {
	case STEP_BEGIN:
		conn_sent(conn, PQsendQuery(conn->pg, "BEGIN"));
		break;
	case STEP_READ:
		send_read_on(c, conn);
		break;
	case STEP_WRITE:
		send_write(c);
		break;
	case STEP_READ_BACK:
		send_read_of(c, conn, c->written_key);
		break;
	case STEP_COMMIT:
		conn_sent(conn, PQsendQuery(conn->pg, "COMMIT"));
		break;
	case STEP_PREPARE:
		snprintf(sql, sizeof(sql), "PREPARE TRANSACTION 'tm_%d_%d'", (int)getpid(), c->id);
		conn_sent(conn, PQsendQuery(conn->pg, sql));
		break;
	case STEP_COMMIT_PREPARED:
		snprintf(sql, sizeof(sql), "COMMIT PREPARED 'tm_%d_%d'", (int)getpid(), c->id);
		conn_sent(conn, PQsendQuery(conn->pg, sql));
		break;
	}
}

static struct conn *next_read_conn(struct client *c)
{
	int readers = c->workload->conns_per_client - 1;
	return readers == 0 ? &c->conns[0] : &c->conns[1 + c->next_read_conn++ % (unsigned)readers];
}

static void client_start_cycle(struct client *c)
{
	c->state = CLIENT_WRITING;
	c->step = 0;
	c->read_tx = NULL;
	c->read_tx_control = false;
	c->written_key = own_key(c);
	c->began_us = clock_us();
	send_write_step(c);
}

static void end_cycle(struct client *c)
{
	c->cycles++;
	client_rest(c, think_us(c->workload));
}

static void control_read_tx(struct client *c, const char *sql)
{
	c->read_tx_control = true;
	conn_sent(c->read_tx, PQsendQuery(c->read_tx->pg, sql));
}

static void start_read(struct client *c)
{
	const struct workload_options *o = c->workload->options;
	bool done = c->step >= (size_t)o->reads_per_write || run_is_over(c->workload);
	if (done && c->read_tx) {
		control_read_tx(c, "COMMIT");
	} else if (done) {
		end_cycle(c);
	} else if (o->read_tx && !c->read_tx) {
		c->read_tx = next_read_conn(c);
		control_read_tx(c, o->read_tx);
	} else {
		send_read_on(c, c->read_tx ? c->read_tx : next_read_conn(c));
	}
}

/* The BEGIN or the COMMIT around the reads of a cycle. */
static void read_tx_answered(struct client *c)
{
	c->read_tx_control = false;
	if (PQtransactionStatus(c->read_tx->pg) == PQTRANS_IDLE) {
		c->read_tx = NULL;
		end_cycle(c);
	} else {
		start_read(c);
	}
}

static void judge_read(struct client *c, const struct conn *conn)
{
	struct workload *w = c->workload;
	w->result->reads++;
	switch (
		history_read_ended(&w->history, session_of(c), (size_t)c->read_key, c->view, conn->value)) {
	case HISTORY_OK:
		break;
	case HISTORY_STALE:
		w->result->stale++;
		break;
	case HISTORY_BACKWARD:
		w->result->backward++;
		break;
	}
}

/* Only the transaction itself sees this version yet, and nothing else. */
static void judge_read_back(struct client *c, const struct conn *conn)
{
	c->workload->result->reads++;
	c->workload->result->stale += conn->value != c->version;
}

static void write_step_answered(struct client *c, const struct conn *conn)
{
	struct workload *w = c->workload;
	const struct script *script = &scripts[w->options->tx];
	if (script->steps[c->step] == STEP_READ)
		judge_read(c, conn);
	if (script->steps[c->step] == STEP_READ_BACK)
		judge_read_back(c, conn);
	if (script->steps[c->step] == STEP_WRITE && !takes_version(w->options))
		c->version = conn->value;
	if (++c->step < script->length) {
		send_write_step(c);
		return;
	}
	history_wrote(&w->history, session_of(c), (size_t)c->written_key, c->version);
	latency_record(&w->write_latency, clock_us() - c->began_us);
	w->result->writes++;
	c->state = CLIENT_READING;
	c->step = 0;
	start_read(c);
}

static void read_answered(struct client *c, const struct conn *conn)
{
	struct workload *w = c->workload;
	if (c->read_tx_control) {
		read_tx_answered(c);
		return;
	}
	latency_record(&w->read_latency, clock_us() - c->began_us);
	judge_read(c, conn);
	c->step++;
	start_read(c);
}

/* A statement failed. Leaves a failed transaction, then starts over. */
static void client_recover(struct client *c, struct conn *conn)
{
	if (c->state != CLIENT_RECOVERING && PQtransactionStatus(conn->pg) != PQTRANS_IDLE) {
		c->state = CLIENT_RECOVERING;
		conn_sent(conn, PQsendQuery(conn->pg, "ROLLBACK"));
	} else {
		client_rest(c, AFTER_ERROR_US);
	}
}

static void client_answered(struct client *c, struct conn *conn)
{
	if (conn->failed || c->state == CLIENT_RECOVERING)
		client_recover(c, conn);
	else if (c->state == CLIENT_WRITING)
		write_step_answered(c, conn);
	else
		read_answered(c, conn);
}

/* The time that the client waited for has come. */
static void client_wake(struct client *c)
{
	if (run_is_over(c->workload))
		c->state = CLIENT_DONE;
	else if (c->state == CLIENT_DOWN)
		client_connect(c);
	else
		client_start_cycle(c);
}

/* --- the run --------------------------------------------------------------------------------- */

static bool workload_init(struct workload *w, const struct workload_options *o)
{
	w->conns_per_client = 1;
	if (o->read_dsn_count > 0)
		w->conns_per_client = 1 + o->read_dsn_count;
	else if (o->second_connection)
		w->conns_per_client = 2;
	w->random = o->seed != 0 ? o->seed : (uint64_t)clock_us() | 1;
	size_t sessions = o->session == WORKLOAD_SHARED ? 1 : (size_t)o->clients;
	w->clients = calloc((size_t)o->clients, sizeof(*w->clients));
	w->next_version = calloc((size_t)o->keys, sizeof(*w->next_version));
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->clients == NULL || w->next_version == NULL || w->epoll_fd < 0 ||
	    !history_init(&w->history, sessions, (size_t)o->keys))
		return false;
	for (int key = 0; key < o->keys; key++)
		w->next_version[key] = o->base_version + 1;
	for (int i = 0; i < o->clients; i++) {
		struct client *c = &w->clients[i];
		*c = (struct client){.workload = w, .id = i, .next_read_conn = (unsigned)i};
		for (int j = 0; j < MAX_CONNS; j++)
			c->conns[j] = (struct conn){.client = c, .fd = -1};
	}
	return true;
}

static void workload_release(struct workload *w)
{
	for (int i = 0; w->clients != NULL && i < w->options->clients; i++) {
		for (int j = 0; j < w->conns_per_client; j++)
			conn_close(&w->clients[i].conns[j]);
	}
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	history_release(&w->history);
	free(w->next_version);
	free(w->clients);
}

/* Handles what has come, waiting for it until `until_us` at most. */
static void turn_loop(struct workload *w, int64_t until_us)
{
	struct epoll_event events[64];
	int64_t wait_us = until_us - clock_us();
	int wait_ms = wait_us <= 0 ? 0 : (int)((wait_us + 999) / 1000);
	int n = epoll_wait(w->epoll_fd, events, 64, wait_ms);
	for (int i = 0; i < n; i++)
		conn_event(events[i].data.ptr, events[i].events);
}

static void report_progress(struct workload *w, int64_t now)
{
	if (w->options->progress == NULL || now < w->progress_us)
		return;
	w->progress_us = now + 1000000;
	w->options->progress(w->options->progress_arg, w->result, (double)(now - w->started_us) / 1e6);
}

/* Wakes whose time has come; returns when to look again, or -1 when all are done. */
static int64_t wake_clients(struct workload *w)
{
	int64_t now = clock_us();
	int64_t next = now + 100000;
	bool any = false;
	report_progress(w, now);
	for (int i = 0; i < w->options->clients; i++) {
		struct client *c = &w->clients[i];
		bool waits = c->state == CLIENT_RESTING || c->state == CLIENT_DOWN;
		if (waits && (c->wake_us <= now || now >= w->end_us))
			client_wake(c);
		else if (waits && c->wake_us < next)
			next = c->wake_us;
		any = any || c->state != CLIENT_DONE;
	}
	return any ? next : -1;
}

/* All clients connect before any starts, so that logins are not measured. */
static bool connect_all(struct workload *w)
{
	int64_t limit_us = clock_us() + CONNECT_LIMIT_US;
	int ready = 0;
	for (int i = 0; i < w->options->clients; i++)
		client_connect(&w->clients[i]);
	while (ready < w->options->clients && w->result->errors == 0 && !run_is_over(w)) {
		turn_loop(w, clock_us() + 100000);
		ready = 0;
		for (int i = 0; i < w->options->clients; i++)
			ready += w->clients[i].state == CLIENT_RESTING;
		if (clock_us() > limit_us) {
			snprintf(w->result->message, sizeof(w->result->message),
			         "only %d of %d clients could connect in time", ready, w->options->clients);
			return false;
		}
	}
	return w->result->errors == 0;
}

static void run_clients(struct workload *w)
{
	const struct workload_options *o = w->options;
	w->started_us = clock_us();
	w->end_us = o->seconds > 0 ? w->started_us + (int64_t)(o->seconds * 1e6) : INT64_MAX;
	w->progress_us = w->started_us + 1000000;
	w->started = true;
	for (int i = 0; i < o->clients; i++) {
		/* Spread over one cycle, so that clients do not march in step. */
		w->clients[i].wake_us = w->started_us + random_below(w, (unsigned)o->think_ms * 1000 + 1);
	}
	int64_t over_us = 0;
	int64_t next;
	while ((next = wake_clients(w)) >= 0) {
		turn_loop(w, next);
		if (!run_is_over(w))
			continue;
		over_us = over_us > 0 ? over_us : clock_us();
		if (clock_us() > over_us + DRAIN_LIMIT_US) {
			conn_note_error(&w->clients[0].conns[0], "answers still missing 5 s after the end");
			break;
		}
	}
	w->result->seconds = (double)(clock_us() - w->started_us) / 1e6;
}

bool workload_run(const struct workload_options *options, struct workload_result *result)
{
	assert(options->clients > 0 && options->clients <= WORKLOAD_MAX_CLIENTS && options->keys > 0);
	*result = (struct workload_result){0};
	struct workload *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return false;
	w->options = options;
	w->result = result;
	bool ok = workload_init(w, options);
	if (!ok)
		snprintf(result->message, sizeof(result->message), "out of memory");
	ok = ok && connect_all(w);
	if (ok) {
		run_clients(w);
		result->read_p50_us = latency_quantile_us(&w->read_latency, 0.50);
		result->read_p99_us = latency_quantile_us(&w->read_latency, 0.99);
		result->write_p50_us = latency_quantile_us(&w->write_latency, 0.50);
		result->write_p99_us = latency_quantile_us(&w->write_latency, 0.99);
	}
	workload_release(w);
	free(w);
	return ok;
}
