/* SPDX-License-Identifier: PostgreSQL
 *
 * The key file of tokens: "id:hex" lines (docs/token.md). The first key signs.
 */
#ifndef TM_CONFIG_KEYFILE_H
#define TM_CONFIG_KEYFILE_H

#include "userlist.h"

/* At least one key, or faults; a fault never shows key material. */
[[gnu::warn_unused_result]] bool keyfile_load(const char *path, struct token_keys *keys,
                                              userlist_fault_fn fn, void *arg);

#endif
