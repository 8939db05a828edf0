/* SPDX-License-Identifier: PostgreSQL
 *
 * The login machine against scripted servers: every method, an error at every step, and nonsense.
 */
#include "pgwire/login.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "pgwire/message.h"

static const uint8_t nonce[SCRAM_NONCE_RAW] = "client's own nonce";
static const uint8_t server_nonce[SCRAM_NONCE_RAW] = "server's own nonce";
static const uint8_t salt[4] = {1, 2, 3, 4};

#define FEW_ITERATIONS 16 /* thousands of logins are run here */
#define PASSWORD "secret"
#define STORED_MD5 "md54a0a68b43b6cd5cf266fa02f196e2371" /* of "secret" and "alice" */

/* ---- a server and the machine, face to face ---- */

struct stage {
	struct login login;
	struct buf from_server;
	struct buf to_server;
	struct scram_server scram;
};

static void begin(struct stage *s, enum secret_kind kind, const char *secret)
{
	*s = (struct stage){0};
	buf_init(&s->from_server, 1 << 20);
	buf_init(&s->to_server, 1 << 16);
	assert_true(login_start(&s->login, slice_str("alice"), slice_str("shop"), slice_str("tidemark"),
	                        kind, slice_str(secret), &s->to_server));
	buf_reset(&s->to_server);
}

static void end(struct stage *s)
{
	login_release(&s->login);
	buf_release(&s->from_server);
	buf_release(&s->to_server);
}

/* Feeds the one message in from_server, its body at the end of a heap block. */
static enum login_step feed(struct stage *s)
{
	struct frame f = {0};
	assert_int_equal(frame_peek(buf_slice(&s->from_server), &f), PARSE_OK);
	assert_true(frame_complete(&f, buf_slice(&s->from_server)));
	uint8_t *body = malloc(f.body_len ? f.body_len : 1);
	memcpy(body, f.body, f.body_len);
	f.body = body;
	enum login_step step = login_feed(&s->login, &f, nonce, &s->to_server);
	free(body);
	buf_consume(&s->from_server, frame_size(&f));
	assert_int_equal(s->from_server.len, 0);
	return step;
}

static enum login_step auth(struct stage *s, uint32_t code, struct slice payload)
{
	assert_true(write_auth(&s->from_server, code, payload));
	return feed(s);
}

static enum login_step raw(struct stage *s, uint8_t type, struct slice body)
{
	size_t at = message_begin(&s->from_server, type);
	buf_append(&s->from_server, body.ptr, body.len);
	assert_true(message_end(&s->from_server, at));
	return feed(s);
}

static enum login_step server_error(struct stage *s)
{
	assert_true(write_error(&s->from_server, "FATAL", "57P03", "starting up", NULL));
	return feed(s);
}

static enum login_step notice(struct stage *s)
{
	assert_true(write_error(&s->from_server, "NOTICE", "00000", "hello", NULL));
	return feed(s);
}

static enum login_step ready(struct stage *s)
{
	assert_true(write_ready(&s->from_server, TX_IDLE));
	return feed(s);
}

/* The body of the password message the machine has just sent. */
static struct slice answer(struct stage *s)
{
	struct frame f = {0};
	assert_int_equal(frame_peek(buf_slice(&s->to_server), &f), PARSE_OK);
	assert_int_equal(f.type, FE_PASSWORD);
	assert_int_equal(frame_size(&f), s->to_server.len);
	return frame_body(&f);
}

static void assert_failed(struct stage *s, const char *sqlstate, const char *in_text)
{
	static const char zero[sizeof(s->login.secret)];
	assert_int_equal(s->login.state, LOGIN_STATE_FAILED);
	assert_string_equal(s->login.sqlstate, sqlstate);
	if (!strstr(s->login.error, in_text))
		fail_msg("\"%s\" does not say \"%s\"", s->login.error, in_text);
	assert_memory_equal(s->login.secret, zero, sizeof(zero));
	assert_null(s->login.scram);
	assert_int_equal(notice(s), LOGIN_FAILED); /* for good */
}

/* ---- a SCRAM server, step by step ---- */

static enum login_step scram_offer(struct stage *s)
{
	static const char mechanisms[] = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0";
	return auth(s, AUTH_SASL, slice_of(mechanisms, sizeof(mechanisms)));
}

