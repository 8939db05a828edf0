/* SPDX-License-Identifier: PostgreSQL
 *
 * auth_query: what is stored for a user whom auth_file does not have, asked of the primary as
 * auth_user.
 *
 * The question goes over connections that no client is ever given: those of an account of their
 * own, in the database auth_dbname, or in the client's. They are made with search_path =
 * pg_catalog, so that no name in the query can be made to mean something else, and queue, wait and
 * fail as all pools do. A database that only "*" serves is asked in that of the primary's line in
 * [nodes]: what strangers ask for by name must not make anything.
 *
 *   NONE ─▶ WAITS (in the queue of that pool) ─▶ ASKED ─▶ FOUND, ABSENT ─▶ the login goes on
 *     ╲       ╲                                    ╲
 *      ▶ FOUND (an answer of a moment ago)           ▶ FAILED ─▶ the client hears 08006
 *
 * Limits: LOOKUP_CONNECTIONS at once for each database that is asked, max_pool_waiting clients in
 * its queue (53300), server_connect_timeout for all of it. An answer counts for auth_query_ttl, or
 * until a login fails with it; LOOKUP_ANSWERS_MAX are kept. That there is no such user is not kept.
 */
#ifndef TM_PROXY_AUTH_LOOKUP_H
#define TM_PROXY_AUTH_LOOKUP_H

#include "proxy.h"

#define LOOKUP_CONNECTIONS 4
#define LOOKUP_ANSWERS_MAX 1024

/* Are users of the database that this client asks for looked up? */
bool lookup_configured(const struct client *c);
/* CLIENT_LOOKUP, from beginning to end: call it again whenever the client may go on. False: wait.
 * True: login->lookup is FOUND (login->secret) or ABSENT, or FAILED and the client was told. */
bool lookup_advance(struct client *c);
/* CLIENT_LOOKUP: it may have taken too long. */
void lookup_tend(struct client *c, int64_t now_us);
/* The login has failed, or the client goes: an answer that it used is forgotten; what it waits for
 * goes on without it. Safe at any time. */
void lookup_forget(struct client *c);
void lookup_leave(struct client *c);

/* ---- for server.c: the connection that asks ---- */
void lookup_row(struct server *s, struct slice body);
/* ReadyForQuery has come, or the connection is lost (`lost`). */
void lookup_done(struct server *s);
void lookup_lost(struct server *s, const char *why);

/* All answers: the configuration has changed, or the worker ends. */
void lookups_forget(struct worker *w);
void lookups_free(struct worker *w);

#endif
