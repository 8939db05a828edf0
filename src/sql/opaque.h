/* SPDX-License-Identifier: PostgreSQL
 *
 * What can be said of a text that has no parse tree: too long, or in a syntax that is newer than
 * our parser. It is a write of unknown kind. It also binds the client if a word in it may leave
 * state in the session, since that state could neither be followed nor be cleaned up.
 */
#ifndef TM_SQL_OPAQUE_H
#define TM_SQL_OPAQUE_H

#include "classify.h"

struct traits opaque_traits(struct slice text, enum route_reason reason);

#endif
