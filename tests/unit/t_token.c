/* SPDX-License-Identifier: PostgreSQL */
#include "consistency/token.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#define NOW INT64_C(1767225600)
#define CLUSTER UINT64_C(0x123456789abc)
#define NAME "cart 7"

static const struct slice no_name;

/* Key 1 is the bytes 0 … 31. */
static struct token_keys keys_one(void)
{
	struct token_keys k = {0};
	uint8_t secret[32];
	for (int i = 0; i < 32; i++)
		secret[i] = (uint8_t)i;
	assert_true(token_keys_add(&k, 1, slice_of(secret, sizeof(secret))));
	return k;
}

static struct token_branch branch(uint32_t timeline, uint64_t fork, uint64_t at)
{
	return (struct token_branch){CLUSTER, timeline, {fork}, {at}};
}

static struct token token_one(void)
{
	struct token t = {.issued_s = NOW};
	token_add(&t, branch(2, 0x3000148, 0x16B374D848));
	return t;
}

/* On `n` clusters. */
static struct token token_many(int n)
{
	struct token t = {.issued_s = NOW};
	for (int i = 0; i < n; i++)
		token_add(&t, (struct token_branch){(uint64_t)i + 1, 1, {0}, {100}});
	return t;
}

static void assert_same(const struct token *a, const struct token *b)
{
	assert_int_equal(a->primary, b->primary);
	assert_int_equal(a->count, b->count);
	assert_int_equal(a->issued_s, b->issued_s);
	for (int i = 0; i < a->count; i++) {
		assert_int_equal(a->branches[i].cluster, b->branches[i].cluster);
		assert_int_equal(a->branches[i].timeline, b->branches[i].timeline);
		assert_int_equal(a->branches[i].fork.lsn, b->branches[i].fork.lsn);
		assert_int_equal(a->branches[i].at.lsn, b->branches[i].at.lsn);
	}
}

static enum token_verdict verdict(const char *text, const char *name, int64_t now_s, int64_t ttl_s)
{
	struct token_keys k = keys_one();
	struct token t;
	enum token_verdict v = token_verify(slice_str(text), &k, slice_str(name), now_s, ttl_s, &t);
	if (v != TOKEN_OK) {
		assert_true(t.primary);
		assert_int_equal(t.count, 0);
	}
	return v;
}

/* ---- signing and verifying ---- */

/* Computed with another implementation. */
static void token_is_signed_as_specified(void **state)
{
	struct token_keys k = keys_one();
	struct token t = token_one(), p = {.primary = true, .issued_s = NOW};
	char text[TOKEN_TEXT_MAX];
	token_sign(&t, &k, no_name, text);
	assert_string_equal(text, "EAFpVbkAEjRWeJq8AAACAAAAAAMAAUgAAAAWs3TYSNdWKe4t8g9t-qd_ibMNH24");
	token_sign(&t, &k, slice_str(NAME), text);
	assert_string_equal(text, "EQFpVbkAEjRWeJq8AAACAAAAAAMAAUgAAAAWs3TYSPU3oElSv64br6PSWlynKaY");
	token_sign(&p, &k, no_name, text);
	assert_string_equal(text, "EgFpVbkAb_Xb2_nIELOa73PlWHeQTA");
}

static void token_comes_back_as_it_was_signed(void **state)
{
	struct token_keys k = keys_one();
	for (int n = 1; n <= TOKEN_BRANCHES_MAX; n++) {
		struct token t = token_many(n), u;
		char text[TOKEN_TEXT_MAX];
		token_sign(&t, &k, no_name, text);
		assert_int_equal(token_verify(slice_str(text), &k, no_name, NOW, 0, &u), TOKEN_OK);
		assert_same(&t, &u);
	}
}

