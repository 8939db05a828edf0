/* SPDX-License-Identifier: PostgreSQL
 *
 * First line: a list of tokens. Second: lines of a key file, up to an empty one. The rest: branches
 * for a token of our own making.
 */
#include "fuzz.h"

#include "consistency/token.h"

#define NOW_S 1700000000

static void add_keys(struct token_keys *k, struct slice *in)
{
	struct slice line;
	while (in->len > 0 && (line = fuzz_line(in)).len > 0)
		if (!token_keys_add_line(k, line))
			return;
	assert(k->count >= 0 && k->count <= TOKEN_KEYS_MAX);
}

/* What everybody may rely on who looks into a token. */
static void check(const struct token *t)
{
	struct token twice = *t;
	assert(t->count >= 0 && t->count <= TOKEN_BRANCHES_MAX && !(t->primary && t->count > 0));
	for (int i = 0; i < t->count; i++)
		assert(position_is_set(t->branches[i].at) && t->branches[i].cluster <= TOKEN_CLUSTER_MASK);
	token_merge(&twice, t);
	assert(token_covers(&twice, t) && token_covers(t, &twice));
}

static void try_list(struct slice list, const struct token_keys *k)
{
	struct token all, one;
	struct token_header h;
	enum token_verdict v = token_verify_list(list, k, slice_str("s"), NOW_S, 3600, &all);
	check(&all);
	assert((v == TOKEN_OK) == !all.primary && v != TOKEN_FOREIGN && v != TOKEN_LOST);
	(void)token_read(list, &one, &h);
	check(&one);
	v = token_verify(list, k, slice_str(""), NOW_S, 0, &all);
	/* Whatever is believed must be readable, and say the same. */
	if (v == TOKEN_OK)
		assert(token_covers(&one, &all) && token_covers(&all, &one) && !h.bound);
}

static uint64_t take_number(struct slice *in, int bytes)
{
	uint64_t value = 0;
	for (int i = 0; i < bytes; i++)
		value = value << 8 | fuzz_byte(in);
	return value;
}

/* What is signed is believed, by the bound session only. */
static void try_own(struct slice in, const struct token_keys *k)
{
	char text[TOKEN_TEXT_MAX];
	struct token t = {.issued_s = NOW_S}, back;
	bool bind = fuzz_byte(&in) & 1;
	while (in.len > 0)
		token_add(&t, (struct token_branch){.cluster = take_number(&in, 6),
		                                    .timeline = (uint32_t)take_number(&in, 3),
		                                    .fork = {take_number(&in, 8)},
		                                    .at = {take_number(&in, 8)}});
	check(&t);
	token_sign(&t, k, slice_str(bind ? "s" : ""), text);
	enum token_verdict v =
		token_verify_list(slice_str(text), k, slice_str("s"), NOW_S, 3600, &back);
	assert(v == (k->count == 0 && text[0] ? TOKEN_PRIMARY : t.primary ? TOKEN_PRIMARY : TOKEN_OK));
	assert(token_covers(&back, &t));
	if (!bind || v != TOKEN_OK || t.count == 0)
		return;
	assert(token_verify(slice_str(text), k, slice_str("t"), NOW_S, 3600, &back) == TOKEN_BOUND);
	assert(back.primary);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size), list = fuzz_line(&in);
	struct token_keys keys = {0};
	add_keys(&keys, &in);
	try_list(list, &keys);
	try_own(in, &keys);
	return 0;
}
