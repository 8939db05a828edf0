/* SPDX-License-Identifier: PostgreSQL
 *
 * Which timelines led to the one a server is on, and where it left each of them: what
 * TIMELINE_HISTORY answers. With it, a position of another timeline can be judged after a failover:
 * it is either part of the primary's past or cut off (docs/token.md; facts: "numbers lie after a
 * lossy failover").
 *
 *   timeline 1 ──────────●───────▶ (lost beyond the fork)
 *                        ╰ 2 ─────────●────▶
 *                                     ╰ 3 ───────▶ now
 *   history of 3: {1, left at the first fork}, {2, left at the second}
 */
#ifndef TM_CONSISTENCY_HISTORY_H
#define TM_CONSISTENCY_HISTORY_H

#include "position.h"

/* Older ancestors are dropped: positions there are judged unknown, that is, not believed. */
#define HISTORY_MAX 64

struct history {
	bool known;
	uint32_t timeline;     /* the one the server is on */
	struct position began; /* past[0]: unset if nothing came before it, else it was dropped */
	int count;
	struct history_entry {
		uint32_t timeline;
		struct position left; /* the next timeline begins here */
	} past[HISTORY_MAX];      /* oldest first, timelines strictly ascending */
};

/* Timeline 1 has no past and needs no file. */
void history_first(struct history *h);
/* The text of a history file, "tli<tab>LSN<tab>reason" a line, '#' comments. False, and *h not
 * known, if it is anything else or does not lead up to `timeline`. For timeline 1 it has no lines.
 */
[[gnu::warn_unused_result]] bool history_parse(struct history *h, uint32_t timeline,
                                               struct slice text);
/* Where `h`'s own timeline begins; unset for timeline 1. */
struct position history_fork(const struct history *h);

enum history_verdict {
	HISTORY_PART, /* the position is part of this server's history: compare by number */
	HISTORY_LOST, /* it was written on a branch that this server does not have */
	HISTORY_UNKNOWN,
};
/* Is `at`, written on (timeline, fork), part of the history of a server? `fork` as in a token:
 * where `timeline` left its parent, unset for timeline 1. A timeline that is younger than the
 * server's is unknown: the server may be an old primary. So is a position at or before the fork of
 * a branch that the server does not have, unless that branch is known to come from timeline 1:
 * where its parents left the server's history would have to be asked of it. */
enum history_verdict history_judge(const struct history *h, uint32_t timeline, struct position fork,
                                   struct position at);

#endif
