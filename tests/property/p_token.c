/* SPDX-License-Identifier: PostgreSQL
 *
 * The laws of merging, which must also convict merges that are known to be bad; signing and
 * verifying against OpenSSL's HMAC; and bytes of all kinds for the readers.
 */
#include "consistency/token.h"
#include "property.h"

#include <openssl/hmac.h>

#define NOW INT64_C(1767225600)

/* ================= tokens ================= */

/* From a world so small that branches meet. */
static struct token_branch any_branch(void)
{
	uint32_t timeline = 1 + (uint32_t)below(2);
	return (struct token_branch){
		(uint64_t)below(4), timeline, {timeline == 1 ? 0 : 50 + any() % 2}, {1 + any() % 4}};
}

static struct token any_token(void)
{
	struct token t = {.issued_s = NOW + below(100)};
	for (int64_t n = below(TOKEN_BRANCHES_MAX + 1); n > 0; n--)
		token_add(&t, any_branch());
	if (one_in(20))
		t = (struct token){.primary = true, .issued_s = t.issued_s};
	return t;
}

static bool same(const struct token *a, const struct token *b)
{
	bool equal = a->primary == b->primary && a->count == b->count && a->issued_s == b->issued_s;
	for (int i = 0; equal && i < a->count; i++) {
		const struct token_branch *x = &a->branches[i], *y = &b->branches[i];
		equal = x->cluster == y->cluster && x->timeline == y->timeline &&
		        x->fork.lsn == y->fork.lsn && x->at.lsn == y->at.lsn;
	}
	return equal;
}

/* ================= merging ================= */

/* The naive model: how far a token has seen each branch of the small world, in a table. */
struct table {
	bool primary;
	int count;
	int64_t issued_s;
	uint64_t at[4][2][2];
};

static struct table table_of(const struct token *t)
{
	struct table w = {.primary = t->primary, .issued_s = t->issued_s};
	for (int i = 0; i < t->count; i++) {
		const struct token_branch *b = &t->branches[i];
		w.at[b->cluster][b->timeline - 1][b->fork.lsn % 2] = b->at.lsn;
		w.count++;
	}
	return w;
}

static struct table table_union(const struct table *a, const struct table *b)
{
	const uint64_t *x = &a->at[0][0][0], *y = &b->at[0][0][0];
	struct table w = {.primary = a->primary || b->primary,
	                  .issued_s = a->issued_s > b->issued_s ? a->issued_s : b->issued_s};
	uint64_t *z = &w.at[0][0][0];
	for (size_t i = 0; i < sizeof(w.at) / sizeof(uint64_t); i++) {
		z[i] = x[i] > y[i] ? x[i] : y[i];
		w.count += z[i] != 0;
	}
	if (w.primary || w.count > TOKEN_BRANCHES_MAX)
		w = (struct table){.primary = true, .issued_s = w.issued_s};
	return w;
}

typedef void (*merge_fn)(struct token *into, const struct token *from);

static struct token merged(merge_fn merge, const struct token *a, const struct token *b)
{
	struct token t = *a;
	merge(&t, b);
	return t;
}

/* The first law that `merge` breaks, or NULL. */
static const char *broken_law(merge_fn merge, const struct token *a, const struct token *b,
                              const struct token *c)
{
	struct token ab = merged(merge, a, b), ba = merged(merge, b, a), aa = merged(merge, a, a);
	struct token bc = merged(merge, b, c);
	struct token ab_c = merged(merge, &ab, c), a_bc = merged(merge, a, &bc);
	struct table wa = table_of(a), wb = table_of(b), wab = table_of(&ab);
	struct table expected = table_union(&wa, &wb);

	if (!same(&ab, &ba))
		return "commutative";
	if (!same(&aa, a))
		return "idempotent";
	if (!same(&ab_c, &a_bc))
		return "associative";
	if (!token_covers(&ab, a) || !token_covers(&ab, b))
		return "never below either side";
	if (memcmp(&wab, &expected, sizeof(wab)) != 0)
		return "as the table has it";
	return NULL;
}

static void merge_min(struct token *into, const struct token *from)
{
	struct token was = *into;
	token_merge(into, from);
	for (int i = 0; i < into->count; i++) {
		for (int j = 0; j < was.count + from->count; j++) {
			const struct token_branch *b =
				j < was.count ? &was.branches[j] : &from->branches[j - was.count];
			struct token_branch *to = &into->branches[i];
			if (b->cluster == to->cluster && b->timeline == to->timeline &&
			    b->fork.lsn == to->fork.lsn && b->at.lsn < to->at.lsn)
				to->at = b->at;
		}
	}
}

