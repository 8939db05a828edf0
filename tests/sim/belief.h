/* SPDX-License-Identifier: PostgreSQL
 *
 * What the router believes of its servers, looked up inside it, beside what is so. It may be late,
 * within its own limits; it may not be wrong for longer.
 */
#ifndef TM_SIM_BELIEF_H
#define TM_SIM_BELIEF_H

#include "model_pg.h"
#include "proxy/proxy.h"

struct belief {
	/* Since when it is so; 0: it is not. */
	int64_t unreachable_us[MODEL_NODES_MAX], ahead_us[MODEL_NODES_MAX];
	/* The last look at each node: positions of one epoch only grow. */
	uint32_t epoch[MODEL_NODES_MAX];
	struct position at[MODEL_NODES_MAX];
};

/* Call often. NULL, or what it is wrong about. */
const char *belief_wrong(struct belief *b, const struct worker *w, const struct model *m);

#endif
