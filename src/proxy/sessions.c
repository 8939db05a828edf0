/* SPDX-License-Identifier: PostgreSQL */
#include "sessions.h"

#include <assert.h>
#include <stdlib.h>

#define EXPIRE_STEP 1000

bool sessions_init(struct sessions *s, int max, int64_t ttl_us)
{
	uint32_t n = 64;
	while (n < (uint32_t)max && n < 1u << 20)
		n *= 2;
	*s = (struct sessions){.max = max, .ttl_us = ttl_us, .bucket_count = n};
	list_init(&s->lru);
	s->buckets = calloc(n, sizeof(struct session *));
	return s->buckets != NULL;
}

static void drop(struct sessions *s, struct session *it)
{
	struct session **link = &s->buckets[it->hash & (s->bucket_count - 1)];
	while (*link != it)
		link = &(*link)->next;
	*link = it->next;
	list_remove(&it->lru);
	free(it);
	s->count--;
}

void sessions_release(struct sessions *s)
{
	if (!s->buckets)
		return; /* never came to life */
	list_for_each(it, &s->lru) free(container_of(it, struct session, lru));
	free(s->buckets);
	*s = (struct sessions){0};
}

/* The database is part of the key: the same name in two databases is two sessions. */
static uint64_t hash_key(const void *database, struct slice name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)(uintptr_t)database * 0x9e3779b97f4a7c15;
	for (size_t i = 0; i < name.len; i++)
		h = (h ^ name.ptr[i]) * UINT64_C(0x100000001b3);
	return h ^ h >> 31;
}

static bool make_room(struct sessions *s)
{
	if (s->count < s->max)
		return true;
	for (struct list *it = s->lru.prev; it != &s->lru; it = it->prev) {
		struct session *old = container_of(it, struct session, lru);
		if (old->refs == 0) {
			drop(s, old);
			s->evicted++;
			return true;
		}
	}
	return false;
}

static struct session *create(struct sessions *s, const struct fleet *f, const void *database,
                              uint64_t hash, struct slice name, int64_t now_us)
{
	if (!make_room(s))
		return NULL;
	struct session *it = calloc(1, sizeof(*it));
	if (!it)
		return NULL;
	it->hash = hash;
	it->database = database;
	memcpy(it->name, name.ptr, name.len);
	if (!s->elsewhere)
		session_wrote_unknown(&it->mark, f, now_us);

	struct session **bucket = &s->buckets[hash & (s->bucket_count - 1)];
	it->next = *bucket;
	*bucket = it;
	list_push_front(&s->lru, &it->lru);
	s->count++;
	s->created++;
	return it;
}

struct session *sessions_get(struct sessions *s, const struct fleet *f, const void *database,
                             struct slice name, int64_t now_us)
{
	if (name.len == 0 || name.len > SESSION_NAME_MAX)
		return NULL;
	uint64_t hash = hash_key(database, name);
	struct session *it = s->buckets[hash & (s->bucket_count - 1)];
	while (it && !(it->hash == hash && it->database == database && slice_eq_str(name, it->name)))
		it = it->next;
	if (!it && !(it = create(s, f, database, hash, name, now_us)))
		return NULL;
	it->refs++;
	it->used_at_us = now_us;
	return it;
}

void sessions_put(struct sessions *s, struct session *it, int64_t now_us)
{
	if (!it)
		return;
	assert(it->refs > 0);
	it->refs--;
	it->used_at_us = now_us;
	list_remove(&it->lru);
	list_push_front(&s->lru, &it->lru);
}

void sessions_expire(struct sessions *s, int64_t now_us)
{
	struct list *it = s->lru.prev;
	for (int i = 0; i < EXPIRE_STEP && it != &s->lru; i++) {
		struct session *old = container_of(it, struct session, lru);
		it = it->prev;
		if (old->refs > 0)
			continue;
		if (now_us - old->used_at_us < s->ttl_us)
			break;
		drop(s, old);
		s->expired++;
	}
}
