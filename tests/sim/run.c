/* SPDX-License-Identifier: PostgreSQL
 *
 * The phases of a run, on the virtual clock:
 *
 *   TROUBLE   clients work, faults come
 *   CALM      all is healed; clients work on, until the router watches the primary again
 *   REST      what runs gets its answer; the clients go; the pools shrink to nothing
 *   LAST      each client writes and reads once more, without an error
 *   END       the clients go, the pools shrink to nothing, the router ends
 */
#include "run.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "belief.h"
#include "config/options.h"
#include "faults.h"
#include "overdue.h"
#include "proxy/worker.h"

#define MS 1000
#define S 1000000
#define STEP_US (20 * MS)
#define TROUBLE_US (3 * S)
#define CALM_US (500 * MS)
#define BACK_OFF_US (3 * S) /* more than the watcher's, and than that of who fetches the history */
/* For a phase that waits for something: the longest back-off, the limits of TCP, and each client's
 * limit are below it. */
#define PATIENCE_US (60 * S)

enum phase { TROUBLE, CALM, REST, REST_EMPTY, LAST, END_EMPTY, ENDING };
static const char *const phase_names[] = {"trouble", "calm",      "rest",  "rest empty",
                                          "last",    "end empty", "ending"};

struct run {
	struct settings settings;
	struct database_entry database;
	struct model *model;
	struct clients *clients;
	struct faults *faults;
	struct belief belief;
	struct worker *worker;
	struct net_timer *timer;
	enum phase phase;
	int64_t until_us;
	struct run_result result;
};

/* ================= the router's settings ================= */

static void settings_nodes(struct settings *s, int nodes)
{
	s->node_count = nodes;
	for (int i = 0; i < nodes; i++) {
		struct watch_node *n = &s->nodes[i];
		*n = (struct watch_node){.port = MODEL_PORT,
		                         .user = "watch",
		                         .database = "app",
		                         .weight = (int)sim_between(1, 3)};
		(void)snprintf(n->name, sizeof(n->name), "node%d", i);
		(void)snprintf(n->host, sizeof(n->host), "node%d", i);
	}
}

static void settings_fill(struct run *r, int nodes, enum session_scope scope,
                          enum route_fault fault)
{
	struct settings *s = &r->settings;
	options_defaults(s);
	settings_nodes(s, nodes);
	(void)snprintf(s->listen_addr, sizeof(s->listen_addr), "router");
	s->unix_socket_dir[0] = '\0';
	(void)snprintf(r->database.name, sizeof(r->database.name), "*");
	s->databases = &r->database;
	s->database_count = 1;
	s->auth_type = AUTH_TYPE_TRUST;
	s->scope = scope == SESSIONS_DATABASE ? SCOPE_DATABASE : SCOPE_CONNECTION;
	s->policy.fault = fault;
	s->policy.wait_timeout_us = sim_chance(50) ? 100 * MS : sim_between(0, 20 * MS);
	s->split_transactions = sim_chance(70) ? SPLIT_READ_COMMITTED : SPLIT_OFF;
	s->default_pool_size = (int)sim_between(1, 4);
	s->watch.idle_interval_us = sim_chance(50) ? 250 * MS : sim_between(5 * MS, 250 * MS);
	s->watch.answer_timeout_us = sim_chance(30) ? 1 * S : sim_between(150 * MS, 500 * MS);
	s->query_wait_timeout_us = 3 * S;
	s->server_idle_timeout_us = 1 * S;
	s->server_connect_timeout_us = 2 * S;
	s->server_login_retry_us = 200 * MS;
	s->client_login_timeout_us = 5 * S;
	s->client_eof_timeout_us = 60 * S;
}

/* ================= phases ================= */

static void enter(struct run *r, enum phase phase, int64_t for_us)
{
	sim_trace("phase: %s", phase_names[phase]);
	r->phase = phase;
	r->until_us = net_now_us() + for_us;
}

/* Only the watchers are left. */
static bool pools_empty(const struct run *r)
{
	for (int i = 0; i < model_nodes(r->model); i++)
		if (model_connections(r->model, i) != 1)
			return false;
	return r->worker->client_count == 0;
}

static void end(struct run *r)
{
	enter(r, ENDING, PATIENCE_US);
	worker_shutdown(r->worker);
}

static void out_of_patience(struct run *r)
{
	sim_trace("STUCK in phase %s", phase_names[r->phase]);
	if (r->phase == REST_EMPTY || r->phase == END_EMPTY)
		r->result.leaks++;
	else
		r->result.stuck++;
	if (r->phase == ENDING)
		net_loop_stop(r->worker->loop);
	else
		end(r);
}

/* After a loss: whom the servers follow is whom the router follows. */
static bool knows_primary(const struct run *r)
{
	const struct fleet *f = &r->worker->fleet;
	int node = model_primary(r->model);
	return model_up(r->model, node) && !faults_stray(r->faults) && f->primary == node &&
	       f->nodes[node].timeline == model_timeline(r->model);
}

