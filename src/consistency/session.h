/* SPDX-License-Identifier: PostgreSQL
 *
 * A session's mark: how far it must see the world. Two kinds of debt:
 *
 *   known     write, read,   positions: every later read must be served at or past all of them
 *             brought
 *   owed      dirty_at,      something happened whose position is not known yet. It is settled by
 *             read_at[]      a sample *started* after it happened:
 *
 *     a write whose position was not captured (COPY, broken capture, unknown outcome of a COMMIT),
 *     a read served by the primary ......... dirty_at: a sample of the primary settles it
 *     a read served by replica n ........... read_at[n]: a sample of n (same epoch), or one of the
 *                                            primary, settles it; n itself needs none
 *
 * A captured commit position (insert position of the primary, asked after the statement) settles
 * everything that happened before the question was sent.
 * "Unknown" never becomes "fresh": a mark of an older fleet generation is all debt, until a sample
 * of the new primary settles it.
 * A zeroed mark belongs to a session that has seen nothing yet.
 *
 * A mark is plain data and may be copied. A statement that waits on a shared mark should wait on a
 * copy taken when it arrived: what completes later does not bind it, and fresh debts of others
 * would otherwise keep it waiting.
 */
#ifndef TM_CONSISTENCY_SESSION_H
#define TM_CONSISTENCY_SESSION_H

#include "fleet.h"

/* Reads that would have gone to a replica and ran on the primary, because nothing is split yet
 * (mode = observe). They do not count in the mark: it stays what it would be if they had been
 * split, so that it tells how that would have gone. What they showed binds the session all the
 * same, as soon as anybody relies on it: in session_position(), and for good by
 * session_observed_counts(). The rest is the observer's. */
struct session_observed {
	int64_t shown_at_us;    /* the last one of unknown position; 0: none, or it is known by now */
	struct position shown;  /* the primary was here, or further, when it answered them */
	int64_t primary_at_us;  /* routing too would have sent one there, and owes it; 0: none */
	struct position routed; /* what they would have shown, if routed … */
	struct position naive;  /* … and if split with no regard to positions */
	uint32_t generation;    /* of these two */
};

struct session_mark {
	uint32_t generation;
	struct position write;
	struct position read;
	struct position brought; /* from outside: what others wrote or saw */
	int64_t written_at_us; /* last acknowledged write; 0 never; for pinning */
	int64_t dirty_at_us;   /* 0: nothing owed to the primary */
	int last_node;         /* replica of the last read, for stickiness; 0 before that */
	int64_t read_at_us[FLEET_NODES_MAX];
	/* What it had written when the primary changed, until it is known whether that survived. */
	struct position cut;
	uint32_t cut_generation;
	struct session_observed observed;
};

/* All that is known of a mark: what is owed may come to more. */
static inline struct position session_known(const struct session_mark *s)
{
	return position_max(position_max(s->write, s->read), s->brought);
}

/* A write was acknowledged and its position is known: `at`, asked at or after `asked_at_us`. If
 * `at` is the end of that very commit (not the primary's insert position), asked_at_us is 0: it
 * settles nothing else. */
void session_wrote(struct session_mark *s, const struct fleet *f, struct position at,
                   int64_t asked_at_us, int64_t now_us);
/* A write was, or may have been, acknowledged and its position is not known. */
void session_wrote_unknown(struct session_mark *s, const struct fleet *f, int64_t now_us);
/* A read was answered by `node` (primary or replica) at now. NODE_NONE: by a connection that was
 * opened before the node was last lost; what it showed is owed to the primary. */
void session_read(struct session_mark *s, const struct fleet *f, int node, int64_t now_us);
/* The same, and the node's position, asked at asked_at_us behind the read on the connection that
 * answered it, is known: nothing is owed for it. */
void session_read_at(struct session_mark *s, const struct fleet *f, int node, struct position at,
                     int64_t asked_at_us, int64_t now_us);
/* The primary answered a read that is only observed. `at` is its position, asked at asked_at_us
 * behind the read, or NULL: not known. */
void session_observed_read(struct session_mark *s, const struct fleet *f, const struct position *at,
                           int64_t asked_at_us, int64_t now_us);
/* From now on such reads count as what they were: reads on the primary. */
void session_observed_counts(struct session_mark *s, const struct fleet *f);
/* Raises the mark to a position that came from outside (a token, another session). */
void session_read_after(struct session_mark *s, const struct fleet *f, struct position at);
/* Settles debts with the samples the fleet has. Call before routing. A read on a replica is settled
 * by that replica's own sample only, because the primary's would ask more than the session saw;
 * session_need() falls back on the primary's for the sake of other nodes. */
void session_settle(struct session_mark *s, const struct fleet *f);
/* What a read on replica `node` must have reached; false if something is owed that this node
 * cannot satisfy before a sample settles it: every sample started after session_owed_since() does.
 */
bool session_need(const struct session_mark *s, const struct fleet *f, int node,
                  struct position *need);
/* Was what the session had written cut off by the last change of the primary? Asynchronous
 * replication had come as far as `survived` on that branch; the session had written up to `wrote`
 * (or a little less: captured positions may be past the commit). True once for each loss; false
 * also as long as nobody can tell. */
bool session_lost(struct session_mark *s, const struct fleet *f, struct position *survived,
                  struct position *wrote);
/* The time of the latest debt; 0 if nothing is owed. */
int64_t session_owed_since(const struct session_mark *s, const struct fleet *f);
/* The position for a token: max of everything known. False while something is owed. */
bool session_position(const struct session_mark *s, const struct fleet *f, struct position *at);

#endif