/* Forgets the branch that is least far instead of giving up. */
static void merge_drops_smallest(struct token *into, const struct token *from)
{
	struct token was = *into;
	token_merge(into, from);
	if (!into->primary || was.primary || from->primary)
		return;
	int least = 0;
	for (int i = 1; i < was.count; i++) {
		if (was.branches[i].at.lsn < was.branches[least].at.lsn)
			least = i;
	}
	memmove(&was.branches[least], &was.branches[least + 1],
	        (size_t)(was.count - least - 1) * sizeof(was.branches[0]));
	was.count--;
	*into = was;
	merge_drops_smallest(into, from);
}

static void merge_ignores_primary(struct token *into, const struct token *from)
{
	if (!from->primary)
		token_merge(into, from);
}

static void merge_takes_the_last(struct token *into, const struct token *from)
{
	token_merge(into, from);
	for (int i = 0; i < into->count; i++) {
		for (int j = 0; j < from->count; j++) {
			if (token_covers(&(struct token){.count = 1, .branches = {into->branches[i]}},
			                 &(struct token){.count = 1, .branches = {from->branches[j]}}))
				into->branches[i].at = from->branches[j].at;
		}
	}
}

static void merge_forgets_time(struct token *into, const struct token *from)
{
	int64_t issued_s = into->issued_s;
	token_merge(into, from);
	into->issued_s = issued_s;
}

/* Takes two forks of a timeline for one. */
static void merge_ignores_forks(struct token *into, const struct token *from)
{
	struct token t = *from;
	for (int i = 0; i < t.count; i++) {
		for (int j = 0; j < into->count; j++) {
			if (t.branches[i].cluster == into->branches[j].cluster &&
			    t.branches[i].timeline == into->branches[j].timeline) {
				into->branches[j].at = position_max(into->branches[j].at, t.branches[i].at);
				memmove(&t.branches[i], &t.branches[i + 1],
				        (size_t)(t.count - i - 1) * sizeof(t.branches[0]));
				t.count--;
				i--;
				break;
			}
		}
	}
	token_merge(into, &t);
}

static void bad_merges_are_convicted(void)
{
	static const struct {
		const char *name;
		merge_fn merge;
	} bad[] = {
		{"min", merge_min},
		{"drops smallest", merge_drops_smallest},
		{"ignores primary", merge_ignores_primary},
		{"takes the last", merge_takes_the_last},
		{"forgets time", merge_forgets_time},
		{"ignores forks", merge_ignores_forks},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *law = NULL;
		for (uint64_t seed = 1; law == NULL && seed <= 1000; seed++) {
			property_start(seed);
			struct token a = any_token(), b = any_token(), c = any_token();
			law = broken_law(bad[i].merge, &a, &b, &c);
		}
		require(law != NULL, "the merge that \"%s\" keeps all laws", bad[i].name);
	}
}

static void merging(void)
{
	struct token a = any_token(), b = any_token(), c = any_token(), none = {.issued_s = NOW};
	const char *law = broken_law(token_merge, &a, &b, &c);
	require(law == NULL, "not %s", law);
	struct token with_none = merged(token_merge, &a, &none), ab = merged(token_merge, &a, &b);
	require(same(&with_none, &a), "merging nothing changes it");
	/* To cover is to gain nothing by merging. */
	ab.issued_s = a.issued_s;
	require(token_covers(&a, &b) == same(&ab, &a), "covers");
}

/* ================= the text ================= */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Bit by bit. */
static size_t naive_decode(const char *text, uint8_t *out)
{
	size_t bits = strlen(text) * 6;
	memset(out, 0, bits / 8 + 1);
	for (size_t i = 0; i < bits; i++) {
		long digit = strchr(digits, text[i / 6]) - digits;
		if (digit >> (5 - i % 6) & 1)
			out[i / 8] |= (uint8_t)(0x80 >> i % 8);
	}
	return bits / 8;
}

static void naive_encode(const uint8_t *in, size_t n, char *out)
{
	size_t len = (n * 8 + 5) / 6;
	for (size_t i = 0; i < len; i++) {
		int digit = 0;
		for (size_t bit = i * 6; bit < i * 6 + 6; bit++)
			digit = digit << 1 | (bit < n * 8 && in[bit / 8] >> (7 - bit % 8) & 1);
		out[i] = digits[digit];
	}
	out[len] = '\0';
}

/* ================= signing ================= */

struct scene {
	uint8_t secret[TOKEN_KEY_MAX];
	size_t secret_len;
	struct token_keys keys;
	uint8_t name[200];
	struct slice session;
	struct token token;
	char text[TOKEN_TEXT_MAX];
};

