/* SPDX-License-Identifier: PostgreSQL */
#include "unseen.h"
#include "worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "auth_lookup.h"
#include "base/log.h"
#include "cancel.h"
#include "catalog_load.h"
#include "client.h"
#include "marks.h"
#include "observe.h"
#include "operate.h"
#include "pool.h"
#include "questions.h"
#include "relay.h"
#include "server.h"

#define TICK_US 250000
#define LISTEN_BACKLOG 1024
#define CATALOG_REFRESH_US 60000000

/* ------------------------------------------------------------ the fleet's word */

int worker_primary(const struct worker *w)
{
	if (w->fleet.primary != NODE_NONE)
		return w->fleet.primary;
	/* The watcher lost it: PostgreSQL itself refuses writes after a demotion, so established
	 * connections stay of use until another node is known to be primary. */
	int last = w->last_primary;
	if (last == NODE_NONE || w->fleet.nodes[last].up || !fleet_may_lead(&w->fleet, last))
		return NODE_NONE;
	for (int i = 0; i < w->fleet.count; i++) {
		if (w->fleet.nodes[i].up && w->fleet.nodes[i].role == NODE_ROLE_PRIMARY)
			return NODE_NONE;
	}
	return last;
}

void worker_make_runnable(struct worker *w, struct client *c)
{
	list_remove(&c->queue);
	list_push_back(&w->runnable, &c->queue);
}

static struct client *client_of(struct waiter *it)
{
	return container_of(it, struct client, waiter);
}

void worker_arm_wait(struct worker *w)
{
	int64_t next = waitlist_next_deadline(&w->waitlist);
	watch_set_busy(w->watch, w->waitlist.count > 0 || observe_busy(w));
	if (next == INT64_MAX) {
		net_timer_stop(w->wait_timer);
		return;
	}
	int64_t in = next - net_loop_now_us(w->loop);
	net_timer_start(w->wait_timer, in > 0 ? in : 0);
}

static void on_wait_timer(void *arg)
{
	struct worker *w = arg;
	struct waiter *it;
	int64_t now = net_now_us();
	while ((it = waitlist_pop_expired(&w->waitlist, now)) != NULL)
		worker_make_runnable(w, client_of(it));
	worker_arm_wait(w);
}

/* FAULT_GUARD_AFTER only: answers that were held until the replica got there. */
static void redrive_guarded(struct worker *w)
{
	list_for_each(it, &w->clients)
	{
		struct client *c = container_of(it, struct client, link);
		if (c->server && position_is_set(c->server->guard_after))
			server_redrive(c->server);
	}
}

static void tend_pools_of(struct worker *w, int node)
{
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		list_for_each(a, &db->accounts)
			pool_tend(&container_of(a, struct account, link)->pools[node], net_now_us());
	}
}

static void drop_connected(struct list *servers, const char *why)
{
	list_for_each(it, servers)
	{
		struct server *s = container_of(it, struct server, link);
		if (s->state >= SERVER_IDLE && s->state != SERVER_DEAD)
			server_close(s, why);
	}
}

/* What an old primary still answers is no longer the truth, and it may never answer: a host that
 * hangs keeps its connections. */
static void drop_old_primary(struct worker *w, int node, const char *why)
{
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		list_for_each(a, &db->accounts)
		{
			struct pool *p = &container_of(a, struct account, link)->pools[node];
			drop_connected(&p->idle, why);
			drop_connected(&p->busy, why);
			pool_send_away(p);
		}
	}
}

/* One that says that it is primary beside another is cut off as soon as it says so: whatever is
 * written there may be lost, and whatever is read there may never have been. */
