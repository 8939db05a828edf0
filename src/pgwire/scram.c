/* SPDX-License-Identifier: PostgreSQL */
#include "scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#define BASE64_LEN(n) (4 * (((n) + 2) / 3))
/* gs2-headers (RFC 5802): the client knows no channel binding; it knows it, but heard that the
 * server does not; it uses it. PostgreSQL knows no other identity to act as, and no other kind of
 * binding. */
#define GS2_NONE "n,,"
#define GS2_UNUSED "y,,"
#define GS2_BOUND "p=tls-server-end-point,,"
#define BINDING_TEXT_MAX (BASE64_LEN(sizeof(GS2_BOUND) - 1 + SCRAM_BINDING_MAX) + 1)

/* ================= OpenSSL ================= */

static bool sha256(struct slice in, uint8_t out[SCRAM_KEY_LEN])
{
	return EVP_Digest(in.ptr, in.len, out, NULL, EVP_sha256(), NULL) == 1;
}

static bool hmac_sha256(const uint8_t key[SCRAM_KEY_LEN], struct slice in,
                        uint8_t out[SCRAM_KEY_LEN])
{
	unsigned len = 0;
	return HMAC(EVP_sha256(), key, SCRAM_KEY_LEN, in.ptr, in.len, out, &len) &&
	       len == SCRAM_KEY_LEN;
}

/* Strict: only the alphabet, whole groups of four, padding only at the end. */
static bool base64_ok(struct slice in)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	if (in.len == 0 || in.len % 4 != 0)
		return false;
	size_t n = in.len;
	for (int padding = 0; padding < 2 && in.ptr[n - 1] == '='; padding++)
		n--;
	for (size_t i = 0; i < n; i++)
		if (!memchr(alphabet, in.ptr[i], sizeof(alphabet) - 1))
			return false;
	return true;
}

/* `max` is at most SCRAM_SALT_MAX. */
static bool base64_decode(struct slice in, uint8_t *out, size_t max, size_t *len)
{
	uint8_t padded[SCRAM_SALT_MAX + 2]; /* EVP_DecodeBlock writes whole groups of three */
	if (in.len > BASE64_LEN(SCRAM_SALT_MAX) || !base64_ok(in))
		return false;
	int n = EVP_DecodeBlock(padded, in.ptr, (int)in.len);
	if (n < 0)
		return false;
	size_t padding = (size_t)(in.ptr[in.len - 1] == '=') + (size_t)(in.ptr[in.len - 2] == '=');
	*len = (size_t)n - padding;
	bool fits = *len <= max;
	if (fits)
		memcpy(out, padded, *len);
	OPENSSL_cleanse(padded, sizeof(padded));
	return fits;
}

static bool base64_decode_key(struct slice in, uint8_t out[SCRAM_KEY_LEN])
{
	size_t len = 0;
	return base64_decode(in, out, SCRAM_KEY_LEN, &len) && len == SCRAM_KEY_LEN;
}

/* `out` has room for BASE64_LEN(len) + 1 bytes. */
static void base64_encode(const uint8_t *in, size_t len, char *out)
{
	EVP_EncodeBlock((unsigned char *)out, in, (int)len);
}

/* ================= md5 ================= */

/* "md5" and the hash of a and b, one after the other, in hex. */
static bool md5_text(struct slice a, struct slice b, char out[MD5_PASSWORD_LEN + 1])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t digest[16];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	/* Fails where the machine's policy (FIPS) has no md5. */
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) == 1 &&
	          EVP_DigestUpdate(ctx, a.ptr, a.len) == 1 &&
	          EVP_DigestUpdate(ctx, b.ptr, b.len) == 1 &&
	          EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
	EVP_MD_CTX_free(ctx);
	if (!ok)
		return false;
	memcpy(out, "md5", 3);
	for (size_t i = 0; i < sizeof(digest); i++) {
		out[3 + 2 * i] = hex[digest[i] >> 4];
		out[4 + 2 * i] = hex[digest[i] & 15];
	}
	out[MD5_PASSWORD_LEN] = '\0';
	OPENSSL_cleanse(digest, sizeof(digest));
	return true;
}

bool md5_stored(struct slice password, struct slice user, char out[MD5_PASSWORD_LEN + 1])
{
	return md5_text(password, user, out);
}

