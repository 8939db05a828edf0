/* SPDX-License-Identifier: PostgreSQL */
#include "prepared.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t hash_name(struct slice name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	for (size_t i = 0; i < name.len; i++)
		h = (h ^ name.ptr[i]) * UINT64_C(0x100000001b3);
	return h ^ h >> 29;
}

/* ---- a client's names ---- */

static struct client_stmt **client_slot(const struct client_stmts *m, struct slice name,
                                        uint64_t hash)
{
	struct client_stmt **link = &m->buckets[hash & (m->bucket_count - 1)];
	while (*link &&
	       !((*link)->hash == hash && slice_eq(slice_of((*link)->name, (*link)->name_len), name)))
		link = &(*link)->next;
	return link;
}

struct stmt *client_stmts_find(const struct client_stmts *m, struct slice name)
{
	if (m->count == 0)
		return NULL;
	struct client_stmt *e = *client_slot(m, name, hash_name(name));
	return e ? e->stmt : NULL;
}

static bool client_stmts_grow(struct client_stmts *m)
{
	uint32_t n = m->bucket_count ? m->bucket_count * 2 : 8;
	struct client_stmt **buckets = calloc(n, sizeof(struct client_stmt *));
	if (!buckets)
		return false;
	for (uint32_t i = 0; i < m->bucket_count; i++) {
		for (struct client_stmt *e = m->buckets[i], *next; e; e = next) {
			next = e->next;
			e->next = buckets[e->hash & (n - 1)];
			buckets[e->hash & (n - 1)] = e;
		}
	}
	free(m->buckets);
	m->buckets = buckets;
	m->bucket_count = n;
	return true;
}

static size_t client_stmt_bytes(size_t name_len, const struct stmt *stmt)
{
	return sizeof(struct client_stmt) + name_len + stmt->text_len + (size_t)stmt->type_count * 4;
}

bool client_stmts_fit(const struct client_stmts *m, struct slice name, const struct stmt *stmt,
                      size_t max_bytes)
{
	return m->count < CLIENT_STATEMENTS_MAX &&
	       m->bytes + client_stmt_bytes(name.len, stmt) <= max_bytes;
}

bool client_stmts_add(struct client_stmts *m, struct stmt_cache *cache, struct slice name,
                      struct stmt *stmt)
{
	uint64_t hash = hash_name(name);
	struct client_stmt *e = NULL;
	if (m->count >= CLIENT_STATEMENTS_MAX || client_stmts_find(m, name) ||
	    ((uint32_t)m->count >= m->bucket_count && !client_stmts_grow(m)) ||
	    !(e = malloc(sizeof(*e) + name.len + 1))) {
		stmt_put(cache, stmt);
		return false;
	}
	struct client_stmt **bucket = &m->buckets[hash & (m->bucket_count - 1)];
	*e = (struct client_stmt){.next = *bucket, .hash = hash, .stmt = stmt, .name_len = name.len};
	memcpy(e->name, name.ptr, name.len);
	*bucket = e;
	m->count++;
	m->bytes += client_stmt_bytes(name.len, stmt);
	return true;
}

struct stmt *client_stmts_remove(struct client_stmts *m, struct slice name)
{
	if (m->count == 0)
		return NULL;
	struct client_stmt **link = client_slot(m, name, hash_name(name));
	struct client_stmt *e = *link;
	if (!e)
		return NULL;
	struct stmt *stmt = e->stmt;
	*link = e->next;
	m->bytes -= client_stmt_bytes(e->name_len, stmt);
	free(e);
	m->count--;
	return stmt;
}

void client_stmts_clear(struct client_stmts *m, struct stmt_cache *cache)
{
	for (uint32_t i = 0; i < m->bucket_count; i++) {
		for (struct client_stmt *e = m->buckets[i], *next; e; e = next) {
			next = e->next;
			stmt_put(cache, e->stmt);
			free(e);
		}
	}
	free(m->buckets);
	*m = (struct client_stmts){0};
}

/* ---- what one server connection has prepared ---- */

