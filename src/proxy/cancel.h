/* SPDX-License-Identifier: PostgreSQL
 *
 * Cancel requests. A client gets a key of the router's own; a request with it is forwarded, with
 * the server's key, to the server that runs the client's statement right now. That server is not
 * given to anybody else until the request has landed, so that it cannot hit somebody else's
 * statement.
 */
#ifndef TM_PROXY_CANCEL_H
#define TM_PROXY_CANCEL_H

#include "proxy.h"

/* Gives the client an id and a key, as long as its protocol version has it. False: no slot. */
bool cancel_register(struct worker *w, struct client *c, uint32_t version);
void cancel_unregister(struct worker *w, struct client *c);
/* A request came in. Wrong keys are counted and ignored, as PostgreSQL does. */
void cancel_request(struct worker *w, uint32_t pid, struct slice key);
/* Sends PostgreSQL's CancelRequest for what `s` runs. */
void cancel_send(struct server *s);
/* The server is being freed: requests under way forget it. */
void cancel_forget(struct worker *w, const struct server *s);
void cancel_free_all(struct worker *w);

#endif
