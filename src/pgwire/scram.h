/* SPDX-License-Identifier: PostgreSQL
 *
 * Password proofs: md5 and SCRAM-SHA-256 (RFC 5802, RFC 7677; PostgreSQL "SASL Authentication").
 * Both sides are small machines fed with messages; they do no I/O and take randomness from the
 * caller. SASLprep: a password that is not plain ASCII is used as it is, as PostgreSQL does when
 * SASLprep fails. OpenSSL's HMAC and SHA-256 do the work.
 *
 * Inside TLS both sides can tie the exchange to the connection (channel binding,
 * SCRAM-SHA-256-PLUS): the client's proof covers the hash of the certificate that it was shown, so
 * nobody who stands between with another certificate can pass it on.
 */
#ifndef TM_PGWIRE_SCRAM_H
#define TM_PGWIRE_SCRAM_H

#include "base/buf.h"

#define SCRAM_MECHANISM "SCRAM-SHA-256"
#define SCRAM_MECHANISM_PLUS "SCRAM-SHA-256-PLUS"
#define SCRAM_KEY_LEN 32
#define SCRAM_NONCE_RAW 18
#define SCRAM_SALT_MAX 64
/* PostgreSQL's default; a server that asks for more than the maximum is refused. */
#define SCRAM_ITERATIONS 4096
#define SCRAM_ITERATIONS_MAX 1000000
#define SCRAM_MESSAGE_MAX 2048
#define MD5_PASSWORD_LEN 35 /* "md5" and 32 hex digits, without NUL */

/* What is stored for a user: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>. */
struct scram_secret {
	uint32_t iterations;
	size_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t stored_key[SCRAM_KEY_LEN];
	uint8_t server_key[SCRAM_KEY_LEN];
};

/* False if `text` is not such a string. */
bool scram_secret_parse(struct slice text, struct scram_secret *out);
bool scram_secret_from_password(struct slice password, struct slice salt, uint32_t iterations,
                                struct scram_secret *out);

/* What proves that somebody is the user without his password, to servers that store the same secret.
 * Learnt from a client's proof (RFC 5802, section 9), or derived; as precious as the password. */
struct scram_keys {
	uint32_t iterations;
	size_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t client_key[SCRAM_KEY_LEN];
	uint8_t server_key[SCRAM_KEY_LEN];
};
/* They are those of this secret. */
bool scram_keys_match(const struct scram_keys *k, const struct scram_secret *secret);
/* The password is that of the secret; in constant time. Then `keys` are, too. */
bool scram_secret_check(const struct scram_secret *secret, struct slice password,
                        struct scram_keys *keys);

/* "md5" + md5(password + user), the form that is stored. */
bool md5_stored(struct slice password, struct slice user, char out[MD5_PASSWORD_LEN + 1]);
/* The answer to an AuthenticationMD5Password: "md5" + md5(hex part of `stored` + salt). */
bool md5_response(const char stored[MD5_PASSWORD_LEN + 1], const uint8_t salt[4],
                  char out[MD5_PASSWORD_LEN + 1]);

/* What a TLS connection can be bound to (RFC 5929, tls-server-end-point). Zeroed: in clear, or
 * there is no such hash. */
#define SCRAM_BINDING_MAX 64
struct scram_binding {
	size_t len;
	uint8_t hash[SCRAM_BINDING_MAX];
};

/* ---- server side: we are the server, a client proves itself ---- */
struct scram_server {
	struct scram_secret secret;
	struct scram_binding binding;
	bool doomed;   /* unknown user: go through the motions with a mock secret, then refuse */
	char gs2_flag; /* 'n', 'y' or 'p' of client-first; client-final must repeat it */
	const char *fault; /* it was not the password: what to tell the client; else NULL */
	char nonce[128];
	char client_first_bare[SCRAM_MESSAGE_MAX];
	char server_first[SCRAM_MESSAGE_MAX];
	struct scram_keys keys; /* once the proof was right; for the owner to wipe */
};

/* The salt that `mock_seed` makes; for those, too, whose password is known, or they could be told
 * from others by a salt that changes. */
#define SCRAM_MOCK_SALT_LEN 16
void scram_mock_salt(struct slice mock_seed, uint8_t out[SCRAM_MOCK_SALT_LEN]);
/* `mock_seed` makes a stable mock salt for an unknown user (secret == NULL), so that users cannot
 * be told apart by probing; nobody outside may be able to work it out. */
void scram_server_init(struct scram_server *s, const struct scram_secret *secret,
                       struct slice mock_seed);
/* Offers to bind the exchange to the connection, if it can be bound. */
void scram_server_bind(struct scram_server *s, const struct scram_binding *binding);
/* The mechanisms to offer (SASL payload). */
struct slice scram_server_mechanisms(const struct scram_server *s);
bool scram_server_offers(const struct scram_server *s, struct slice mechanism);
/* client-first -> server-first (SASLContinue payload), in a mechanism that was offered. False:
 * malformed, or the client heard another offer than ours. */
bool scram_server_first(struct scram_server *s, struct slice mechanism, struct slice client_first,
                        const uint8_t nonce_raw[SCRAM_NONCE_RAW], struct buf *out);
/* client-final -> server-final (SASLFinal payload). False: malformed or wrong password.
 * Comparison is in constant time. Ends the exchange, right or wrong, and wipes the secret. */
bool scram_server_final(struct scram_server *s, struct slice client_final, struct buf *out);

/* ---- client side: we prove ourselves to a server ---- */
struct scram_client {
	char password[256];
	bool has_keys;
	struct scram_keys keys; /* in place of a password */
	char gs2_flag;
	struct scram_binding binding;
	char client_first_bare[256];
	char auth_message[SCRAM_MESSAGE_MAX];
	uint8_t server_key[SCRAM_KEY_LEN];
	uint8_t server_signature[SCRAM_KEY_LEN];
};

/* False: password too long. */
bool scram_client_init(struct scram_client *c, struct slice password);
void scram_client_init_keys(struct scram_client *c, const struct scram_keys *keys);
/* SCRAM-SHA-256-PLUS is spoken. */
void scram_client_bind(struct scram_client *c, const struct scram_binding *binding);
/* It would have been, had the server offered it: a server whose offer was taken away by somebody
 * between finds out. */
void scram_client_could_bind(struct scram_client *c);
bool scram_client_first(struct scram_client *c, const uint8_t nonce_raw[SCRAM_NONCE_RAW],
                        struct buf *out);
/* False: malformed, or keys that are not of the server's secret. */
bool scram_client_final(struct scram_client *c, struct slice server_first, struct buf *out);
/* True if the server proved that it knows the secret too. */
bool scram_client_verify(struct scram_client *c, struct slice server_final);
/* Wipes secrets. */
void scram_client_release(struct scram_client *c);

#endif
