/* SPDX-License-Identifier: PostgreSQL */
#include "transaction.h"

#include "chain.h"
#include "client.h"
#include "pending.h"
#include "server.h"
#include "sql/begin.h"
#include "worker.h"

uint8_t transaction_status(const struct client *c)
{
	if (c->server && c->server->replies.tx)
		return c->hold == HOLD_HELD ? TX_OPEN : c->server->replies.tx;
	if (c->hold == HOLD_FAILED)
		return TX_FAILED;
	return c->hold == HOLD_HELD ? TX_OPEN : TX_IDLE;
}

void transaction_say_ready(struct client *c)
{
	const uint8_t ready[] = {BE_READY, 0, 0, 0, 5, transaction_status(c)};
	client_say(c, ready, sizeof(ready));
}

/* ------------------------------------------------------------- held back */

int transaction_controls(uint8_t hold, struct traits t)
{
	if (t.begin && hold == HOLD_NONE)
		return HOLD_HELD;
	if (t.flags & TRAIT_TX_PLAIN_END && (hold == HOLD_HELD || hold == HOLD_FAILED))
		return HOLD_NONE;
	return -1;
}

const char *transaction_control(struct client *c, struct traits t)
{
	bool failed = c->hold == HOLD_FAILED;
	c->hold = (uint8_t)transaction_controls(c->hold, t);
	c->begun_before = false;
	if (t.begin) {
		c->begin = t.begin;
		return t.flags & TRAIT_TX_START ? "START TRANSACTION" : "BEGIN";
	}
	return t.flags & TRAIT_MAY_WRITE && !failed ? "COMMIT" : "ROLLBACK";
}

void transaction_write_failed(struct buf *out)
{
	write_error(out, "ERROR", "25P02",
	            "current transaction is aborted, commands ignored until end of transaction block",
	            NULL);
}

void transaction_refused(struct client *c)
{
	if (c->hold == HOLD_HELD)
		c->hold = HOLD_FAILED;
}

/* --------------------------------------------------------- where it may run */

bool transaction_may_write(const struct client *c, const struct unit *u)
{
	uint8_t begin = transaction_begins(c, u);
	return begin && !(begin & BEGIN_READ_ONLY);
}

static bool is_serializable(uint8_t begin)
{
	return (begin & BEGIN_ISOLATION) == BEGIN_SERIALIZABLE;
}

/* What the session's default is, where the BEGIN names none, is the server's to know: the client
 * may have set it. */
static bool default_was_set(const struct client *c)
{
	return vars_find(c->vars, "default_transaction_isolation") ||
	       vars_find(c->vars, "default_transaction_deferrable");
}

static void take_isolation(void *arg, const struct set_stmt *s)
{
	bool *read_committed = arg;
	*read_committed = s->value_ok && (strcasecmp(s->value, "read committed") == 0 ||
	                                  strcasecmp(s->value, "read uncommitted") == 0);
}

/* READ COMMITTED where the BEGIN names no level? Not known is no. */
static bool reads_committed_by_default(const struct client *c)
{
	const struct account *a = c->account;
	const char *set = vars_find(c->vars, "default_transaction_isolation");
	int primary = worker_primary(c->worker);
	bool read_committed = false;
	if (set)
		return classify_settings(slice_str(set), take_isolation, &read_committed) && read_committed;
	/* A BEGIN that is not held back goes to a replica as it is. */
	return primary != NODE_NONE && a->pools[primary].isolation == ISOLATION_READ_COMMITTED &&
	       a->odd_isolation_count == 0;
}

static bool may_split(const struct client *c, uint8_t begin)
{
	uint8_t level = begin & BEGIN_ISOLATION;
	if (!client_splits(c) || begin & BEGIN_READ_WRITE)
		return false;
	return level ? level <= BEGIN_READ_COMMITTED : reads_committed_by_default(c);
}

/* May a transaction that is READ ONLY begin on a replica? */
static bool may_read_there(const struct client *c, uint8_t begin)
{
	bool by_default = (begin & BEGIN_ISOLATION) == 0 && default_was_set(c);
	return begin & BEGIN_READ_ONLY && !is_serializable(begin) && !by_default;
}

/* What a split transaction must not do before it is on the primary, though it only reads. */
static bool ends_split(const struct unit *u)
{
	return u->shows_time || u->keeps;
}

