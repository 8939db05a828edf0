/* SPDX-License-Identifier: PostgreSQL
 *
 * net/tls.c, both sides against each other in one process, over pipes of memory that hold as little
 * as the test likes.
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

#define PIPE_MAX 65536

struct pipe {
	size_t cap;  /* how much is taken before it is full */
	size_t step; /* how much comes out at once */
	size_t len;
	bool ended;
	uint8_t bytes[PIPE_MAX];
};

struct end {
	struct pipe *in, *out;
};

struct pair {
	struct pipe up, down;
	struct end client_end, server_end;
	struct tls_context *client_context, *server_context;
	struct tls *client, *server;
	char cert[64], key[64];
};

static ssize_t pipe_recv(void *arg, void *buf, size_t cap)
{
	struct pipe *p = ((struct end *)arg)->in;
	size_t n = p->len < cap ? p->len : cap;
	n = n < p->step ? n : p->step;
	if (n == 0)
		return p->ended ? TLS_EOF : TLS_AGAIN;
	memcpy(buf, p->bytes, n);
	memmove(p->bytes, p->bytes + n, p->len - n);
	p->len -= n;
	return (ssize_t)n;
}

static ssize_t pipe_send(void *arg, const void *ptr, size_t len)
{
	struct pipe *p = ((struct end *)arg)->out;
	size_t room = p->cap - p->len;
	size_t n = len < room ? len : room;
	if (n == 0)
		return TLS_AGAIN;
	memcpy(p->bytes + p->len, ptr, n);
	p->len += n;
	return (ssize_t)n;
}

static const struct tls_io pipe_io = {.recv = pipe_recv, .send = pipe_send};

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

static void make_files(struct pair *p, const char *name)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = self_signed(key, name);
	(void)snprintf(p->cert, sizeof(p->cert), "/tmp/tidemark-t_tls-%d.crt", (int)getpid());
	(void)snprintf(p->key, sizeof(p->key), "/tmp/tidemark-t_tls-%d.key", (int)getpid());
	FILE *f = fopen(p->cert, "w");
	PEM_write_X509(f, x);
	fclose(f);
	f = fopen(p->key, "w");
	PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
}

static void setup(struct pair *p, struct tls_settings client, struct tls_settings server,
                  const char *name)
{
	char error[256];
	*p = (struct pair){.up = {.cap = PIPE_MAX, .step = PIPE_MAX},
	                   .down = {.cap = PIPE_MAX, .step = PIPE_MAX}};
	make_files(p, "tide.test");
	p->client_end = (struct end){.in = &p->down, .out = &p->up};
	p->server_end = (struct end){.in = &p->up, .out = &p->down};
	client.side = TLS_CLIENT;
	client.ca_file = p->cert;
	if (client.cert_file) {
		client.cert_file = p->cert;
		client.key_file = p->key;
	}
	server.side = TLS_SERVER;
	server.ca_file = server.verify == TLS_VERIFY_NONE ? NULL : p->cert;
	server.cert_file = p->cert;
	server.key_file = p->key;
	p->client_context = tls_context_new(&client, error, sizeof(error));
	assert_non_null(p->client_context);
	p->server_context = tls_context_new(&server, error, sizeof(error));
	assert_non_null(p->server_context);
	p->client = tls_new(p->client_context, name, (struct slice){0}, &pipe_io, &p->client_end);
	assert_non_null(p->client);
	p->server = tls_new(p->server_context, NULL, (struct slice){0}, &pipe_io, &p->server_end);
	assert_non_null(p->server);
}

static void teardown(struct pair *p)
{
	tls_free(p->client);
	tls_free(p->server);
	tls_context_free(p->client_context);
	tls_context_free(p->server_context);
	unlink(p->cert);
	unlink(p->key);
}

static const struct tls_settings plain_server = {.verify = TLS_VERIFY_NONE};

/* 0 when both are through, else the first that failed. */
static int shake(struct pair *p)
{
	int a = TLS_AGAIN, b = TLS_AGAIN;
	for (int i = 0; i < 20000 && (a == TLS_AGAIN || b == TLS_AGAIN); i++) {
		if (a == TLS_AGAIN)
			a = tls_shake_hands(p->client);
		if (b == TLS_AGAIN)
			b = tls_shake_hands(p->server);
		if (a == TLS_ERROR || b == TLS_ERROR)
			return TLS_ERROR;
	}
	return a == 0 && b == 0 ? 0 : TLS_AGAIN;
}

