/* SPDX-License-Identifier: PostgreSQL
 *
 * A turn: from a client's first byte at rest to ReadyForQuery at rest. What came in is cut into
 * units, each of which is judged as a whole: one Query, one FunctionCall, or one extended-protocol batch up to its
 * Sync. A unit is classified, routed, given a server, and forwarded; relay.c brings the answers.
 */
#ifndef TM_PROXY_TURN_H
#define TM_PROXY_TURN_H

#include "chain.h"
#include "proxy.h"

/* Handles bytes of a READY client; returns how many were used up. The rest must be kept and brought
 * again: it is incomplete, or the client now waits (c->state), or its server is still busy. */
size_t turn_from_client(struct client *c, struct slice in);

/* ---- called by relay.c and server.c ---- */
/* ReadyForQuery is about to be forwarded: settle the session's mark. `captured` is the commit position,
 * NULL if none was captured. May add ParameterStatus to `ch`. */
void turn_ready(struct client *c, struct server *s, uint8_t bits, uint8_t tx,
                const struct position *captured, struct chain *ch);
/* Nothing is owed any more: the server may leave. */
void turn_rest(struct server *s);
/* What was in flight may have committed: everybody whose write it is owes a sample. */
void turn_unknown(struct client *c);
/* The server is gone in the middle of a turn. `told`: the client has heard the server's own FATAL. */
void turn_server_lost(struct client *c, bool told);
/* A standby refused this unit: its text goes to the primary from now on. */
void turn_remember_refusal(struct client *c, struct slice unit);
void turn_discarded_all(struct client *c, struct server *s);
void turn_deallocated_all(struct client *c, struct server *s);
/* The session was named where the way is decided already: what the transaction under way does is its doing
 * too. Takes its own count. False: too many of them, or no memory. */
bool turn_join_session(struct client *c, struct session *it);
/* The client goes away: gives back what the turn holds. */
void turn_release(struct client *c);

#endif
