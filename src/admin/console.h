/* SPDX-License-Identifier: PostgreSQL
 *
 * The admin console: what a client of the database "tidemark" may say. It only looks, but for
 * RELOAD and SHUTDOWN; who may connect is the proxy's business (admin_users). docs/observability.md
 * describes every column.
 */
#ifndef TM_ADMIN_CONSOLE_H
#define TM_ADMIN_CONSOLE_H

#include "proxy/worker.h"

/* A console_fn. Appends one command's answer to `out`, without ReadyForQuery. A result that is too
 * large for `out` is an error and no result. */
void console_run(void *arg, struct worker *w, struct slice sql, struct buf *out);

#endif