static bool is_md5_stored(const char *text)
{
	return strncmp(text, "md5", 3) == 0 && strlen(text) == MD5_PASSWORD_LEN &&
	       strspn(text + 3, "0123456789abcdef") == MD5_PASSWORD_LEN - 3;
}

bool md5_response(const char stored[MD5_PASSWORD_LEN + 1], const uint8_t salt[4],
                  char out[MD5_PASSWORD_LEN + 1])
{
	return is_md5_stored(stored) &&
	       md5_text(slice_of(stored + 3, MD5_PASSWORD_LEN - 3), slice_of(salt, 4), out);
}

/* ================= secrets ================= */

/* RFC 5802 section 3: SaltedPassword, and from it ClientKey and ServerKey. */
static bool derive_keys(struct slice password, struct slice salt, uint32_t iterations,
                        uint8_t client_key[SCRAM_KEY_LEN], uint8_t server_key[SCRAM_KEY_LEN])
{
	uint8_t salted[SCRAM_KEY_LEN];
	bool ok =
		PKCS5_PBKDF2_HMAC((const char *)password.ptr, (int)password.len, salt.ptr, (int)salt.len,
	                      (int)iterations, EVP_sha256(), sizeof(salted), salted) == 1 &&
		hmac_sha256(salted, slice_str("Client Key"), client_key) &&
		hmac_sha256(salted, slice_str("Server Key"), server_key);
	OPENSSL_cleanse(salted, sizeof(salted));
	return ok;
}

bool scram_secret_from_password(struct slice password, struct slice salt, uint32_t iterations,
                                struct scram_secret *out)
{
	*out = (struct scram_secret){.iterations = iterations, .salt_len = salt.len};
	if (salt.len == 0 || salt.len > SCRAM_SALT_MAX || iterations == 0 ||
	    iterations > SCRAM_ITERATIONS_MAX || password.len > INT32_MAX)
		return false;
	memcpy(out->salt, salt.ptr, salt.len);
	uint8_t client_key[SCRAM_KEY_LEN];
	bool ok = derive_keys(password, salt, iterations, client_key, out->server_key) &&
	          sha256(slice_of(client_key, sizeof(client_key)), out->stored_key);
	OPENSSL_cleanse(client_key, sizeof(client_key));
	return ok;
}

bool scram_keys_match(const struct scram_keys *k, const struct scram_secret *secret)
{
	uint8_t hash[SCRAM_KEY_LEN];
	return k->iterations == secret->iterations &&
	       slice_eq(slice_of(k->salt, k->salt_len), slice_of(secret->salt, secret->salt_len)) &&
	       CRYPTO_memcmp(k->server_key, secret->server_key, SCRAM_KEY_LEN) == 0 &&
	       sha256(slice_of(k->client_key, SCRAM_KEY_LEN), hash) &&
	       CRYPTO_memcmp(hash, secret->stored_key, sizeof(hash)) == 0;
}

bool scram_secret_check(const struct scram_secret *secret, struct slice password,
                        struct scram_keys *keys)
{
	*keys = (struct scram_keys){.iterations = secret->iterations, .salt_len = secret->salt_len};
	memcpy(keys->salt, secret->salt, secret->salt_len);
	return password.len <= INT32_MAX &&
	       derive_keys(password, slice_of(secret->salt, secret->salt_len), secret->iterations,
	                   keys->client_key, keys->server_key) &&
	       scram_keys_match(keys, secret);
}

/* 1 to SCRAM_ITERATIONS_MAX, digits only. */
static bool iterations_parse(struct slice text, uint32_t *out)
{
	uint32_t n = 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] < '0' || text.ptr[i] > '9')
			return false;
		n = n * 10 + (uint32_t)(text.ptr[i] - '0');
		if (n > SCRAM_ITERATIONS_MAX)
			return false;
	}
	*out = n;
	return n > 0;
}

/* Takes what stands before `separator` off the front; the separator must be there. */
static bool take_until(struct slice *in, char separator, struct slice *out)
{
	const uint8_t *at = in->len ? memchr(in->ptr, separator, in->len) : NULL;
	if (!at)
		return false;
	*out = slice_of(in->ptr, (size_t)(at - in->ptr));
	*in = slice_of(at + 1, in->len - out->len - 1);
	return true;
}

