/* SPDX-License-Identifier: PostgreSQL
 *
 * Two hash tables with chains. Shapes live in a fixed array and are replaced by a clock hand,
 * because a hit then costs one store; statements are objects of their own on a list, most recently
 * used first.
 */
#include "cache.h"
#include "shape.h"
#include "shows_time.h"

#include "base/list.h"

#include <assert.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Together, the texts of the statements that may be found; the oldest go first. */
#define STATEMENT_BYTES_MAX (64 * 1024 * 1024)
/* Texts without a shape that a standby refused, remembered by hash: a false hit only costs a read
 * on the primary. */
#define REFUSED_LONG_MAX 64

#define NO_SHAPE (-1)

struct shape_entry {
	uint64_t hash;
	uint8_t *text; /* NULL: free */
	uint32_t len;
	uint32_t generation; /* of the catalog */
	int32_t next;        /* in the chain */
	struct traits traits;
	uint8_t kind; /* enum shape_kind */
	bool by_text; /* its texts differ by their literals: set_config() */
	bool used;    /* since the hand came by */
};

struct stmt_node {
	struct stmt pub;
	struct list by_use;
	struct stmt_node *next; /* in the chain */
	uint64_t hash;
	/* The traits hold while `epoch` is that of the cache. */
	uint64_t epoch;
	struct traits traits;
	uint8_t bytes[];
};

struct stmt_cache {
	struct catalog *catalog;
	struct stmt_cache_stats stats;

	struct shape_entry *shapes;
	int32_t *shape_chains;
	uint32_t shape_mask;
	int max_shapes, hand;

	struct stmt_node **stmt_chains;
	uint32_t stmt_mask;
	int max_statements;
	struct list by_use;
	size_t statement_bytes;

	uint32_t refusals; /* counts them: a part of the epoch */
	uint32_t refused_generation;
	int refused_long_count, refused_long_next;
	uint64_t refused_long[REFUSED_LONG_MAX];

	uint8_t blank[SHAPE_TEXT_MAX];
};

static uint32_t chains_for(int entries)
{
	uint32_t n = 16;
	while (n < (uint32_t)entries * 2)
		n *= 2;
	return n;
}

struct stmt_cache *stmt_cache_new(struct catalog *catalog, int max_shapes, int max_statements)
{
	assert(max_shapes >= 16 && max_statements >= 16);
	struct stmt_cache *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->catalog = catalog;
	c->max_shapes = max_shapes;
	c->max_statements = max_statements;
	list_init(&c->by_use);
	c->shape_mask = chains_for(max_shapes) - 1;
	c->stmt_mask = chains_for(max_statements) - 1;
	c->shapes = calloc((size_t)max_shapes, sizeof(*c->shapes));
	c->shape_chains = malloc((c->shape_mask + 1) * sizeof(*c->shape_chains));
	c->stmt_chains = calloc(c->stmt_mask + 1, sizeof(struct stmt_node *));
	if (!c->shapes || !c->shape_chains || !c->stmt_chains) {
		stmt_cache_free(c);
		return NULL;
	}
	for (uint32_t i = 0; i <= c->shape_mask; i++)
		c->shape_chains[i] = NO_SHAPE;
	return c;
}

static struct stmt_node *node_of(struct list *l)
{
	return container_of(l, struct stmt_node, by_use);
}

void stmt_cache_free(struct stmt_cache *c)
{
	if (!c)
		return;
	for (int i = 0; c->shapes && i < c->max_shapes; i++)
		free(c->shapes[i].text);
	list_for_each(it, &c->by_use)
	{
		struct stmt_node *n = node_of(it);
		list_remove(it);
		n->pub.cached = false;
		if (n->pub.refs == 0)
			free(n);
	}
	free(c->shapes);
	free(c->shape_chains);
	free(c->stmt_chains);
	free(c);
}

/* shapes */

static int32_t *chain_of_shape(struct stmt_cache *c, uint64_t hash)
{
	return &c->shape_chains[hash & c->shape_mask];
}

static struct shape_entry *shape_find(struct stmt_cache *c, const struct shape *s, uint64_t hash)
{
	for (int32_t i = *chain_of_shape(c, hash); i != NO_SHAPE; i = c->shapes[i].next) {
		struct shape_entry *e = &c->shapes[i];
		if (e->hash == hash && e->kind == s->kind && slice_eq(slice_of(e->text, e->len), s->key))
			return e;
	}
	return NULL;
}

static void shape_drop(struct stmt_cache *c, struct shape_entry *e)
{
	int32_t self = (int32_t)(e - c->shapes);
	int32_t *link = chain_of_shape(c, e->hash);
	while (*link != self)
		link = &c->shapes[*link].next;
	*link = e->next;
	free(e->text);
	*e = (struct shape_entry){0};
	c->stats.shapes--;
}

