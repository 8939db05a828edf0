/* SPDX-License-Identifier: PostgreSQL
 *
 * Password proofs against known vectors, against each other, and against damaged messages.
 */
#include "pgwire/scram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* RFC 7677, section 3: user "user", password "pencil". */
#define RFC_CLIENT_FIRST_BARE "n=user,r=rOprNGfwEbeRWgbNEkqO"
#define RFC_NONCE "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define RFC_SERVER_FIRST "r=" RFC_NONCE ",s=" RFC_SALT ",i=4096"
#define RFC_CLIENT_FINAL "c=biws,r=" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
#define RFC_SECRET                                   \
	"SCRAM-SHA-256$4096:" RFC_SALT                   \
	"$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static const uint8_t salt_raw[16] = {0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e,
                                     0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81};
static const uint8_t nonce_a[SCRAM_NONCE_RAW] = "client's own nonce";
static const uint8_t nonce_b[SCRAM_NONCE_RAW] = "server's own nonce";

/* ================= md5 ================= */

static void md5_matches_known_hashes(void **state)
{
	(void)state;
	char stored[MD5_PASSWORD_LEN + 1], response[MD5_PASSWORD_LEN + 1];
	assert_true(md5_stored(slice_str("postgres"), slice_str("postgres"), stored));
	assert_string_equal(stored, "md53175bce1d3201d16594cebf9d7eb3f9d");
	assert_true(md5_stored(slice_str("secret"), slice_str("alice"), stored));
	assert_string_equal(stored, "md54a0a68b43b6cd5cf266fa02f196e2371");
	assert_true(md5_response(stored, (const uint8_t[]){1, 2, 3, 4}, response));
	assert_string_equal(response, "md598a0412b9c31436fc53776e863350083");
}

static void md5_response_wants_a_stored_hash(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		"secret",
		"md53175bce1d3201d16594cebf9d7eb3f9",
		"md53175bce1d3201d16594cebf9d7eb3f9g",
		"xx53175bce1d3201d16594cebf9d7eb3f9d",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char stored[MD5_PASSWORD_LEN + 1] = {0}, response[MD5_PASSWORD_LEN + 1];
		memcpy(stored, bad[i], strlen(bad[i]));
		assert_false(md5_response(stored, (const uint8_t[4]){0}, response));
	}
}

/* ================= secrets ================= */

static void secret_of_a_password_is_the_stored_one(void **state)
{
	(void)state;
	struct scram_secret parsed, derived;
	assert_true(scram_secret_parse(slice_str(RFC_SECRET), &parsed));
	assert_true(
		scram_secret_from_password(slice_str("pencil"), slice_of(salt_raw, 16), 4096, &derived));
	assert_int_equal(parsed.iterations, 4096);
	assert_int_equal(parsed.salt_len, 16);
	assert_memory_equal(parsed.salt, salt_raw, 16);
	assert_memory_equal(parsed.stored_key, derived.stored_key, SCRAM_KEY_LEN);
	assert_memory_equal(parsed.server_key, derived.server_key, SCRAM_KEY_LEN);
}

static void every_truncation_of_a_secret_is_refused(void **state)
{
	(void)state;
	struct scram_secret s;
	for (size_t n = 0; n < strlen(RFC_SECRET); n++) {
		uint8_t *text = malloc(n ? n : 1);
		memcpy(text, RFC_SECRET, n);
		assert_false(scram_secret_parse(slice_of(text, n), &s));
		free(text);
	}
}

static void malformed_secrets_are_refused(void **state)
{
	(void)state;
#define KEYS \
	"$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	static const char *const bad[] = {
		"md53175bce1d3201d16594cebf9d7eb3f9d",
		"SCRAM-SHA-512$4096:" RFC_SALT KEYS,
		"SCRAM-SHA-256$0:" RFC_SALT KEYS,
		"SCRAM-SHA-256$-1:" RFC_SALT KEYS,
		"SCRAM-SHA-256$1000001:" RFC_SALT KEYS,
		"SCRAM-SHA-256$99999999999999999999:" RFC_SALT KEYS,
		"SCRAM-SHA-256$4096:" KEYS,
		"SCRAM-SHA-256$4096:====" KEYS,
		"SCRAM-SHA-256$4096:W22=aJ0SNY7soEsUEjb6gQ==" KEYS,
		"SCRAM-SHA-256$4096: 22ZaJ0SNY7soEsUEjb6gQ==" KEYS,
		RFC_SECRET "AAAA",
		RFC_SECRET " ",
	};
	struct scram_secret s;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (scram_secret_parse(slice_str(bad[i]), &s))
			fail_msg("taken: %s", bad[i]);
}

