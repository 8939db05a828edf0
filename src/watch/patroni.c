/* SPDX-License-Identifier: PostgreSQL
 *
 * See patroni.h for the states. Two timers: `step` asks when IDLE and gives up when ASKING; `expiry`
 * runs out when the last word does.
 */
#include "patroni.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "patroni_answer.h"

#define READ_CHUNK 4096
#define REQUEST_MAX 512
#define KICK_GAP_US 100000

struct patroni {
	struct net_loop *loop;
	struct fleet *fleet;
	struct patroni_member nodes[FLEET_NODES_MAX]; /* the fleet's servers */
	struct patroni_settings settings;
	patroni_fn fn;
	void *arg;

	struct net_timer *step, *expiry;
	struct net_stream *stream; /* NULL: IDLE */
	struct buf in, out;
	int member;         /* that is asked, or will be next */
	int failed_in_turn; /* all of them: wait for the interval */
	int64_t asked_at_us;
	bool settled, fresh, silent; /* silent: was said */
	bool kicked;
	struct patroni_cluster said; /* the last leader that was logged */
	char error[320];
	uint64_t words, failed;
};

static void tell(struct patroni *p, int leader)
{
	bool first = !p->settled, changed = p->fleet->leader != leader;
	p->settled = true;
	fleet_leader(p->fleet, leader, net_now_us());
	if (first || changed)
		p->fn(p->arg);
}

/* ================= one question ================= */

static void hang_up(struct patroni *p)
{
	net_stream_close(p->stream);
	p->stream = NULL;
	buf_release(&p->in);
	buf_release(&p->out);
}

static void schedule(struct patroni *p)
{
	int64_t gap_us = p->kicked ? KICK_GAP_US : p->settings.interval_us;
	int64_t left_us = p->asked_at_us + gap_us - net_now_us();
	/* Not in this turn: a member that fails at once must not keep the loop. */
	net_timer_start(p->step, left_us > 1000 ? left_us : 1000);
}

static void next_member(struct patroni *p)
{
	p->member = (p->member + 1) % p->settings.member_count;
}

__attribute__((format(printf, 2, 3))) static void fail(struct patroni *p, const char *fmt, ...)
{
	const struct patroni_member *m = &p->settings.members[p->member];
	char why[192];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	hang_up(p);
	(void)snprintf(p->error, sizeof(p->error), "%.100s port %d: %s", m->host, m->port, why);
	p->failed++;
	next_member(p);
	if (++p->failed_in_turn < p->settings.member_count) {
		net_timer_start(p->step, 1000);
		return;
	}
	p->failed_in_turn = 0;
	schedule(p);
}

static int find_node(const struct patroni *p, const struct patroni_cluster *c)
{
	for (int i = 0; i < p->fleet->count; i++) {
		if (p->nodes[i].port == c->port && strcasecmp(p->nodes[i].host, c->host) == 0)
			return i;
	}
	return LEADER_NONE;
}

/* Once for each leader. */
static void log_leader(struct patroni *p, const struct patroni_cluster *c, int node)
{
	bool same = c->has_leader == p->said.has_leader && c->port == p->said.port &&
	            strcmp(c->host, p->said.host) == 0;
	if (same && p->words > 1)
		return;
	p->said = *c;
	if (!c->has_leader)
		log_info("patroni: there is no leader");
	else if (node == LEADER_NONE)
		log_warn("patroni: the leader is at %s port %d, and no server of [nodes] is: nothing is "
		         "taken for the primary; write its line in [nodes] with the host and port of "
		         "Patroni's postgresql.connect_address",
		         c->host, c->port);
	else
		log_info("patroni: the leader is node=%s", p->fleet->nodes[node].name);
}

static int leader_of(const struct patroni *p, const struct patroni_cluster *c)
{
	if (c->has_leader)
		return find_node(p, c);
	return c->paused ? LEADER_UNKNOWN : LEADER_NONE;
}

static void on_cluster(struct patroni *p, const struct patroni_cluster *c)
{
	int leader = leader_of(p, c);
	int64_t left_us = p->asked_at_us + p->settings.max_age_us - net_now_us();
	hang_up(p);
	p->words++;
	p->failed_in_turn = 0;
	if (p->silent)
		log_info("patroni: answers again");
	p->silent = false;
	p->fresh = true;
	log_leader(p, c, leader);
	next_member(p);
	net_timer_start(p->expiry, left_us > 0 ? left_us : 0);
	schedule(p);
	tell(p, leader);
}

static void on_answer(struct patroni *p, const struct http_answer *a)
{
	struct patroni_cluster c;
	const char *why;
	if (a->status != 200)
		fail(p, "GET /cluster was answered with status %d", a->status);
	else if (!patroni_cluster_parse(a->body, &c, &why))
		fail(p, "its answer to GET /cluster makes no sense: %s", why);
	else
		on_cluster(p, &c);
}

