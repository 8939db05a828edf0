/* SPDX-License-Identifier: PostgreSQL
 *
 * What the router knows of its servers: who is primary, who is up, how far each replica has
 * replayed, and how stale that knowledge is. Written by the watchers (and by captured commit
 * positions), read by route_decide(). Pure: time comes in as a parameter, in microseconds of one
 * monotonic clock.
 *
 * Invariants
 *  - A position is a statement about ONE unbroken watcher connection: fleet_node_lost() throws it
 *    away and opens a new epoch. After an immediate restart a standby answers a lower position.
 *  - `sampled_at_us` is when the sample was *started* (the question sent), never when it arrived:
 *    only reads sent after that moment are covered by it.
 *  - Unknown role, unknown position, another branch of history, old sample: not eligible. Never
 *    guess.
 *
 * The primary is whoever is up, not in recovery, and on the newest branch. Of several only one
 * whose history shows that it came from all the others; one that is alone must not be on an earlier
 * timeline than the last primary was: that is an old primary that has come back. Where somebody
 * else is asked who leads (Patroni), it must be the leader too. Whoever says that it is primary and
 * is not elected is fenced.
 *
 * The histories of the nodes are known only while that very server is up on that timeline. Tokens
 * and stored marks are believed by the history of the primary that is up now; the replicas of a
 * primary that is away still go along the course that it was on.
 *
 * Lag is measured without anybody's clock but ours: a ring of (primary position, local time);
 * a replica's staleness is now minus the time of the newest entry it has replayed.
 *
 *   ring, oldest first:    at  ──P1────P2────P3────P4──▶
 *                                      ▲
 *                        a replica here has everything acknowledged before P2.complete_us
 */
#ifndef TM_CONSISTENCY_FLEET_H
#define TM_CONSISTENCY_FLEET_H

#include "health.h"
#include "history.h"
#include "position.h"

#define FLEET_NODES_MAX 16 /* at most 32: sets of nodes are kept as bits */
#define FLEET_RING 512
#define NODE_NONE (-1)
#define LAG_UNKNOWN INT64_MAX
/* fleet_leader(): nobody knows; nobody, or a server that is not one of ours. */
#define LEADER_UNKNOWN NODE_NONE
#define LEADER_NONE (-2)

enum node_role { NODE_ROLE_UNKNOWN, NODE_ROLE_PRIMARY, NODE_ROLE_REPLICA };

struct node {
	char name[64];
	bool up; /* the watcher is connected and has answered */
	enum node_role role;
	uint32_t epoch;     /* grows with every loss of the watcher's connection */
	uint32_t timeline;  /* 0: not known */
	/* Up, a replica, and on the primary's branch: judged anew whenever any of that may have changed,
	 * for every read asks. */
	bool follows;
	uint64_t system;    /* of which cluster it is, as far as known; 0: not known */
	int64_t lost_at_us; /* last fleet_node_lost(); 0 never */
	/* replica: replayed up to; primary: insert position. Unset until first sampled. */
	struct position at;
	int64_t sampled_at_us;      /* when the sample was started; 0: none */
	int64_t heard_at_us;        /* when it was first known to be at `at` */
	struct position watched_at; /* the watcher's own last sample: it must not go backwards */
	uint32_t outstanding;       /* statements in flight, kept by the pool; for balancing */
	/* How long after it was written on the primary a position is replayed here, as observed,
	 * smoothed; LAG_UNKNOWN until observed. Used to guess catch-up time, never for eligibility
	 * of `session` reads. */
	int64_t replay_delay_us;
	/* The same, an upper bound that rises at once and sinks slowly (near the p99); LAG_UNKNOWN
	 * until observed. Sets the window of STRATEGY_PIN_AUTO. */
	int64_t replay_delay_high_us;
	/* After guards that did not hold (route.h): none before this moment. The pause doubles with
	 * each one that fails and halves with each that holds. */
	int64_t guard_pause_us, guard_again_at_us;
	struct health health; /* how much it is asked */
	/* Of `timeline`; not known until fleet_node_history(). On that timeline it was at history_at
	 * then; a replica may have followed to a later one since. */
	struct history history;
	struct position history_at;
};

/* One known position of the primary. Times differ because knowledge does: between two samples the
 * primary was somewhere in between. All three grow along the ring. */
