/* SPDX-License-Identifier: PostgreSQL
 *
 * The library as a program sees it: tidemark.h and the shared object, nothing else.
 */
#include "tidemark.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#define NOW INT64_C(1767225600)
#define TTL 3600
#define SECRET "0123456789abcdef"

static struct tidemark_keys key_of(uint8_t id)
{
	struct tidemark_keys k = TIDEMARK_INIT;
	assert_int_equal(tidemark_keys_add(&k, id, SECRET, strlen(SECRET)), TIDEMARK_OK);
	return k;
}

/* On clusters first … first + n - 1. */
static struct tidemark_token token_of(uint64_t first, int n, uint64_t position)
{
	struct tidemark_token t = TIDEMARK_INIT;
	for (int i = 0; i < n; i++)
		assert_int_equal(tidemark_token_add(&t, first + (uint64_t)i, 1, 0, position, NOW),
		                 TIDEMARK_OK);
	return t;
}

static void sign_to(char out[TIDEMARK_TOKEN_SIZE], uint64_t first, int n, uint64_t position)
{
	struct tidemark_keys k = key_of(1);
	struct tidemark_token t = token_of(first, n, position);
	assert_int_equal(tidemark_token_sign(&t, &k, NULL, out, TIDEMARK_TOKEN_SIZE), TIDEMARK_OK);
}

/* ================= buffers ================= */

/* Whatever writes `text` into any buffer. */
typedef enum tidemark_status (*writer)(char *out, size_t cap);

static void check_writer(writer write, const char *text)
{
	size_t fits = strlen(text) + 1;
	char out[TIDEMARK_LIST_SIZE + 1];

	for (size_t cap = 0; cap <= fits; cap++) {
		memset(out, '#', sizeof(out));
		enum tidemark_status s = write(cap ? out : NULL, cap);
		assert_int_equal(s, cap < fits ? TIDEMARK_TOO_SMALL : TIDEMARK_OK);
		if (cap == fits)
			assert_string_equal(out, text);
		else if (cap >= TIDEMARK_PRIMARY_SIZE)
			assert_string_equal(out, "primary");
		else if (cap > 0)
			assert_string_equal(out, "");
		assert_int_equal(out[cap], '#');
	}
}

static enum tidemark_status write_signed(char *out, size_t cap)
{
	struct tidemark_keys k = key_of(1);
	struct tidemark_token t = token_of(1, TIDEMARK_BRANCHES_MAX, 100);
	return tidemark_token_sign(&t, &k, "cart", out, cap);
}

static void the_longest_token_fits_and_one_byte_less_does_not(void **state)
{
	char text[TIDEMARK_TOKEN_SIZE];
	assert_int_equal(write_signed(text, sizeof(text)), TIDEMARK_OK);
	assert_int_equal(strlen(text), TIDEMARK_TOKEN_SIZE - 1);
	check_writer(write_signed, text);
}

static char eight[8][TIDEMARK_TOKEN_SIZE];

static enum tidemark_status write_merged(char *out, size_t cap)
{
	const char *texts[8];
	for (int i = 0; i < 8; i++)
		texts[i] = eight[i];
	return tidemark_merge(texts, 8, out, cap);
}

static void the_longest_list_fits_and_one_byte_less_does_not(void **state)
{
	char text[TIDEMARK_LIST_SIZE];
	for (int i = 0; i < 8; i++)
		sign_to(eight[i], 1 + (uint64_t)i * 8, 8, 100);
	assert_int_equal(write_merged(text, sizeof(text)), TIDEMARK_OK);
	assert_int_equal(strlen(text), TIDEMARK_LIST_SIZE - 1);
	check_writer(write_merged, text);
}

static enum tidemark_status write_merged_signed(char *out, size_t cap)
{
	struct tidemark_keys k = key_of(1);
	const char *texts[] = {eight[0], NULL, ""};
	return tidemark_merge_signed(texts, 3, &k, NULL, NOW, TTL, out, cap);
}