void server_stmts_init(struct server_stmts *m)
{
	*m = (struct server_stmts){0};
	list_init(&m->lru);
}

static struct server_stmt **server_slot(const struct server_stmts *m, const struct stmt *stmt, uint32_t meaning)
{
	struct server_stmt **link = &m->buckets[stmt->id & (m->bucket_count - 1)];
	while (*link && ((*link)->stmt != stmt || (*link)->meaning != meaning))
		link = &(*link)->next;
	return link;
}

bool server_stmts_touch(struct server_stmts *m, const struct stmt *stmt, uint32_t meaning)
{
	if (m->count == 0)
		return false;
	struct server_stmt *e = *server_slot(m, stmt, meaning);
	if (!e)
		return false;
	if (m->lru.next != &e->lru) {
		list_remove(&e->lru);
		list_push_front(&m->lru, &e->lru);
	}
	return true;
}

static bool server_stmts_grow(struct server_stmts *m)
{
	uint32_t n = m->bucket_count ? m->bucket_count * 2 : 16;
	struct server_stmt **buckets = calloc(n, sizeof(struct server_stmt *));
	if (!buckets)
		return false;
	list_for_each(it, &m->lru)
	{
		struct server_stmt *e = container_of(it, struct server_stmt, lru);
		e->next = buckets[e->stmt->id & (n - 1)];
		buckets[e->stmt->id & (n - 1)] = e;
	}
	free(m->buckets);
	m->buckets = buckets;
	m->bucket_count = n;
	return true;
}

bool server_stmts_add(struct server_stmts *m, struct stmt *stmt, uint32_t meaning)
{
	if ((uint32_t)m->count >= m->bucket_count && !server_stmts_grow(m))
		return false;
	struct server_stmt *e = malloc(sizeof(*e));
	if (!e)
		return false;
	struct server_stmt **bucket = &m->buckets[stmt->id & (m->bucket_count - 1)];
	*e = (struct server_stmt){.next = *bucket, .stmt = stmt_ref(stmt), .meaning = meaning};
	*bucket = e;
	list_push_front(&m->lru, &e->lru);
	m->count++;
	m->bytes += stmt->text_len;
	return true;
}

void server_stmts_drop(struct server_stmts *m, struct stmt_cache *cache, const struct stmt *stmt,
                       uint32_t meaning)
{
	if (m->count == 0)
		return;
	struct server_stmt **link = server_slot(m, stmt, meaning);
	struct server_stmt *e = *link;
	if (!e)
		return;
	*link = e->next;
	list_remove(&e->lru);
	m->count--;
	m->bytes -= e->stmt->text_len;
	stmt_put(cache, e->stmt);
	free(e);
}

const struct server_stmt *server_stmts_oldest(const struct server_stmts *m)
{
	struct list *last = list_last(&m->lru);
	return last ? container_of(last, struct server_stmt, lru) : NULL;
}

void server_stmts_clear(struct server_stmts *m, struct stmt_cache *cache)
{
	list_for_each(it, &m->lru)
	{
		struct server_stmt *e = container_of(it, struct server_stmt, lru);
		stmt_put(cache, e->stmt);
		free(e);
	}
	free(m->buckets);
	server_stmts_init(m);
}

static size_t put_hex(uint64_t number, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;
	int shift = 60;
	while (shift > 0 && (number >> shift & 15) == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		out[n++] = digits[number >> shift & 15];
	return n;
}

size_t stmt_server_name(const struct stmt *stmt, uint32_t meaning, char out[STMT_NAME_MAX])
{
	size_t n = 0;
	if (meaning != MEANING_UNKNOWN) {
		n = sizeof(STMT_NAME_PREFIX) - 1;
		memcpy(out, STMT_NAME_PREFIX, n);
		n += put_hex(stmt->id, out + n);
	}
	if (n > 0 && meaning != MEANING_PLAIN) {
		out[n++] = '_';
		n += put_hex(meaning, out + n);
	}
	out[n] = '\0';
	return n;
}
