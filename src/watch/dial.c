/* SPDX-License-Identifier: PostgreSQL */
#include "dial.h"

struct net_stream *dial(struct net_loop *l, const struct watch_node *n, int64_t timeout_us,
                        net_stream_fn fn, void *owner)
{
	const struct net_tls tls = {
		.mode = n->tls_direct                   ? NET_TLS_DIRECT
	            : n->sslmode >= SSLMODE_REQUIRE ? NET_TLS_REQUIRE
	                                            : NET_TLS_PREFER,
		.context = n->tls,
		.name = n->host,
	};
	/* As libpq: a unix socket is as good as TLS. */
	bool in_clear = !n->tls || n->host[0] == '/';
	return net_connect_tls(l, n->host, n->port, timeout_us, in_clear ? NULL : &tls, fn, owner);
}

void dial_bind(const struct watch_node *n, const struct net_stream *s, struct login *l)
{
	const struct tls *tls = net_stream_tls(s);
	struct scram_binding binding = {0};
	if (tls)
		binding.len = tls_end_point(tls, binding.hash, sizeof(binding.hash));
	login_bind(l, n->channel_binding, &binding);
}
