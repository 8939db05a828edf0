/* SPDX-License-Identifier: PostgreSQL */
#include "waitlist.h"

#include <assert.h>
#include <stdlib.h>

/* ---- a binary min-heap of waiters that know their slots ---- */

/* One heap of the list, seen through what differs: its key and where a waiter keeps its slot. */
struct heap {
	struct waiter **items;
	int *count;
	uint64_t (*key)(const struct waiter *it);
	int *(*slot)(struct waiter *it);
};

static uint64_t key_position(const struct waiter *it)
{
	return it->need.lsn;
}

/* Times are never negative. */
static uint64_t key_sample(const struct waiter *it)
{
	return (uint64_t)it->sample_after_us;
}

static uint64_t key_deadline(const struct waiter *it)
{
	return (uint64_t)it->deadline_us;
}

static int *slot_of(struct waiter *it)
{
	return &it->slot;
}

static int *deadline_slot_of(struct waiter *it)
{
	return &it->deadline_slot;
}

/* The heap that wakes this waiter by what the fleet knows. */
static struct heap heap_of(struct waitlist *w, const struct waiter *it)
{
	if (position_is_set(it->need))
		return (struct heap){w->by_position, &w->position_count, key_position, slot_of};
	return (struct heap){w->by_sample, &w->sample_count, key_sample, slot_of};
}

static struct heap heap_of_deadlines(struct waitlist *w)
{
	return (struct heap){w->by_deadline, &w->count, key_deadline, deadline_slot_of};
}

static void heap_place(struct heap h, int i, struct waiter *it)
{
	h.items[i] = it;
	*h.slot(it) = i + 1;
}

static void heap_sift_up(struct heap h, int i, struct waiter *it)
{
	while (i > 0) {
		int parent = (i - 1) / 2;
		if (h.key(h.items[parent]) <= h.key(it))
			break;
		heap_place(h, i, h.items[parent]);
		i = parent;
	}
	heap_place(h, i, it);
}

static void heap_sift_down(struct heap h, int i, struct waiter *it)
{
	for (;;) {
		int child = 2 * i + 1;
		if (child >= *h.count)
			break;
		if (child + 1 < *h.count && h.key(h.items[child + 1]) < h.key(h.items[child]))
			child++;
		if (h.key(it) <= h.key(h.items[child]))
			break;
		heap_place(h, i, h.items[child]);
		i = child;
	}
	heap_place(h, i, it);
}

static void heap_push(struct heap h, struct waiter *it)
{
	heap_sift_up(h, (*h.count)++, it);
}

static void heap_remove(struct heap h, struct waiter *it)
{
	int i = *h.slot(it) - 1;
	assert(i >= 0 && i < *h.count && h.items[i] == it);
	*h.slot(it) = 0;

	struct waiter *last = h.items[--*h.count];
	if (last == it)
		return;
	if (i > 0 && h.key(last) < h.key(h.items[(i - 1) / 2]))
		heap_sift_up(h, i, last);
	else
		heap_sift_down(h, i, last);
}

/* ---- the list ---- */

bool waitlist_init(struct waitlist *w, int max)
{
	assert(max >= 0);
	memset(w, 0, sizeof(*w));
	w->max = max;
	w->by_position = calloc((size_t)max + 1, sizeof(struct waiter *));
	w->by_sample = calloc((size_t)max + 1, sizeof(struct waiter *));
	w->by_deadline = calloc((size_t)max + 1, sizeof(struct waiter *));
	if (w->by_position != NULL && w->by_sample != NULL && w->by_deadline != NULL)
		return true;
	waitlist_release(w);
	return false;
}

void waitlist_release(struct waitlist *w)
{
	free(w->by_position);
	free(w->by_sample);
	free(w->by_deadline);
	memset(w, 0, sizeof(*w));
}

bool waitlist_add(struct waitlist *w, struct waiter *it)
{
	assert(it->slot == 0 && it->deadline_slot == 0);
	assert(it->sample_after_us >= 0 && it->deadline_us >= 0);
	if (w->count == w->max)
		return false;
	heap_push(heap_of(w, it), it);
	heap_push(heap_of_deadlines(w), it);
	return true;
}

void waitlist_remove(struct waitlist *w, struct waiter *it)
{
	if (it->slot == 0)
		return;
	heap_remove(heap_of(w, it), it);
	heap_remove(heap_of_deadlines(w), it);
}

static struct waiter *pop(struct waitlist *w, struct waiter *it)
{
	waitlist_remove(w, it);
	return it;
}

static struct position furthest_replica(const struct fleet *f, int64_t now_us)
{
	struct position furthest = {0};
	for (int i = 0; i < f->count; i++) {
		if (fleet_replica_asked(f, i, now_us))
			furthest = position_max(furthest, f->nodes[i].at);
	}
	return furthest;
}

static int64_t latest_sample(const struct fleet *f)
{
	int64_t latest = 0;
	for (int i = 0; i < f->count; i++) {
		if (f->nodes[i].up && f->nodes[i].sampled_at_us > latest)
			latest = f->nodes[i].sampled_at_us;
	}
	return latest;
}

struct waiter *waitlist_pop_ready(struct waitlist *w, const struct fleet *f, int64_t now_us)
{
	if (w->sample_count > 0 && latest_sample(f) > w->by_sample[0]->sample_after_us)
		return pop(w, w->by_sample[0]);
	if (w->position_count > 0 &&
	    position_reached(furthest_replica(f, now_us), w->by_position[0]->need))
		return pop(w, w->by_position[0]);
	return NULL;
}

struct waiter *waitlist_pop_expired(struct waitlist *w, int64_t now_us)
{
	if (w->count == 0 || w->by_deadline[0]->deadline_us > now_us)
		return NULL;
	return pop(w, w->by_deadline[0]);
}

struct waiter *waitlist_pop_any(struct waitlist *w)
{
	return w->count == 0 ? NULL : pop(w, w->by_deadline[0]);
}

int64_t waitlist_next_deadline(const struct waitlist *w)
{
	return w->count == 0 ? INT64_MAX : w->by_deadline[0]->deadline_us;
}
