/* SPDX-License-Identifier: PostgreSQL
 *
 * The life of one client connection (states in proxy.h): startup, authentication, turns, the end.
 */
#ifndef TM_PROXY_CLIENT_H
#define TM_PROXY_CLIENT_H

#include "chain.h"
#include "proxy.h"

/* A new connection; `stream` is its from now on. */
void client_accept(void *worker, struct net_stream *stream);
/* Goes on after a wait, with the bytes it holds. */
void client_resume(struct client *c);
/* A turn ended and a server was given back, or room was made: look at what came in meanwhile. */
void client_kick(struct client *c);
/* Ends it without a word. Freed after the loop's turn. */
void client_close(struct client *c);
/* Ends it with FATAL. `hint` may be NULL. */
void client_fatal(struct client *c, const char *sqlstate, const char *message, const char *hint);
/* Nothing more comes from it that counts. What it has asked for is answered first, as PostgreSQL
 * does, which reads its messages one by one; then it hears `last_words`, a static string (FATAL,
 * 08P01; NULL: none), and is closed. That may be at once, if called from its own turn; an open
 * transaction is rolled back then, and there is a limit to how long it may take. */
void client_end(struct client *c, const char *last_words);
/* Once every tick, of one that has ended. */
void client_tend_end(struct client *c, int64_t now_us);
/* Appends to what the client will hear; it is sent at the latest when the event is over. */
void client_say(struct client *c, const void *ptr, size_t len);
void client_free(struct client *c);
/* The effective policy: configuration, then what the connection said. */
/* Whom it logged in as; not always who it is on the servers. It has an account. */
static inline const char *client_user(const struct client *c)
{
	return c->user ? c->user : c->account->user;
}
struct route_policy client_policy(const struct client *c);
/* May transactions of this client that are not READ ONLY begin on a replica? */
bool client_splits(const struct client *c);
/* The session's mark; while a statement waits, as it was when that came. */
struct session_mark *client_mark(struct client *c);
/* Its session's mark is told outside this router after each statement: it must be exact. */
bool client_is_told(const struct client *c);
/* The mark of a connection that names no session becomes its mark. False: no memory. */
bool client_scope_mark(struct client *c);
/* Names the session (empty: back to the scope's). False: no such can be had; reads go to the
 * primary then. */
bool client_set_session(struct client *c, struct slice name);
/* The configured scope is another now: what the connection has seen is owed to its new mark. */
void client_scope_changed(struct client *c);
/* A simple query destroys the unnamed prepared statement. */
void client_drop_unnamed(struct client *c);
struct client_options *client_options(struct client *c);
/* RESET ALL, DISCARD ALL: the router's own settings go back to those of the startup packet. */
void client_reset_options(struct client *c);
/* Where the client's settings went: interned sets change hands. Takes the count. */
void client_set_vars(struct client *c, struct vars *vars);
/* It keeps its connection to the primary from now on, because of this statement. Nothing changes if it is bound
 * already. */
void client_bind(struct client *c, enum bind_reason reason, struct slice text);
/* The same with what sql_brief() made of the statement; NULL: not known. */
void client_bind_by(struct client *c, enum bind_reason reason, const char *brief);
void client_unbind(struct client *c);

#endif