static void fence(struct worker *w)
{
	/* Nothing was sent yet, and nobody knows whether there is anybody to fence. */
	if (w->patroni && !patroni_settled(w->patroni))
		return;
	for (int i = 0; i < w->fleet.count; i++) {
		bool fenced = fleet_node_fenced(&w->fleet, i), before = (w->fenced >> i & 1) != 0;
		w->fenced = (w->fenced & ~(UINT32_C(1) << i)) | (uint32_t)fenced << i;
		if (!fenced || before)
			continue;
		log_warn("node=%s says that it is primary, on timeline %u, and is fenced: %s",
		         w->fleet.nodes[i].name, w->fleet.nodes[i].timeline,
		         !fleet_may_lead(&w->fleet, i)   ? "by Patroni it is not the leader"
		         : w->fleet.primary != NODE_NONE ? "the primary is on a newer one"
		                                         : "nobody knows that it is on the newest");
		drop_old_primary(w, i, "the server is no longer known to be the primary");
		if (w->patroni)
			patroni_kick(w->patroni);
	}
}

/* They look again, and wait on if there is still nothing. */
static void resume_await_primary(struct worker *w)
{
	list_for_each(it, &w->await_primary)
		worker_make_runnable(w, container_of(it, struct client, queue));
}

/* A primary is there, another or the same again: what failed before says nothing of it. */
static void primary_came(struct worker *w)
{
	int node = w->fleet.primary;
	if (node == NODE_NONE || (w->fleet.nodes[node].epoch == w->primary_epoch &&
	                          w->fleet.generation == w->primary_generation))
		return;
	w->primary_epoch = w->fleet.nodes[node].epoch;
	w->primary_generation = w->fleet.generation;
	list_for_each(it, &w->await_primary)
	{
		struct client *c = container_of(it, struct client, queue);
		c->account->pools[node].retry_at_us = 0;
	}
	resume_await_primary(w);
}

void worker_replica_reached(struct worker *w, int node, struct position at, int64_t asked_at_us)
{
	int64_t now = net_now_us();
	struct waiter *it;
	fleet_replica_reached(&w->fleet, node, at, asked_at_us, now);
	if (w->waitlist.count == 0)
		return;
	while ((it = waitlist_pop_ready(&w->waitlist, &w->fleet, now)) != NULL)
		worker_make_runnable(w, client_of(it));
	worker_arm_wait(w);
}

static void take_primary(struct worker *w)
{
	if (w->fleet.primary != NODE_NONE && w->fleet.primary != w->last_primary) {
		int old = w->last_primary;
		w->last_primary = w->fleet.primary;
		log_info("node=%s is the primary, generation %u", w->fleet.nodes[w->last_primary].name,
		         w->fleet.generation);
		if (old != NODE_NONE)
			drop_old_primary(w, old, "another node has become primary");
	}
	fence(w);
	primary_came(w);
}

static void on_fleet(void *arg, int node)
{
	struct worker *w = arg;
	take_primary(w);
	int64_t now = net_now_us();
	const struct node *n = &w->fleet.nodes[node];
	/* It has become somebody's replica. If it is primary once more, on what its connections say may
	 * be built only when its timeline is known. */
	if (node == w->last_primary && n->up && n->role == NODE_ROLE_REPLICA)
		w->last_primary = NODE_NONE;
	struct waiter *it;
	if (!n->up) {
		tend_pools_of(w, node);
		/* What was waited for may never come: decide anew. */
		while ((it = waitlist_pop_any(&w->waitlist)) != NULL)
			worker_make_runnable(w, client_of(it));
	}
	while ((it = waitlist_pop_ready(&w->waitlist, &w->fleet, now)) != NULL)
		worker_make_runnable(w, client_of(it));
	if (w->settings->policy.fault == FAULT_GUARD_AFTER)
		redrive_guarded(w);
	observe_sampled(w);
	marks_tend(w);
	worker_arm_wait(w);
}

static void on_patroni(void *arg)
{
	struct worker *w = arg;
	watch_primary_changed(w->watch);
	take_primary(w);
	marks_tend(w);
	worker_arm_wait(w);
}

/* -------------------------------------------------------------------- ticks */

