/* SPDX-License-Identifier: PostgreSQL
 *
 * Fetches the history of the timeline that a server is on (consistency/history.h). The commands for
 * it are those of a replication connection, so this is a second, short-lived connection beside the
 * watcher's, with the same address and secret; neither waits for the other.
 *
 *   STOPPED ─start─▶ CONNECTING ──▶ LOGIN ──▶ IDENTIFY ──▶ HISTORY ──▶ STOPPED, and told
 *      ▲                 ▲  │         │          │            │
 *    stop, from          │  └─────────┴────┬─────┴────────────┘
 *    any state           │                 │ any error, or too late
 *                        └──── WAITING ◀───┘   … or told, and the timeline is still an earlier one
 *                             1 s … 60 s
 *
 * IDENTIFY makes sure that the cluster is that of the watcher's connection, and of a primary the
 * timeline: by now another server may answer at that address, and its history would be believed. A
 * standby moves from timeline to timeline, and there the answer tells which one it replays and how
 * far; what the watcher had known is only the least that it can be.
 *
 * The role needs the attribute REPLICATION, and pg_hba.conf a line for `replication`.
 */
#ifndef TM_WATCH_HISTORY_FETCH_H
#define TM_WATCH_HISTORY_FETCH_H

#include "consistency/history.h"
#include "net/net.h"
#include "watch.h"

struct history_fetch;

/* From the loop: `h` is known, and borrowed for the call. The server was at `at` on that timeline,
 * or had received it up to there. The fetch has stopped, unless the timeline is an earlier one than
 * was asked for. May call all of this header but history_fetch_free(). */
typedef void (*history_fetch_fn)(void *arg, const struct history *h, struct position at);

struct history_fetch_settings {
	int64_t connect_timeout_us; /* for connecting, and again for the login */
	int64_t answer_timeout_us;  /* for each answer */
	int64_t backoff_min_us;     /* before the second try; doubled from try to try … */
	int64_t backoff_max_us;     /* … up to this */
};

#define HISTORY_BACKOFF_MIN_US 1000000
#define HISTORY_BACKOFF_MAX_US 60000000

/* Borrows loop, copies settings. NULL: no memory. */
struct history_fetch *history_fetch_new(struct net_loop *loop,
                                        const struct history_fetch_settings *settings,
                                        history_fetch_fn fn, void *arg);
/* Before its loop. NULL is fine. */
void history_fetch_free(struct history_fetch *f);
/* Fetches a history from `server`, again and again until it comes or history_fetch_stop(): of a
 * primary that of `timeline` (> 1), of a replica that of the timeline that it is on, until this is
 * `timeline` or a later one. Whatever is under way is stopped first. Borrows `server` until then.
 * Tells nobody from within the call. */
void history_fetch_start(struct history_fetch *f, const struct watch_node *server,
                         enum node_role role, uint64_t system_identifier, uint32_t timeline);
/* What a fetch that has not stopped waits for; false if it has. */
bool history_fetch_wants(const struct history_fetch *f, uint32_t *timeline);
void history_fetch_stop(struct history_fetch *f);

#endif
