/* SPDX-License-Identifier: PostgreSQL
 *
 * The beginning of a client's connection: startup packet, settings, proof of identity, and what it
 * hears before its first ReadyForQuery. Nothing here touches a mark before it is known who asks.
 */
#ifndef TM_PROXY_STARTUP_H
#define TM_PROXY_STARTUP_H

#include "proxy.h"

/* CLIENT_STARTUP: one startup-phase packet. Returns the bytes used up, 0 if it is not whole. */
size_t startup_packet(struct client *c, struct slice in);
/* CLIENT_TLS: the stream is through with it, NET_CONNECTED or NET_FAILED. */
void startup_secured(struct client *c, unsigned events);
/* CLIENT_AUTH: one answer to a challenge. Likewise. */
size_t startup_answer(struct client *c, struct slice in);
/* CLIENT_LOOKUP: the user may be known by now. */
void startup_lookup(struct client *c);
/* CLIENT_WELCOME: asks a server what to say; comes back here as long as there is none. */
void startup_welcome(struct client *c);
/* Wipes and frees what the login held. Safe at any time. */
void startup_release(struct client *c);

#endif
