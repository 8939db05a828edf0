/* SPDX-License-Identifier: PostgreSQL
 *
 * Extended-protocol batches that need no server: SET and SHOW of tidemark.*, a BEGIN that is held
 * back, and the end of one that is. A batch with anything else in it goes to a server as a whole,
 * where the reply tracker puts the router's own answers in their places.
 */
#ifndef TM_PROXY_LOCAL_BATCH_H
#define TM_PROXY_LOCAL_BATCH_H

#include "unit.h"

/* Has no effect. The client has no server. */
bool local_batch_is(struct client *c, struct slice in, const struct unit *u);
/* Runs it; appends all answers but ReadyForQuery. */
void local_batch_run(struct client *c, struct slice in, const struct unit *u, struct buf *out);

#endif
