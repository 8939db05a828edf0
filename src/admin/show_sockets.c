/* SPDX-License-Identifier: PostgreSQL */
#include "show.h"

#include <inttypes.h>
#include <stdio.h>

#include "census.h"
#include "proxy/client.h"
#include "table.h"

/* PgBouncer's columns of a connection; those of SHOW SOCKETS follow, then what a kind of connection
 * has of ours. */
#define SOCKET_TYPES "ssssssisissiiississii"
#define SOCKET_COLUMNS                                                                          \
	"type", "user", "database", "replication", "state", "addr", "port", "local_addr",           \
		"local_port", "connect_time", "request_time", "wait", "wait_us", "close_needed", "ptr", \
		"link", "remote_pid", "tls", "application_name", "prepared_statements", "id"
#define BUFFER_TYPES "iiiiiii"
#define BUFFER_COLUMNS \
	"recv_pos", "pkt_pos", "pkt_remain", "send_pos", "send_remain", "pkt_avail", "send_avail"

/* "10.0.0.1:5432", "[::1]:5432" or "unix" in two cells. */
static void address_cells(struct table *t, const struct net_stream *stream,
                          void (*of)(const struct net_stream *s, char *out, size_t cap))
{
	char text[128] = "";
	if (stream)
		of(stream, text, sizeof(text));
	char *colon = strrchr(text, ':');
	if (colon)
		*colon = '\0';
	table_format(t, "%s", text);
	table_format(t, "%s", colon ? colon + 1 : "0");
}

/* What PgBouncer's ptr is for: it names one connection and is never given twice. */
static void ptr_cell(struct table *t, uint64_t serial)
{
	if (serial > 0)
		table_format(t, "0x%" PRIx64, serial);
	else
		table_text(t, "");
}

/* The constant in SET application_name = 'x'. */
static void application_name_cell(struct table *t, const struct vars *vars)
{
	const char *sql = vars ? vars_find(vars, "application_name") : NULL;
	const char *at = sql ? strchr(sql, '\'') : NULL;
	char name[64];
	size_t n = 0;
	for (at = at ? at + 1 : ""; *at && n + 1 < sizeof(name); at++) {
		if (*at == '\'' && at[1] != '\'')
			break;
		at += *at == '\'';
		name[n++] = *at;
	}
	name[n] = '\0';
	table_format(t, "%s", name);
}

static int64_t client_wait_us(const struct client *c, int64_t now_us)
{
	enum client_activity does = client_activity(c);
	int64_t since = does == CLIENT_DOES_WAIT           ? c->turn_queued_at_us
	                : does == CLIENT_DOES_WAIT_REPLICA ? c->waiting_since_us
	                                                   : 0;
	return since > 0 && now_us > since ? now_us - since : 0;
}

static void wait_cells(struct table *t, int64_t us)
{
	table_i64(t, us / 1000000);
	table_i64(t, us % 1000000);
}

static const char *user_of(const struct client *c)
{
	return c->account ? client_user(c) : c->console ? c->console->user : NULL;
}

static const char *client_database(const struct client *c)
{
	return c->account ? c->account->database->name : c->console ? "tidemark" : NULL;
}

static void client_cells(struct table *t, const struct client *c, int64_t now_us,
                         const char *state_prefix)
{
	table_text(t, "C");
	table_text(t, user_of(c));
	table_text(t, client_database(c));
	table_text(t, "none");
	table_format(t, "%s%s", state_prefix, client_activity_name(client_activity(c)));
	address_cells(t, c->stream, net_stream_peer);
	address_cells(t, c->stream, net_stream_own);
	table_time(t, c->connected_at_us, now_us);
	table_time(t, c->seen_at_us, now_us);
	wait_cells(t, client_wait_us(c, now_us));
	table_i64(t, 0);
	ptr_cell(t, c->serial);
	ptr_cell(t, c->server ? c->server->serial : 0);
	table_i64(t, 0);
	table_text(t, "");
	application_name_cell(t, c->vars);
	table_i64(t, c->stmts.count);
	table_u64(t, c->id);
}

static void server_cells(struct table *t, const struct worker *w, const struct server *s,
                         int64_t now_us, const char *state_prefix)
{
	const struct account *a = s->pool->account;
	const struct watch_node *node = &w->settings->nodes[s->pool->node];
	table_text(t, "S");
	table_text(t, a->user);
	table_text(t, a->database->name);
	table_text(t, "none");
	table_format(t, "%s%s", state_prefix, server_activity_name(server_activity(s)));
	table_text(t, node->host);
	table_i64(t, node->port);
	address_cells(t, s->stream, net_stream_own);
	table_time(t, s->connected_at_us, now_us);
	table_time(t, s->client ? s->client->seen_at_us : s->released_at_us, now_us);
	wait_cells(t, 0);
	table_bool(t, s->close_after);
	ptr_cell(t, s->serial);
	ptr_cell(t, s->client ? s->client->serial : 0);
	table_u64(t, s->pid);
	table_text(t, "");
	application_name_cell(t, s->vars);
	table_i64(t, s->stmts.count);
	table_u64(t, s->serial);
}

