/* SPDX-License-Identifier: PostgreSQL
 *
 * What a member of Patroni answers to GET /cluster: bytes in, the leader out. Knows no sockets and no
 * time. The request is of HTTP/1.0, so an answer has a Content-Length or ends with its connection,
 * and is never chunked.
 *
 * Whoever answers at that address may say anything: what is not exactly such an answer is INVALID,
 * and then Patroni has said nothing.
 */
#ifndef TM_WATCH_PATRONI_ANSWER_H
#define TM_WATCH_PATRONI_ANSWER_H

#include "base/slice.h"
#include "pgwire/frame.h"

#define PATRONI_HEAD_MAX 16384
#define PATRONI_BODY_MAX (256 * 1024)
/* As many bytes as an answer may have, and one by which it is known to be too long. */
#define PATRONI_ANSWER_MAX (PATRONI_HEAD_MAX + PATRONI_BODY_MAX + 1)

struct http_answer {
	int status;        /* 100 … 599 */
	struct slice body; /* borrows what was read from */
};

/* `in` is all that has come so far, `ended` that nothing more will. PARTIAL only while it has not
 * ended. */
[[gnu::warn_unused_result]] enum parse_result http_answer_parse(struct slice in, bool ended,
                                                                struct http_answer *out);

struct patroni_cluster {
	bool has_leader; /* one that takes writes: the leader of a standby cluster is none */
	char host[256];
	int port;
	/* Maintenance: Patroni holds back, and a primary may go on without being its leader. */
	bool paused;
};

/* The body's JSON. False, with a word for the log in `*why`: it is not Patroni's, or names two
 * leaders, or one without an address. */
[[gnu::warn_unused_result]] bool patroni_cluster_parse(struct slice body,
                                                       struct patroni_cluster *out,
                                                       const char **why);

#endif
