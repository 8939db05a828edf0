/* SPDX-License-Identifier: PostgreSQL
 *
 * The console's commands that do something: PgBouncer's, with its meanings, and DRAIN. What they do
 * is the proxy's (proxy/operate.h, proxy/worker.h); here are their words, arguments and answers.
 */
#ifndef TM_ADMIN_ACT_H
#define TM_ADMIN_ACT_H

#include "proxy/worker.h"

struct act {
	const char *word;
	void (*run)(struct client *by, struct slice arg, struct buf *out);
	const char *help;
};

/* The last has no word. `arg` is what follows the word, without blanks at its ends; may be empty.
 */
extern const struct act acts[];

#endif
