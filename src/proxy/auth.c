/* SPDX-License-Identifier: PostgreSQL */
#include "auth.h"

#include <stdio.h>
#include <stdlib.h>

#include "pool.h"

#define SALT_LEN 16

static enum auth_step ask_md5(struct client *c, const struct user_entry *u, struct buf *out)
{
	struct client_login *l = c->login;
	net_random(l->salt, sizeof(l->salt));
	if (u && strncmp(u->secret, "md5", 3) == 0 && strlen(u->secret) == MD5_PASSWORD_LEN)
		snprintf(l->stored, sizeof(l->stored), "%s", u->secret);
	else if (u)
		md5_stored(slice_str(u->secret), slice_str(l->user), l->stored);
	write_auth(out, AUTH_MD5, slice_of(l->salt, sizeof(l->salt)));
	return AUTH_MORE;
}

static enum auth_step ask_scram(struct client *c, const struct user_entry *u, struct buf *out)
{
	struct client_login *l = c->login;
	struct scram_secret secret;
	bool have = u && scram_secret_parse(slice_str(u->secret), &secret);
	if (u && !have && strncmp(u->secret, "md5", 3) != 0) {
		uint8_t salt[SALT_LEN];
		net_random(salt, sizeof(salt));
		have = scram_secret_from_password(slice_str(u->secret), slice_of(salt, sizeof(salt)),
		                                  SCRAM_ITERATIONS, &secret);
	}
	l->known = have;
	l->scram = true;
	l->server = calloc(1, sizeof(*l->server));
	if (!l->server)
		return AUTH_BROKEN;
	scram_server_init(l->server, have ? &secret : NULL, slice_str(l->user));
	static const char mechanisms[] = SCRAM_MECHANISM "\0";
	write_auth(out, AUTH_SASL, slice_of(mechanisms, sizeof(mechanisms)));
	return AUTH_MORE;
}

enum auth_step auth_begin(struct client *c, struct buf *out)
{
	const struct settings *s = c->worker->settings;
	const struct user_entry *u = user_find(s, slice_str(c->login->user));
	if (s->auth_type == AUTH_TYPE_TRUST)
		return AUTH_DONE;
	c->login->known = u && u->secret[0];
	if (!c->login->known)
		u = NULL;
	/* A SCRAM secret can only be used for SCRAM. */
	if (s->auth_type == AUTH_TYPE_SCRAM || (u && strncmp(u->secret, "SCRAM-SHA-256$", 14) == 0))
		return ask_scram(c, u, out);
	return ask_md5(c, u, out);
}

static bool same_text(struct slice a, const char *b)
{
	size_t n = strlen(b);
	uint8_t diff = a.len != n;
	for (size_t i = 0; i < n; i++)
		diff |= (uint8_t)(b[i] ^ (i < a.len ? a.ptr[i] : 0));
	return diff == 0;
}

static enum auth_step answer_md5(struct client *c, struct slice body)
{
	struct client_login *l = c->login;
	struct slice text;
	char want[MD5_PASSWORD_LEN + 1];
	if (!msg_password_parse(body, &text))
		return AUTH_BROKEN;
	if (!l->known || !md5_response(l->stored, l->salt, want))
		return AUTH_REFUSED;
	return same_text(text, want) ? AUTH_DONE : AUTH_REFUSED;
}

static enum auth_step answer_scram(struct client *c, struct slice body, struct buf *out)
{
	struct client_login *l = c->login;
	struct buf payload;
	buf_init(&payload, SCRAM_MESSAGE_MAX);
	enum auth_step step = AUTH_REFUSED;
	if (!l->first_done) {
		struct slice mechanism, first;
		uint8_t nonce[SCRAM_NONCE_RAW];
		net_random(nonce, sizeof(nonce));
		l->first_done = true;
		if (!msg_sasl_initial_parse(body, &mechanism, &first) ||
		    !slice_eq_str(mechanism, SCRAM_MECHANISM)) {
			step = AUTH_BROKEN;
		} else if (scram_server_first(l->server, first, nonce, &payload)) {
			write_auth(out, AUTH_SASL_CONTINUE, buf_slice(&payload));
			step = AUTH_MORE;
		}
	} else if (scram_server_final(l->server, body, &payload) && l->known) {
		write_auth(out, AUTH_SASL_FINAL, buf_slice(&payload));
		step = AUTH_DONE;
	}
	buf_release(&payload);
	return step;
}

enum auth_step auth_answer(struct client *c, struct slice body, struct buf *out)
{
	return c->login->scram ? answer_scram(c, body, out) : answer_md5(c, body);
}
