/* SPDX-License-Identifier: PostgreSQL */
#include "pool.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "auth_lookup.h"
#include "base/log.h"
#include "client.h"
#include "operate.h"
#include "server.h"
#include "worker.h"

#define CATALOG_NAMES_MAX 200000

/* ---------------------------------------------------------------- databases */

static bool name_copy(char out[NAME_MAX_BYTES], struct slice name)
{
	if (name.len == 0 || name.len >= NAME_MAX_BYTES || memchr(name.ptr, 0, name.len))
		return false;
	memcpy(out, name.ptr, name.len);
	out[name.len] = '\0';
	return true;
}

const struct database_entry *database_entry_find(const struct settings *s, const char *name)
{
	const struct database_entry *any = NULL;
	for (int i = 0; i < s->database_count; i++) {
		if (strcmp(s->databases[i].name, name) == 0)
			return &s->databases[i];
		if (strcmp(s->databases[i].name, "*") == 0)
			any = &s->databases[i];
	}
	return any;
}

static void database_configure(struct database *db, const struct database_entry *e)
{
	const struct settings *s = db->worker->settings;
	db->pool_size = e->pool_size > 0 ? e->pool_size : s->default_pool_size;
	db->scope = e->has_scope ? e->scope : s->scope;
	db->policy = s->policy;
	if (e->has_consistency)
		db->policy.level = e->consistency;
}

/* Two names of one database on the servers are one session. */
static struct session_mark *shared_mark(struct database *db)
{
	list_for_each(it, &db->worker->databases)
	{
		struct database *other = container_of(it, struct database, link);
		if (other != db && strcmp(other->dbname, db->dbname) == 0)
			return other->shared;
	}
	return &db->own_shared;
}

bool database_served(const struct worker *w, struct slice name)
{
	char key[NAME_MAX_BYTES];
	return name_copy(key, name) && database_entry_find(w->settings, key);
}

bool database_listed(const struct worker *w, struct slice name)
{
	char key[NAME_MAX_BYTES];
	const struct database_entry *e =
		name_copy(key, name) ? database_entry_find(w->settings, key) : NULL;
	return e && strcmp(e->name, "*") != 0;
}

struct database *database_get(struct worker *w, struct slice name)
{
	char key[NAME_MAX_BYTES];
	if (!name_copy(key, name))
		return NULL;
	const struct database_entry *e = database_entry_find(w->settings, key);
	if (!e)
		return NULL;
	list_for_each(it, &w->databases)
	{
		struct database *db = container_of(it, struct database, link);
		if (strcmp(db->name, key) == 0)
			return db;
	}

	struct database *db = calloc(1, sizeof(*db));
	if (!db)
		return NULL;
	db->worker = w;
	snprintf(db->name, sizeof(db->name), "%s", key);
	list_init(&db->accounts);
	snprintf(db->dbname, sizeof(db->dbname), "%s", e->dbname[0] ? e->dbname : db->name);
	database_configure(db, e);
	int cached = w->settings->max_cached_statements;
	db->catalog = catalog_new(CATALOG_NAMES_MAX);
	db->cache = db->catalog ? stmt_cache_new(db->catalog, cached, cached) : NULL;
	if (!db->cache) {
		catalog_free(db->catalog);
		free(db);
		return NULL;
	}
	/* What clients of an earlier run of the router wrote is not known: the first read owes a
	 * sample of the primary. */
	session_wrote_unknown(&db->own_shared, &w->fleet, net_now_us());
	db->shared = shared_mark(db);
	list_push_back(&w->databases, &db->link);
	return db;
}

static void scope_changed(struct database *db)
{
	list_for_each(it, &db->worker->clients)
	{
		struct client *c = container_of(it, struct client, link);
		if (c->account && c->account->database == db)
			client_scope_changed(c);
	}
	session_wrote_unknown(db->shared, &db->worker->fleet, net_now_us());
}

