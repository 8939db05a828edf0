/* SPDX-License-Identifier: PostgreSQL
 *
 * What the answer to INFO says about a server.
 */
#ifndef TM_STORE_INFO_H
#define TM_STORE_INFO_H

#include "base/slice.h"

struct info {
	/* Differs if anything may have been lost: run id, replication id, number of evicted keys. */
	char incarnation[128];
	char policy[32]; /* maxmemory-policy */
	bool is_master;
	bool loading;
	bool evicts;                 /* may drop keys to make room */
	bool stops_without_replicas; /* min-replicas-to-write is set, and scripts obey it */
};

/* False: something that is needed is missing. */
bool info_parse(struct slice text, struct info *out);

#endif
