/* SPDX-License-Identifier: PostgreSQL
 *
 * The command line as a sequence of name and value. Names come with underscores: --wait-timeout=1s,
 * --wait_timeout=1s and --wait-timeout 1s are all ("wait_timeout", "1s").
 */
#ifndef TM_CONFIG_ARGS_H
#define TM_CONFIG_ARGS_H

#include <stdbool.h>

#include "errors.h"

enum arg_kind {
	ARG_OPTION, /* a row of the options table */
	ARG_CONFIG, /* -c FILE, --config FILE, FILE */
	ARG_FROM,   /* --from FILE: a pgbouncer.ini */
	ARG_LISTEN,
	ARG_PRIMARY,
	ARG_REPLICA,
	ARG_VERBOSE,
	ARG_VERSION,
	ARG_HELP,
};

struct arg {
	enum arg_kind kind;
	char name[64];
	const char *value; /* borrows argv; NULL where the kind takes none */
};

struct args {
	int argc;
	char **argv;
	int next; /* begin with 1 */
	struct config_errors *errors;
};

/* False at the end. Faults go to `errors` and are skipped. */
bool args_next(struct args *a, struct arg *out);

#endif