void databases_reload(struct worker *w)
{
	list_for_each(it, &w->databases)
	{
		struct database *db = container_of(it, struct database, link);
		const struct database_entry *e = database_entry_find(w->settings, db->name);
		enum scope before = db->scope;
		if (e)
			database_configure(db, e);
		if (db->scope != before)
			scope_changed(db);
		if (e && strcmp(db->dbname, e->dbname[0] ? e->dbname : db->name) != 0)
			log_warn("database=%s keeps dbname=%s until a restart", db->name, db->dbname);
	}
}

/* ----------------------------------------------------------------- accounts */

const struct user_entry *user_find(const struct settings *s, struct slice name)
{
	int lo = 0, hi = s->user_count;
	while (lo < hi) {
		int mid = (lo + hi) / 2;
		struct slice have = slice_str(s->users[mid].name);
		size_t n = have.len < name.len ? have.len : name.len;
		int order = memcmp(have.ptr, name.ptr, n);
		if (order == 0)
			order = (have.len > name.len) - (have.len < name.len);
		if (order == 0)
			return &s->users[mid];
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static void forget_secret(struct account *a)
{
	a->secret_kind = SECRET_NONE;
	explicit_bzero(a->secret, sizeof(a->secret));
}

struct slice account_proof(const struct account *a)
{
	return a->secret_kind == SECRET_KEYS ? slice_of(a->secret, sizeof(struct scram_keys))
	                                     : slice_str(a->secret);
}

/* The secret only verifies. Keys that a client brought stay as long as they are of it. */
static void keep_keys_of(struct account *a, const char *text)
{
	struct scram_secret secret;
	struct scram_keys keys;
	memcpy(&keys, a->secret, sizeof(keys));
	if (a->secret_kind != SECRET_KEYS || !scram_secret_parse(slice_str(text), &secret) ||
	    !scram_keys_match(&keys, &secret))
		forget_secret(a);
	explicit_bzero(&keys, sizeof(keys));
}

void account_learn_keys(struct account *a, const struct scram_keys *keys)
{
	if (a->secret_kind != SECRET_NONE && a->secret_kind != SECRET_KEYS)
		return;
	bool fresh = a->secret_kind == SECRET_NONE;
	a->secret_kind = SECRET_KEYS;
	memcpy(a->secret, keys, sizeof(*keys));
	/* What failed for want of them may be tried again at once. */
	for (int i = 0; fresh && i < FLEET_NODES_MAX; i++)
		a->pools[i].retry_at_us = 0;
}

/* How to prove to a server that we are this user. */
static void account_secret(struct account *a, const char *stored)
{
	if (strncmp(stored, "SCRAM-SHA-256$", 14) == 0) {
		keep_keys_of(a, stored);
		return;
	}
	forget_secret(a);
	if (stored[0] == '\0')
		return;
	bool md5 = strncmp(stored, "md5", 3) == 0 && strlen(stored) == MD5_PASSWORD_LEN;
	a->secret_kind = md5 ? SECRET_MD5 : SECRET_PLAIN;
	snprintf(a->secret, sizeof(a->secret), "%s", stored);
}

static struct account *account_find(struct database *db, struct slice user, bool lookups)
{
	list_for_each(it, &db->accounts)
	{
		struct account *a = container_of(it, struct account, link);
		if (a->lookups == lookups && slice_eq_str(user, a->user))
			return a;
	}
	return NULL;
}

static struct account *account_make(struct database *db, struct slice user)
{
	struct account *a = calloc(1, sizeof(*a));
	if (!a || !name_copy(a->user, user)) {
		free(a);
		return NULL;
	}
	a->database = db;
	list_init(&a->welcomes);
	for (int i = 0; i < FLEET_NODES_MAX; i++) {
		struct pool *p = &a->pools[i];
		p->account = a;
		p->node = i;
		list_init(&p->idle);
		list_init(&p->busy);
		list_init(&p->waiting);
		list_init(&p->held);
	}
	list_push_back(&db->accounts, &a->link);
	return a;
}

struct account *account_get(struct database *db, struct slice user, const char *stored)
{
	struct account *a = account_find(db, user, false);
	if (!a)
		a = account_make(db, user);
	if (a)
		account_secret(a, stored);
	return a;
}

struct account *account_for_lookups(struct database *db, struct slice user)
{
	const struct user_entry *u = user_find(db->worker->settings, user);
	struct account *a = account_find(db, user, true);
	if (!a)
		a = account_make(db, user);
	if (a) {
		a->lookups = true;
		account_secret(a, u ? u->secret : "");
	}
	return a;
}

static void welcome_free(struct worker *w, struct welcome *it)
{
	list_remove(&it->link);
	vars_put(&w->vars, it->vars);
	buf_release(&it->bytes);
	free(it);
}

void databases_free(struct worker *w)
{
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		list_for_each(it, &db->accounts)
		{
			struct account *a = container_of(it, struct account, link);
			list_for_each(wl, &a->welcomes) welcome_free(w, container_of(wl, struct welcome, link));
			explicit_bzero(a->secret, sizeof(a->secret));
			free(a);
		}
		stmt_cache_free(db->cache);
		catalog_free(db->catalog);
		free(db);
	}
	list_init(&w->databases);
}

struct welcome *welcome_find(struct account *a, const struct vars *vars)
{
	list_for_each(it, &a->welcomes)
	{
		struct welcome *wl = container_of(it, struct welcome, link);
		if (wl->vars == vars)
			return wl;
	}
	return NULL;
}

void params_write(const struct server *s, struct buf *out)
{
	struct slice left = buf_slice(&s->params);
	struct slice name, value;
	while (server_next_param(&left, &name, &value)) {
		/* The client is connected to the fleet, not to a standby, whichever server we asked. */
		if (slice_eq_str(name, "in_hot_standby"))
			value = slice_str("off");
		write_parameter_status(out, name, value);
	}
}

struct welcome *welcome_learn(struct account *a, struct vars *vars, const struct server *s)
{
	if (a->welcome_count >= WELCOMES_MAX) {
		welcome_free(s->worker, container_of(list_last(&a->welcomes), struct welcome, link));
		a->welcome_count--;
	}
	struct welcome *wl = calloc(1, sizeof(*wl));
	if (!wl)
		return NULL;
	buf_init(&wl->bytes, 64 * 1024);
	params_write(s, &wl->bytes);
	wl->vars = vars_ref(vars);
	list_push_front(&a->welcomes, &wl->link);
	a->welcome_count++;
	return wl;
}

/* -------------------------------------------------------------------- pools */

int pool_size(const struct pool *p)
{
	int size = p->account->database->pool_size;
	return p->account->lookups && size > LOOKUP_CONNECTIONS ? LOOKUP_CONNECTIONS : size;
}

bool pool_unwanted(const struct pool *p)
{
	const struct worker *w = p->account->database->worker;
	return !health_is_wanted(&w->fleet.nodes[p->node].health) && p->node != worker_primary(w);
}

/* May one client ask yet for what the sequences have come to that it has advanced there? */
static bool is_kept(const struct server *s)
{
	return s->sequence_user != 0 && s->sequence_user != UINT64_MAX;
}

bool account_asks_sequences(const struct account *a)
{
	return a->asks_sequences || catalog_asks_sequences(a->database->catalog);
}

/* … as none can be opened, it takes what it gets. */
static bool insists_on_unused(const struct pool *p, const struct client *c, int64_t now_us)
{
	return c->wants_unused && now_us >= p->retry_at_us;
}

/* Opened since the client came: as PostgreSQL itself would have it. */
static struct list *unused_idle(const struct pool *p, const struct client *c)
{
	for (struct list *it = p->idle.next; it != &p->idle; it = it->next) {
		const struct server *s = container_of(it, struct server, link);
		if (!s->used && s->serial > c->serial)
			return it;
	}
	return NULL;
}

/* The connection on which the client itself has advanced a sequence; else one that is kept for
 * nobody; else, `any`, the one that has been kept the longest. */
static struct list *choose_idle(const struct pool *p, const struct client *c, bool any)
{
	struct list *best = NULL;
	if (c->wants_unused && insists_on_unused(p, c, net_loop_now_us(c->worker->loop)))
		return unused_idle(p, c);
	if (!account_asks_sequences(p->account))
		return list_first(&p->idle);
	list_for_each(it, &p->idle)
	{
		const struct server *s = container_of(it, struct server, link);
		if (s->sequence_user == c->serial)
			return it;
		if (!best && !is_kept(s))
			best = it;
	}
	return best || !any ? best : list_last(&p->idle);
}

static struct server *take_idle(struct pool *p, const struct client *c, bool any)
{
	struct list *it = choose_idle(p, c, any);
	if (!it)
		return NULL;
	struct server *s = container_of(it, struct server, link);
	list_remove(&s->link);
	list_push_front(&p->busy, &s->link);
	p->idle_count--;
	p->busy_count++;
	return s;
}

void account_forget_sequences(struct account *a, uint64_t serial)
{
	for (int i = 0; account_asks_sequences(a) && i < FLEET_NODES_MAX; i++) {
		list_for_each(it, &a->pools[i].idle)
		{
			struct server *s = container_of(it, struct server, link);
			if (s->sequence_user == serial)
				s->sequence_user = UINT64_MAX;
		}
	}
}

static bool may_connect(const struct pool *p, int64_t now_us)
{
	return p->idle_count + p->busy_count < pool_size(p) && now_us >= p->retry_at_us;
}

/* How many servers of this pool are on their way to serve those who wait. */
static int connecting(const struct pool *p)
{
	int n = 0;
	for (const struct list *it = p->busy.next; it != &p->busy; it = it->next) {
		const struct server *s = container_of(it, struct server, link);
		n += s->state == SERVER_CONNECTING || s->state == SERVER_LOGIN || s->state == SERVER_VERIFY;
	}
	return n;
}

const struct watch_node *pool_node(const struct pool *p)
{
	return &p->account->database->worker->settings->nodes[p->node];
}

bool pool_asks_another(struct pool *p, const struct server *s)
{
	if (!is_kept(s) || !account_asks_sequences(p->account))
		return false;
	if (connecting(p) > 0)
		return true;
	if (!may_connect(p, net_loop_now_us(s->worker->loop)))
		return false;
	server_connect(p);
	return true;
}

static bool queue_is_full(const struct pool *p)
{
	const struct worker *w = p->account->database->worker;
	return p->waiting_count + p->held_count >= w->settings->max_pool_waiting;
}

/* Who wants an unused connection leaves the others to those behind. */
static bool nobody_is_before(const struct pool *p, int64_t now_us)
{
	const struct list *it = p->waiting.next;
	while (it != &p->waiting &&
	       insists_on_unused(p, container_of(it, struct client, queue), now_us))
		it = it->next;
	return it == &p->waiting;
}

/* A connection that was used gives way to a new one, where the first in line wants that. */
static void make_room(struct pool *p, int64_t now_us)
{
	const struct client *first = container_of(list_first(&p->waiting), struct client, queue);
	bool full = p->idle_count + p->busy_count >= pool_size(p);
	if (full && p->idle_count > 0 && connecting(p) == 0 && insists_on_unused(p, first, now_us) &&
	    !unused_idle(p, first))
		server_close(container_of(list_last(&p->idle), struct server, link), NULL);
}

static void connect_for_those_who_wait(struct pool *p, int64_t now_us)
{
	if (connecting(p) < p->waiting_count && may_connect(p, now_us))
		server_connect(p);
}

enum pool_answer pool_acquire(struct pool *p, struct client *c, struct server **out)
{
	struct worker *w = c->worker;
	bool granted = c->granted == p;
	if (granted)
		c->granted = NULL;
	int64_t now = net_loop_now_us(w->loop);
	bool any = granted || !may_connect(p, now);
	if ((granted || nobody_is_before(p, now)) && (*out = take_idle(p, c, any)) != NULL)
		return POOL_TAKEN;

	if (pool_down(p, now))
		return POOL_DOWN;
	if (queue_is_full(p))
		return POOL_FULL;

	list_remove(&c->queue); /* it may have been runnable */
	if (granted)
		list_push_front(&p->waiting, &c->queue);
	else
		list_push_back(&p->waiting, &c->queue);
	p->waiting_count++;
	c->waits_for = p;
	/* Behind others: what is idle may have been granted to one of them. */
	if (p->waiting_count == 1)
		make_room(p, now);
	connect_for_those_who_wait(p, now);
	return POOL_QUEUED;
}

void pool_leave_queue(struct client *c)
{
	struct pool *p = c->waits_for;
	if (!p)
		return;
	list_remove(&c->queue);
	if (c->held)
		p->held_count--;
	else
		p->waiting_count--;
	c->held = false;
	c->waits_for = NULL;
}

/* ------------------------------------------------- reads for want of a replica */

/* INT_MAX: no limit. A fleet that has no replica to lose needs none. */
static int fallback_limit(const struct pool *p)
{
	const struct worker *w = p->account->database->worker;
	int share = w->settings->fallback_pool_share, limit = pool_size(p) * share / 100;
	bool replicas = false;
	for (int i = 0; i < w->fleet.count; i++)
		replicas |= i != p->node && w->fleet.nodes[i].health.weight > 0;
	if (share == 100 || !replicas)
		return INT_MAX;
	return limit > 0 ? limit : 1;
}

static void let_in(struct pool *p, struct client *c)
{
	c->fallback_of = p;
	p->fallback_count++;
}

static void let_next_in(struct pool *p)
{
	/* Who has timed out is off the list, and counted until it is resumed. */
	while (!list_empty(&p->held) && p->fallback_count < fallback_limit(p)) {
		struct client *c = container_of(list_first(&p->held), struct client, queue);
		pool_leave_queue(c);
		let_in(p, c);
		worker_make_runnable(c->worker, c);
	}
}

void pool_dismiss(struct client *c)
{
	struct pool *p = c->fallback_of;
	if (!p)
		return;
	c->fallback_of = NULL;
	p->fallback_count--;
	let_next_in(p);
}

enum pool_answer pool_acquire_fallback(struct pool *p, struct client *c, struct server **out)
{
	if (c->fallback_of != p)
		pool_dismiss(c);
	if (c->fallback_of == p || pool_down(p, net_loop_now_us(c->worker->loop)))
		return pool_acquire(p, c, out);
	if (p->held_count == 0 && p->fallback_count < fallback_limit(p)) {
		let_in(p, c);
		return pool_acquire(p, c, out);
	}
	if (queue_is_full(p))
		return POOL_FULL;
	c->worker->stats.held_back += c->turn_queued_at_us == 0;
	list_remove(&c->queue);
	list_push_back(&p->held, &c->queue);
	p->held_count++;
	c->held = true;
	c->waits_for = p;
	return POOL_QUEUED;
}

static bool any_replica_asked(const struct worker *w, int64_t now_us)
{
	for (int i = 0; i < w->fleet.count; i++) {
		if (fleet_replica_asked(&w->fleet, i, now_us))
			return true;
	}
	return false;
}

void pool_decline(struct client *c)
{
	struct pool *p = c->granted;
	c->granted = NULL;
	if (p && !list_empty(&p->waiting))
		pool_kick(p);
}

/* Those that are kept for somebody count when nothing better is on its way. */
static int free_servers(const struct pool *p)
{
	int n = 0;
	if (!account_asks_sequences(p->account) || connecting(p) == 0)
		return p->idle_count;
	for (const struct list *it = p->idle.next; it != &p->idle; it = it->next)
		n += !is_kept(container_of(it, struct server, link));
	return n;
}

static void send_away(struct list *queue)
{
	while (!list_empty(queue)) {
		struct client *c = container_of(list_first(queue), struct client, queue);
		pool_leave_queue(c);
		worker_make_runnable(c->worker, c);
	}
}

void pool_send_away(struct pool *p)
{
	send_away(&p->waiting);
	send_away(&p->held);
}

void pool_kick(struct pool *p)
{
	struct worker *w = p->account->database->worker;
	if (database_paused(p->account->database))
		return;
	int free = free_servers(p);
	int64_t now = net_loop_now_us(w->loop);
	list_for_each(it, &p->waiting)
	{
		struct client *c = container_of(it, struct client, queue);
		if (free == 0)
			break;
		if (insists_on_unused(p, c, now) && !unused_idle(p, c))
			continue;
		pool_leave_queue(c);
		c->granted = p;
		worker_make_runnable(w, c);
		free--;
	}
	if (p->waiting_count > 0 && free > 0)
		make_room(p, now);
	connect_for_those_who_wait(p, now);
	/* The last server went while a new one could not be had. */
	if (pool_down(p, now))
		pool_send_away(p);
}

void pool_connected(struct pool *p)
{
	struct worker *w = p->account->database->worker;
	struct node *n = &w->fleet.nodes[p->node];
	if (health_connected(&n->health, net_now_us()))
		log_info("node=%s takes connections again", n->name);
}

/* What the failure says of the node, which its watcher reaches. */
static void judge_node(struct pool *p)
{
	struct worker *w = p->account->database->worker;
	struct node *n = &w->fleet.nodes[p->node];
	if (!n->up || n->role != NODE_ROLE_REPLICA)
		return;
	if (!pool_unreachable(p)) {
		/* It said why: only this user or database is not wanted. */
		pool_connected(p);
		return;
	}
	if (!health_connect_failed(&n->health, w->settings->server_login_retry_us, net_now_us()))
		return;
	w->stats.left_out_unreachable++;
	log_warn("node=%s is watched, but takes no connections of clients: it is left out until it does",
	         n->name);
}

/* Nobody waits for it: one of those that failed tries again. */
static void probe(struct pool *p, int64_t now_us)
{
	struct worker *w = p->account->database->worker;
	bool failed = p->retry_at_us > 0 && p->idle_count + p->busy_count == 0;
	if (failed && w->state == WORKER_RUNNING && health_probe_due(&w->fleet.nodes[p->node].health, now_us))
		server_connect(p);
}

void pool_wait_before_retry(struct pool *p)
{
	p->retry_at_us = net_now_us() + p->account->database->worker->settings->server_login_retry_us;
}

void pool_failed(struct pool *p, const char *sqlstate, const char *error, const char *hint)
{
	snprintf(p->error, sizeof(p->error), "%s", error);
	snprintf(p->hint, sizeof(p->hint), "%s", hint);
	snprintf(p->sqlstate, sizeof(p->sqlstate), "%s", sqlstate);
	pool_wait_before_retry(p);
	/* Servers that work will come free; without any, nobody should wait in vain. */
	if (p->idle_count + p->busy_count > 0)
		return;
	judge_node(p);
	pool_send_away(p);
}

void pool_tend(struct pool *p, int64_t now_us)
{
	const struct worker *w = p->account->database->worker;
	const struct settings *s = w->settings;
	list_for_each(it, &p->idle)
	{
		struct server *srv = container_of(it, struct server, link);
		if (s->server_idle_timeout_us > 0 &&
		    now_us - srv->released_at_us > s->server_idle_timeout_us)
			server_close(srv, NULL);
		else if (s->server_lifetime_us > 0 && now_us - srv->connected_at_us > s->server_lifetime_us)
			server_close(srv, NULL);
		else if (!server_trusted(srv))
			server_close(srv, "its node was lost");
		else if (pool_unwanted(p))
			server_close(srv, NULL);
	}
	list_for_each(it, &p->busy) server_tend(container_of(it, struct server, link), now_us);
	probe(p, now_us);
	let_next_in(p);
	if (!list_empty(&p->held) && (p->node != worker_primary(w) || any_replica_asked(w, now_us)))
		send_away(&p->held);
	if (pool_unwanted(p) || !w->fleet.nodes[p->node].up)
		send_away(&p->waiting);
	else if (!list_empty(&p->waiting))
		pool_kick(p);
}
