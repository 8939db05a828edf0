/* SPDX-License-Identifier: PostgreSQL
 *
 * Two fixed arrays: rows with chains by hash, and reads that wait for a witness, in no order. What
 * is known of a read lies in the row's counters and in the session; nothing is allocated after
 * observe_new().
 */
#include "observe.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"
#include "client.h"
#include "sql/shape.h"
#include "unit.h"
#include "worker.h"

/* Without the witnesses by then, a read stays undecided. */
#define PATIENCE_US 1000000
/* Rows that are looked at to find one that can go. */
#define EVICT_LOOK 64
#define NO_ROW (-1)

/* A read that was not fresh for sure. */
struct pending {
	int32_t row;
	int node; /* the replica that it would have gone to */
	uint64_t row_id;
	uint32_t epoch, generation; /* of that replica, and of the fleet */
	int64_t at_us;
	int64_t owed_since_us; /* 0: `need` is all; else a sample of the primary after this tells */
	struct position need;  /* at least */
	struct position before, after; /* samples of the replica; `after` was started after the read */
};

struct observe {
	struct observe_counts all, others;
	uint64_t evicted, next_id;

	struct observe_row *rows;
	int32_t *chains;
	uint32_t chain_mask;
	int row_count, rows_max, hand;

	struct pending *pending;
	int pending_count, pending_max;
	int turn; /* the replica that the naive splitter used last */

	/* The worker's side. */
	bool armed;
	struct net_timer *timer;
	int64_t kicked_at_us;
	uint32_t wanted; /* nodes that routing would have asked for a sample */
	/* Routed reads would be waiting now. */
	int64_t busy_until_us;
	struct position busy_need;

	uint8_t blank[SHAPE_TEXT_MAX];
};

/* ------------------------------------------------------------- life and end */

struct observe *observe_new(int max_shapes, int max_pending)
{
	assert(max_shapes > 0 && max_pending >= 0);
	struct observe *o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	uint32_t chains = 16;
	while (chains < (uint32_t)max_shapes * 2)
		chains *= 2;
	o->chain_mask = chains - 1;
	o->rows_max = max_shapes;
	o->pending_max = max_pending;
	o->rows = calloc((size_t)max_shapes, sizeof(*o->rows));
	o->pending = calloc((size_t)max_pending + 1, sizeof(*o->pending));
	o->chains = malloc(chains * sizeof(*o->chains));
	if (!o->rows || !o->pending || !o->chains) {
		observe_free(o);
		return NULL;
	}
	for (uint32_t i = 0; i < chains; i++)
		o->chains[i] = NO_ROW;
	return o;
}

void observe_free(struct observe *o)
{
	if (!o)
		return;
	net_timer_free(o->timer);
	free(o->rows);
	free(o->pending);
	free(o->chains);
	free(o);
}

/* ------------------------------------------------------------ texts to show */

