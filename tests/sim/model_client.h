/* SPDX-License-Identifier: PostgreSQL
 *
 * Model clients of the router: each has a connection, reads and writes rows of the model's table
 * (model_pg.h) with pauses, and connects again when it is cut off. Each answer is judged by the
 * checker of demo/history.h.
 */
#ifndef TM_SIM_MODEL_CLIENT_H
#define TM_SIM_MODEL_CLIENT_H

#include "ledger.h"

/* A statement, or a login, that has no answer after this long is a violation. */
#define CLIENT_LIMIT_US 30000000

enum session_scope { SESSIONS_CONNECTION, SESSIONS_DATABASE, SESSIONS_NAMED };

struct client_settings {
	int count;
	enum session_scope scope;
	int64_t pause_max_us; /* between statements */
	int write_percent;
};

struct client_counts {
	uint64_t reads, writes, errors, connects;
	uint64_t stale, backward, hangs, protocol;
	uint64_t write_back;  /* monotonic writes: not above an earlier write of the session … */
	uint64_t not_follow;  /* writes follow reads: … or above what it had read */
	uint64_t told;        /* of a loss … */
	uint64_t told_of_nothing, untold; /* … where there was none; not, where there was one */
	uint64_t unjudged;
};

struct clients;

struct clients *clients_new(const struct client_settings *s, const struct model *m);
void clients_free(struct clients *all);
const struct client_counts *clients_counts(const struct clients *all);
/* No further statements, and no further connections; what runs goes on. */
void clients_rest(struct clients *all);
bool clients_at_rest(const struct clients *all);
void clients_close(struct clients *all);
/* Each connects, writes once, reads once, without an error. */
void clients_last_round(struct clients *all);
/* Acknowledged writes are being lost, and nobody can help it: what is read is not judged. Judging
 * begins anew, with what is seen from then on. */
void clients_judge(struct clients *all, bool judge);
bool clients_judged(const struct clients *all);
/* For what only the faults know of (ledger.h). */
struct ledger *clients_ledger(struct clients *all);
/* When the last round is over: sessions that still exist and were not told of their loss. */
void clients_judge_losses(struct clients *all);

#endif
