/* SPDX-License-Identifier: PostgreSQL */
#include "login.h"

#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "message.h"
#include "reader.h"

#define PROTOCOL_VIOLATION "08P01"
#define INVALID_AUTHORIZATION "28000"
#define INVALID_PASSWORD "28P01"

/* ================= ends ================= */

static void wipe_secrets(struct login *l)
{
	if (l->scram) {
		scram_client_release(l->scram);
		free(l->scram);
		l->scram = NULL;
	}
	OPENSSL_cleanse(l->secret, sizeof(l->secret));
}

/* A text cut at the buffer's end must not end in half a UTF-8 character. */
static void trim_utf8(char *text, size_t len)
{
	size_t lead = len;
	while (lead > 0 && ((uint8_t)text[lead - 1] & 0xc0) == 0x80)
		lead--;
	if (lead > 0 && (uint8_t)text[lead - 1] >= 0xc0)
		text[lead - 1] = '\0';
}

[[gnu::format(printf, 3, 4)]] static enum login_step fail(struct login *l, const char *sqlstate,
                                                          const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(l->error, sizeof(l->error), fmt, args);
	va_end(args);
	if (n >= (int)sizeof(l->error))
		trim_utf8(l->error, sizeof(l->error) - 1);
	snprintf(l->sqlstate, sizeof(l->sqlstate), "%s", sqlstate);
	l->state = LOGIN_STATE_FAILED;
	wipe_secrets(l);
	return LOGIN_FAILED;
}

static enum login_step fail_malformed(struct login *l, const char *what)
{
	return fail(l, PROTOCOL_VIOLATION, "server sent a malformed %s during login", what);
}

static enum login_step fail_unexpected(struct login *l, const char *what)
{
	return fail(l, PROTOCOL_VIOLATION,
	            "server sent %s where a login has no place for it: is it a PostgreSQL server?",
	            what);
}

/* The answer was written to `out`, or did not fit. */
static enum login_step answered(struct login *l, bool written, enum login_state next)
{
	if (!written)
		return fail(l, "53200", "no room for the answer to the server during login");
	l->state = next;
	return LOGIN_MORE;
}

/* ================= start ================= */

static bool has_nul(struct slice s)
{
	return s.len > 0 && memchr(s.ptr, 0, s.len);
}

static bool name_ok(struct slice s)
{
	return s.len < sizeof((struct login){0}.user) && !has_nul(s);
}

static bool secret_ok(enum secret_kind kind, struct slice secret)
{
	if (kind == SECRET_KEYS)
		return secret.len == sizeof(struct scram_keys);
	return secret.len < sizeof((struct login){0}.secret) && !has_nul(secret);
}
_Static_assert(sizeof(struct scram_keys) <= sizeof((struct login){0}.secret), "keys fit");

static bool identity_ok(struct slice user, struct slice application_name, enum secret_kind kind,
                        struct slice secret)
{
	return user.len > 0 && name_ok(user) && name_ok(application_name) && secret_ok(kind, secret);
}

/* The startup packet is in `out`. */
static void await_auth(struct login *l, struct slice user, enum secret_kind kind,
                       struct slice secret)
{
	buf_init(&l->params, LOGIN_PARAMS_MAX);
	memcpy(l->user, user.ptr, user.len);
	l->secret_kind = kind;
	if (kind != SECRET_NONE && secret.len > 0)
		memcpy(l->secret, secret.ptr, secret.len);
	l->state = LOGIN_STATE_AUTH;
}

typedef bool (*startup_fn)(struct buf *b, struct slice user, struct slice database,
                           struct slice application_name);

static bool start_with(startup_fn write, struct login *l, struct slice user, struct slice database,
                       struct slice application_name, enum secret_kind kind, struct slice secret,
                       struct buf *out)
{
	*l = (struct login){0};
	if (!identity_ok(user, application_name, kind, secret) || !name_ok(database) ||
	    !write(out, user, database, application_name))
		return false;
	await_auth(l, user, kind, secret);
	return true;
}

bool login_start(struct login *l, struct slice user, struct slice database,
                 struct slice application_name, enum secret_kind kind, struct slice secret,
                 struct buf *out)
{
	return start_with(write_startup, l, user, database, application_name, kind, secret, out);
}

bool login_start_fixed_path(struct login *l, struct slice user, struct slice database,
                            struct slice application_name, enum secret_kind kind,
                            struct slice secret, struct buf *out)
{
	return start_with(write_startup_fixed_path, l, user, database, application_name, kind, secret,
	                  out);
}

bool login_start_replication(struct login *l, struct slice user, struct slice application_name,
                             enum secret_kind kind, struct slice secret, struct buf *out)
{
	*l = (struct login){0};
	if (!identity_ok(user, application_name, kind, secret) ||
	    !write_startup_replication(out, user, application_name))
		return false;
	await_auth(l, user, kind, secret);
	return true;
}

