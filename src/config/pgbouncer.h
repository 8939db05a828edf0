/* SPDX-License-Identifier: PostgreSQL
 *
 * From a pgbouncer.ini to a tidemark.ini: the text of the one is made of the other, so that there
 * is one reader of settings and one set of checks. What means something else here, or nothing, is
 * said with its line; what would be less safe, or go to another server, is refused.
 *
 *   pgbouncer.ini ──▶ lines, %include ──▶ each key by the tables below ──▶ text of a tidemark.ini
 *                                                    ╲
 *                                                     ▶ errors (refused), notes (not needed; do
 * this instead)
 */
#ifndef TM_CONFIG_PGBOUNCER_H
#define TM_CONFIG_PGBOUNCER_H

#include <stdbool.h>

#include "base/buf.h"
#include "errors.h"

/* The result's limit. */
#define PGBOUNCER_TEXT_MAX (1024 * 1024)

/* Appends the text to `out`, which holds secrets. `primary_given`: the servers come from elsewhere,
 * so no host is needed. False, with errors->count > 0, if there is something that cannot be
 * honoured; the text then has the rest. Not from two threads at once. */
[[gnu::warn_unused_result]] bool pgbouncer_translate(const char *path, bool primary_given,
                                                     struct buf *out, struct config_errors *errors,
                                                     struct config_errors *notes);

/* What becomes of a key of [pgbouncer]: an option of ours of the same meaning, or an advice. */
bool pgbouncer_knows(const char *key);
/* What to say to somebody who has brought such a key into a tidemark.ini, or NULL. */
const char *pgbouncer_advice(const char *key);

/* docs/migrating-from-pgbouncer.md */
void pgbouncer_print_markdown(FILE *out);

#endif
