/* SPDX-License-Identifier: PostgreSQL
 *
 * What became of the writes that were acknowledged: which sessions a router has to tell of a loss,
 * and which it may not tell. It has to if a commit of the session lies beyond the point where the
 * new primary left the old one's history; it may if the old primary had written beyond that point
 * when the session was answered, because a captured position may be past the commit. Where the
 * outcome of a write, or what the router can know of it, is open, nothing is asked of the router.
 */
#ifndef TM_SIM_LEDGER_H
#define TM_SIM_LEDGER_H

#include "model_pg.h"

struct ledger_entry {
	uint64_t end, written; /* the last commit, and its server's log when it was acknowledged */
	uint32_t timeline;     /* 0: it has written nothing */
	bool must, may;        /* be told */
};

struct ledger {
	const struct model *model;
	int sessions;
	struct ledger_entry *it;
};

void ledger_init(struct ledger *l, const struct model *m, int sessions);
void ledger_release(struct ledger *l);
void ledger_wrote(struct ledger *l, int session, int key, uint32_t version);
/* Its last write may have been done or not, on this side of a loss or the other. */
void ledger_open(struct ledger *l, int session);
/* What it was told may have been lost with its connection. */
void ledger_unheard(struct ledger *l, int session);
/* Of no session it is known what the router can know of its writes. */
void ledger_open_all(struct ledger *l);
/* Another server counts as primary now. */
void ledger_promoted(struct ledger *l);
/* False: there was nothing to tell. */
bool ledger_told(struct ledger *l, int session);
/* It is another session under the same number. */
void ledger_forget(struct ledger *l, int session);
/* Sessions that were to be told and were not. */
int ledger_untold(const struct ledger *l);

#endif
