/* SPDX-License-Identifier: PostgreSQL
 *
 * The bytes, from docs/token.md (big-endian; n branches, so 22 + 25 n bytes):
 *
 *   0         1       2             6                              6 + 25 n
 *   ├─────────┼───────┼─────────────┼─── branch ─┬─ … ─────────────┼──────────┤
 *   │ version │ key   │ issued      │ cluster  6 │                 │ HMAC  16 │
 *   │ flags   │ id    │             │ timeline 3 │                 └──────────┘
 *   └─────────┴───────┴─────────────┤ fork     8 │
 *                                   │ at       8 │
 *                                   └────────────┘
 *
 * A token is signed and verified with every statement that carries one, so the HMAC must neither
 * allocate nor look up an algorithm: that is why it is built here from SHA-256 itself, two
 * compressions for a token of one branch.
 */
#include "token.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

/* OpenSSL 3 deprecates SHA256_Init() and its like in favour of EVP, which allocates a context and
 * fetches the algorithm for each digest: several times the cost of the digest itself. (The macro
 * OPENSSL_SUPPRESS_DEPRECATED would come too late here: banned.h has included OpenSSL already.) */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define VERSION 1
#define FLAG_BOUND 1u
#define FLAG_PRIMARY 2u
#define HEADER_LEN 6
#define BRANCH_LEN 25
#define MAC_LEN 16
#define WIRE_MAX (HEADER_LEN + BRANCH_LEN * TOKEN_BRANCHES_MAX + MAC_LEN)
#define TEXT_LEN(n) (((n)*4 + 2) / 3)

static_assert(TEXT_LEN(WIRE_MAX) + 1 == TOKEN_TEXT_MAX, "");
static_assert(TOKEN_LIST_MAX * TOKEN_TEXT_MAX - 1 == TOKEN_LIST_TEXT_MAX, "");