static void tend_client(struct worker *w, struct client *c, int64_t now)
{
	const struct settings *s = w->settings;
	int64_t idle = now - c->seen_at_us;
	if (c->ended_at_us > 0) {
		client_tend_end(c, now);
		if (c->state == CLIENT_DEAD)
			return;
	}
	switch (c->state) {
	case CLIENT_STARTUP:
	case CLIENT_TLS:
	case CLIENT_AUTH:
		if (s->client_login_timeout_us > 0 && idle > s->client_login_timeout_us)
			client_fatal(c, "08P01", "client_login_timeout: the login took too long", NULL);
		break;
	case CLIENT_LOOKUP:
		lookup_tend(c, now);
		break;
	case CLIENT_WELCOME:
		if (s->client_login_timeout_us > 0 && idle > s->client_login_timeout_us)
			client_fatal(c, "08006", "no server could be reached to log in to",
			             "SHOW FLEET on database tidemark tells what the router sees.");
		else if (!c->waits_for && !c->server)
			worker_make_runnable(w, c);
		break;
	case CLIENT_WAIT_SERVER:
		if (s->query_wait_timeout_us > 0 && now - c->turn_queued_at_us > s->query_wait_timeout_us) {
			c->timed_out = c->held ? TIMEOUT_HELD : TIMEOUT_SERVER;
			worker_make_runnable(w, c);
		}
		break;
	case CLIENT_READY:
		if (s->client_idle_timeout_us > 0 && !c->server && idle > s->client_idle_timeout_us)
			client_fatal(c, "57P05", "client_idle_timeout: the connection was idle too long", NULL);
		break;
	default:
		break;
	}
}

static void tend_databases(struct worker *w, int64_t now)
{
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		bool old = now - db->catalog_loaded_at_us > CATALOG_REFRESH_US;
		if (db->catalog_state == CATALOG_CURRENT && old)
			db->catalog_state = CATALOG_WANTED;
		list_for_each(a, &db->accounts)
		{
			struct account *acc = container_of(a, struct account, link);
			for (int i = 0; i < w->fleet.count; i++)
				pool_tend(&acc->pools[i], now);
			int primary = worker_primary(w);
			struct list *idle = primary == NODE_NONE ? NULL : list_first(&acc->pools[primary].idle);
			if (idle && db->catalog_state == CATALOG_WANTED)
				catalog_load_if_wanted(container_of(idle, struct server, link));
		}
	}
}

/* What averages are made of. */
static void turn_stats(struct worker *w, int64_t now)
{
	int64_t since = w->stats_last_us > 0 ? w->stats_last_us : w->started_at_us;
	if (now - since < STATS_PERIOD_US)
		return;
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		db->stats_before = db->stats_last;
		db->stats_last = db->stats;
	}
	w->stats_last_us = now;
}

static bool anybody_in_transaction(const struct worker *w)
{
	for (const struct list *it = w->clients.next; it != &w->clients; it = it->next) {
		const struct client *c = container_of(it, struct client, link);
		if (c->server || c->state == CLIENT_WAIT_POSITION || c->state == CLIENT_WAIT_SERVER ||
		    c->state == CLIENT_WAIT_STORE || c->state == CLIENT_WAIT_MARK ||
		    c->state == CLIENT_WAIT_PRIMARY)
			return true;
	}
	return false;
}

static void tend_draining(struct worker *w, int64_t now)
{
	list_for_each(it, &w->clients)
	{
		struct client *c = container_of(it, struct client, link);
		bool at_rest = !c->server && c->in.len == 0 && c->redo.len == 0;
		if (at_rest && (c->state == CLIENT_READY || c->state == CLIENT_CONSOLE))
			client_fatal(c, "57P01", "the router is shutting down", NULL);
	}
	if (!anybody_in_transaction(w) || now >= w->drain_until_us) {
		w->state = WORKER_STOPPED;
		net_loop_stop(w->loop);
	}
}

