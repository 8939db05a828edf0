/* SPDX-License-Identifier: PostgreSQL */
#include "faults.h"

#include <assert.h>
#include <stdlib.h>

#define PAUSE_MAX_US 800000
#define LAG_MAX_US 150000
#define SLOW_MAX_US 30000
#define CUT_MAX_US 1500000
#define BLINK_MAX_US 50000
#define HANG_MAX_US 3500000 /* longer than the watcher's patience */
#define DOWN_MIN_US 1000 /* an immediate restart may be over before anybody looks */
#define DOWN_MAX_US 900000

struct faults {
	struct model *model;
	struct net_loop *loop;
	struct net_timer *next;
	struct clients *judged;
	struct faults_settings settings;
	struct net_timer *promote, *end_stray, *blink;
	int stray; /* -1: none */
	int clients, router;
	struct {
		struct faults *all;
		struct net_timer *back; /* when it is down: up again; when it cannot follow: down */
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

static void lossy_link(struct faults *f)
{
	int peer = some_peer(f);
	int percent = sim_chance(40) ? 0 : (int)sim_between(1, 15);
	sim_trace("fault: the link to host %d loses %d %%", peer, percent);
	sim_link_lossy(f->router, peer, percent);
}

static void hang(struct faults *f)
{
	int node = some_node(f);
	if (model_answers(f->model, node))
		model_hang(f->model, node, soon_us(HANG_MAX_US));
}

static void revert(struct faults *f)
{
	model_revert(f->model, some_node(f));
}

static void loses(struct faults *f)
{
	sim_trace("acknowledged writes may be lost");
	clients_judge(f->judged, false);
}

/* It is known to be up. */
static bool may_crash(const struct faults *f, int node)
{
	return node != model_primary(f->model) || !model_async_commit(f->model) || f->settings.lossy;
}

static void crash_for(struct faults *f, int node, int64_t down_us)
{
	if (node == model_primary(f->model) && model_async_commit(f->model)) {
		loses(f);
		ledger_open_all(clients_ledger(f->judged));
	}
	model_crash(f->model, node, sim_chance(30));
	net_timer_start(f->node[node].back, sim_between(0, down_us));
}

static void crash(struct faults *f)
{
	int node = some_node(f);
	if (model_up(f->model, node) && may_crash(f, node))
		crash_for(f, node, sim_chance(50) ? DOWN_MIN_US : DOWN_MAX_US);
}

/* Those that went another way are repaired, and the old primary comes back. */
static void repair_others(struct faults *f)
{
	for (int i = 0; i < model_nodes(f->model); i++) {
		if (i == f->stray)
			continue;
		if (!model_up(f->model, i) || model_diverged(f->model, i))
			net_timer_start(f->node[i].back, sim_between(0, DOWN_MAX_US));
	}
}

/* A replica's host loses power and is back before anybody can tell, with less than it had. */
static void blink(struct faults *f)
{
	int node = some_node(f);
	if (node == model_primary(f->model) || !model_up(f->model, node))
		return;
	model_crash(f->model, node, true);
	net_timer_start(f->node[node].back, 0);
}

/* The primary dies with answers on their way, and is back before they have arrived. */
static void blink_primary(struct faults *f)
{
	int node = model_primary(f->model);
	if (!model_up(f->model, node) || !may_crash(f, node))
		return;
	sim_link_lossy(f->router, model_host(f->model, node), 12);
	net_timer_start(f->blink, sim_between(1000, BLINK_MAX_US));
}

static void on_blink(void *arg)
{
	struct faults *f = arg;
	int node = model_primary(f->model);
	if (model_up(f->model, node) && may_crash(f, node))
		crash_for(f, node, DOWN_MIN_US);
}

/* The primary goes for good; on_promote() follows. */
static void fail_over(struct faults *f)
{
	int node = model_primary(f->model);
	if (!f->settings.failover || !model_may_fail_over(f->model))
		return;
	if (model_up(f->model, node)) {
		if (!may_crash(f, node))
			return;
		crash_for(f, node, DOWN_MAX_US);
	}
	net_timer_stop(f->node[node].back);
	net_timer_start(f->promote, sim_between(0, DOWN_MAX_US));
}

/* Somebody takes the primary for dead, and it is not. */
static void fail_over_beside(struct faults *f)
{
	int old = model_primary(f->model);
	if (!f->settings.failover || !f->settings.lossy || !model_may_fail_over(f->model) ||
	    !model_up(f->model, old) || f->stray >= 0)
		return;
	if (sim_chance(50))
		sim_link_cut(f->router, model_host(f->model, old), soon_us(CUT_MAX_US));
	if (!model_promote(f->model, sim_chance(50)))
		return;
	loses(f);
	ledger_promoted(clients_ledger(f->judged));
	f->stray = old;
	net_timer_start(f->end_stray, sim_between(0, DOWN_MAX_US));
	repair_others(f);
}

static void end_stray(struct faults *f)
{
	int node = f->stray;
	f->stray = -1;
	/* It may have been crashed meanwhile, and be a replica by now. */
	if (node < 0 || !model_up(f->model, node) || !model_diverged(f->model, node))
		return;
	model_crash(f->model, node, false);
	net_timer_start(f->node[node].back, sim_between(0, DOWN_MAX_US));
}

static void on_end_stray(void *arg)
{
	end_stray(arg);
}

static void on_promote(void *arg)
{
	struct faults *f = arg;
	int old = model_primary(f->model);
	bool lossy = f->settings.lossy && sim_chance(50);
	if (model_up(f->model, old))
		return;
	if (!model_promote(f->model, lossy)) {
		net_timer_start(f->node[old].back, 0); /* nobody is left: back to the old one */
		return;
	}
	ledger_promoted(clients_ledger(f->judged));
	if (lossy)
		loses(f);
	if (f->settings.lossy && f->stray < 0 && sim_chance(30)) {
		f->stray = model_promote_stray(f->model);
		loses(f);
		/* Which of the two the router sees first is chance. */
		ledger_open_all(clients_ledger(f->judged));
		net_timer_start(f->end_stray, sim_between(0, DOWN_MAX_US));
	}
	repair_others(f);
}

static void on_back(void *arg)
{
	struct faults *f = *(struct faults **)arg;
	int node = 0;
	while (arg != &f->node[node])
		node++;
	if (!model_up(f->model, node)) {
		model_start(f->model, node);
	} else if (model_diverged(f->model, node)) {
		model_crash(f->model, node, false);
		net_timer_start(f->node[node].back, sim_between(0, DOWN_MIN_US));
	}
}

static void on_next(void *arg)
{
	static void (*const kinds[])(struct faults *) = {
		pause_replay,
		pause_replay,
		change_lag,
		change_lag,
		slow_link,
		reset_connections,
		partition,
		partition_replication,
		crash,
		blink,
		silence_connections,
		lossy_link,
		hang,
		revert,
		blink_primary,
		fail_over,
		fail_over,
		fail_over_beside,
	};
	struct faults *f = arg;
	kinds[sim_below(sizeof(kinds) / sizeof(kinds[0]))](f);
	net_timer_start(f->next, sim_between(1000, 2 * f->settings.every_us));
}

struct faults *faults_new(const struct faults_settings *s, struct model *m, struct clients *c)
{
	struct faults *f = calloc(1, sizeof(*f));
	assert(f);
	f->model = m;
	f->judged = c;
	f->settings = *s;
	f->stray = -1;
	f->loop = sim_loop_new("fate");
	f->router = sim_host("router");
	f->clients = sim_host("clients");
	f->next = net_timer_new(f->loop, on_next, f);
	f->promote = net_timer_new(f->loop, on_promote, f);
	f->blink = net_timer_new(f->loop, on_blink, f);
	f->end_stray = net_timer_new(f->loop, on_end_stray, f);
	for (int i = 0; i < model_nodes(m); i++) {
		f->node[i].all = f;
		f->node[i].back = net_timer_new(f->loop, on_back, &f->node[i]);
	}
	net_timer_start(f->next, sim_between(1000, 2 * f->settings.every_us));
	return f;
}

bool faults_stray(const struct faults *f)
{
	return f->stray >= 0;
}

void faults_heal(struct faults *f)
{
	sim_trace("all is healed");
	net_timer_stop(f->next);
	net_timer_stop(f->promote);
	net_timer_stop(f->blink);
	end_stray(f);
	for (int i = 0; i < model_nodes(f->model); i++) {
		net_timer_stop(f->node[i].back);
		if (model_up(f->model, i) &&
		    (model_diverged(f->model, i) || model_reverts(f->model, i)))
			model_crash(f->model, i, false);
		if (!model_up(f->model, i))
			model_start(f->model, i);
		model_hang(f->model, i, net_now_us());
		model_pause_replay(f->model, i, 0);
		model_set_lag(f->model, i, 1000);
	}
	for (int a = 0; a < SIM_HOSTS_MAX; a++) {
		for (int b = 0; b < SIM_HOSTS_MAX; b++) {
			sim_link_cut(a, b, 0);
			sim_link_slow(a, b, 0);
			sim_link_lossy(a, b, 0);
		}
	}
}

void faults_free(struct faults *f)
{
	net_timer_free(f->next);
	net_timer_free(f->promote);
	net_timer_free(f->end_stray);
	net_timer_free(f->blink);
	for (int i = 0; i < model_nodes(f->model); i++)
		net_timer_free(f->node[i].back);
	free(f);
}