/* ================= base64url without padding ================= */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* A character's digit plus one; 0 for what is not in the alphabet. */
static const uint8_t digit_values[256] = {
	['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
	['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
	['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
	['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
	['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
	['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
	['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
	['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64,
};

/* `out` has room for TEXT_LEN(n) characters and NUL. */
static void base64_encode(const uint8_t *in, size_t n, char *out)
{
	uint32_t bits = 0; /* the low `left` of them are still to be written */
	unsigned left = 0;
	for (size_t i = 0; i < n; i++) {
		bits = bits << 8 | in[i];
		for (left += 8; left >= 6; left -= 6)
			*out++ = digits[bits >> (left - 6) & 63];
	}
	if (left > 0)
		*out++ = digits[bits << (6 - left) & 63];
	*out = '\0';
}

/* There is one text for given bytes: whatever base64_encode() does not write is refused. */
static bool base64_decode(struct slice in, uint8_t *out, size_t cap, size_t *len)
{
	uint32_t bits = 0;
	unsigned left = 0;
	if (in.len % 4 == 1 || in.len / 4 * 3 + in.len % 4 * 3 / 4 > cap)
		return false;
	*len = 0;
	for (size_t i = 0; i < in.len; i++) {
		uint8_t value = digit_values[in.ptr[i]];
		if (value == 0)
			return false;
		bits = bits << 6 | (value - 1u);
		left += 6;
		if (left >= 8) {
			left -= 8;
			out[(*len)++] = (uint8_t)(bits >> left);
		}
	}
	return (bits & ((1u << left) - 1)) == 0;
}

/* ================= numbers ================= */

struct writer {
	uint8_t *at, *end;
};

static void put(struct writer *w, uint64_t value, int bytes)
{
	assert(w->end - w->at >= bytes && (bytes == 8 || value >> (8 * bytes) == 0));
	for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
		*w->at++ = (uint8_t)(value >> shift);
}

/* Whoever takes has checked the length: the number of branches follows from it. */
static uint64_t take(struct slice *s, size_t bytes)
{
	uint64_t value = 0;
	assert(s->len >= bytes);
	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | s->ptr[i];
	*s = slice_from(*s, bytes);
	return value;
}

/* ================= HMAC ================= */

/* The state of SHA-256 after the block that consists of the key, padded with zeros and masked. */
static void hash_key_block(struct slice secret, uint8_t mask, uint32_t state[8])
{
	uint8_t block[SHA256_CBLOCK];
	SHA256_CTX c;
	memset(block, mask, sizeof(block));
	for (size_t i = 0; i < secret.len; i++)
		block[i] ^= secret.ptr[i];
	SHA256_Init(&c);
	SHA256_Transform(&c, block);
	for (int i = 0; i < 8; i++)
		state[i] = c.h[i];
	OPENSSL_cleanse(block, sizeof(block));
	OPENSSL_cleanse(&c, sizeof(c));
}

/* Goes on behind the key's block. */
static void hash_resume(SHA256_CTX *c, const uint32_t state[8])
{
	SHA256_Init(c);
	for (int i = 0; i < 8; i++)
		c->h[i] = state[i];
	c->Nl = SHA256_CBLOCK * 8; /* bits hashed so far */
}

/* The first MAC_LEN bytes of `out` count. `session` is hashed if the token is bound, its length
 * behind it, so that no byte can be moved from one to the other. */
static void token_mac(const struct token_key *key, const uint8_t *body, size_t len, bool bound,
                      struct slice session, uint8_t out[SHA256_DIGEST_LENGTH])
{
	SHA256_CTX c;
	hash_resume(&c, key->inner);
	SHA256_Update(&c, body, len);
	if (bound) {
		uint8_t length[4];
		struct writer w = {length, length + sizeof(length)};
		put(&w, (uint32_t)session.len, sizeof(length));
		SHA256_Update(&c, session.ptr, session.len);
		SHA256_Update(&c, length, sizeof(length));
	}
	SHA256_Final(out, &c);
	hash_resume(&c, key->outer);
	SHA256_Update(&c, out, SHA256_DIGEST_LENGTH);
	SHA256_Final(out, &c);
}

/* ================= keys ================= */

static const struct token_key *find_key(const struct token_keys *k, uint8_t id)
{
	for (int i = 0; i < k->count; i++) {
		if (k->keys[i].id == id)
			return &k->keys[i];
	}
	return NULL;
}

bool token_keys_add(struct token_keys *k, uint8_t id, struct slice secret)
{
	if (secret.len < TOKEN_KEY_MIN || secret.len > TOKEN_KEY_MAX || k->count == TOKEN_KEYS_MAX ||
	    find_key(k, id))
		return false;
	struct token_key *key = &k->keys[k->count++];
	key->id = id;
	hash_key_block(secret, 0x36, key->inner);
	hash_key_block(secret, 0x5c, key->outer);
	return true;
}

/* Takes "0" … "255", without leading zeros, and the ':' behind it. */
static bool take_key_id(struct slice *line, uint8_t *id)
{
	unsigned value = 0;
	size_t n = 0;
	for (; n < line->len && n < 3 && line->ptr[n] >= '0' && line->ptr[n] <= '9'; n++)
		value = value * 10 + (line->ptr[n] - '0');
	if (n == 0 || (n > 1 && line->ptr[0] == '0') || value > UINT8_MAX || n == line->len ||
	    line->ptr[n] != ':')
		return false;
	*id = (uint8_t)value;
	*line = slice_from(*line, n + 1);
	return true;
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 'a' ^ 'A';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_decode(struct slice in, uint8_t *out, size_t cap)
{
	if (in.len % 2 != 0 || in.len / 2 > cap)
		return false;
	for (size_t i = 0; i < in.len; i += 2) {
		int high = hex_value(in.ptr[i]), low = hex_value(in.ptr[i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i / 2] = (uint8_t)(high << 4 | low);
	}
	return true;
}

bool token_keys_add_line(struct token_keys *k, struct slice line)
{
	uint8_t id, secret[TOKEN_KEY_MAX];
	if (line.len > 0 && line.ptr[line.len - 1] == '\r')
		line.len--;
	if (line.len == 0 || line.ptr[0] == '#')
		return true;
	bool ok = take_key_id(&line, &id) && hex_decode(line, secret, sizeof(secret)) &&
	          token_keys_add(k, id, slice_of(secret, line.len / 2));
	OPENSSL_cleanse(secret, sizeof(secret));
	return ok;
}

/* ================= what a token knows ================= */

static bool branch_valid(const struct token_branch *b)
{
	return b->cluster <= TOKEN_CLUSTER_MASK && b->timeline >= 1 &&
	       b->timeline <= TOKEN_TIMELINE_MAX && position_is_set(b->at);
}

/* The order of branches, which `at` is no part of: below, equal to or above 0. */
static int branch_compare(const struct token_branch *a, const struct token_branch *b)
{
	if (a->cluster != b->cluster)
		return a->cluster < b->cluster ? -1 : 1;
	if (a->timeline != b->timeline)
		return a->timeline < b->timeline ? -1 : 1;
	if (a->fork.lsn != b->fork.lsn)
		return a->fork.lsn < b->fork.lsn ? -1 : 1;
	return 0;
}

static void make_primary(struct token *t)
{
	t->primary = true;
	t->count = 0;
}

void token_merge(struct token *into, const struct token *from)
{
	struct token_branch all[2 * TOKEN_BRANCHES_MAX];
	int n = 0, i = 0, j = 0;

	if (from->issued_s > into->issued_s)
		into->issued_s = from->issued_s;
	while (i < into->count || j < from->count) {
		int order = i == into->count   ? 1
		            : j == from->count ? -1
		                               : branch_compare(&into->branches[i], &from->branches[j]);
		all[n] = order <= 0 ? into->branches[i] : from->branches[j];
		if (order == 0)
			all[n].at = position_max(into->branches[i].at, from->branches[j].at);
		i += order <= 0;
		j += order >= 0;
		n++;
	}
	if (into->primary || from->primary || n > TOKEN_BRANCHES_MAX) {
		make_primary(into);
		return;
	}
	memcpy(into->branches, all, (size_t)n * sizeof(all[0]));
	into->count = n;
}

void token_add(struct token *t, struct token_branch b)
{
	if (branch_valid(&b))
		token_merge(t, &(struct token){.count = 1, .issued_s = t->issued_s, .branches = {b}});
	else
		make_primary(t);
}

bool token_covers(const struct token *a, const struct token *b)
{
	if (a->primary || b->primary)
		return a->primary;
	int i = 0;
	for (int j = 0; j < b->count; j++) {
		while (i < a->count && branch_compare(&a->branches[i], &b->branches[j]) < 0)
			i++;
		if (i == a->count || branch_compare(&a->branches[i], &b->branches[j]) != 0 ||
		    !position_reached(a->branches[i].at, b->branches[j].at))
			return false;
	}
	return true;
}

/* ================= signing ================= */

static uint32_t issued_on_wire(int64_t s)
{
	return s < 0 ? 0 : s > UINT32_MAX ? UINT32_MAX : (uint32_t)s;
}

static void put_branch(struct writer *w, const struct token_branch *b)
{
	assert(branch_valid(b));
	put(w, b->cluster, 6);
	put(w, b->timeline, 3);
	put(w, b->fork.lsn, 8);
	put(w, b->at.lsn, 8);
}

void token_sign(const struct token *t, const struct token_keys *k, struct slice session,
                char out[TOKEN_TEXT_MAX])
{
	uint8_t wire[WIRE_MAX], mac[SHA256_DIGEST_LENGTH];
	struct writer w = {wire, wire + sizeof(wire)};
	bool bound = session.len > 0;

	if (!t->primary && t->count == 0) {
		out[0] = '\0';
		return;
	}
	if (k->count == 0) {
		memcpy(out, TOKEN_PRIMARY_TEXT, sizeof(TOKEN_PRIMARY_TEXT));
		return;
	}
	assert(t->count >= 0 && t->count <= TOKEN_BRANCHES_MAX && !(t->primary && t->count > 0));
	put(&w, VERSION << 4 | (bound ? FLAG_BOUND : 0) | (t->primary ? FLAG_PRIMARY : 0), 1);
	put(&w, k->keys[0].id, 1);
	put(&w, issued_on_wire(t->issued_s), 4);
	for (int i = 0; i < t->count; i++)
		put_branch(&w, &t->branches[i]);
	token_mac(&k->keys[0], wire, (size_t)(w.at - wire), bound, session, mac);
	for (int i = 0; i < MAC_LEN; i++)
		put(&w, mac[i], 1);
	base64_encode(wire, (size_t)(w.at - wire), out);
}

/* ================= reading ================= */

struct wire {
	uint8_t bytes[WIRE_MAX];
	size_t len; /* at least HEADER_LEN + MAC_LEN */
};

static bool take_branches(struct slice s, struct token *t)
{
	for (t->count = 0; s.len > 0; t->count++) {
		struct token_branch *b = &t->branches[t->count];
		b->cluster = take(&s, 6);
		b->timeline = (uint32_t)take(&s, 3);
		b->fork.lsn = take(&s, 8);
		b->at.lsn = take(&s, 8);
		if (!branch_valid(b) || (t->count > 0 && branch_compare(b - 1, b) >= 0))
			return false;
	}
	return true;
}

/* Everything about the form; nothing is believed yet. */
static bool take_token(struct slice text, struct wire *wire, struct token *t,
                       struct token_header *h)
{
	if (!base64_decode(text, wire->bytes, sizeof(wire->bytes), &wire->len) ||
	    wire->len < HEADER_LEN + MAC_LEN || (wire->len - HEADER_LEN - MAC_LEN) % BRANCH_LEN != 0)
		return false;
	struct slice s = slice_of(wire->bytes, wire->len - MAC_LEN);
	uint64_t first = take(&s, 1);
	uint64_t flags = first & 15;
	if (first >> 4 != VERSION || (flags & ~(uint64_t)(FLAG_BOUND | FLAG_PRIMARY)) != 0)
		return false;
	h->bound = flags & FLAG_BOUND;
	h->key_id = (uint8_t)take(&s, 1);
	t->primary = flags & FLAG_PRIMARY;
	t->issued_s = (int64_t)take(&s, 4);
	return t->primary == (s.len == 0) && take_branches(s, t);
}

static bool mac_matches(const struct token_key *key, const struct wire *wire, bool bound,
                        struct slice session)
{
	uint8_t mac[SHA256_DIGEST_LENGTH];
	size_t len = wire->len - MAC_LEN;
	token_mac(key, wire->bytes, len, bound, session, mac);
	return CRYPTO_memcmp(mac, wire->bytes + len, MAC_LEN) == 0;
}

static enum token_verdict judge_time(int64_t issued_s, int64_t now_s, int64_t ttl_s)
{
	if (now_s < issued_s - TOKEN_FUTURE_MAX_S)
		return TOKEN_FUTURE;
	return ttl_s > 0 && now_s - issued_s > ttl_s ? TOKEN_EXPIRED : TOKEN_OK;
}

static enum token_verdict judge(struct slice text, const struct token_keys *k, struct slice session,
                                int64_t now_s, int64_t ttl_s, struct token *t)
{
	struct wire wire;
	struct token_header h;

	if (slice_eq_str(text, TOKEN_PRIMARY_TEXT))
		return TOKEN_PRIMARY;
	if (!take_token(text, &wire, t, &h))
		return TOKEN_MALFORMED;
	const struct token_key *key = find_key(k, h.key_id);
	if (!key)
		return TOKEN_FORGED;
	if (h.bound && session.len == 0)
		return TOKEN_BOUND;
	if (!mac_matches(key, &wire, h.bound, session))
		return h.bound ? TOKEN_BOUND : TOKEN_FORGED;
	enum token_verdict v = judge_time(t->issued_s, now_s, ttl_s);
	return v == TOKEN_OK && t->primary ? TOKEN_PRIMARY : v;
}

enum token_verdict token_verify(struct slice text, const struct token_keys *k, struct slice session,
                                int64_t now_s, int64_t ttl_s, struct token *out)
{
	*out = (struct token){0};
	enum token_verdict v = judge(text, k, session, now_s, ttl_s, out);
	if (v == TOKEN_PRIMARY)
		out->primary = true;
	else if (v != TOKEN_OK)
		*out = (struct token){.primary = true};
	return v;
}

bool token_read(struct slice text, struct token *out, struct token_header *h)
{
	struct wire wire;
	*out = (struct token){0};
	*h = (struct token_header){0};
	if (take_token(text, &wire, out, h))
		return true;
	*out = (struct token){.primary = true};
	*h = (struct token_header){0};
	return false;
}

/* ================= lists ================= */

static bool list_too_long(struct slice text)
{
	int commas = 0;
	if (text.len > TOKEN_LIST_TEXT_MAX)
		return true;
	for (size_t i = 0; i < text.len; i++)
		commas += text.ptr[i] == ',';
	return commas >= TOKEN_LIST_MAX;
}

/* The text up to the next comma. */
static struct slice list_head(struct slice text)
{
	const uint8_t *comma = text.len ? memchr(text.ptr, ',', text.len) : NULL;
	return comma ? slice_of(text.ptr, (size_t)(comma - text.ptr)) : text;
}

enum token_verdict token_verify_list(struct slice text, const struct token_keys *k,
                                     struct slice session, int64_t now_s, int64_t ttl_s,
                                     struct token *out)
{
	*out = (struct token){0};
	if (text.len == 0)
		return TOKEN_OK;
	enum token_verdict v = list_too_long(text) ? TOKEN_MALFORMED : TOKEN_OK;
	for (bool more = true; more && v == TOKEN_OK;) {
		struct slice head = list_head(text);
		struct token one;
		v = token_verify(head, k, session, now_s, ttl_s, &one);
		token_merge(out, &one);
		more = head.len < text.len;
		text = slice_from(text, head.len + 1);
	}
	if (v == TOKEN_OK && out->primary)
		v = TOKEN_PRIMARY;
	if (v != TOKEN_OK)
		*out = (struct token){.primary = true};
	return v;
}

const char *token_verdict_name(enum token_verdict v)
{
	static const char *const names[TOKEN_VERDICTS] = {
		[TOKEN_OK] = "ok",           [TOKEN_MALFORMED] = "malformed", [TOKEN_FORGED] = "forged",
		[TOKEN_BOUND] = "bound",     [TOKEN_EXPIRED] = "expired",     [TOKEN_FUTURE] = "future",
		[TOKEN_FOREIGN] = "foreign", [TOKEN_LOST] = "lost",           [TOKEN_UNKNOWN] = "unknown",
		[TOKEN_PRIMARY] = "primary",
	};
	assert(v >= 0 && v < TOKEN_VERDICTS);
	return names[v];
}
