/* SPDX-License-Identifier: PostgreSQL
 *
 * The life of one server connection (states in proxy.h): connect, log in, verify that it is the
 * server the watcher knows, serve turns, be put to rest. relay.c does what happens during a turn.
 */
#ifndef TM_PROXY_SERVER_H
#define TM_PROXY_SERVER_H

#include "chain.h"
#include "proxy.h"

/* Opens one more connection of the pool; its fate is told to the pool. */
void server_connect(struct pool *p);
/* Ends it. `why` is logged if not NULL. Its client, if any, is told and closed, or its read is run
 * again elsewhere. Freed after the loop's turn. */
void server_close(struct server *s, const char *why);
void server_free(struct server *s);

/* Once in a while: gives up a login that takes longer than server_connect_timeout, and a read on a
 * node that hangs, which can be run again elsewhere. */
void server_tend(struct server *s, int64_t now_us);
/* The client has it now. */
void server_attach(struct server *s, struct client *c);
/* The turn is over and nothing is owed: back to the pool (or closed). */
void server_release(struct server *s);
/* The client is gone or must not wait: whatever is owed is read and thrown away. */
void server_abandon(struct server *s);
/* Nobody wants its transaction any more: behind what is owed, it rolls back. False: cannot. */
bool server_roll_back(struct server *s);
/* Session state that cannot be replayed must go before anybody else gets it: DISCARD ALL. */
void server_reset(struct server *s);
/* Its node is up in the epoch it was verified in; the primary may be trusted while its watcher is
 * away, as PostgreSQL itself refuses writes after a demotion. */
bool server_trusted(const struct server *s);
bool server_is_primary(const struct server *s);
/* Its client has the beginning of a message and not the end: whatever came now would be taken for
 * it. */
bool server_amid_message(const struct server *s);
/* Goes on answering without any more of its client's bytes: it has been asked for all it owes, or
 * for a ReadyForQuery. */
bool server_owes(struct server *s);

/* Walks "name\0value\0…"; false at the end. */
bool server_next_param(struct slice *params, struct slice *name, struct slice *value);
/* A ParameterStatus came. */
void server_set_param(struct server *s, struct slice name, struct slice value);
/* FAULT_GUARD_AFTER: looks again at an answer that was held. */
void server_redrive(struct server *s);
/* Sends one simple Query of the router's own, in that state. */
bool server_ask(struct server *s, enum server_state state, struct slice sql);
/* Sends what `out` holds. */
bool server_send(struct server *s, const struct buf *out);

#endif
