/* SPDX-License-Identifier: PostgreSQL
 *
 * Prepared statements across pooled connections. A client's name maps to a counted statement
 * (sql/cache.h); on a server connection that statement has a name of ours for each meaning it was
 * prepared with (vars.h), and is prepared there when it is first needed. So clients share
 * server-side statements, never see each other's names, and never get a text as it was read by
 * another client's settings.
 */
#ifndef TM_PROXY_PREPARED_H
#define TM_PROXY_PREPARED_H

#include "base/list.h"
#include "sql/cache.h"
#include "vars.h"

/* ---- a client's names ---- */
struct client_stmt {
	struct client_stmt *next;
	uint64_t hash;
	struct stmt *stmt;
	size_t name_len;
	char name[];
};

#define CLIENT_STATEMENTS_MAX 65536

struct client_stmts {
	int count;
	size_t bytes; /* of names and texts, shared or not */
	uint32_t bucket_count;
	struct client_stmt **buckets;
};

/* Is there room for one more, of `max_bytes` and CLIENT_STATEMENTS_MAX? */
bool client_stmts_fit(const struct client_stmts *m, struct slice name, const struct stmt *stmt,
                      size_t max_bytes);
/* NULL if the client has no such statement. */
struct stmt *client_stmts_find(const struct client_stmts *m, struct slice name);
/* Takes the caller's count of `stmt`, also on failure. False: exists, full, or no memory. */
bool client_stmts_add(struct client_stmts *m, struct stmt_cache *cache, struct slice name,
                      struct stmt *stmt);
/* Gives the entry's count to the caller; NULL if there was none. */
struct stmt *client_stmts_remove(struct client_stmts *m, struct slice name);
void client_stmts_clear(struct client_stmts *m, struct stmt_cache *cache);

/* ---- what one server connection has prepared ---- */
struct server_stmt {
	struct server_stmt *next;
	struct list lru; /* most recent first */
	struct stmt *stmt;
	uint32_t meaning;
};

struct server_stmts {
	int count;
	size_t bytes; /* of texts */
	uint32_t bucket_count;
	struct server_stmt **buckets;
	struct list lru;
};

void server_stmts_init(struct server_stmts *m);
/* True, and most recently used, if it is there. */
bool server_stmts_touch(struct server_stmts *m, const struct stmt *stmt, uint32_t meaning);
/* Takes its own count. False: no memory. */
bool server_stmts_add(struct server_stmts *m, struct stmt *stmt, uint32_t meaning);
void server_stmts_drop(struct server_stmts *m, struct stmt_cache *cache, const struct stmt *stmt,
                       uint32_t meaning);
/* The least recently used, or NULL. */
const struct server_stmt *server_stmts_oldest(const struct server_stmts *m);
void server_stmts_clear(struct server_stmts *m, struct stmt_cache *cache);

#define STMT_NAME_PREFIX "_tidemark_"
#define STMT_NAME_MAX 48
/* Our name of a statement on servers, "" for MEANING_UNKNOWN; returns its length. */
size_t stmt_server_name(const struct stmt *stmt, uint32_t meaning, char out[STMT_NAME_MAX]);

#endif
