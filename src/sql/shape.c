/* SPDX-License-Identifier: PostgreSQL
 *
 * This runs once for every simple query, so most bytes are looked at sixteen at a time:
 *
 *   SELECT abalance FROM pgbench_accounts WHERE aid = 12345 AND name = 'it''s'
 *   SELECT abalance FROM pgbench_accounts WHERE aid = I     AND name = S
 *
 * Whoever adds a construct here must be sure that our tokens end where PostgreSQL's do, with
 * standard_conforming_strings on or off. When in doubt the text is its own shape.
 */
#include "shape.h"
#include "lex.h"
#include "tags.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What stands in for a literal. These bytes do not occur in a shape otherwise. */
enum { BLANK_INTEGER = 1, BLANK_NUMERIC = 2, BLANK_STRING = 3 };

/* An integer of more digits may not fit: to the parser it is another kind of token. */
#define INTEGER_DIGITS 9

enum {
	C_COPY = 1, /* stands for itself */
	C_WORD = 2, /* may begin an identifier or keyword */
	C_DIGIT = 4,
	C_DOLLAR = 8,
	C_INSIDE = C_WORD | C_DIGIT | C_DOLLAR, /* may go on one */
	C_SPECIAL = 16,                         /* has a case of its own below */
	C_SPACE = 32,
	C_PLAIN = C_COPY | C_WORD, /* copied without a look at what stands around it */
};

static const uint8_t classes[256] = {
	['\t'] = C_COPY | C_SPACE,
	['\n'] = C_COPY | C_SPACE,
	['\f'] = C_COPY | C_SPACE,
	['\r'] = C_COPY | C_SPACE,
	[' '] = C_COPY | C_SPACE,
	['!'] = C_COPY,
	['"'] = C_SPECIAL,
	['#'] = C_COPY,
	['$'] = C_DOLLAR,
	['%'] = C_COPY,
	['&'] = C_COPY,
	['\''] = C_SPECIAL,
	['('] = C_COPY,
	[')'] = C_COPY,
	['*'] = C_COPY,
	['+'] = C_COPY,
	[','] = C_COPY,
	['-'] = C_SPECIAL,
	['.'] = C_SPECIAL,
	['/'] = C_SPECIAL,
	['0' ... '9'] = C_DIGIT,
	[':'] = C_COPY,
	[';'] = C_SPECIAL,
	['<' ... '@'] = C_COPY,
	['A' ... 'Z'] = C_WORD,
	['['] = C_COPY,
	/* No backslash: its meaning in a string depends on a setting. */
	[']'] = C_COPY,
	['^'] = C_COPY,
	['_'] = C_WORD,
	['`'] = C_COPY,
	['a' ... 'z'] = C_WORD,
	['{' ... '~'] = C_COPY,
	[0x80 ... 0xff] = C_WORD,
};

/* Cursor over the text. Each step returns false to give up. */
struct scan {
	const uint8_t *in, *end;
	uint8_t *out;
	bool commented;
};

static uint8_t class_at(const struct scan *s, const uint8_t *p)
{
	return p < s->end ? classes[*p] : 0;
}

/* How many of the 16 bytes at p are surely plain. Some that are not counted may be plain as well.
 */
#ifdef __SSE2__
static unsigned plain_of_16(const uint8_t *p, uint8_t *out)
{
	__m128i c = _mm_loadu_si128((const __m128i_u *)p);
	_mm_storeu_si128((__m128i_u *)out, c);
	/* 00 to ' but for the space; - to ; (with the digits); backslash; DEL */
	__m128i low = _mm_cmpeq_epi8(_mm_min_epu8(c, _mm_set1_epi8('\'')), c);
	low = _mm_andnot_si128(_mm_cmpeq_epi8(c, _mm_set1_epi8(' ')), low);
	__m128i from_minus = _mm_sub_epi8(c, _mm_set1_epi8('-'));
	__m128i middle = _mm_cmpeq_epi8(_mm_min_epu8(from_minus, _mm_set1_epi8(';' - '-')), from_minus);
	__m128i single = _mm_or_si128(_mm_cmpeq_epi8(c, _mm_set1_epi8('\\')),
	                              _mm_cmpeq_epi8(c, _mm_set1_epi8(0x7f)));
	int stop = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, middle), single));
	return stop ? (unsigned)__builtin_ctz((unsigned)stop) : 16;
}
#else
static unsigned plain_of_16(const uint8_t *p, uint8_t *out)
{
	unsigned n = 0;
	for (; n < 16 && (classes[p[n]] & C_PLAIN); n++)
		out[n] = p[n];
	return n;
}
#endif

/* Copies up to the first byte that needs a look. */
static void scan_plain(struct scan *s)
{
	const uint8_t *p = s->in, *end = s->end;
	uint8_t *out = s->out;
	unsigned n = 16;
	/* The copy may run ahead of what counts: `out` never overtakes the text. */
	while (n == 16 && end - p >= 16) {
		n = plain_of_16(p, out);
		p += n;
		out += n;
	}
	if (n == 16)
		while (p < end && (classes[*p] & C_PLAIN))
			*out++ = *p++;
	s->in = p;
	s->out = out;
}

/* The rest of an identifier, from a digit or dollar sign on. */
static void scan_word_rest(struct scan *s)
{
	do
		*s->out++ = *s->in++;
	while (class_at(s, s->in) & C_INSIDE);
}