static void the_longest_signed_merge_fits_and_one_byte_less_does_not(void **state)
{
	sign_to(eight[0], 1, 8, 100);
	check_writer(write_merged_signed, eight[0]);
}

static enum tidemark_status write_nothing(char *out, size_t cap)
{
	return tidemark_merge(NULL, 0, out, cap);
}

static enum tidemark_status write_primary(char *out, size_t cap)
{
	const char *texts[] = {"?"};
	return tidemark_merge(texts, 1, out, cap);
}

static void the_short_results_fit_and_one_byte_less_does_not(void **state)
{
	check_writer(write_nothing, "");
	check_writer(write_primary, "primary");
}

/* ================= keys ================= */

#define HEX_A "61616161616161616161616161616161"
#define HEX_B "62626262626262626262626262626262"

static enum tidemark_status load(struct tidemark_keys *k, const char *file, size_t *line)
{
	return tidemark_keys_load(k, file, strlen(file), line);
}

static void a_key_file_is_read_with_or_without_its_last_newline(void **state)
{
	static const char *const files[] = {
		"# keys\n\n7:" HEX_A "\n8:" HEX_B "\n",
		"# keys\n\n7:" HEX_A "\n8:" HEX_B,
		"7:" HEX_A "\r\n8:" HEX_B "\r\n",
	};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct tidemark_keys k = TIDEMARK_INIT;
		struct tidemark_token t = token_of(1, 1, 100);
		char text[TIDEMARK_TOKEN_SIZE];
		assert_int_equal(load(&k, files[i], NULL), TIDEMARK_OK);
		assert_int_equal(tidemark_token_sign(&t, &k, NULL, text, sizeof(text)), TIDEMARK_OK);
		assert_int_equal(tidemark_token_parse(&t, text), TIDEMARK_OK);
		assert_int_equal(tidemark_token_key_id(&t), 7);
	}
}

static void a_bad_line_is_told_and_leaves_the_keys_as_they_were(void **state)
{
	static const struct {
		const char *file;
		enum tidemark_status status;
		size_t line;
	} cases[] = {
		{"7:" HEX_A "\n\n8 " HEX_B "\n9:" HEX_B, TIDEMARK_BAD_KEY, 3},
		{"7:" HEX_A "\n7:" HEX_B, TIDEMARK_BAD_KEY, 2},
		{"1:" HEX_A, TIDEMARK_BAD_KEY, 1}, /* the one that is there already */
		{"7:616161616161616161616161616161", TIDEMARK_BAD_KEY, 1},
		{"", TIDEMARK_NO_KEY, 0},
		{"# none\n\n", TIDEMARK_NO_KEY, 2},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tidemark_keys k = key_of(1), before = k;
		size_t line = 99;
		assert_int_equal(load(&k, cases[i].file, &line), cases[i].status);
		assert_int_equal(line, cases[i].line);
		assert_memory_equal(&k, &before, sizeof(k));
	}
}

static void there_are_eight_keys_and_no_ninth(void **state)
{
	struct tidemark_keys k = TIDEMARK_INIT;
	uint8_t secret[TIDEMARK_KEY_MAX + 1] = {1};
	for (uint8_t id = 0; id < TIDEMARK_KEYS_MAX; id++)
		assert_int_equal(tidemark_keys_add(&k, id, secret, TIDEMARK_KEY_MAX), TIDEMARK_OK);
	assert_int_equal(tidemark_keys_add(&k, 99, secret, TIDEMARK_KEY_MAX), TIDEMARK_BAD_KEY);
	struct tidemark_keys l = TIDEMARK_INIT;
	assert_int_equal(tidemark_keys_add(&l, 1, secret, TIDEMARK_KEY_MIN - 1), TIDEMARK_BAD_KEY);
	assert_int_equal(tidemark_keys_add(&l, 1, secret, TIDEMARK_KEY_MAX + 1), TIDEMARK_BAD_KEY);
	assert_int_equal(tidemark_keys_add(&l, 1, secret, TIDEMARK_KEY_MIN), TIDEMARK_OK);
}