static enum login_step scram_continue(struct stage *s, const char *password)
{
	struct scram_secret secret;
	struct slice mechanism, response;
	struct buf first;
	assert_true(scram_secret_from_password(slice_str(password), slice_str("salt of alice"),
	                                       FEW_ITERATIONS, &secret));
	scram_server_init(&s->scram, &secret, (struct slice){0});
	scram_server_bind(&s->scram, &s->login.binding);
	assert_true(msg_sasl_initial_parse(answer(s), &mechanism, &response));
	assert_true(slice_eq_str(mechanism, s->login.bound ? SCRAM_MECHANISM_PLUS : SCRAM_MECHANISM));
	buf_init(&first, SCRAM_MESSAGE_MAX);
	assert_true(scram_server_first(&s->scram, mechanism, response, server_nonce, &first));
	buf_reset(&s->to_server);
	assert_true(write_auth(&s->from_server, AUTH_SASL_CONTINUE, buf_slice(&first)));
	buf_release(&first);
	return feed(s);
}

static enum login_step scram_finish(struct stage *s)
{
	struct buf last;
	buf_init(&last, SCRAM_MESSAGE_MAX);
	assert_true(scram_server_final(&s->scram, answer(s), &last));
	buf_reset(&s->to_server);
	assert_true(write_auth(&s->from_server, AUTH_SASL_FINAL, buf_slice(&last)));
	buf_release(&last);
	return feed(s);
}

/* ================= start ================= */

static void start_sends_the_startup_packet(void **state)
{
	(void)state;
	struct login l = {0};
	struct buf out;
	struct slice body;
	struct startup startup;
	buf_init(&out, 1024);
	assert_true(login_start(&l, slice_str("alice"), slice_str("shop"), slice_str("tidemark"),
	                        SECRET_NONE, (struct slice){0}, &out));
	assert_int_equal(startup_frame(buf_slice(&out), &body), PARSE_OK);
	assert_int_equal(body.len + 4, out.len);
	assert_true(startup_parse(body, &startup));
	assert_int_equal(startup.code, PROTOCOL_3_0);
	static const char want[] = "user\0alice\0database\0shop\0application_name\0tidemark";
	assert_true(slice_eq(startup.params, slice_of(want, sizeof(want))));
	login_release(&l);
	login_release(&l);
	buf_release(&out);
}

static void start_asks_for_replication_instead_of_a_database(void **state)
{
	(void)state;
	struct login l = {0};
	struct buf out;
	struct slice body;
	struct startup startup;
	buf_init(&out, 1024);
	assert_true(login_start_replication(&l, slice_str("alice"), slice_str("tidemark"), SECRET_NONE,
	                                    (struct slice){0}, &out));
	assert_int_equal(startup_frame(buf_slice(&out), &body), PARSE_OK);
	assert_true(startup_parse(body, &startup));
	static const char want[] = "user\0alice\0replication\0true\0application_name\0tidemark";
	assert_true(slice_eq(startup.params, slice_of(want, sizeof(want))));
	assert_int_equal(l.state, LOGIN_STATE_AUTH);
	login_release(&l);
	buf_reset(&out);
	assert_false(login_start_replication(&l, slice_str(""), slice_str("tidemark"), SECRET_NONE,
	                                     (struct slice){0}, &out));
	assert_int_equal(out.len, 0);
	buf_release(&out);
}

static void start_refuses_what_can_not_be_sent(void **state)
{
	(void)state;
	static char x[256];
	memset(x, 'x', sizeof(x));
	struct slice ok = slice_str("a"), none = {0}, name63 = slice_of(x, 63),
				 name64 = slice_of(x, 64);
	struct login l = {0};
	struct buf out;
	buf_init(&out, 4096);
	assert_true(login_start(&l, name63, name63, name63, SECRET_PLAIN, slice_of(x, 255), &out));
	login_release(&l);
	assert_false(login_start(&l, none, ok, ok, SECRET_NONE, none, &out));
	assert_false(login_start(&l, name64, ok, ok, SECRET_NONE, none, &out));
	assert_false(login_start(&l, ok, name64, ok, SECRET_NONE, none, &out));
	assert_false(login_start(&l, ok, ok, name64, SECRET_NONE, none, &out));
	assert_false(login_start(&l, ok, ok, ok, SECRET_PLAIN, slice_of(x, 256), &out));
	assert_false(login_start(&l, slice_of("a\0b", 3), ok, ok, SECRET_NONE, none, &out));
	assert_false(login_start(&l, ok, ok, ok, SECRET_PLAIN, slice_of("a\0b", 3), &out));
	buf_release(&out);
	buf_init(&out, 10);
	assert_false(login_start(&l, ok, ok, ok, SECRET_NONE, none, &out));
	login_release(&l);
	buf_release(&out);
}

