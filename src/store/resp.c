/* SPDX-License-Identifier: PostgreSQL */
#include "resp.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

#include "base/buf.h"

/* What may wait to be sent: some ten thousand commands. */
#define OUT_MAX ((size_t)8 << 20)
#define READ_CHUNK 16384

struct resp {
	struct net_stream *stream;
	struct net_timer *flush;
	const struct resp_handlers *handlers;
	void *owner;
	redisReader *reader;
	struct buf out;
	const char *broken; /* found where the owner must not be called; told by the flush timer */
	bool connected;
	bool busy;       /* a handler is on the stack */
	bool closed;     /* the owner has gone */
	size_t reply_in; /* bytes of the reply that is not complete */
	struct resp_reply reply;
	size_t text_len;
	uint8_t text[RESP_REPLY_MAX];
};

/* ---- replies: what hiredis's reader builds is one resp_reply ---- */

static struct resp *reply_owner(const redisReadTask *task)
{
	return task->privdata;
}

/* Where the value goes; NULL refuses it, and with it the connection. */
static struct resp_value *reply_slot(const redisReadTask *task)
{
	struct resp_reply *r = &reply_owner(task)->reply;
	if (!task->parent) {
		*r = (struct resp_reply){0};
		reply_owner(task)->text_len = 0;
		return &r->top;
	}
	return task->parent->parent ? NULL : &r->items[task->idx];
}

static void *make_value(const redisReadTask *task, struct resp_value value)
{
	struct resp_value *slot = reply_slot(task);
	if (slot)
		*slot = value;
	return slot;
}

static void *make_string(const redisReadTask *task, char *text, size_t len)
{
	struct resp *c = reply_owner(task);
	struct resp_value *slot = reply_slot(task);
	if (!slot || len > sizeof(c->text) - c->text_len)
		return NULL;
	uint8_t *at = c->text + c->text_len;
	memcpy(at, text, len);
	c->text_len += len;
	*slot = (struct resp_value){.type = task->type == REDIS_REPLY_ERROR ? RESP_ERROR : RESP_TEXT,
	                            .text = slice_of(at, len)};
	return slot;
}

static void *make_count(const redisReadTask *task, int64_t count)
{
	if (task->parent || count > RESP_ITEMS_MAX)
		return NULL;
	struct resp_value *slot = make_value(task, (struct resp_value){.type = RESP_ARRAY});
	reply_owner(task)->reply.count = (int)count;
	return slot;
}

#if HIREDIS_MAJOR >= 1
static void *make_array(const redisReadTask *task, size_t count)
{
	return make_count(task, count > RESP_ITEMS_MAX ? RESP_ITEMS_MAX + 1 : (int64_t)count);
}
#else
static void *make_array(const redisReadTask *task, int count)
{
	return make_count(task, count);
}
#endif

static void *make_integer(const redisReadTask *task, long long value)
{
	return make_value(task, (struct resp_value){.type = RESP_INTEGER, .integer = value});
}

static void *make_nil(const redisReadTask *task)
{
	return make_value(task, (struct resp_value){.type = RESP_NIL});
}

static void free_nothing(void *object)
{
}

static redisReplyObjectFunctions reply_functions = {
	.createString = make_string,
	.createArray = make_array,
	.createInteger = make_integer,
	.createNil = make_nil,
	.freeObject = free_nothing,
};

/* ---- in and out ---- */

static void free_it(struct resp *c)
{
	if (c->reader)
		redisReaderFree(c->reader);
	buf_release(&c->out);
	free(c);
}

/* The owner is told once, and by nothing else afterwards. */
static void lose(struct resp *c, const char *why)
{
	if (c->closed || !c->stream)
		return;
	net_stream_close(c->stream);
	c->stream = NULL;
	net_timer_stop(c->flush);
	c->handlers->lost(c->owner, why);
}

static void lose_soon(struct resp *c, const char *why)
{
	if (c->broken)
		return;
	c->broken = why;
	net_timer_start(c->flush, 0);
}

static void hand_out(struct resp *c)
{
	void *reply;
	while (!c->closed && c->stream) {
		if (redisReaderGetReply(c->reader, &reply) != REDIS_OK) {
			lose(c, c->reader->err == REDIS_ERR_OOM ? "a reply is of another shape than expected"
			                                        : "what it says is not Redis's protocol");
			return;
		}
		if (!reply)
			return;
		c->reply_in = c->reader->len - c->reader->pos;
		c->handlers->reply(c->owner, &c->reply);
	}
}

