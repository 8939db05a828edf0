/* SPDX-License-Identifier: PostgreSQL
 *
 * Transactions: where they begin, where they may run, and how they move.
 *
 * A BEGIN that cannot fail is answered here and held back. Its first statement tells where the
 * transaction runs, and takes the BEGIN along in one segment. Client (client.hold):
 *
 *   NONE ──BEGIN──▶ HELD ──a statement──▶ SENT ──ReadyForQuery 'I'──▶ NONE
 *                    │ ╲ ◀─moves───────── ╱
 *                    │  ▶ COMMIT, ROLLBACK: answered here ──▶ NONE
 *                    ▶ FAILED (the statement was refused) ──COMMIT, ROLLBACK──▶ NONE
 *
 * A transaction whose first statement is a plain read may run on a replica:
 *
 *   READ ONLY, READ COMMITTED     each read is routed as one that stands alone. With the first
 *                                 statement that is no plain read the transaction moves to the
 *                                 primary and stays there
 *   READ ONLY, REPEATABLE READ    its snapshot is taken on the replica: it stays there to its end.
 *                                 So does one that holds a cursor or portal (server.pinned)
 *   READ COMMITTED, may write     "split", if split_transactions says so: as the first, and what may
 *                                 show a clock, or would hold it where it is, moves it as well
 *   SERIALIZABLE, and all others  the primary
 *
 * Moving: the replica rolls back and the BEGIN is held again. Nothing but what the reads showed is of
 * such a transaction, and READ COMMITTED promises no more than that each statement sees what was
 * committed before it. A split one has shown no time, so its time is the one that it has from then on.
 * On the primary an empty read follows the BEGIN: SET TRANSACTION comes too late, as it did before.
 */
#ifndef TM_PROXY_TRANSACTION_H
#define TM_PROXY_TRANSACTION_H

#include "unit.h"

/* What ReadyForQuery says of a client: of its server, or of the transaction that is held back. */
uint8_t transaction_status(const struct client *c);
/* ReadyForQuery, of the router's own. */
void transaction_say_ready(struct client *c);

enum transaction_hold { HOLD_NONE, HOLD_HELD, HOLD_SENT, HOLD_FAILED };

/* Would a client without a server, in this state, have this statement answered here: a BEGIN that
 * may be held back, or the end of one that is? Its next state; -1: no. */
int transaction_controls(uint8_t hold, struct traits t);
/* Does so; returns the command tag. */
const char *transaction_control(struct client *c, struct traits t);
/* 25P02, as the server says it. */
void transaction_write_failed(struct buf *out);
/* A statement of a transaction that is held back was refused: so is the rest of it. */
void transaction_refused(struct client *c);

/* Does the unit begin a transaction on the server it goes to? Its options, else 0. */
static inline uint8_t transaction_begins(const struct client *c, const struct unit *u)
{
	return c->hold == HOLD_HELD ? c->begin : u->begin;
}
/* … one that is not READ ONLY? */
bool transaction_may_write(const struct client *c, const struct unit *u);
/* REASON_COUNT: it may begin on a replica, if the mark allows. Else why not. */
enum route_reason transaction_objection(const struct client *c, const struct unit *u,
                                        uint8_t begin);

/* In a transaction on a replica. */
enum transaction_next {
	TRANSACTION_STAYS,
	TRANSACTION_ASKS,  /* a read: stays if this replica shows what the session has seen */
	TRANSACTION_MOVES, /* leave, and route it anew */
	TRANSACTION_FAILS, /* cannot run here, nor elsewhere */
	TRANSACTION_CHAINS, /* it has failed; its end AND CHAIN needs no server: transaction_chain() */
};
enum transaction_next transaction_next(const struct client *c, const struct unit *u);
/* Is the client in a transaction on a replica that has not shown more than reads? */
static inline bool transaction_may_move(const struct client *c)
{
	const struct server *s = c->server;
	return s && s->on_replica && s->replies.tx == TX_OPEN && !s->pinned;
}
/* The client gives back its replica, which rolls back; the BEGIN is held again. */
void transaction_leave(struct client *c);
/* … of another transaction. Returns the command tag. */
const char *transaction_chain(struct client *c);
/* Its replica is gone while nothing was asked of it: the client need not know. False: it must. */
bool transaction_lost(struct client *c);
/* The unit goes to the server: is the transaction to stay where it is? */
void transaction_sent(struct client *c, struct server *s, const struct unit *u);
/* ReadyForQuery, for the client. */
void transaction_ready(struct client *c, const struct server *s, uint8_t tx);
/* The server will not answer what was sent: the BEGIN that went with it is held again. */
void transaction_unsent(struct client *c);

#endif