static void judge_latency(struct worker *w, int64_t now)
{
	int node = fleet_find_outlier(&w->fleet, now);
	if (node == NODE_NONE)
		return;
	struct node *n = &w->fleet.nodes[node];
	int64_t took_us = health_latency_us(&n->health, now);
	health_set_slow(&n->health, now);
	w->stats.left_out_slow++;
	log_warn("node=%s its reads take %.1f ms, outlier_latency times as long as those of all other "
	         "replicas: it is left out for %.0f s, unless it is the last",
	         n->name, (double)took_us / 1e3, (double)n->health.slow_for_us / 1e6);
}

static void tend_leaving(struct worker *w)
{
	for (const struct list *it = w->clients.next; it != &w->clients; it = it->next) {
		if (container_of(it, struct client, link)->state != CLIENT_CONSOLE)
			return;
	}
	worker_stop(w);
}

static void on_tick(void *arg)
{
	struct worker *w = arg;
	int64_t now = net_now_us();
	list_for_each(it, &w->clients) tend_client(w, container_of(it, struct client, link), now);
	judge_latency(w, now);
	tend_databases(w, now);
	resume_await_primary(w);
	sessions_expire(&w->sessions, now);
	turn_stats(w, now);
	if (w->state == WORKER_DRAINING)
		tend_draining(w, now);
	else if (w->state == WORKER_LEAVING)
		tend_leaving(w);
	net_timer_start(w->tick_timer, w->state == WORKER_DRAINING ? TICK_US / 10 : TICK_US);
}

enum drain_answer worker_drain(struct worker *w, struct slice name, bool drain)
{
	int node = 0;
	while (node < w->fleet.count && !slice_eq_str(name, w->fleet.nodes[node].name))
		node++;
	if (node == w->fleet.count)
		return DRAIN_NO_SUCH_NODE;
	if (drain && node == worker_primary(w))
		return DRAIN_IS_PRIMARY;
	if (drain != w->fleet.nodes[node].health.drained)
		log_info("node=%s %s", w->fleet.nodes[node].name,
		         drain ? "is drained: no new reads" : "is drained no longer");
	if (drain)
		fleet_node_drain(&w->fleet, node);
	else
		fleet_node_undrain(&w->fleet, node, net_now_us());
	tend_pools_of(w, node);
	return DRAIN_DONE;
}

/* After every turn of the loop: those who may go on, then the dead. */
static void after_turn(void *arg)
{
	struct worker *w = arg;
	operate_tend(w);
	for (int rounds = 0; rounds < 1000 && !list_empty(&w->runnable); rounds++) {
		struct list now_runnable;
		list_init(&now_runnable);
		while (!list_empty(&w->runnable)) {
			struct list *it = list_first(&w->runnable);
			list_remove(it);
			list_push_back(&now_runnable, it);
		}
		while (!list_empty(&now_runnable)) {
			struct client *c = container_of(list_first(&now_runnable), struct client, queue);
			list_remove(&c->queue);
			client_resume(c);
		}
	}
	list_for_each(it, &w->dead_clients) client_free(container_of(it, struct client, link));
	list_for_each(it, &w->dead_servers)
	{
		struct server *s = container_of(it, struct server, link);
		cancel_forget(w, s);
		server_free(s);
	}
}

/* ------------------------------------------------------------------ signals */

static void stop_listening(struct worker *w)
{
	net_listener_close(w->tcp);
	net_listener_close(w->unix_socket);
	w->tcp = w->unix_socket = NULL;
}

void worker_stop(struct worker *w)
{
	w->state = WORKER_STOPPED;
	net_loop_stop(w->loop);
}

void worker_leave(struct worker *w)
{
	if (w->state != WORKER_RUNNING)
		return;
	w->state = WORKER_LEAVING;
	stop_listening(w);
	log_info("shutting down: waiting for clients to leave");
}