static void take(struct resp *c, const uint8_t *bytes, size_t len)
{
	if (redisReaderFeed(c->reader, (const char *)bytes, len) != REDIS_OK) {
		lose(c, "no memory");
		return;
	}
	c->reply_in += len;
	hand_out(c);
	if (!c->closed && c->stream && c->reply_in > RESP_REPLY_MAX)
		lose(c, "a reply is too large");
}

/* As far as the kernel takes it. */
static void write_some(struct resp *c)
{
	struct buf *b = &c->out;
	while (b->len > 0) {
		struct slice s = buf_slice(b);
		ssize_t n = net_stream_write(c->stream, s.ptr, s.len);
		if (n < 0) {
			lose_soon(c, "the connection broke");
			break;
		}
		if (n == 0)
			break;
		buf_consume(b, (size_t)n);
	}
	net_stream_want(c->stream, NET_READABLE | (b->len > 0 ? NET_WRITABLE : 0));
}

static void read_some(struct resp *c)
{
	uint8_t chunk[READ_CHUNK];
	ssize_t n = net_stream_read(c->stream, chunk, sizeof(chunk));
	if (n > 0)
		take(c, chunk, (size_t)n);
	else if (n == NET_EOF)
		lose(c, "the server closed the connection");
	else if (n == NET_ERROR)
		lose(c, net_stream_error(c->stream));
}

void resp_flush(struct resp *c)
{
	if (c->stream && c->connected && !c->broken)
		write_some(c);
}

static void leave_callback(struct resp *c)
{
	c->busy = false;
	if (c->closed)
		free_it(c);
}

void resp_read_now(struct resp *c)
{
	assert(!c->busy);
	c->busy = true;
	if (c->stream && c->connected)
		read_some(c);
	leave_callback(c);
}

static void on_stream(void *owner, unsigned events)
{
	struct resp *c = owner;
	c->busy = true;
	if (events & NET_FAILED)
		lose(c, net_stream_error(c->stream));
	if (events & NET_CONNECTED) {
		c->connected = true;
		resp_flush(c);
	}
	if (events & NET_READABLE)
		read_some(c);
	if ((events & NET_WRITABLE) && !c->closed)
		resp_flush(c);
	leave_callback(c);
}

static void on_flush(void *arg)
{
	struct resp *c = arg;
	c->busy = true;
	/* A server that refuses says why before it closes. */
	if (c->broken && c->connected)
		read_some(c);
	if (c->broken)
		lose(c, c->broken);
	else
		resp_flush(c);
	leave_callback(c);
}

/* ---- the owner's side ---- */

void resp_send(struct resp *c, const struct slice *words, int count)
{
	const char *argv[16];
	size_t lens[16];
	assert(count <= 16);
	for (int i = 0; i < count; i++) {
		argv[i] = (const char *)words[i].ptr;
		lens[i] = words[i].len;
	}
	char *command;
	int len = redisFormatCommandArgv(&command, count, argv, lens);
	if (len < 0) {
		lose_soon(c, "no memory");
		return;
	}
	bool first = c->out.len == 0;
	if (!buf_append(&c->out, command, (size_t)len))
		lose_soon(c, "more is queued than it takes");
	else if (first)
		net_timer_start(c->flush, 0);
	redisFreeCommand(command);
}

struct resp *resp_connect(struct net_loop *l, const char *host, int port, int64_t timeout_us,
                          struct tls_context *tls, const char *tls_server_name,
                          const struct resp_handlers *handlers, void *owner)
{
	struct resp *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	buf_init(&c->out, OUT_MAX);
	c->handlers = handlers;
	c->owner = owner;
	c->reader = redisReaderCreateWithFunctions(&reply_functions);
	c->flush = net_timer_new(l, on_flush, c);
	if (c->reader && c->flush) {
		const struct net_tls secure = {NET_TLS_DIRECT, tls, tls_server_name};
		c->reader->privdata = c;
		c->stream = net_connect_tls(l, host, port, timeout_us, tls ? &secure : NULL, on_stream, c);
	}
	if (c->stream)
		return c;
	resp_close(c);
	return NULL;
}

void resp_close(struct resp *c)
{
	if (!c)
		return;
	net_stream_close(c->stream);
	c->stream = NULL;
	net_timer_free(c->flush);
	c->flush = NULL;
	c->closed = true;
	if (!c->busy)
		free_it(c);
}
