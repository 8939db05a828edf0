/* SPDX-License-Identifier: PostgreSQL */
#include "model_wal.h"

#include <assert.h>
#include <stdlib.h>

#define SHORT_HEADER 24
#define LONG_HEADER 40 /* at the start of a segment */

void wal_release(struct wal *w)
{
	free(w->records);
	*w = (struct wal){0};
}

static uint64_t header_at(uint64_t at)
{
	if (at % WAL_BLOCK != 0)
		return 0;
	return at % WAL_SEGMENT == 0 ? LONG_HEADER : SHORT_HEADER;
}

uint64_t wal_position(const struct wal *w, int count)
{
	return count > 0 ? w->records[count - 1].end : w->start;
}

uint64_t wal_insert_position(const struct wal *w)
{
	uint64_t at = wal_position(w, w->count);
	return at + header_at(at);
}

void wal_copy_record(struct wal *w, const struct wal_record *r)
{
	if (w->count == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 1024;
		w->records = realloc(w->records, (size_t)w->cap * sizeof(*w->records));
		assert(w->records);
	}
	w->records[w->count++] = *r;
}

/* One in sixteen ends a page. */
static uint64_t end_of_next(uint64_t begin)
{
	uint64_t boundary = (begin / WAL_BLOCK + 1) * WAL_BLOCK;
	uint64_t end = begin + 8 * (uint64_t)sim_between(4, 40);
	if (sim_below(16) == 0)
		return boundary;
	return end > boundary ? end + header_at(boundary) : end;
}

int wal_append(struct wal *w, enum wal_kind kind, int key, uint32_t version)
{
	struct wal_record r = {.kind = kind,
	                       .end = end_of_next(wal_insert_position(w)),
	                       .flushed_at_us = SIM_FOREVER,
	                       .key = key,
	                       .version = version};
	wal_copy_record(w, &r);
	return w->count - 1;
}

void wal_truncate(struct wal *w, int count)
{
	assert(count <= w->count);
	w->count = count;
}

void wal_rows(const struct wal *w, int count, uint32_t rows[MODEL_KEYS])
{
	memset(rows, 0, MODEL_KEYS * sizeof(rows[0]));
	for (int i = 0; i < count; i++)
		if (w->records[i].kind == WAL_COMMIT)
			rows[w->records[i].key] = w->records[i].version;
}
