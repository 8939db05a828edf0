/* SPDX-License-Identifier: PostgreSQL */
#include "marks.h"

#include <stdlib.h>

#include "base/log.h"
#include "client.h"
#include "settle.h"
#include "worker.h"

/* A mark whose position was not captured waits so long for the primary to be asked. */
#define SAMPLE_WAIT_US 1000000

/* One mark on its way to the store. Outlives its client: the mark is the session's. */
struct mark_write {
	struct list link;      /* worker.mark_writes */
	struct client *client; /* NULL: nobody waits any more */
	struct session *session;
	struct worker *worker;
	struct store_mark mark;
};

/* ---------------------------------------------------------------- the store */

bool marks_start(struct worker *w)
{
	uint8_t router[16];
	list_init(&w->mark_writes);
	if (w->settings->session_store == SESSION_STORE_MEMORY)
		return true;
	net_random(router, sizeof(router));
	w->store = store_new(w->loop, &w->settings->store, router);
	w->sessions.elsewhere = w->store != NULL;
	return w->store != NULL;
}

void marks_stop(struct worker *w)
{
	store_free(w->store);
	w->store = NULL;
	if (w->mark_writes.next)
		list_for_each(it, &w->mark_writes) free(container_of(it, struct mark_write, link));
}

void marks_tend(struct worker *w)
{
	int node = worker_primary(w);
	if (!w->store)
		return;
	if (node != NODE_NONE && watch_facts(w->watch, node)->known)
		store_set_cluster(w->store, watch_facts(w->watch, node)->system_identifier);
	for (int i = 0; i < w->fleet.count; i++) {
		int64_t high_us = w->fleet.nodes[i].replay_delay_high_us;
		if (high_us != LAG_UNKNOWN)
			store_raise_ttl(w->store, high_us);
	}
}

bool marks_shared(const struct client *c)
{
	return c->worker->store && (c->session || c->turn_session || c->tx_sessions);
}

/* ------------------------------------------------------------------- asking */

/* The answer of a store that is not in doubt. Nothing stored: no router knows of the session. */
static enum marks_answer take_stored(struct worker *w, struct session *it,
                                     const struct store_mark *m)
{
	if (!m->present) {
		it->stored = *m;
		return MARKS_KNOWN;
	}
	const struct history_point p = {.system = w->fleet.history.system,
	                                .timeline = m->timeline,
	                                .fork = m->fork,
	                                .at = m->at};
	enum contains has = fleet_primary_contains(&w->fleet, &p);
	if (has != CONTAINS_YES) {
		w->stats.marks_lost += has == CONTAINS_LOST;
		w->stats.marks_unknown += has != CONTAINS_LOST;
		return MARKS_DOUBTFUL;
	}
	session_read_after(&it->mark, &w->fleet, m->at);
	it->stored = *m;
	return MARKS_KNOWN;
}

static void on_asked(void *arg, enum store_result r, const struct store_mark *mark)
{
	struct client *c = arg;
	c->store_request = NULL;
	c->marks_answer = MARKS_DOUBTFUL;
	if (r == STORE_OK)
		c->marks_answer = (uint8_t)take_stored(c->worker, c->asked_session, mark);
	c->mark_whole |= c->asked_session == c->session && c->marks_answer == MARKS_KNOWN;
	worker_make_runnable(c->worker, c);
}

enum marks_answer marks_ask(struct client *c, struct session *it)
{
	struct worker *w = c->worker;
	if (!w->store)
		return MARKS_KNOWN;
	if (c->asked_session == it)
		return c->marks_answer;
	marks_forget(c);
	c->asked_session = it;
	c->mark_whole &= it != c->session;
	it->refs++;
	c->marks_answer = MARKS_ASKED;
	c->store_request = store_get(w->store, slice_str(c->account->database->dbname),
	                             slice_str(it->name), on_asked, c);
	if (!c->store_request)
		c->marks_answer = MARKS_DOUBTFUL;
	return c->marks_answer;
}

int64_t marks_known_back_us(const struct client *c)
{
	return c->asked_session ? store_keeps_us(c->worker->store) : 0;
}

void marks_forget(struct client *c)
{
	if (!c->asked_session)
		return;
	if (c->store_request)
		store_forget(c->store_request);
	c->store_request = NULL;
	sessions_put(&c->worker->sessions, c->asked_session, net_loop_now_us(c->worker->loop));
	c->asked_session = NULL;
}

/* --------------------------------------------------------------- publishing */

static void tell_late(struct client *c)
{
	/* One mark may be stored while another still waits for its sample. */
	if (c->mark_writes > 0 || c->state != CLIENT_WAIT_MARK || marks_await_sample(c))
		return;
	c->state = CLIENT_READY;
	client_say(c, c->late.data, c->late.len);
	buf_release(&c->late);
	/* What came meanwhile; from here an event of the store's, so later. */
	if (c->state != CLIENT_DEAD)
		client_kick(c);
}