static void token_that_asks_for_nothing_is_the_empty_text(void **state)
{
	struct token_keys k = keys_one(), none = {0};
	struct token t = {.issued_s = NOW}, u;
	char text[TOKEN_TEXT_MAX] = "x";
	token_sign(&t, &k, no_name, text);
	assert_string_equal(text, "");
	token_sign(&t, &none, no_name, text);
	assert_string_equal(text, "");
	assert_int_equal(token_verify_list(slice_str(""), &k, no_name, NOW, 0, &u), TOKEN_OK);
	assert_true(!u.primary && u.count == 0);
	assert_int_equal(verdict("", "", NOW, 0), TOKEN_MALFORMED);
}

static void token_without_a_key_asks_for_the_primary(void **state)
{
	struct token_keys none = {0};
	struct token t = token_one(), u;
	char text[TOKEN_TEXT_MAX];
	token_sign(&t, &none, no_name, text);
	assert_string_equal(text, "primary");
	assert_int_equal(token_verify(slice_str(text), &none, no_name, NOW, 0, &u), TOKEN_PRIMARY);
	assert_true(u.primary);
}

static void token_of_flag_primary_is_primary_once_it_is_believed(void **state)
{
	struct token_keys k = keys_one();
	struct token p = {.primary = true, .issued_s = NOW};
	char text[TOKEN_TEXT_MAX];
	token_sign(&p, &k, no_name, text);
	assert_int_equal(verdict(text, "", NOW, 0), TOKEN_PRIMARY);
	assert_int_equal(verdict(text, "", NOW + 11, 10), TOKEN_EXPIRED);
	text[5] = text[5] == 'A' ? 'B' : 'A';
	assert_int_equal(verdict(text, "", NOW, 0), TOKEN_FORGED);
}

/* Truncations of whole branches too: the HMAC then lies elsewhere. */
static void token_refuses_every_truncation(void **state)
{
	struct token_keys k = keys_one();
	struct token t = token_many(TOKEN_BRANCHES_MAX), u;
	char text[TOKEN_TEXT_MAX];
	token_sign(&t, &k, no_name, text);
	assert_int_equal(strlen(text), TOKEN_TEXT_MAX - 1);
	for (size_t n = 0; n < strlen(text); n++) {
		assert_true(token_verify(slice_of(text, n), &k, no_name, NOW, 0, &u) != TOKEN_OK);
		assert_true(u.primary);
	}
}

static void token_refuses_every_other_character(void **state)
{
	struct token_keys k = keys_one();
	struct token t = token_one(), u;
	char text[TOKEN_TEXT_MAX];
	token_sign(&t, &k, no_name, text);
	size_t len = strlen(text);
	for (size_t i = 0; i < len; i++) {
		char was = text[i];
		for (int c = 0; c < 256; c++) {
			text[i] = (char)c;
			enum token_verdict v = token_verify(slice_of(text, len), &k, no_name, NOW, 0, &u);
			assert_int_equal(v == TOKEN_OK, text[i] == was);
		}
		text[i] = was;
	}
}

static void token_bound_is_good_with_its_name_only(void **state)
{
	struct token_keys k = keys_one();
	struct token t = token_one();
	char text[TOKEN_TEXT_MAX];
	token_sign(&t, &k, slice_str(NAME), text);
	assert_int_equal(verdict(text, NAME, NOW, 0), TOKEN_OK);
	assert_int_equal(verdict(text, NAME "0", NOW, 0), TOKEN_BOUND);
	assert_int_equal(verdict(text, "cart 8", NOW, 0), TOKEN_BOUND);
	assert_int_equal(verdict(text, "", NOW, 0), TOKEN_BOUND);
	token_sign(&t, &k, no_name, text);
	assert_int_equal(verdict(text, NAME, NOW, 0), TOKEN_OK);
}

/* base64url, as slow as can be. */
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static bool bit_of_text(const char *text, size_t bit)
{
	long digit = strchr(alphabet, text[bit / 6]) - alphabet;
	return digit >> (5 - bit % 6) & 1;
}

