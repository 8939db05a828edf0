/* SPDX-License-Identifier: PostgreSQL */
#include "tags.h"
#include "lex.h"

static bool two_at(struct slice s, size_t i, char a, char b)
{
	return i + 1 < s.len && s.ptr[i] == (uint8_t)a && s.ptr[i + 1] == (uint8_t)b;
}

/* Could the text end in a comment? Cheap; may say yes wrongly. */
static bool may_end_in_comment(struct slice s)
{
	size_t end = s.len;
	while (end && (lex_is_space(s.ptr[end - 1]) || s.ptr[end - 1] == ';'))
		end--;
	if (end >= 2 && two_at(s, end - 2, '*', '/'))
		return true;
	for (size_t i = end; i >= 2; i--) {
		if (s.ptr[i - 1] == '\n' || s.ptr[i - 1] == '\r')
			return false;
		if (two_at(s, i - 2, '-', '-'))
			return true;
	}
	return false;
}

/* The end of the last token that is neither comment nor semicolon, and whether a comment follows
 * it; false if a comment does not end. */
static bool last_token_end(struct slice s, size_t i, size_t *end, bool *commented)
{
	*end = i;
	*commented = false;
	while ((i = lex_skip_space(s, i)) < s.len) {
		size_t next = lex_comment_end(s, i);
		if (next == LEX_UNTERMINATED)
			return false;
		if (next != i) {
			*commented = true;
		} else {
			next = lex_token_end(s, i);
			if (s.ptr[i] != ';') {
				*end = next;
				*commented = false;
			}
		}
		i = next;
	}
	return true;
}

struct slice sql_strip_comments(struct slice text, bool *had_comment)
{
	bool leading = false, trailing = false;
	if (had_comment)
		*had_comment = false;
	size_t start = lex_skip_space(text, 0);
	for (;;) {
		size_t end = lex_comment_end(text, start);
		if (end == LEX_UNTERMINATED)
			return text;
		if (end == start)
			break;
		leading = true;
		start = lex_skip_space(text, end);
	}
	size_t end = text.len;
	while (end > start && lex_is_space(text.ptr[end - 1]))
		end--;
	if (may_end_in_comment(slice_from(text, start)) &&
	    !last_token_end(text, start, &end, &trailing))
		return text;
	if (had_comment)
		*had_comment = leading || trailing;
	return slice_of(text.ptr + start, end - start);
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* URL-decodes `in`, in which \' stands for a quote; false if malformed or too long. */
static bool decode_value(struct slice in, char *out, size_t cap)
{
	size_t used = 0;
	for (size_t i = 0; i < in.len; i++) {
		int c = in.ptr[i];
		if (c == '%') {
			int high = i + 2 < in.len ? hex_digit(in.ptr[i + 1]) : -1;
			int low = high >= 0 ? hex_digit(in.ptr[i + 2]) : -1;
			if (low < 0)
				return false;
			c = high * 16 + low;
			i += 2;
		} else if (c == '\\' && i + 1 < in.len) {
			c = in.ptr[++i];
		}
		/* A control character in a name or token is no accident we want to carry on. */
		if (c < ' ' || c == 0x7f || used + 1 >= cap)
			return false;
		out[used++] = (char)c;
	}
	out[used] = '\0';
	return true;
}

struct pair {
	struct slice key;
	struct slice value; /* still encoded */
};

/* key='value' at i. Returns one past it, or 0 if there is none. */
static size_t parse_pair(struct slice s, size_t i, struct pair *out)
{
	size_t start = i;
	while (i < s.len &&
	       (lex_is_word(s.ptr[i]) || s.ptr[i] == '%' || s.ptr[i] == '-' || s.ptr[i] == '.'))
		i++;
	out->key = slice_of(s.ptr + start, i - start);
	i = lex_skip_space(s, i);
	if (out->key.len == 0 || i >= s.len || s.ptr[i] != '=')
		return 0;
	i = lex_skip_space(s, i + 1);
	if (i >= s.len || s.ptr[i] != '\'')
		return 0;
	size_t value = ++i;
	while (i < s.len && s.ptr[i] != '\'')
		i += s.ptr[i] == '\\' ? 2 : 1;
	if (i >= s.len)
		return 0;
	out->value = slice_of(s.ptr + value, i - value);
	return i + 1;
}

static void take_pair(const struct pair *p, struct tags *out)
{
	char *into;
	size_t cap = TAG_VALUE_MAX;
	if (slice_eq_str(p->key, "tidemark_session")) {
		into = out->session;
	} else if (slice_eq_str(p->key, "tidemark_read_after")) {
		into = out->read_after;
		cap = sizeof(out->read_after);
	} else if (slice_eq_str(p->key, "tidemark_consistency")) {
		into = out->consistency;
		cap = sizeof(out->consistency);
	} else {
		return;
	}
	out->present = true;
	if (!decode_value(p->value, into, cap) || !into[0]) {
		into[0] = '\0';
		out->malformed = true;
	}
}

/* Tags count only if the whole comment is a list of pairs: prose that quotes one is not a tag. But
 * a list that names us and breaks off was meant for us. */
static void take_comment(struct slice body, struct tags *out)
{
	struct tags found = *out;
	size_t i = lex_skip_space(body, 0);
	while (i < body.len) {
		struct pair p;
		i = parse_pair(body, i, &p);
		if (i == 0)
			break;
		take_pair(&p, &found);
		i = lex_skip_space(body, i);
		if (i == body.len) {
			*out = found;
			return;
		}
		if (body.ptr[i] != ',')
			break;
		i = lex_skip_space(body, i + 1);
	}
	static const char prefix[] = "tidemark_";
	size_t start = lex_skip_space(body, 0);
	if (found.present != out->present ||
	    (body.len - start > sizeof(prefix) - 1 &&
	     memcmp(body.ptr + start, prefix, sizeof(prefix) - 1) == 0))
		out->malformed = true;
}

/* The comments of a range that holds nothing else but white space and semicolons. */
static void take_comments(struct slice range, struct tags *out)
{
	for (size_t i = 0; i < range.len;) {
		size_t end = lex_comment_end(range, i);
		if (end == LEX_UNTERMINATED)
			return;
		if (end == i) {
			i++;
			continue;
		}
		bool block = range.ptr[i] == '/';
		take_comment(slice_of(range.ptr + i + 2, end - i - 2 - (block ? 2 : 0)), out);
		i = end;
	}
}

void tags_parse(struct slice text, struct tags *out)
{
	/* Each value is one byte long until it is found: the rest need not be cleared. */
	out->present = out->malformed = false;
	out->session[0] = out->consistency[0] = out->read_after[0] = '\0';
	bool commented;
	struct slice core = sql_strip_comments(text, &commented);
	if (!commented)
		return;
	size_t start = (size_t)(core.ptr - text.ptr);
	take_comments(slice_of(text.ptr, start), out);
	take_comments(slice_from(text, start + core.len), out);
}
