/* SPDX-License-Identifier: PostgreSQL
 *
 * A statement as it is shown to operators: one line, its words and signs, without comments and without
 * anything that is data. What a literal says is '?', and so is what SET and ALTER set something to; where it
 * cannot be told how a literal ends, the rest is left out. Bounded, printable, ASCII.
 */
#ifndef TM_SQL_BRIEF_H
#define TM_SQL_BRIEF_H

#include "base/slice.h"

#define BRIEF_MAX 128 /* bytes with NUL */

void sql_brief(struct slice text, char out[BRIEF_MAX]);

#endif