bool scram_secret_parse(struct slice text, struct scram_secret *out)
{
	struct slice mechanism, iterations, salt, stored_key;
	*out = (struct scram_secret){0};
	return take_until(&text, '$', &mechanism) && slice_eq_str(mechanism, SCRAM_MECHANISM) &&
	       take_until(&text, ':', &iterations) && iterations_parse(iterations, &out->iterations) &&
	       take_until(&text, '$', &salt) &&
	       base64_decode(salt, out->salt, sizeof(out->salt), &out->salt_len) &&
	       take_until(&text, ':', &stored_key) && base64_decode_key(stored_key, out->stored_key) &&
	       base64_decode_key(text, out->server_key);
}

/* ================= SCRAM messages ================= */

/* Takes the attribute "<name>=value" and the comma behind it, if any, off the front. */
static bool take_attribute(struct slice *in, char name, struct slice *value)
{
	if (in->len < 2 || in->ptr[0] != name || in->ptr[1] != '=')
		return false;
	struct slice rest = slice_from(*in, 2);
	if (take_until(&rest, ',', value)) {
		*in = rest;
		return rest.len > 0; /* a comma promises one more */
	}
	*value = slice_of(in->ptr + 2, in->len - 2);
	*in = (struct slice){0};
	return true;
}

/* Extensions we do not know may be ignored, but for the mandatory ones, 'm' (RFC 5802, 5.1). */
static bool take_extension(struct slice *in)
{
	struct slice ignored;
	if (in->len == 0 || in->ptr[0] == 'm')
		return false;
	char name = (char)(in->ptr[0] | 0x20);
	return name >= 'a' && name <= 'z' && take_attribute(in, (char)in->ptr[0], &ignored);
}

static bool take_extensions(struct slice *in)
{
	while (in->len > 0)
		if (!take_extension(in))
			return false;
	return true;
}

/* No NUL, so that the message may be kept as a string. */
static bool is_text(struct slice s)
{
	return s.len > 0 && !memchr(s.ptr, 0, s.len);
}

static bool nonce_ok(struct slice nonce)
{
	for (size_t i = 0; i < nonce.len; i++)
		if (nonce.ptr[i] < 0x21 || nonce.ptr[i] > 0x7e)
			return false;
	return nonce.len > 0;
}

static bool copy_text(char *out, size_t size, struct slice text)
{
	if (text.len >= size)
		return false;
	if (text.len > 0)
		memcpy(out, text.ptr, text.len);
	out[text.len] = '\0';
	return true;
}

/* snprintf's answer: did it all fit? */
static bool fitted(int n, size_t size)
{
	return n >= 0 && (size_t)n < size;
}

/* ================= channel binding ================= */

static const char *gs2_header(char flag)
{
	return flag == 'p' ? GS2_BOUND : flag == 'y' ? GS2_UNUSED : GS2_NONE;
}

/* The value of "c=": the header once more, and what the connection is bound to. */
static void binding_text(char flag, const struct scram_binding *b, char out[BINDING_TEXT_MAX])
{
	uint8_t raw[sizeof(GS2_BOUND) - 1 + SCRAM_BINDING_MAX];
	struct slice header = slice_str(gs2_header(flag));
	size_t len = flag == 'p' ? b->len : 0;
	memcpy(raw, header.ptr, header.len);
	memcpy(raw + header.len, b->hash, len);
	base64_encode(raw, header.len + len, out);
}

/* ================= server side ================= */

void scram_mock_salt(struct slice mock_seed, uint8_t out[SCRAM_MOCK_SALT_LEN])
{
	uint8_t digest[SCRAM_KEY_LEN] = {0};
	sha256(mock_seed, digest);
	memcpy(out, digest, SCRAM_MOCK_SALT_LEN);
}

void scram_server_init(struct scram_server *s, const struct scram_secret *secret,
                       struct slice mock_seed)
{
	*s = (struct scram_server){.doomed = !secret};
	if (secret) {
		s->secret = *secret;
		return;
	}
	s->secret.iterations = SCRAM_ITERATIONS;
	s->secret.salt_len = SCRAM_MOCK_SALT_LEN;
	scram_mock_salt(mock_seed, s->secret.salt);
}

void scram_server_bind(struct scram_server *s, const struct scram_binding *binding)
{
	s->binding = *binding;
}

struct slice scram_server_mechanisms(const struct scram_server *s)
{
	static const char both[] = SCRAM_MECHANISM_PLUS "\0" SCRAM_MECHANISM "\0";
	static const char one[] = SCRAM_MECHANISM "\0";
	return s->binding.len > 0 ? slice_of(both, sizeof(both)) : slice_of(one, sizeof(one));
}

