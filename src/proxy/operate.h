/* SPDX-License-Identifier: PostgreSQL
 *
 * What an operator does to databases while they are served, with PgBouncer's meanings:
 *
 *   PAUSE      statements outside transactions are held; server connections are closed as they come
 *              free. Done when there is none. Bound clients keep theirs, and so keep it from being done.
 *   RESUME     who was held goes on, in order.
 *   RECONNECT  every connection that is there now is closed when it comes free.
 *   KILL       PAUSE, and clients and connections end at once.
 *   DISABLE    no new clients.
 *
 * Held clients are judged and routed when they go on, not before; they wait at most
 * query_wait_timeout. `db` NULL is all databases, for PAUSE also those to come.
 */
#ifndef TM_PROXY_OPERATE_H
#define TM_PROXY_OPERATE_H

#include "proxy.h"

bool database_paused(const struct database *db);
/* No: nothing happens. Yes: the client is held until it may go on. */
bool operate_hold(struct client *c);
/* The client is held no more. Safe if it was not. */
void operate_let_go(struct client *c);

/* False: it is paused already. */
bool operate_pause(struct worker *w, struct database *db);
/* False: it is not paused. */
bool operate_resume(struct worker *w, struct database *db);
void operate_reconnect(struct worker *w, struct database *db);
void operate_kill(struct worker *w, struct database *db);
/* By the number that SHOW CLIENTS calls id or, with `serial`, ptr. False: there is none, or it is
 * `by` itself. */
bool operate_kill_client(struct client *by, uint64_t number, bool serial);

/* The console of `by` gets its answer when that is done (CONSOLE_WAITS_…); now, if it is. */
void operate_answer_later(struct client *by, enum console_wait what, struct database *db);
/* Answers consoles whose wait is over. Nearly free while nobody waits. */
void operate_tend(struct worker *w);

#endif