/* Sends all of it from one to the other, in writes of `piece` bytes, and compares. */
static void carry(struct tls *from, struct tls *to, size_t total, size_t piece)
{
	uint8_t *sent = malloc(total), *came = malloc(total);
	size_t out = 0, in = 0;
	for (size_t i = 0; i < total; i++)
		sent[i] = (uint8_t)(i * 7 + (i >> 8));
	for (int idle = 0; in < total && idle < 1000; idle++) {
		size_t n = total - out < piece ? total - out : piece;
		ssize_t w = n > 0 ? tls_write(from, sent + out, n) : 0;
		assert_true(w >= 0);
		out += (size_t)w;
		ssize_t r;
		while (in < total && (r = tls_read(to, came + in, total - in)) > 0) {
			in += (size_t)r;
			idle = 0;
		}
	}
	assert_int_equal(in, total);
	assert_memory_equal(sent, came, total);
	free(sent);
	free(came);
}

static void text_goes_both_ways_however_it_is_cut(void **state)
{
	for (size_t step = 1; step < 40; step += 3) {
		struct pair p;
		uint8_t byte;
		setup(&p, (struct tls_settings){0}, plain_server, step % 2 ? "tide.test" : "127.0.0.1");
		p.up.step = p.down.step = step;
		assert_int_equal(shake(&p), 0);
		carry(p.client, p.server, 3000, 1000);
		carry(p.server, p.client, 3000, 17);
		tls_free(p.server);
		p.server = NULL;
		while ((tls_read(p.client, &byte, 1)) == TLS_AGAIN)
			;
		assert_int_equal(tls_read(p.client, &byte, 1), TLS_EOF);
		assert_true(tls_has_more(p.client));
		teardown(&p);
	}
}

/* What the transport does not take stays with the caller, but for one record. */
static void a_full_transport_takes_no_more(void **state)
{
	static const size_t caps[] = {1, 100, 5000, 40000};
	static uint8_t much[1 << 20];
	for (int i = 0; i < 4; i++) {
		struct pair p;
		setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
		assert_int_equal(shake(&p), 0);
		p.down.cap = caps[i];
		ssize_t n = tls_write(p.server, much, sizeof(much));
		assert_true(n >= 0 && (size_t)n <= caps[i]);
		assert_true(tls_wants_write(p.server));
		assert_int_equal(tls_write(p.server, much + n, sizeof(much) - (size_t)n), 0);
		teardown(&p);

		setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
		assert_int_equal(shake(&p), 0);
		p.down.cap = caps[i] < 100 ? 100 : caps[i];
		carry(p.server, p.client, 200000, 70000);
		teardown(&p);
	}
}

static void what_was_read_before_counts_first(void **state)
{
	for (size_t early = 1; early < 200; early += 13) {
		struct pair p;
		uint8_t first[200];
		setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
		assert_int_equal(tls_shake_hands(p.client), TLS_AGAIN);
		tls_free(p.server);
		p.up.step = early;
		assert_int_equal(pipe_recv(&p.server_end, first, sizeof(first)), early);
		p.up.step = PIPE_MAX;
		p.server =
			tls_new(p.server_context, NULL, slice_of(first, early), &pipe_io, &p.server_end);
		assert_int_equal(shake(&p), 0);
		carry(p.client, p.server, 100, 100);
		teardown(&p);
	}
}

/* A record is not half read: more is there, and the caller must know it. */
static void what_is_held_is_told(void **state)
{
	struct pair p;
	uint8_t few[10];
	setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_false(tls_has_more(p.client));
	assert_int_equal(tls_write(p.server, "0123456789", 10), 10);
	assert_int_equal(tls_write(p.server, "0123456789", 10), 10);
	assert_int_equal(tls_read(p.client, few, 4), 4);
	assert_true(tls_has_more(p.client));
	assert_int_equal(tls_read(p.client, few, 10), 6);
	assert_int_equal(p.down.len, 0); /* the second record was read along with the first */
	assert_true(tls_has_more(p.client));
	assert_int_equal(tls_read(p.client, few, 10), 10);
	assert_int_equal(tls_read(p.client, few, 10), TLS_AGAIN);
	assert_false(tls_has_more(p.client));
	teardown(&p);
}

