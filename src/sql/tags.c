/* SPDX-License-Identifier: PostgreSQL */
#include "tags.h"

static bool is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t skip_space(struct slice s, size_t i)
{
	while (i < s.len && is_space(s.ptr[i]))
		i++;
	return i;
}

static bool two_at(struct slice s, size_t i, char a, char b)
{
	return i + 1 < s.len && s.ptr[i] == (uint8_t)a && s.ptr[i + 1] == (uint8_t)b;
}

/* One past the block comment at i, or 0 if it does not end. */
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
	return 0;
}

static size_t line_comment_end(struct slice s, size_t i)
{
	while (i < s.len && s.ptr[i] != '\n' && s.ptr[i] != '\r')
		i++;
	return i;
}

/* One past the comment at i; i itself if there is none; 0 if it does not end. */
static size_t comment_end(struct slice s, size_t i)
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

static bool is_word(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c >= 0x80;
}

/* One past the dollar-quoted text at i; i + 1 if it is none; s.len if it does not end. */
static size_t dollar_end(struct slice s, size_t i)
{
	size_t tag = i + 1;
	while (tag < s.len && is_word(s.ptr[tag]))
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
	while (i < s.len && (is_word(s.ptr[i]) || s.ptr[i] == '$'))
		i++;
	if (i < s.len && s.ptr[i] == '\'')
		return quoted_end(s, i, '\'', i - start == 1 && (s.ptr[start] | 0x20) == 'e');
	return i;
}

static size_t token_end(struct slice s, size_t i)
{
	uint8_t c = s.ptr[i];
	if (c == '\'' || c == '"')
		return quoted_end(s, i, c, false);
	if (c == '$')
		return dollar_end(s, i);
	return is_word(c) ? word_end(s, i) : i + 1;
}

/* Could the text end in a comment? Cheap; may say yes wrongly. */
static bool may_end_in_comment(struct slice s)
{
	size_t end = s.len;
	while (end && (is_space(s.ptr[end - 1]) || s.ptr[end - 1] == ';'))
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
	while ((i = skip_space(s, i)) < s.len) {
		size_t next = comment_end(s, i);
		if (next == 0)
			return false;
		if (next != i) {
			*commented = true;
		} else {
			next = token_end(s, i);
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
	size_t start = skip_space(text, 0);
	for (;;) {
		size_t end = comment_end(text, start);
		if (end == 0)
			return text;
		if (end == start)
			break;
		leading = true;
		start = skip_space(text, end);
	}
	size_t end = text.len;
	while (end > start && is_space(text.ptr[end - 1]))
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
	while (i < s.len && (is_word(s.ptr[i]) || s.ptr[i] == '%' || s.ptr[i] == '-' || s.ptr[i] == '.'))
		i++;
	out->key = slice_of(s.ptr + start, i - start);
	i = skip_space(s, i);
	if (out->key.len == 0 || i >= s.len || s.ptr[i] != '=')
		return 0;
	i = skip_space(s, i + 1);
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
	size_t i = skip_space(body, 0);
	while (i < body.len) {
		struct pair p;
		i = parse_pair(body, i, &p);
		if (i == 0)
			break;
		take_pair(&p, &found);
		i = skip_space(body, i);
		if (i == body.len) {
			*out = found;
			return;
		}
		if (body.ptr[i] != ',')
			break;
		i = skip_space(body, i + 1);
	}
	static const char prefix[] = "tidemark_";
	size_t start = skip_space(body, 0);
	if (found.present != out->present ||
	    (body.len - start > sizeof(prefix) - 1 &&
	     memcmp(body.ptr + start, prefix, sizeof(prefix) - 1) == 0))
		out->malformed = true;
}

/* The comments of a range that holds nothing else but white space and semicolons. */
static void take_comments(struct slice range, struct tags *out)
{
	for (size_t i = 0; i < range.len;) {
		size_t end = comment_end(range, i);
		if (end == 0)
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
	*out = (struct tags){0};
	bool commented;
	struct slice core = sql_strip_comments(text, &commented);
	if (!commented)
		return;
	size_t start = (size_t)(core.ptr - text.ptr);
	take_comments(slice_of(text.ptr, start), out);
	take_comments(slice_from(text, start + core.len), out);
}
