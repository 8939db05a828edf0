/* SPDX-License-Identifier: PostgreSQL
 *
 * TLS over whatever moves bytes: OpenSSL does the work, and reads and writes through two functions
 * of the owner's. Nothing here waits, and nothing is held but one record in each direction: what the
 * transport does not take, the caller keeps.
 *
 *   transport ─ recv ─▶ [ TLS ] ─ tls_read ─▶ owner
 *   transport ◀─ send ─ [     ] ◀─ tls_write ─ owner
 *
 * TLS 1.2 is the least. There is no renegotiation, no resumption and no compression.
 */
#ifndef TM_NET_TLS_H
#define TM_NET_TLS_H

#include <sys/types.h>

#include "base/slice.h"

struct tls_context; /* what all connections to a service, or of a listener, have in common */
struct tls;

/* libpq's words for what somebody wants of TLS. */
enum sslmode {
	SSLMODE_DISABLE,
	SSLMODE_ALLOW,
	SSLMODE_PREFER,
	SSLMODE_REQUIRE,
	SSLMODE_VERIFY_CA,
	SSLMODE_VERIFY_FULL,
};

/* Whom the other side has to be. */
enum tls_verify {
	TLS_VERIFY_NAME,     /* client: a certificate the authorities vouch for, made out to the name */
	TLS_VERIFY_CA,       /* a certificate the authorities vouch for */
	TLS_VERIFY_IF_GIVEN, /* server: asks for one, and goes on without */
	TLS_VERIFY_NONE,
};

enum tls_side { TLS_CLIENT, TLS_SERVER };

struct tls_settings {
	enum tls_side side;
	enum tls_verify verify;
	const char *ca_file;   /* NULL or "": the system's authorities */
	const char *cert_file; /* NULL or "": no certificate of our own; a server needs one */
	const char *key_file;  /* NULL or "": in cert_file */
	const char *ciphers;   /* of TLS 1.2, in OpenSSL's notation; NULL or "": OpenSSL's default */
	bool no_1_2, no_1_3;   /* versions that are not wanted */
	/* Client: names PostgreSQL's protocol by ALPN, and goes no further with a server that does not
	 * name it too: direct TLS must not reach a service of another kind. */
	bool alpn;
};
/* NULL: `error` gets a sentence. */
struct tls_context *tls_context_new(const struct tls_settings *s, char *error, size_t error_cap);
/* Whoever gets it frees it once. */
struct tls_context *tls_context_share(struct tls_context *c);
/* Connections may outlive it. NULL is fine. */
void tls_context_free(struct tls_context *c);
/* `into` gets the files and rules that `from` has read, for connections to come; `from` gets the
 * old ones. */
void tls_context_swap(struct tls_context *into, struct tls_context *from);

#define TLS_AGAIN (-1) /* nothing before the transport can be read or written again */
#define TLS_EOF (-2)   /* the other side closed */
#define TLS_ERROR (-3) /* broken; tls_error() */

/* Bytes moved (> 0), or one of the above. */
struct tls_io {
	ssize_t (*recv)(void *arg, void *buf, size_t cap);
	ssize_t (*send)(void *arg, const void *ptr, size_t len);
};

/* A client's `name` is whom the server's certificate must be made out to, a DNS name or an IP
 * address; it may be NULL where the context does not ask for one. `first` are bytes of the other
 * side that were read already; copied. NULL: no memory, or no name at all. */
struct tls *tls_new(struct tls_context *c, const char *name, struct slice first,
                    const struct tls_io *io, void *io_arg);
/* Says goodbye if it can be said at once. NULL is fine. */
void tls_free(struct tls *t);

/* The handshake: 0 when it is over, TLS_AGAIN or TLS_ERROR. */
int tls_shake_hands(struct tls *t);
bool tls_is_ready(const struct tls *t);
/* After TLS_AGAIN or a short write: it is writing that has to be possible first. */
bool tls_wants_write(const struct tls *t);

/* Bytes of plain text (> 0), or one of the above. */
ssize_t tls_read(struct tls *t, void *buf, size_t cap);
/* More may be read though the transport has nothing: the caller must come back by itself. */
bool tls_has_more(const struct tls *t);
/* How many bytes were taken (>= 0), or TLS_ERROR. The next call must begin with those that were
 * not. */
ssize_t tls_write(struct tls *t, const void *ptr, size_t len);
const char *tls_error(const struct tls *t);

/* ---- who is there ---- */

/* The common name in the certificate that the other side proved to have. False: it has shown none,
 * or one without such a name, or with a NUL in it. */
bool tls_peer_common_name(const struct tls *t, char *out, size_t cap);
/* What ties a login to this connection (RFC 5929, tls-server-end-point): the hash of the server's
 * certificate, the same at both ends unless somebody stands between them. Returns its length; 0 if
 * none is defined for such a certificate (Ed25519), or it is longer than `cap`. */
#define TLS_END_POINT_MAX 64
size_t tls_end_point(const struct tls *t, uint8_t *out, size_t cap);
/* The protocol that was agreed upon by ALPN is PostgreSQL's. */
bool tls_speaks_postgresql(const struct tls *t);
/* "TLSv1.3" and the name of the cipher. */
const char *tls_version(const struct tls *t);
const char *tls_cipher(const struct tls *t);

#endif
