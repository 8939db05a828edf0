/* SPDX-License-Identifier: PostgreSQL
 *
 * Statements the router answers itself: SET, SHOW and RESET of tidemark.*, and DEALLOCATE of a name
 * that only the router knows.
 *
 *   tidemark.session       name of the session; "" goes back to the configured scope
 *   tidemark.consistency   strong | session | bounded | eventual
 *   tidemark.max_lag       bounded: how old a replica may be (bare numbers are ms, as in
 * PostgreSQL) tidemark.wait_timeout  how long a read may wait for a replica tidemark.read_after a
 * token: raises the session's mark tidemark.report        on: ParameterStatus tidemark.token when
 * the mark has moved tidemark.token         SHOW only: the session's mark tidemark.route SHOW only:
 * where the last statement went, and why
 */
#ifndef TM_PROXY_LOCAL_H
#define TM_PROXY_LOCAL_H

#include "proxy.h"

/* What one SET would do; also for startup options and tags. False: `error`, `sqlstate` say why. */
struct local_error {
	char sqlstate[6];
	char message[200];
};
bool local_set(struct client *c, const char *name, const char *value, struct local_error *e);

/* Is this text answered here? */
bool local_is(struct client *c, struct traits t, struct slice text);
/* SET tidemark.* among other statements: takes effect before the text is routed. */
bool local_apply_inside(struct client *c, struct slice text, struct local_error *e);
/* Appends RowDescription or NoData. */
void local_describe(struct slice text, struct buf *out);

/* SHOW tidemark.token, or read_after. */
bool local_tells_token(struct slice text);
/* … and the mark is not known until a sample lands: worth a short wait first. */
bool local_needs_sample(struct client *c);
/* Appends rows and CommandComplete, or ErrorResponse (then false). `simple`: RowDescription is due
 * too. */
bool local_execute(struct client *c, struct slice text, bool simple, struct buf *out);

#endif
