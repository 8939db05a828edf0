/* SPDX-License-Identifier: PostgreSQL
 *
 * libpq's connection strings: keyword=value pairs with quotes, and postgresql:// URIs.
 * https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-CONNSTRING
 */
#ifndef TM_CONFIG_CONNINFO_H
#define TM_CONFIG_CONNINFO_H

#include "watch/watch.h"

#define CONNINFO_VALUE_MAX 512

/* One pair; false, with the reason in `why`, refuses it and ends the parse. */
typedef bool (*conninfo_fn)(void *arg, const char *key, const char *value, char *why, size_t cap);

/* Calls `fn` for each keyword=value pair in order. False with `why`. */
[[gnu::warn_unused_result]] bool conninfo_pairs(const char *text, conninfo_fn fn, void *arg,
                                                char *why, size_t cap);

/* Fills everything but the node's name: host 127.0.0.1, port 5432, user and database postgres, no
 * secret and weight 1 where the text says nothing. Pairs or URI. False with `why`; unknown keywords are named.
 */
[[gnu::warn_unused_result]] bool conninfo_node(const char *text, struct watch_node *node, char *why,
                                               size_t cap);

#endif
