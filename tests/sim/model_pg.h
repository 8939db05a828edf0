/* SPDX-License-Identifier: PostgreSQL
 *
 * Model PostgreSQL servers: a primary with a write-ahead log, and replicas that receive and replay
 * it late. Just enough of the server's side of the protocol for what the router asks and the
 * workload runs.
 *
 *   primary's log   ──[change][commit]──[change]──[commit]──▶ insert position
 *                                  ▲ flushed: safe from a crash, sent to replicas
 *   replica's log   ──[change][commit]──[chan            received
 *                              ▲ replayed: what its readers see
 *
 * A commit can be seen on the primary, and is acknowledged, once it is flushed; with
 * synchronous_commit off at once. A position counts bytes, with the headers of WAL pages, and some
 * commits end exactly on a page boundary.
 *
 * The table t has MODEL_KEYS rows (k, v); `UPDATE t SET v = v + 1 WHERE k = n RETURNING v` holds
 * the row until its transaction ends.
 */
#ifndef TM_SIM_MODEL_PG_H
#define TM_SIM_MODEL_PG_H

#include "sim.h"

#define MODEL_KEYS 4
#define MODEL_NODES_MAX 4
#define MODEL_PORT 5432

struct model;

/* A primary ("node0") and replicas that are up. */
struct model *model_new(int nodes, bool async_commit);
void model_free(struct model *m);
int model_host(const struct model *m, int node);
int model_nodes(const struct model *m);
int model_primary(const struct model *m);
bool model_up(const struct model *m, int node);
bool model_async_commit(const struct model *m);
/* Connections that are open on the server's side. */
int model_connections(const struct model *m, int node);

/* ---- faults ---- */
/* A replica receives so much later, or replays nothing until then. */
void model_set_lag(struct model *m, int node, int64_t lag_us);
void model_pause_replay(struct model *m, int node, int64_t until_us);
/* The server dies at once; what was not flushed is gone. `power`: its host too, without a word. */
void model_crash(struct model *m, int node, bool power);
/* Every process of the server stands still until then; its host takes connections and bytes. */
void model_hang(struct model *m, int node, int64_t until_us);
/* A replica is put back, as by a snapshot of its machine, and goes on from there after a while:
 * less replayed, the same start time, and a connection that has survived it: the watchers'. All
 * others end before, and come to nothing until all is over. */
void model_revert(struct model *m, int node);
bool model_reverts(const struct model *m, int node);
/* Another incarnation under the same address. A replica starts from an earlier position. */
void model_start(struct model *m, int node);
/* The replica that has received most (if `lossy`: any) becomes primary on the next timeline; the
 * others follow it as soon as they can, or are taken back to the fork when they are started again.
 * The old primary must be down. Nothing that was flushed is lost, unless `lossy`. False: there is
 * nobody to be promoted.
 */
bool model_promote(struct model *m, bool lossy);
/* Another replica is promoted, too, to the same timeline, and knows nothing of the first. It counts
 * for nothing and has to be crashed; started again, it is a replica. Returns it; -1: there is none.
 */
int model_promote_stray(struct model *m);
/* Cannot follow the primary before it is started again. */
bool model_diverged(const struct model *m, int node);
uint32_t model_timeline(const struct model *m);
/* Where the live timeline left the one before; 0: it is the first. */
uint64_t model_fork(const struct model *m);
/* It takes part in the life of the others: up, and not standing still. */
bool model_answers(const struct model *m, int node);
bool model_is_replica(const struct model *m, int node);
/* What it says when it is asked: the start of its process, how far it has written or replayed. */
int64_t model_started(const struct model *m, int node);
uint64_t model_position(const struct model *m, int node);
/* Where the commit of that version ends, and how far its server had written by now. Primaries are
 * asked, past ones too. False: none of them, or more than one, has it, or one that was promoted beside
 * the true one. */
bool model_commit(const struct model *m, int key, uint32_t version, uint64_t *end,
                  uint64_t *written, uint32_t *timeline);
/* Two servers began a timeline of that number at the same position: nothing that PostgreSQL keeps
 * tells their histories apart. */
bool model_has_twin(const struct model *m, uint32_t timeline);
/* … from wherever. */
bool model_has_stray(const struct model *m, uint32_t timeline);
bool model_may_fail_over(const struct model *m);

struct model_counts {
	uint64_t crashes, promotions;
};
const struct model_counts *model_counts(const struct model *m);

#endif
