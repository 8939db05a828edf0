/* SPDX-License-Identifier: PostgreSQL */
#include "page.h"

#include <inttypes.h>

#include "census.h"

const char *admin_unhealthy(const struct worker *w)
{
	if (w->state != WORKER_RUNNING)
		return "the router is shutting down";
	if (w->fleet.two_primaries)
		return "two servers say that they are the primary: neither gets a statement";
	if (w->fleet.primary == NODE_NONE)
		return "no server is known to be the primary: SHOW FLEET has the errors";
	return NULL;
}

static void put_text(struct buf *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			buf_append_str(out, "&amp;");
			break;
		case '<':
			buf_append_str(out, "&lt;");
			break;
		case '>':
			buf_append_str(out, "&gt;");
			break;
		default:
			buf_append(out, text, 1);
		}
	}
}

static void put_node(const struct worker *w, int i, int64_t now_us, struct buf *out)
{
	const struct node *n = &w->fleet.nodes[i];
	const struct watch_node *from = &w->settings->nodes[i];
	int64_t lag = n->role == NODE_ROLE_REPLICA ? fleet_lag_us(&w->fleet, i, now_us) : LAG_UNKNOWN;
	char position[POSITION_TEXT_MAX];
	position_format(n->at, position);
	buf_append_str(out, "<tr><td>");
	put_text(out, n->name);
	buf_append_str(out, "<td>");
	put_text(out, from->host);
	buf_printf(out, ":%d<td>%s<td>%s<td>%s<td>", from->port, node_role_name(n->role),
	           n->up ? "up" : "down", position_is_set(n->at) ? position : "");
	if (lag != LAG_UNKNOWN)
		buf_printf(out, "%.1f ms", (double)lag / 1e3);
	buf_printf(out, "<td>%" PRIu32 "<td>", n->outstanding);
	put_text(out, watch_error(w->watch, i));
	buf_append_str(out, "</tr>\n");
}

static void put_fleet(const struct worker *w, int64_t now_us, struct buf *out)
{
	buf_append_str(out,
	               "<h2>Fleet</h2>\n<table><tr><th>name<th>address<th>role<th>state"
	               "<th>position<th>lag<th>outstanding<th>error</tr>\n");
	for (int i = 0; i < w->fleet.count; i++)
		put_node(w, i, now_us, out);
	buf_append_str(out, "</table>\n");
}

static void put_routing(const struct stats *st, struct buf *out)
{
	double share =
		st->reads_total ? 100.0 * (double)st->reads_replica / (double)st->reads_total : 0;
	buf_printf(out,
	           "<h2>Routing</h2>\n<p>%" PRIu64
	           " reads, %.1f %% of them answered by replicas; %" PRIu64 " waited, %" PRIu64
	           " in vain.</p>\n"
	           "<table><tr><th>statements<th>why they went where they went</tr>\n",
	           st->reads_total, share, st->reads_waited, st->wait_timeouts);
	for (int i = 0; i < REASON_COUNT; i++) {
		if (st->by_reason[i] > 0)
			buf_printf(out, "<tr><td>%" PRIu64 "<td>%s</tr>\n", st->by_reason[i],
			           route_reason_words((enum route_reason)i));
	}
	buf_append_str(out, "</table>\n");
}

static void put_clients(const struct worker *w, int64_t now_us, struct buf *out)
{
	struct census c;
	census_take(w, now_us, &c);
	buf_printf(out,
	           "<h2>Clients</h2>\n<p>%d connected: %" PRIu64 " active, %" PRIu64 " bound, %" PRIu64
	           " wait for a server connection, %" PRIu64 " for a replica.</p>\n",
	           w->client_count, c.clients[CLIENT_DOES_ACTIVE], c.clients_bound,
	           c.clients[CLIENT_DOES_WAIT], c.clients[CLIENT_DOES_WAIT_REPLICA]);
}

void admin_page(const struct worker *w, struct buf *out)
{
	int64_t now = net_now_us();
	const char *unhealthy = admin_unhealthy(w);
	buf_append_str(out,
	               "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
	               "<title>Tidemark</title><style>body{font-family:sans-serif;margin:2em}"
	               "td,th{text-align:left;padding:.2em 1em .2em 0}</style></head><body>\n"
	               "<h1>Tidemark " TIDEMARK_VERSION "</h1>\n<p>");
	put_text(out, unhealthy ? unhealthy : "The primary is known; statements are served.");
	buf_printf(out, " Up for %" PRId64 " s.</p>\n", (now - w->started_at_us) / 1000000);
	put_fleet(w, now, out);
	put_routing(&w->stats, out);
	put_clients(w, now, out);
	buf_append_str(out,
	               "<p><a href=\"/metrics\">/metrics</a> <a href=\"/healthz\">/healthz</a></p>\n"
	               "</body></html>\n");
}
