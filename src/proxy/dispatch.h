/* SPDX-License-Identifier: PostgreSQL
 *
 * Where a unit goes: its tags, the statements in it and the transaction around it say what may be
 * asked of consistency/route.h; its answer is a server, a wait, or a refusal. Waits end in
 * client_resume(), and the unit is then judged again, from the beginning.
 *
 *   unit ─▶ tags ─▶ statement, transaction ─▶ route_decide() ─▶ replica ─┬─▶ pool ─▶ settings ─▶ GO
 *            │               │                     │                     │     │
 *            │               ╰─ may write … ───────│─────▶ primary ──────╯     ╰ WAIT: queued
 *            ╰ a mark in the store: WAIT           ╰ WAIT: position, sample
 */
#ifndef TM_PROXY_DISPATCH_H
#define TM_PROXY_DISPATCH_H

#include "unit.h"

enum dispatch {
	DISPATCH_GO,      /* the client has its server */
	DISPATCH_WAIT,    /* c->state says for what */
	DISPATCH_REFUSED, /* and has been answered */
};
/* Finds the server for a unit of a client that has none. */
enum dispatch dispatch_unit(struct client *c, const struct unit *u);
/* A unit of a transaction on a replica runs where the transaction is. */
void dispatch_goes_on(struct client *c, const struct unit *u);
/* … if that replica shows what the session has seen. */
bool dispatch_stays(struct client *c, const struct unit *u);
/* Answers the unit with an error, as the server would: the connection stays. */
void dispatch_refuse(struct client *c, const struct unit *u, const char *sqlstate,
                     const char *message, const char *hint);

/* Waits for a position for what the client's session is owed. False: too many wait already. */
bool dispatch_wait_for_sample(struct client *c, int64_t until_us);
/* The statement goes its way, or nowhere: what was kept for it is not for the next one. */
void dispatch_end_wait(struct client *c);
/* A session tagged where the way is decided already: inside a transaction, or by a bound client.
 * What commits is that session's write too. False: too many of them. */
bool dispatch_join_tagged(struct client *c, const struct unit *u);

/* A guarded read (consistency/route.h): the replica has proved its position, the answer counts. */
void dispatch_guard_held(struct client *c);
/* It had not got there: the read is decided again, and has been waiting since it was sent. */
void dispatch_guard_missed(struct client *c);

#endif
