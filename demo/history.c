/* SPDX-License-Identifier: PostgreSQL */
#include "history.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Two rising numbers a (session, key). Sequentially consistent: a thread that reports a start
 * after another reported an end must see it, or a violation would slip through. */
struct history_floor {
	_Atomic uint64_t written;
	_Atomic uint64_t read;
};

static struct history_floor *floor_of(const struct history *h, size_t session, size_t key)
{
	assert(session < h->sessions && key < h->keys);
	return &h->floors[session * h->keys + key];
}

static void raise_to(_Atomic uint64_t *floor, uint64_t version)
{
	uint64_t seen = atomic_load(floor);
	while (seen < version && !atomic_compare_exchange_weak(floor, &seen, version))
		;
}

bool history_init(struct history *h, size_t sessions, size_t keys)
{
	size_t n;
	if (__builtin_mul_overflow(sessions, keys, &n))
		return false;
	*h = (struct history){.sessions = sessions, .keys = keys};
	h->floors = calloc(n > 0 ? n : 1, sizeof(*h->floors));
	return h->floors != NULL;
}

void history_release(struct history *h)
{
	free(h->floors);
	*h = (struct history){0};
}

void history_wrote(struct history *h, size_t session, size_t key, uint64_t version)
{
	raise_to(&floor_of(h, session, key)->written, version);
}

struct history_view history_read_started(struct history *h, size_t session, size_t key)
{
	struct history_floor *floor = floor_of(h, session, key);
	return (struct history_view){.written = atomic_load(&floor->written),
	                             .read = atomic_load(&floor->read)};
}

enum history_verdict history_read_ended(struct history *h, size_t session, size_t key,
                                        struct history_view started, uint64_t version)
{
	raise_to(&floor_of(h, session, key)->read, version);
	if (version < started.written)
		return HISTORY_STALE;
	if (version < started.read)
		return HISTORY_BACKWARD;
	return HISTORY_OK;
}

void history_forget(struct history *h, size_t session)
{
	for (size_t key = 0; key < h->keys; key++) {
		struct history_floor *floor = floor_of(h, session, key);
		atomic_store(&floor->written, 0);
		atomic_store(&floor->read, 0);
	}
}