static void wiped_keys_are_no_keys(void **state)
{
	struct tidemark_keys k = key_of(1), none = TIDEMARK_INIT;
	tidemark_keys_wipe(&k);
	assert_memory_equal(&k, &none, sizeof(k));
}

/* ================= tokens ================= */

static void what_was_only_parsed_is_not_signed(void **state)
{
	struct tidemark_keys k = key_of(1);
	struct tidemark_token t, mine = token_of(1, 1, 100);
	char text[TIDEMARK_TOKEN_SIZE], out[TIDEMARK_TOKEN_SIZE];
	sign_to(text, 2, 1, 100);
	assert_int_equal(tidemark_token_parse(&t, text), TIDEMARK_OK);
	assert_int_equal(tidemark_token_sign(&t, &k, NULL, out, sizeof(out)), TIDEMARK_UNVERIFIED);
	assert_string_equal(out, "primary");

	tidemark_token_merge(&mine, &t);
	assert_int_equal(tidemark_token_sign(&mine, &k, NULL, out, sizeof(out)), TIDEMARK_UNVERIFIED);

	assert_int_equal(tidemark_token_verify(&t, text, &k, NULL, NOW, TTL), TIDEMARK_OK);
	assert_int_equal(tidemark_token_sign(&t, &k, NULL, out, sizeof(out)), TIDEMARK_OK);
	assert_string_equal(out, text);
}

static void every_changed_character_is_noticed(void **state)
{
	struct tidemark_keys k = key_of(1);
	struct tidemark_token t;
	char text[TIDEMARK_TOKEN_SIZE];
	sign_to(text, 1, 2, 100);
	for (char *c = text; *c; c++) {
		char was = *c;
		*c = was == 'A' ? 'B' : 'A';
		assert_int_not_equal(tidemark_token_verify(&t, text, &k, NULL, NOW, TTL), TIDEMARK_OK);
		assert_true(tidemark_token_is_primary(&t));
		*c = was;
	}
	assert_int_equal(tidemark_token_verify(&t, text, &k, NULL, NOW, TTL), TIDEMARK_OK);
}

static void verify_says_what_is_wrong(void **state)
{
	struct tidemark_keys k = key_of(1), other = key_of(2);
	struct tidemark_token t = token_of(1, 1, 100);
	char text[TIDEMARK_TOKEN_SIZE], bound[TIDEMARK_TOKEN_SIZE];
	sign_to(text, 1, 1, 100);
	assert_int_equal(tidemark_token_sign(&t, &k, "cart", bound, sizeof(bound)), TIDEMARK_OK);

	const struct {
		const char *text;
		const struct tidemark_keys *keys;
		const char *session;
		int64_t now;
		enum tidemark_status status;
	} cases[] = {
		{text, &k, NULL, NOW, TIDEMARK_OK},
		{text, &k, "any", NOW, TIDEMARK_OK},
		{bound, &k, "cart", NOW, TIDEMARK_OK},
		{NULL, NULL, NULL, NOW, TIDEMARK_OK},
		{"", &k, "", NOW, TIDEMARK_OK},
		{"token", &k, NULL, NOW, TIDEMARK_MALFORMED},
		{text, &other, NULL, NOW, TIDEMARK_FORGED},
		{text, NULL, NULL, NOW, TIDEMARK_FORGED},
		{bound, &k, "car", NOW, TIDEMARK_BOUND},
		{bound, &k, NULL, NOW, TIDEMARK_BOUND},
		{text, &k, NULL, NOW + TTL, TIDEMARK_OK},
		{text, &k, NULL, NOW + TTL + 1, TIDEMARK_EXPIRED},
		{text, &k, NULL, NOW - 60, TIDEMARK_OK},
		{text, &k, NULL, NOW - 61, TIDEMARK_FUTURE},
		{"primary", &k, NULL, NOW, TIDEMARK_PRIMARY},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(tidemark_token_verify(&t, cases[i].text, cases[i].keys, cases[i].session,
		                                       cases[i].now, TTL),
		                 cases[i].status);
		assert_int_equal(tidemark_token_is_primary(&t), cases[i].status != TIDEMARK_OK);
	}
}

