/* SPDX-License-Identifier: PostgreSQL
 *
 * A turn: from a client's first byte at rest to ReadyForQuery at rest. What came in is cut into
 * units, each of which is judged as a whole: one Query, one FunctionCall, or one extended-protocol
 * batch up to its Sync. A unit is classified, given a server (dispatch.h), and forwarded; relay.c
 * brings the answers.
 */
#ifndef TM_PROXY_TURN_H
#define TM_PROXY_TURN_H

#include "chain.h"
#include "proxy.h"

/* Handles bytes of a READY client; returns how many were used up. The rest must be kept and brought
 * again: it is incomplete, or the client now waits (c->state), or its server is still busy. */
size_t turn_from_client(struct client *c, struct slice in);

#endif
