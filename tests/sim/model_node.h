/* SPDX-License-Identifier: PostgreSQL
 *
 * What the parts of the model server share: model_pg.c owns the nodes, model_backend.c their
 * connections.
 */
#ifndef TM_SIM_MODEL_NODE_H
#define TM_SIM_MODEL_NODE_H

#include "base/list.h"
#include "model_wal.h"

#define MODEL_TIMELINES 16

struct backend;

struct model_node {
	struct model *model;
	int index, host;
	char name[16];
	struct net_loop *loop;
	struct net_listener *listener;
	struct net_timer *wal_writer, *replication;
	bool up, replica;
	bool stray; /* a primary beside the one that counts */
	uint32_t timeline;
	int64_t started_at_us;
	struct wal wal;
	int flushed;    /* records of a primary */
	int replayed;   /* records of a replica */
	int stray_from; /* records it had when it was promoted so; else more than there are */
	uint32_t rows[MODEL_KEYS];
	struct backend *holder[MODEL_KEYS]; /* of the row's lock */
	int64_t lag_us, paused_until_us;
	int64_t hung_until_us;
	enum { REVERT_NONE, REVERT_CUT, REVERT_DONE } revert; /* watchers only, unless NONE */
	struct net_timer *thaw, *reverting;
	struct list backends;
};

struct model {
	int count, primary;
	bool async_commit;
	struct model_counts counts;
	struct {
		int records;
		uint64_t at;
		bool twice; /* by a stray primary as well, at the same position */
		bool stray; /* … at any */
	} forks[MODEL_TIMELINES]; /* where each timeline began */
	struct model_node nodes[MODEL_NODES_MAX];
};

/* ---- model_pg.c ---- */
void node_flush(struct model_node *n, int count);
/* Writes the commit record; returns its index. */
int node_commit(struct model_node *n, int key, uint32_t version);
uint64_t node_insert_position(const struct model_node *n);
uint64_t node_write_position(const struct model_node *n);
uint64_t node_replay_position(const struct model_node *n);
uint64_t node_system_identifier(const struct model_node *n);
int64_t node_started(const struct model_node *n);
bool node_hangs(const struct model_node *n);

/* ---- model_backend.c ---- */
void backend_accept(void *node, struct net_stream *s);
/* It was promoted beside the true primary, to a timeline of the same number. */
static inline bool node_is_twin(const struct model_node *n)
{
	return n->stray && n->stray_from <= n->wal.count;
}

/* More of the log is flushed: commits that waited for it are done. */
void backends_flushed(struct model_node *n);
/* All at once, as in a crash. */
void backends_drop(struct model_node *n);
/* All but the watchers'. */
void backends_drop_others(struct model_node *n);
/* The server moves again. */
void backends_thaw(struct model_node *n);

#endif
