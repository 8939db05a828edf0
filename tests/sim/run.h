/* SPDX-License-Identifier: PostgreSQL
 *
 * One run of the simulation: a router, servers, clients and faults, all by one seed.
 */
#ifndef TM_SIM_RUN_H
#define TM_SIM_RUN_H

#include "consistency/route.h"
#include "model_client.h"
#include "model_pg.h"

struct run_result {
	uint64_t hash; /* of all that happened */
	struct client_counts counts;
	struct model_counts model;
	uint64_t reads_replica, reads_primary, waited, moved; /* by the router's own count */
	int mistaken;                                  /* looks at which it believed what is not so */
	int overdue;                                   /* looks at which something was past its limit */
	int leaks; /* connections that outlive their use, streams and timers never closed */
	int stuck; /* the fleet was whole again, and the router did not get there, or did not end */
};

/* The calling thread needs a stack of CLASSIFY_STACK bytes. */
struct run_result run_seed(uint64_t seed, enum route_fault fault, bool verbose);
/* A promise was broken; for a router that is known to be bad: it was caught. */
bool run_violated(const struct run_result *r);
bool run_inconsistent(const struct run_result *r);

#endif
