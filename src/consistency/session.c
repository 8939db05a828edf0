/* SPDX-License-Identifier: PostgreSQL */
#include "session.h"

#include <assert.h>

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static bool mark_is_empty(const struct session_mark *s)
{
	bool empty = !position_is_set(session_known(s)) && s->dirty_at_us == 0;
	for (int i = 0; i < FLEET_NODES_MAX && empty; i++)
		empty = s->read_at_us[i] == 0;
	return empty;
}

/* Brings a mark of an older generation to this one. Its positions lie on a branch of history that
 * may have been cut: they become a debt that the new primary's own position settles, because that
 * is past the point where the branches part. */
static void adopt_generation(struct session_mark *s, const struct fleet *f)
{
	if (s->generation == f->generation)
		return;
	if (position_is_set(s->observed.shown)) {
		s->observed.shown = (struct position){0};
		s->observed.shown_at_us = later(s->observed.shown_at_us, f->generation_at_us);
	}
	if (position_is_set(s->write)) {
		s->cut = s->write;
		s->cut_generation = s->generation;
	}
	if (!mark_is_empty(s)) {
		s->write = (struct position){0};
		s->read = (struct position){0};
		s->brought = (struct position){0};
		memset(s->read_at_us, 0, sizeof(s->read_at_us));
		s->dirty_at_us = f->generation_at_us;
	}
	s->generation = f->generation;
}

/* Is the server that answered the read still the one behind the watcher's connection? At the very
 * moment of the loss nobody knows: no. */
static bool same_epoch(const struct fleet *f, int node, int64_t read_at_us)
{
	return f->nodes[node].up && f->nodes[node].lost_at_us < read_at_us;
}

/* What a sample started after `since_us` shows on `node`; unset if there is none. */
static struct position sample_after(const struct fleet *f, int node, int64_t since_us)
{
	if (node == NODE_NONE || f->nodes[node].sampled_at_us <= since_us)
		return (struct position){0};
	return f->nodes[node].at;
}

/* The primary's position, asked at asked_at_us, covers whatever was seen before that. */
static void settle_before(struct session_mark *s, const struct fleet *f, int64_t asked_at_us)
{
	if (s->dirty_at_us < asked_at_us)
		s->dirty_at_us = 0;
	if (s->observed.shown_at_us < asked_at_us)
		s->observed.shown_at_us = 0;
	for (int i = 0; i < f->count; i++) {
		if (s->read_at_us[i] < asked_at_us)
			s->read_at_us[i] = 0;
	}
}

void session_wrote(struct session_mark *s, const struct fleet *f, struct position at,
                   int64_t asked_at_us, int64_t now_us)
{
	adopt_generation(s, f);
	s->write = position_max(s->write, at);
	s->written_at_us = later(s->written_at_us, now_us);
	settle_before(s, f, asked_at_us);
}

void session_wrote_unknown(struct session_mark *s, const struct fleet *f, int64_t now_us)
{
	adopt_generation(s, f);
	s->written_at_us = later(s->written_at_us, now_us);
	s->dirty_at_us = later(s->dirty_at_us, now_us);
}

void session_read(struct session_mark *s, const struct fleet *f, int node, int64_t now_us)
{
	assert(node == NODE_NONE || (node >= 0 && node < f->count));
	adopt_generation(s, f);

	bool replica = node != NODE_NONE && f->nodes[node].role == NODE_ROLE_REPLICA &&
	               same_epoch(f, node, now_us);
	if (!replica) {
		s->dirty_at_us = later(s->dirty_at_us, now_us);
		return;
	}

	int64_t *owed = &s->read_at_us[node];
	/* The replica has restarted since and may have gone backwards: its samples will not tell what
	 * was seen before. */
	if (*owed != 0 && !same_epoch(f, node, *owed))
		s->dirty_at_us = later(s->dirty_at_us, *owed);
	*owed = later(*owed, now_us);
	s->last_node = node;
}

void session_read_at(struct session_mark *s, const struct fleet *f, int node, struct position at,
                     int64_t asked_at_us, int64_t now_us)
{
	assert(node >= 0 && node < f->count);
	adopt_generation(s, f);
	if (node == f->primary) {
		settle_before(s, f, asked_at_us);
	} else if (f->nodes[node].role == NODE_ROLE_REPLICA && same_epoch(f, node, asked_at_us)) {
		if (s->read_at_us[node] < asked_at_us && same_epoch(f, node, s->read_at_us[node]))
			s->read_at_us[node] = 0;
		s->last_node = node;
	} else {
		session_read(s, f, NODE_NONE, now_us);
		return;
	}
	s->read = position_max(s->read, at);
}

void session_observed_read(struct session_mark *s, const struct fleet *f, const struct position *at,
                           int64_t asked_at_us, int64_t now_us)
{
	struct session_observed *o = &s->observed;
	adopt_generation(s, f);
	if (!at) {
		o->shown_at_us = later(o->shown_at_us, now_us);
		return;
	}
	o->shown = position_max(o->shown, *at);
	if (o->shown_at_us < asked_at_us)
		o->shown_at_us = 0;
}

