/* SPDX-License-Identifier: PostgreSQL */
#include "auth.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "auth_lookup.h"
#include "pool.h"

#define SALT_LEN SCRAM_MOCK_SALT_LEN
#define SEED_MAX 512

/* One for each name, on all routers with the same key for tokens, whether there is such a user or
 * not. */
static void write_mock_seed(const struct client *c, struct buf *out)
{
	const struct token_key *k = &c->worker->settings->token_keys.keys[0];
	buf_init(out, SEED_MAX);
	buf_append_str(out, "salt of SCRAM");
	buf_append(out, k->inner, sizeof(k->inner));
	buf_append(out, k->outer, sizeof(k->outer));
	buf_append_str(out, c->login->user);
}

static bool is_md5(const char *secret)
{
	return strncmp(secret, "md5", 3) == 0 && strlen(secret) == MD5_PASSWORD_LEN;
}

static enum auth_step ask_md5(struct client *c, struct buf *out)
{
	struct client_login *l = c->login;
	net_random(l->salt, sizeof(l->salt));
	if (is_md5(l->secret))
		memcpy(l->stored, l->secret, MD5_PASSWORD_LEN + 1);
	else if (l->known)
		md5_stored(slice_str(l->secret), slice_str(l->user), l->stored);
	write_auth(out, AUTH_MD5, slice_of(l->salt, sizeof(l->salt)));
	return AUTH_MORE;
}

static enum auth_step ask_scram(struct client *c, struct buf *out)
{
	struct client_login *l = c->login;
	struct scram_secret secret;
	bool have = scram_secret_parse(slice_str(l->secret), &secret);
	struct buf seed;
	write_mock_seed(c, &seed);
	if (l->known && !have && !is_md5(l->secret)) {
		uint8_t salt[SALT_LEN];
		scram_mock_salt(buf_slice(&seed), salt);
		have = scram_secret_from_password(slice_str(l->secret), slice_of(salt, sizeof(salt)),
		                                  SCRAM_ITERATIONS, &secret);
	}
	l->known = have;
	l->scram = true;
	l->server = calloc(1, sizeof(*l->server));
	if (l->server)
		scram_server_init(l->server, have ? &secret : NULL, buf_slice(&seed));
	explicit_bzero(seed.data, seed.len);
	buf_release(&seed);
	if (!l->server)
		return AUTH_BROKEN;
	const struct tls *tls = net_stream_tls(c->stream);
	struct scram_binding binding = {0};
	if (tls)
		binding.len = tls_end_point(tls, binding.hash, sizeof(binding.hash));
	scram_server_bind(l->server, &binding);
	write_auth(out, AUTH_SASL, scram_server_mechanisms(l->server));
	return AUTH_MORE;
}

/* ---- who may, and how ---- */

__attribute__((format(printf, 2, 3))) static enum auth_step forbid(struct client *c,
                                                                   const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(c->login->why, sizeof(c->login->why), fmt, ap);
	va_end(ap);
	return AUTH_FORBIDDEN;
}

static const struct hba_rule *rule_for(struct client *c, struct hba_peer *p)
{
	*p = (struct hba_peer){
		.local = net_stream_is_local(c->stream),
		.tls = net_stream_tls(c->stream) != NULL,
		.database = c->login->database,
		.user = c->login->user,
	};
	if (!p->local && !net_stream_address(c->stream, &p->is_v6, p->address))
		return NULL;
	return hba_find(c->worker->settings->hba, p);
}

/* In PostgreSQL's words. */
static enum auth_step forbid_by_rule(struct client *c, const struct hba_peer *p, const char *fmt)
{
	char peer[80];
	net_stream_peer(c->stream, peer, sizeof(peer));
	char *port = strrchr(peer, ':');
	if (port)
		*port = '\0';
	return forbid(c, "%s host \"%s\", user \"%s\", database \"%s\", %s", fmt,
	              p->local ? "[local]" : peer, p->user, p->database,
	              p->tls ? "SSL encryption" : "no encryption");
}

