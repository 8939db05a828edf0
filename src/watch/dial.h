/* SPDX-License-Identifier: PostgreSQL
 *
 * The one way to a server: in clear or in TLS, as its node says. All that the router says to a
 * server goes through here: pooled connections, watchers, histories, cancel requests.
 */
#ifndef TM_WATCH_DIAL_H
#define TM_WATCH_DIAL_H

#include "watch.h"

/* As net_connect(); NET_CONNECTED comes when TLS is up, if there is to be any. Borrows for the
 * call. */
struct net_stream *dial(struct net_loop *l, const struct watch_node *n, int64_t timeout_us,
                        net_stream_fn fn, void *owner);
/* Ties the login that was just started to the connection, as the node says. */
void dial_bind(const struct watch_node *n, const struct net_stream *s, struct login *l);

#endif