static void secret_from_password_checks_its_bounds(void **state)
{
	(void)state;
	static const uint8_t long_salt[SCRAM_SALT_MAX + 1];
	struct scram_secret s;
	struct slice pw = slice_str("x");
	assert_false(scram_secret_from_password(pw, slice_of(salt_raw, 0), 4096, &s));
	assert_false(scram_secret_from_password(pw, slice_of(long_salt, sizeof(long_salt)), 1, &s));
	assert_false(scram_secret_from_password(pw, slice_of(salt_raw, 16), 0, &s));
	assert_false(
		scram_secret_from_password(pw, slice_of(salt_raw, 16), SCRAM_ITERATIONS_MAX + 1, &s));
	assert_true(scram_secret_from_password(pw, slice_of(long_salt, SCRAM_SALT_MAX), 1, &s));
}

/* ================= RFC 7677 ================= */

/* Client and server in the state in which the RFC's exchange has them after client-first. */
static void rfc_client(struct scram_client *c)
{
	assert_true(scram_client_init(c, slice_str("pencil")));
	memcpy(c->client_first_bare, RFC_CLIENT_FIRST_BARE, sizeof(RFC_CLIENT_FIRST_BARE));
}

static void rfc_server(struct scram_server *s)
{
	struct scram_secret secret;
	assert_true(scram_secret_parse(slice_str(RFC_SECRET), &secret));
	scram_server_init(s, &secret, (struct slice){0});
	s->gs2_flag = 'n';
	memcpy(s->nonce, RFC_NONCE, sizeof(RFC_NONCE));
	memcpy(s->client_first_bare, RFC_CLIENT_FIRST_BARE, sizeof(RFC_CLIENT_FIRST_BARE));
	memcpy(s->server_first, RFC_SERVER_FIRST, sizeof(RFC_SERVER_FIRST));
}

static void client_proves_itself_as_in_the_rfc(void **state)
{
	(void)state;
	struct scram_client c;
	struct buf out;
	buf_init(&out, SCRAM_MESSAGE_MAX);
	rfc_client(&c);
	assert_true(scram_client_final(&c, slice_str(RFC_SERVER_FIRST), &out));
	assert_true(slice_eq_str(buf_slice(&out), RFC_CLIENT_FINAL));
	assert_true(scram_client_verify(&c, slice_str(RFC_SERVER_FINAL)));
	assert_false(scram_client_verify(&c, slice_str("e=other-error")));
	scram_client_release(&c);
	buf_release(&out);
}

static void server_accepts_and_signs_as_in_the_rfc(void **state)
{
	(void)state;
	struct scram_server s;
	struct buf out;
	buf_init(&out, SCRAM_MESSAGE_MAX);
	rfc_server(&s);
	assert_true(scram_server_final(&s, slice_str(RFC_CLIENT_FINAL), &out));
	assert_true(slice_eq_str(buf_slice(&out), RFC_SERVER_FINAL));
	buf_release(&out);
}

/* ================= both sides together ================= */

/* Stops at the first refusal. `secret` NULL is an unknown user. */
static bool exchange(const char *password, const struct scram_secret *secret)
{
	struct scram_client c;
	struct scram_server s;
	struct buf to_server, to_client;
	buf_init(&to_server, SCRAM_MESSAGE_MAX);
	buf_init(&to_client, SCRAM_MESSAGE_MAX);
	assert_true(scram_client_init(&c, slice_str(password)));
	scram_server_init(&s, secret, slice_str("seed of this server, user"));
	assert_true(scram_client_first(&c, nonce_a, &to_server));
	assert_true(scram_server_first(&s, slice_str(SCRAM_MECHANISM), buf_slice(&to_server), nonce_b,
	                               &to_client));
	buf_reset(&to_server);
	assert_true(scram_client_final(&c, buf_slice(&to_client), &to_server));
	buf_reset(&to_client);
	bool ok = scram_server_final(&s, buf_slice(&to_server), &to_client);
	assert_int_equal(to_client.len > 0, ok);
	ok = ok && scram_client_verify(&c, buf_slice(&to_client));
	scram_client_release(&c);
	buf_release(&to_server);
	buf_release(&to_client);
	return ok;
}

