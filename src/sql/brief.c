/* SPDX-License-Identifier: PostgreSQL */
#include "brief.h"
#include "lex.h"

struct brief {
	char *out;
	size_t len;
	bool cut;
	/* In a statement that sets something: what comes behind TO or = is data, bare words too. */
	bool sets, value;
	bool first; /* the next word is the first of its statement */
};

static void put(struct brief *b, const uint8_t *bytes, size_t n)
{
	static const char more[] = "...";
	if (b->cut)
		return;
	if (b->len + n + sizeof(more) > BRIEF_MAX) {
		b->cut = true;
		memcpy(&b->out[b->len], more, sizeof(more) - 1);
		b->len += sizeof(more) - 1;
		return;
	}
	memcpy(&b->out[b->len], bytes, n);
	b->len += n;
}

static void put_char(struct brief *b, char c)
{
	put(b, (const uint8_t *)&c, 1);
}

/* A word of data is one '?', however many there are in a row. */
static void put_data(struct brief *b)
{
	if (b->len == 0 || b->out[b->len - 1] != '?')
		put_char(b, '?');
}

static bool is_printable(struct slice word)
{
	for (size_t i = 0; i < word.len; i++)
		if (word.ptr[i] < ' ' || word.ptr[i] > '~')
			return false;
	return true;
}

static bool is_data(const struct brief *b, struct slice token)
{
	uint8_t c = token.ptr[0];
	bool quoted = token.len > 1 && memchr(token.ptr, '\'', token.len);
	bool dollar = c == '$' && token.len > 1;
	return quoted || dollar || c == '\'' || (c >= '0' && c <= '9') || !is_printable(token) ||
	       (b->value && (lex_is_word(c) || c == '"'));
}

/* With standard_conforming_strings off, a backslash may hide the quote that seems to end it. */
static bool end_is_doubtful(struct slice token)
{
	return token.len > 1 && memchr(token.ptr, '\'', token.len) && memchr(token.ptr, '\\', token.len);
}

static void note_word(struct brief *b, struct slice word)
{
	if (b->first)
		b->sets = slice_ieq_str(word, "set") || slice_ieq_str(word, "alter");
	b->first = false;
	b->value |= b->sets && (slice_ieq_str(word, "to") || slice_ieq_str(word, "="));
}

static void take(struct brief *b, struct slice token)
{
	if (is_data(b, token)) {
		put_data(b);
		b->cut |= end_is_doubtful(token);
		return;
	}
	put(b, token.ptr, token.len);
	if (token.ptr[0] == ';') {
		b->first = true;
		b->sets = b->value = false;
		return;
	}
	note_word(b, token);
}

void sql_brief(struct slice text, char out[BRIEF_MAX])
{
	struct brief b = {.out = out, .first = true};
	size_t i = 0;
	while (i < text.len && !b.cut) {
		size_t end = lex_comment_end(text, i);
		if (end == LEX_UNTERMINATED)
			break;
		if (end == i && lex_is_space(text.ptr[i]))
			end = lex_skip_space(text, i);
		if (end > i) {
			if (b.len > 0 && out[b.len - 1] != ' ')
				put_char(&b, ' ');
			i = end;
			continue;
		}
		end = lex_token_end(text, i);
		take(&b, slice_of(text.ptr + i, end - i));
		i = end;
	}
	while (b.len > 0 && out[b.len - 1] == ' ')
		b.len--;
	out[b.len] = '\0';
}
