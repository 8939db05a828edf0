/* SPDX-License-Identifier: PostgreSQL */
#include "opened.h"

#include <openssl/crypto.h>

static struct token_keys *keys_in(struct tidemark_keys *keys)
{
	return (struct token_keys *)keys;
}

enum tidemark_status tidemark_keys_add(struct tidemark_keys *keys, uint8_t id, const void *secret,
                                       size_t len)
{
	return token_keys_add(keys_in(keys), id, slice_of(secret, len)) ? TIDEMARK_OK
	                                                                : TIDEMARK_BAD_KEY;
}

/* Takes a line and its end off the front. */
static struct slice take_line(struct slice *text)
{
	const uint8_t *end = memchr(text->ptr, '\n', text->len);
	struct slice line = end ? slice_of(text->ptr, (size_t)(end - text->ptr)) : *text;
	*text = slice_from(*text, line.len + 1);
	return line;
}

enum tidemark_status tidemark_keys_load(struct tidemark_keys *keys, const char *text, size_t len,
                                        size_t *line)
{
	struct token_keys all = *keys_in(keys);
	struct slice rest = slice_of(text, len);
	enum tidemark_status s = TIDEMARK_OK;
	size_t n = 0;

	while (s == TIDEMARK_OK && rest.len > 0) {
		n++;
		if (!token_keys_add_line(&all, take_line(&rest)))
			s = TIDEMARK_BAD_KEY;
	}
	if (s == TIDEMARK_OK && all.count == keys_in(keys)->count)
		s = TIDEMARK_NO_KEY;
	if (s == TIDEMARK_OK)
		*keys_in(keys) = all;
	if (line)
		*line = n;
	OPENSSL_cleanse(&all, sizeof(all));
	return s;
}

void tidemark_keys_wipe(struct tidemark_keys *keys)
{
	OPENSSL_cleanse(keys, sizeof(*keys));
}