void login_bind(struct login *l, enum channel_binding how, const struct scram_binding *binding)
{
	l->channel_binding = how;
	if (how != CHANNEL_BINDING_DISABLE)
		l->binding = *binding;
}

void login_release(struct login *l)
{
	wipe_secrets(l);
	OPENSSL_cleanse(l->key, sizeof(l->key));
	buf_release(&l->params);
	*l = (struct login){0};
}

/* ================= password and md5 ================= */

static enum login_step fail_no_secret(struct login *l, const char *method)
{
	return fail(l, INVALID_PASSWORD,
	            "server asks for %s authentication, but no password is known for user \"%s\": add "
	            "the user to the userlist",
	            method, l->user);
}

static enum login_step fail_other_secret(struct login *l, const char *method)
{
	return fail(l, INVALID_PASSWORD,
	            "server asks for %s authentication, but only the %s known for user \"%s\": put the "
	            "plain password in the userlist",
	            method,
	            l->secret_kind == SECRET_KEYS ? "keys of " SCRAM_MECHANISM " are"
	                                          : "md5 hash of the password is",
	            l->user);
}

static enum login_step on_cleartext(struct login *l, struct reader *r, struct buf *out)
{
	if (!reader_done(r))
		return fail_malformed(l, "password request");
	switch (l->secret_kind) {
	case SECRET_NONE:
		return fail_no_secret(l, "password");
	case SECRET_MD5:
	case SECRET_KEYS:
		return fail_other_secret(l, "password");
	case SECRET_PLAIN:
		break;
	}
	return answered(l, write_password(out, slice_str(l->secret)), LOGIN_STATE_ANSWERED);
}

static enum login_step on_md5(struct login *l, struct reader *r, struct buf *out)
{
	char stored[MD5_PASSWORD_LEN + 1], response[MD5_PASSWORD_LEN + 1];
	struct slice salt = reader_bytes(r, 4);
	if (!reader_done(r))
		return fail_malformed(l, "md5 password request");
	if (l->secret_kind == SECRET_NONE)
		return fail_no_secret(l, "md5");
	if (l->secret_kind == SECRET_KEYS)
		return fail_other_secret(l, "md5");
	bool ok = l->secret_kind == SECRET_MD5 ||
	          md5_stored(slice_str(l->secret), slice_str(l->user), stored);
	ok = ok && md5_response(l->secret_kind == SECRET_MD5 ? l->secret : stored, salt.ptr, response);
	OPENSSL_cleanse(stored, sizeof(stored));
	if (!ok)
		return fail(l, INVALID_PASSWORD,
		            "server asks for md5 authentication, but no md5 hash can be had for user "
		            "\"%s\": it must read md5 and 32 hex digits, and OpenSSL must allow md5",
		            l->user);
	return answered(l, write_password(out, slice_str(response)), LOGIN_STATE_ANSWERED);
}

/* ================= SCRAM ================= */

struct mechanisms {
	struct slice first;
	bool scram, plus;
};

/* The list of mechanisms: names, then an empty one. */
static bool mechanisms_parse(struct reader *r, struct mechanisms *m)
{
	*m = (struct mechanisms){0};
	for (;;) {
		struct slice name = reader_cstr(r);
		if (r->bad || name.len == 0)
			return reader_done(r);
		if (m->first.len == 0)
			m->first = name;
		m->scram |= slice_eq_str(name, SCRAM_MECHANISM);
		m->plus |= slice_eq_str(name, SCRAM_MECHANISM_PLUS);
	}
}

/* Where the login has to be tied to the connection and the server does not do it. */
static enum login_step fail_unbound(struct login *l)
{
	return fail(l, INVALID_AUTHORIZATION,
	            "channel_binding=require, but the server does not tie the login of user \"%s\" to "
	            "the TLS connection: it may be an impostor, or has no TLS, or does not ask for "
	            "scram-sha-256",
	            l->user);
}

static bool scram_init_secret(struct login *l)
{
	struct scram_keys keys;
	if (l->secret_kind != SECRET_KEYS)
		return scram_client_init(l->scram, slice_str(l->secret));
	memcpy(&keys, l->secret, sizeof(keys));
	scram_client_init_keys(l->scram, &keys);
	OPENSSL_cleanse(&keys, sizeof(keys));
	return true;
}

static bool scram_init(struct login *l, bool offered)
{
	if (!scram_init_secret(l))
		return false;
	l->bound = offered && l->binding.len > 0;
	if (l->bound)
		scram_client_bind(l->scram, &l->binding);
	else if (l->binding.len > 0)
		scram_client_could_bind(l->scram);
	return true;
}