static void another_name_is_refused(void **state)
{
	static const char *const names[] = {"tides.test", "127.0.0.2", "::1"};
	for (int i = 0; i < 3; i++) {
		struct pair p;
		uint8_t byte;
		setup(&p, (struct tls_settings){0}, plain_server, names[i]);
		assert_int_equal(shake(&p), TLS_ERROR);
		assert_non_null(strstr(tls_error(p.client), "mismatch"));
		assert_false(tls_is_ready(p.client));
		assert_int_equal(tls_write(p.client, "x", 1), TLS_ERROR);
		assert_int_equal(tls_read(p.client, &byte, 1), TLS_ERROR);
		teardown(&p);
		/* Who asks for less gets it. */
		setup(&p, (struct tls_settings){.verify = TLS_VERIFY_CA}, plain_server, names[i]);
		assert_int_equal(shake(&p), 0);
		teardown(&p);
	}
}

static void a_client_may_have_to_show_a_certificate(void **state)
{
	static const struct tls_settings with = {.cert_file = "its own"}, without = {0};
	struct pair p;
	char name[64];
	setup(&p, with, (struct tls_settings){.verify = TLS_VERIFY_CA}, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_true(tls_peer_common_name(p.server, name, sizeof(name)));
	assert_string_equal(name, "tide.test");
	assert_false(tls_peer_common_name(p.server, name, strlen("tide.test")));
	teardown(&p);

	setup(&p, without, (struct tls_settings){.verify = TLS_VERIFY_CA}, "tide.test");
	(void)shake(&p); /* the client of TLS 1.3 is through before it is refused */
	assert_int_equal(tls_shake_hands(p.server), TLS_ERROR);
	assert_false(tls_is_ready(p.server));
	teardown(&p);

	setup(&p, without, (struct tls_settings){.verify = TLS_VERIFY_IF_GIVEN}, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_false(tls_peer_common_name(p.server, name, sizeof(name)));
	teardown(&p);

	/* Nobody looked at it: it proves nothing. */
	setup(&p, with, plain_server, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_false(tls_peer_common_name(p.server, name, sizeof(name)));
	teardown(&p);
}

static void versions_are_those_that_are_wanted(void **state)
{
	struct pair p;
	setup(&p, (struct tls_settings){.no_1_3 = true}, plain_server, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_string_equal(tls_version(p.server), "TLSv1.2");
	carry(p.server, p.client, 50000, 20000);
	teardown(&p);
	setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_string_equal(tls_version(p.server), "TLSv1.3");
	teardown(&p);
	setup(&p, (struct tls_settings){.no_1_3 = true},
	      (struct tls_settings){.verify = TLS_VERIFY_NONE, .no_1_2 = true}, "tide.test");
	assert_int_equal(shake(&p), TLS_ERROR);
	teardown(&p);
}

static void a_swapped_context_counts_from_then_on(void **state)
{
	struct pair p;
	char error[256];
	setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
	assert_int_equal(shake(&p), 0);
	make_files(&p, "ebb.test");
	struct tls_settings s = {.side = TLS_SERVER,
	                         .verify = TLS_VERIFY_NONE,
	                         .cert_file = p.cert,
	                         .key_file = p.key};
	struct tls_context *fresh = tls_context_new(&s, error, sizeof(error));
	assert_non_null(fresh);
	tls_context_swap(p.server_context, fresh);
	tls_context_free(fresh);
	carry(p.client, p.server, 100, 100); /* who is there stays */
	tls_free(p.client);
	tls_free(p.server);
	p.up.len = p.down.len = 0;
	p.client = tls_new(p.client_context, "tide.test", (struct slice){0}, &pipe_io, &p.client_end);
	p.server = tls_new(p.server_context, NULL, (struct slice){0}, &pipe_io, &p.server_end);
	assert_int_equal(shake(&p), TLS_ERROR);
	teardown(&p);
}

static void both_ends_know_the_certificate_by_one_hash(void **state)
{
	struct pair p, other;
	uint8_t a[TLS_END_POINT_MAX], b[TLS_END_POINT_MAX], c[TLS_END_POINT_MAX];
	setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
	setup(&other, (struct tls_settings){0}, plain_server, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_int_equal(shake(&other), 0);
	assert_int_equal(tls_end_point(p.client, a, sizeof(a)), 32);
	assert_int_equal(tls_end_point(p.server, b, sizeof(b)), 32);
	assert_int_equal(tls_end_point(other.client, c, sizeof(c)), 32);
	assert_memory_equal(a, b, 32);
	assert_memory_not_equal(a, c, 32);
	assert_int_equal(tls_end_point(p.client, a, 31), 0);
	teardown(&p);
	teardown(&other);
}

static void postgresql_is_agreed_upon_by_alpn(void **state)
{
	struct pair p;
	setup(&p, (struct tls_settings){.alpn = true}, plain_server, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_true(tls_speaks_postgresql(p.client) && tls_speaks_postgresql(p.server));
	teardown(&p);
	setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
	assert_int_equal(shake(&p), 0);
	assert_false(tls_speaks_postgresql(p.client) || tls_speaks_postgresql(p.server));
	teardown(&p);
}

static void noise_is_an_error(void **state)
{
	for (int seed = 0; seed < 50; seed++) {
		struct pair p;
		unsigned x = (unsigned)seed * 2654435761U + 1;
		setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
		for (size_t i = 0; i < PIPE_MAX; i++)
			p.up.bytes[i] = p.down.bytes[i] = (uint8_t)((x = x * 1664525U + 1013904223U) >> 24);
		p.up.len = p.down.len = 30000;
		assert_int_equal(tls_shake_hands(p.client), TLS_ERROR);
		assert_int_equal(tls_shake_hands(p.server), TLS_ERROR);
		assert_true(tls_error(p.server)[0] != '\0');
		teardown(&p);
	}
}

/* Every bit of what was encrypted counts. */
static void a_flipped_bit_is_an_error(void **state)
{
	for (size_t bit = 0; bit < 40 * 8; bit += 7) {
		struct pair p;
		uint8_t byte[64];
		setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
		assert_int_equal(shake(&p), 0);
		assert_int_equal(tls_write(p.client, "let me see your table, please", 29), 29);
		p.up.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		p.up.ended = true;
		assert_true(tls_read(p.server, byte, sizeof(byte)) < 0);
		assert_true(tls_read(p.server, byte, sizeof(byte)) < 0);
		teardown(&p);
	}
}

static void an_end_amid_the_handshake_is_an_error(void **state)
{
	struct pair p;
	setup(&p, (struct tls_settings){0}, plain_server, "tide.test");
	assert_int_equal(tls_shake_hands(p.client), TLS_AGAIN);
	p.up.len /= 2;
	p.up.ended = true;
	assert_int_equal(tls_shake_hands(p.server), TLS_ERROR);
	assert_non_null(strstr(tls_error(p.server), "closed"));
	teardown(&p);
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
	struct tls_settings no_cipher = {.ciphers = "ROT13"};
	assert_null(tls_context_new(&no_cipher, error, sizeof(error)));
	assert_non_null(strstr(error, "cipher"));
	struct tls_settings nothing = {0};
	struct tls_context *c = tls_context_new(&nothing, error, sizeof(error));
	struct end end = {0};
	assert_non_null(c);
	assert_null(tls_new(c, "", (struct slice){0}, &pipe_io, &end));
	assert_null(tls_new(c, NULL, (struct slice){0}, &pipe_io, &end));
	tls_context_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_goes_both_ways_however_it_is_cut),
		cmocka_unit_test(a_full_transport_takes_no_more),
		cmocka_unit_test(what_was_read_before_counts_first),
		cmocka_unit_test(what_is_held_is_told),
		cmocka_unit_test(another_name_is_refused),
		cmocka_unit_test(a_client_may_have_to_show_a_certificate),
		cmocka_unit_test(versions_are_those_that_are_wanted),
		cmocka_unit_test(a_swapped_context_counts_from_then_on),
		cmocka_unit_test(both_ends_know_the_certificate_by_one_hash),
		cmocka_unit_test(postgresql_is_agreed_upon_by_alpn),
		cmocka_unit_test(noise_is_an_error),
		cmocka_unit_test(a_flipped_bit_is_an_error),
		cmocka_unit_test(an_end_amid_the_handshake_is_an_error),
		cmocka_unit_test(files_that_cannot_be_used_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
