/* SPDX-License-Identifier: PostgreSQL */
#include "faults.h"

#include <assert.h>
#include <stdlib.h>

#define PAUSE_MAX_US 800000
#define LAG_MAX_US 150000
#define SLOW_MAX_US 30000
#define CUT_MAX_US 1500000
#define DOWN_MIN_US 1000 /* an immediate restart may be over before anybody looks */
#define DOWN_MAX_US 900000

struct faults {
	struct model *model;
	struct net_loop *loop;
	struct net_timer *next;
	int64_t every_us;
	bool healed;
	int clients, router;
	struct {
		struct faults *all;
		struct net_timer *back; /* when it is down: up again */
	} node[MODEL_NODES_MAX];
};

static int some_node(const struct faults *f)
{
	return (int)sim_below((uint64_t)model_nodes(f->model));
}

/* The router's link to a node; now and then to the clients. */
static int some_peer(const struct faults *f)
{
	return sim_chance(15) ? f->clients : model_host(f->model, some_node(f));
}

static int64_t soon_us(int64_t max_us)
{
	return net_now_us() + sim_between(1000, max_us);
}

/* ---- one function a fault ---- */

static void pause_replay(struct faults *f)
{
	int node = some_node(f);
	sim_trace("fault: node%d pauses its replay", node);
	model_pause_replay(f->model, node, soon_us(PAUSE_MAX_US));
}

static void change_lag(struct faults *f)
{
	int node = some_node(f);
	int64_t lag_us = sim_chance(50) ? sim_between(0, 3000) : sim_between(0, LAG_MAX_US);
	sim_trace("fault: node%d lags by %lld us", node, (long long)lag_us);
	model_set_lag(f->model, node, lag_us);
}

static void slow_link(struct faults *f)
{
	int peer = some_peer(f);
	int64_t extra_us = sim_chance(40) ? 0 : sim_between(0, SLOW_MAX_US);
	sim_trace("fault: the link to host %d is slow by %lld us", peer, (long long)extra_us);
	sim_link_slow(f->router, peer, extra_us);
}

static void reset_connections(struct faults *f)
{
	int peer = some_peer(f);
	int count = sim_links_reset(f->router, peer, (int)sim_between(10, 100));
	sim_trace("fault: %d connections to host %d are reset", count, peer);
}

static void silence_connections(struct faults *f)
{
	int peer = some_peer(f);
	int count = sim_links_silent(f->router, peer, (int)sim_between(10, 60));
	sim_trace("fault: %d connections to host %d go silent", count, peer);
}

static void partition(struct faults *f)
{
	int peer = some_peer(f);
	sim_trace("fault: no link to host %d", peer);
	sim_link_cut(f->router, peer, soon_us(CUT_MAX_US));
}

static void partition_replication(struct faults *f)
{
	int node = some_node(f);
	sim_trace("fault: no replication to node%d", node);
	for (int i = 0; i < model_nodes(f->model); i++)
		if (i != node)
			sim_link_cut(model_host(f->model, i), model_host(f->model, node), soon_us(CUT_MAX_US));
}

static void crash(struct faults *f)
{
	int node = some_node(f);
	if (!model_up(f->model, node) ||
	    (node == model_primary(f->model) && model_async_commit(f->model)))
		return;
	model_crash(f->model, node, sim_chance(30));
	int64_t down_us = sim_chance(50) ? DOWN_MIN_US : DOWN_MAX_US;
	net_timer_start(f->node[node].back, sim_between(0, down_us));
}

static void on_back(void *arg)
{
	struct faults *f = *(struct faults **)arg;
	for (int i = 0; i < model_nodes(f->model); i++)
		if (arg == &f->node[i] && !model_up(f->model, i))
			model_start(f->model, i);
}

static void on_next(void *arg)
{
	static void (*const kinds[])(struct faults *) = {
		pause_replay, pause_replay,        change_lag, change_lag,
		slow_link,    reset_connections,   partition,  partition_replication,
		crash,        silence_connections,
	};
	struct faults *f = arg;
	kinds[sim_below(sizeof(kinds) / sizeof(kinds[0]))](f);
	net_timer_start(f->next, sim_between(1000, 2 * f->every_us));
}

struct faults *faults_new(struct model *m, int64_t every_us)
{
	struct faults *f = calloc(1, sizeof(*f));
	assert(f);
	f->model = m;
	f->every_us = every_us;
	f->loop = sim_loop_new("fate");
	f->router = sim_host("router");
	f->clients = sim_host("clients");
	f->next = net_timer_new(f->loop, on_next, f);
	for (int i = 0; i < model_nodes(m); i++) {
		f->node[i].all = f;
		f->node[i].back = net_timer_new(f->loop, on_back, &f->node[i]);
	}
	net_timer_start(f->next, sim_between(1000, 2 * every_us));
	return f;
}

void faults_heal(struct faults *f)
{
	sim_trace("all is healed");
	net_timer_stop(f->next);
	for (int i = 0; i < model_nodes(f->model); i++) {
		net_timer_stop(f->node[i].back);
		if (!model_up(f->model, i))
			model_start(f->model, i);
		model_pause_replay(f->model, i, 0);
		model_set_lag(f->model, i, 1000);
	}
	for (int a = 0; a < SIM_HOSTS_MAX; a++) {
		for (int b = 0; b < SIM_HOSTS_MAX; b++) {
			sim_link_cut(a, b, 0);
			sim_link_slow(a, b, 0);
		}
	}
}

void faults_free(struct faults *f)
{
	net_timer_free(f->next);
	for (int i = 0; i < model_nodes(f->model); i++)
		net_timer_free(f->node[i].back);
	free(f);
}
