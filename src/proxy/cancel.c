/* SPDX-License-Identifier: PostgreSQL */
#include "cancel.h"

#include <stdlib.h>

#include "client.h"
#include "pool.h"
#include "server.h"
#include "watch/dial.h"
#include "worker.h"

#define CANCEL_TIMEOUT_US 5000000
#define CANCEL_KEY_3_0 4

struct cancel {
	struct list link;
	struct worker *worker;
	struct server *server; /* NULL once it is gone: its process may still be at work */
	uint32_t pid;
	uint16_t key_len;
	uint8_t key[256];
	struct net_stream *stream;
	struct net_timer *timer;
};

bool cancel_register(struct worker *w, struct client *c, uint32_t version)
{
	if ((uint32_t)w->client_count >= w->by_id_cap) {
		uint32_t cap = w->by_id_cap ? w->by_id_cap * 2 : 64;
		struct client **slots = realloc(w->by_id, cap * sizeof(struct client *));
		if (!slots)
			return false;
		memset(slots + w->by_id_cap, 0, (cap - w->by_id_cap) * sizeof(struct client *));
		w->by_id = slots;
		w->by_id_cap = cap;
	}
	for (uint32_t i = 0; i < w->by_id_cap; i++) {
		uint32_t slot = (w->by_id_next + i) % w->by_id_cap;
		if (w->by_id[slot])
			continue;
		w->by_id[slot] = c;
		w->by_id_next = slot + 1;
		c->id = slot + 1;
		c->cancel_key_len = version < PROTOCOL_3_2 ? CANCEL_KEY_3_0 : sizeof(c->cancel_key);
		net_random(c->cancel_key, c->cancel_key_len);
		return true;
	}
	return false;
}

void cancel_unregister(struct worker *w, struct client *c)
{
	if (c->id > 0 && w->by_id[c->id - 1] == c)
		w->by_id[c->id - 1] = NULL;
	c->id = 0;
}

static void finish(struct cancel *k)
{
	struct server *s = k->server;
	list_remove(&k->link);
	net_stream_close(k->stream);
	net_timer_free(k->timer);
	free(k);
	if (s && --s->cancels == 0 && s->state == SERVER_DRAIN && !s->client &&
	    replies_at_rest(&s->replies))
		server_release(s);
}

static void on_timeout(void *arg)
{
	finish(arg);
}

static void on_event(void *owner, unsigned events)
{
	struct cancel *k = owner;
	if (events & NET_CONNECTED) {
		struct buf b;
		buf_init(&b, 512);
		bool ok = write_cancel(&b, k->pid, slice_of(k->key, k->key_len)) &&
		          net_stream_write(k->stream, b.data, b.len) == (ssize_t)b.len;
		buf_release(&b);
		if (!ok)
			finish(k);
		return;
	}
	/* The server answers nothing; it closes when the signal has been sent. */
	uint8_t ignored[64];
	if (events & NET_FAILED || net_stream_read(k->stream, ignored, sizeof(ignored)) != NET_AGAIN)
		finish(k);
}

void cancel_send(struct server *s)
{
	struct worker *w = s->worker;
	const struct watch_node *n = pool_node(s->pool);
	struct cancel *k = s->cancels < 8 ? calloc(1, sizeof(*k)) : NULL;
	if (!k)
		return;
	k->worker = w;
	k->server = s;
	k->pid = s->pid;
	k->key_len = s->key_len;
	memcpy(k->key, s->key, s->key_len);
	k->timer = net_timer_new(w->loop, on_timeout, k);
	k->stream = dial(w->loop, n, CANCEL_TIMEOUT_US, on_event, k);
	if (!k->stream || !k->timer) {
		net_stream_close(k->stream);
		net_timer_free(k->timer);
		free(k);
		return;
	}
	net_timer_start(k->timer, CANCEL_TIMEOUT_US);
	list_push_back(&w->cancels, &k->link);
	s->cancels++;
}

/* In constant time: a key that takes longer to be refused would be nearer to the right one. */
static bool is_key_of(const struct client *c, struct slice key)
{
	uint8_t diff = key.len != c->cancel_key_len;
	for (size_t i = 0; i < c->cancel_key_len; i++)
		diff |= (uint8_t)(c->cancel_key[i] ^ (i < key.len ? key.ptr[i] : 0));
	return diff == 0;
}

void cancel_request(struct worker *w, uint32_t pid, struct slice key)
{
	struct client *c = pid > 0 && pid <= w->by_id_cap ? w->by_id[pid - 1] : NULL;
	if (!c || !is_key_of(c, key)) {
		w->stats.cancels_refused++;
		return;
	}
	w->stats.cancels++;
	if (c->server && c->server->state == SERVER_ACTIVE) {
		cancel_send(c->server);
		return;
	}
	if (c->state == CLIENT_WAIT_POSITION || c->state == CLIENT_WAIT_SERVER ||
	    c->state == CLIENT_WAIT_PRIMARY) {
		c->cancelled = true;
		worker_make_runnable(w, c);
	}
}

void cancel_forget(struct worker *w, const struct server *s)
{
	list_for_each(it, &w->cancels)
	{
		struct cancel *k = container_of(it, struct cancel, link);
		if (k->server == s)
			k->server = NULL;
	}
}

void cancel_free_all(struct worker *w)
{
	list_for_each(it, &w->cancels)
	{
		struct cancel *k = container_of(it, struct cancel, link);
		k->server = NULL;
		finish(k);
	}
}
