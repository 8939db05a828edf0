/* SPDX-License-Identifier: PostgreSQL
 *
 * The admin console: what a client of the database "tidemark" may say. Who may connect is the
 * proxy's business (admin_users, stats_users); what does more than look is for admins.
 * docs/observability.md describes every column.
 */
#ifndef TM_ADMIN_CONSOLE_H
#define TM_ADMIN_CONSOLE_H

#include "proxy/worker.h"

/* A console_fn. Appends one command's answer to `out`, without ReadyForQuery. A result that is too
 * large for `out` is an error and no result. */
void console_run(void *arg, struct client *by, struct slice sql, struct buf *out);

#endif