static enum login_step scram_begin(struct login *l, const struct mechanisms *m,
                                   const uint8_t random[SCRAM_NONCE_RAW], struct buf *out)
{
	l->scram = calloc(1, sizeof(*l->scram));
	if (!l->scram)
		return fail(l, "53200", "out of memory during login");
	struct buf first;
	buf_init(&first, SCRAM_MESSAGE_MAX);
	bool ok = scram_init(l, m->plus) && scram_client_first(l->scram, random, &first) &&
	          write_sasl_initial(out, slice_str(l->bound ? SCRAM_MECHANISM_PLUS : SCRAM_MECHANISM),
	                             buf_slice(&first));
	buf_release(&first);
	return answered(l, ok, LOGIN_STATE_SASL);
}

static enum login_step on_sasl(struct login *l, struct reader *r,
                               const uint8_t random[SCRAM_NONCE_RAW], struct buf *out)
{
	struct mechanisms m;
	if (!mechanisms_parse(r, &m))
		return fail_malformed(l, "list of SASL mechanisms");
	if (l->channel_binding == CHANNEL_BINDING_REQUIRE && (!m.plus || l->binding.len == 0))
		return fail_unbound(l);
	if (!m.scram && !(m.plus && l->binding.len > 0))
		return fail(
			l, INVALID_AUTHORIZATION,
			"server asks for SASL authentication by \"%.*s\", but Tidemark knows only " SCRAM_MECHANISM
			": let the server's pg_hba.conf ask user \"%s\" for "
			"scram-sha-256",
			(int)(m.first.len < 64 ? m.first.len : 64), (const char *)m.first.ptr, l->user);
	switch (l->secret_kind) {
	case SECRET_NONE:
		return fail_no_secret(l, SCRAM_MECHANISM);
	case SECRET_MD5:
		return fail_other_secret(l, SCRAM_MECHANISM);
	case SECRET_PLAIN:
	case SECRET_KEYS:
		break;
	}
	return scram_begin(l, &m, random, out);
}

static enum login_step on_sasl_continue(struct login *l, struct reader *r, struct buf *out)
{
	struct buf answer;
	buf_init(&answer, SCRAM_MESSAGE_MAX);
	if (!scram_client_final(l->scram, reader_rest(r), &answer)) {
		buf_release(&answer);
		if (l->secret_kind == SECRET_KEYS)
			return fail(l, INVALID_PASSWORD,
			            "the SCRAM secret of user \"%s\" on the server is not the router's, so what "
			            "was learnt from the client does not count there: copy "
			            "pg_authid.rolpassword of the primary to the userlist",
			            l->user);
		return fail_malformed(l, "SCRAM message");
	}
	bool written = write_sasl_response(out, buf_slice(&answer));
	buf_release(&answer);
	return answered(l, written, LOGIN_STATE_SASL_FINAL);
}

static enum login_step on_sasl_final(struct login *l, struct reader *r)
{
	if (!scram_client_verify(l->scram, reader_rest(r)))
		return fail(l, INVALID_AUTHORIZATION,
		            "server could not prove that it knows the password of user \"%s\": it may be "
		            "an impostor, or the address is wrong",
		            l->user);
	wipe_secrets(l);
	l->state = LOGIN_STATE_ANSWERED;
	return LOGIN_MORE;
}

/* ================= messages ================= */

static const char *foreign_method(uint32_t code)
{
	switch (code) {
	case 2:
		return "Kerberos V5";
	case 6:
		return "SCM credential";
	case 7:
	case 8:
		return "GSSAPI";
	case 9:
		return "SSPI";
	}
	return NULL;
}

static enum login_step fail_method(struct login *l, uint32_t code)
{
	const char *name = foreign_method(code);
	char number[32];
	snprintf(number, sizeof(number), "unknown (code %u)", code);
	return fail(l, INVALID_AUTHORIZATION,
	            "server asks for %s authentication, which Tidemark can not give: let the server's "
	            "pg_hba.conf ask user \"%s\" for trust, password, md5 or scram-sha-256",
	            name ? name : number, l->user);
}

static enum login_step on_auth_ok(struct login *l, struct reader *r)
{
	if (!reader_done(r))
		return fail_malformed(l, "AuthenticationOk");
	/* In mid-SCRAM it would spare an impostor the proof that he knows the secret. */
	if (l->state != LOGIN_STATE_AUTH && l->state != LOGIN_STATE_ANSWERED)
		return fail_unexpected(l, "AuthenticationOk");
	if (l->channel_binding == CHANNEL_BINDING_REQUIRE && !l->bound)
		return fail_unbound(l);
	wipe_secrets(l);
	l->state = LOGIN_STATE_SETTLING;
	return LOGIN_MORE;
}

