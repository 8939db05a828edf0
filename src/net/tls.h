/* SPDX-License-Identifier: PostgreSQL
 *
 * The client's side of TLS without a socket: what came from the server is fed in, what is to be
 * sent to it is drained, and the plain text goes in and out in between. OpenSSL does the work, over
 * memory. Nothing here waits or calls back.
 *
 *   socket ─▶ tls_feed ─▶ [ TLS ] ─▶ tls_read ─▶ owner
 *   socket ◀─ tls_drain ◀─ [     ] ◀─ tls_write ◀─ owner
 *
 * After each tls_feed() the owner reads until TLS_AGAIN, and then drains: the handshake goes on
 * that way, too. It begins with the first tls_read(). The server must show a certificate that the
 * authorities vouch for, made out to the name asked for.
 */
#ifndef TM_NET_TLS_H
#define TM_NET_TLS_H

#include <sys/types.h>

#include "base/buf.h"

struct tls_context; /* what all connections to a service have in common */
struct tls;

struct tls_settings {
	const char *ca_file;   /* NULL or "": the system's authorities */
	const char *cert_file; /* NULL or "": no certificate of our own */
	const char *key_file;
};
/* NULL: `error` gets a sentence. */
struct tls_context *tls_context_new(const struct tls_settings *s, char *error, size_t error_cap);
/* Connections may outlive it. NULL is fine. */
void tls_context_free(struct tls_context *c);

/* `server_name` is a DNS name or an IP address. NULL: no memory, or no name at all. */
struct tls *tls_new(struct tls_context *c, const char *server_name);
/* NULL is fine. */
void tls_free(struct tls *t);

#define TLS_AGAIN (-1) /* nothing before more is fed */
#define TLS_EOF (-2)   /* the other side closed in order */
#define TLS_ERROR (-3) /* broken; tls_error(). Drain all the same: it may be told why */

/* Copies. False: no memory. */
bool tls_feed(struct tls *t, const void *ptr, size_t len);
/* Bytes of plain text (> 0), or one of the above. */
ssize_t tls_read(struct tls *t, void *buf, size_t cap);
/* Before this is true, nothing can be written. */
bool tls_is_ready(const struct tls *t);
/* Takes all, or TLS_ERROR. */
ssize_t tls_write(struct tls *t, const void *ptr, size_t len);
/* Moves what is to be sent to the end of `out`. False: it does not fit. */
bool tls_drain(struct tls *t, struct buf *out);
const char *tls_error(const struct tls *t);

#endif