/* ================= methods ================= */

static void trust_settles_and_keeps_what_the_server_told(void **state)
{
	(void)state;
	struct stage s;
	begin(&s, SECRET_NONE, "");
	assert_int_equal(auth(&s, AUTH_OK, (struct slice){0}), LOGIN_MORE);
	assert_true(write_parameter_status(&s.from_server, slice_str("TimeZone"), slice_str("UTC")));
	assert_int_equal(feed(&s), LOGIN_MORE);
	assert_true(write_parameter_status(&s.from_server, slice_str("role"), slice_str("")));
	assert_int_equal(feed(&s), LOGIN_MORE);
	assert_true(write_key_data(&s.from_server, 4711, slice_str("\1\2\3\4")));
	assert_int_equal(feed(&s), LOGIN_MORE);
	assert_int_equal(ready(&s), LOGIN_DONE);
	assert_int_equal(s.login.state, LOGIN_STATE_DONE);
	assert_int_equal(s.login.pid, 4711);
	assert_int_equal(s.login.key_len, 4);
	assert_memory_equal(s.login.key, salt, 4);
	static const char params[] = "TimeZone\0UTC\0role\0";
	assert_true(slice_eq(buf_slice(&s.login.params), slice_of(params, sizeof(params))));
	assert_int_equal(s.to_server.len, 0);
	end(&s);
}

static void cleartext_sends_the_password(void **state)
{
	(void)state;
	struct stage s;
	struct slice text;
	begin(&s, SECRET_PLAIN, PASSWORD);
	assert_int_equal(auth(&s, AUTH_CLEARTEXT, (struct slice){0}), LOGIN_MORE);
	assert_true(msg_password_parse(answer(&s), &text));
	assert_true(slice_eq_str(text, PASSWORD));
	assert_int_equal(auth(&s, AUTH_OK, (struct slice){0}), LOGIN_MORE);
	assert_int_equal(ready(&s), LOGIN_DONE);
	end(&s);
}

static void md5_answers_alike_from_password_and_hash(void **state)
{
	(void)state;
	static const struct {
		enum secret_kind kind;
		const char *secret;
	} cases[] = {{SECRET_PLAIN, PASSWORD}, {SECRET_MD5, STORED_MD5}};
	for (size_t i = 0; i < 2; i++) {
		struct stage s;
		struct slice text;
		begin(&s, cases[i].kind, cases[i].secret);
		assert_int_equal(auth(&s, AUTH_MD5, slice_of(salt, 4)), LOGIN_MORE);
		assert_true(msg_password_parse(answer(&s), &text));
		assert_true(slice_eq_str(text, "md598a0412b9c31436fc53776e863350083"));
		assert_int_equal(auth(&s, AUTH_OK, (struct slice){0}), LOGIN_MORE);
		assert_int_equal(ready(&s), LOGIN_DONE);
		end(&s);
	}
}

static void scram_proves_both_sides(void **state)
{
	(void)state;
	static const char zero[256];
	struct stage s;
	begin(&s, SECRET_PLAIN, PASSWORD);
	assert_int_equal(scram_offer(&s), LOGIN_MORE);
	assert_int_equal(scram_continue(&s, PASSWORD), LOGIN_MORE);
	assert_int_equal(scram_finish(&s), LOGIN_MORE);
	assert_null(s.login.scram);
	assert_int_equal(auth(&s, AUTH_OK, (struct slice){0}), LOGIN_MORE);
	assert_memory_equal(s.login.secret, zero, sizeof(zero));
	assert_int_equal(ready(&s), LOGIN_DONE);
	end(&s);
}

/* ================= demands we can not meet ================= */

