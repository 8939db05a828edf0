/* SPDX-License-Identifier: PostgreSQL
 *
 * What one event sends to one peer, gathered so that it leaves in one system call: ranges of the
 * read buffer and small pieces the router adds. Lives on the stack of an event handler; the ranges
 * must live until chain_flush(). What the kernel does not take goes to the peer's out buffer.
 */
#ifndef TM_PROXY_CHAIN_H
#define TM_PROXY_CHAIN_H

#include "base/buf.h"
#include "net/net.h"

#define CHAIN_PIECES 32
#define CHAIN_SCRATCH 2048

struct chain {
	struct net_stream *stream;
	struct buf *out;
	int count;
	size_t bytes, used;
	bool held;   /* chain_flush() only keeps what was gathered: more is to follow at once */
	bool failed; /* the peer is gone or its buffer is full: close it */
	struct iovec iov[CHAIN_PIECES];
	uint8_t scratch[CHAIN_SCRATCH];
};

/* Initialises the head of the struct only: it is on a hot path. */
static inline void chain_init(struct chain *ch, struct net_stream *stream, struct buf *out)
{
	ch->stream = stream;
	ch->out = out;
	ch->count = 0;
	ch->bytes = 0;
	ch->used = 0;
	ch->failed = false;
	ch->held = false;
}

/* A range that goes on where the last one ends is one piece with it. */
void chain_piece(struct chain *ch, const void *ptr, size_t len);
/* Borrows until chain_flush(). */
static inline void chain_range(struct chain *ch, const void *ptr, size_t len)
{
	struct iovec *last = ch->count > 0 ? &ch->iov[ch->count - 1] : NULL;
	if (last && (const uint8_t *)last->iov_base + last->iov_len == ptr) {
		last->iov_len += len;
		ch->bytes += len;
	} else {
		chain_piece(ch, ptr, len);
	}
}
/* Copies. */
void chain_copy(struct chain *ch, const void *ptr, size_t len);
/* Sends what was gathered, after what already waited. Wants NET_WRITABLE if something is left. */
void chain_flush(struct chain *ch);
/* Keeps what was gathered for a later flush, without a system call. */
void chain_cork(struct chain *ch);
/* On NET_WRITABLE: sends what waited. False: the peer is gone. */
bool out_flush(struct net_stream *stream, struct buf *out);

#endif
