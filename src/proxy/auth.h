/* SPDX-License-Identifier: PostgreSQL
 *
 * Proof of a client's identity: by a password against what auth_file or auth_query has (md5,
 * SCRAM-SHA-256, or in clear inside TLS), by a certificate, by the kernel's word, or none; by
 * auth_type or the rules of auth_hba_file. A user who is unknown goes through the same motions and
 * fails at the end like a wrong password.
 */
#ifndef TM_PROXY_AUTH_H
#define TM_PROXY_AUTH_H

#include "proxy.h"

enum auth_step {
	AUTH_MORE, /* `out` has been given a challenge: wait for the answer */
	AUTH_DONE,
	AUTH_LOOKUP,  /* the user has to be looked up first (auth_lookup.h); then auth_begin() again */
	AUTH_REFUSED, /* 28P01 */
	AUTH_FORBIDDEN, /* 28000; login->why */
	AUTH_BROKEN,    /* not an answer to what was asked */
};

/* Begins for login->user. */
enum auth_step auth_begin(struct client *c, struct buf *out);
/* A PasswordMessage, SASLInitialResponse or SASLResponse. */
enum auth_step auth_answer(struct client *c, struct slice body, struct buf *out);

#endif