void session_observed_counts(struct session_mark *s, const struct fleet *f)
{
	adopt_generation(s, f);
	s->read = position_max(s->read, s->observed.shown);
	if (s->observed.shown_at_us != 0)
		session_read(s, f, NODE_NONE, s->observed.shown_at_us);
	s->observed = (struct session_observed){0};
}

void session_read_after(struct session_mark *s, const struct fleet *f, struct position at)
{
	adopt_generation(s, f);
	s->brought = position_max(s->brought, at);
}

void session_settle(struct session_mark *s, const struct fleet *f)
{
	adopt_generation(s, f);

	if (s->dirty_at_us != 0) {
		struct position at = sample_after(f, f->primary, s->dirty_at_us);
		if (position_is_set(at)) {
			s->read = position_max(s->read, at);
			s->dirty_at_us = 0;
		}
	}
	for (int i = 0; i < f->count; i++) {
		if (s->read_at_us[i] == 0)
			continue;
		int teller = same_epoch(f, i, s->read_at_us[i]) ? i : f->primary;
		struct position at = sample_after(f, teller, s->read_at_us[i]);
		if (position_is_set(at)) {
			s->read = position_max(s->read, at);
			s->read_at_us[i] = 0;
		}
	}
}

bool session_need(const struct session_mark *s, const struct fleet *f, int node,
                  struct position *need)
{
	if (s->generation != f->generation && !mark_is_empty(s))
		return false;
	if (s->dirty_at_us != 0)
		return false;

	*need = session_known(s);
	for (int i = 0; i < f->count; i++) {
		if (s->read_at_us[i] == 0)
			continue;
		/* A replica is never behind what it showed before. */
		if (i == node && same_epoch(f, i, s->read_at_us[i]))
			continue;
		struct position at = sample_after(f, f->primary, s->read_at_us[i]);
		if (!position_is_set(at))
			return false;
		*need = position_max(*need, at);
	}
	return true;
}

/* The branch of the generation before, in the primary's history; -1: it is no part of it. */
static int find_branch_before(const struct fleet *f)
{
	const struct history *h = &f->history;
	for (int i = 0; i < h->count; i++) {
		bool same_fork =
			!f->fork_before_known || history_fork_of(h, i).lsn == f->branch_before.fork.lsn;
		if (h->past[i].timeline == f->branch_before.timeline && same_fork)
			return i;
	}
	return -1;
}

/* Is what was written up to `at` in the generation before no part of the primary's history? Where that
 * branch began may not be known: what was captured on it lies beyond. */
static bool was_cut(const struct fleet *f, struct position at)
{
	const struct history *h = &f->history;
	struct history_point cut = f->branch_before;
	int i = find_branch_before(f);
	cut.at = at;
	if (f->fork_before_known)
		return fleet_primary_contains(f, &cut) == CONTAINS_LOST;
	if (cut.system != h->system)
		return false;
	if (i >= 0) {
		cut.fork = history_fork_of(h, i);
		return fleet_primary_contains(f, &cut) == CONTAINS_LOST;
	}
	bool older_than_known = position_is_set(h->began) && cut.timeline < h->past[0].timeline;
	return h->timeline != cut.timeline && !older_than_known;
}

/* How far replication had come on that branch, where `wrote` was lost. */
static struct position survived_to(const struct fleet *f, struct position wrote)
{
	int i = find_branch_before(f);
	struct position at = i >= 0                ? history_left(&f->history, i)
	                     : f->fork_before_known ? f->branch_before.fork
	                                            : history_fork(&f->history);
	return position_reached(at, wrote) ? wrote : at;
}

bool session_lost(struct session_mark *s, const struct fleet *f, struct position *survived,
                  struct position *wrote)
{
	adopt_generation(s, f);
	if (!position_is_set(s->cut))
		return false;
	uint32_t timeline = f->branch_before.timeline;
	bool adjacent = s->cut_generation + 1 == f->generation;
	if (adjacent && (!f->history.known || timeline == 0))
		return false;
	bool lost = adjacent && was_cut(f, s->cut);
	*wrote = s->cut;
	*survived = survived_to(f, s->cut);
	s->cut = (struct position){0};
	return lost;
}

int64_t session_owed_since(const struct session_mark *s, const struct fleet *f)
{
	int64_t latest = s->dirty_at_us;
	if (s->generation != f->generation && !mark_is_empty(s))
		latest = f->generation_at_us;
	for (int i = 0; i < f->count; i++)
		latest = later(latest, s->read_at_us[i]);
	return latest;
}

bool session_position(const struct session_mark *s, const struct fleet *f, struct position *at)
{
	if (!session_need(s, f, NODE_NONE, at))
		return false;
	*at = position_max(*at, s->observed.shown);
	if (s->observed.shown_at_us == 0)
		return true;
	struct position shown = sample_after(f, f->primary, s->observed.shown_at_us);
	*at = position_max(*at, shown);
	return position_is_set(shown);
}