static void a_token_shows_what_is_in_it(void **state)
{
	struct tidemark_keys k = key_of(200);
	struct tidemark_token t = TIDEMARK_INIT;
	struct tidemark_branch b;
	char text[TIDEMARK_TOKEN_SIZE];
	assert_int_equal(tidemark_token_key_id(&t), -1);
	assert_int_equal(tidemark_token_add(&t, UINT64_C(0xabcd123456789abc), 2, 7, 100, NOW),
	                 TIDEMARK_OK);
	assert_int_equal(tidemark_token_add(&t, 1, 1, 0, 50, NOW - 5), TIDEMARK_OK);
	assert_int_equal(tidemark_token_sign(&t, &k, "cart", text, sizeof(text)), TIDEMARK_OK);

	assert_int_equal(tidemark_token_parse(&t, text), TIDEMARK_OK);
	assert_int_equal(tidemark_token_key_id(&t), 200);
	assert_int_equal(tidemark_token_issued(&t), NOW);
	assert_true(tidemark_token_is_bound(&t) && !tidemark_token_is_primary(&t));
	assert_int_equal(tidemark_token_branch_count(&t), 2);
	assert_int_equal(tidemark_token_branch(&t, 0, &b), TIDEMARK_OK);
	assert_true(b.cluster == 1 && b.timeline == 1 && b.fork == 0 && b.position == 50);
	assert_int_equal(tidemark_token_branch(&t, 1, &b), TIDEMARK_OK);
	assert_true(b.cluster == UINT64_C(0x123456789abc) && b.timeline == 2 && b.fork == 7 &&
	            b.position == 100 && b.reserved == 0);
	assert_int_equal(tidemark_token_branch(&t, 2, &b), TIDEMARK_RANGE);
	assert_true(b.cluster == 0 && b.position == 0);
	assert_int_equal(tidemark_token_branch(&t, -1, &b), TIDEMARK_RANGE);
}

static void a_list_is_parsed_as_one(void **state)
{
	char a[TIDEMARK_TOKEN_SIZE], b[TIDEMARK_TOKEN_SIZE], list[TIDEMARK_LIST_SIZE * 2];
	struct tidemark_token t;
	sign_to(a, 1, 1, 100);
	sign_to(b, 2, 1, 100);
	snprintf(list, sizeof(list), "%s,%s", a, b);
	assert_int_equal(tidemark_token_parse(&t, list), TIDEMARK_OK);
	assert_int_equal(tidemark_token_branch_count(&t), 2);
	assert_int_equal(tidemark_token_key_id(&t), -1);

	snprintf(list, sizeof(list), "%s,primary", a);
	assert_int_equal(tidemark_token_parse(&t, list), TIDEMARK_OK);
	assert_true(tidemark_token_is_primary(&t));

	const char *bad[] = {",", "%s,", ",%s", "%s,,%s", "%s, %s", "%s=", "t0-1-2-0/0"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t n = 0;
		for (const char *c = bad[i]; *c; c++) {
			if (*c == '%') {
				n += (size_t)snprintf(list + n, sizeof(list) - n, "%s", a);
				c++;
			} else {
				list[n++] = *c;
			}
		}
		list[n] = '\0';
		assert_int_equal(tidemark_token_parse(&t, list), TIDEMARK_MALFORMED);
		assert_true(tidemark_token_is_primary(&t));
	}
}

