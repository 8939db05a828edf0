/* SPDX-License-Identifier: PostgreSQL
 *
 * A worker with a bit of everything in it, made by hand: nothing listens, and its loop never runs.
 *
 *   fleet     p (primary), a"b\c (replica, behind), lost (never connected)
 *   database  app ── account bob ── pools: one idle and one active server on p
 *   clients   one idle and named, one bound that holds the active server, one that waits for a
 * replica
 */
#ifndef TM_TESTS_ADMIN_WORLD_H
#define TM_TESTS_ADMIN_WORLD_H

#include "proxy/worker.h"

#include <assert.h>

#define WORLD_KEY "thirty-two-bytes-of-a-cancel-key"
#define WORLD_KEY_LEN (sizeof(WORLD_KEY) - 1)

struct world {
	struct worker *w;
	struct settings settings;
	struct database db;
	struct account account;
	struct server idle, active;
	struct client named, bound, waiting;
	struct session session;
	struct console seat;
	struct client admin; /* at the console; in no list */
};

static inline void world_fleet_told(void *arg, int node)
{
}

static inline void world_fleet(struct world *x)
{
	static const char *const names[] = {"p", "a\"b\\c", "lost"};
	struct fleet *f = &x->w->fleet;
	int64_t now = net_now_us();

	x->settings.node_count = 3;
	fleet_init(f, 60000000);
	for (int i = 0; i < 3; i++) {
		struct watch_node *n = &x->settings.nodes[i];
		snprintf(n->name, sizeof(n->name), "%s", names[i]);
		snprintf(n->host, sizeof(n->host), "127.0.0.1");
		n->port = 1 + i;
		fleet_node_add(f, slice_str(n->name));
	}
	x->w->watch =
		watch_new(x->w->loop, f, x->settings.nodes, 3, &x->settings.watch, world_fleet_told, NULL);
	fleet_node_up(f, 0, NODE_ROLE_PRIMARY, 1, now - 5000);
	fleet_node_up(f, 1, NODE_ROLE_REPLICA, 1, now - 5000);
	assert(x->w->watch &&
	       fleet_node_sampled(f, 0, (struct position){0x1000}, now - 4000, now - 3900) &&
	       fleet_node_sampled(f, 1, (struct position){0x1000}, now - 3000, now - 2900) &&
	       fleet_node_sampled(f, 0, (struct position){0x3000}, now - 2000, now - 1900));
}

static inline void world_server(struct world *x, struct server *s, struct list *in,
                                enum server_state state, uint32_t pid)
{
	s->worker = x->w;
	s->pool = &x->account.pools[0];
	s->state = state;
	s->pid = pid;
	s->connected_at_us = net_now_us() - 65000000;
	list_push_back(in, &s->link);
}

static inline void world_client(struct world *x, struct client *c, enum client_state state)
{
	c->worker = x->w;
	c->account = &x->account;
	c->state = state;
	c->id = (uint32_t)++x->w->client_count;
	c->serial = c->id;
	c->cancel_key_len = WORLD_KEY_LEN;
	memcpy(c->cancel_key, WORLD_KEY, WORLD_KEY_LEN);
	c->seen_at_us = net_now_us();
	c->last_node = NODE_NONE;
	list_init(&c->queue);
	list_push_back(&x->w->clients, &c->link);
}

static inline void world_pools(struct world *x)
{
	struct database *db = &x->db;
	struct account *a = &x->account;

	db->worker = x->w;
	snprintf(db->name, sizeof(db->name), "app");
	snprintf(db->dbname, sizeof(db->dbname), "app_on_servers");
	db->pool_size = 20;
	db->policy.level = LEVEL_SESSION;
	db->catalog = catalog_new(16);
	db->cache = stmt_cache_new(db->catalog, 16, 16);
	db->stats.query_count = 7;
	list_init(&db->accounts);
	list_push_back(&x->w->databases, &db->link);

	a->database = db;
	snprintf(a->user, sizeof(a->user), "bob");
	snprintf(a->secret, sizeof(a->secret), "bobs-password");
	list_init(&a->welcomes);
	for (int i = 0; i < FLEET_NODES_MAX; i++) {
		a->pools[i].account = a;
		a->pools[i].node = i;
		list_init(&a->pools[i].idle);
		list_init(&a->pools[i].busy);
		list_init(&a->pools[i].waiting);
		list_init(&a->pools[i].held);
	}
	list_push_back(&db->accounts, &a->link);
	world_server(x, &x->idle, &a->pools[0].idle, SERVER_IDLE, 4711);
	world_server(x, &x->active, &a->pools[0].busy, SERVER_ACTIVE, 4712);
	a->pools[0].idle_count = a->pools[0].busy_count = 1;
}

static inline void world_clients(struct world *x)
{
	world_client(x, &x->named, CLIENT_READY);
	snprintf(x->session.name, sizeof(x->session.name), "user-42");
	x->named.session = &x->session;
	x->named.last_node = 1;
	x->named.last_reason = REASON_REPLICA_FRESH;
	world_client(x, &x->bound, CLIENT_READY);
	x->bound.bound = BIND_LISTEN;
	x->bound.server = &x->active;
	x->active.client = &x->bound;
	world_client(x, &x->waiting, CLIENT_WAIT_POSITION);
	x->account.client_count = 3;
	x->seat.admin = true;
	x->admin.worker = x->w;
	x->admin.console = &x->seat;
	x->waiting.waiting_since_us = net_now_us() - 20000;
}

static inline void world_init(struct world *x)
{
	memset(x, 0, sizeof(*x));
	x->w = calloc(1, sizeof(*x->w));
	assert(x->w);
	x->w->settings = &x->settings;
	x->w->started_at_us = net_now_us() - 3000000;
	x->w->last_primary = NODE_NONE;
	list_init(&x->w->databases);
	list_init(&x->w->clients);
	list_init(&x->w->await_resume);
	list_init(&x->w->runnable);
	list_init(&x->w->dead_clients);
	list_init(&x->w->dead_servers);
	x->w->loop = net_loop_new();
	assert(x->w->loop);
	world_fleet(x);
	world_pools(x);
	world_clients(x);
	for (int i = 0; i < REASON_COUNT; i++)
		x->w->stats.by_reason[i] = 100 + (uint64_t)i;
	hist_record(&x->w->stats.token_wait, 3);
	hist_record(&x->w->stats.token_wait, 1500);
	hist_record(&x->w->stats.token_wait, INT64_C(60000000));
}

static inline void world_release(struct world *x)
{
	stmt_cache_free(x->db.cache);
	catalog_free(x->db.catalog);
	watch_free(x->w->watch);
	net_loop_free(x->w->loop);
	free(x->w);
}

/* The text of a file of the source tree; the caller frees. */
static inline char *world_source(const char *path)
{
	char full[1024];
	snprintf(full, sizeof(full), "%s/%s", TM_SOURCE_ROOT, path);
	FILE *in = fopen(full, "r");
	char *text = calloc(1, 256 * 1024);
	assert(in && text);
	size_t n = fread(text, 1, 256 * 1024 - 1, in);
	assert(n > 0);
	fclose(in);
	return text;
}

#endif
