/* SPDX-License-Identifier: PostgreSQL */
#include "lex.h"

size_t lex_skip_space(struct slice s, size_t i)
{
	while (i < s.len && lex_is_space(s.ptr[i]))
		i++;
	return i;
}

static bool two_at(struct slice s, size_t i, char a, char b)
{
	return i + 1 < s.len && s.ptr[i] == (uint8_t)a && s.ptr[i + 1] == (uint8_t)b;
}

/* One past the block comment at i, or LEX_UNTERMINATED. */
static size_t block_comment_end(struct slice s, size_t i)
{
	int depth = 0;
	while (i < s.len) {
		if (two_at(s, i, '/', '*')) {
			depth++;
			i += 2;
		} else if (two_at(s, i, '*', '/')) {
			i += 2;
			if (--depth == 0)
				return i;
		} else {
			i++;
		}
	}
	return LEX_UNTERMINATED;
}

static size_t line_comment_end(struct slice s, size_t i)
{
	while (i < s.len && s.ptr[i] != '\n' && s.ptr[i] != '\r')
		i++;
	return i;
}

size_t lex_comment_end(struct slice s, size_t i)
{
	if (two_at(s, i, '-', '-'))
		return line_comment_end(s, i);
	if (two_at(s, i, '/', '*'))
		return block_comment_end(s, i);
	return i;
}

/* One past the quoted text at i, which opens with `quote`; s.len if it does not end. */
static size_t quoted_end(struct slice s, size_t i, uint8_t quote, bool backslash)
{
	for (i++; i < s.len; i++) {
		if (backslash && s.ptr[i] == '\\')
			i++;
		else if (s.ptr[i] == quote && two_at(s, i, (char)quote, (char)quote))
			i++;
		else if (s.ptr[i] == quote)
			return i + 1;
	}
	return s.len;
}

/* One past the dollar-quoted text at i; i + 1 if it is none; s.len if it does not end. */
static size_t dollar_end(struct slice s, size_t i)
{
	size_t tag = i + 1;
	while (tag < s.len && lex_is_word(s.ptr[tag]))
		tag++;
	if (tag >= s.len || s.ptr[tag] != '$' || (s.ptr[i + 1] >= '0' && s.ptr[i + 1] <= '9'))
		return i + 1;
	size_t tag_len = tag + 1 - i;
	const uint8_t *close = memmem(s.ptr + tag + 1, s.len - tag - 1, s.ptr + i, tag_len);
	return close ? (size_t)(close - s.ptr) + tag_len : s.len;
}

/* One past an identifier or number; a string that is glued to it belongs to it. */
static size_t word_end(struct slice s, size_t i)
{
	size_t start = i;
	while (i < s.len && (lex_is_word(s.ptr[i]) || s.ptr[i] == '$'))
		i++;
	if (i < s.len && s.ptr[i] == '\'')
		return quoted_end(s, i, '\'', i - start == 1 && (s.ptr[start] | 0x20) == 'e');
	return i;
}

size_t lex_token_end(struct slice s, size_t i)
{
	uint8_t c = s.ptr[i];
	if (c == '\'' || c == '"')
		return quoted_end(s, i, c, false);
	if (c == '$')
		return dollar_end(s, i);
	return lex_is_word(c) ? word_end(s, i) : i + 1;
}