static enum login_step on_auth(struct login *l, struct slice body,
                               const uint8_t random[SCRAM_NONCE_RAW], struct buf *out)
{
	struct reader r = reader_of(body);
	uint32_t code = reader_u32(&r);
	if (r.bad)
		return fail_malformed(l, "authentication request");
	if (code == AUTH_OK)
		return on_auth_ok(l, &r);
	if (code == AUTH_SASL_CONTINUE && l->state == LOGIN_STATE_SASL)
		return on_sasl_continue(l, &r, out);
	if (code == AUTH_SASL_FINAL && l->state == LOGIN_STATE_SASL_FINAL)
		return on_sasl_final(l, &r);
	if (l->state != LOGIN_STATE_AUTH || code == AUTH_SASL_CONTINUE || code == AUTH_SASL_FINAL)
		return fail_unexpected(l, "an authentication request");
	if (l->channel_binding == CHANNEL_BINDING_REQUIRE && code != AUTH_SASL)
		return fail_unbound(l);
	switch (code) {
	case AUTH_CLEARTEXT:
		return on_cleartext(l, &r, out);
	case AUTH_MD5:
		return on_md5(l, &r, out);
	case AUTH_SASL:
		return on_sasl(l, &r, random, out);
	}
	return fail_method(l, code);
}

static bool sqlstate_ok(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!((s.ptr[i] >= '0' && s.ptr[i] <= '9') || (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z')))
			return false;
	return s.len == 5;
}

static enum login_step on_error(struct login *l, struct slice body)
{
	struct error_fields e;
	char sqlstate[6] = "XX000";
	if (!msg_error_parse(body, &e))
		return fail_malformed(l, "ErrorResponse");
	if (sqlstate_ok(e.sqlstate))
		memcpy(sqlstate, e.sqlstate.ptr, 5);
	if (e.message.len == 0)
		return fail(l, sqlstate, "server refused the login without saying why");
	l->told = true;
	return fail(l, sqlstate, "%.*s", SLICE_ARG(e.message));
}

static enum login_step on_parameter_status(struct login *l, struct slice body)
{
	struct slice name, value;
	if (!msg_parameter_status_parse(body, &name, &value) || name.len == 0)
		return fail_malformed(l, "ParameterStatus");
	/* The body is "name\0value\0" already. */
	if (!buf_append(&l->params, body.ptr, body.len))
		return fail(l, PROTOCOL_VIOLATION,
		            "server reported more than %u bytes of parameters during login",
		            LOGIN_PARAMS_MAX);
	return LOGIN_MORE;
}

static enum login_step on_key_data(struct login *l, struct slice body)
{
	struct slice key;
	if (!msg_key_data_parse(body, &l->pid, &key))
		return fail_malformed(l, "BackendKeyData");
	memcpy(l->key, key.ptr, key.len); /* at most 256 bytes, the parser saw to it */
	l->key_len = (uint16_t)key.len;
	return LOGIN_MORE;
}

static enum login_step on_ready(struct login *l, struct slice body)
{
	if (body.len != 1 || body.ptr[0] != TX_IDLE)
		return fail_malformed(l, "ReadyForQuery");
	l->state = LOGIN_STATE_DONE;
	return LOGIN_DONE;
}

static enum login_step fail_type(struct login *l, uint8_t type)
{
	char what[32];
	snprintf(what, sizeof(what), "a message of type 0x%02x", type);
	return fail_unexpected(l, what);
}

static enum login_step on_settling(struct login *l, const struct frame *f)
{
	switch (f->type) {
	case BE_PARAMETER_STATUS:
		return on_parameter_status(l, frame_body(f));
	case BE_KEY_DATA:
		return on_key_data(l, frame_body(f));
	case BE_READY:
		return on_ready(l, frame_body(f));
	}
	return fail_type(l, f->type);
}

enum login_step login_feed(struct login *l, const struct frame *f,
                           const uint8_t random[SCRAM_NONCE_RAW], struct buf *out)
{
	if (l->state == LOGIN_STATE_FAILED)
		return LOGIN_FAILED;
	if (l->state == LOGIN_STATE_START || l->state == LOGIN_STATE_DONE)
		return fail_type(l, f->type);
	if (f->body_len > LOGIN_MESSAGE_MAX)
		return fail(l, PROTOCOL_VIOLATION,
		            "server sent a message of %u bytes during login: is it a PostgreSQL server?",
		            f->body_len);
	if (f->type == BE_NOTICE)
		return LOGIN_MORE;
	if (f->type == BE_ERROR)
		return on_error(l, frame_body(f));
	if (l->state == LOGIN_STATE_SETTLING)
		return on_settling(l, f);
	if (f->type == BE_AUTHENTICATION)
		return on_auth(l, frame_body(f), random, out);
	return fail_type(l, f->type);
}