static bool is_user(struct client *c, const struct hba_rule *r, const char *system_user)
{
	const struct hba *h = c->worker->settings->hba;
	return r ? hba_user_fits(h, r, system_user, c->login->user)
	         : strcmp(system_user, c->login->user) == 0;
}

static bool certified(struct client *c, char name[NAME_MAX_BYTES])
{
	const struct tls *t = net_stream_tls(c->stream);
	return t && tls_peer_common_name(t, name, NAME_MAX_BYTES);
}

static enum auth_step prove_by_cert(struct client *c, const struct hba_rule *r)
{
	char name[NAME_MAX_BYTES];
	if (!certified(c, name) || !is_user(c, r, name))
		return forbid(c, "certificate authentication failed for user \"%s\"", c->login->user);
	return AUTH_DONE;
}

static enum auth_step prove_by_peer(struct client *c, const struct hba_rule *r)
{
	char space[4096];
	struct passwd entry, *found = NULL;
	uid_t uid;
	if (!net_stream_peer_uid(c->stream, &uid) ||
	    getpwuid_r(uid, &entry, space, sizeof(space), &found) != 0 || !found ||
	    !is_user(c, r, found->pw_name))
		return forbid(c, "peer authentication failed for user \"%s\"", c->login->user);
	return AUTH_DONE;
}

static enum auth_step ask_plain(struct client *c, struct buf *out)
{
	if (!net_stream_tls(c->stream) && !net_stream_is_local(c->stream))
		return forbid(c, "a password in clear is asked for inside TLS only");
	c->login->plain = true;
	write_auth(out, AUTH_CLEARTEXT, (struct slice){0});
	return AUTH_MORE;
}

static enum auth_step ask_password(struct client *c, enum hba_method method, struct buf *out)
{
	struct client_login *l = c->login;
	l->known = l->secret[0] != '\0';
	if (method == HBA_PASSWORD)
		return ask_plain(c, out);
	/* A SCRAM secret can only be used for SCRAM; and whoever has no password is asked as most of those
	 * are who have one, as PostgreSQL does. */
	if (method == HBA_SCRAM || (l->lookup != LOOKUP_NONE && !l->known) ||
	    strncmp(l->secret, "SCRAM-SHA-256$", 14) == 0)
		return ask_scram(c, out);
	return ask_md5(c, out);
}

/* What is stored for the user, by auth_file before all others. False: it has to be asked for. */
static bool take_secret(struct client *c)
{
	struct client_login *l = c->login;
	const struct user_entry *u = user_find(c->worker->settings, slice_str(l->user));
	if (u) {
		snprintf(l->secret, sizeof(l->secret), "%s", u->secret);
		return true;
	}
	return l->lookup != LOOKUP_NONE || !lookup_configured(c);
}

/* He has proved who he is, or need not: a list of users is one of those who may come all the same.
 */
static enum auth_step let_in(struct client *c)
{
	if (!take_secret(c))
		return AUTH_LOOKUP;
	if (c->login->lookup == LOOKUP_ABSENT)
		return forbid(c, "auth_query has no user \"%s\"", c->login->user);
	return AUTH_DONE;
}

static enum auth_step begin_with(struct client *c, enum hba_method method,
                                 const struct hba_rule *r, struct buf *out)
{
	enum auth_step step;
	switch (method) {
	case HBA_TRUST:
		return let_in(c);
	case HBA_CERT:
		step = prove_by_cert(c, r);
		return step == AUTH_DONE ? let_in(c) : step;
	case HBA_PEER:
		step = prove_by_peer(c, r);
		return step == AUTH_DONE ? let_in(c) : step;
	case HBA_MD5:
	case HBA_SCRAM:
	case HBA_PASSWORD:
		return take_secret(c) ? ask_password(c, method, out) : AUTH_LOOKUP;
	case HBA_REJECT:
		break;
	}
	return forbid(c, "nobody is let in");
}