static void a_list_has_eight_tokens_and_no_ninth(void **state)
{
	char a[TIDEMARK_TOKEN_SIZE], list[TIDEMARK_LIST_SIZE * 2];
	struct tidemark_keys k = key_of(1);
	struct tidemark_token t;
	size_t n = 0;
	sign_to(a, 1, 1, 100);
	for (int i = 1; i <= 9; i++) {
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i > 1 ? "," : "", a);
		enum tidemark_status expected = i <= 8 ? TIDEMARK_OK : TIDEMARK_MALFORMED;
		assert_int_equal(tidemark_token_parse(&t, list), expected);
		assert_int_equal(tidemark_token_verify(&t, list, &k, NULL, NOW, TTL), expected);
	}
}

static void a_text_that_is_longer_than_any_is_read_no_further(void **state)
{
	static char endless[1 << 20];
	struct tidemark_token t;
	memset(endless, 'A', sizeof(endless)); /* and no NUL */
	assert_int_equal(tidemark_token_parse(&t, endless + sizeof(endless) - TIDEMARK_LIST_SIZE),
	                 TIDEMARK_MALFORMED);
}

static void numbers_out_of_range_make_it_primary(void **state)
{
	static const struct {
		uint32_t timeline;
		uint64_t position;
		enum tidemark_status status;
	} cases[] = {
		{1, 1, TIDEMARK_OK},    {16777215, UINT64_MAX, TIDEMARK_OK},
		{0, 1, TIDEMARK_RANGE}, {16777216, 1, TIDEMARK_RANGE},
		{1, 0, TIDEMARK_RANGE},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tidemark_token t = TIDEMARK_INIT;
		assert_int_equal(tidemark_token_add(&t, 1, cases[i].timeline, 0, cases[i].position, NOW),
		                 cases[i].status);
		assert_int_equal(tidemark_token_is_primary(&t), cases[i].status != TIDEMARK_OK);
	}
}

static void a_ninth_branch_makes_it_primary(void **state)
{
	struct tidemark_token t = token_of(1, 8, 100), nine = token_of(9, 1, 100);
	assert_false(tidemark_token_is_primary(&t));
	assert_true(!tidemark_token_covers(&t, &nine));
	tidemark_token_merge(&t, &nine);
	assert_true(tidemark_token_is_primary(&t));
	assert_int_equal(tidemark_token_branch_count(&t), 0);
	assert_true(tidemark_token_covers(&t, &nine) && !tidemark_token_covers(&nine, &t));
}

static void without_a_key_nothing_is_signed(void **state)
{
	struct tidemark_keys none = TIDEMARK_INIT;
	struct tidemark_token t = token_of(1, 1, 100), nothing = TIDEMARK_INIT;
	const char *texts[] = {"primary"};
	char out[TIDEMARK_TOKEN_SIZE];
	assert_int_equal(tidemark_token_sign(&t, &none, NULL, out, sizeof(out)), TIDEMARK_NO_KEY);
	assert_string_equal(out, "primary");
	assert_int_equal(tidemark_token_sign(&t, NULL, NULL, out, sizeof(out)), TIDEMARK_NO_KEY);
	assert_int_equal(tidemark_merge_signed(texts, 1, NULL, NULL, NOW, TTL, out, sizeof(out)),
	                 TIDEMARK_NO_KEY);
	assert_string_equal(out, "primary");
	assert_int_equal(tidemark_token_sign(&nothing, NULL, NULL, out, sizeof(out)), TIDEMARK_OK);
	assert_string_equal(out, "");
}

static void a_signed_merge_with_something_bad_says_primary(void **state)
{
	struct tidemark_keys k = key_of(1);
	struct tidemark_token t;
	char a[TIDEMARK_TOKEN_SIZE], out[TIDEMARK_TOKEN_SIZE];
	sign_to(a, 1, 1, 100);
	const char *texts[] = {a, "rubbish"};
	assert_int_equal(tidemark_merge_signed(texts, 2, &k, NULL, NOW, TTL, out, sizeof(out)),
	                 TIDEMARK_OK);
	assert_int_equal(tidemark_token_verify(&t, out, &k, NULL, NOW, TTL), TIDEMARK_PRIMARY);
}