/* Takes the `n` bytes at `from` out of a token's text. */
static void cut_bytes(const char *text, size_t from, size_t n, char *out)
{
	size_t bits = strlen(text) * 6 / 8 * 8 - n * 8, len = (bits + 5) / 6;
	for (size_t i = 0; i < len; i++) {
		int digit = 0;
		for (size_t bit = i * 6; bit < i * 6 + 6; bit++) {
			size_t source = bit < from * 8 ? bit : bit + n * 8;
			digit = digit << 1 | (bit < bits && bit_of_text(text, source));
		}
		out[i] = alphabet[digit];
	}
	out[len] = '\0';
}

/* Else whoever chooses a session's name could forget with it: a token of two branches that is bound
 * to "x" would be one of the first branch, bound to the second one's bytes and "x". */
static void token_bound_keeps_its_name_apart_from_its_branches(void **state)
{
	static const uint8_t name[] = {0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0,   0,
	                               0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 'x'};
	struct token_keys k = keys_one();
	struct token t = token_many(2), u;
	struct token_header h;
	char text[TOKEN_TEXT_MAX], shorter[TOKEN_TEXT_MAX];
	token_sign(&t, &k, slice_str("x"), text);
	cut_bytes(text, 31, 25, shorter);
	assert_true(token_read(slice_str(shorter), &u, &h) && u.count == 1);
	assert_int_equal(token_verify(slice_str(shorter), &k, slice_of(name, sizeof(name)), NOW, 0, &u),
	                 TOKEN_BOUND);
}

static void token_expires_after_its_time_to_live(void **state)
{
	struct token_keys k = keys_one();
	struct token t = token_one();
	char text[TOKEN_TEXT_MAX];
	token_sign(&t, &k, no_name, text);
	assert_int_equal(verdict(text, "", NOW + 3600, 3600), TOKEN_OK);
	assert_int_equal(verdict(text, "", NOW + 3601, 3600), TOKEN_EXPIRED);
	assert_int_equal(verdict(text, "", INT64_MAX, 0), TOKEN_OK);
	assert_int_equal(verdict(text, "", INT64_MAX, INT64_MAX), TOKEN_OK);
	assert_int_equal(verdict(text, "", NOW - 60, 3600), TOKEN_OK);
	assert_int_equal(verdict(text, "", NOW - 61, 3600), TOKEN_FUTURE);
	assert_int_equal(verdict(text, "", NOW - 61, 0), TOKEN_FUTURE);
	assert_int_equal(verdict(text, "", INT64_MIN, 0), TOKEN_FUTURE);
}

static void token_issued_outside_32_bits_is_issued_at_the_nearest_end(void **state)
{
	struct token_keys k = keys_one();
	struct token t = token_one(), u;
	char text[TOKEN_TEXT_MAX];
	t.issued_s = -1;
	token_sign(&t, &k, no_name, text);
	assert_int_equal(token_verify(slice_str(text), &k, no_name, 0, 0, &u), TOKEN_OK);
	assert_int_equal(u.issued_s, 0);
	t.issued_s = INT64_MAX;
	token_sign(&t, &k, no_name, text);
	assert_int_equal(token_verify(slice_str(text), &k, no_name, INT64_MAX, 0, &u), TOKEN_OK);
	assert_int_equal(u.issued_s, UINT32_MAX);
}

static void token_is_read_without_being_believed(void **state)
{
	struct token_keys k = keys_one();
	struct token t = token_one(), u;
	struct token_header h;
	char text[TOKEN_TEXT_MAX];
	token_sign(&t, &k, slice_str(NAME), text);
	text[strlen(text) - 4] ^= 1;
	assert_true(token_read(slice_str(text), &u, &h));
	assert_same(&t, &u);
	assert_true(h.bound && h.key_id == 1);
	assert_false(token_read(slice_str("primary"), &u, &h));
	assert_true(u.primary);
}

/* ---- keys ---- */