/* Bytes of the UTF-8 character that `s` begins with; 0: it is none. */
static size_t utf8_size(struct slice s)
{
	uint8_t lead = s.ptr[0];
	size_t size = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	if (size == 0 || lead > 0xf4 || s.len < size)
		return 0;
	for (size_t i = 1; i < size; i++) {
		if ((s.ptr[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Too long a form, surrogates, beyond the last character. */
	uint8_t next = size > 2 ? s.ptr[1] : 0x80;
	bool strange = (lead == 0xe0 && next < 0xa0) || (lead == 0xed && next > 0x9f) ||
	               (lead == 0xf0 && next < 0x90) || (lead == 0xf4 && next > 0x8f);
	return strange ? 0 : size;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* One line: white space in one blank, '?' for what stood in for a literal and for what is no text,
 * "…" where it was cut. */
static void put_shape(char out[OBSERVE_TEXT_MAX], struct slice key)
{
	static const char more[] = "…";
	size_t n = 0;
	int chars = 0;
	while (key.len > 0 && chars < OBSERVE_TEXT_CHARS) {
		size_t size = utf8_size(key);
		if (n + (size ? size : 1) + sizeof(more) > OBSERVE_TEXT_MAX)
			break;
		if (is_blank(key.ptr[0])) {
			while (key.len > 1 && is_blank(key.ptr[1]))
				key = slice_from(key, 1);
			out[n++] = ' ';
		} else if (size == 0 || key.ptr[0] < ' ' || key.ptr[0] == 0x7f) {
			out[n++] = '?';
		} else {
			memcpy(&out[n], key.ptr, size);
			n += size;
		}
		key = slice_from(key, size ? size : 1);
		chars++;
	}
	memcpy(&out[n], key.len > 0 ? more : "", key.len > 0 ? sizeof(more) : 1);
}

/* ------------------------------------------------------------- the table */

static int32_t *chain_of(struct observe *o, uint64_t hash)
{
	return &o->chains[hash & o->chain_mask];
}

static int32_t row_find(struct observe *o, XXH128_hash_t h)
{
	int32_t i = *chain_of(o, h.low64);
	while (i != NO_ROW && (o->rows[i].hash[0] != h.low64 || o->rows[i].hash[1] != h.high64))
		i = o->rows[i].next;
	return i;
}

static void counts_add(struct observe_counts *into, const struct observe_counts *n)
{
	into->reads += n->reads;
	into->fresh += n->fresh;
	into->stale += n->stale;
	for (int i = 0; i < 3; i++)
		into->would[i] += n->would[i];
	for (int i = 0; i < REASON_COUNT; i++)
		into->by_reason[i] += n->by_reason[i];
}

static bool goes_before(const struct observe_row *a, const struct observe_row *b)
{
	return a->n.reads != b->n.reads ? a->n.reads < b->n.reads : a->used_at_us < b->used_at_us;
}

/* The least read of a stretch of the table, and of these the one not used for longest, makes room.
 */
static int32_t row_evict(struct observe *o)
{
	int32_t victim = o->hand;
	for (int i = 0; i < EVICT_LOOK && i < o->rows_max; i++) {
		if (goes_before(&o->rows[o->hand], &o->rows[victim]))
			victim = o->hand;
		o->hand = o->hand + 1 == o->rows_max ? 0 : o->hand + 1;
	}
	struct observe_row *r = &o->rows[victim];
	int32_t *link = chain_of(o, r->hash[0]);
	while (*link != victim)
		link = &o->rows[*link].next;
	*link = r->next;
	counts_add(&o->others, &r->n);
	o->evicted++;
	return victim;
}

static int32_t row_get(struct observe *o, const char *database, struct slice text)
{
	if (text.len > SHAPE_TEXT_MAX)
		text.len = SHAPE_TEXT_MAX;
	struct shape s = shape_of(text, o->blank);
	XXH128_hash_t h =
		XXH3_128bits_withSeed(s.key.ptr, s.key.len, XXH3_64bits(database, strlen(database)));
	int32_t i = row_find(o, h);
	if (i != NO_ROW)
		return i;
	i = o->row_count < o->rows_max ? o->row_count++ : row_evict(o);
	struct observe_row *r = &o->rows[i];
	int32_t *chain = chain_of(o, h.low64);
	*r = (struct observe_row){.hash = {h.low64, h.high64}, .id = ++o->next_id, .next = *chain};
	*chain = i;
	snprintf(r->database, sizeof(r->database), "%s", database);
	put_shape(r->shape, s.key);
	return i;
}

/* The counters of a row, or of what became of it. */
static struct observe_counts *counts_of(struct observe *o, int32_t row, uint64_t id)
{
	return o->rows[row].id == id ? &o->rows[row].n : &o->others;
}

/* ----------------------------------------------------------- what would have been */

/* Positions seen before a change of the primary lie on another branch: what a session has seen is
 * what the new primary shows. */
static void adopt_generation(struct session_observed *s, const struct fleet *f)
{
	if (s->generation == f->generation)
		return;
	if (position_is_set(s->routed) || s->primary_at_us != 0)
		s->primary_at_us = f->generation_at_us;
	s->routed = s->naive = (struct position){0};
	s->generation = f->generation;
}

/* The session's mark as it would be if its reads had been routed. */
static struct session_mark mark_if_routed(const struct fleet *f, struct session_mark *mark)
{
	struct session_observed *s = &mark->observed;
	struct session_mark m = *mark;
	m.read = position_max(m.read, s->routed);
	if (m.dirty_at_us < s->primary_at_us)
		m.dirty_at_us = s->primary_at_us;
	session_settle(&m, f);
	if (s->primary_at_us != 0 && m.dirty_at_us == 0) {
		s->routed = m.read;
		s->primary_at_us = 0;
	}
	return m;
}

struct route observe_decide(const struct fleet *f, struct session_mark *mark,
                            const struct route_policy *policy, int64_t now_us)
{
	session_settle(mark, f);
	adopt_generation(&mark->observed, f);
	struct session_mark m = mark_if_routed(f, mark);
	struct route r = route_decide(f, &m, policy, 0, now_us);
	if (policy->level == LEVEL_STRONG)
		return r;
	r.would = r.target;
	r.would_reason = r.reason;
	r.would_node = r.node;
	r.target = ROUTE_PRIMARY;
	r.reason = REASON_OBSERVED;
	r.node = NODE_NONE;
	return r;
}

/* A replica is taken for what its last sample showed: it may have shown more. */
static void note_routed(const struct fleet *f, struct session_mark *mark, const struct route *r,
                        int64_t now_us)
{
	struct session_observed *s = &mark->observed;
	if (r->would == ROUTE_PRIMARY) {
		s->primary_at_us = now_us;
	} else if (r->would == ROUTE_REPLICA) {
		s->routed = position_max(s->routed, f->nodes[r->would_node].at);
		mark->last_node = r->would_node;
	}
}

/* ------------------------------------------------------- the naive splitter */

static int next_replica(struct observe *o, const struct fleet *f, int64_t now_us)
{
	for (int i = 1; i <= f->count; i++) {
		int node = (o->turn + i) % f->count;
		if (fleet_replica_eligible(f, node, now_us))
			return o->turn = node;
	}
	return NODE_NONE;
}

enum verdict { OPEN, FRESH, STALE, UNDECIDED };

static void hear_witnesses(const struct fleet *f, struct pending *p)
{
	const struct node *n = &f->nodes[p->node];
	if (!position_is_set(p->after) && n->sampled_at_us > p->at_us)
		p->after = n->at;
	if (p->owed_since_us == 0 || f->primary == NODE_NONE)
		return;
	const struct node *primary = &f->nodes[f->primary];
	if (primary->sampled_at_us > p->owed_since_us) {
		p->need = position_max(p->need, primary->at);
		p->owed_since_us = 0;
	}
}

static enum verdict judge(const struct fleet *f, struct pending *p, int64_t now_us)
{
	const struct node *n = &f->nodes[p->node];
	if (!n->up || n->epoch != p->epoch || f->generation != p->generation ||
	    now_us - p->at_us >= PATIENCE_US)
		return UNDECIDED;
	hear_witnesses(f, p);
	bool heard = position_is_set(p->after);
	/* What is owed can only add to the need. */
	if (heard && !position_reached(p->after, p->need))
		return STALE;
	if (p->owed_since_us != 0)
		return OPEN;
	if (position_reached(p->before, p->need))
		return FRESH;
	return heard ? UNDECIDED : OPEN;
}

/* True: it is settled. */
static bool settle(struct observe *o, const struct fleet *f, struct pending *p, int64_t now_us)
{
	enum verdict v = judge(f, p, now_us);
	struct observe_counts *n = counts_of(o, p->row, p->row_id);
	n->fresh += v == FRESH;
	o->all.fresh += v == FRESH;
	n->stale += v == STALE;
	o->all.stale += v == STALE;
	return v != OPEN;
}

void observe_judge(struct observe *o, const struct fleet *f, int64_t now_us)
{
	for (int i = 0; i < o->pending_count;) {
		if (settle(o, f, &o->pending[i], now_us))
			o->pending[i] = o->pending[--o->pending_count];
		else
			i++;
	}
}

uint32_t observe_awaited(const struct observe *o, const struct fleet *f)
{
	uint32_t set = 0;
	for (int i = 0; i < o->pending_count; i++) {
		const struct pending *p = &o->pending[i];
		if (!position_is_set(p->after))
			set |= UINT32_C(1) << p->node;
		if (p->owed_since_us != 0 && f->primary != NODE_NONE)
			set |= UINT32_C(1) << f->primary;
	}
	return set;
}

static void split_naively(struct observe *o, const struct fleet *f, struct session_mark *mark,
                          int32_t row, int64_t now_us)
{
	int node = next_replica(o, f, now_us);
	if (node == NODE_NONE)
		return;
	struct session_observed *s = &mark->observed;
	struct position at_least = session_known(mark), need = at_least;
	struct pending p = {.row = row,
	                    .row_id = o->rows[row].id,
	                    .node = node,
	                    .epoch = f->nodes[node].epoch,
	                    .generation = f->generation,
	                    .at_us = now_us,
	                    .before = f->nodes[node].at};
	if (!session_need(mark, f, node, &need)) {
		need = at_least;
		p.owed_since_us = session_owed_since(mark, f);
	}
	p.need = position_max(need, s->naive);
	s->naive = position_max(s->naive, p.before);
	if (!settle(o, f, &p, now_us) && o->pending_count < o->pending_max)
		o->pending[o->pending_count++] = p;
}

/* --------------------------------------------------------------- accounting */

static void count(struct observe_counts *n, const struct route *r)
{
	n->reads++;
	n->would[r->would]++;
	n->by_reason[r->would_reason]++;
}

void observe_read(struct observe *o, const struct fleet *f, struct session_mark *mark,
                  const struct route *r, const char *database, struct slice text, int64_t now_us)
{
	int32_t row = row_get(o, database, text);
	o->rows[row].used_at_us = now_us;
	count(&o->rows[row].n, r);
	count(&o->all, r);
	note_routed(f, mark, r, now_us);
	split_naively(o, f, mark, row, now_us);
}

void observe_totals(const struct observe *o, struct observe_totals *t)
{
	*t = (struct observe_totals){0};
	if (!o)
		return;
	*t = (struct observe_totals){.all = o->all,
	                             .others = o->others,
	                             .evicted = o->evicted,
	                             .shapes = o->row_count,
	                             .shapes_max = o->rows_max,
	                             .pending = o->pending_count,
	                             .pending_max = o->pending_max};
}

static int order(uint64_t a, uint64_t b)
{
	return (a < b) - (a > b);
}

static int by_staleness(const void *left, const void *right)
{
	const struct observe_row *a = *(const struct observe_row *const *)left;
	const struct observe_row *b = *(const struct observe_row *const *)right;
	if (a->n.stale != b->n.stale)
		return order(a->n.stale, b->n.stale);
	if (a->n.reads != b->n.reads)
		return order(a->n.reads, b->n.reads);
	return strcmp(a->shape, b->shape);
}

const struct observe_row **observe_rows(const struct observe *o, int *n)
{
	*n = 0;
	if (!o || o->row_count == 0)
		return NULL;
	const struct observe_row **rows =
		malloc((size_t)o->row_count * sizeof(const struct observe_row *));
	if (!rows)
		return NULL;
	for (int i = 0; i < o->row_count; i++)
		rows[i] = &o->rows[i];
	qsort((void *)rows, (size_t)o->row_count, sizeof(*rows), by_staleness);
	*n = o->row_count;
	return rows;
}

/* --------------------------------------------------------- the worker's side */

static int64_t positive(int64_t us)
{
	return us > 0 ? us : 0;
}

/* Asks for the samples that are awaited, all at once and not more often than waiting clients
 * would. */
static void arm(struct worker *w)
{
	struct observe *o = w->observe;
	if (o->armed || (o->pending_count == 0 && o->wanted == 0))
		return;
	o->armed = true;
	int64_t next_us = o->kicked_at_us + w->settings->watch.busy_interval_us;
	net_timer_start(o->timer, positive(next_us - net_now_us()));
}

static void on_timer(void *arg)
{
	struct worker *w = arg;
	struct observe *o = w->observe;
	int64_t now = net_now_us();
	o->armed = false;
	o->kicked_at_us = now;
	observe_judge(o, &w->fleet, now);
	uint32_t nodes = o->wanted | observe_awaited(o, &w->fleet);
	o->wanted = 0;
	for (int i = 0; i < w->fleet.count; i++) {
		if (nodes >> i & 1)
			watch_kick(w->watch, i);
	}
	arm(w);
}

/* What start_wait() does, but that nobody waits: without it the next read would find the mark as
 * unknown, and the replica's delay as little known, as this one did. */
static void would_wait(struct worker *w, const struct route *r)
{
	struct observe *o = w->observe;
	for (int i = 0; i < w->fleet.count; i++) {
		if (r->sample_after_us > 0 || w->fleet.nodes[i].role == NODE_ROLE_REPLICA)
			o->wanted |= UINT32_C(1) << i;
	}
	if (!position_is_set(r->need))
		return;
	o->busy_need = position_max(o->busy_need, r->need);
	if (o->busy_until_us < r->wait_until_us)
		o->busy_until_us = r->wait_until_us;
	worker_arm_wait(w);
}

bool observe_busy(const struct worker *w)
{
	const struct observe *o = w->observe;
	int64_t now = net_loop_now_us(w->loop);
	if (!o || now >= o->busy_until_us)
		return false;
	for (int i = 0; i < w->fleet.count; i++) {
		if (fleet_replica_eligible(&w->fleet, i, now) &&
		    position_reached(w->fleet.nodes[i].at, o->busy_need))
			return false;
	}
	return true;
}

void observe_count(struct client *c, const struct unit *u, const struct route *r)
{
	struct worker *w = c->worker;
	if (!w->observe)
		return;
	/* Witnesses are told from others by when they were asked: the loop's time is too early. */
	observe_read(w->observe, &w->fleet, c->turn_mark, r, c->account->database->name, u->text,
	             net_now_us());
	if (r->would == ROUTE_WAIT)
		would_wait(w, r);
	arm(w);
}

void observe_sampled(struct worker *w)
{
	if (w->observe && w->observe->pending_count > 0)
		observe_judge(w->observe, &w->fleet, net_now_us());
}

/* What the primary has shown meanwhile binds the sessions from now on. */
static void settle_accounts(struct worker *w)
{
	list_for_each(it, &w->databases)
		session_observed_counts(&container_of(it, struct database, link)->own_shared, &w->fleet);
	list_for_each(it, &w->clients)
	{
		struct client *c = container_of(it, struct client, link);
		if (c->own)
			session_observed_counts(c->own, &w->fleet);
	}
	list_for_each(it, &w->sessions.lru)
		session_observed_counts(&container_of(it, struct session, lru)->mark, &w->fleet);
}

bool observe_switch(struct worker *w)
{
	const struct settings *s = w->settings;
	bool on = s->mode == MODE_OBSERVE;
	if (on && !w->observe) {
		w->observe = observe_new(s->observe_max_shapes, s->observe_max_pending);
		if (w->observe && !(w->observe->timer = net_timer_new(w->loop, on_timer, w))) {
			observe_free(w->observe);
			w->observe = NULL;
		}
		if (!w->observe)
			log_error("mode = observe: no memory for its report; everything runs on the primary");
	}
	if (on != w->observing)
		log_info(on ? "mode = observe: everything runs on the primary; SHOW OBSERVE tells what "
		              "need not"
		            : "mode = route: reads go to replicas");
	if (!on && w->observing)
		settle_accounts(w);
	w->observing = on;
	return !on || w->observe;
}

static double percent(uint64_t part, uint64_t all)
{
	return all ? 100.0 * (double)part / (double)all : 0;
}

void observe_summary(const struct worker *w)
{
	struct observe_totals t;
	if (!w->observe)
		return;
	observe_totals(w->observe, &t);
	const struct observe_counts *n = &t.all;
	log_info("observed %" PRIu64
	         " reads: %.1f %% would have gone to a replica at once, %.1f %% "
	         "after a wait; split naively, %" PRIu64 " (%.1f %%) would have been stale, %" PRIu64
	         " are undecided",
	         n->reads, percent(n->would[ROUTE_REPLICA], n->reads),
	         percent(n->would[ROUTE_WAIT], n->reads), n->stale, percent(n->stale, n->reads),
	         observe_undecided(n));
}
