/* SPDX-License-Identifier: PostgreSQL
 *
 * What lies in a caller's struct tidemark_token and struct tidemark_keys. Zeroed: asks for nothing,
 * has no keys.
 */
#ifndef TIDEMARK_OPENED_H
#define TIDEMARK_OPENED_H

#include <assert.h>
#include <stdalign.h>

#include "text.h"

struct opened {
	struct token token;
	uint16_t key; /* id + 1; 0: not made from one signed text */
	bool bound;
	bool unverified;
};

static_assert(sizeof(struct opened) <= sizeof(struct tidemark_token), "");
static_assert(sizeof(struct token_keys) <= sizeof(struct tidemark_keys), "");
static_assert(alignof(struct opened) <= alignof(struct tidemark_token), "");
static_assert(alignof(struct token_keys) <= alignof(struct tidemark_keys), "");

static inline struct opened *opened_in(struct tidemark_token *t)
{
	return (struct opened *)t;
}

static inline const struct opened *opened_of(const struct tidemark_token *t)
{
	return (const struct opened *)t;
}

/* NULL: no keys. */
static inline const struct token_keys *keys_of(const struct tidemark_keys *k)
{
	static const struct token_keys none;
	return k ? (const struct token_keys *)k : &none;
}

#endif