/* During each step some routers have the keys of before it and some those of after it. */
static void keys_replaced_in_three_steps_refuse_no_token(void **state)
{
	struct slice old = slice_str("the old key of 16+ bytes"),
				 new = slice_str("the new one, also long");
	struct token_keys steps[4] = {0};
	assert_true(token_keys_add(&steps[0], 0, old));
	assert_true(token_keys_add(&steps[1], 0, old) && token_keys_add(&steps[1], 255, new));
	assert_true(token_keys_add(&steps[2], 255, new) && token_keys_add(&steps[2], 0, old));
	assert_true(token_keys_add(&steps[3], 255, new));
	for (int signer = 0; signer < 4; signer++) {
		struct token t = token_one(), u;
		char text[TOKEN_TEXT_MAX];
		token_sign(&t, &steps[signer], no_name, text);
		for (int verifier = 0; verifier < 4; verifier++) {
			bool knows = signer < 2 ? verifier < 3 : verifier > 0;
			assert_int_equal(token_verify(slice_str(text), &steps[verifier], no_name, NOW, 0, &u),
			                 knows ? TOKEN_OK : TOKEN_FORGED);
		}
	}
}

static void keys_have_limits(void **state)
{
	struct token_keys k = {0};
	uint8_t secret[TOKEN_KEY_MAX + 1] = {1};
	assert_false(token_keys_add(&k, 0, slice_of(secret, TOKEN_KEY_MIN - 1)));
	assert_false(token_keys_add(&k, 0, slice_of(secret, TOKEN_KEY_MAX + 1)));
	assert_true(token_keys_add(&k, 0, slice_of(secret, TOKEN_KEY_MIN)));
	assert_false(token_keys_add(&k, 0, slice_of(secret, TOKEN_KEY_MIN)));
	for (uint8_t id = 1; id < TOKEN_KEYS_MAX; id++)
		assert_true(token_keys_add(&k, id, slice_of(secret, TOKEN_KEY_MAX)));
	assert_false(token_keys_add(&k, 100, slice_of(secret, TOKEN_KEY_MAX)));
	assert_int_equal(k.count, TOKEN_KEYS_MAX);
}

static void keys_are_read_from_lines(void **state)
{
#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F"
	static const char *const bad[] = {
		":" HEX,           "1" HEX,       "256:" HEX, "01:" HEX,   "-1:" HEX,
		" 1:" HEX,         "1 :" HEX,     "1: " HEX,  "1000:" HEX, "1:" HEX " ",
		"1:" HEX "\r\r",   "1:" HEX "0",  "1:0001",   "1:",        "x:" HEX,
		"1:" HEX HEX "00", "1:g" HEX "0", "1",        " ",         "0x1:" HEX};
	struct token_keys k = {0}, same = keys_one();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(token_keys_add_line(&k, slice_str(bad[i])));
	assert_true(token_keys_add_line(&k, slice_str("")));
	assert_true(token_keys_add_line(&k, slice_str("# 2:" HEX)));
	assert_int_equal(k.count, 0);
	assert_true(token_keys_add_line(&k, slice_str("1:" HEX)));
	assert_memory_equal(k.keys[0].inner, same.keys[0].inner, sizeof(k.keys[0].inner));
	assert_memory_equal(k.keys[0].outer, same.keys[0].outer, sizeof(k.keys[0].outer));
	assert_false(token_keys_add_line(&k, slice_str("1:" HEX)));
	assert_true(token_keys_add_line(&k, slice_str("0:" HEX)));
	assert_true(token_keys_add_line(&k, slice_str("255:" HEX HEX)));
	assert_int_equal(k.count, 3);
#undef HEX
}

/* ---- merging ---- */

static void token_merge_keeps_the_greater_position_of_each_branch(void **state)
{
	struct token a = {.issued_s = NOW}, b = {.issued_s = NOW + 5}, expected = {.issued_s = NOW + 5};
	token_add(&a, branch(1, 0, 100));
	token_add(&a, branch(2, 90, 150));
	token_add(&b, branch(2, 80, 300));
	token_add(&b, branch(2, 90, 140));
	token_add(&b, branch(1, 0, 101));
	token_add(&expected, branch(1, 0, 101));
	token_add(&expected, branch(2, 80, 300));
	token_add(&expected, branch(2, 90, 150));
	struct token ab = a, ba = b;
	token_merge(&ab, &b);
	token_merge(&ba, &a);
	assert_same(&ab, &expected);
	assert_same(&ba, &expected);
}

