/* SPDX-License-Identifier: PostgreSQL
 *
 * The SETs of an open transaction, in client.pending_sets: they count once it has committed. What is
 * undone with a savepoint is forgotten with it: once there is a SET, savepoints stand among them.
 *
 *   SET a   SAVEPOINT s   SET b   SET c          ROLLBACK TO s ─▶  SET a   SAVEPOINT s
 *                                                RELEASE s     ─▶  SET a   SET b   SET c
 *   of a savepoint older than the first SET:     ROLLBACK TO   ─▶  nothing
 *                                                RELEASE       ─▶  SET a   SET b   SET c
 */
#ifndef TM_PROXY_PENDING_H
#define TM_PROXY_PENDING_H

#include "unit.h"

enum pending_noted { PENDING_NOTED, PENDING_TOO_MANY, PENDING_NO_MEMORY };
/* `text` is sent, and sets something. */
enum pending_noted pending_note(struct client *c, struct slice text);
/* Can it be told which SETs will count that came before `u`, or are in it? `amid`: in the middle of a batch. */
bool pending_follows(const struct client *c, const struct unit *u, bool amid);
/* It is sent. False: it cannot. */
bool pending_foresee(struct client *c, const struct unit *u, bool amid);
/* It was answered, and a transaction goes on. True: another one than before (AND CHAIN). */
bool pending_answered(struct client *c, uint8_t tx);
void pending_forget(struct client *c);

#endif
