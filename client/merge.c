/* SPDX-License-Identifier: PostgreSQL
 *
 * Merging without a key: docs/token.md, section Merge. The texts are walked again for every token
 * instead of being kept, so that any number of tokens needs the room of two.
 */
#include "text.h"

struct texts {
	const char *const *at;
	size_t count;
};

/* One token, not believed. What cannot be read may be of a later version: it says nothing about
 * others, and others say nothing about it. */
struct claim {
	bool readable;
	struct token token;
	struct token_header header;
};

static struct claim claim_of(struct slice text)
{
	struct claim c;
	c.readable = token_read(text, &c.token, &c.header);
	return c;
}

/* Walks the tokens of all texts. */
struct walk {
	struct texts texts;
	struct text_walk in;
	struct slice item;
	size_t text;  /* the next one */
	size_t index; /* of `item` among all, from 1 */
};

static bool next_item(struct walk *w)
{
	while (!text_next(&w->in)) {
		if (w->text == w->texts.count)
			return false;
		w->in = text_walk(text_slice(w->texts.at[w->text++]));
	}
	w->item = w->in.item;
	w->index++;
	return true;
}

static int compare_texts(struct slice a, struct slice b)
{
	int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Of two that cover each other, exactly one is left out. */
static bool makes_superfluous(const struct claim *a, struct slice a_text, const struct claim *b,
                              struct slice b_text)
{
	if (!a->readable || !b->readable || a->header.bound != b->header.bound ||
	    !token_covers(&a->token, &b->token))
		return false;
	if (!token_covers(&b->token, &a->token))
		return true;
	if (a->token.issued_s != b->token.issued_s)
		return a->token.issued_s > b->token.issued_s;
	return compare_texts(a_text, b_text) > 0;
}

/* False: another one says as much, or this one stood before. */
static bool is_needed(struct texts texts, const struct walk *it)
{
	struct claim one = claim_of(it->item);
	for (struct walk w = {.texts = texts}; next_item(&w);) {
		if (slice_eq(w.item, it->item)) {
			if (w.index < it->index)
				return false;
			continue;
		}
		struct claim other = claim_of(w.item);
		if (makes_superfluous(&other, w.item, &one, it->item))
			return false;
	}
	return true;
}

struct kept {
	int count;
	struct slice texts[TOKEN_LIST_MAX];
};

/* In order. */
static bool keep(struct kept *k, struct slice text)
{
	if (k->count == TOKEN_LIST_MAX)
		return false;
	int i = k->count++;
	for (; i > 0 && compare_texts(k->texts[i - 1], text) > 0; i--)
		k->texts[i] = k->texts[i - 1];
	k->texts[i] = text;
	return true;
}

static bool has_token_form(struct slice item)
{
	if (item.len == 0 || item.len >= TOKEN_TEXT_MAX)
		return false;
	for (size_t i = 0; i < item.len; i++) {
		if (!text_is_base64url(item.ptr[i]))
			return false;
	}
	return true;
}

static bool asks_for_primary(struct slice item)
{
	struct claim c = claim_of(item);
	return slice_eq_str(item, TOKEN_PRIMARY_TEXT) || (c.readable && c.token.primary);
}

/* False: the texts can only be "primary". */
static bool all_listable(struct texts texts)
{
	if (texts.count > TIDEMARK_MERGE_MAX)
		return false;
	for (size_t i = 0; i < texts.count; i++) {
		if (!text_list_fits(text_slice(texts.at[i])))
			return false;
	}
	for (struct walk w = {.texts = texts}; next_item(&w);) {
		if (!has_token_form(w.item) || asks_for_primary(w.item))
			return false;
	}
	return true;
}

/* False: too many are left. */
static bool choose(struct texts texts, struct kept *k)
{
	for (struct walk w = {.texts = texts}; next_item(&w);) {
		if (is_needed(texts, &w) && !keep(k, w.item))
			return false;
	}
	return true;
}

enum tidemark_status tidemark_merge(const char *const texts[], size_t count, char *out, size_t cap)
{
	struct texts all = {texts, count};
	struct kept k = {0};
	char list[TIDEMARK_LIST_SIZE]; /* `out` may be one of the texts */
	size_t len = 0;

	if (!all_listable(all) || !choose(all, &k))
		return text_put(slice_str(TOKEN_PRIMARY_TEXT), out, cap);
	for (int i = 0; i < k.count; i++) {
		if (i > 0)
			list[len++] = ',';
		memcpy(list + len, k.texts[i].ptr, k.texts[i].len);
		len += k.texts[i].len;
	}
	return text_put(slice_of(list, len), out, cap);
}
