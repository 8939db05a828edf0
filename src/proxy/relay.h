/* SPDX-License-Identifier: PostgreSQL
 *
 * One turn's answers, from server to client: messages are followed by their headers and forwarded
 * from the read buffer; what the router asked for itself is taken out; at ReadyForQuery the
 * session's mark is raised before the client hears of it.
 */
#ifndef TM_PROXY_RELAY_H
#define TM_PROXY_RELAY_H

#include "chain.h"
#include "proxy.h"

/* Handles bytes from the server of an ACTIVE or DRAIN connection; returns how many were used up.
 * What is for the client goes to `ch` (NULL when draining). *broken: the server is out of step. */
size_t relay_from_server(struct server *s, struct slice in, struct chain *ch, bool *broken);
/* The router's own answers that wait for none of the server's: after a Flush nothing else may come.
 */
void relay_local_answers(struct server *s);
/* A replica's failure before the client heard anything: the client will run the same bytes on the
 * primary, if no standby can do it, else on another replica and, if that fails too, the primary.
 * False: not possible. */
bool relay_rerun(struct server *s, enum rerun_cause cause);
/* Pops every entry of the reply tracker and undoes what it stood for: nothing will be answered. */
void relay_void_all(struct server *s, struct client *c);

#endif