/* A free entry, after the clock hand has thrown out one that was not used in its last round. */
static struct shape_entry *shape_slot(struct stmt_cache *c)
{
	for (;;) {
		struct shape_entry *e = &c->shapes[c->hand];
		c->hand = c->hand + 1 == c->max_shapes ? 0 : c->hand + 1;
		if (!e->text)
			return e;
		if (!e->used) {
			shape_drop(c, e);
			return e;
		}
		e->used = false;
	}
}

/* NULL: no memory; then the shape is not remembered. */
static struct shape_entry *shape_insert(struct stmt_cache *c, const struct shape *s, uint64_t hash)
{
	uint8_t *text = malloc(s->key.len + 1);
	if (!text)
		return NULL;
	if (s->key.len)
		memcpy(text, s->key.ptr, s->key.len);
	struct shape_entry *e = shape_slot(c);
	int32_t *chain = chain_of_shape(c, hash);
	*e = (struct shape_entry){.hash = hash,
	                          .text = text,
	                          .len = (uint32_t)s->key.len,
	                          .kind = (uint8_t)s->kind,
	                          .next = *chain};
	*chain = (int32_t)(e - c->shapes);
	c->stats.shapes++;
	return e;
}

static struct traits refused(struct traits t)
{
	t.flags = (t.flags & ~(uint32_t)TRAIT_READ) | TRAIT_MAY_WRITE;
	t.reason = REASON_REFUSED_BEFORE;
	return t;
}

static bool refused_long(struct stmt_cache *c, struct slice text)
{
	if (c->refused_long_count == 0 || c->refused_generation != catalog_generation(c->catalog))
		return false;
	uint64_t hash = XXH3_64bits(text.ptr, text.len);
	for (int i = 0; i < c->refused_long_count; i++)
		if (c->refused_long[i] == hash)
			return true;
	return false;
}

static void refuse_long(struct stmt_cache *c, struct slice text)
{
	uint32_t generation = catalog_generation(c->catalog);
	if (c->refused_generation != generation)
		c->refused_long_count = c->refused_long_next = 0;
	c->refused_generation = generation;
	c->refused_long[c->refused_long_next] = XXH3_64bits(text.ptr, text.len);
	c->refused_long_next = (c->refused_long_next + 1) % REFUSED_LONG_MAX;
	if (c->refused_long_count < REFUSED_LONG_MAX)
		c->refused_long_count++;
}

static struct traits classify_long(struct stmt_cache *c, struct slice text)
{
	c->stats.shape_misses++;
	struct traits t = classify(text, c->catalog);
	return (t.flags & TRAIT_READ) && refused_long(c, text) ? refused(t) : t;
}

/* The entry of a shape, classified under the present catalog. `text` is one of its texts. */
static struct shape_entry *shape_current(struct stmt_cache *c, const struct shape *s,
                                         struct slice text)
{
	uint64_t hash = XXH3_64bits(s->key.ptr, s->key.len);
	uint32_t generation = catalog_generation(c->catalog);
	struct shape_entry *e = shape_find(c, s, hash);
	if (e && e->generation == generation && !e->by_text) {
		c->stats.shape_hits++;
		e->used = true;
		return e;
	}
	c->stats.shape_misses++;
	if (!e)
		e = shape_insert(c, s, hash);
	if (!e)
		return NULL;
	e->traits = classify(text, c->catalog);
	e->traits.flags &= ~(uint32_t)TRAIT_COMMENTED;
	e->by_text = s->kind != SHAPE_OWN &&
	             (e->traits.flags & TRAIT_SETS || e->traits.binds == BIND_SET_CONFIG);
	e->generation = generation;
	return e;
}

struct traits stmt_cache_classify(struct stmt_cache *c, struct slice text)
{
	if (text.len > SHAPE_TEXT_MAX)
		return classify_long(c, text);
	struct shape s = shape_of(text, c->blank);
	const struct shape_entry *e = shape_current(c, &s, text);
	if (!e)
		return classify(text, c->catalog);
	struct traits t = e->traits;
	if (s.commented)
		t.flags |= TRAIT_COMMENTED;
	return t;
}

void stmt_cache_refuse(struct stmt_cache *c, struct slice text)
{
	c->refusals++;
	if (text.len > SHAPE_TEXT_MAX) {
		refuse_long(c, text);
		return;
	}
	struct shape s = shape_of(text, c->blank);
	struct shape_entry *e = shape_current(c, &s, text);
	if (e)
		e->traits = refused(e->traits);
}

