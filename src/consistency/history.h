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
	uint64_t system;       /* the cluster's system identifier; 0: not asked for */
	uint32_t timeline;     /* the one the server is on */
	struct position began; /* past[0]: unset if nothing came before it, else it was dropped */
	int count;
	struct history_entry {
		uint32_t timeline;
		struct position left; /* the next timeline begins here */
	} past[HISTORY_MAX];      /* oldest first, timelines strictly ascending */
};

/* A position and where it was written: an LSN alone says nothing once a cluster was promoted.
 * (timeline, fork) names the branch, `fork` being where the timeline left its parent, unset for
 * timeline 1: two standbys that are promoted independently of each other both begin timeline 2. */
struct history_point {
	uint64_t system;
	uint32_t timeline;
	struct position fork;
	struct position at;
};

/* Timeline 1 has no past and needs no file. */
void history_first(struct history *h);
/* The text of a history file, "tli<tab>LSN<tab>reason" a line, '#' comments. False, and *h not
 * known, if it is anything else or does not lead up to `timeline`. For timeline 1 it has no lines.
 */
[[gnu::warn_unused_result]] bool history_parse(struct history *h, uint32_t timeline,
                                               struct slice text);
/* A timeline in decimal, up to 10 digits. */
[[gnu::warn_unused_result]] bool history_timeline_parse(struct slice word, uint32_t *out);
/* Where past[i] began and where the server's history left it; i == count is its own timeline, which it
 * has not left (unset). A recovery to a point before the beginning of the timeline that was its target
 * leaves a later switch at a lower position, and ends the earlier timelines there too. */
struct position history_fork_of(const struct history *h, int i);
struct position history_left(const struct history *h, int i);
/* Where `h`'s own timeline begins; unset for timeline 1. */
struct position history_fork(const struct history *h);

/* The branch of `h` itself, as far as `at`. */
struct history_point history_point(const struct history *h, struct position at);
bool history_same_branch(const struct history *a, const struct history *b);
/* Did the branch of `h` come from `other`'s, directly or not? Both must be known. */
bool history_descends(const struct history *h, const struct history *other);

/* Does a server have what was written at a point of history?
 *
 *            S             the point lies on 1 at or before S ... YES or NOT_YET, by number
 *   1 ───────●────────▶    on 1 beyond S, the server is on 2 .... LOST
 *            ╰ 2 ─────▶    on 2, the server is on 1 before S .... NOT_YET: it may follow
 *                          on 2, the server is on 1 beyond S .... DIVERGED
 *
 * Whatever is not known is UNKNOWN, never YES. */
enum contains {
	CONTAINS_YES,
	CONTAINS_NOT_YET,  /* replay gets there, at the latest when it follows to the point's branch */
	CONTAINS_LOST,     /* the server is on a branch that the point was cut off from */
	CONTAINS_DIVERGED, /* the server went on where the point's branch had left it */
	CONTAINS_UNKNOWN,
};
/* As far as a server that goes on writing will ever come: a primary has all that is on its history,
 * also what it wrote after it was asked. */
#define HISTORY_END ((struct position){UINT64_MAX})
/* The one judge of positions across timelines. The server has `h` as far as `at`. `of` is the
 * history of the point's branch, or NULL if nobody knows it. Without it, a point on a later
 * timeline than the server's is unknown, for the server may be an old primary; so is one at or
 * before the fork of a branch that the server does not have, unless that branch is known to come
 * from timeline 1. */
enum contains history_contains(const struct history_point *p, const struct history *of,
                               const struct history *h, struct position at);

#endif