struct fleet_sample {
	struct position at;
	int64_t after_us;    /* it was written after this moment … */
	int64_t reached_us;  /* … and at or before this one */
	int64_t complete_us; /* whatever was acknowledged before this moment lies at or before `at` */
};

struct fleet {
	int count;
	struct node nodes[FLEET_NODES_MAX];
	/* Grows when another node (or another timeline) becomes primary: positions taken before may
	 * lie on another branch of history, so marks of an older generation are void (session.h). */
	uint32_t generation;
	int64_t generation_at_us; /* when it last grew */
	int primary;              /* node index, or NODE_NONE; two at once are none */
	int leader;               /* as somebody else says: a node, LEADER_NONE, LEADER_UNKNOWN */
	bool two_primaries;       /* now: nobody can tell whom a replica of unknown timeline follows */
	/* The one that roles and histories alone would have elected last: an earlier timeline of that
	 * cluster is past. */
	int newest_node;
	uint32_t newest_timeline;
	uint64_t newest_system;
	int last_primary;       /* the one that `generation` speaks of, up or not; NODE_NONE at first */
	uint32_t timeline;      /* its timeline; 0: not known */
	struct history history; /* of the primary that is up now; `known` only if there is one */
	struct history course;  /* the same of this generation, kept while its primary is away */
	/* The branches of this generation, and of the one before; `at` is of no meaning, timeline 0:
	 * not known. */
	struct history_point branch, branch_before;
	bool fork_before_known; /* or no history of the one before was ever had: its timeline is all */
	/* A replica whose sample is older is not eligible, µs. */
	int64_t sample_max_age_us;
	/* How long a node that came back takes to have its whole share; 0: it has it at once. */
	int64_t slow_start_us;
	/* fleet_find_outlier(); a factor of 0: there are none. */
	int outlier_factor;
	int64_t outlier_floor_us;
	uint32_t ring_count;
	struct fleet_sample ring[FLEET_RING]; /* oldest first; thinned from the old end when full */
};

void fleet_init(struct fleet *f, int64_t sample_max_age_us);
/* Returns the node's index, or NODE_NONE if full. */
int fleet_node_add(struct fleet *f, struct slice name);

/* ---- what the watchers say ---- */
/* The watcher has connected and learnt the role. timeline 0: not known. May change the primary and
 * then the generation. A node that is up already is lost first: what was known of it is void. */
void fleet_node_up(struct fleet *f, int node, enum node_role role, uint32_t timeline,
                   int64_t now_us);
/* Nothing happens to a node that is not up. */
void fleet_node_lost(struct fleet *f, int node, int64_t now_us);
/* The cluster that a node will come up in; before fleet_node_up(). */
void fleet_node_system(struct fleet *f, int node, uint64_t system);
/* The history of the timeline that a node is on, where it had come to `at`. May decide which of
 * several is the primary. False, and nothing happens, if the node is not up or `h` is not the known
 * history of its timeline; of a replica also of a later one than was known, for it only ever moves
 * on to such. */
[[gnu::warn_unused_result]] bool fleet_node_history(struct fleet *f, int node,
                                                    const struct history *h, struct position at,
                                                    int64_t now_us);
/* A sample of a node's position: `started_at_us` is when the question was sent, `now_us` when the
 * answer came. A position below the last one of the same epoch, or below one that was known before
 * the question, is a contradiction: the node is treated as lost and false is returned (the watcher
 * must drop its connection). A position that is not set is no sample; a node that is not up has
 * none. */
[[gnu::warn_unused_result]] bool fleet_node_sampled(struct fleet *f, int node, struct position at,
                                                    int64_t started_at_us, int64_t now_us);
/* A replica's position, answered now on a pooled connection to the server that the watcher knows,
 * and asked in this epoch. Not of the watcher's connection, so it may come out of order with its
 * samples: a lower one is no contradiction. */
void fleet_replica_reached(struct fleet *f, int node, struct position at, int64_t started_at_us,
                           int64_t now_us);
/* A guard on this node was answered: it held, or the replica was not there yet. */
void fleet_guard_answered(struct fleet *f, int node, bool held, int64_t now_us);
/* A commit position captured on the primary's pooled connections, as its answer arrives (before the
 * client hears of its commit): feeds the ring. */