/* ================= merging without a key ================= */

/* All orders of `n` texts give the same, and one after the other gives what all at once do. */
static void check_orders(const char *texts[], int n, int fixed, const char *expected)
{
	char out[TIDEMARK_LIST_SIZE];
	if (fixed == n) {
		assert_int_equal(tidemark_merge(texts, (size_t)n, out, sizeof(out)), TIDEMARK_OK);
		assert_string_equal(out, expected);
		out[0] = '\0';
		for (int i = 0; i < n; i++) {
			const char *two[] = {out, texts[i]};
			assert_int_equal(tidemark_merge(two, 2, out, sizeof(out)), TIDEMARK_OK);
		}
		assert_string_equal(out, expected);
	}
	for (int i = fixed; i < n; i++) {
		const char *was = texts[fixed];
		texts[fixed] = texts[i];
		texts[i] = was;
		check_orders(texts, n, fixed + 1, expected);
		was = texts[fixed];
		texts[fixed] = texts[i];
		texts[i] = was;
	}
}

static void a_merge_does_not_depend_on_the_order(void **state)
{
	char old[TIDEMARK_TOKEN_SIZE], new[TIDEMARK_TOKEN_SIZE], both[TIDEMARK_TOKEN_SIZE];
	char other[TIDEMARK_TOKEN_SIZE], expected[TIDEMARK_LIST_SIZE];
	sign_to(old, 1, 1, 99);
	sign_to(new, 1, 1, 100);
	sign_to(both, 1, 2, 100);
	sign_to(other, 7, 1, 5);
	const char *texts[] = {old, new, both, other, ""};
	bool before = strcmp(both, other) < 0;
	snprintf(expected, sizeof(expected), "%s,%s", before ? both : other, before ? other : both);
	check_orders(texts, 5, 0, expected);
}

static void one_that_cannot_be_read_stays_beside_the_others(void **state)
{
	char a[TIDEMARK_TOKEN_SIZE], expected[TIDEMARK_LIST_SIZE];
	sign_to(a, 1, 1, 100);
	const char *texts[] = {"zzLaterVersion", a, "zzLaterVersion"};
	snprintf(expected, sizeof(expected), "%s,zzLaterVersion", a);
	check_orders(texts, 3, 0, expected);
}

static void too_many_texts_make_primary(void **state)
{
	char a[TIDEMARK_TOKEN_SIZE], out[TIDEMARK_LIST_SIZE];
	const char *texts[TIDEMARK_MERGE_MAX + 1];
	sign_to(a, 1, 1, 100);
	for (int i = 0; i <= TIDEMARK_MERGE_MAX; i++)
		texts[i] = a;
	assert_int_equal(tidemark_merge(texts, TIDEMARK_MERGE_MAX, out, sizeof(out)), TIDEMARK_OK);
	assert_string_equal(out, a);
	assert_int_equal(tidemark_merge(texts, TIDEMARK_MERGE_MAX + 1, out, sizeof(out)), TIDEMARK_OK);
	assert_string_equal(out, "primary");
}

/* ================= connections: what needs none ================= */

static void without_a_connection_the_token_is_primary(void **state)
{
	char out[TIDEMARK_LIST_SIZE] = "";
	assert_int_equal(tidemark_after_write(NULL, out, sizeof(out)), TIDEMARK_NO_CONNECTION);
	assert_string_equal(out, "primary");
	assert_int_equal(tidemark_read_after(NULL, "primary"), TIDEMARK_NO_CONNECTION);
	assert_int_equal(tidemark_read_after(NULL, NULL), TIDEMARK_OK);
	assert_int_equal(tidemark_read_after(NULL, ""), TIDEMARK_OK);
}

