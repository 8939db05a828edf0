/* SPDX-License-Identifier: PostgreSQL
 *
 * Two statements, the second behind a zero byte. The cache must say of each what is found without
 * it, whatever it has seen before.
 */
#include "fuzz.h"

#include <stdio.h>

#include "sql/cache.h"

static void on_setting(void *arg, const struct set_stmt *s)
{
	struct slice text = *(const struct slice *)arg;
	assert(s->text.len <= text.len);
	assert(strnlen(s->name, sizeof(s->name)) < sizeof(s->name));
	assert(strnlen(s->value, sizeof(s->value)) < sizeof(s->value));
}

static void try_text(struct stmt_cache *c, const struct catalog *catalog, struct slice text)
{
	char words[512];
	struct traits plain = classify(text, catalog), cached = stmt_cache_classify(c, text);
	assert(plain.flags == cached.flags && plain.reason == cached.reason &&
	       plain.binds == cached.binds);
	traits_describe(plain, words, sizeof(words));
	(void)classify_settings(text, on_setting, &text);
	struct stmt *s = stmt_get(c, text, (struct slice){0});
	assert(s && slice_eq(slice_of(s->text, s->text_len), text) &&
	       stmt_traits(c, s).flags == plain.flags);
	stmt_put(c, s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool begun;
	if (!begun)
		classify_thread_init();
	begun = true;

	/* White space to PostgreSQL 16 and to what strips comments, not to the parser, which is of 15:
	 * both are safe, and they differ. */
	if (size > 0 && memchr(data, '\v', size))
		return 0;
	struct catalog *catalog = catalog_new(100);
	struct stmt_cache *c = catalog ? stmt_cache_new(catalog, 16, 16) : NULL;
	const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
	size_t first = zero ? (size_t)(zero - data) : size;
	assert(c);
	try_text(c, catalog, slice_of(data, first));
	/* The text of a statement has no zero byte in it: what follows one is another. */
	if (zero) {
		const uint8_t *second = zero + 1, *end = data + size;
		zero = second < end ? memchr(second, 0, (size_t)(end - second)) : NULL;
		try_text(c, catalog, slice_of(second, (size_t)((zero ? zero : end) - second)));
	}
	stmt_cache_free(c);
	catalog_free(catalog);
	return 0;
}
