/* SPDX-License-Identifier: PostgreSQL */
#include "tls.h"

#include <assert.h>
#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

struct tls_context {
	SSL_CTX *ssl;
};

struct tls {
	SSL *ssl;
	BIO *in, *out; /* owned by ssl */
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

static bool context_fill(SSL_CTX *ssl, const struct tls_settings *s, char *error, size_t cap)
{
	ERR_clear_error();
	if (!load_authorities(ssl, s->ca_file)) {
		(void)snprintf(error, cap, "cannot load the authorities of %s: %s",
		               is_set(s->ca_file) ? s->ca_file : "the system", reason());
		return false;
	}
	if (!load_own(ssl, s)) {
		(void)snprintf(error, cap, "cannot load the certificate %s and its key: %s", s->cert_file,
		               reason());
		return false;
	}
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1;
}

struct tls_context *tls_context_new(const struct tls_settings *s, char *error, size_t error_cap)
{
	struct tls_context *c = calloc(1, sizeof(*c));
	(void)snprintf(error, error_cap, "no memory");
	if (c && (c->ssl = SSL_CTX_new(TLS_client_method())) &&
	    context_fill(c->ssl, s, error, error_cap))
		return c;
	tls_context_free(c);
	return NULL;
}

void tls_context_free(struct tls_context *c)
{
	if (!c)
		return;
	SSL_CTX_free(c->ssl);
	free(c);
}

/* ---- connection ---- */

/* Whom the certificate must be made out to. Addresses are not sent as names (RFC 6066, 3). */
static bool expect_name(SSL *ssl, const char *name)
{
	struct in6_addr address;
	bool is_address =
		inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
	if (!is_set(name))
		return false;
	if (is_address)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static bool connection_fill(struct tls *t, const char *name)
{
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	if (!t->in || !t->out) {
		BIO_free(t->in);
		BIO_free(t->out);
		return false;
	}
	SSL_set_bio(t->ssl, t->in, t->out);
	SSL_set_connect_state(t->ssl);
	return expect_name(t->ssl, name);
}

struct tls *tls_new(struct tls_context *c, const char *server_name)
{
	struct tls *t = calloc(1, sizeof(*t));
	if (t && (t->ssl = SSL_new(c->ssl)) && connection_fill(t, server_name))
		return t;
	tls_free(t);
	return NULL;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	free(t);
}

bool tls_feed(struct tls *t, const void *ptr, size_t len)
{
	assert(len <= INT_MAX);
	return BIO_write(t->in, ptr, (int)len) == (int)len;
}

static ssize_t fail(struct tls *t)
{
	long verified = SSL_get_verify_result(t->ssl);
	if (verified != X509_V_OK)
		(void)snprintf(t->error, sizeof(t->error), "the server's certificate is refused: %s",
		               X509_verify_cert_error_string(verified));
	else
		(void)snprintf(t->error, sizeof(t->error), "TLS: %s", reason());
	ERR_clear_error();
	return TLS_ERROR;
}

ssize_t tls_read(struct tls *t, void *buf, size_t cap)
{
	assert(cap > 0 && cap <= INT_MAX);
	ERR_clear_error();
	int n = SSL_read(t->ssl, buf, (int)cap);
	if (n > 0)
		return n;
	switch (SSL_get_error(t->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		return TLS_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_EOF;
	default:
		return fail(t);
	}
}

bool tls_is_ready(const struct tls *t)
{
	return SSL_is_init_finished(t->ssl);
}

ssize_t tls_write(struct tls *t, const void *ptr, size_t len)
{
	size_t written;
	assert(tls_is_ready(t));
	ERR_clear_error();
	/* Memory takes everything. */
	if (SSL_write_ex(t->ssl, ptr, len, &written) != 1 || written != len)
		return fail(t);
	return (ssize_t)len;
}

bool tls_drain(struct tls *t, struct buf *out)
{
	char *data;
	long len = BIO_get_mem_data(t->out, &data);
	if (len <= 0)
		return true;
	bool fits = buf_append(out, data, (size_t)len);
	(void)BIO_reset(t->out);
	return fits;
}

const char *tls_error(const struct tls *t)
{
	return t->error;
}
