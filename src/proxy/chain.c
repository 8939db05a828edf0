/* SPDX-License-Identifier: PostgreSQL */
#include "chain.h"

void chain_piece(struct chain *ch, const void *ptr, size_t len)
{
	if (len == 0)
		return;
	if (ch->count == CHAIN_PIECES)
		chain_cork(ch);
	ch->iov[ch->count++] = (struct iovec){.iov_base = (void *)(uintptr_t)ptr, .iov_len = len};
	ch->bytes += len;
}

void chain_copy(struct chain *ch, const void *ptr, size_t len)
{
	if (len > CHAIN_SCRATCH - ch->used) {
		chain_cork(ch);
		if (len > CHAIN_SCRATCH) {
			ch->failed |= !buf_append(ch->out, ptr, len);
			return;
		}
	}
	uint8_t *at = ch->scratch + ch->used;
	memcpy(at, ptr, len);
	ch->used += len;
	chain_range(ch, at, len);
}

/* Keeps everything past the first `skip` gathered bytes. */
static void keep_from(struct chain *ch, size_t skip)
{
	for (int i = 0; i < ch->count; i++) {
		size_t len = ch->iov[i].iov_len;
		if (skip >= len) {
			skip -= len;
			continue;
		}
		if (!buf_append(ch->out, (const uint8_t *)ch->iov[i].iov_base + skip, len - skip))
			ch->failed = true;
		skip = 0;
	}
	ch->count = 0;
	ch->bytes = 0;
	ch->used = 0;
}

void chain_cork(struct chain *ch)
{
	keep_from(ch, 0);
}

void chain_flush(struct chain *ch)
{
	if (ch->out->len > 0 || ch->held) {
		chain_cork(ch);
		if (!ch->failed && !ch->held && !out_flush(ch->stream, ch->out))
			ch->failed = true;
		return;
	}
	if (ch->count == 0)
		return;
	ssize_t n = ch->count == 1
	                ? net_stream_write(ch->stream, ch->iov[0].iov_base, ch->iov[0].iov_len)
	                : net_stream_writev(ch->stream, ch->iov, ch->count);
	if (n < 0) {
		ch->failed = true;
		return;
	}
	if ((size_t)n == ch->bytes) {
		ch->count = 0;
		ch->bytes = 0;
		ch->used = 0;
		return;
	}
	keep_from(ch, (size_t)n);
	net_stream_want(ch->stream, net_stream_wanted(ch->stream) | NET_WRITABLE);
}

bool out_flush(struct net_stream *stream, struct buf *out)
{
	if (out->len > 0) {
		struct slice s = buf_slice(out);
		ssize_t n = net_stream_write(stream, s.ptr, s.len);
		if (n < 0)
			return false;
		buf_consume(out, (size_t)n);
	}
	unsigned wanted = net_stream_wanted(stream);
	if (out->len > 0) {
		net_stream_want(stream, wanted | NET_WRITABLE);
	} else {
		net_stream_want(stream, wanted & ~(unsigned)NET_WRITABLE);
		buf_release(out);
	}
	return true;
}
