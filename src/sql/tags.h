/* SPDX-License-Identifier: PostgreSQL
 *
 * Query tags: sqlcommenter comments, leading or trailing, key='value' pairs, URL-encoded, comma
 * separated. Only keys that begin with "tidemark_" are looked at; a comment anywhere else, or one
 * that is malformed, carries no tags. https://google.github.io/sqlcommenter/spec/
 */
#ifndef TM_SQL_TAGS_H
#define TM_SQL_TAGS_H

#include "base/slice.h"

#define TAG_VALUE_MAX 128
#define TAG_TOKEN_MAX 2376 /* a list of tokens: docs/token.md */

struct tags {
	bool present;   /* at least one recognised tag */
	bool malformed; /* a tidemark_ key with an unreadable value: the caller routes to the primary */
	char session[TAG_VALUE_MAX]; /* "" if absent, like the others */
	char consistency[16];
	char read_after[TAG_TOKEN_MAX];
};

void tags_parse(struct slice text, struct tags *out);

/* Skips white space and comments at both ends; borrows `text`. Nested block comments are honoured;
 * an unterminated one gives the text unchanged. `*had_comment` may be NULL. */
struct slice sql_strip_comments(struct slice text, bool *had_comment);

#endif
