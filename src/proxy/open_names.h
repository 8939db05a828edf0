/* SPDX-License-Identifier: PostgreSQL
 *
 * Names of prepared statements that an outstanding answer may still take away, or give back.
 */
#ifndef TM_PROXY_OPEN_NAMES_H
#define TM_PROXY_OPEN_NAMES_H

#include "unit.h"

/* Does the unit speak of a name or a statement of which an answer that is outstanding may say that the
 * server does not have it, or still has it? Then it has to wait, to be answered as PostgreSQL would. */
bool names_are_open(const struct client *c, const struct server *s, struct slice in, const struct unit *u);

#endif
