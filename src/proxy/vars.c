/* SPDX-License-Identifier: PostgreSQL */
#include "vars.h"

#include <assert.h>
#include <stdlib.h>

struct draft {
	int count;
	size_t bytes;
	struct {
		struct slice name, sql;
	} items[VARS_MAX];
};

static uint64_t hash_bytes(uint64_t h, struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		h = (h ^ s.ptr[i]) * UINT64_C(0x100000001b3);
	return (h ^ 0xff) * UINT64_C(0x100000001b3);
}

/* The items stay as they are: logins come here. */
static void draft_init(struct draft *d)
{
	d->count = 0;
	d->bytes = 0;
}

static bool draft_add(struct draft *d, struct slice name, struct slice sql)
{
	if (d->count == VARS_MAX || d->bytes + name.len + sql.len + 2 > VARS_BYTES)
		return false;
	d->items[d->count].name = name;
	d->items[d->count].sql = sql;
	d->bytes += name.len + sql.len + 2;
	d->count++;
	return true;
}

static bool same(const struct vars *v, const struct draft *d)
{
	if (v->count != d->count)
		return false;
	for (int i = 0; i < v->count; i++) {
		if (!slice_eq_str(d->items[i].name, v->items[i].name) ||
		    !slice_eq_str(d->items[i].sql, v->items[i].sql))
			return false;
	}
	return true;
}

static const char *place_text(char **at, struct slice text)
{
	char *start = *at;
	if (text.len)
		memcpy(start, text.ptr, text.len);
	start[text.len] = '\0';
	*at += text.len + 1;
	return start;
}

/* Of the settings that drivers send and applications change, those by which no text is read. One of
 * an extension or of the application's own has a dot. */
static bool has_no_part(struct slice name)
{
	static const char *const names[] = {"application_name",
	                                    "client_min_messages",
	                                    "default_transaction_deferrable",
	                                    "default_transaction_isolation",
	                                    "default_transaction_read_only",
	                                    "idle_in_transaction_session_timeout",
	                                    "idle_session_timeout",
	                                    "lock_timeout",
	                                    "statement_timeout",
	                                    "synchronous_commit",
	                                    "transaction_timeout"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (slice_eq_str(name, names[i]))
			return true;
	}
	return name.len > 0 && memchr(name.ptr, '.', name.len);
}

static struct vars *intern(struct vars_table *t, const struct draft *d);

/* False: no memory. */
static bool give_meaning(struct vars_table *t, struct vars *v, const struct draft *d)
{
	struct draft part;
	draft_init(&part);
	for (int i = 0; i < d->count; i++) {
		if (!has_no_part(d->items[i].name))
			draft_add(&part, d->items[i].name, d->items[i].sql);
	}
	if (part.count == d->count) {
		v->meaning = t->meanings == MEANING_UNKNOWN ? MEANING_UNKNOWN : t->meanings++;
		return true;
	}
	v->telling = intern(t, &part);
	if (v->telling)
		v->meaning = v->telling->meaning;
	return v->telling != NULL;
}

static struct vars *intern(struct vars_table *t, const struct draft *d)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	for (int i = 0; i < d->count; i++)
		h = hash_bytes(hash_bytes(h, d->items[i].name), d->items[i].sql);

	struct vars **bucket = &t->buckets[h % VARS_BUCKETS];
	for (struct vars *v = *bucket; v; v = v->next) {
		if (v->hash == h && same(v, d))
			return vars_ref(v);
	}

	struct vars *v = malloc(sizeof(*v) + (size_t)d->count * sizeof(v->items[0]) + d->bytes);
	if (!v)
		return NULL;
	*v = (struct vars){.refs = 1, .hash = h, .count = d->count};
	char *at = (char *)&v->items[d->count];
	for (int i = 0; i < d->count; i++) {
		v->items[i].name = place_text(&at, d->items[i].name);
		v->items[i].sql = place_text(&at, d->items[i].sql);
	}
	const char *isolation = vars_find(v, "default_transaction_isolation");
	v->serializable = isolation && strcasestr(isolation, "serializable");
	if (!give_meaning(t, v, d)) {
		free(v);
		return NULL;
	}
	v->next = *bucket;
	*bucket = v;
	return v;
}