static void token_merge_of_too_much_is_primary(void **state)
{
	struct token full = token_many(TOKEN_BRANCHES_MAX), more = {0}, one = token_many(1);
	token_merge(&full, &one);
	assert_int_equal(full.count, TOKEN_BRANCHES_MAX);
	token_add(&more, branch(1, 0, 100));
	token_merge(&full, &more);
	assert_true(full.primary && full.count == 0);
	token_merge(&one, &full);
	assert_true(one.primary && one.count == 0);
	token_merge(&full, &more);
	assert_true(full.primary);
}

static void token_add_of_what_does_not_fit_is_primary(void **state)
{
	const struct token_branch bad[] = {
		{CLUSTER, 0, {0}, {1}},
		{CLUSTER, TOKEN_TIMELINE_MAX + 1, {0}, {1}},
		{TOKEN_CLUSTER_MASK + 1, 1, {0}, {1}},
		{CLUSTER, 1, {0}, {0}},
	};
	const struct token_branch greatest = {
		TOKEN_CLUSTER_MASK, TOKEN_TIMELINE_MAX, {UINT64_MAX}, {UINT64_MAX}};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct token t = token_one();
		token_add(&t, bad[i]);
		assert_true(t.primary && t.count == 0);
		token_add(&t, greatest);
		assert_true(t.primary && t.count == 0);
	}
	struct token t = token_one();
	token_add(&t, greatest);
	assert_false(t.primary);
	assert_int_equal(t.count, 2);
}

static void token_covers_what_it_has_seen(void **state)
{
	struct token none = {0}, primary = {.primary = true}, low = {0}, high = {0}, other = {0}, all;
	token_add(&low, branch(1, 0, 100));
	token_add(&high, branch(1, 0, 200));
	token_add(&other, branch(2, 90, 300));
	all = high;
	token_merge(&all, &other);
	assert_true(token_covers(&none, &none) && token_covers(&low, &none) &&
	            token_covers(&low, &low) && token_covers(&high, &low) && token_covers(&all, &low) &&
	            token_covers(&all, &other));
	assert_false(token_covers(&none, &low) || token_covers(&low, &high) ||
	             token_covers(&other, &low) || token_covers(&low, &other) ||
	             token_covers(&high, &all));
	assert_true(token_covers(&primary, &all) && token_covers(&primary, &primary));
	assert_false(token_covers(&all, &primary) || token_covers(&none, &primary));
}

/* ---- lists ---- */

static enum token_verdict verify_list(const char *text, struct token *t)
{
	struct token_keys k = keys_one();
	return token_verify_list(slice_str(text), &k, no_name, NOW, 0, t);
}

#define ONE "EAFpVbkAEjRWeJq8AAACAAAAAAMAAUgAAAAWs3TYSNdWKe4t8g9t-qd_ibMNH24"

static void token_list_counts_all_of_it(void **state)
{
	struct token_keys k = keys_one();
	struct token a = token_one(), b = token_many(3), merged = a, u;
	char text[2 * TOKEN_TEXT_MAX];
	token_sign(&a, &k, no_name, text);
	size_t len = strlen(text);
	text[len] = ',';
	token_sign(&b, &k, no_name, text + len + 1);
	token_merge(&merged, &b);
	assert_int_equal(verify_list(text, &u), TOKEN_OK);
	assert_same(&u, &merged);
	assert_int_equal(verify_list(ONE "," ONE, &u), TOKEN_OK);
	assert_same(&u, &a);
}

