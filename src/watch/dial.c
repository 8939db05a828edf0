/* SPDX-License-Identifier: PostgreSQL */
#include "dial.h"

struct net_stream *dial(struct net_loop *l, const struct watch_node *n, int64_t timeout_us,
                        net_stream_fn fn, void *owner)
{
	const struct net_tls tls = {
		.mode = n->sslmode >= SSLMODE_REQUIRE ? NET_TLS_REQUIRE : NET_TLS_PREFER,
		.context = n->tls,
		.name = n->host,
	};
	/* As libpq: a unix socket is as good as TLS. */
	bool in_clear = !n->tls || n->host[0] == '/';
	return net_connect_tls(l, n->host, n->port, timeout_us, in_clear ? NULL : &tls, fn, owner);
}