/* What lies in the two buffers; the cursors in them are PgBouncer's. */
static void buffer_cells(struct table *t, const struct buf *in, const struct buf *out,
                         uint64_t remain)
{
	table_u64(t, in->len);
	table_i64(t, 0);
	table_u64(t, remain > INT32_MAX ? INT32_MAX : remain);
	table_i64(t, 0);
	table_i64(t, 0);
	table_u64(t, in->len);
	table_u64(t, out->len);
}

/* ------------------------------------------------------------------ the tables */

static void bound_cells(struct table *t, const struct bound_by *by, int64_t now_us)
{
	if (by)
		table_time(t, by->at_us, now_us);
	else
		table_null(t);
	table_text(t, by ? by->brief : NULL);
}

void show_clients(struct worker *w, struct buf *out)
{
	struct table t;
	int64_t now = net_now_us();
	TABLE_BEGIN(&t, out, SOCKET_TYPES "ssssss", SOCKET_COLUMNS, "bound", "session", "last_route",
	            "node", "bound_since", "bound_by");
	for (struct list *it = w->clients.next; it != &w->clients && !out->overflow; it = it->next) {
		const struct client *c = container_of(it, struct client, link);
		bool routed = c->last_node >= 0 && c->last_node < w->fleet.count;
		client_cells(&t, c, now, "");
		table_text(&t, c->bound ? bind_reason_name((enum bind_reason)c->bound) : "");
		table_text(&t, c->session ? c->session->name : "");
		table_text(&t, routed ? route_reason_name((enum route_reason)c->last_reason) : NULL);
		table_text(&t, routed ? w->fleet.nodes[c->last_node].name : NULL);
		bound_cells(&t, c->bound_by, now);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

struct server_walk {
	struct table t;
	int64_t now_us;
	bool only_active;
};

void each_pool(struct worker *w, void (*fn)(void *arg, struct worker *w, struct pool *p), void *arg)
{
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		list_for_each(a, &db->accounts)
		{
			struct account *acc = container_of(a, struct account, link);
			for (int i = 0; i < w->fleet.count; i++)
				fn(arg, w, &acc->pools[i]);
		}
	}
}

static void server_row(struct server_walk *walk, struct worker *w, const struct server *s)
{
	struct table *t = &walk->t;
	if (t->out->overflow)
		return;
	server_cells(t, w, s, walk->now_us, "");
	table_text(t, w->fleet.nodes[s->pool->node].name);
	table_i64(t, s->connected_at_us > 0 ? (walk->now_us - s->connected_at_us) / 1000000 : 0);
	table_text(t, s->client && s->client->bound
	                  ? bind_reason_name((enum bind_reason)s->client->bound)
	                  : "");
	table_row_end(t);
}

static void server_rows(void *arg, struct worker *w, struct pool *p)
{
	list_each_const(it, &p->busy) server_row(arg, w, container_of(it, struct server, link));
	list_each_const(it, &p->idle) server_row(arg, w, container_of(it, struct server, link));
}

void show_servers(struct worker *w, struct buf *out)
{
	struct server_walk walk = {.now_us = net_now_us()};
	TABLE_BEGIN(&walk.t, out, SOCKET_TYPES "sqs", SOCKET_COLUMNS, "node", "age_s", "bound");
	each_pool(w, server_rows, &walk);
	table_end(&walk.t, "SHOW");
}

static bool at_work(const struct buf *in, const struct buf *out)
{
	return in->len > 0 || out->len > 0;
}

static void socket_of_server(struct server_walk *walk, struct worker *w, const struct server *s)
{
	if (walk->t.out->overflow || (walk->only_active && !at_work(&s->in, &s->out)))
		return;
	server_cells(&walk->t, w, s, walk->now_us, "sv_");
	buffer_cells(&walk->t, &s->in, &s->out, s->skip);
	table_row_end(&walk->t);
}

static void sockets_of_servers(void *arg, struct worker *w, struct pool *p)
{
	list_each_const(it, &p->busy) socket_of_server(arg, w, container_of(it, struct server, link));
	list_each_const(it, &p->idle) socket_of_server(arg, w, container_of(it, struct server, link));
}

static void sockets(struct worker *w, struct buf *out, bool only_active)
{
	struct server_walk walk = {.now_us = net_now_us(), .only_active = only_active};
	TABLE_BEGIN(&walk.t, out, SOCKET_TYPES BUFFER_TYPES, SOCKET_COLUMNS, BUFFER_COLUMNS);
	for (struct list *it = w->clients.next; it != &w->clients && !out->overflow; it = it->next) {
		const struct client *c = container_of(it, struct client, link);
		if (only_active && !at_work(&c->in, &c->out))
			continue;
		client_cells(&walk.t, c, walk.now_us, "cl_");
		buffer_cells(&walk.t, &c->in, &c->out, c->skip);
		table_row_end(&walk.t);
	}
	each_pool(w, sockets_of_servers, &walk);
	table_end(&walk.t, "SHOW");
}

void show_sockets(struct worker *w, struct buf *out)
{
	sockets(w, out, false);
}

void show_active_sockets(struct worker *w, struct buf *out)
{
	sockets(w, out, true);
}
