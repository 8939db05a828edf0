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
