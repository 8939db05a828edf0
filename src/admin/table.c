/* SPDX-License-Identifier: PostgreSQL */
#include "table.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>

static uint32_t type_oid(char letter)
{
	switch (letter) {
	case 'i':
		return OID_INT4;
	case 'q':
		return OID_INT8;
	case 'n':
		return OID_NUMERIC;
	default:
		return OID_TEXT;
	}
}

void table_begin(struct table *t, struct buf *out, const char *types, const char *const *names,
                 int columns)
{
	uint32_t oids[TABLE_COLUMNS_MAX];
	assert(columns > 0 && columns <= TABLE_COLUMNS_MAX);
	assert(!types || strlen(types) == (size_t)columns);
	for (int i = 0; i < columns; i++)
		oids[i] = type_oid(types ? types[i] : 's');
	t->out = out;
	t->columns = columns;
	t->cells = 0;
	t->used = 0;
	write_typed_row_description(out, names, oids, columns);
}

static void add(struct table *t, struct slice value)
{
	assert(t->cells < t->columns);
	t->values[t->cells++] = value;
}

void table_null(struct table *t)
{
	add(t, (struct slice){0});
}

void table_text(struct table *t, const char *text)
{
	add(t, slice_str(text));
}

void table_format(struct table *t, const char *fmt, ...)
{
	char *at = t->scratch + t->used;
	size_t left = sizeof(t->scratch) - t->used;
	va_list args;
	va_start(args, fmt);
	int n = left > 0 ? vsnprintf(at, left, fmt, args) : 0;
	va_end(args);
	size_t len = n < 0 ? 0 : (size_t)n;
	if (len >= left)
		len = left > 0 ? left - 1 : 0;
	t->used += len;
	/* An empty text is not NULL. */
	add(t, slice_of(at, len));
}

void table_bool(struct table *t, bool v)
{
	table_text(t, v ? "1" : "0");
}

void table_u64(struct table *t, uint64_t v)
{
	table_format(t, "%" PRIu64, v);
}

void table_i64(struct table *t, int64_t v)
{
	table_format(t, "%" PRId64, v);
}

void table_ms(struct table *t, int64_t us)
{
	if (us == INT64_MAX)
		table_null(t);
	else
		table_format(t, "%.1f", (double)us / 1000);
}

void table_time(struct table *t, int64_t at_us, int64_t now_us)
{
	char text[32];
	struct tm tm;
	time_t at = time(NULL) - (time_t)((now_us - at_us) / 1000000);
	if (at_us == 0 || !gmtime_r(&at, &tm) ||
	    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		table_null(t);
	else
		table_format(t, "%s", text);
}

void table_row_end(struct table *t)
{
	assert(t->cells == t->columns);
	write_data_row(t->out, t->values, t->columns);
	t->cells = 0;
	t->used = 0;
}

void table_end(struct table *t, const char *tag)
{
	write_command_complete(t->out, tag);
}
