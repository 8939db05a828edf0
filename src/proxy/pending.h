/* SPDX-License-Identifier: PostgreSQL
 *
 * The SETs of an open transaction, in client.pending_sets, in the order that they were done: they
 * count once it has committed. What is undone with a savepoint is forgotten with it: behind the
 * first SET, savepoints stand among them.
 *
 *   SET a   SAVEPOINT s   SET b   SET c          ROLLBACK TO s ─▶  SET a   SAVEPOINT s
 *                                                RELEASE s     ─▶  SET a   SET b   SET c
 *                                                ROLLBACK      ─▶  nothing
 *                                                COMMIT        ─▶  all four, committed
 *   of a savepoint older than the first SET:     ROLLBACK TO   ─▶  nothing
 *                                                RELEASE       ─▶  SET a   SET b   SET c
 *
 * What a text or an Execute asks for goes with its entry of the reply tracker (TAG_ASKED), and is
 * done statement by statement as the server answers: what stands behind an error is not.
 */
#ifndef TM_PROXY_PENDING_H
#define TM_PROXY_PENDING_H

#include "unit.h"

enum pending_asked { PENDING_ASKED, PENDING_TOO_MANY, PENDING_NO_MEMORY };
/* The SETs and savepoints among the statements of `text`, to be freed; NULL: none. TOO_MANY: the
 * client could not have as many more. */
enum pending_asked pending_ask(const struct client *c, struct slice text,
                               struct pending_set **asked);
void pending_free(struct pending_set *list);
/* They are more than can be replayed elsewhere: they stay where they are, and so does the client.
 */
void pending_give_up(struct client *c, struct slice text);
/* Can the client have all that the unit may set? */
bool pending_fits(const struct client *c, const struct unit *u);

/* How many more are asked for by what is outstanding: a batch may have begun behind the one that
 * was answered. */
uint8_t pending_asked_by(struct replies *r);
/* The next statement of an entry with TAG_ASKED is done. False: nothing was asked of it. */
bool pending_done(struct client *c, struct reply *e);
/* The transaction has ended, with more behind it perhaps. */
void pending_ended(struct client *c, bool committed);
void pending_forget(struct client *c);

#endif
