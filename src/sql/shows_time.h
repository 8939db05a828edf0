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
/* One of the words is in a literal: what PostgreSQL reads of it when it parses the text stays as it is
 * for as long as the statement is prepared. Where literals cannot be told easily, as text_shows_time(). */
bool literals_show_time(struct slice sql);

#endif