void worker_shutdown(struct worker *w)
{
	if (w->state != WORKER_RUNNING && w->state != WORKER_LEAVING)
		return;
	w->state = WORKER_DRAINING;
	w->drain_until_us = net_now_us() + w->settings->shutdown_timeout_us;
	stop_listening(w);
	log_info("shutting down: waiting for running transactions");
	net_timer_start(w->tick_timer, 0);
}

static void on_terminate(void *arg, int signum)
{
	struct worker *w = arg;
	if (w->state == WORKER_RUNNING || w->state == WORKER_LEAVING) {
		worker_shutdown(w);
		return;
	}
	log_info("second signal %d: ending at once", signum);
	net_loop_stop(w->loop);
}

static void on_hangup(void *arg, int signum)
{
	struct worker *w = arg;
	if (w->reload)
		w->reload(w->reload_arg);
}

void worker_set_reload(struct worker *w, bool (*fn)(void *arg), void *arg)
{
	w->reload = fn;
	w->reload_arg = arg;
}

void worker_set_set(struct worker *w, bool (*fn)(void *arg, const char *name, const char *value,
                                                 char *why, size_t cap))
{
	w->set = fn;
}

void worker_set_console(struct worker *w, console_fn fn, void *arg)
{
	w->console = fn;
	w->console_arg = arg;
}

/* What of the fleet a reload may change. */
static void take_fleet_settings(struct worker *w)
{
	w->fleet.slow_start_us = w->settings->slow_start_us;
	w->fleet.outlier_factor = w->settings->outlier_factor;
	w->fleet.outlier_floor_us = w->settings->outlier_floor_us;
	for (int i = 0; i < w->fleet.count; i++)
		w->fleet.nodes[i].health.weight = w->settings->nodes[i].weight;
}

void worker_reload(struct worker *w, const struct settings *s)
{
	w->settings = s;
	databases_reload(w);
	lookups_forget(w);
	(void)observe_switch(w);
	take_fleet_settings(w);
	w->sessions.ttl_us = s->session_ttl_us;
	log_set_level((enum log_level)s->log_level);
	log_info("configuration reloaded");
}

/* --------------------------------------------------------------- life and end */

static void console_missing(void *arg, struct client *by, struct slice sql, struct buf *out)
{
	write_error(out, "ERROR", "0A000", "this build has no admin console", NULL);
}

static bool listen_all(struct worker *w, char *error, size_t cap)
{
	const struct settings *s = w->settings;
	if (s->listen_addr[0]) {
		w->tcp = net_listen(w->loop, s->listen_addr, s->listen_port, LISTEN_BACKLOG, client_accept,
		                    w, error, cap);
		if (!w->tcp)
			return false;
		log_info("listening on %s:%d", s->listen_addr, net_listener_port(w->tcp));
	}
	if (s->unix_socket_dir[0]) {
		w->unix_socket = net_listen(w->loop, s->unix_socket_dir, s->listen_port, LISTEN_BACKLOG,
		                            client_accept, w, error, cap);
		if (!w->unix_socket)
			return false;
		log_info("listening on %s/.s.PGSQL.%d", s->unix_socket_dir, s->listen_port);
	}
	return true;
}

