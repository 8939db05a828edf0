/* SPDX-License-Identifier: PostgreSQL
 *
 * Words that PostgreSQL's input of dates and times takes for the transaction's time: 'now', 'today',
 * 'tomorrow', 'yesterday'. They may stand in a literal or in a parameter, so it is the client's bytes
 * that are looked at. Any such word counts, wherever it stands; pure.
 */
#ifndef TM_SQL_SHOWS_TIME_H
#define TM_SQL_SHOWS_TIME_H

#include "base/slice.h"

/* One of the words is there, with no letter before or behind it. */
bool bytes_show_time(struct slice bytes);
/* … or the text spells some of its characters by their codes. */
bool text_shows_time(struct slice sql);

#endif
