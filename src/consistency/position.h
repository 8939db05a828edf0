/* SPDX-License-Identifier: PostgreSQL
 *
 * A position in the primary's write-ahead log. A struct of its own, so that an LSN cannot be
 * compared with a length by accident. A zeroed position is "none": it is reached by everyone.
 * Positions are 64-bit numbers and are never compared as text.
 */
#ifndef TM_CONSISTENCY_POSITION_H
#define TM_CONSISTENCY_POSITION_H

#include "base/slice.h"

struct position {
	uint64_t lsn;
};

static inline bool position_is_set(struct position p)
{
	return p.lsn != 0;
}

/* A server at `at` shows everything up to `want` (pg_last_wal_replay_lsn() >= commit end). */
static inline bool position_reached(struct position at, struct position want)
{
	return at.lsn >= want.lsn;
}

static inline struct position position_max(struct position a, struct position b)
{
	return a.lsn >= b.lsn ? a : b;
}

/* pg_current_wal_insert_lsn() right after a commit that ends on a WAL page boundary reports the
 * end of the *next page's header*, 24 bytes (40 at the start of a segment) that a quiet primary
 * may not write for seconds. Takes that header off again. `block` and `segment` are the server's
 * wal_block_size and wal_segment_size in bytes, powers of two; 0 leaves the position as it is. */
struct position position_without_page_header(struct position p, uint32_t block, uint32_t segment);

#define POSITION_TEXT_MAX 18 /* "FFFFFFFF/FFFFFFFF" and NUL */
/* "16/B374D848", PostgreSQL's pg_lsn text. False if `text` is anything else. */
bool position_parse(struct slice text, struct position *out);
void position_format(struct position p, char out[POSITION_TEXT_MAX]);

#endif
