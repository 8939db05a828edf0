/* SPDX-License-Identifier: PostgreSQL */
#include "tls_config.h"

#include <stdio.h>

/* PgBouncer's names for lists of ciphers. Here they are one: what keeps old traffic secret when a
 * key is lost, and notices a change. */
static const char good_ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20";

static const char *ciphers_of(const char *text)
{
	static const char *const names[] = {"", "default", "secure", "normal", "fast"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0)
			return good_ciphers;
	}
	return text;
}

static struct slice next_word(struct slice *rest)
{
	while (rest->len > 0 && (rest->ptr[0] == ',' || rest->ptr[0] == ' '))
		*rest = slice_from(*rest, 1);
	size_t n = 0;
	while (n < rest->len && rest->ptr[n] != ',' && rest->ptr[n] != ' ')
		n++;
	struct slice word = slice_of(rest->ptr, n);
	*rest = slice_from(*rest, n);
	return word;
}

static bool take_protocols(const char *text, struct tls_settings *s, char *why, size_t cap)
{
	struct slice rest = slice_str(text), word;
	s->no_1_2 = s->no_1_3 = true;
	while ((word = next_word(&rest)).len > 0) {
		bool all = slice_eq_str(word, "secure") || slice_eq_str(word, "default");
		if (!all && !slice_eq_str(word, "tlsv1.2") && !slice_eq_str(word, "tlsv1.3")) {
			snprintf(why, cap,
			         "unknown or too old protocol \"%.*s\"; expected secure, or some of tlsv1.2 and "
			         "tlsv1.3",
			         (int)(word.len < 40 ? word.len : 40), (const char *)word.ptr);
			return false;
		}
		s->no_1_2 &= !all && !slice_eq_str(word, "tlsv1.2");
		s->no_1_3 &= !all && !slice_eq_str(word, "tlsv1.3");
	}
	if (s->no_1_2 && s->no_1_3)
		s->no_1_2 = s->no_1_3 = false;
	return true;
}

static bool load(const struct tls_options *o, struct tls_settings *s, struct tls_context **out,
                 char *why, size_t cap)
{
	s->ca_file = o->ca_file;
	s->cert_file = o->cert_file;
	s->key_file = o->key_file;
	s->ciphers = ciphers_of(o->ciphers);
	if (!take_protocols(o->protocols, s, why, cap))
		return false;
	*out = tls_context_new(s, why, cap);
	return *out != NULL;
}

bool tls_config_clients(const struct tls_options *o, struct tls_context **out, char *why,
                        size_t cap)
{
	struct tls_settings s = {.side = TLS_SERVER};
	*out = NULL;
	if (o->mode == SSLMODE_DISABLE)
		return true;
	if (!o->cert_file[0] || !o->key_file[0]) {
		snprintf(why, cap, "TLS needs a certificate: set client_tls_cert_file and "
		                   "client_tls_key_file, or client_tls_sslmode = disable");
		return false;
	}
	if (o->mode >= SSLMODE_VERIFY_CA && !o->ca_file[0]) {
		snprintf(why, cap,
		         "client_tls_sslmode = verify-ca and verify-full need to know who vouches for the "
		         "clients' certificates: set client_tls_ca_file");
		return false;
	}
	s.verify = o->mode >= SSLMODE_VERIFY_CA ? TLS_VERIFY_CA
	           : o->ca_file[0]              ? TLS_VERIFY_IF_GIVEN
	                                        : TLS_VERIFY_NONE;
	return load(o, &s, out, why, cap);
}

static const char *said_or(const char *text, const char *otherwise)
{
	return text[0] ? text : otherwise;
}

bool tls_config_node(const struct tls_options *o, struct watch_node *node, char *why, size_t cap)
{
	struct tls_settings s = {.side = TLS_CLIENT};
	struct tls_options mine = *o;
	mine.mode = node->sslmode = node->has_sslmode ? node->sslmode : o->mode;
	snprintf(mine.ca_file, sizeof(mine.ca_file), "%s", said_or(node->sslrootcert, o->ca_file));
	snprintf(mine.cert_file, sizeof(mine.cert_file), "%s", said_or(node->sslcert, o->cert_file));
	snprintf(mine.key_file, sizeof(mine.key_file), "%s", said_or(node->sslkey, o->key_file));
	node->tls = NULL;
	s.alpn = node->tls_direct;
	if (node->tls_direct && mine.mode < SSLMODE_REQUIRE) {
		snprintf(why, cap,
		         "sslnegotiation=direct cannot go on in clear: set sslmode=require, or "
		         "better verify-full");
		return false;
	}
	if (mine.mode == SSLMODE_DISABLE)
		return true;
	if (mine.mode >= SSLMODE_VERIFY_CA && !mine.ca_file[0]) {
		snprintf(why, cap,
		         "sslmode=verify-ca and verify-full need to know who vouches for the server: set "
		         "sslrootcert or server_tls_ca_file to a file, or to system");
		return false;
	}
	if (mine.mode == SSLMODE_VERIFY_FULL)
		s.verify = TLS_VERIFY_NAME;
	else if (mine.mode >= SSLMODE_REQUIRE && mine.ca_file[0])
		s.verify = TLS_VERIFY_CA; /* libpq, too, looks at who it is where it can */
	else
		s.verify = TLS_VERIFY_NONE;
	if (strcmp(mine.ca_file, "system") == 0)
		mine.ca_file[0] = '\0';
	return load(&mine, &s, &node->tls, why, cap);
}
