/* SPDX-License-Identifier: PostgreSQL
 *
 * Session state that no parser saw being made: by functions, procedures, triggers and DO blocks. After
 * statements that may have run such code, and before their connection leaves the client, the server is
 * asked what its session holds that it did not before. Once it is at rest, behind the answers: no
 * statement waits for it but the client's own next one.
 *
 *   rest ──▶ ASKS ──nothing──────────────────────▶ back to the pool
 *             │ ╲──state─────────────────────────▶ the client is bound, for what was found
 *             │  ╲─an error──────────────────────▶ the client is bound (unseen), until it is asked again
 *             ▼ settings, and it is not known what they should be                      at the next rest
 *          COMPARES ──▶ as above; on an error ──▶ ROLLS_BACK ──▶ bound (unseen)
 *
 * A client that has left meanwhile leaves the connection for DISCARD ALL, unless nothing is found. On a
 * replica nobody can be bound: there it is DISCARD ALL at once.
 *
 * What no question of PostgreSQL tells is not found: libraries that a function has loaded, and setseed().
 */
#ifndef TM_PROXY_UNSEEN_H
#define TM_PROXY_UNSEEN_H

#include "proxy.h"

/* An answer that takes longer makes the client bound (unseen) until it is here. */
#define UNSEEN_LATE_US 1000000

/* By what name a question is prepared on servers. */
const char *unseen_name(enum unseen question);
/* The questions' bytes, once a worker. False: no memory. */
bool unseen_prepare_question(struct worker *w);
/* Statements of this client go to the server: what may they leave behind? `text` is of the first of them. */
void unseen_note(struct server *s, uint64_t user, struct traits t, struct slice text);
/* The server is at rest, and s->unseen. It has a new state afterwards, or is closed. */
void unseen_ask(struct server *s);
/* Who the session is, by user and role: an expression, and a row that has its value. False: it has not. */
#define UNSEEN_WHO \
	"pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat(session_user, ' '," \
	" pg_catalog.current_setting('role')), pg_catalog.getdatabaseencoding())), 'hex')"
bool unseen_take_who(struct server *s, struct slice body, int column);
/* Messages of SERVER_UNSEEN. */
void unseen_row(struct server *s, struct slice body);
void unseen_answered(struct server *s);
/* Now and then, while it is asked. */
void unseen_tend(struct server *s, int64_t now_us);
/* Its client has left while it was asked. */
void unseen_left_alone(struct server *s);

#endif