static void missing_secrets_are_named(void **state)
{
	(void)state;
	static const char sasl[] = "SCRAM-SHA-256\0";
	static const struct {
		uint32_t code;
		struct slice payload;
		const char *text;
	} cases[] = {
		{AUTH_CLEARTEXT,
	     {0},
	     "password authentication, but no password is known for user \"alice\""},
		{AUTH_MD5, {salt, 4}, "md5 authentication, but no password is known for user \"alice\""},
		{AUTH_SASL,
	     {(const uint8_t *)sasl, sizeof(sasl)},
	     "SCRAM-SHA-256 authentication, but no password is known for user \"alice\""},
	};
	for (size_t i = 0; i < 3; i++) {
		struct stage s;
		begin(&s, SECRET_NONE, "");
		assert_int_equal(auth(&s, cases[i].code, cases[i].payload), LOGIN_FAILED);
		assert_failed(&s, "28P01", cases[i].text);
		assert_non_null(strstr(s.login.error, "add the user to the userlist"));
		assert_int_equal(s.to_server.len, 0);
		end(&s);
	}
}

static void md5_hash_is_not_enough_for_scram_or_cleartext(void **state)
{
	(void)state;
	struct stage s;
	begin(&s, SECRET_MD5, STORED_MD5);
	assert_int_equal(scram_offer(&s), LOGIN_FAILED);
	assert_failed(&s, "28P01", "SCRAM-SHA-256 authentication, but only the md5 hash");
	assert_non_null(strstr(s.login.error, "put the plain password in the userlist"));
	end(&s);
	begin(&s, SECRET_MD5, STORED_MD5);
	assert_int_equal(auth(&s, AUTH_CLEARTEXT, (struct slice){0}), LOGIN_FAILED);
	assert_failed(&s, "28P01", "password authentication, but only the md5 hash");
	assert_int_equal(s.to_server.len, 0);
	end(&s);
	begin(&s, SECRET_MD5, "md5 no hash");
	assert_int_equal(auth(&s, AUTH_MD5, slice_of(salt, 4)), LOGIN_FAILED);
	assert_failed(&s, "28P01", "no md5 hash can be had for user \"alice\"");
	end(&s);
}

static void foreign_methods_are_named_with_a_way_out(void **state)
{
	(void)state;
	static const struct {
		uint32_t code;
		const char *name;
	} cases[] = {{2, "Kerberos V5"}, {6, "SCM"}, {7, "GSSAPI"}, {9, "SSPI"}, {99, "code 99"}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stage s;
		begin(&s, SECRET_PLAIN, PASSWORD);
		assert_int_equal(auth(&s, cases[i].code, (struct slice){0}), LOGIN_FAILED);
		assert_failed(&s, "28000", cases[i].name);
		assert_non_null(strstr(s.login.error, "pg_hba.conf"));
		end(&s);
	}
}

static void sasl_without_our_mechanism_is_refused(void **state)
{
	(void)state;
	struct stage s;
	static const char plus[] = "SCRAM-SHA-256-PLUS\0";
	begin(&s, SECRET_PLAIN, PASSWORD);
	assert_int_equal(auth(&s, AUTH_SASL, slice_of(plus, sizeof(plus))), LOGIN_FAILED);
	assert_failed(&s, "28000", "\"SCRAM-SHA-256-PLUS\", but Tidemark knows only SCRAM-SHA-256:");
	end(&s);
	begin(&s, SECRET_PLAIN, PASSWORD);
	assert_int_equal(auth(&s, AUTH_SASL, slice_of("", 1)), LOGIN_FAILED);
	assert_failed(&s, "28000", "Tidemark knows only");
	end(&s);
}

/* ================= channel binding ================= */

static const struct scram_binding certificate = {.len = 32,
                                                 .hash = "thirty-two bytes of a fine hash"};

static void a_login_is_tied_to_its_connection_where_it_can_be(void **state)
{
	struct stage s;
	begin(&s, SECRET_PLAIN, PASSWORD);
	login_bind(&s.login, CHANNEL_BINDING_REQUIRE, &certificate);
	assert_int_equal(scram_offer(&s), LOGIN_MORE);
	assert_true(s.login.bound);
	assert_int_equal(scram_continue(&s, PASSWORD), LOGIN_MORE);
	assert_int_equal(scram_finish(&s), LOGIN_MORE);
	assert_int_equal(auth(&s, AUTH_OK, (struct slice){0}), LOGIN_MORE);
	end(&s);
}

