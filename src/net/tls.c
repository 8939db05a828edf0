/* SPDX-License-Identifier: PostgreSQL */
#include "tls.h"

#include <assert.h>
#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct tls_context {
	SSL_CTX *ssl;
	int users;
	enum tls_side side;
	enum tls_verify verify;
	bool alpn;
};

struct tls {
	SSL *ssl;
	enum tls_side side;
	bool alpn; /* nothing is said to a server that has not agreed to it */
	struct tls_io io;
	void *io_arg;
	uint8_t *first; /* bytes that come before what the transport gives; NULL: none are left */
	size_t first_len, first_at;
	bool starved; /* the transport had nothing when it was last asked */
	bool ended;   /* the transport came to its end, or the other side said goodbye */
	bool broken;
	char error[256];
};

/* The first reason that OpenSSL gives, without its codes; empties its queue. */
static const char *reason(void)
{
	unsigned long code = ERR_get_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;
	ERR_clear_error();
	return text ? text : "no reason given";
}

static bool is_set(const char *text)
{
	return text && text[0] != '\0';
}

/* ---- context ---- */

/* PostgreSQL's name in RFC 7301's form; https://www.postgresql.org/docs/17/protocol-flow.html */
static const uint8_t alpn_postgresql[] = {10, 'p', 'o', 's', 't', 'g', 'r', 'e', 's', 'q', 'l'};

static bool load_authorities(SSL_CTX *ssl, const char *file)
{
	return is_set(file) ? SSL_CTX_load_verify_file(ssl, file) == 1
	                    : SSL_CTX_set_default_verify_paths(ssl) == 1;
}

static bool load_own(SSL_CTX *ssl, const struct tls_settings *s)
{
	const char *key = is_set(s->key_file) ? s->key_file : s->cert_file;
	return !is_set(s->cert_file) || (SSL_CTX_use_certificate_chain_file(ssl, s->cert_file) == 1 &&
	                                 SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) == 1);
}