static void on_stored(void *arg, bool stored)
{
	struct mark_write *m = arg;
	struct worker *w = m->worker;
	if (stored)
		m->session->stored = m->mark;
	else
		w->stats.marks_owed++;
	sessions_put(&w->sessions, m->session, net_loop_now_us(w->loop));
	list_remove(&m->link);
	if (m->client) {
		m->client->mark_writes--;
		tell_late(m->client);
	}
	free(m);
}

static bool same_or_later(const struct store_mark *a, const struct store_mark *b)
{
	return a->present && b->present && a->timeline == b->timeline && a->fork.lsn == b->fork.lsn &&
	       position_reached(a->at, b->at);
}

/* `mark` is not present if it is not known. */
static void store_mark(struct client *c, struct session *it, struct store_mark mark)
{
	struct worker *w = c->worker;
	struct mark_write *m = malloc(sizeof(*m));
	if (m)
		*m = (struct mark_write){.client = c, .session = it, .worker = w, .mark = mark};
	/* Without memory nobody can be made to wait; the mark goes its way all the same. */
	if (!m) {
		struct store_request *r = store_put(w->store, slice_str(c->account->database->dbname),
		                                    slice_str(it->name), mark, on_stored, NULL);
		if (r)
			store_forget(r);
		return;
	}
	if (store_put(w->store, slice_str(c->account->database->dbname), slice_str(it->name), mark,
	              on_stored, m)) {
		it->refs++;
		c->mark_writes++;
		list_push_back(&w->mark_writes, &m->link);
		return;
	}
	free(m);
	w->stats.marks_owed++;
	w->stats.marks_uncovered += !store_covers(w->store);
}

enum published { PUBLISHED, NEEDS_SAMPLE };

static enum published publish_one(struct client *c, struct session *it, bool give_up)
{
	struct worker *w = c->worker;
	const struct history *h = &w->fleet.history;
	struct position at;
	session_settle(&it->mark, &w->fleet);
	bool known = session_position(&it->mark, &w->fleet, &at);
	if (!known && !give_up)
		return NEEDS_SAMPLE;
	if (known && !position_is_set(at))
		return PUBLISHED;
	struct store_mark m = {.present = known && h->known};
	if (m.present) {
		m.timeline = h->timeline;
		m.fork = history_fork(h);
		m.at = at;
	}
	if (!same_or_later(&it->stored, &m))
		store_mark(c, it, m);
	return PUBLISHED;
}

static enum published publish_all(struct client *c, bool give_up)
{
	struct session *own = c->turn_session ? c->turn_session : c->session;
	bool all = true;
	if (own && c->turn_mark == &own->mark)
		all = publish_one(c, own, give_up) == PUBLISHED;
	for (int i = 0; c->tx_sessions && i < c->tx_sessions->count; i++)
		all = publish_one(c, c->tx_sessions->it[i], give_up) == PUBLISHED && all;
	return all ? PUBLISHED : NEEDS_SAMPLE;
}

static bool await_sample(struct client *c)
{
	struct worker *w = c->worker;
	int64_t now = net_now_us();
	if (c->waiting_since_us == 0)
		c->waiting_since_us = now;
	c->waiter = (struct waiter){.sample_after_us = now,
	                            .deadline_us = c->waiting_since_us + SAMPLE_WAIT_US};
	if (now >= c->waiter.deadline_us || !waitlist_add(&w->waitlist, &c->waiter))
		return false;
	int node = worker_primary(w);
	if (node != NODE_NONE)
		watch_kick(w->watch, node);
	worker_arm_wait(w);
	return true;
}

/* Stores what is known; false: a sample is awaited first. */
static bool publish(struct client *c)
{
	if (publish_all(c, false) == NEEDS_SAMPLE) {
		if (await_sample(c))
			return false;
		publish_all(c, true);
	}
	c->waiting_since_us = 0;
	return true;
}

bool marks_publish(struct client *c)
{
	if (!marks_shared(c) || (publish(c) && c->mark_writes == 0))
		return false;
	c->state = CLIENT_WAIT_MARK;
	return true;
}

bool marks_await_sample(const struct client *c)
{
	return c->state == CLIENT_WAIT_MARK && c->waiting_since_us > 0;
}

void marks_resume(struct client *c)
{
	if (!marks_await_sample(c) || !publish(c))
		return;
	settle_end_joined(c);
	tell_late(c);
}

void marks_release(struct client *c)
{
	marks_forget(c);
	buf_release(&c->late);
	if (c->mark_writes == 0)
		return;
	list_for_each(it, &c->worker->mark_writes)
	{
		struct mark_write *m = container_of(it, struct mark_write, link);
		if (m->client == c)
			m->client = NULL;
	}
}
