/* SPDX-License-Identifier: PostgreSQL
 *
 * A unit's messages to the server: statement names become ours, statements the server lacks are
 * prepared first, an entry of the reply tracker is pushed for every message that is answered, and
 * the question for the commit position is pipelined behind a write.
 */
#ifndef TM_PROXY_FORWARD_H
#define TM_PROXY_FORWARD_H

#include "chain.h"
#include "unit.h"

/* False: the client broke the protocol, or something is full; *why says what. */
bool forward_unit(struct client *c, struct server *s, struct slice in, struct unit *u,
                  struct chain *to_server, const char **why);
/* COPY data and such, and messages in pieces: no judgement needed. Returns the bytes used up. */
size_t forward_copy(struct client *c, struct server *s, const struct frame *f, struct slice in,
                    struct chain *to_server);

/* A batch without its Sync is not answered unless asked for: for those who have to wait for the
 * answers. */
void forward_flush(struct server *s, struct chain *to_server);

#endif