static void on_readable(struct patroni *p)
{
	struct http_answer a;
	uint8_t *room = buf_reserve(&p->in, READ_CHUNK);
	if (!room) {
		fail(p, "its answer is too long, or there is no memory");
		return;
	}
	ssize_t n = net_stream_read(p->stream, room, READ_CHUNK);
	if (n == NET_AGAIN)
		return;
	if (n == NET_ERROR) {
		fail(p, "%s", net_stream_error(p->stream));
		return;
	}
	if (n > 0)
		buf_commit(&p->in, (size_t)n);
	switch (http_answer_parse(buf_slice(&p->in), n == NET_EOF, &a)) {
	case PARSE_OK:
		on_answer(p, &a);
		break;
	case PARSE_PARTIAL:
		break;
	case PARSE_INVALID:
		fail(p, "its answer is not HTTP, or cut, or too long");
		break;
	}
}

static void flush(struct patroni *p)
{
	struct slice s = buf_slice(&p->out);
	ssize_t n = s.len > 0 ? net_stream_write(p->stream, s.ptr, s.len) : 0;
	if (n < 0) {
		fail(p, "%s", net_stream_error(p->stream));
		return;
	}
	buf_consume(&p->out, (size_t)n);
	net_stream_want(p->stream,
	                p->out.len > 0 ? NET_READABLE | NET_WRITABLE : (unsigned)NET_READABLE);
}

static void on_stream(void *owner, unsigned events)
{
	struct patroni *p = owner;
	if (events & NET_FAILED) {
		fail(p, "cannot connect: %s", net_stream_error(p->stream));
	} else if (events & NET_CONNECTED) {
		flush(p);
	} else {
		if (events & NET_WRITABLE)
			flush(p);
		if ((events & NET_READABLE) && p->stream)
			on_readable(p);
	}
}

static void ask(struct patroni *p)
{
	const struct patroni_member *m = &p->settings.members[p->member];
	bool v6 = strchr(m->host, ':') != NULL;
	p->asked_at_us = net_now_us();
	p->kicked = false;
	buf_init(&p->in, PATRONI_ANSWER_MAX + READ_CHUNK);
	buf_init(&p->out, REQUEST_MAX);
	bool fits = buf_printf(&p->out,
	                       "GET /cluster HTTP/1.0\r\nHost: %s%s%s:%d\r\n"
	                       "Accept: application/json\r\nConnection: close\r\n\r\n",
	                       v6 ? "[" : "", m->host, v6 ? "]" : "", m->port);
	assert(fits);
	net_timer_start(p->step, p->settings.timeout_us);
	p->stream = net_connect(p->loop, m->host, m->port, p->settings.timeout_us, on_stream, p);
	if (!p->stream)
		fail(p, "cannot open a socket: out of memory or descriptors (ulimit -n)");
}

static void on_step(void *arg)
{
	struct patroni *p = arg;
	if (p->stream)
		fail(p, "no answer within %lld ms", (long long)p->settings.timeout_us / 1000);
	else
		ask(p);
}

/* ================= silence ================= */

static void on_expiry(void *arg)
{
	struct patroni *p = arg;
	p->fresh = false;
	if (!p->silent)
		log_warn("patroni: has said nothing for %.1f s (%s): the primary is found by roles and "
		         "histories alone",
		         (double)p->settings.max_age_us / 1e6, p->error[0] ? p->error : "no answer yet");
	p->silent = true;
	tell(p, LEADER_UNKNOWN);
}

/* ================= the owner's side ================= */

static int64_t or_default(int64_t value_us, int64_t default_us)
{
	return value_us > 0 ? value_us : default_us;
}

struct patroni *patroni_new(struct net_loop *loop, struct fleet *fleet,
                            const struct watch_node *nodes, const struct patroni_settings *settings,
                            patroni_fn fn, void *arg)
{
	assert(settings->member_count > 0 && settings->member_count <= PATRONI_MEMBERS_MAX);
	struct patroni *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->loop = loop;
	p->fleet = fleet;
	for (int i = 0; i < fleet->count; i++) {
		(void)snprintf(p->nodes[i].host, sizeof(p->nodes[i].host), "%s", nodes[i].host);
		p->nodes[i].port = nodes[i].port;
	}
	p->settings = *settings;
	p->settings.interval_us = or_default(settings->interval_us, 1000000);
	p->settings.max_age_us = or_default(settings->max_age_us, 5000000);
	p->settings.timeout_us = or_default(settings->timeout_us, PATRONI_TIMEOUT_US);
	p->fn = fn;
	p->arg = arg;
	p->step = net_timer_new(loop, on_step, p);
	p->expiry = net_timer_new(loop, on_expiry, p);
	if (!p->step || !p->expiry) {
		patroni_free(p);
		return NULL;
	}
	fleet_leader(fleet, LEADER_NONE, net_now_us());
	net_timer_start(p->step, 0);
	net_timer_start(p->expiry, p->settings.max_age_us);
	return p;
}

void patroni_free(struct patroni *p)
{
	if (!p)
		return;
	hang_up(p);
	net_timer_free(p->step);
	net_timer_free(p->expiry);
	free(p);
}

void patroni_kick(struct patroni *p)
{
	p->kicked = true;
	if (!p->stream && p->failed_in_turn == 0)
		schedule(p);
}

bool patroni_settled(const struct patroni *p)
{
	return p->settled;
}

void patroni_stats(const struct patroni *p, struct patroni_stats *out)
{
	*out = (struct patroni_stats){.fresh = p->fresh, .words = p->words, .failed = p->failed};
}
