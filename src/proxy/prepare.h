/* SPDX-License-Identifier: PostgreSQL
 *
 * Makes a server know the statements that a unit needs there, and closes those that are in the way.
 * prepared.h has the tables.
 */
#ifndef TM_PROXY_PREPARE_H
#define TM_PROXY_PREPARE_H

#include "forwarding.h"

/* So that `count` more of `bytes` fit. Closing a statement closes its portals too, so nothing is closed
 * while a transaction may hold some. */
bool prepare_room(struct forward *f, int count, size_t bytes);
/* DDL went by since this server prepared its statements: "cached plan must not change result type"
 * would be the answer to some of them. Prepared again, they have the new one. */
bool prepare_forget_outdated(struct forward *f);
/* The client is about to look at the statements that this connection has prepared: it finds none of the
 * router's, nor, if it has named none itself, any of other clients'. Also inside a transaction: of these no portal
 * can be open. */
bool prepare_hide(struct forward *f);
/* With what meaning would the server prepare a text now? Settings of the transaction that has not
 * ended, and those made unseen, have no number. */
uint32_t prepare_meaning(const struct forward *f);
/* Makes the server know this statement, silently; stmt_server_name() is its name there. What could
 * not be found again is run as the unnamed one. */
bool prepare_ensure(struct forward *f, struct stmt *stmt, uint32_t meaning);
/* Sends Parse for `stmt` under the given name; the entry is the caller's. */
void prepare_send(struct forward *f, const struct stmt *stmt, struct slice name);
/* The same as the unnamed one, unless it is that already. */
bool prepare_unnamed(struct forward *f, struct stmt *stmt);
/* What the server's unnamed statement is from now on; NULL: not known. */
void prepare_note_unnamed(struct forward *f, struct stmt *stmt);
/* An entry of the reply tracker that holds on to `stmt`. */
bool prepare_push(struct forward *f, uint8_t kind, uint8_t to, uint8_t tag, struct stmt *stmt,
                  uint32_t meaning);

#endif