/* What client-first begins with, by what is wanted, what there is, and what the server offers. */
static void the_header_says_what_the_client_could_have_done(void **state)
{
	static const char plus[] = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0", one[] = "SCRAM-SHA-256\0";
	static const struct scram_binding none;
	static const struct {
		enum channel_binding how;
		const struct scram_binding *binding;
		bool offered;
		const char *header;
	} cases[] = {
		{CHANNEL_BINDING_PREFER, &certificate, true, "p=tls-server-end-point,,"},
		{CHANNEL_BINDING_PREFER, &certificate, false, "y,,"},
		{CHANNEL_BINDING_PREFER, &none, true, "n,,"},
		{CHANNEL_BINDING_PREFER, &none, false, "n,,"},
		{CHANNEL_BINDING_DISABLE, &certificate, true, "n,,"},
		{CHANNEL_BINDING_DISABLE, &certificate, false, "n,,"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stage s;
		struct slice mechanism, first;
		begin(&s, SECRET_PLAIN, PASSWORD);
		login_bind(&s.login, cases[i].how, cases[i].binding);
		assert_int_equal(
			auth(&s, AUTH_SASL,
		         cases[i].offered ? slice_of(plus, sizeof(plus)) : slice_of(one, sizeof(one))),
			LOGIN_MORE);
		assert_true(msg_sasl_initial_parse(answer(&s), &mechanism, &first));
		assert_memory_equal(first.ptr, cases[i].header, strlen(cases[i].header));
		end(&s);
	}
}

/* Nothing that an impostor could use is said to a server that does not bind. */
static void a_server_that_does_not_bind_is_refused_if_it_must(void **state)
{
	static const char one[] = "SCRAM-SHA-256\0";
	const struct {
		uint32_t code;
		struct slice payload;
	} cases[] = {{AUTH_OK, {0}},
	             {AUTH_CLEARTEXT, {0}},
	             {AUTH_MD5, slice_of(salt, 4)},
	             {AUTH_SASL, slice_of(one, sizeof(one))}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stage s;
		begin(&s, SECRET_PLAIN, PASSWORD);
		login_bind(&s.login, CHANNEL_BINDING_REQUIRE, &certificate);
		assert_int_equal(auth(&s, cases[i].code, cases[i].payload), LOGIN_FAILED);
		assert_failed(&s, "28000", "channel_binding=require, but the server");
		assert_int_equal(s.to_server.len, 0);
		end(&s);
	}
	/* In clear there is nothing to be bound to. */
	struct stage s;
	begin(&s, SECRET_PLAIN, PASSWORD);
	login_bind(&s.login, CHANNEL_BINDING_REQUIRE, &(struct scram_binding){0});
	assert_int_equal(scram_offer(&s), LOGIN_FAILED);
	assert_failed(&s, "28000", "channel_binding=require, but the server");
	assert_int_equal(s.to_server.len, 0);
	end(&s);
}

/* ================= an impostor ================= */

static void server_that_can_not_prove_itself_is_refused(void **state)
{
	(void)state;
	struct stage s;
	begin(&s, SECRET_PLAIN, PASSWORD);
	scram_offer(&s);
	scram_continue(&s, "another");
	assert_int_equal(
		auth(&s, AUTH_SASL_FINAL, slice_str("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
		LOGIN_FAILED);
	assert_failed(&s, "28000", "could not prove");
	end(&s);
}

static void ok_in_the_middle_of_scram_is_refused(void **state)
{
	(void)state;
	struct stage s;
	begin(&s, SECRET_PLAIN, PASSWORD);
	scram_offer(&s);
	assert_int_equal(auth(&s, AUTH_OK, (struct slice){0}), LOGIN_FAILED);
	assert_failed(&s, "08P01", "AuthenticationOk");
	end(&s);
	begin(&s, SECRET_PLAIN, PASSWORD);
	scram_offer(&s);
	scram_continue(&s, PASSWORD);
	assert_int_equal(auth(&s, AUTH_OK, (struct slice){0}), LOGIN_FAILED);
	assert_failed(&s, "08P01", "AuthenticationOk");
	end(&s);
}

static void a_second_demand_is_refused(void **state)
{
	(void)state;
	struct stage s;
	begin(&s, SECRET_PLAIN, PASSWORD);
	auth(&s, AUTH_MD5, slice_of(salt, 4));
	buf_reset(&s.to_server);
	assert_int_equal(auth(&s, AUTH_CLEARTEXT, (struct slice){0}), LOGIN_FAILED);
	assert_failed(&s, "08P01", "an authentication request");
	assert_int_equal(s.to_server.len, 0);
	end(&s);
}

static void sasl_messages_out_of_turn_are_refused(void **state)
{
	(void)state;
	struct stage s;
	begin(&s, SECRET_PLAIN, PASSWORD);
	assert_int_equal(auth(&s, AUTH_SASL_CONTINUE, slice_str("r=x")), LOGIN_FAILED);
	assert_failed(&s, "08P01", "an authentication request");
	end(&s);
	begin(&s, SECRET_PLAIN, PASSWORD);
	assert_int_equal(auth(&s, AUTH_SASL_FINAL, slice_str("v=x")), LOGIN_FAILED);
	end(&s);
	begin(&s, SECRET_PLAIN, PASSWORD);
	scram_offer(&s);
	assert_int_equal(auth(&s, AUTH_SASL_FINAL, slice_str("v=x")), LOGIN_FAILED);
	end(&s);
	begin(&s, SECRET_PLAIN, PASSWORD);
	scram_offer(&s);
	assert_int_equal(auth(&s, AUTH_SASL_CONTINUE, slice_str("nonsense")), LOGIN_FAILED);
	assert_failed(&s, "08P01", "malformed SCRAM message");
	end(&s);
}

/* ================= errors, notices and nonsense at every step ================= */

#define STEPS 7

/* Brings a login to its n-th step: waiting for the first request, having answered cleartext, having
 * answered md5, in each step of SCRAM, settling. */
static void begin_at(struct stage *s, int step)
{
	begin(s, SECRET_PLAIN, PASSWORD);
	if (step == 1)
		auth(s, AUTH_CLEARTEXT, (struct slice){0});
	if (step == 2)
		auth(s, AUTH_MD5, slice_of(salt, 4));
	if (step >= 3 && step <= 5)
		scram_offer(s);
	if (step >= 4 && step <= 5)
		scram_continue(s, PASSWORD);
	if (step == 5)
		scram_finish(s);
	if (step == 6)
		auth(s, AUTH_OK, (struct slice){0});
	assert_true(s->login.state != LOGIN_STATE_FAILED);
}

static void server_error_ends_every_step(void **state)
{
	(void)state;
	for (int step = 0; step < STEPS; step++) {
		struct stage s;
		begin_at(&s, step);
		assert_int_equal(server_error(&s), LOGIN_FAILED);
		assert_failed(&s, "57P03", "starting up");
		end(&s);
	}
}

static void notices_are_ignored_at_every_step(void **state)
{
	(void)state;
	for (int step = 0; step < STEPS; step++) {
		struct stage s;
		begin_at(&s, step);
		enum login_state before = s.login.state;
		assert_int_equal(notice(&s), LOGIN_MORE);
		assert_int_equal(s.login.state, before);
		end(&s);
	}
}

static void nonsense_ends_every_step(void **state)
{
	(void)state;
	for (int step = 0; step < STEPS; step++) {
		for (int type = 1; type < 256; type++) {
			bool settling = step == STEPS - 1;
			if (type == BE_NOTICE || (settling && type == BE_PARAMETER_STATUS))
				continue;
			struct stage s;
			begin_at(&s, step);
			assert_int_equal(raw(&s, (uint8_t)type, slice_str("x")), LOGIN_FAILED);
			assert_failed(&s, "08P01", "server sent a");
			end(&s);
		}
	}
}

static void oversized_messages_end_every_step(void **state)
{
	(void)state;
	for (int step = 0; step < STEPS; step++) {
		struct stage s;
		begin_at(&s, step);
		/* The body is not there: nobody may look at it. */
		struct frame f = {.type = BE_NOTICE, .body_len = LOGIN_MESSAGE_MAX + 1};
		assert_int_equal(login_feed(&s.login, &f, nonce, &s.to_server), LOGIN_FAILED);
		assert_failed(&s, "08P01", "65537 bytes");
		end(&s);
	}
}

static void full_out_buffer_ends_the_login(void **state)
{
	(void)state;
	struct stage s;
	begin(&s, SECRET_PLAIN, PASSWORD);
	s.to_server.max = 5;
	assert_int_equal(auth(&s, AUTH_CLEARTEXT, (struct slice){0}), LOGIN_FAILED);
	assert_failed(&s, "53200", "no room");
	assert_int_equal(s.to_server.len, 0);
	end(&s);
}

static void too_many_parameters_end_the_login(void **state)
{
	(void)state;
	static char value[30000];
	struct stage s;
	memset(value, 'v', sizeof(value));
	begin_at(&s, 6);
	for (int i = 0; i < 2; i++) {
		assert_true(
			write_parameter_status(&s.from_server, slice_str("a"), slice_of(value, sizeof(value))));
		assert_int_equal(feed(&s), LOGIN_MORE);
	}
	assert_true(
		write_parameter_status(&s.from_server, slice_str("a"), slice_of(value, sizeof(value))));
	assert_int_equal(feed(&s), LOGIN_FAILED);
	assert_failed(&s, "08P01", "65536 bytes of parameters");
	end(&s);
}

static void cancel_keys_of_4_to_256_bytes_are_kept(void **state)
{
	(void)state;
	uint8_t body[4 + 260] = {0, 0, 0, 9};
	for (size_t i = 4; i < sizeof(body); i++)
		body[i] = (uint8_t)i;
	for (size_t len = 0; len <= 260; len++) {
		struct stage s;
		bool good = len >= 4 && len <= 256;
		begin_at(&s, 6);
		assert_int_equal(raw(&s, BE_KEY_DATA, slice_of(body, 4 + len)),
		                 good ? LOGIN_MORE : LOGIN_FAILED);
		if (good) {
			assert_int_equal(s.login.pid, 9);
			assert_int_equal(s.login.key_len, len);
			assert_memory_equal(s.login.key, body + 4, len);
			assert_int_equal(ready(&s), LOGIN_DONE);
		}
		end(&s);
	}
}

static void malformed_settling_messages_are_refused(void **state)
{
	(void)state;
	static const struct {
		uint8_t type;
		const char *body;
		size_t len;
	} cases[] = {
		{BE_READY, "T", 1},
		{BE_READY, "", 0},
		{BE_READY, "II", 2},
		{BE_KEY_DATA, "\0\0", 2},
		{BE_PARAMETER_STATUS, "", 0},
		{BE_PARAMETER_STATUS, "a\0b", 3},
		{BE_PARAMETER_STATUS, "\0b\0", 3},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stage s;
		begin_at(&s, 6);
		assert_int_equal(raw(&s, cases[i].type, slice_of(cases[i].body, cases[i].len)),
		                 LOGIN_FAILED);
		assert_failed(&s, "08P01", "malformed");
		end(&s);
	}
}

static void malformed_requests_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		size_t len;
	} cases[] = {
		{"", 0},
		{"\0\0\0", 3},
		{"\0\0\0\0x", 5},
		{"\0\0\0\3x", 5},
		{"\0\0\0\5abc", 7},
		{"\0\0\0\5abcde", 9},
		{"\0\0\0\x0aSCRAM-SHA-256", 17},
		{"\0\0\0\x0aSCRAM-SHA-256\0", 18},
		{"\0\0\0\x0aSCRAM-SHA-256\0\0x", 20},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stage s;
		begin(&s, SECRET_PLAIN, PASSWORD);
		assert_int_equal(raw(&s, BE_AUTHENTICATION, slice_of(cases[i].body, cases[i].len)),
		                 LOGIN_FAILED);
		assert_failed(&s, "08P01", "malformed");
		assert_int_equal(s.to_server.len, 0);
		end(&s);
	}
}

static void errors_of_odd_shape_are_still_told(void **state)
{
	(void)state;
	struct stage s;
	begin(&s, SECRET_NONE, "");
	assert_int_equal(raw(&s, BE_ERROR, slice_of("C\n1\033[x\0Mno\0", 12)), LOGIN_FAILED);
	assert_failed(&s, "XX000", "no");
	end(&s);
	begin(&s, SECRET_NONE, "");
	assert_int_equal(raw(&s, BE_ERROR, slice_of("\0", 1)), LOGIN_FAILED);
	assert_failed(&s, "XX000", "without saying why");
	end(&s);
}

static void long_errors_are_cut_between_characters(void **state)
{
	(void)state;
	struct stage s;
	char text[601] = "x"; /* one byte, so that 255 falls within a character */
	for (size_t i = 1; i + 2 < sizeof(text); i += 2)
		memcpy(text + i, "\xc3\xa4", 2);
	begin(&s, SECRET_NONE, "");
	assert_true(write_error(&s.from_server, "FATAL", "28000", text, NULL));
	assert_int_equal(feed(&s), LOGIN_FAILED);
	size_t len = strlen(s.login.error);
	assert_in_range(len, 252, 255);
	assert_int_equal(len % 2, 1);
	assert_memory_equal(s.login.error, text, len);
	end(&s);
}

static void feeding_before_start_or_after_the_end_fails(void **state)
{
	(void)state;
	struct stage s;
	struct login unstarted = {0};
	struct buf out = {0};
	struct frame f = {.type = BE_READY, .body_len = 0, .body = (const uint8_t *)""};
	assert_int_equal(login_feed(&unstarted, &f, nonce, &out), LOGIN_FAILED);
	login_release(&unstarted);
	begin_at(&s, 6);
	assert_int_equal(ready(&s), LOGIN_DONE);
	assert_int_equal(ready(&s), LOGIN_FAILED);
	end(&s);
}

/* ================= damage ================= */

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Any bytes as any message at any step: an answer, never a crash. */
static void random_messages_are_safe(void **state)
{
	(void)state;
	static const char types[] = "RRRRREKSZNvA";
	uint64_t seed = 0x6c6f67696e000001u;
	for (int round = 0; round < 3000; round++) {
		struct stage s;
		begin_at(&s, (int)(next_random(&seed) % STEPS));
		for (int i = 0; i < 4; i++) {
			uint8_t body[40];
			size_t len = next_random(&seed) % sizeof(body);
			for (size_t j = 0; j < len; j++)
				body[j] = (uint8_t)(j < 3 ? 0 : next_random(&seed) % (j == 3 ? 14 : 128));
			raw(&s, (uint8_t)types[next_random(&seed) % (sizeof(types) - 1)], slice_of(body, len));
		}
		end(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(start_sends_the_startup_packet),
		cmocka_unit_test(start_asks_for_replication_instead_of_a_database),
		cmocka_unit_test(start_refuses_what_can_not_be_sent),
		cmocka_unit_test(trust_settles_and_keeps_what_the_server_told),
		cmocka_unit_test(cleartext_sends_the_password),
		cmocka_unit_test(md5_answers_alike_from_password_and_hash),
		cmocka_unit_test(scram_proves_both_sides),
		cmocka_unit_test(missing_secrets_are_named),
		cmocka_unit_test(md5_hash_is_not_enough_for_scram_or_cleartext),
		cmocka_unit_test(foreign_methods_are_named_with_a_way_out),
		cmocka_unit_test(sasl_without_our_mechanism_is_refused),
		cmocka_unit_test(a_login_is_tied_to_its_connection_where_it_can_be),
		cmocka_unit_test(the_header_says_what_the_client_could_have_done),
		cmocka_unit_test(a_server_that_does_not_bind_is_refused_if_it_must),
		cmocka_unit_test(server_that_can_not_prove_itself_is_refused),
		cmocka_unit_test(ok_in_the_middle_of_scram_is_refused),
		cmocka_unit_test(a_second_demand_is_refused),
		cmocka_unit_test(sasl_messages_out_of_turn_are_refused),
		cmocka_unit_test(server_error_ends_every_step),
		cmocka_unit_test(notices_are_ignored_at_every_step),
		cmocka_unit_test(nonsense_ends_every_step),
		cmocka_unit_test(oversized_messages_end_every_step),
		cmocka_unit_test(full_out_buffer_ends_the_login),
		cmocka_unit_test(too_many_parameters_end_the_login),
		cmocka_unit_test(cancel_keys_of_4_to_256_bytes_are_kept),
		cmocka_unit_test(malformed_settling_messages_are_refused),
		cmocka_unit_test(malformed_requests_are_refused),
		cmocka_unit_test(errors_of_odd_shape_are_still_told),
		cmocka_unit_test(long_errors_are_cut_between_characters),
		cmocka_unit_test(feeding_before_start_or_after_the_end_fails),
		cmocka_unit_test(random_messages_are_safe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