bool vars_table_init(struct vars_table *t)
{
	*t = (struct vars_table){0};
	t->none = intern(t, &(struct draft){0});
	return t->none != NULL;
}

void vars_table_release(struct vars_table *t)
{
	for (int i = 0; i < VARS_BUCKETS; i++) {
		for (struct vars *v = t->buckets[i], *next; v; v = next) {
			next = v->next;
			free(v);
		}
	}
	*t = (struct vars_table){0};
}

struct vars *vars_with(struct vars_table *t, const struct vars *base, const char *name,
                       struct slice sql)
{
	struct draft d;
	draft_init(&d);
	struct slice key = slice_str(name);
	bool placed = false;
	for (int i = 0; i < base->count; i++) {
		int order = strcmp(base->items[i].name, name);
		if (order >= 0 && !placed) {
			if (!draft_add(&d, key, sql))
				return NULL;
			placed = true;
		}
		if (order != 0 &&
		    !draft_add(&d, slice_str(base->items[i].name), slice_str(base->items[i].sql)))
			return NULL;
	}
	if (!placed && !draft_add(&d, key, sql))
		return NULL;
	return intern(t, &d);
}

struct vars *vars_without(struct vars_table *t, const struct vars *base, const char *name)
{
	struct draft d;
	draft_init(&d);
	for (int i = 0; i < base->count; i++) {
		if (strcmp(base->items[i].name, name) != 0)
			draft_add(&d, slice_str(base->items[i].name), slice_str(base->items[i].sql));
	}
	return intern(t, &d);
}

struct vars *vars_ref(struct vars *v)
{
	v->refs++;
	return v;
}

void vars_put(struct vars_table *t, struct vars *v)
{
	if (!v)
		return;
	assert(v->refs > 0);
	if (--v->refs > 0)
		return;
	struct vars **link = &t->buckets[v->hash % VARS_BUCKETS];
	while (*link != v)
		link = &(*link)->next;
	*link = v->next;
	vars_put(t, v->telling);
	free(v);
}

const char *vars_find(const struct vars *v, const char *name)
{
	for (int i = 0; i < v->count; i++) {
		if (strcmp(v->items[i].name, name) == 0)
			return v->items[i].sql;
	}
	return NULL;
}

/* Names come from a parsed statement or a startup packet: quoted, so that they stay names. A
 * qualified name such as my.setting is quoted part by part. */
static bool append_reset(struct buf *out, const char *name)
{
	bool ok = buf_append_str(out, "RESET \"");
	for (const char *p = name; *p; p++) {
		if (*p == '"')
			ok = buf_append_str(out, "\"\"");
		else if (*p == '.')
			ok = buf_append_str(out, "\".\"");
		else
			ok = buf_append(out, p, 1);
	}
	return buf_append_str(out, "\";") && ok;
}

bool vars_diff(const struct vars *from, const struct vars *to, struct buf *out)
{
	bool ok = true;
	for (int i = 0; i < from->count; i++) {
		if (!vars_find(to, from->items[i].name))
			ok = append_reset(out, from->items[i].name) && ok;
	}
	for (int i = 0; i < to->count; i++) {
		const char *have = vars_find(from, to->items[i].name);
		bool other = !have || strcmp(have, to->items[i].sql) != 0;
		/* SET may leave half of it as it is, which has to be the server's own half. */
		if (have && other && strcmp(to->items[i].name, "datestyle") == 0)
			ok = append_reset(out, "datestyle") && ok;
		if (other)
			/* The text may end with a comment: up to the end of its line. */
			ok = buf_append_str(out, to->items[i].sql) && buf_append_str(out, "\n;") && ok;
	}
	return ok && !out->overflow;
}