bool scram_server_offers(const struct scram_server *s, struct slice mechanism)
{
	return slice_eq_str(mechanism, SCRAM_MECHANISM) ||
	       (s->binding.len > 0 && slice_eq_str(mechanism, SCRAM_MECHANISM_PLUS));
}

/* With PLUS the header must be that of PLUS, without it one of the others. */
static bool take_gs2_header(struct scram_server *s, struct slice mechanism, struct slice *in)
{
	bool plus = slice_eq_str(mechanism, SCRAM_MECHANISM_PLUS);
	s->gs2_flag = in->len > 0 ? (char)in->ptr[0] : '\0';
	struct slice want = slice_str(gs2_header(s->gs2_flag));
	if (in->len < want.len || memcmp(in->ptr, want.ptr, want.len) != 0 ||
	    plus != (s->gs2_flag == 'p'))
		return false;
	if (s->gs2_flag == 'y' && s->binding.len > 0) {
		s->fault = "SCRAM channel binding negotiation error";
		return false;
	}
	*in = slice_from(*in, want.len);
	return true;
}

static bool server_first_write(struct scram_server *s, struct slice client_nonce,
                               const uint8_t nonce_raw[SCRAM_NONCE_RAW])
{
	char ours[BASE64_LEN(SCRAM_NONCE_RAW) + 1];
	char salt[BASE64_LEN(SCRAM_SALT_MAX) + 1];
	base64_encode(nonce_raw, SCRAM_NONCE_RAW, ours);
	base64_encode(s->secret.salt, s->secret.salt_len, salt);
	return fitted(snprintf(s->nonce, sizeof(s->nonce), "%.*s%s", SLICE_ARG(client_nonce), ours),
	              sizeof(s->nonce)) &&
	       fitted(snprintf(s->server_first, sizeof(s->server_first), "r=%s,s=%s,i=%u", s->nonce,
	                       salt, s->secret.iterations),
	              sizeof(s->server_first));
}

bool scram_server_first(struct scram_server *s, struct slice mechanism, struct slice client_first,
                        const uint8_t nonce_raw[SCRAM_NONCE_RAW], struct buf *out)
{
	struct slice in = client_first, user, nonce;
	s->server_first[0] = '\0';
	if (!is_text(in) || !take_gs2_header(s, mechanism, &in) ||
	    !copy_text(s->client_first_bare, sizeof(s->client_first_bare), in))
		return false;
	/* The name is ignored: the startup packet has said who logs in. */
	if (!take_attribute(&in, 'n', &user) || !take_attribute(&in, 'r', &nonce) || !nonce_ok(nonce) ||
	    nonce.len >= sizeof(s->nonce) || !take_extensions(&in))
		return false;
	if (!server_first_write(s, nonce, nonce_raw)) {
		s->server_first[0] = '\0';
		return false;
	}
	return buf_append_str(out, s->server_first);
}

/* client-final-message: c=binding,r=nonce,[extensions],p=proof */
static bool client_final_parse(struct scram_server *s, struct slice in, struct slice *without_proof,
                               uint8_t proof[SCRAM_KEY_LEN])
{
	struct slice whole = in, binding, nonce, proof_text;
	char want[BINDING_TEXT_MAX];
	binding_text(s->gs2_flag, &s->binding, want);
	if (!is_text(in) || !take_attribute(&in, 'c', &binding))
		return false;
	if (!slice_eq_str(binding, want)) {
		s->fault = "SCRAM channel binding check failed";
		return false;
	}
	if (!take_attribute(&in, 'r', &nonce) || !slice_eq_str(nonce, s->nonce))
		return false;
	while (in.len > 0 && in.ptr[0] != 'p')
		if (!take_extension(&in))
			return false;
	if (in.len == 0)
		return false;
	*without_proof = slice_of(whole.ptr, (size_t)(in.ptr - whole.ptr) - 1);
	return take_attribute(&in, 'p', &proof_text) && in.len == 0 &&
	       base64_decode_key(proof_text, proof);
}

/* ClientKey = ClientProof XOR HMAC(StoredKey, AuthMessage); its hash must be StoredKey. */
static bool proof_ok(const struct scram_secret *secret, struct slice auth_message,
                     const uint8_t proof[SCRAM_KEY_LEN], uint8_t client_key[SCRAM_KEY_LEN])
{
	uint8_t key[SCRAM_KEY_LEN], hash[SCRAM_KEY_LEN];
	bool ok = hmac_sha256(secret->stored_key, auth_message, key);
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] ^= proof[i];
	ok = ok && sha256(slice_of(key, sizeof(key)), hash) &&
	     CRYPTO_memcmp(hash, secret->stored_key, sizeof(hash)) == 0;
	if (ok)
		memcpy(client_key, key, sizeof(key));
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

