/* SPDX-License-Identifier: PostgreSQL
 *
 * The admin HTTP port: / (status page), /metrics (Prometheus), /healthz. libmicrohttpd does the
 * protocol on the worker's own loop and thread, so a request reads the worker's state as it stands.
 * Whoever reaches the port may read it all: bind it to an address that only monitoring reaches.
 */
#ifndef TM_ADMIN_HTTP_H
#define TM_ADMIN_HTTP_H

#include "proxy/worker.h"

struct admin_http;

/* Listens where the worker's settings say, which must name a port. NULL with a sentence in `error`.
 */
struct admin_http *admin_http_new(struct worker *w, char *error, size_t cap);
/* Before worker_free(); the loop must not run any more after it. NULL is fine. */
void admin_http_free(struct admin_http *h);

#endif
