/* SPDX-License-Identifier: PostgreSQL
 *
 * Where tokens and comments end, for texts that are not parsed. As PostgreSQL reads them with
 * standard_conforming_strings on. Offsets into a slice; linear, never past its end.
 */
#ifndef TM_SQL_LEX_H
#define TM_SQL_LEX_H

#include "base/slice.h"

static inline bool lex_is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool lex_is_word(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
	       c >= 0x80;
}

size_t lex_skip_space(struct slice s, size_t i);
#define LEX_UNTERMINATED SIZE_MAX

/* One past the comment at i (block comments nest); i itself if there is none; LEX_UNTERMINATED if
 * it does not end. */
size_t lex_comment_end(struct slice s, size_t i);
/* One past the token at i < s.len, which is neither space nor comment. Quoted text that does not
 * end is a token up to the end. */
size_t lex_token_end(struct slice s, size_t i);

#endif