static void keep_keys(struct scram_server *s, const uint8_t client_key[SCRAM_KEY_LEN])
{
	s->keys.iterations = s->secret.iterations;
	s->keys.salt_len = s->secret.salt_len;
	memcpy(s->keys.salt, s->secret.salt, s->secret.salt_len);
	memcpy(s->keys.client_key, client_key, SCRAM_KEY_LEN);
	memcpy(s->keys.server_key, s->secret.server_key, SCRAM_KEY_LEN);
}

static bool server_final_write(const struct scram_secret *secret, struct slice auth_message,
                               struct buf *out)
{
	uint8_t signature[SCRAM_KEY_LEN];
	char text[2 + BASE64_LEN(SCRAM_KEY_LEN) + 1] = "v=";
	if (!hmac_sha256(secret->server_key, auth_message, signature))
		return false;
	base64_encode(signature, sizeof(signature), text + 2);
	return buf_append_str(out, text);
}

bool scram_server_final(struct scram_server *s, struct slice client_final, struct buf *out)
{
	char auth_message[3 * SCRAM_MESSAGE_MAX];
	uint8_t proof[SCRAM_KEY_LEN], client_key[SCRAM_KEY_LEN] = {0};
	struct slice without_proof;
	bool ok = false;
	if (s->server_first[0] == '\0' || !client_final_parse(s, client_final, &without_proof, proof))
		goto out;
	int n = snprintf(auth_message, sizeof(auth_message), "%s,%s,%.*s", s->client_first_bare,
	                 s->server_first, SLICE_ARG(without_proof));
	if (!fitted(n, sizeof(auth_message)))
		goto out;
	/* A doomed exchange takes the same steps, so that time does not tell users apart. */
	struct slice message = slice_of(auth_message, (size_t)n);
	ok = proof_ok(&s->secret, message, proof, client_key) && !s->doomed &&
	     server_final_write(&s->secret, message, out);
	if (ok)
		keep_keys(s, client_key);
out:
	OPENSSL_cleanse(client_key, sizeof(client_key));
	OPENSSL_cleanse(&s->secret, sizeof(s->secret));
	s->server_first[0] = '\0';
	return ok;
}

/* ================= client side ================= */

bool scram_client_init(struct scram_client *c, struct slice password)
{
	*c = (struct scram_client){.gs2_flag = 'n'};
	if (password.len > 0 && memchr(password.ptr, 0, password.len))
		return false;
	return copy_text(c->password, sizeof(c->password), password);
}

void scram_client_init_keys(struct scram_client *c, const struct scram_keys *keys)
{
	*c = (struct scram_client){.has_keys = true, .keys = *keys, .gs2_flag = 'n'};
}

void scram_client_bind(struct scram_client *c, const struct scram_binding *binding)
{
	c->gs2_flag = 'p';
	c->binding = *binding;
}

void scram_client_could_bind(struct scram_client *c)
{
	c->gs2_flag = 'y';
}

bool scram_client_first(struct scram_client *c, const uint8_t nonce_raw[SCRAM_NONCE_RAW],
                        struct buf *out)
{
	char nonce[BASE64_LEN(SCRAM_NONCE_RAW) + 1];
	base64_encode(nonce_raw, SCRAM_NONCE_RAW, nonce);
	/* No name, as libpq does: the server takes the startup packet's. */
	snprintf(c->client_first_bare, sizeof(c->client_first_bare), "n=,r=%s", nonce);
	return buf_append_str(out, gs2_header(c->gs2_flag)) &&
	       buf_append_str(out, c->client_first_bare);
}

struct server_first {
	struct slice nonce;
	size_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
	uint32_t iterations;
};

static bool server_first_parse(struct slice in, struct server_first *out)
{
	struct slice salt, iterations;
	return is_text(in) && take_attribute(&in, 'r', &out->nonce) && nonce_ok(out->nonce) &&
	       take_attribute(&in, 's', &salt) &&
	       base64_decode(salt, out->salt, sizeof(out->salt), &out->salt_len) &&
	       take_attribute(&in, 'i', &iterations) &&
	       iterations_parse(iterations, &out->iterations) && take_extensions(&in);
}

