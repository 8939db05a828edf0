/* SPDX-License-Identifier: PostgreSQL
 *
 * The write-ahead log of a model server (model_pg.h): records and their positions, and the rows
 * that a reader of so many records sees. No clock, no network.
 */
#ifndef TM_SIM_MODEL_WAL_H
#define TM_SIM_MODEL_WAL_H

#include "model_pg.h"

#define WAL_BLOCK 8192
#define WAL_SEGMENT (16 * 1024 * 1024)

enum wal_kind {
	WAL_OTHER,  /* of no interest to anybody here */
	WAL_CHANGE, /* a row was changed; nobody sees it yet */
	WAL_COMMIT, /* … now they do */
};

struct wal_record {
	enum wal_kind kind;
	uint64_t end; /* position behind it */
	int64_t flushed_at_us;
	int key;
	uint32_t version;
};

/* A zeroed log is empty. */
struct wal {
	struct wal_record *records;
	int count, cap;
	uint64_t start; /* position of the first record */
};

void wal_release(struct wal *w);
/* Adds a record of a seeded length. Returns its index. */
int wal_append(struct wal *w, enum wal_kind kind, int key, uint32_t version);
void wal_copy_record(struct wal *w, const struct wal_record *r);
void wal_truncate(struct wal *w, int count);
/* Behind the first `count` records. */
uint64_t wal_position(const struct wal *w, int count);
/* What pg_current_wal_insert_lsn() says: behind the page header, if the last record ended a page.
 */
uint64_t wal_insert_position(const struct wal *w);
/* The rows as a reader of the first `count` records sees them. */
void wal_rows(const struct wal *w, int count, uint32_t rows[MODEL_KEYS]);

#endif
