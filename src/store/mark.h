/* SPDX-License-Identifier: PostgreSQL
 *
 * The text of a mark, as it lies in the store: timeline (8), fork (16) and position (16) as upper
 * case hex digits, so that greater is later.
 */
#ifndef TM_STORE_MARK_H
#define TM_STORE_MARK_H

#include "store/store.h"

#define MARK_TEXT_LEN 40

/* Writes MARK_TEXT_LEN bytes and NUL. */
void mark_format(const struct store_mark *mark, char out[MARK_TEXT_LEN + 1]);
/* False if `text` is anything else. */
bool mark_parse(struct slice text, struct store_mark *out);
/* Whether `a` is later than `b`, in the order of the text. */
bool mark_later(const struct store_mark *a, const struct store_mark *b);

#endif