static bool build(struct worker *w, char *error, size_t cap)
{
	const struct settings *s = w->settings;
	snprintf(error, cap, "out of memory or descriptors");
	fleet_init(&w->fleet, s->sample_max_age_us);
	for (int i = 0; i < s->node_count; i++)
		fleet_node_add(&w->fleet, slice_str(s->nodes[i].name));
	take_fleet_settings(w);
	w->loop = net_loop_new();
	if (!w->loop || !vars_table_init(&w->vars) || !waitlist_init(&w->waitlist, s->max_waiting) ||
	    !sessions_init(&w->sessions, s->max_sessions, s->session_ttl_us) ||
	    !questions_prepare(w) ||
	    !unseen_prepare_question(w) || !observe_switch(w))
		return false;
	w->wait_timer = net_timer_new(w->loop, on_wait_timer, w);
	w->tick_timer = net_timer_new(w->loop, on_tick, w);
	if (!w->wait_timer || !w->tick_timer)
		return false;
	net_loop_set_after(w->loop, after_turn, w);
	if (!net_loop_on_signal(w->loop, SIGTERM, on_terminate, w) ||
	    !net_loop_on_signal(w->loop, SIGINT, on_terminate, w) ||
	    !net_loop_on_signal(w->loop, SIGHUP, on_hangup, w))
		return false;
	if (!listen_all(w, error, cap))
		return false;
	if (!marks_start(w)) {
		snprintf(error, cap, "the session store cannot be used; see the log");
		return false;
	}
	w->watch = watch_new(w->loop, &w->fleet, s->nodes, s->node_count, &s->watch, on_fleet, w);
	if (!w->watch)
		return false;
	if (s->patroni.member_count > 0) {
		w->patroni = patroni_new(w->loop, &w->fleet, s->nodes, &s->patroni, on_patroni, w);
		if (!w->patroni)
			return false;
	}
	net_timer_start(w->tick_timer, TICK_US);
	return true;
}

struct worker *worker_new(const struct settings *s, char *error, size_t cap)
{
	struct worker *w = calloc(1, sizeof(*w));
	if (!w) {
		snprintf(error, cap, "out of memory");
		return NULL;
	}
	w->settings = s;
	w->last_primary = NODE_NONE;
	w->console = console_missing;
	w->started_at_us = net_now_us();
	list_init(&w->databases);
	list_init(&w->clients);
	list_init(&w->runnable);
	list_init(&w->await_primary);
	list_init(&w->await_resume);
	list_init(&w->dead_clients);
	list_init(&w->dead_servers);
	list_init(&w->cancels);
	signal(SIGPIPE, SIG_IGN);
	log_set_level((enum log_level)s->log_level);
	if (!build(w, error, cap)) {
		worker_free(w);
		return NULL;
	}
	return w;
}

int worker_run(struct worker *w)
{
	classify_thread_init();
	net_loop_run(w->loop);
	observe_summary(w);
	log_info("ended");
	return 0;
}

static void close_servers(struct pool *p)
{
	list_for_each(it, &p->idle) server_close(container_of(it, struct server, link), NULL);
	list_for_each(it, &p->busy) server_close(container_of(it, struct server, link), NULL);
}

void worker_free(struct worker *w)
{
	w->state = WORKER_STOPPED;
	list_for_each(it, &w->clients) client_close(container_of(it, struct client, link));
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		list_for_each(a, &db->accounts)
		{
			for (int i = 0; i < FLEET_NODES_MAX; i++)
				close_servers(&container_of(a, struct account, link)->pools[i]);
		}
	}
	cancel_free_all(w);
	while (!list_empty(&w->runnable))
		list_remove(list_first(&w->runnable));
	if (w->loop)
		after_turn(w);
	patroni_free(w->patroni);
	watch_free(w->watch);
	net_listener_close(w->tcp);
	net_listener_close(w->unix_socket);
	net_timer_free(w->wait_timer);
	net_timer_free(w->tick_timer);
	marks_stop(w);
	observe_free(w->observe);
	lookups_free(w);
	databases_free(w);
	if (w->loop)
		net_loop_free(w->loop);
	sessions_release(&w->sessions);
	waitlist_release(&w->waitlist);
	vars_table_release(&w->vars);
	for (int i = 0; i <= UNSEEN_ANY; i++)
		buf_release(&w->unseen_parse[i]);
	buf_release(&w->capture_parse);
	buf_release(&w->capture_parse_replica);
	buf_release(&w->capture_ask);
	buf_release(&w->guard_parse);
	buf_release(&w->guard_ask);
	free(w->by_id);
	free(w);
}