static void token_list_is_as_good_as_its_worst(void **state)
{
	static const struct {
		const char *text;
		enum token_verdict v;
	} cases[] = {
		{ONE ",", TOKEN_MALFORMED},
		{"," ONE, TOKEN_MALFORMED},
		{",", TOKEN_MALFORMED},
		{ONE ",," ONE, TOKEN_MALFORMED},
		{ONE ", " ONE, TOKEN_MALFORMED},
		{ONE ",primary", TOKEN_PRIMARY},
		{"primary," ONE, TOKEN_PRIMARY},
		{"primary,x", TOKEN_PRIMARY},
		{"x,primary", TOKEN_MALFORMED},
		{ONE "," ONE "," ONE "," ONE "," ONE "," ONE "," ONE "," ONE, TOKEN_OK},
		{"primary," ONE "," ONE "," ONE "," ONE "," ONE "," ONE "," ONE "," ONE, TOKEN_MALFORMED},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct token t;
		assert_int_equal(verify_list(cases[i].text, &t), cases[i].v);
		assert_int_equal(t.primary, cases[i].v != TOKEN_OK);
		assert_int_equal(t.count, cases[i].v == TOKEN_OK);
	}
}

static void token_list_of_the_greatest_length_is_taken(void **state)
{
	struct token_keys k = keys_one();
	struct token full = token_many(TOKEN_BRANCHES_MAX), more = {.issued_s = NOW}, u;
	char text[TOKEN_LIST_TEXT_MAX + 2], *at = text;
	for (int i = 0; i < TOKEN_LIST_MAX; i++) {
		token_sign(&full, &k, no_name, at);
		at += strlen(at);
		*at++ = ',';
	}
	assert_int_equal(at - text, TOKEN_LIST_TEXT_MAX + 1);
	at[-1] = '\0';
	assert_int_equal(verify_list(text, &u), TOKEN_OK);
	assert_same(&u, &full);
	at[-1] = 'A';
	at[0] = '\0';
	assert_int_equal(verify_list(text, &u), TOKEN_MALFORMED);

	/* All good, but more branches together than fit. */
	token_add(&more, branch(1, 0, 1));
	token_sign(&more, &k, no_name, text + TOKEN_TEXT_MAX);
	assert_int_equal(verify_list(text + TOKEN_TEXT_MAX, &u), TOKEN_OK);
	assert_int_equal(verify_list(text, &u), TOKEN_PRIMARY);
	assert_true(u.primary && u.count == 0);
}

static void verdicts_have_names(void **state)
{
	for (int v = 0; v < TOKEN_VERDICTS; v++)
		assert_true(strlen(token_verdict_name((enum token_verdict)v)) > 1);
	assert_string_equal(token_verdict_name(TOKEN_OK), "ok");
	assert_string_equal(token_verdict_name(TOKEN_PRIMARY), "primary");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(token_is_signed_as_specified),
		cmocka_unit_test(token_comes_back_as_it_was_signed),
		cmocka_unit_test(token_that_asks_for_nothing_is_the_empty_text),
		cmocka_unit_test(token_without_a_key_asks_for_the_primary),
		cmocka_unit_test(token_of_flag_primary_is_primary_once_it_is_believed),
		cmocka_unit_test(token_refuses_every_truncation),
		cmocka_unit_test(token_refuses_every_other_character),
		cmocka_unit_test(token_bound_is_good_with_its_name_only),
		cmocka_unit_test(token_bound_keeps_its_name_apart_from_its_branches),
		cmocka_unit_test(token_expires_after_its_time_to_live),
		cmocka_unit_test(token_issued_outside_32_bits_is_issued_at_the_nearest_end),
		cmocka_unit_test(token_is_read_without_being_believed),
		cmocka_unit_test(keys_replaced_in_three_steps_refuse_no_token),
		cmocka_unit_test(keys_have_limits),
		cmocka_unit_test(keys_are_read_from_lines),
		cmocka_unit_test(token_merge_keeps_the_greater_position_of_each_branch),
		cmocka_unit_test(token_merge_of_too_much_is_primary),
		cmocka_unit_test(token_add_of_what_does_not_fit_is_primary),
		cmocka_unit_test(token_covers_what_it_has_seen),
		cmocka_unit_test(token_list_counts_all_of_it),
		cmocka_unit_test(token_list_is_as_good_as_its_worst),
		cmocka_unit_test(token_list_of_the_greatest_length_is_taken),
		cmocka_unit_test(verdicts_have_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
