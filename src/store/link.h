/* SPDX-License-Identifier: PostgreSQL
 *
 * A connection to the master on which scripts can be run: whom to connect to, and all that has to
 * be said before.
 *
 *   [sentinel: who is the master?] ─▶ connect ─▶ AUTH, SELECT, CLIENT, INFO, TIME, SCRIPT LOAD ─▶
 * ready
 *
 * The whole takes connect_timeout_us at most. Whatever goes wrong ends it; there is no way back.
 */
#ifndef TM_STORE_LINK_H
#define TM_STORE_LINK_H

#include "info.h"
#include "resp.h"
#include "scripts.h"
#include "store/store.h"

struct link_handlers {
	void (*ready)(void *owner);
	/* To each command of the owner's, in order. */
	void (*reply)(void *owner, const struct resp_reply *reply);
	/* The last call. The owner closes. */
	void (*lost)(void *owner, const char *why);
};

/* Redis's clock showed time_ms at some moment between two of ours. */
struct tick {
	int64_t time_ms, sent_at_us, heard_at_us;
};

struct link;

/* Borrows the settings. `turn` counts the attempts: each goes to the next address. NULL: no memory
 * or no descriptors. */
struct link *link_open(struct net_loop *l, const struct store_settings *settings,
                       struct tls_context *tls, unsigned turn, const struct link_handlers *handlers,
                       void *owner);
/* No more calls. May be called by a handler. NULL is fine. */
void link_close(struct link *k);

void link_run(struct link *k, enum script script, const struct slice keys[SCRIPT_KEYS],
              const struct slice arguments[SCRIPT_ARGUMENTS]);
void link_send(struct link *k, const struct slice *words, int count);
void link_flush(struct link *k);
void link_read_now(struct link *k);

/* "host:port", or the path of the unix socket: of the sentinel, then of the master. */
const char *link_server(const struct link *k);
/* Once ready: what INFO and TIME said. */
const struct info *link_info(const struct link *k);
const struct tick *link_tick(const struct link *k);

/* NULL if `reply` is the answer to INFO of a server that may be used; else why it may not. */
const char *link_judge_info(const struct resp_reply *reply, struct info *out);

#endif