static void right_password_is_accepted_and_wrong_ones_refused(void **state)
{
	(void)state;
	struct scram_secret secret;
	static const char *const passwords[] = {"x", "pencil", "p\xc3\xa4ssword", " sp aced ", ""};
	for (size_t i = 0; i < sizeof(passwords) / sizeof(passwords[0]); i++) {
		assert_true(scram_secret_from_password(slice_str(passwords[i]), slice_of(salt_raw, 16),
		                                       SCRAM_ITERATIONS, &secret));
		assert_true(exchange(passwords[i], &secret));
		assert_false(exchange("wrong", &secret));
	}
}

static void unknown_user_is_refused_only_at_the_end(void **state)
{
	(void)state;
	assert_false(exchange("any", NULL));
}

static void mock_salt_is_stable_and_depends_on_the_seed(void **state)
{
	(void)state;
	struct scram_server a, b, c;
	scram_server_init(&a, NULL, slice_str("seed user1"));
	scram_server_init(&b, NULL, slice_str("seed user1"));
	scram_server_init(&c, NULL, slice_str("seed user2"));
	assert_int_equal(a.secret.iterations, SCRAM_ITERATIONS);
	assert_int_equal(a.secret.salt_len, 16);
	assert_memory_equal(a.secret.salt, b.secret.salt, 16);
	assert_memory_not_equal(a.secret.salt, c.secret.salt, 16);
}

/* ================= bad messages to the server ================= */

static bool server_takes_first(struct slice message)
{
	struct scram_server s;
	struct buf out;
	scram_server_init(&s, NULL, slice_str("seed"));
	buf_init(&out, SCRAM_MESSAGE_MAX);
	bool ok = scram_server_first(&s, slice_str(SCRAM_MECHANISM), message, nonce_b, &out);
	buf_release(&out);
	return ok;
}

