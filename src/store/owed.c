/* SPDX-License-Identifier: PostgreSQL */
#include "owed.h"

#include <stdlib.h>

#include "mark.h"

#define BUCKETS_MAX 4096

bool owed_init(struct owed_table *t, int max)
{
	size_t buckets = 16;
	while (buckets < (size_t)max && buckets < BUCKETS_MAX)
		buckets *= 2;
	*t = (struct owed_table){.buckets = calloc(buckets, sizeof(struct list)), .max = max};
	if (!t->buckets)
		return false;
	t->bucket_mask = buckets - 1;
	for (size_t i = 0; i < buckets; i++)
		list_init(&t->buckets[i]);
	list_init(&t->unsent);
	list_init(&t->sent);
	return true;
}

void owed_remove(struct owed_table *t, struct owed *o)
{
	list_remove(&o->in_bucket);
	list_remove(&o->in_order);
	free(o);
	t->count--;
}

static void remove_all(struct owed_table *t, struct list *l)
{
	list_for_each(it, l) owed_remove(t, container_of(it, struct owed, in_order));
}

void owed_release(struct owed_table *t)
{
	if (!t->buckets)
		return;
	remove_all(t, &t->unsent);
	remove_all(t, &t->sent);
	free(t->buckets);
	t->buckets = NULL;
}

/* FNV-1a. Whoever chooses names that collide slows down what is bounded anyway. */
static uint32_t hash_of(struct slice key)
{
	uint32_t h = 2166136261U;
	for (size_t i = 0; i < key.len; i++)
		h = (h ^ key.ptr[i]) * 16777619U;
	return h;
}

static struct owed *find(const struct owed_table *t, struct slice key, uint32_t hash)
{
	list_for_each(it, &t->buckets[hash & t->bucket_mask])
	{
		struct owed *o = container_of(it, struct owed, in_bucket);
		if (o->hash == hash && slice_eq(slice_of(o->key, o->key_len), key))
			return o;
	}
	return NULL;
}

static struct owed *add(struct owed_table *t, struct slice key, uint32_t hash)
{
	struct owed *o = t->count < t->max ? calloc(1, sizeof(*o) + key.len) : NULL;
	if (!o)
		return NULL;
	o->hash = hash;
	o->key_len = key.len;
	memcpy(o->key, key.ptr, key.len);
	list_init(&o->waiters);
	list_push_back(&t->buckets[hash & t->bucket_mask], &o->in_bucket);
	list_push_back(&t->unsent, &o->in_order);
	t->count++;
	return o;
}

static void to_list(struct owed *o, struct list *l, bool is_sent)
{
	list_remove(&o->in_order);
	list_push_back(l, &o->in_order);
	o->is_sent = is_sent;
}

struct owed *owed_raise(struct owed_table *t, struct slice key, const struct store_mark *mark)
{
	uint32_t hash = hash_of(key);
	struct owed *o = find(t, key, hash);
	bool raised = true;
	if (o)
		raised = mark_later(mark, &o->mark);
	else if (!(o = add(t, key, hash)))
		return NULL;
	if (raised) {
		o->mark = *mark;
		if (o->is_sent)
			to_list(o, &t->unsent, false);
	}
	return o;
}

struct owed *owed_next(const struct owed_table *t)
{
	struct list *first = list_first(&t->unsent);
	return first ? container_of(first, struct owed, in_order) : NULL;
}

void owed_sent(struct owed_table *t, struct owed *o)
{
	to_list(o, &t->sent, true);
}

void owed_all_unsent(struct owed_table *t)
{
	list_for_each(it, &t->sent) to_list(container_of(it, struct owed, in_order), &t->unsent, false);
}
