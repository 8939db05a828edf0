/* SPDX-License-Identifier: PostgreSQL */
#include "shows_time.h"

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static bool is_letter(uint8_t c)
{
	return lower(c) >= 'a' && lower(c) <= 'z';
}

static bool is_any_of(struct slice word, const char *const words[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (slice_ieq_str(word, words[i]))
			return true;
	return false;
}

/* Letters by letters, as datetime input splits them. */
static bool has_word(struct slice bytes, const char *const words[], size_t count)
{
	for (size_t i = 0; i < bytes.len; i++) {
		size_t from = i;
		while (i < bytes.len && is_letter(bytes.ptr[i]))
			i++;
		if (i - from >= 3 && is_any_of(slice_of(bytes.ptr + from, i - from), words, count))
			return true;
	}
	return false;
}

static const char *const times[] = {"now", "today", "tomorrow", "yesterday"};

bool bytes_show_time(struct slice bytes)
{
	return has_word(bytes, times, sizeof(times) / sizeof(times[0]));
}

bool text_shows_time(struct slice sql)
{
	static const char *const codes[] = {"uescape"};
	return bytes_show_time(sql) || (sql.len && memchr(sql.ptr, '\\', sql.len)) ||
	       has_word(sql, codes, 1);
}

static bool begins_tricky(struct slice sql, size_t i)
{
	uint8_t c = sql.ptr[i], next = i + 1 < sql.len ? sql.ptr[i + 1] : 0;
	return c == '\\' || (c == '-' && next == '-') || (c == '/' && next == '*') ||
	       (c == '$' && (next < '0' || next > '9')) || ((c == 'u' || c == 'U') && next == '&');
}

static size_t quoted_end(struct slice sql, size_t i)
{
	const uint8_t *end = i + 1 < sql.len ? memchr(sql.ptr + i + 1, sql.ptr[i], sql.len - i - 1) : NULL;
	return end ? (size_t)(end - sql.ptr) : sql.len;
}

bool literals_show_time(struct slice sql)
{
	for (size_t i = 0; i < sql.len; i++) {
		uint8_t c = sql.ptr[i];
		if (begins_tricky(sql, i))
			return text_shows_time(sql);
		if (c != '\'' && c != '"')
			continue;
		/* A doubled quote is two literals to us. */
		size_t end = quoted_end(sql, i);
		struct slice inside = slice_of(sql.ptr + i + 1, end > i + 1 ? end - i - 1 : 0);
		if (inside.len && memchr(inside.ptr, '\\', inside.len))
			return text_shows_time(sql);
		if (c == '\'' && bytes_show_time(inside))
			return true;
		i = end;
	}
	return false;
}
