/* SPDX-License-Identifier: PostgreSQL
 *
 * net/tls.c against OpenSSL's own server in the same process, without sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/tls.h"

struct pair {
	struct tls_context *context;
	struct tls *client;
	SSL_CTX *server_context;
	SSL *server;
	BIO *to_server, *from_server;
	char file[64];
};

static X509 *self_signed(EVP_PKEY *key, const char *name)
{
	X509 *x = X509_new();
	X509_NAME *subject = X509_get_subject_name(x);
	char names[128];
	(void)snprintf(names, sizeof(names), "DNS:%s,IP:127.0.0.1", name);
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
	X509_set_issuer_name(x, subject);
	X509_set_pubkey(x, key);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	return x;
}

static void make_server(struct pair *p)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = self_signed(key, "tide.test");
	(void)snprintf(p->file, sizeof(p->file), "/tmp/tidemark-t_tls-%d.pem", (int)getpid());
	FILE *f = fopen(p->file, "w");
	PEM_write_X509(f, x);
	fclose(f);
	p->server_context = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate(p->server_context, x);
	SSL_CTX_use_PrivateKey(p->server_context, key);
	p->server = SSL_new(p->server_context);
	p->to_server = BIO_new(BIO_s_mem());
	p->from_server = BIO_new(BIO_s_mem());
	SSL_set_bio(p->server, p->to_server, p->from_server);
	SSL_set_accept_state(p->server);
	X509_free(x);
	EVP_PKEY_free(key);
}

static void setup(struct pair *p, const char *name)
{
	char error[256];
	*p = (struct pair){0};
	make_server(p);
	struct tls_settings s = {.ca_file = p->file};
	p->context = tls_context_new(&s, error, sizeof(error));
	assert_non_null(p->context);
	p->client = tls_new(p->context, name);
	assert_non_null(p->client);
}

static void teardown(struct pair *p)
{
	tls_free(p->client);
	tls_context_free(p->context);
	SSL_free(p->server);
	SSL_CTX_free(p->server_context);
	unlink(p->file);
}

/* Moves what there is, `step` bytes at a time to the client, and returns what its last read said.
 * The server sends back what it reads. */
static ssize_t turn(struct pair *p, size_t step, struct buf *plain)
{
	uint8_t bytes[4096];
	struct buf wire;
	ssize_t said;
	int n;
	buf_init(&wire, 1 << 20);
	while ((said = tls_read(p->client, bytes, sizeof(bytes))) > 0)
		assert_true(buf_append(plain, bytes, (size_t)said));
	assert_true(tls_drain(p->client, &wire));
	if (wire.len > 0)
		BIO_write(p->to_server, buf_slice(&wire).ptr, (int)wire.len);
	buf_release(&wire);
	while ((n = SSL_read(p->server, bytes, sizeof(bytes))) > 0)
		SSL_write(p->server, bytes, n);
	while (said == TLS_AGAIN && (n = BIO_read(p->from_server, bytes, (int)step)) > 0) {
		ssize_t got;
		uint8_t more[4096];
		assert_true(tls_feed(p->client, bytes, (size_t)n));
		while ((got = tls_read(p->client, more, sizeof(more))) > 0)
			assert_true(buf_append(plain, more, (size_t)got));
		said = got;
	}
	return said;
}

static void shake_hands(struct pair *p, size_t step, struct buf *plain)
{
	for (int i = 0; i < 10 && !tls_is_ready(p->client); i++)
		assert_int_equal(turn(p, step, plain), TLS_AGAIN);
	assert_true(tls_is_ready(p->client));
}

static void text_goes_both_ways_however_it_is_cut(void **state)
{
	for (size_t step = 1; step < 40; step += 3) {
		struct pair p;
		struct buf plain;
		setup(&p, step % 2 ? "tide.test" : "127.0.0.1");
		buf_init(&plain, 65536);
		shake_hands(&p, step, &plain);
		for (int i = 0; i < 3; i++)
			assert_int_equal(tls_write(p.client, "over the sea", 12), 12);
		turn(&p, step, &plain);
		turn(&p, step, &plain);
		assert_int_equal(plain.len, 36);
		assert_memory_equal(buf_slice(&plain).ptr, "over the seaover the sea", 24);
		SSL_shutdown(p.server);
		assert_int_equal(turn(&p, step, &plain), TLS_EOF);
		buf_release(&plain);
		teardown(&p);
	}
}

static void another_name_is_refused(void **state)
{
	static const char *const names[] = {"tides.test", "127.0.0.2", "::1"};
	for (int i = 0; i < 3; i++) {
		struct pair p;
		struct buf plain;
		ssize_t said = TLS_AGAIN;
		setup(&p, names[i]);
		buf_init(&plain, 65536);
		for (int j = 0; j < 5 && said == TLS_AGAIN; j++)
			said = turn(&p, 4096, &plain);
		assert_int_equal(said, TLS_ERROR);
		assert_non_null(strstr(tls_error(p.client), "mismatch"));
		assert_false(tls_is_ready(p.client));
		buf_release(&plain);
		teardown(&p);
	}
}

static void noise_is_an_error(void **state)
{
	for (int seed = 0; seed < 200; seed++) {
		struct pair p;
		uint8_t bytes[64];
		ssize_t said = TLS_AGAIN;
		unsigned x = (unsigned)seed * 2654435761U + 1;
		setup(&p, "tide.test");
		assert_int_equal(tls_read(p.client, bytes, sizeof(bytes)), TLS_AGAIN);
		for (int round = 0; round < 1000 && said == TLS_AGAIN; round++) {
			for (size_t i = 0; i < sizeof(bytes); i++)
				bytes[i] = (uint8_t)((x = x * 1664525U + 1013904223U) >> 24);
			assert_true(tls_feed(p.client, bytes, sizeof(bytes)));
			said = tls_read(p.client, bytes, sizeof(bytes));
		}
		assert_int_equal(said, TLS_ERROR);
		teardown(&p);
	}
}

static void files_that_cannot_be_used_are_named(void **state)
{
	char error[256];
	struct tls_settings no_ca = {.ca_file = "/nonexistent/ca"};
	assert_null(tls_context_new(&no_ca, error, sizeof(error)));
	assert_non_null(strstr(error, "/nonexistent/ca"));
	struct tls_settings no_cert = {.cert_file = "/nonexistent/cert"};
	assert_null(tls_context_new(&no_cert, error, sizeof(error)));
	assert_non_null(strstr(error, "/nonexistent/cert"));
	struct tls_settings nothing = {0};
	struct tls_context *c = tls_context_new(&nothing, error, sizeof(error));
	assert_non_null(c);
	assert_null(tls_new(c, ""));
	tls_context_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_goes_both_ways_however_it_is_cut),
		cmocka_unit_test(another_name_is_refused),
		cmocka_unit_test(noise_is_an_error),
		cmocka_unit_test(files_that_cannot_be_used_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
