/* SPDX-License-Identifier: PostgreSQL
 *
 * History checker: did a session ever see a state older than its own writes, or than its own
 * earlier reads? Each key holds a version that only its writes raise.
 *
 * Calls are made as things happen, so their order is the order of time: an event counts against a
 * read only if it was reported complete before the read was reported started. Operations that
 * overlap are legal in either order and never flagged. Constant work a call, so O(n) in all.
 *
 *   session        history_wrote(7)          started ------------- ended(5): stale, 5 < 7
 *   other conn.         |                        |    wrote(9)       (9 overlaps: not asked for)
 *   ---------------------------------------------------------------------------------> time
 *
 * A session may be one connection or many. All calls may be made from any number of threads.
 */
#ifndef TM_DEMO_HISTORY_H
#define TM_DEMO_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct history {
	size_t sessions;
	size_t keys;
	struct history_floor *floors; /* sessions x keys; untouched pages cost nothing */
};

/* What a read that starts now must not be below. 0: nothing is known, anything is legal. */
struct history_view {
	uint64_t written;
	uint64_t read;
};

enum history_verdict {
	HISTORY_OK,
	HISTORY_STALE,    /* read-your-writes: older than an acknowledged write of the session */
	HISTORY_BACKWARD, /* monotonic reads: older than a completed read of the session */
};

/* False when memory is short. */
[[gnu::warn_unused_result]] bool history_init(struct history *h, size_t sessions, size_t keys);
void history_release(struct history *h);

/* A write was acknowledged. Versions start at 1. */
void history_wrote(struct history *h, size_t session, size_t key, uint64_t version);
/* Call before the read is sent, keep the result, hand it to history_read_ended(). */
struct history_view history_read_started(struct history *h, size_t session, size_t key);
/* A missing row is version 0. A read that breaks both promises is reported as HISTORY_STALE. */
enum history_verdict history_read_ended(struct history *h, size_t session, size_t key,
                                        struct history_view started, uint64_t version);
/* The session ended and a new one takes its number (a reconnect): nothing is known of it. */
void history_forget(struct history *h, size_t session);

#endif
