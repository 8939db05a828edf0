/* SPDX-License-Identifier: PostgreSQL
 *
 * A server connection until it can serve: it logs in (pgwire/login.h), and is asked whether it is
 * the server that the watcher knows.
 *
 *   CONNECTING ──begin──▶ LOGIN ──message──▶ VERIFY ──row, done──▶ the pool has one more
 *        ╲_________________╲__________________╲──failed──▶ closed: the pool decides who is told
 */
#ifndef TM_PROXY_SERVER_LOGIN_H
#define TM_PROXY_SERVER_LOGIN_H

#include "proxy.h"

void server_login_begin(struct server *s);
/* False: it has failed. */
bool server_login_message(struct server *s, const struct frame *f);
void server_login_row(struct server *s, struct slice body);
/* False: it has failed. */
bool server_login_done(struct server *s);
void server_login_failed(struct server *s, const char *sqlstate, const char *error);

#endif
