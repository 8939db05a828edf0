/* SPDX-License-Identifier: PostgreSQL */
#include "overdue.h"

/* The router looks every 250 ms; timers are late by up to two. */
#define SLACK_US 300000

static const char *pool_limit(const struct pool *p, const struct settings *s, int64_t now_us)
{
	if (p->idle_count + p->busy_count > p->account->database->pool_size)
		return "pool_size";
	for (const struct list *it = p->busy.next; it != &p->busy; it = it->next) {
		const struct server *srv = container_of(it, struct server, link);
		if (srv->state <= SERVER_VERIFY &&
		    now_us - srv->connected_at_us > s->server_connect_timeout_us + SLACK_US)
			return "server_connect_timeout";
	}
	return NULL;
}

static const char *client_limit(const struct client *c, const struct settings *s, int64_t now_us)
{
	if (c->state == CLIENT_WAIT_SERVER &&
	    now_us - c->turn_queued_at_us > s->query_wait_timeout_us + SLACK_US)
		return "query_wait_timeout";
	if (c->state == CLIENT_WAIT_POSITION &&
	    now_us - c->waiting_since_us > s->policy.wait_timeout_us + SLACK_US)
		return "wait_timeout";
	return NULL;
}

const char *overdue_limit(const struct worker *w, int64_t now_us)
{
	const char *limit = NULL;
	for (const struct list *d = w->databases.next; !limit && d != &w->databases; d = d->next) {
		const struct database *db = container_of(d, struct database, link);
		for (const struct list *a = db->accounts.next; a != &db->accounts; a = a->next)
			for (int i = 0; !limit && i < w->fleet.count; i++)
				limit = pool_limit(&container_of(a, struct account, link)->pools[i], w->settings,
				                   now_us);
	}
	for (const struct list *it = w->clients.next; !limit && it != &w->clients; it = it->next)
		limit = client_limit(container_of(it, struct client, link), w->settings, now_us);
	return limit;
}
