/* SPDX-License-Identifier: PostgreSQL
 *
 * What a turn meant, told by its answers: whose mark is raised, which SETs count, what the catalog
 * must learn again, and what becomes of the server. relay.c calls it before the client hears
 * ReadyForQuery: no client may know of a commit that its session's mark does not cover yet.
 */
#ifndef TM_PROXY_SETTLE_H
#define TM_PROXY_SETTLE_H

#include "chain.h"
#include "proxy.h"

/* A statement begins: it is the session's own until a tag says otherwise. */
void settle_begin(struct client *c);
/* ReadyForQuery is about to be forwarded: settle the session's mark. `captured` is the commit
 * position, NULL if none was captured. May add ParameterStatus to `ch`. */
void settle_ready(struct client *c, struct server *s, uint8_t bits, uint8_t tx,
                  const struct position *captured, struct chain *ch);
/* Nothing is owed any more: the server may leave. */
void settle_rest(struct server *s);
/* What was in flight may have committed: everybody whose write it is owes a sample. */
void settle_unknown(struct client *c);
/* The server is gone in the middle of a turn. `told`: the client has heard the server's own FATAL.
 */
void settle_server_lost(struct client *c, bool told, bool in_transaction);
/* DEALLOCATE name has run, one of those in client.deallocates. */
void settle_deallocated(struct client *c);
/* A standby refused this unit: its text goes to the primary from now on. */
void settle_refusal(struct client *c, struct slice unit);
void settle_discarded_all(struct client *c, struct server *s);
void settle_deallocated_all(struct client *c, struct server *s);
/* The session was named where the way is decided already: what the transaction under way does is
 * its doing too. Takes its own count. False: too many of them, or no memory. */
bool settle_join_session(struct client *c, struct session *it);
/* The sessions that joined in are done with. */
void settle_end_joined(struct client *c);
/* The client goes away: gives back what the turn holds. */
void settle_release(struct client *c);

#endif
