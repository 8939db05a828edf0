/* SPDX-License-Identifier: PostgreSQL
 *
 * The traffic of databases: totals since the start, and averages over the last whole STATS_PERIOD
 * (before one has ended: since the start). Counts and bytes are averaged by second, times by
 * transaction, query or wait, as in PgBouncer. Times in µs.
 */
#include "show.h"

#include "census.h"
#include "table.h"

/* In the order of the tables. */
enum { FIGURES = 7 };

static void figures(const struct database_stats *s, uint64_t out[FIGURES])
{
	out[0] = s->xact_count;
	out[1] = s->query_count;
	out[2] = s->received;
	out[3] = s->sent;
	out[4] = s->xact_time_us;
	out[5] = s->query_time_us;
	out[6] = s->wait_time_us;
}

static uint64_t per(uint64_t sum, uint64_t count)
{
	return count > 0 ? sum / count : 0;
}

static void averages(const struct worker *w, const struct database *db, uint64_t out[FIGURES])
{
	uint64_t now[FIGURES], before[FIGURES];
	bool whole = w->stats_last_us > 0;
	int64_t us = whole ? STATS_PERIOD_US : net_now_us() - w->started_at_us;
	uint64_t seconds = us >= 1000000 ? (uint64_t)us / 1000000 : 1;
	figures(whole ? &db->stats_last : &db->stats, now);
	figures(&db->stats_before, before);
	for (int i = 0; i < FIGURES; i++)
		now[i] -= before[i];
	for (int i = 0; i < 4; i++)
		out[i] = per(now[i], seconds);
	out[4] = per(now[4], now[0]);
	out[5] = per(now[5], now[1]);
	out[6] = per(now[6], now[0]);
}

static void number_cells(struct table *t, const uint64_t values[FIGURES])
{
	for (int i = 0; i < FIGURES; i++)
		table_u64(t, values[i]);
}

void show_stats(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, "snnnnnnnnnnnnnn", "database", "total_xact_count", "total_query_count",
	            "total_received", "total_sent", "total_xact_time", "total_query_time",
	            "total_wait_time", "avg_xact_count", "avg_query_count", "avg_recv", "avg_sent",
	            "avg_xact_time", "avg_query_time", "avg_wait_time");
	list_each_const(it, &w->databases)
	{
		const struct database *db = container_of(it, struct database, link);
		uint64_t values[FIGURES];
		table_text(&t, db->name);
		figures(&db->stats, values);
		number_cells(&t, values);
		averages(w, db, values);
		number_cells(&t, values);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

static void half(struct worker *w, struct buf *out, bool average)
{
	struct table t;
	TABLE_BEGIN(&t, out, "snnnnnnn", "database", "xact_count", "query_count", "bytes_received",
	            "bytes_sent", "xact_time", "query_time", "wait_time");
	list_each_const(it, &w->databases)
	{
		const struct database *db = container_of(it, struct database, link);
		uint64_t values[FIGURES];
		if (average)
			averages(w, db, values);
		else
			figures(&db->stats, values);
		table_text(&t, db->name);
		number_cells(&t, values);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

void show_stats_totals(struct worker *w, struct buf *out)
{
	half(w, out, false);
}

void show_stats_averages(struct worker *w, struct buf *out)
{
	half(w, out, true);
}

void show_totals(struct worker *w, struct buf *out)
{
	static const char *const names[2][FIGURES] = {
		{"total_xact_count", "total_query_count", "total_client_bytes", "total_server_bytes",
	     "total_xact_time", "total_query_time", "total_wait_time"},
		{"avg_xact_count", "avg_query_count", "avg_client_bytes", "avg_server_bytes",
	     "avg_xact_time", "avg_query_time", "avg_wait_time"},
	};
	uint64_t sums[2][FIGURES] = {0}, values[FIGURES];
	struct table t;
	list_each_const(it, &w->databases)
	{
		const struct database *db = container_of(it, struct database, link);
		figures(&db->stats, values);
		for (int i = 0; i < FIGURES; i++)
			sums[0][i] += values[i];
		averages(w, db, values);
		for (int i = 0; i < FIGURES; i++)
			sums[1][i] += values[i];
	}
	TABLE_BEGIN(&t, out, "sn", "name", "value");
	for (int half = 0; half < 2; half++) {
		for (int i = 0; i < FIGURES; i++) {
			table_text(&t, names[half][i]);
			table_u64(&t, sums[half][i]);
			table_row_end(&t);
		}
	}
	table_end(&t, "SHOW");
}