static void server_knows_good_first_messages_from_bad(void **state)
{
	(void)state;
	static const char *const good[] = {"n,,n=,r=abc", "y,,n=*,r=abc", "n,,n=u,r=abc,x=y,z=1"};
	static const char *const bad[] = {
		"",
		"n",
		"n,,",
		"n,,n=,r=",
		"n,,n=,r=abc,",
		"n,,n=,r=abc,m=ext",
		"n,,m=ext,n=,r=abc",
		"n,,n=,r=abc,1=x",
		"n,,n=,r=abc,xy",
		"n,,r=abc,n=",
		"n,a=admin,n=,r=abc",     /* to act as somebody else */
		"p=tls-unique,,n=,r=abc", /* channel binding */
		"x,,n=,r=abc",
		"n,,n=,r=a b",
		"n,,n=,r=a\x80",
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!server_takes_first(slice_str(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (server_takes_first(slice_str(bad[i])))
			fail_msg("taken: %s", bad[i]);
	assert_false(server_takes_first(slice_of("n,,n=,r=ab\0c", 12)));
}

static void oversized_first_messages_are_refused(void **state)
{
	(void)state;
	static char message[2 * SCRAM_MESSAGE_MAX];
	memset(message, 'a', sizeof(message));
	memcpy(message, "n,,n=,r=", 8);
	assert_true(server_takes_first(slice_of(message, 8 + 100)));
	assert_false(server_takes_first(slice_of(message, 8 + 128)));
	assert_false(server_takes_first(slice_of(message, sizeof(message))));
	memcpy(message, "n,,n=,r=abc,x=", 14);
	assert_true(server_takes_first(slice_of(message, SCRAM_MESSAGE_MAX)));
	assert_false(server_takes_first(slice_of(message, SCRAM_MESSAGE_MAX + 3)));
}

static bool server_takes_final(const void *message, size_t len)
{
	struct scram_server s;
	struct buf out;
	uint8_t *copy = malloc(len ? len : 1);
	memcpy(copy, message, len);
	rfc_server(&s);
	buf_init(&out, SCRAM_MESSAGE_MAX);
	bool ok = scram_server_final(&s, slice_of(copy, len), &out);
	buf_release(&out);
	free(copy);
	return ok;
}

static void every_truncation_of_client_final_is_refused(void **state)
{
	(void)state;
	for (size_t n = 0; n < strlen(RFC_CLIENT_FINAL); n++)
		assert_false(server_takes_final(RFC_CLIENT_FINAL, n));
}

static void every_bit_flip_of_client_final_is_refused(void **state)
{
	(void)state;
	size_t len = strlen(RFC_CLIENT_FINAL);
	for (size_t bit = 0; bit < 8 * len; bit++) {
		uint8_t flipped[sizeof(RFC_CLIENT_FINAL)];
		memcpy(flipped, RFC_CLIENT_FINAL, sizeof(flipped));
		flipped[bit / 8] ^= (uint8_t)(1u << bit % 8);
		/* The last digit before "=" carries two bits that base64 throws away. */
		if (server_takes_final(flipped, len) && bit / 8 != len - 2)
			fail_msg("flipped bit %zu was taken", bit);
	}
}

static void client_final_must_repeat_the_gs2_header(void **state)
{
	(void)state;
	struct scram_server s;
	struct buf out;
	buf_init(&out, SCRAM_MESSAGE_MAX);
	rfc_server(&s);
	s.gs2_flag = 'y';
	assert_false(scram_server_final(&s, slice_str(RFC_CLIENT_FINAL), &out));
	assert_int_equal(out.len, 0);
	buf_release(&out);
}

static void final_before_first_or_twice_is_refused(void **state)
{
	(void)state;
	struct scram_server s;
	struct scram_secret secret;
	struct buf out;
	buf_init(&out, SCRAM_MESSAGE_MAX);
	assert_true(scram_secret_parse(slice_str(RFC_SECRET), &secret));
	scram_server_init(&s, &secret, (struct slice){0});
	assert_false(scram_server_final(&s, slice_str("c=biws,r=,p=AAAA"), &out));
	rfc_server(&s);
	assert_true(scram_server_final(&s, slice_str(RFC_CLIENT_FINAL), &out));
	assert_false(scram_server_final(&s, slice_str(RFC_CLIENT_FINAL), &out));
	buf_release(&out);
}

static void server_wipes_the_secret_when_done(void **state)
{
	(void)state;
	static const struct scram_secret zero;
	struct scram_server s;
	struct buf out;
	buf_init(&out, SCRAM_MESSAGE_MAX);
	rfc_server(&s);
	assert_true(scram_server_final(&s, slice_str(RFC_CLIENT_FINAL), &out));
	assert_memory_equal(&s.secret, &zero, sizeof(zero));
	buf_release(&out);
}

/* ================= bad messages to the client ================= */

static bool client_takes_first(const void *message, size_t len)
{
	struct scram_client c;
	struct buf out;
	uint8_t *copy = malloc(len ? len : 1);
	memcpy(copy, message, len);
	rfc_client(&c);
	buf_init(&out, SCRAM_MESSAGE_MAX);
	bool ok = scram_client_final(&c, slice_of(copy, len), &out);
	assert_int_equal(out.len > 0, ok);
	scram_client_release(&c);
	buf_release(&out);
	free(copy);
	return ok;
}

static void client_refuses_bad_server_first(void **state)
{
	(void)state;
#define NONCE "r=" RFC_NONCE
	static const char *const bad[] = {
		"",
		"r=",
		"e=other-error",
		"r=rOprNGfwEbeRWgbNEkqO,s=" RFC_SALT ",i=4096", /* nothing of its own */
		"r=another" RFC_NONCE ",s=" RFC_SALT ",i=4096",
		"m=x," NONCE ",s=" RFC_SALT ",i=4096",
		NONCE ",s=,i=4096",
		NONCE ",s=!!!!,i=4096",
		NONCE ",s=" RFC_SALT,
		NONCE ",s=" RFC_SALT ",",
		NONCE ",s=" RFC_SALT ",i=",
		NONCE ",s=" RFC_SALT ",i=0",
		NONCE ",s=" RFC_SALT ",i=-4",
		NONCE ",s=" RFC_SALT ",i=1000001",
		NONCE ",s=" RFC_SALT ",i=4294971392",
		NONCE ",s=" RFC_SALT ",i=4096,",
		NONCE ",s=" RFC_SALT ",i=4096,m=x",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (client_takes_first(bad[i], strlen(bad[i])))
			fail_msg("taken: %s", bad[i]);
	assert_true(client_takes_first(RFC_SERVER_FIRST ",x=y", strlen(RFC_SERVER_FIRST ",x=y")));
}

static void client_survives_truncated_and_flipped_server_first(void **state)
{
	(void)state;
	size_t len = strlen(RFC_SERVER_FIRST);
	for (size_t n = 0; n + 4 < len; n++) /* the iteration count may be cut to a valid one */
		assert_false(client_takes_first(RFC_SERVER_FIRST, n));
	for (size_t bit = 0; bit < 8 * len; bit++) {
		uint8_t flipped[sizeof(RFC_SERVER_FIRST)];
		memcpy(flipped, RFC_SERVER_FIRST, sizeof(flipped));
		flipped[bit / 8] ^= (uint8_t)(1u << bit % 8);
		client_takes_first(flipped, len);
	}
}

static void client_refuses_an_oversized_server_first(void **state)
{
	(void)state;
	static char message[2 * SCRAM_MESSAGE_MAX];
	memset(message, 'a', sizeof(message));
	memcpy(message, RFC_SERVER_FIRST ",x=", strlen(RFC_SERVER_FIRST ",x="));
	assert_false(client_takes_first(message, sizeof(message)));
	assert_false(client_takes_first(message, SCRAM_MESSAGE_MAX));
}

static void client_verifies_nothing_before_its_own_proof(void **state)
{
	(void)state;
	struct scram_client c;
	assert_true(scram_client_init(&c, slice_str("pencil")));
	assert_false(
		scram_client_verify(&c, slice_str("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")));
	scram_client_release(&c);
}

static void client_refuses_every_damaged_server_final(void **state)
{
	(void)state;
	struct scram_client c;
	struct buf out;
	size_t len = strlen(RFC_SERVER_FINAL);
	buf_init(&out, SCRAM_MESSAGE_MAX);
	rfc_client(&c);
	assert_true(scram_client_final(&c, slice_str(RFC_SERVER_FIRST), &out));
	for (size_t n = 0; n < len; n++)
		assert_false(scram_client_verify(&c, slice_of(RFC_SERVER_FINAL, n)));
	for (size_t bit = 0; bit < 8 * len; bit++) {
		uint8_t flipped[sizeof(RFC_SERVER_FINAL)];
		memcpy(flipped, RFC_SERVER_FINAL, sizeof(flipped));
		flipped[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (scram_client_verify(&c, slice_of(flipped, len)) && bit / 8 != len - 2)
			fail_msg("flipped bit %zu was taken", bit);
	}
	scram_client_release(&c);
	buf_release(&out);
}

static void client_passwords_are_bounded_and_wiped(void **state)
{
	(void)state;
	static const struct scram_client zero;
	static char password[256];
	struct scram_client c;
	memset(password, 'p', sizeof(password));
	assert_true(scram_client_init(&c, slice_of(password, 255)));
	scram_client_release(&c);
	assert_memory_equal(&c, &zero, sizeof(c));
	assert_false(scram_client_init(&c, slice_of(password, 256)));
	assert_false(scram_client_init(&c, slice_of("a\0b", 3)));
}

/* ================= keys in place of a password ================= */

/* One exchange of a client that has `keys`. */
static bool prove_with(const struct scram_keys *keys, const char *secret_text)
{
	struct scram_secret secret;
	struct scram_server server;
	struct scram_client client;
	struct buf first, answer, final, verdict;
	assert_true(scram_secret_parse(slice_str(secret_text), &secret));
	buf_init(&first, SCRAM_MESSAGE_MAX);
	buf_init(&answer, SCRAM_MESSAGE_MAX);
	buf_init(&final, SCRAM_MESSAGE_MAX);
	buf_init(&verdict, SCRAM_MESSAGE_MAX);
	scram_server_init(&server, &secret, slice_str("alice"));
	scram_client_init_keys(&client, keys);
	bool ok = scram_client_first(&client, nonce_a, &first) &&
	          scram_server_first(&server, slice_str(SCRAM_MECHANISM), buf_slice(&first), nonce_b,
	                             &answer) &&
	          scram_client_final(&client, buf_slice(&answer), &final) &&
	          scram_server_final(&server, buf_slice(&final), &verdict) &&
	          scram_client_verify(&client, buf_slice(&verdict));
	if (ok)
		assert_memory_equal(&server.keys, keys, sizeof(*keys));
	scram_client_release(&client);
	buf_release(&first);
	buf_release(&answer);
	buf_release(&final);
	buf_release(&verdict);
	return ok;
}

static void keys_prove_what_a_password_proves(void **state)
{
	(void)state;
	struct scram_secret secret;
	struct scram_keys keys;
	assert_true(scram_secret_parse(slice_str(RFC_SECRET), &secret));
	assert_true(scram_secret_check(&secret, slice_str("pencil"), &keys));
	assert_true(prove_with(&keys, RFC_SECRET));
	for (size_t bit = 0; bit < 8 * SCRAM_KEY_LEN; bit += 5) {
		struct scram_keys other = keys;
		other.client_key[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(scram_keys_match(&other, &secret));
		assert_false(prove_with(&other, RFC_SECRET));
	}
	struct scram_keys other = keys;
	other.iterations++;
	assert_false(prove_with(&other, RFC_SECRET));
	other = keys;
	other.salt[0]++;
	assert_false(prove_with(&other, RFC_SECRET));
	assert_false(scram_secret_check(&secret, slice_str("pencils"), &keys));
	assert_false(scram_secret_check(&secret, slice_str(""), &keys));
}

/* ================= channel binding ================= */

static struct scram_binding binding_of(size_t len, uint8_t fill)
{
	struct scram_binding b = {.len = len};
	memset(b.hash, fill, len);
	return b;
}

/* What came of an exchange in which the server offers what it can be bound to, and the client takes
 * `mechanism` with a header of its own. "" is success, NULL a refusal without a fault. */
static const char *bound_exchange(const char *mechanism, char flag,
                                  const struct scram_binding *client,
                                  const struct scram_binding *server)
{
	static struct scram_server s;
	struct scram_secret secret;
	struct scram_client c;
	struct buf to_server, to_client;
	buf_init(&to_server, SCRAM_MESSAGE_MAX);
	buf_init(&to_client, SCRAM_MESSAGE_MAX);
	assert_true(scram_secret_parse(slice_str(RFC_SECRET), &secret));
	assert_true(scram_client_init(&c, slice_str("pencil")));
	if (flag == 'p')
		scram_client_bind(&c, client);
	else if (flag == 'y')
		scram_client_could_bind(&c);
	scram_server_init(&s, &secret, (struct slice){0});
	scram_server_bind(&s, server);
	bool ok =
		scram_client_first(&c, nonce_a, &to_server) &&
		scram_server_first(&s, slice_str(mechanism), buf_slice(&to_server), nonce_b, &to_client);
	buf_reset(&to_server);
	ok = ok && scram_client_final(&c, buf_slice(&to_client), &to_server);
	buf_reset(&to_client);
	ok = ok && scram_server_final(&s, buf_slice(&to_server), &to_client) &&
	     scram_client_verify(&c, buf_slice(&to_client));
	scram_client_release(&c);
	buf_release(&to_server);
	buf_release(&to_client);
	return ok ? "" : s.fault;
}

static void both_ends_must_see_one_certificate(void **state)
{
	static const size_t lengths[] = {1, 32, 48, SCRAM_BINDING_MAX};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct scram_binding ours = binding_of(lengths[i], 7), theirs = ours;
		assert_string_equal(bound_exchange(SCRAM_MECHANISM_PLUS, 'p', &ours, &ours), "");
		theirs.hash[lengths[i] - 1] ^= 1;
		assert_string_equal(bound_exchange(SCRAM_MECHANISM_PLUS, 'p', &theirs, &ours),
		                    "SCRAM channel binding check failed");
	}
	struct scram_binding longer = binding_of(33, 7), shorter = binding_of(32, 7);
	assert_string_equal(bound_exchange(SCRAM_MECHANISM_PLUS, 'p', &longer, &shorter),
	                    "SCRAM channel binding check failed");
}

static void an_offer_that_was_taken_away_is_noticed(void **state)
{
	const struct scram_binding some = binding_of(32, 7), none = {0};
	assert_string_equal(bound_exchange(SCRAM_MECHANISM, 'y', &some, &some),
	                    "SCRAM channel binding negotiation error");
	/* A server that could not have offered it, and a client that cannot. */
	assert_string_equal(bound_exchange(SCRAM_MECHANISM, 'y', &some, &none), "");
	assert_string_equal(bound_exchange(SCRAM_MECHANISM, 'n', &some, &some), "");
}

static void mechanism_and_header_go_together(void **state)
{
	const struct scram_binding some = binding_of(32, 7), none = {0};
	assert_null(bound_exchange(SCRAM_MECHANISM_PLUS, 'n', &some, &some));
	assert_null(bound_exchange(SCRAM_MECHANISM_PLUS, 'y', &some, &some));
	assert_null(bound_exchange(SCRAM_MECHANISM, 'p', &some, &some));
	struct scram_server s = {.binding = none};
	assert_true(scram_server_offers(&s, slice_str(SCRAM_MECHANISM)));
	assert_false(scram_server_offers(&s, slice_str(SCRAM_MECHANISM_PLUS)));
	s.binding = some;
	assert_true(scram_server_offers(&s, slice_str(SCRAM_MECHANISM_PLUS)));
	assert_false(scram_server_offers(&s, slice_str("SCRAM-SHA-256-")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ends_must_see_one_certificate),
		cmocka_unit_test(an_offer_that_was_taken_away_is_noticed),
		cmocka_unit_test(mechanism_and_header_go_together),
		cmocka_unit_test(keys_prove_what_a_password_proves),
		cmocka_unit_test(md5_matches_known_hashes),
		cmocka_unit_test(md5_response_wants_a_stored_hash),
		cmocka_unit_test(secret_of_a_password_is_the_stored_one),
		cmocka_unit_test(every_truncation_of_a_secret_is_refused),
		cmocka_unit_test(malformed_secrets_are_refused),
		cmocka_unit_test(secret_from_password_checks_its_bounds),
		cmocka_unit_test(client_proves_itself_as_in_the_rfc),
		cmocka_unit_test(server_accepts_and_signs_as_in_the_rfc),
		cmocka_unit_test(right_password_is_accepted_and_wrong_ones_refused),
		cmocka_unit_test(unknown_user_is_refused_only_at_the_end),
		cmocka_unit_test(mock_salt_is_stable_and_depends_on_the_seed),
		cmocka_unit_test(server_knows_good_first_messages_from_bad),
		cmocka_unit_test(oversized_first_messages_are_refused),
		cmocka_unit_test(every_truncation_of_client_final_is_refused),
		cmocka_unit_test(every_bit_flip_of_client_final_is_refused),
		cmocka_unit_test(client_final_must_repeat_the_gs2_header),
		cmocka_unit_test(final_before_first_or_twice_is_refused),
		cmocka_unit_test(server_wipes_the_secret_when_done),
		cmocka_unit_test(client_refuses_bad_server_first),
		cmocka_unit_test(client_survives_truncated_and_flipped_server_first),
		cmocka_unit_test(client_refuses_an_oversized_server_first),
		cmocka_unit_test(client_verifies_nothing_before_its_own_proof),
		cmocka_unit_test(client_refuses_every_damaged_server_final),
		cmocka_unit_test(client_passwords_are_bounded_and_wiped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
