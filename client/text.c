/* SPDX-License-Identifier: PostgreSQL */
#include "text.h"

#include <assert.h>

static_assert(TIDEMARK_TOKEN_SIZE == TOKEN_TEXT_MAX, "");
static_assert(TIDEMARK_LIST_SIZE == TOKEN_LIST_TEXT_MAX + 1, "");
static_assert(TIDEMARK_PRIMARY_SIZE == sizeof(TOKEN_PRIMARY_TEXT), "");

struct slice text_slice(const char *text)
{
	return slice_of(text, text ? strnlen(text, TIDEMARK_LIST_SIZE) : 0);
}

enum tidemark_status text_put(struct slice text, char *out, size_t cap)
{
	if (text.len >= cap)
		return text_fail(TIDEMARK_TOO_SMALL, out, cap);
	if (text.len > 0)
		memmove(out, text.ptr, text.len);
	out[text.len] = '\0';
	return TIDEMARK_OK;
}

enum tidemark_status text_fail(enum tidemark_status why, char *out, size_t cap)
{
	if (cap >= TIDEMARK_PRIMARY_SIZE)
		memcpy(out, TOKEN_PRIMARY_TEXT, TIDEMARK_PRIMARY_SIZE);
	else if (cap > 0)
		out[0] = '\0';
	return why;
}

struct text_walk text_walk(struct slice list)
{
	return (struct text_walk){.rest = list, .more = list.len > 0};
}

bool text_next(struct text_walk *w)
{
	if (!w->more)
		return false;
	const uint8_t *comma = w->rest.len ? memchr(w->rest.ptr, ',', w->rest.len) : NULL;
	w->more = comma != NULL;
	w->item = comma ? slice_of(w->rest.ptr, (size_t)(comma - w->rest.ptr)) : w->rest;
	w->rest = slice_from(w->rest, w->item.len + 1);
	return true;
}

bool text_list_fits(struct slice list)
{
	int items = 0;
	for (struct text_walk w = text_walk(list); text_next(&w);)
		items++;
	return list.len <= TOKEN_LIST_TEXT_MAX && items <= TOKEN_LIST_MAX;
}

bool text_is_base64url(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
	       c == '_';
}
