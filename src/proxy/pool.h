/* SPDX-License-Identifier: PostgreSQL
 *
 * Databases, accounts and pools: who may connect where, and which server connection serves whom.
 * One pool for each database, user and node, of at most pool_size connections, last used first.
 * Clients that find none free queue up, bounded in number and time. Reads that the primary gets only
 * because the replicas are gone are let in by a part of its pool, so that they cannot stampede it.
 */
#ifndef TM_PROXY_POOL_H
#define TM_PROXY_POOL_H

#include "proxy.h"

/* Is a database of this name configured? Makes nothing. */
bool database_served(const struct worker *w, struct slice name);
/* … by its own name, not by "*"? */
bool database_listed(const struct worker *w, struct slice name);
/* The line of [databases] that serves a name: its own, else that of "*", else NULL. */
const struct database_entry *database_entry_find(const struct settings *s, const char *name);
/* Finds the database a client asked for, or makes it; NULL: not configured, or no memory. */
struct database *database_get(struct worker *w, struct slice name);
/* How the account's user proves to servers who he is. */
struct slice account_proof(const struct account *a);
/* What a client has proved to have: of use where the userlist has a SCRAM secret only. */
void account_learn_keys(struct account *a, const struct scram_keys *keys);
/* Finds or makes the account. `stored` is what is known of the user's secret, as auth_file has it;
 * "" is nothing. */
struct account *account_get(struct database *db, struct slice user, const char *stored);
/* The one whose connections look users up: with auth_file's secret, and never a client's. */
struct account *account_for_lookups(struct database *db, struct slice user);
/* A client of it, or the catalog of its database, asks for currval() or lastval(): from then on a connection is
 * kept, while there are others, for the client that may have advanced a sequence there. */
bool account_asks_sequences(const struct account *a);
/* The node that its connections lead to. */
const struct watch_node *pool_node(const struct pool *p);
/* It is kept for somebody, and the router's own questions may take their time: asks a new one instead, if the
 * pool may have one. */
bool pool_asks_another(struct pool *p, const struct server *s);
/* A client has gone: no connection is kept for the sequences that it has advanced there. */
void account_forget_sequences(struct account *a, uint64_t serial);
const struct user_entry *user_find(const struct settings *s, struct slice name);
/* Applies new settings to what exists. */
void databases_reload(struct worker *w);
void databases_free(struct worker *w);

struct welcome *welcome_find(struct account *a, const struct vars *vars);
/* Remembers what `s` reported as what a client with these settings should hear. */
struct welcome *welcome_learn(struct account *a, struct vars *vars, const struct server *s);

/* The server's parameters as ParameterStatus messages, as a client of the fleet should hear them.
 */
void params_write(const struct server *s, struct buf *out);

enum pool_answer {
	POOL_TAKEN,  /* *out is the client's now */
	POOL_QUEUED, /* the client will be made runnable */
	POOL_FULL,   /* too many wait already */
	POOL_DOWN,   /* the node cannot be reached: pool.error, pool.sqlstate */
};
/* With client.wants_unused only a connection is taken that is younger than the client and on which nothing was run:
 * where the pool is full, an idle one is closed for it. While none can be opened, any will do. */
enum pool_answer pool_acquire(struct pool *p, struct client *c, struct server **out);
/* The same for a read that is sent to the primary for want of a replica. At most fallback_pool_share of
 * the pool is for those, in use or queued for; further ones are held back, and everybody else passes
 * them, so that losing the replicas costs writes nothing. Whoever was let in keeps its place until
 * pool_dismiss(), which lets the next one in.
 *
 *   held ──(a place is free)──▶ waiting ──▶ on a server ──▶ dismissed
 *     └─ decides anew at every tick while there is a replica that may be asked
 */
enum pool_answer pool_acquire_fallback(struct pool *p, struct client *c, struct server **out);
/* The client's read is over, or goes elsewhere. Safe if it was not let in anywhere. */
void pool_dismiss(struct client *c);
/* It would answer POOL_DOWN. */
static inline bool pool_down(const struct pool *p, int64_t now_us)
{
	return now_us < p->retry_at_us && p->idle_count + p->busy_count == 0;
}
/* The client waits no more. Safe if it does not. */
void pool_leave_queue(struct client *c);
/* The client did not take the server it was woken for: the next in line may. Safe if it did. */
void pool_decline(struct client *c);
/* Gives idle servers to waiting clients, opens connections where that helps. Without a server, and
 * while none may be opened, nobody waits here. */
void pool_kick(struct pool *p);
/* Those who wait here decide anew. */
void pool_send_away(struct pool *p);
/* A connection was had and verified: its node is asked again, if it was not for want of one. */
void pool_connected(struct pool *p);
/* A connect has failed, and its connection is about to be closed, which would have another one opened at once. */
void pool_wait_before_retry(struct pool *p);
/* … is closed: everybody who waits and has no hope of another server is told. A replica that the
 * watcher reaches all the same is left out, for all pools, until a probe comes through. */
void pool_failed(struct pool *p, const char *sqlstate, const char *error, const char *hint);
/* Closes idle connections that are too old, unused or of an older epoch. */
void pool_tend(struct pool *p, int64_t now_us);
int pool_size(const struct pool *p);
/* Its node is a replica that is not asked: connections that come free are closed. */
bool pool_unwanted(const struct pool *p);

/* POOL_DOWN: the server could not be reached, or is not ready yet. Else it gave an answer, such as
 * a wrong password, that will not change by waiting. */
static inline bool pool_unreachable(const struct pool *p)
{
	return memcmp(p->sqlstate, "08", 2) == 0 || memcmp(p->sqlstate, "57P", 3) == 0;
}

#endif
