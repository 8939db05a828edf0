/* SPDX-License-Identifier: PostgreSQL
 *
 * A connection to a Redis server or to a sentinel: commands out, replies in, in order. Replies are
 * parsed by hiredis's reader; the socket, the time and the limits are ours. What a reply means and
 * how long it may take is the owner's affair.
 */
#ifndef TM_STORE_RESP_H
#define TM_STORE_RESP_H

#include "base/slice.h"
#include "net/net.h"

struct tls_context;

enum resp_type { RESP_NIL, RESP_INTEGER, RESP_TEXT, RESP_ERROR, RESP_ARRAY };
struct resp_value {
	enum resp_type type;
	int64_t integer;
	struct slice text; /* of a string, a status or an error */
};
/* Arrays are flat and short; anything else ends the connection, as does a reply of more than
 * RESP_REPLY_MAX bytes. Borrowed until the handler returns. */
#define RESP_ITEMS_MAX 8
#define RESP_REPLY_MAX 65536
struct resp_reply {
	struct resp_value top;
	int count; /* of an array */
	struct resp_value items[RESP_ITEMS_MAX];
};

struct resp_handlers {
	void (*reply)(void *owner, const struct resp_reply *reply);
	/* The last call. The owner closes. */
	void (*lost)(void *owner, const char *why);
};

struct resp;

/* Handlers are called from the loop, never from within a call of the owner's but resp_read_now().
 * A host that begins with '/' is the path of a unix socket. `tls` is borrowed; NULL: plain. NULL:
 * no memory or no descriptors. */
struct resp *resp_connect(struct net_loop *l, const char *host, int port, int64_t timeout_us,
                          struct tls_context *tls, const char *tls_server_name,
                          const struct resp_handlers *handlers, void *owner);
/* Queues a command; what is queued in one turn of the loop leaves in one piece. A queue that is
 * full loses the connection. */
void resp_send(struct resp *c, const struct slice *words, int count);
/* Sends what is queued as far as the kernel takes it. */
void resp_flush(struct resp *c);
/* Handles what has come already: for an owner who is about to call an answer late. */
void resp_read_now(struct resp *c);
/* No more calls. May be called by a handler. NULL is fine. */
void resp_close(struct resp *c);

#endif
