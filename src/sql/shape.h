/* SPDX-License-Identifier: PostgreSQL
 *
 * The shape of a text: its bytes with each literal replaced by one byte that says its kind. Two
 * texts with the same shape have the same tokens but for the values of constants.
 */
#ifndef TM_SQL_SHAPE_H
#define TM_SQL_SHAPE_H

#include "cache.h"

enum shape_kind {
	SHAPE_BLANKED, /* `out` holds the shape */
	SHAPE_OWN, /* not plainly simple: the text (without comments at its ends) is its own shape */
};

struct shape {
	enum shape_kind kind;
	bool commented;   /* there was a comment at either end */
	struct slice key; /* borrows `out` or the text */
};

/* `out` has room for text.len bytes. */
struct shape shape_of(struct slice text, uint8_t *out);

#endif
