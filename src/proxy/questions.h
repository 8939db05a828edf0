/* SPDX-License-Identifier: PostgreSQL
 *
 * What the router asks for itself beside a client's unit: the position of a commit, behind it, and
 * what a replica has replayed, before it. Prepared once on each connection; their answers are relay.c's.
 */
#ifndef TM_PROXY_QUESTIONS_H
#define TM_PROXY_QUESTIONS_H

#include "forwarding.h"

/* The bytes of both, made once. */
bool questions_prepare(struct worker *w);
bool question_capture(struct forward *f);
/* FAULT_POSITION_INSIDE: the popular recipe, in one implicit transaction with the write. */
bool question_capture_inside(struct forward *f);
/* In front of a read, and with a Sync of its own: the read's snapshot is taken after the position,
 * whatever the isolation level. */
bool question_guard(struct forward *f);
/* The server is to have none of the router's own statements, those of unseen.h too. */
bool questions_hide(struct forward *f);

#endif