static void what_cannot_be_a_token_is_not_sent(void **state)
{
	static const char good[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_,/.-";
	char text[TIDEMARK_LIST_SIZE + 1] = "a?c";
	for (int c = 1; c < 256; c++) {
		text[1] = (char)c;
		assert_int_equal(tidemark_read_after(NULL, text),
		                 strchr(good, c) ? TIDEMARK_NO_CONNECTION : TIDEMARK_MALFORMED);
	}
	memset(text, 'A', sizeof(text));
	text[TIDEMARK_LIST_SIZE - 1] = '\0';
	assert_int_equal(tidemark_read_after(NULL, text), TIDEMARK_NO_CONNECTION);
	text[TIDEMARK_LIST_SIZE - 1] = 'A';
	text[TIDEMARK_LIST_SIZE] = '\0';
	assert_int_equal(tidemark_read_after(NULL, text), TIDEMARK_MALFORMED);
}

static void every_status_has_words_of_its_own(void **state)
{
	static const enum tidemark_status all[] = {
		TIDEMARK_OK,
		TIDEMARK_MALFORMED,
		TIDEMARK_FORGED,
		TIDEMARK_BOUND,
		TIDEMARK_EXPIRED,
		TIDEMARK_FUTURE,
		TIDEMARK_PRIMARY,
		TIDEMARK_TOO_SMALL,
		TIDEMARK_BAD_KEY,
		TIDEMARK_NO_KEY,
		TIDEMARK_UNVERIFIED,
		TIDEMARK_RANGE,
		TIDEMARK_NO_CONNECTION,
		TIDEMARK_BUSY,
		TIDEMARK_IN_TRANSACTION,
		TIDEMARK_IN_PIPELINE,
		TIDEMARK_NOT_A_ROUTER,
		TIDEMARK_REFUSED,
	};
	const size_t n = sizeof(all) / sizeof(all[0]);
	const char *unknown = tidemark_strerror((enum tidemark_status)9999);
	for (size_t i = 0; i < n; i++) {
		assert_string_not_equal(tidemark_strerror(all[i]), unknown);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(tidemark_strerror(all[i]), tidemark_strerror(all[j]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_longest_token_fits_and_one_byte_less_does_not),
		cmocka_unit_test(the_longest_list_fits_and_one_byte_less_does_not),
		cmocka_unit_test(the_longest_signed_merge_fits_and_one_byte_less_does_not),
		cmocka_unit_test(the_short_results_fit_and_one_byte_less_does_not),
		cmocka_unit_test(a_key_file_is_read_with_or_without_its_last_newline),
		cmocka_unit_test(a_bad_line_is_told_and_leaves_the_keys_as_they_were),
		cmocka_unit_test(there_are_eight_keys_and_no_ninth),
		cmocka_unit_test(wiped_keys_are_no_keys),
		cmocka_unit_test(what_was_only_parsed_is_not_signed),
		cmocka_unit_test(every_changed_character_is_noticed),
		cmocka_unit_test(verify_says_what_is_wrong),
		cmocka_unit_test(a_token_shows_what_is_in_it),
		cmocka_unit_test(a_list_is_parsed_as_one),
		cmocka_unit_test(a_list_has_eight_tokens_and_no_ninth),
		cmocka_unit_test(a_text_that_is_longer_than_any_is_read_no_further),
		cmocka_unit_test(numbers_out_of_range_make_it_primary),
		cmocka_unit_test(a_ninth_branch_makes_it_primary),
		cmocka_unit_test(without_a_key_nothing_is_signed),
		cmocka_unit_test(a_signed_merge_with_something_bad_says_primary),
		cmocka_unit_test(a_merge_does_not_depend_on_the_order),
		cmocka_unit_test(one_that_cannot_be_read_stays_beside_the_others),
		cmocka_unit_test(too_many_texts_make_primary),
		cmocka_unit_test(without_a_connection_the_token_is_primary),
		cmocka_unit_test(what_cannot_be_a_token_is_not_sent),
		cmocka_unit_test(every_status_has_words_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