/* A key behind a passphrase would stop the router to ask for it on a terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	return -1;
}

/* What a client offers must have PostgreSQL in it, if it offers anything. */
static int choose_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                       unsigned in_len, void *arg)
{
	uint8_t *chosen;
	if (SSL_select_next_proto(&chosen, out_len, alpn_postgresql, sizeof(alpn_postgresql), in,
	                          in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static void context_harden(SSL_CTX *ssl, const struct tls_settings *s)
{
	/* Sessions that are resumed would outlive a change of certificates. A missing goodbye is no
	 * attack on a protocol that says itself when it is over. */
	SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
	                             SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	                          SSL_MODE_ENABLE_PARTIAL_WRITE);
	/* Or a peer that sends nothing but key updates would keep one tls_read() busy. */
	SSL_CTX_clear_mode(ssl, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_read_ahead(ssl, 1);
	if (s->side == TLS_SERVER) {
		SSL_CTX_set_num_tickets(ssl, 0);
		SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
		SSL_CTX_set_alpn_select_cb(ssl, choose_alpn, NULL);
	}
}

/* This function alone is 0 when all is well. */
static bool offer_alpn(SSL_CTX *ssl, const struct tls_settings *s)
{
	return !s->alpn || SSL_CTX_set_alpn_protos(ssl, alpn_postgresql, sizeof(alpn_postgresql)) == 0;
}

static int verify_flags(const struct tls_settings *s)
{
	if (s->verify == TLS_VERIFY_NONE)
		return SSL_VERIFY_NONE;
	if (s->side == TLS_CLIENT || s->verify == TLS_VERIFY_IF_GIVEN)
		return SSL_VERIFY_PEER;
	return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
}

/* The names of the authorities tell a client which of its certificates is meant. */
static bool name_authorities(SSL_CTX *ssl, const struct tls_settings *s)
{
	STACK_OF(X509_NAME) *names;
	if (s->side == TLS_CLIENT || !is_set(s->ca_file))
		return true;
	names = SSL_load_client_CA_file(s->ca_file);
	SSL_CTX_set_client_CA_list(ssl, names);
	return names != NULL;
}

static bool context_fill(SSL_CTX *ssl, const struct tls_settings *s, char *error, size_t cap)
{
	ERR_clear_error();
	SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
	if (s->verify != TLS_VERIFY_NONE &&
	    (!load_authorities(ssl, s->ca_file) || !name_authorities(ssl, s))) {
		(void)snprintf(error, cap, "cannot load the authorities of %s: %s",
		               is_set(s->ca_file) ? s->ca_file : "the system", reason());
		return false;
	}
	if (!load_own(ssl, s)) {
		(void)snprintf(error, cap, "cannot load the certificate %s and its key%s%s: %s",
		               s->cert_file, is_set(s->key_file) ? " " : "",
		               is_set(s->key_file) ? s->key_file : "", reason());
		return false;
	}
	if (is_set(s->ciphers) && SSL_CTX_set_cipher_list(ssl, s->ciphers) != 1) {
		(void)snprintf(error, cap, "no cipher of the list is known to OpenSSL: %s", reason());
		return false;
	}
	SSL_CTX_set_verify(ssl, verify_flags(s), NULL);
	context_harden(ssl, s);
	return offer_alpn(ssl, s) &&
	       SSL_CTX_set_min_proto_version(ssl, s->no_1_2 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(ssl, s->no_1_3 ? TLS1_2_VERSION : 0) == 1;
}

struct tls_context *tls_context_new(const struct tls_settings *s, char *error, size_t error_cap)
{
	struct tls_context *c = calloc(1, sizeof(*c));
	const SSL_METHOD *method = s->side == TLS_SERVER ? TLS_server_method() : TLS_client_method();
	(void)snprintf(error, error_cap, "no memory");
	if (c && (c->ssl = SSL_CTX_new(method)) && context_fill(c->ssl, s, error, error_cap)) {
		c->users = 1;
		c->side = s->side;
		c->verify = s->verify;
		c->alpn = s->alpn;
		return c;
	}
	tls_context_free(c);
	return NULL;
}

struct tls_context *tls_context_share(struct tls_context *c)
{
	if (c)
		c->users++;
	return c;
}

void tls_context_free(struct tls_context *c)
{
	if (!c || --c->users > 0)
		return;
	SSL_CTX_free(c->ssl);
	free(c);
}

void tls_context_swap(struct tls_context *into, struct tls_context *from)
{
	struct tls_context old = *into;
	*into = *from;
	into->users = old.users;
	old.users = from->users;
	*from = old;
}

/* ---- the transport, as OpenSSL wants it ---- */

static int first_read(struct tls *t, char *buf, size_t cap)
{
	size_t left = t->first_len - t->first_at;
	size_t n = left < cap ? left : cap;
	memcpy(buf, t->first + t->first_at, n);
	t->first_at += n;
	if (t->first_at == t->first_len) {
		free(t->first);
		t->first = NULL;
	}
	return (int)n;
}

static int transport_read(BIO *bio, char *buf, int cap)
{
	struct tls *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (t->first)
		return first_read(t, buf, (size_t)cap);
	ssize_t n = t->io.recv(t->io_arg, buf, (size_t)cap);
	t->starved = n == TLS_AGAIN;
	t->ended |= n == TLS_EOF;
	if (n == TLS_AGAIN)
		BIO_set_retry_read(bio);
	return n > 0 ? (int)n : n == TLS_EOF ? 0 : -1;
}

static int transport_write(BIO *bio, const char *ptr, int len)
{
	struct tls *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	ssize_t n = t->io.send(t->io_arg, ptr, (size_t)len);
	if (n == TLS_AGAIN)
		BIO_set_retry_write(bio);
	return n > 0 ? (int)n : -1;
}

static long transport_ctrl(BIO *bio, int command, long number, void *ptr)
{
	const struct tls *t = BIO_get_data(bio);
	if (command == BIO_CTRL_EOF)
		return t->ended;
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *transport; /* for the life of the process */

static void transport_init(void)
{
	transport = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tidemark");
	if (!transport)
		return;
	BIO_meth_set_read(transport, transport_read);
	BIO_meth_set_write(transport, transport_write);
	BIO_meth_set_ctrl(transport, transport_ctrl);
}

static BIO *transport_new(struct tls *t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, transport_init);
	BIO *bio = transport ? BIO_new(transport) : NULL;
	if (!bio)
		return NULL;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	return bio;
}

/* ---- connection ---- */

/* Whom the certificate must be made out to. Addresses are not sent as names (RFC 6066, 3). */
static bool expect_name(SSL *ssl, const char *name, bool verify)
{
	struct in6_addr address;
	bool is_address;
	if (!is_set(name))
		return !verify;
	is_address = inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
	if (is_address)
		return !verify || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return (!verify || SSL_set1_host(ssl, name) == 1) && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static bool connection_fill(struct tls *t, const struct tls_context *c, const char *name,
                            struct slice first)
{
	if (first.len > 0) {
		t->first = malloc(first.len);
		if (!t->first)
			return false;
		memcpy(t->first, first.ptr, first.len);
		t->first_len = first.len;
	}
	BIO *bio = transport_new(t);
	if (!bio)
		return false;
	SSL_set_bio(t->ssl, bio, bio);
	if (t->side == TLS_SERVER) {
		SSL_set_accept_state(t->ssl);
		return true;
	}
	SSL_set_connect_state(t->ssl);
	return expect_name(t->ssl, name, c->verify == TLS_VERIFY_NAME);
}

struct tls *tls_new(struct tls_context *c, const char *name, struct slice first,
                    const struct tls_io *io, void *io_arg)
{
	struct tls *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->side = c->side;
	t->alpn = c->alpn;
	t->io = *io;
	t->io_arg = io_arg;
	if ((t->ssl = SSL_new(c->ssl)) && connection_fill(t, c, name, first))
		return t;
	tls_free(t);
	return NULL;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (t->ssl && tls_is_ready(t) && !t->broken)
		(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
	SSL_free(t->ssl);
	free(t->first);
	free(t);
}

static int fail(struct tls *t)
{
	long verified = SSL_get_verify_result(t->ssl);
	const char *who = t->side == TLS_SERVER ? "client" : "server";
	t->broken = true;
	if (!tls_is_ready(t) && verified != X509_V_OK)
		(void)snprintf(t->error, sizeof(t->error), "the %s's certificate is refused: %s", who,
		               X509_verify_cert_error_string(verified));
	else if (ERR_peek_error() == 0)
		(void)snprintf(t->error, sizeof(t->error), "TLS: the %s closed the connection", who);
	else
		(void)snprintf(t->error, sizeof(t->error), "TLS: %s", reason());
	ERR_clear_error();
	return TLS_ERROR;
}

static int fail_alpn(struct tls *t)
{
	t->broken = true;
	(void)snprintf(t->error, sizeof(t->error),
	               "TLS: the server did not agree by ALPN to speak postgresql: direct TLS needs "
	               "PostgreSQL 17 or later");
	return TLS_ERROR;
}

int tls_shake_hands(struct tls *t)
{
	if (t->broken)
		return TLS_ERROR;
	ERR_clear_error();
	int rc = SSL_do_handshake(t->ssl);
	if (rc == 1)
		return t->alpn && !tls_speaks_postgresql(t) ? fail_alpn(t) : 0;
	int error = SSL_get_error(t->ssl, rc);
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? TLS_AGAIN : fail(t);
}

bool tls_is_ready(const struct tls *t)
{
	return SSL_is_init_finished(t->ssl);
}

bool tls_wants_write(const struct tls *t)
{
	return SSL_want_write(t->ssl);
}

ssize_t tls_read(struct tls *t, void *buf, size_t cap)
{
	assert(cap > 0 && cap <= INT_MAX);
	if (t->broken)
		return TLS_ERROR;
	ERR_clear_error();
	int n = SSL_read(t->ssl, buf, (int)cap);
	if (n > 0)
		return n;
	switch (SSL_get_error(t->ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return TLS_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		t->ended = true;
		return TLS_EOF;
	default:
		return fail(t);
	}
}

bool tls_has_more(const struct tls *t)
{
	if (t->broken || t->ended || SSL_pending(t->ssl) > 0)
		return true;
	return t->first || (!t->starved && SSL_has_pending(t->ssl));
}

ssize_t tls_write(struct tls *t, const void *ptr, size_t len)
{
	size_t sent = 0;
	if (t->broken || !tls_is_ready(t))
		return TLS_ERROR;
	while (sent < len) {
		size_t n = 0;
		ERR_clear_error();
		if (SSL_write_ex(t->ssl, (const uint8_t *)ptr + sent, len - sent, &n) == 1) {
			sent += n;
			continue;
		}
		if (SSL_get_error(t->ssl, 0) != SSL_ERROR_WANT_WRITE) {
			/* Why the peer went may stand in an alert that nobody has read yet. */
			uint8_t unread;
			if (ERR_peek_error() == 0)
				(void)SSL_read(t->ssl, &unread, sizeof(unread));
			return fail(t);
		}
		break;
	}
	return (ssize_t)sent;
}

const char *tls_error(const struct tls *t)
{
	return t->error;
}

/* ---- who is there ---- */

bool tls_peer_common_name(const struct tls *t, char *out, size_t cap)
{
	const X509 *x = SSL_get0_peer_certificate(t->ssl);
	if (!x || SSL_get_verify_result(t->ssl) != X509_V_OK ||
	    SSL_get_verify_mode(t->ssl) == SSL_VERIFY_NONE)
		return false;
	X509_NAME *subject = X509_get_subject_name(x);
	/* The first one, as PostgreSQL takes it. */
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (at < 0)
		return false;
	uint8_t *utf8 = NULL;
	int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	bool ok = len > 0 && (size_t)len < cap && !memchr(utf8, 0, (size_t)len);
	if (ok) {
		memcpy(out, utf8, (size_t)len);
		out[len] = '\0';
	}
	OPENSSL_free(utf8);
	return ok;
}

/* MD5 and SHA-1 are replaced by SHA-256, as the RFC has it. */
static const EVP_MD *end_point_digest(X509 *x)
{
	int digest = NID_undef;
	if (X509_get_signature_info(x, &digest, NULL, NULL, NULL) != 1 || digest == NID_undef)
		return NULL;
	return digest == NID_md5 || digest == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(digest);
}

size_t tls_end_point(const struct tls *t, uint8_t *out, size_t cap)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	X509 *x =
		t->side == TLS_SERVER ? SSL_get_certificate(t->ssl) : SSL_get0_peer_certificate(t->ssl);
	const EVP_MD *digest = x ? end_point_digest(x) : NULL;
	bool ok = digest && X509_digest(x, digest, hash, &len) == 1 && len <= cap;
	ERR_clear_error();
	if (!ok)
		return 0;
	memcpy(out, hash, len);
	return len;
}

bool tls_speaks_postgresql(const struct tls *t)
{
	const uint8_t *chosen;
	unsigned len;
	SSL_get0_alpn_selected(t->ssl, &chosen, &len);
	return len == sizeof(alpn_postgresql) - 1 && memcmp(chosen, alpn_postgresql + 1, len) == 0;
}

const char *tls_version(const struct tls *t)
{
	return SSL_get_version(t->ssl);
}

const char *tls_cipher(const struct tls *t)
{
	return SSL_get_cipher(t->ssl);
}