/* What was lost cannot be told before. */
static bool watches_primary(const struct run *r)
{
	const struct fleet *f = &r->worker->fleet;
	return knows_primary(r) && f->nodes[f->primary].up && f->history.known;
}

static void step(struct run *r)
{
	bool over = net_now_us() >= r->until_us;
	switch (r->phase) {
	case TROUBLE:
		if (over) {
			faults_heal(r->faults);
			enter(r, CALM, CALM_US);
		}
		return;
	case CALM:
		if (over && (watches_primary(r) || net_now_us() >= r->until_us + BACK_OFF_US)) {
			clients_rest(r->clients);
			enter(r, REST, PATIENCE_US);
		}
		return;
	case REST:
	case LAST:
		if (clients_at_rest(r->clients)) {
			if (r->phase == LAST)
				clients_judge_losses(r->clients);
			clients_close(r->clients);
			enter(r, r->phase == REST ? REST_EMPTY : END_EMPTY, PATIENCE_US);
			return;
		}
		break;
	case REST_EMPTY:
		if (pools_empty(r)) {
			clients_last_round(r->clients);
			enter(r, LAST, PATIENCE_US);
			return;
		}
		break;
	case END_EMPTY:
		if (pools_empty(r)) {
			end(r);
			return;
		}
		break;
	case ENDING:
		break;
	}
	if (over)
		out_of_patience(r);
}

static void on_step(void *arg)
{
	struct run *r = arg;
	if (!clients_judged(r->clients) && knows_primary(r)) {
		sim_trace("the router knows its primary: judging anew");
		clients_judge(r->clients, true);
	}
	const char *limit = overdue_limit(r->worker, net_now_us());
	if (limit) {
		sim_trace("PAST A LIMIT: %s", limit);
		r->result.overdue++;
	}
	const char *wrong = belief_wrong(&r->belief, r->worker, r->model);
	if (wrong) {
		sim_trace("MISTAKEN: %s", wrong);
		r->result.mistaken++;
	}
	step(r);
	net_timer_start(r->timer, STEP_US);
}

/* ================= a run ================= */

static void build(struct run *r, enum route_fault fault)
{
	int nodes = (int)sim_between(2, 4);
	struct client_settings c = {
		.count = (int)sim_between(2, 6),
		.scope = (enum session_scope)sim_below(3),
		.pause_max_us = sim_between(1 * MS, 30 * MS),
		.write_percent = (int)sim_between(10, 50),
	};
	bool async_commit = sim_chance(30);
	settings_fill(r, nodes, c.scope, fault);
	sim_trace("%d nodes, %d clients, sessions %d, pool size %d, %s commits", nodes, c.count,
	          (int)c.scope, r->settings.default_pool_size,
	          async_commit ? "asynchronous" : "synchronous");
	r->model = model_new(nodes, async_commit);
	r->clients = clients_new(&c, r->model);
	const struct faults_settings f = {
		.every_us = sim_between(20 * MS, 400 * MS),
		.failover = sim_chance(50),
		.lossy = sim_chance(50),
	};
	r->faults = faults_new(&f, r->model, r->clients);
	r->timer = net_timer_new(sim_loop_new("fate"), on_step, r);
	net_timer_start(r->timer, STEP_US);
}

static void clear_away(struct run *r)
{
	r->result.counts = *clients_counts(r->clients);
	r->result.model = *model_counts(r->model);
	r->result.reads_replica = r->worker->stats.reads_replica;
	r->result.reads_primary = r->worker->stats.reads_primary;
	r->result.waited = r->worker->stats.reads_waited;
	r->result.moved = r->worker->stats.transactions_moved;
	worker_free(r->worker);
	r->result.leaks += sim_left_open(sim_host("router"));
	clients_free(r->clients);
	faults_free(r->faults);
	model_free(r->model);
	net_timer_free(r->timer);
	r->result.hash = sim_hash();
	sim_end();
}

struct run_result run_seed(uint64_t seed, enum route_fault fault, bool verbose)
{
	static struct run r;
	char error[256];
	r = (struct run){0};
	sim_begin(seed, verbose);
	build(&r, fault);
	r.settings.log_level = verbose ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR;
	enter(&r, TROUBLE, TROUBLE_US);
	r.worker = worker_new(&r.settings, error, sizeof(error));
	assert(r.worker);
	worker_run(r.worker);
	clear_away(&r);
	return r.result;
}

bool run_inconsistent(const struct run_result *r)
{
	const struct client_counts *c = &r->counts;
	return c->stale + c->backward + c->write_back + c->not_follow + c->told_of_nothing + c->untold > 0;
}

bool run_violated(const struct run_result *r)
{
	return run_inconsistent(r) || r->counts.hangs + r->counts.protocol > 0 || r->leaks > 0 ||
	       r->overdue + r->mistaken > 0 || r->stuck > 0;
}
