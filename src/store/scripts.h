/* SPDX-License-Identifier: PostgreSQL
 *
 * What runs inside Redis: one script a command, so that a mark and the reasons to doubt it are read
 * in one moment. The rules are in store.h.
 */
#ifndef TM_STORE_SCRIPTS_H
#define TM_STORE_SCRIPTS_H

enum script {
	SCRIPT_GET,
	SCRIPT_PUT,
	SCRIPT_HEARTBEAT,
	SCRIPT_VOID,
};
#define SCRIPTS 4

extern const char *const script_texts[SCRIPTS];

/* All take the same keys and begin with the same arguments. */
#define SCRIPT_KEYS 3 /* boot, routers, mark */
enum script_argument {
	ARGUMENT_INCARNATION,
	ARGUMENT_TTL_MS,
	ARGUMENT_ROUTER,
	ARGUMENT_OWN, /* PUT: the mark; HEARTBEAT: the end of the lease, in Redis's ms; else "" */
};
#define SCRIPT_ARGUMENTS 4

#endif
