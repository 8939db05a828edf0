/* SPDX-License-Identifier: PostgreSQL
 *
 * Texts of tokens as callers give and take them: bounded on the way in, never cut on the way out.
 */
#ifndef TIDEMARK_TEXT_H
#define TIDEMARK_TEXT_H

#include "consistency/token.h"

#include "tidemark.h"

/* A caller's text. Of one that is longer than any list, one byte more than a list can have. */
struct slice text_slice(const char *text);

/* Writes `text` and NUL, or what text_fail() writes and TIDEMARK_TOO_SMALL. They may overlap. */
enum tidemark_status text_put(struct slice text, char *out, size_t cap);
/* "primary" if it fits, else "" if that fits. Returns `why`. */
enum tidemark_status text_fail(enum tidemark_status why, char *out, size_t cap);

/* Walks the tokens of a list: for (struct text_walk w = text_walk(list); text_next(&w);) … w.item.
 * The empty text has none. */
struct text_walk {
	struct slice rest, item;
	bool more;
};
struct text_walk text_walk(struct slice list);
bool text_next(struct text_walk *w);

/* A character of a signed token. */
bool text_is_base64url(uint8_t c);
/* False: longer than a list can be, or of more tokens. */
bool text_list_fits(struct slice list);

#endif
