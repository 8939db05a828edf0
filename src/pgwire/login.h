/* SPDX-License-Identifier: PostgreSQL
 *
 * The frontend's login as a machine: used for pooled server connections and for watchers. It is
 * fed with backend messages one by one and says what to do; it does no I/O.
 *
 *   START ──startup sent──▶ AUTH ──AuthenticationOk──▶ SETTLING ──ReadyForQuery──▶ DONE
 *                           │ │
 *                           │ └─cleartext, md5─▶ ANSWERED ──AuthenticationOk──▶ SETTLING
 *                           └─SASL─▶ SASL ──▶ SASL_FINAL ──server's proof──▶ ANSWERED
 *
 *   any state ──ErrorResponse, nonsense, or a demand we can not meet──▶ FAILED
 *
 * A server may ask for one proof only, and after SCRAM must first have proven itself.
 */
#ifndef TM_PGWIRE_LOGIN_H
#define TM_PGWIRE_LOGIN_H

#include "base/buf.h"
#include "frame.h"
#include "scram.h"

/* No message of a login is larger (PostgreSQL's own error texts are the largest): refuse a frame by
 * its header rather than buffer it. login_feed() refuses it, too. */
#define LOGIN_MESSAGE_MAX 65536u
/* Of all parameters reported during a login together. */
#define LOGIN_PARAMS_MAX 65536u

enum login_step {
	LOGIN_MORE,   /* feed the next message; bytes may have been appended to `out` */
	LOGIN_DONE,   /* ReadyForQuery seen */
	LOGIN_FAILED, /* see login.sqlstate, login.error */
};

enum login_state {
	LOGIN_STATE_START,
	LOGIN_STATE_AUTH,
	LOGIN_STATE_SASL,       /* client-first sent */
	LOGIN_STATE_SASL_FINAL, /* client-final sent */
	LOGIN_STATE_ANSWERED,   /* only AuthenticationOk may follow */
	LOGIN_STATE_SETTLING,
	LOGIN_STATE_DONE,
	LOGIN_STATE_FAILED,
};

/* How the password is known: as the userlist has it. */
enum secret_kind {
	SECRET_NONE,
	SECRET_PLAIN,
	SECRET_MD5,
	SECRET_KEYS, /* the bytes of a struct scram_keys */
};

/* libpq's words for whether a login is tied to its TLS connection: scram.h. */
enum channel_binding {
	CHANNEL_BINDING_PREFER, /* where both sides can */
	CHANNEL_BINDING_REQUIRE,
	CHANNEL_BINDING_DISABLE,
};

struct login {
	enum login_state state;
	char user[64];
	enum secret_kind secret_kind;
	char secret[256];
	enum channel_binding channel_binding;
	struct scram_binding binding;
	bool bound;                 /* SCRAM-SHA-256-PLUS is spoken */
	struct scram_client *scram; /* only while a SASL exchange runs */
	/* What the server told, valid when DONE. */
	uint32_t pid;
	uint8_t key[256];
	uint16_t key_len;
	/* "name\0value\0…" as reported by ParameterStatus during login. */
	struct buf params;
	/* Valid when FAILED. */
	char sqlstate[6];
	char error[256];
	bool told; /* `error` is what the server said */
};

/* `l` is zeroed or released. Appends the startup packet. False: a name or secret that is too long
 * or has a NUL in it, an empty user name, or no room in `out`. Names up to 63 bytes (NAMEDATALEN),
 * secret up to 255. `application_name` is what SHOW in pg_stat_activity should say of an idle
 * connection. */
bool login_start(struct login *l, struct slice user, struct slice database,
                 struct slice application_name, enum secret_kind kind, struct slice secret,
                 struct buf *out);
/* The same with search_path = pg_catalog. */
bool login_start_fixed_path(struct login *l, struct slice user, struct slice database,
                            struct slice application_name, enum secret_kind kind,
                            struct slice secret, struct buf *out);
/* The same for a connection that takes replication commands and no SQL; it is in no database. */
bool login_start_replication(struct login *l, struct slice user, struct slice application_name,
                             enum secret_kind kind, struct slice secret, struct buf *out);
/* After either of them: whether the login is to be tied to the connection, and to what. */
void login_bind(struct login *l, enum channel_binding how, const struct scram_binding *binding);
/* One complete message (`f->body` holds all of it). Answers to be sent are appended to `out`.
 * `random` gives fresh random bytes for a nonce. */
enum login_step login_feed(struct login *l, const struct frame *f,
                           const uint8_t random[SCRAM_NONCE_RAW], struct buf *out);
/* Wipes secrets, frees memory. Idempotent. (Secrets are wiped at DONE and FAILED already.) */
void login_release(struct login *l);

#endif
