/* SPDX-License-Identifier: PostgreSQL
 *
 * The token a session carries to another connection, service or router. Version 0: unsigned,
 * "t0-<cluster>-<generation>-<LSN>" (decimal, decimal, as pg_lsn prints it), for use among
 * connections of one router only. Signed tokens replace it.
 */
#ifndef TM_CONSISTENCY_TOKEN0_H
#define TM_CONSISTENCY_TOKEN0_H

#include "position.h"

#define TOKEN0_TEXT_MAX 64

/* `cluster` is the server's system identifier: a foreign token is recognised. */
struct token0 {
	uint64_t cluster;
	uint32_t generation;
	struct position at;
};

void token0_format(const struct token0 *t, char out[TOKEN0_TEXT_MAX]);
/* False if `text` is not a token of this version, to the letter as token0_format() writes it. */
bool token0_parse(struct slice text, struct token0 *out);

#endif