/* The server's nonce must go on from ours: else an old exchange could be replayed to us. */
static bool nonce_extends(const struct scram_client *c, struct slice nonce)
{
	const char *at = strstr(c->client_first_bare, ",r=");
	if (!at)
		return false;
	struct slice ours = slice_str(at + 3);
	return nonce.len > ours.len && slice_eq(slice_of(nonce.ptr, ours.len), ours);
}

/* ClientKey and ServerKey: derived, or learnt if they are of this salt. */
static bool client_keys(struct scram_client *c, const struct server_first *first,
                        uint8_t client_key[SCRAM_KEY_LEN])
{
	struct slice salt = slice_of(first->salt, first->salt_len);
	if (!c->has_keys)
		return derive_keys(slice_str(c->password), salt, first->iterations, client_key,
		                   c->server_key);
	if (c->keys.iterations != first->iterations ||
	    !slice_eq(salt, slice_of(c->keys.salt, c->keys.salt_len)))
		return false;
	memcpy(client_key, c->keys.client_key, SCRAM_KEY_LEN);
	memcpy(c->server_key, c->keys.server_key, SCRAM_KEY_LEN);
	return true;
}

/* Proof = ClientKey XOR HMAC(StoredKey, AuthMessage); ServerSignature is what we shall expect. */
static bool client_prove(struct scram_client *c, const struct server_first *first,
                         struct slice auth_message, uint8_t proof[SCRAM_KEY_LEN])
{
	uint8_t client_key[SCRAM_KEY_LEN], stored_key[SCRAM_KEY_LEN];
	bool ok = client_keys(c, first, client_key) &&
	          sha256(slice_of(client_key, sizeof(client_key)), stored_key) &&
	          hmac_sha256(stored_key, auth_message, proof) &&
	          hmac_sha256(c->server_key, auth_message, c->server_signature);
	for (size_t i = 0; ok && i < SCRAM_KEY_LEN; i++)
		proof[i] ^= client_key[i];
	OPENSSL_cleanse(client_key, sizeof(client_key));
	OPENSSL_cleanse(stored_key, sizeof(stored_key));
	return ok;
}

bool scram_client_final(struct scram_client *c, struct slice server_first, struct buf *out)
{
	struct server_first first;
	uint8_t proof[SCRAM_KEY_LEN];
	char proof_text[BASE64_LEN(SCRAM_KEY_LEN) + 1], binding[BINDING_TEXT_MAX];
	if (!server_first_parse(server_first, &first) || !nonce_extends(c, first.nonce))
		return false;
	int before = snprintf(c->auth_message, sizeof(c->auth_message), "%s,%.*s,",
	                      c->client_first_bare, SLICE_ARG(server_first));
	if (!fitted(before, sizeof(c->auth_message)))
		goto fail;
	char *without_proof = c->auth_message + before;
	size_t room = sizeof(c->auth_message) - (size_t)before;
	binding_text(c->gs2_flag, &c->binding, binding);
	int len = snprintf(without_proof, room, "c=%s,r=%.*s", binding, SLICE_ARG(first.nonce));
	if (!fitted(len, room) || !client_prove(c, &first, slice_str(c->auth_message), proof))
		goto fail;
	OPENSSL_cleanse(c->password, sizeof(c->password));
	OPENSSL_cleanse(&c->keys, sizeof(c->keys));
	base64_encode(proof, sizeof(proof), proof_text);
	return buf_append(out, without_proof, (size_t)len) && buf_append_str(out, ",p=") &&
	       buf_append_str(out, proof_text);
fail:
	c->auth_message[0] = '\0';
	return false;
}

bool scram_client_verify(struct scram_client *c, struct slice server_final)
{
	struct slice signature_text;
	uint8_t signature[SCRAM_KEY_LEN];
	/* Before client-final there is no signature to expect: zeros must not match zeros. */
	if (c->auth_message[0] == '\0' || !is_text(server_final) ||
	    !take_attribute(&server_final, 'v', &signature_text) || !take_extensions(&server_final))
		return false;
	return base64_decode_key(signature_text, signature) &&
	       CRYPTO_memcmp(signature, c->server_signature, sizeof(signature)) == 0;
}

void scram_client_release(struct scram_client *c)
{
	OPENSSL_cleanse(c, sizeof(*c));
}