void fleet_primary_reached(struct fleet *f, struct position at, int64_t now_us);

/* ---- what Patroni says ---- */
/* Who leads, until it is said otherwise. It only narrows: another node is not the primary, and this
 * one is only if it says so itself and nothing else stands against it. */
void fleet_leader(struct fleet *f, int leader, int64_t now_us);
static inline bool fleet_may_lead(const struct fleet *f, int node)
{
	return f->leader == LEADER_UNKNOWN || f->leader == node;
}

/* ---- what the operator says ---- */
/* No new reads go to the node, or they do again, by a slow start. It stays watched, and if it is or
 * becomes the primary nothing changes. */
void fleet_node_drain(struct fleet *f, int node);
void fleet_node_undrain(struct fleet *f, int node, int64_t now_us);

/* ---- what reads take ---- */
/* A replica whose reads take outlier_factor times as long as those of every other one that is
 * asked, and outlier_floor_us at least; or NODE_NONE. There is always another one. */
int fleet_find_outlier(const struct fleet *f, int64_t now_us);

/* ---- what readers ask ---- */
/* Is this point a part of the primary's history? YES also for what lies beyond all that is known of
 * it, for others may know more. Never NOT_YET. */
enum contains fleet_primary_contains(const struct fleet *f, const struct history_point *p);
/* How a node's branch of history stands to the primary's (or to the last primary's). */
enum fleet_branch {
	BRANCH_UNKNOWN,
	BRANCH_SAME,
	BRANCH_BEHIND,   /* an earlier one, and not beyond the point where the primary left it: it may
	                    follow */
	BRANCH_AHEAD,    /* a later one: it follows a primary that is newer than the one we know */
	BRANCH_DIVERGED, /* it has what the primary has not, and never gets there by replay */
};
const char *fleet_branch_name(enum fleet_branch b);
enum fleet_branch fleet_node_branch(const struct fleet *f, int node);
/* Says that it is primary, and is not elected: nothing may be sent to it. */
static inline bool fleet_node_fenced(const struct fleet *f, int node)
{
	const struct node *n = &f->nodes[node];
	return n->up && n->role == NODE_ROLE_PRIMARY && node != f->primary;
}
/* Up, a replica, sample present and young enough, and on the primary's branch: on timeline 1, or
 * with the same fork. A fork that is not known is not the same. An unknown timeline will do before
 * the first change of the primary. */
static inline bool fleet_replica_eligible(const struct fleet *f, int node, int64_t now_us)
{
	const struct node *n = &f->nodes[node];
	return n->follows && position_is_set(n->at) &&
	       now_us - n->sampled_at_us <= f->sample_max_age_us;
}
/* Eligible, and there is no other reason to leave it out (health.h). */
static inline bool fleet_replica_asked(const struct fleet *f, int node, int64_t now_us)
{
	return fleet_replica_eligible(f, node, now_us) && health_is_asked(&f->nodes[node].health);
}
/* The newest position the primary is known to have reached; unset if none is known. */
static inline struct position fleet_newest(const struct fleet *f)
{
	return f->ring_count ? f->ring[f->ring_count - 1].at : (struct position){0};
}
/* Bytes of WAL behind the newest known primary position; UINT64_MAX when not known. */
uint64_t fleet_lag_bytes(const struct fleet *f, int node);
/* Clock-free staleness: now minus the time of the newest ring entry the node has replayed, 0 if it
 * has replayed the newest and the primary is being watched; LAG_UNKNOWN when not known or when the
 * node is behind the whole ring. Never understated for commits acknowledged through this router;
 * commits made elsewhere are seen with the primary's next sample. */
int64_t fleet_lag_us(const struct fleet *f, int node, int64_t now_us);
/* Guards on this node hold more often than not. */
static inline bool fleet_guard_pays(const struct fleet *f, int node, int64_t now_us)
{
	return now_us >= f->nodes[node].guard_again_at_us;
}
/* Expected time until `node` has replayed `want`, from now; 0 if it has; LAG_UNKNOWN if there is
 * no ground for a guess. A guess: it decides only whether waiting is worth while. */
int64_t fleet_catch_up_us(const struct fleet *f, int node, struct position want, int64_t now_us);

#endif
