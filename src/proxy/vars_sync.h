/* SPDX-License-Identifier: PostgreSQL
 *
 * The settings of a client (client.vars) and those of the server connection that it has
 * (server.vars): replayed before its statements run there, and taken over from its own SETs once
 * those have committed.
 */
#ifndef TM_PROXY_VARS_SYNC_H
#define TM_PROXY_VARS_SYNC_H

#include "proxy.h"

/* The server carries this client's settings and nothing of others that it could see. `sequences`:
 * it may come to ask for currval() or lastval() there. */
bool vars_sync_suits(const struct server *s, const struct client *c, bool sequences);
/* Makes it so: replays settings, takes away what others left. The client goes on when that is done.
 * False: cannot. */
bool vars_sync(struct server *s, struct client *c, bool sequences);
/* The last part of that alone, for a client that has the server already. */
bool vars_sync_discard_sequences(struct server *s);
/* The same for a client that has kept its server: after RESET the server's own idea of the start is
 * in force, and has to give way to that of the client's startup packet; inside a transaction too.
 */
enum vars_restored { RESTORE_NOTHING, RESTORE_ASKED, RESTORE_FAILED };
enum vars_restored vars_sync_restore(struct server *s, struct client *c);
/* SERVER_SYNC is answered: the client goes on, or is told why it cannot. */
void vars_sync_done(struct server *s);
/* ReadyForQuery: SETs of transactions that are over count, or never happened (pending.h). */
void vars_sync_adopt(struct client *c, struct server *s, uint8_t tx);

#endif