static bool scan_digits(struct scan *s)
{
	const uint8_t *p = s->in;
	while (class_at(s, p) & C_DIGIT)
		p++;
	uint8_t blank = p - s->in > INTEGER_DIGITS ? BLANK_NUMERIC : BLANK_INTEGER;
	if (p < s->end && *p == '.') {
		p++;
		if (!(class_at(s, p) & C_DIGIT))
			return false;
		while (class_at(s, p) & C_DIGIT)
			p++;
		blank = BLANK_NUMERIC;
	}
	/* 1e5, 0x1F, 1_000, 1.2.3, 1a */
	if (p < s->end && (*p == '.' || (classes[*p] & C_INSIDE)))
		return false;
	s->in = p;
	*s->out++ = blank;
	return true;
}

/* $1; anything else with a dollar may be a quote. */
static bool scan_parameter(struct scan *s)
{
	if (!(class_at(s, s->in + 1) & C_DIGIT))
		return false;
	do
		*s->out++ = *s->in++;
	while (class_at(s, s->in) & C_DIGIT);
	return !(class_at(s, s->in) & C_INSIDE);
}

static bool scan_string(struct scan *s)
{
	/* E'', B'', X'', N'', U&'' */
	if (s->in[-1] == '&' || (classes[s->in[-1]] & C_INSIDE))
		return false;
	const uint8_t *p = s->in + 1;
	for (;; p++) {
		if (p == s->end || *p == '\\')
			return false;
		if (*p == '\'' && (p + 1 == s->end || *++p != '\''))
			break;
	}
	s->in = p + (p < s->end && *p == '\'' ? 1 : 0);
	*s->out++ = BLANK_STRING;
	return true;
}

static bool scan_quoted_name(struct scan *s)
{
	do {
		if (*s->in < ' ')
			return false;
		*s->out++ = *s->in++;
		if (s->in == s->end)
			return false;
	} while (*s->in != '"');
	*s->out++ = *s->in++;
	return true;
}

/* Only white space, semicolons and comments may be left; then the text ends here. */
static bool scan_tail(struct scan *s)
{
	struct slice rest = slice_of(s->in, (size_t)(s->end - s->in));
	for (size_t i = 0; i < rest.len;) {
		size_t end = lex_comment_end(rest, i);
		if (end == LEX_UNTERMINATED)
			return false;
		s->commented = s->commented || end > i;
		if (end == i && rest.ptr[i] != ';' && !(classes[rest.ptr[i]] & C_SPACE))
			return false;
		i = end > i ? end : i + 1;
	}
	s->in = s->end;
	return true;
}

static bool scan_special(struct scan *s)
{
	uint8_t c = *s->in;
	uint8_t next = s->in + 1 < s->end ? s->in[1] : 0;
	if (c == '\'')
		return scan_string(s);
	if (c == '"')
		return scan_quoted_name(s);
	if (c == ';' || (c == '-' && next == '-') || (c == '/' && next == '*'))
		return scan_tail(s);
	if (c == '.' && (classes[next] & C_DIGIT))
		return false;
	*s->out++ = c;
	s->in++;
	return true;
}

/* The byte that stopped scan_plain(). A text begins with a word, so there is one before it. */
static bool scan_other(struct scan *s)
{
	uint8_t class = classes[*s->in];
	if (class & C_PLAIN) {
		*s->out++ = *s->in++;
		return true;
	}
	if (class & C_SPECIAL)
		return scan_special(s);
	if (!(class & (C_DIGIT | C_DOLLAR)))
		return false;
	if (classes[s->in[-1]] & C_INSIDE) {
		scan_word_rest(s);
		return true;
	}
	return class & C_DIGIT ? scan_digits(s) : scan_parameter(s);
}

static bool scan_all(struct scan *s)
{
	for (;;) {
		scan_plain(s);
		if (s->in == s->end)
			return true;
		if (!scan_other(s))
			return false;
	}
}

/* Only in these statements do the values of constants not matter. */
static bool begins_simple(struct slice text)
{
	static const char words[][8] = {"select", "insert", "update", "delete", "with", "values", "table"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t len = strlen(words[i]);
		if (text.len < len || (text.ptr[0] | 0x20) != words[i][0] ||
		    strncasecmp((const char *)text.ptr, words[i], len) != 0)
			continue;
		return text.len == len || !(classes[text.ptr[len]] & C_INSIDE);
	}
	return false;
}

static struct slice trim_end(struct slice s)
{
	while (s.len && (classes[s.ptr[s.len - 1]] & C_SPACE))
		s.len--;
	return s;
}

static bool begins_comment(struct slice s)
{
	return s.len >= 2 &&
	       ((s.ptr[0] == '-' && s.ptr[1] == '-') || (s.ptr[0] == '/' && s.ptr[1] == '*'));
}

struct shape shape_of(struct slice text, uint8_t *out)
{
	struct shape shape = {0};
	struct slice core = text;
	while (core.len && (classes[core.ptr[0]] & C_SPACE))
		core = slice_from(core, 1);
	if (begins_comment(core))
		core = sql_strip_comments(text, &shape.commented);
	if (begins_simple(core)) {
		struct scan s = {.in = core.ptr, .end = core.ptr + core.len, .out = out};
		if (scan_all(&s)) {
			shape.commented = shape.commented || s.commented;
			shape.key = trim_end(slice_of(out, (size_t)(s.out - out)));
			return shape;
		}
	}
	shape.kind = SHAPE_OWN;
	shape.key = sql_strip_comments(text, &shape.commented);
	return shape;
}