enum route_reason transaction_objection(const struct client *c, const struct unit *u, uint8_t begin)
{
	bool reads = may_read_there(c, begin);
	if ((!reads && !may_split(c, begin)) || c->worker->observing || unit_names_session(c, u))
		return REASON_TRANSACTION;
	if (!u->plain)
		return (enum route_reason)u->reason;
	return u->reads && !u->open && (reads || !ends_split(u)) ? REASON_COUNT : REASON_TRANSACTION;
}

/* ------------------------------------------------------------- on a replica */

/* Each statement has a snapshot of its own. */
static bool is_read_committed(const struct server *s, uint8_t begin)
{
	switch (begin & BEGIN_ISOLATION) {
	case BEGIN_READ_UNCOMMITTED:
	case BEGIN_READ_COMMITTED:
		return true;
	case 0:
		return s->isolation == ISOLATION_READ_COMMITTED;
	default:
		return false;
	}
}

enum transaction_next transaction_next(const struct client *c, const struct unit *u)
{
	const struct server *s = c->server;
	if (!s->on_replica || s->replies.tx == TX_IDLE || s->replies.count > 0)
		return TRANSACTION_STAYS;
	uint32_t flags = u->traits.flags;
	/* What AND CHAIN begins is another transaction, and what follows an end in the same text or
	 * batch is none of it: the mark counts anew. */
	bool chains = flags & TRAIT_TX_BEGIN && flags & TRAIT_TX_END;
	bool beyond = flags & TRAIT_TX_END && (u->beyond || u->open);
	/* Of a transaction that failed nothing is left to be seen: it may end anywhere. */
	if (s->replies.tx == TX_FAILED && chains && u->type == FE_QUERY && !(flags & TRAIT_MULTI))
		return TRANSACTION_CHAINS;
	if (s->replies.tx == TX_FAILED)
		return chains || beyond ? TRANSACTION_MOVES : TRANSACTION_STAYS;
	if (s->pinned && chains && !c->pending_sets)
		return TRANSACTION_MOVES;
	if (s->pinned)
		return flags & TRAIT_BINDS || chains || beyond || !pending_fits(c, u)
		           ? TRANSACTION_FAILS
		           : TRANSACTION_STAYS;
	if (!u->plain || u->open || unit_names_session(c, u))
		return TRANSACTION_MOVES;
	if (!(c->begin & BEGIN_READ_ONLY) && ends_split(u))
		return TRANSACTION_MOVES;
	return u->reads ? TRANSACTION_ASKS : TRANSACTION_STAYS;
}

void transaction_leave(struct client *c)
{
	struct server *s = c->server;
	pending_forget(c);
	c->server = NULL;
	c->hold = HOLD_HELD;
	s->client = NULL;
	s->state = SERVER_DRAIN;
	if (!server_roll_back(s))
		server_close(s, "the server closed the connection");
}

const char *transaction_chain(struct client *c)
{
	transaction_leave(c);
	/* What it was begun with has ended where it failed: AbortTransaction() in PostgreSQL's xact.c. */
	c->begin = BEGIN_PLAIN;
	c->begun_before = false;
	c->turn_error = false;
	return "ROLLBACK";
}

bool transaction_lost(struct client *c)
{
	if (!transaction_may_move(c) || c->server->replies.count > 0)
		return false;
	c->server->client = NULL;
	c->server = NULL;
	c->hold = HOLD_HELD;
	return true;
}

void transaction_sent(struct client *c, struct server *s, const struct unit *u)
{
	uint8_t begin = transaction_begins(c, u);
	if (begin && s->replies.tx == TX_IDLE) {
		/* That it is this level by default is known now, and may not be where it moves to. */
		if (s->on_replica && !(begin & (BEGIN_READ_ONLY | BEGIN_ISOLATION)))
			begin |= BEGIN_READ_COMMITTED;
		c->begin = begin;
		s->pinned = !is_read_committed(s, begin);
	}
	s->pinned |= u->keeps;
}

void transaction_ready(struct client *c, const struct server *s, uint8_t tx)
{
	if (tx == TX_IDLE) {
		c->hold = HOLD_NONE;
		c->begun_before = false;
	} else if (s->on_replica) {
		c->hold = HOLD_SENT;
		c->begun_before = true;
		/* The next one may go to any replica. */
		c->rerun = RERUN_NONE;
		c->tried = 0;
	}
}

void transaction_unsent(struct client *c)
{
	if (c->hold == HOLD_SENT)
		c->hold = HOLD_HELD;
}