/* statements */

static uint64_t stmt_hash(struct slice text, struct slice types)
{
	uint64_t hash = XXH3_64bits(text.ptr, text.len);
	return types.len ? XXH3_64bits_withSeed(types.ptr, types.len, hash) : hash;
}

static struct stmt_node *stmt_find(struct stmt_cache *c, struct slice text, struct slice types,
                                   uint64_t hash)
{
	struct stmt_node *n = c->stmt_chains[hash & c->stmt_mask];
	for (; n; n = n->next)
		if (n->hash == hash && slice_eq(slice_of(n->pub.text, n->pub.text_len), text) &&
		    slice_eq(slice_of(n->pub.types, (size_t)n->pub.type_count * 4), types))
			return n;
	return NULL;
}

static size_t stmt_size(const struct stmt_node *n)
{
	return sizeof(*n) + n->pub.text_len + (size_t)n->pub.type_count * 4;
}

/* No longer found; lives on while somebody counts it. */
static void stmt_evict(struct stmt_cache *c, struct stmt_node *n)
{
	struct stmt_node **link = &c->stmt_chains[n->hash & c->stmt_mask];
	while (*link != n)
		link = &(*link)->next;
	*link = n->next;
	list_remove(&n->by_use);
	c->statement_bytes -= stmt_size(n);
	c->stats.statements--;
	n->pub.cached = false;
	if (n->pub.refs == 0)
		free(n);
}

static void stmt_make_room(struct stmt_cache *c)
{
	while (c->stats.statements > c->max_statements ||
	       (c->statement_bytes > STATEMENT_BYTES_MAX && c->stats.statements > 1))
		stmt_evict(c, node_of(list_last(&c->by_use)));
}

static struct stmt_node *stmt_make(struct slice text, struct slice types, uint64_t hash)
{
	static _Atomic uint64_t last_id; /* of all threads */
	struct stmt_node *n = malloc(sizeof(*n) + text.len + types.len);
	if (!n)
		return NULL;
	*n = (struct stmt_node){.hash = hash};
	if (text.len)
		memcpy(n->bytes, text.ptr, text.len);
	if (types.len)
		memcpy(n->bytes + text.len, types.ptr, types.len);
	n->pub = (struct stmt){
		.id = ++last_id,
		.text_len = (uint32_t)text.len,
		.type_count = (uint16_t)(types.len / 4),
		.text = n->bytes,
		.types = n->bytes + text.len,
	};
	list_init(&n->by_use);
	return n;
}

struct stmt *stmt_get(struct stmt_cache *c, struct slice text, struct slice types_be)
{
	if (text.len > UINT32_MAX || types_be.len % 4 || types_be.len / 4 > UINT16_MAX)
		return NULL;
	uint64_t hash = stmt_hash(text, types_be);
	struct stmt_node *n = stmt_find(c, text, types_be, hash);
	if (n) {
		c->stats.statement_hits++;
		list_remove(&n->by_use);
		list_push_front(&c->by_use, &n->by_use);
		return stmt_ref(&n->pub);
	}
	c->stats.statement_misses++;
	n = stmt_make(text, types_be, hash);
	if (!n)
		return NULL;
	/* 'today' is that of the Parse that it came with. */
	if (literals_show_time(text))
		return stmt_ref(&n->pub);
	n->next = c->stmt_chains[hash & c->stmt_mask];
	c->stmt_chains[hash & c->stmt_mask] = n;
	list_push_front(&c->by_use, &n->by_use);
	n->pub.cached = true;
	c->stats.statements++;
	c->statement_bytes += stmt_size(n);
	struct stmt *s = stmt_ref(&n->pub);
	stmt_make_room(c);
	return s;
}

struct stmt *stmt_ref(struct stmt *s)
{
	s->refs++;
	return s;
}

void stmt_put(struct stmt_cache *c, struct stmt *s)
{
	assert(s->refs > 0);
	if (--s->refs == 0 && !s->cached)
		free(container_of(s, struct stmt_node, pub));
}

struct traits stmt_traits(struct stmt_cache *c, struct stmt *s)
{
	struct stmt_node *n = container_of(s, struct stmt_node, pub);
	uint64_t epoch = (uint64_t)catalog_generation(c->catalog) << 32 | c->refusals;
	/* A generation is never 0, so a new statement is never current. */
	if (n->epoch != epoch) {
		n->traits = stmt_cache_classify(c, slice_of(s->text, s->text_len));
		n->epoch = epoch;
	}
	return n->traits;
}

struct stmt_cache_stats stmt_cache_stats(const struct stmt_cache *c)
{
	return c->stats;
}
