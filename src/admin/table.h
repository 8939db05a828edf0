/* SPDX-License-Identifier: PostgreSQL
 *
 * A result of the console: RowDescription, DataRows, CommandComplete, written cell by cell. What
 * does not fit is latched by the buffer and found out at its end.
 */
#ifndef TM_ADMIN_TABLE_H
#define TM_ADMIN_TABLE_H

#include "pgwire/message.h"

#define TABLE_COLUMNS_MAX 40
#define TABLE_SCRATCH 1024

/* One row at a time: as many cells as there are columns, then table_row_end(). */
struct table {
	struct buf *out;
	int columns, cells;
	size_t used;
	struct slice values[TABLE_COLUMNS_MAX];
	char scratch[TABLE_SCRATCH]; /* the row's formatted cells */
};

/* `types` has a letter a column: s text, i int4, q int8, n numeric; NULL: all text. */
void table_begin(struct table *t, struct buf *out, const char *types, const char *const *names,
                 int columns);
/* The same with the names as arguments. */
#define TABLE_BEGIN(t, out, types, ...)                                                \
	do {                                                                               \
		static const char *const names_[] = {__VA_ARGS__};                             \
		table_begin(t, out, types, names_, (int)(sizeof(names_) / sizeof(names_[0]))); \
	} while (0)
/* Borrows until table_row_end(). NULL is SQL NULL. */
void table_text(struct table *t, const char *text);
/* Cut if the row's formatted cells pass TABLE_SCRATCH: for numbers and the like. */
void table_format(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_bool(struct table *t, bool v); /* 1 or 0 */
void table_u64(struct table *t, uint64_t v);
void table_i64(struct table *t, int64_t v);
void table_null(struct table *t);
/* Milliseconds with a tenth; NULL for LAG_UNKNOWN (INT64_MAX). */
void table_ms(struct table *t, int64_t us);
/* A moment of net_now_us() as wall-clock time, as PgBouncer prints it. */
void table_time(struct table *t, int64_t at_us, int64_t now_us);
void table_row_end(struct table *t);
void table_end(struct table *t, const char *tag);

#endif
