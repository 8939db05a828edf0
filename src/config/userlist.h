/* SPDX-License-Identifier: PostgreSQL
 *
 * The userlist file, in PgBouncer's format: lines of "name" "secret", a quote inside doubled; what
 * follows the secret is ignored; empty lines and lines that begin with ; or # as well.
 */
#ifndef TM_CONFIG_USERLIST_H
#define TM_CONFIG_USERLIST_H

#include "proxy/settings.h"

/* A fault of one line (0: of the file), already with what would be right. */
typedef void (*userlist_fault_fn)(void *arg, int line, const char *what);

/* Parses `text`. The caller frees *users, sorted by name. Goes on behind a fault, so that all are
 * told; false if there was one. */
[[gnu::warn_unused_result]] bool userlist_parse(struct slice text, struct user_entry **users,
                                                int *count, userlist_fault_fn fn, void *arg);
/* The same of a file. */
[[gnu::warn_unused_result]] bool userlist_load(const char *path, struct user_entry **users,
                                               int *count, userlist_fault_fn fn, void *arg);

#endif