static struct token_branch any_wide_branch(void)
{
	uint32_t timeline = 1 + (uint32_t)(any() % TOKEN_TIMELINE_MAX) % (1u << below(25));
	return (struct token_branch){any() & TOKEN_CLUSTER_MASK,
	                             timeline,
	                             {any() >> below(64)},
	                             {1 + (any() >> (1 + below(63)))}};
}

static void scene_init(struct scene *s)
{
	*s = (struct scene){.token.issued_s = below(INT64_C(1) << 32)};
	s->secret_len = (size_t)(TOKEN_KEY_MIN + below(TOKEN_KEY_MAX - TOKEN_KEY_MIN + 1));
	for (size_t i = 0; i < s->secret_len; i++)
		s->secret[i] = (uint8_t)any();
	require(token_keys_add(&s->keys, (uint8_t)any(), slice_of(s->secret, s->secret_len)), "key");
	s->session = slice_of(s->name, one_in(2) ? 0 : (size_t)below(sizeof(s->name)));
	for (size_t i = 0; i < s->session.len; i++)
		s->name[i] = (uint8_t)any();
	for (int64_t n = 1 + below(TOKEN_BRANCHES_MAX); n > 0; n--)
		token_add(&s->token, one_in(2) ? any_branch() : any_wide_branch());
	token_sign(&s->token, &s->keys, s->session, s->text);
}

static enum token_verdict verify(const struct scene *s, struct slice text, struct token *out)
{
	/* A buffer of exactly this size: AddressSanitizer sees what is read beyond. */
	uint8_t *exact = malloc(text.len ? text.len : 1);
	require(exact != NULL, "memory");
	if (text.len)
		memcpy(exact, text.ptr, text.len);
	enum token_verdict v =
		token_verify(slice_of(exact, text.len), &s->keys, s->session, s->token.issued_s, 1, out);
	require(v == TOKEN_OK || (out->primary && out->count == 0), "refused, but not primary");
	free(exact);
	return v;
}

static void signing(void)
{
	struct scene s;
	struct token out;
	uint8_t raw[TOKEN_TEXT_MAX], message[TOKEN_TEXT_MAX + sizeof(s.name)], mac[EVP_MAX_MD_SIZE];
	char text[TOKEN_TEXT_MAX];
	unsigned mac_len = 0;
	scene_init(&s);
	require(verify(&s, slice_str(s.text), &out) == TOKEN_OK && same(&out, &s.token), "%s", s.text);
	require(strlen(s.text) == (22 + 25 * (size_t)s.token.count) * 4 / 3 + (s.token.count % 3 != 2),
	        "length of %s", s.text);

	size_t len = naive_decode(s.text, raw), n = len - 16;
	naive_encode(raw, len, text);
	require(strcmp(text, s.text) == 0, "%s is not %s", s.text, text);
	memcpy(message, raw, n);
	if (s.session.len > 0) {
		memcpy(message + n, s.name, s.session.len);
		n += s.session.len;
		memcpy(message + n, (uint8_t[4]){0, 0, 0, (uint8_t)s.session.len}, 4);
		n += 4;
	}
	HMAC(EVP_sha256(), s.secret, (int)s.secret_len, message, n, mac, &mac_len);
	require(memcmp(mac, raw + len - 16, 16) == 0, "HMAC of %s", s.text);
}

/* ================= damage ================= */