static enum auth_step begin_by_rules(struct client *c, struct buf *out)
{
	struct hba_peer p;
	char name[NAME_MAX_BYTES];
	const struct hba_rule *r = rule_for(c, &p);
	if (!r)
		return forbid_by_rule(c, &p, "no pg_hba.conf entry for");
	if (hba_rule_method(r) == HBA_REJECT)
		return forbid_by_rule(c, &p, "pg_hba.conf rejects connection for");
	if (hba_rule_clientcert(r) != HBA_CLIENTCERT_NONE && !certified(c, name))
		return forbid(c, "connection requires a valid client certificate");
	if (hba_rule_clientcert(r) == HBA_CLIENTCERT_FULL && strcmp(name, p.user) != 0)
		return forbid(c, "the client certificate is not of user \"%s\"", p.user);
	return begin_with(c, hba_rule_method(r), r, out);
}

enum auth_step auth_begin(struct client *c, struct buf *out)
{
	static const enum hba_method methods[] = {
		[AUTH_TYPE_TRUST] = HBA_TRUST, [AUTH_TYPE_MD5] = HBA_MD5,   [AUTH_TYPE_SCRAM] = HBA_SCRAM,
		[AUTH_TYPE_PLAIN] = HBA_PASSWORD, [AUTH_TYPE_CERT] = HBA_CERT, [AUTH_TYPE_PEER] = HBA_PEER,
	};
	enum auth_type type = c->worker->settings->auth_type;
	return type == AUTH_TYPE_HBA ? begin_by_rules(c, out)
	                             : begin_with(c, methods[type], NULL, out);
}

/* ---- answers ---- */

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
		    !scram_server_offers(l->server, mechanism)) {
			step = AUTH_BROKEN;
		} else if (scram_server_first(l->server, mechanism, first, nonce, &payload)) {
			write_auth(out, AUTH_SASL_CONTINUE, buf_slice(&payload));
			step = AUTH_MORE;
		}
	} else if (scram_server_final(l->server, body, &payload) && l->known) {
		write_auth(out, AUTH_SASL_FINAL, buf_slice(&payload));
		l->keys = l->server->keys;
		l->has_keys = true;
		step = AUTH_DONE;
	}
	buf_release(&payload);
	return l->server->fault ? forbid(c, "%s", l->server->fault) : step;
}

/* Who is unknown costs as much as who is not. */
static bool password_fits(struct client_login *l, struct slice text)
{
	char stored[MD5_PASSWORD_LEN + 1];
	struct scram_secret secret;
	static const uint8_t no_salt[SALT_LEN];
	if (!l->known) {
		(void)scram_secret_from_password(text, slice_of(no_salt, SALT_LEN), SCRAM_ITERATIONS,
		                                 &secret);
		return false;
	}
	if (strncmp(l->secret, "SCRAM-SHA-256$", 14) == 0)
		return l->has_keys = scram_secret_parse(slice_str(l->secret), &secret) &&
		                     scram_secret_check(&secret, text, &l->keys);
	if (is_md5(l->secret))
		return md5_stored(text, slice_str(l->user), stored) &&
		       same_text(slice_str(stored), l->secret);
	return same_text(text, l->secret);
}

static enum auth_step answer_plain(struct client *c, struct slice body)
{
	struct slice text;
	if (!msg_password_parse(body, &text))
		return AUTH_BROKEN;
	return text.len > 0 && password_fits(c->login, text) ? AUTH_DONE : AUTH_REFUSED;
}

enum auth_step auth_answer(struct client *c, struct slice body, struct buf *out)
{
	if (c->login->plain)
		return answer_plain(c, body);
	return c->login->scram ? answer_scram(c, body, out) : answer_md5(c, body);
}
