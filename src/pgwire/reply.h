/* SPDX-License-Identifier: PostgreSQL
 *
 * The reply tracker: which answers a server still owes, for whom, and in which transaction and
 * COPY state that leaves the connection. One entry for every message sent that is answered. Pure.
 *
 *   message sent       entry      completed by
 *   Parse              PARSE      ParseComplete
 *   Bind               BIND       BindComplete
 *   Describe           DESCRIBE   RowDescription | NoData        (ParameterDescription before it)
 *   Execute            EXECUTE    CommandComplete | EmptyQueryResponse | PortalSuspended
 *   Close              CLOSE      CloseComplete
 *   Sync               SYNC       ReadyForQuery
 *   Query              QUERY      ReadyForQuery
 *   FunctionCall       FUNCTION   ReadyForQuery
 *
 * An ErrorResponse to an extended message voids every entry up to the next SYNC, queries included,
 * as the server skips them. A Sync that the server reads during COPY IN is ignored by it ("COPY
 * Operations"), so its entry is taken back. LOCAL entries are answers the router itself gives at
 * that place.
 */
#ifndef TM_PGWIRE_REPLY_H
#define TM_PGWIRE_REPLY_H

#include "message.h"

enum reply_kind {
	REPLY_PARSE = 1,
	REPLY_BIND,
	REPLY_DESCRIBE,
	REPLY_EXECUTE,
	REPLY_CLOSE,
	REPLY_SYNC,
	REPLY_QUERY,
	REPLY_FUNCTION,
};

enum reply_to {
	REPLY_CLIENT, /* forward */
	REPLY_NOBODY, /* the router asked: swallow, errors too */
	REPLY_QUIET,  /* the router asked on the client's behalf: swallow success, forward an error */
	REPLY_LOCAL,  /* never sent: the router answers when its turn comes */
};

struct reply {
	uint8_t kind;
	uint8_t to;
	uint8_t tag;   /* the caller's */
	uint8_t bits;  /* the caller's */
	uint32_t size; /* the caller's */
	void *data;    /* the caller's; given back when the entry completes or is voided */
};

enum copy_state { COPY_NONE, COPY_IN, COPY_OUT, COPY_BOTH };

#define REPLIES_MAX 65536

struct replies {
	struct reply *slots;
	uint32_t head, count, cap; /* a ring; cap is a power of two */
	uint8_t tx;   /* of the last ReadyForQuery: TX_IDLE, TX_OPEN, TX_FAILED; 0 before the first */
	uint8_t copy; /* enum copy_state */
	bool failed;  /* an error was seen since the last ReadyForQuery */
	bool open; /* something is owed that no Sync was sent for: if it fails, what follows is skipped
	            */
	uint32_t
		copy_end; /* entries sent before a CopyDone or CopyFail that preceded the CopyInResponse */
};

void replies_release(struct replies *r);
/* Room for one more. False: REPLIES_MAX outstanding, or no memory. */
[[gnu::warn_unused_result]] bool replies_grow(struct replies *r);
/* False as replies_grow(). */
[[gnu::warn_unused_result]] static inline bool replies_push(struct replies *r, struct reply e)
{
	if (r->count == r->cap && !replies_grow(r))
		return false;
	if (e.kind == REPLY_SYNC)
		r->open = false;
	else
		r->open = e.kind < REPLY_SYNC || (r->count > 0 && r->open);
	r->slots[(r->head + r->count) & (r->cap - 1)] = e;
	r->count++;
	return true;
}
/* Oldest first; index < r->count. */
static inline struct reply *replies_at(struct replies *r, uint32_t index)
{
	return &r->slots[(r->head + index) & (r->cap - 1)];
}
/* NULL when nothing is owed. */
static inline struct reply *replies_head(struct replies *r)
{
	return r->count ? &r->slots[r->head] : NULL;
}
static inline struct reply replies_pop(struct replies *r)
{
	struct reply e = r->slots[r->head];
	r->copy_end -= r->copy_end > 0;
	r->head = (r->head + 1) & (r->cap - 1);
	r->count--;
	return e;
}

enum reply_verdict {
	REPLY_STEP_FORWARD, /* this message is the client's */
	REPLY_STEP_SWALLOW,
	REPLY_STEP_INVALID, /* nobody asked for it: the connection is out of step and must go */
};

struct reply_step {
	enum reply_verdict verdict;
	bool completed; /* `entry` was completed by this message and is popped */
	/* The message is an ErrorResponse that voided the next `voided` entries: the caller pops them
	 * (replies_pop) and undoes what they stood for. `entry` is the one that failed, not popped if
	 * it is a QUERY, FUNCTION or SYNC, else the first of those to be popped. */
	uint32_t voided;
	struct reply entry;
	/* CopyInResponse: the united bits of the Syncs that were taken back, which the next one
	 * inherits. */
	uint8_t inherited;
};

/* CopyDone or CopyFail was sent: from here on the server answers Syncs again. */
static inline void replies_copy_ends(struct replies *r)
{
	if (r->copy == COPY_IN)
		r->copy = COPY_NONE;
	else if (r->copy == COPY_NONE)
		r->copy_end = r->count;
}

/* One message of the server; only its type, and the status byte of ReadyForQuery, are looked at.
 * Asynchronous messages (NoticeResponse, ParameterStatus, NotificationResponse) are the caller's
 * and must not come here. Head entries of kind LOCAL must have been popped before. */
struct reply_step replies_step(struct replies *r, const struct frame *f);

/* A part of an answer for the client that replies_step() would forward and forget: nothing else
 * comes of it. Most messages of a result are such. */
static inline bool replies_passes(const struct replies *r, uint8_t type)
{
	if (r->count == 0 || r->slots[r->head].to != REPLY_CLIENT)
		return false;
	uint8_t kind = r->slots[r->head].kind;
	if (type == BE_DATA_ROW)
		return kind == REPLY_QUERY || kind == REPLY_EXECUTE;
	return kind == REPLY_QUERY && (type == BE_ROW_DESCRIPTION ||
	                               (type == BE_COMMAND_COMPLETE && r->copy == COPY_NONE));
}

/* Nothing owed, no COPY, outside a transaction: the connection may serve someone else. */
static inline bool replies_at_rest(const struct replies *r)
{
	return r->count == 0 && r->copy == COPY_NONE && r->tx == 'I';
}

#endif