static void flipped_bits(void)
{
	struct scene s;
	struct token out;
	uint8_t raw[TOKEN_TEXT_MAX];
	char text[TOKEN_TEXT_MAX];
	scene_init(&s);
	size_t len = naive_decode(s.text, raw);
	for (size_t bit = 0; bit < len * 8; bit++) {
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
		naive_encode(raw, len, text);
		require(verify(&s, slice_str(text), &out) != TOKEN_OK, "bit %zu of %s", bit, s.text);
		raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	memcpy(text, s.text, sizeof(text));
	for (size_t bit = 0; bit < strlen(s.text) * 8; bit++) {
		text[bit / 8] ^= (char)(1 << bit % 8);
		require(verify(&s, slice_of(text, strlen(s.text)), &out) != TOKEN_OK,
		        "bit %zu of the text %s", bit, s.text);
		text[bit / 8] ^= (char)(1 << bit % 8);
	}
}

/* Front and back, of the text and of the bytes. */
static void truncations(void)
{
	struct scene s;
	struct token out;
	uint8_t raw[TOKEN_TEXT_MAX];
	char text[TOKEN_TEXT_MAX];
	scene_init(&s);
	size_t len = strlen(s.text), bytes = naive_decode(s.text, raw);
	for (size_t n = 0; n < len; n++) {
		require(verify(&s, slice_of(s.text, n), &out) != TOKEN_OK, "%zu of %s", n, s.text);
		require(verify(&s, slice_of(s.text + len - n, n), &out) != TOKEN_OK, "last %zu of %s", n,
		        s.text);
	}
	for (size_t n = 0; n < bytes; n++) {
		naive_encode(raw, n, text);
		require(verify(&s, slice_str(text), &out) != TOKEN_OK, "%zu bytes of %s", n, s.text);
	}
}

/* ================= lists ================= */

static void lists(void)
{
	struct scene s;
	struct token expected = {0}, out;
	char text[TOKEN_LIST_TEXT_MAX + TOKEN_TEXT_MAX + 2], *at = text;
	int64_t n = 1 + below(TOKEN_LIST_MAX + 1);
	bool primary = false;
	scene_init(&s);
	for (int64_t i = 0; i < n; i++) {
		struct token t = any_token();
		while (!t.primary && t.count == 0)
			t = any_token();
		primary = primary || t.primary;
		token_merge(&expected, &t);
		token_sign(&t, &s.keys, s.session, at);
		at += strlen(at);
		*at++ = ',';
	}
	*--at = '\0';
	enum token_verdict v = token_verify_list(slice_of(text, (size_t)(at - text)), &s.keys,
	                                         s.session, NOW + 50, 0, &out);
	if (n > TOKEN_LIST_MAX)
		require(v == TOKEN_MALFORMED && out.primary, "%s", text);
	else if (expected.primary)
		require(v == TOKEN_PRIMARY && out.primary && out.count == 0, "%s", text);
	else
		require(v == TOKEN_OK && same(&out, &expected), "%s", text);
}

/* ================= anything ================= */

/* Bytes that look more or less like a list of tokens. */
static size_t any_text(const struct scene *s, char *out, size_t cap)
{
	size_t len = 0, want = (size_t)below(one_in(8) ? (int64_t)cap : 400);
	while (len < want) {
		size_t room = cap - len, n = 1;
		if (one_in(20)) {
			n = strlen(s->text) < room ? strlen(s->text) : room;
			memcpy(out + len, s->text, n);
		} else if (one_in(40)) {
			n = room < 7 ? room : 7;
			memcpy(out + len, TOKEN_PRIMARY_TEXT, n);
		} else {
			out[len] = one_in(30) ? ',' : one_in(60) ? (char)any() : digits[below(64)];
		}
		len += n;
	}
	return len;
}

static size_t damaged_text(const struct scene *s, char *out)
{
	size_t len = strlen(s->text);
	memcpy(out, s->text, len);
	for (int64_t n = below(4); n >= 0; n--)
		out[below((int64_t)len)] = one_in(4) ? (char)any() : digits[below(64)];
	return one_in(4) ? (size_t)below((int64_t)len + 1) : len;
}

static void anything(void)
{
	static char text[2 * TOKEN_LIST_TEXT_MAX];
	struct scene s;
	struct token out, read;
	struct token_header h;
	scene_init(&s);
	bool wild = one_in(2);
	size_t len = wild ? any_text(&s, text, sizeof(text)) : damaged_text(&s, text);
	bool intact = len == strlen(s.text) && memcmp(text, s.text, len) == 0;
	uint8_t *exact = malloc(len ? len : 1);
	require(exact != NULL, "memory");
	memcpy(exact, text, len);
	struct slice slice = slice_of(exact, len);

	enum token_verdict v = verify(&s, slice, &out);
	require((v == TOKEN_OK) == intact, "%.*s", (int)len, text);
	bool readable = token_read(slice, &read, &h);
	require(readable || v == TOKEN_MALFORMED || v == TOKEN_PRIMARY, "%.*s", (int)len, text);
	require(!readable || v != TOKEN_MALFORMED, "%.*s", (int)len, text);
	v = token_verify_list(slice, &s.keys, s.session, s.token.issued_s, 0, &out);
	require(v != TOKEN_OK || len == 0 || memmem(text, len, s.text, strlen(s.text)), "%.*s",
	        (int)len, text);
	struct token_keys k = s.keys;
	require(!token_keys_add_line(&k, slice) || k.count == 1 || memchr(text, ':', len), "a key");
	free(exact);
}

static void run(void)
{
	merging();
	signing();
	lists();
	anything();
	if (one_in(100)) {
		flipped_bits();
		truncations();
	}
}

int main(int argc, char **argv)
{
	bad_merges_are_convicted();
	property_run(argc, argv, 10000, run);
	return 0;
}
