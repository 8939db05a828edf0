/* SPDX-License-Identifier: PostgreSQL */
#include "admin/metrics.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "admin/page.h"
#include "admin_world.h"

#define FAMILIES_MAX 128

static struct world x;
static struct buf out;
static char *text; /* the output, ended by NUL */

static void make(void (*fn)(const struct worker *w, struct buf *out))
{
	buf_reset(&out);
	fn(x.w, &out);
	assert_true(buf_append(&out, "", 1));
	assert_false(out.overflow);
	text = (char *)out.data + out.start;
}

static int setup(void **state)
{
	world_init(&x);
	buf_init(&out, 1024 * 1024);
	make(admin_metrics);
	return 0;
}

static int teardown(void **state)
{
	buf_release(&out);
	world_release(&x);
	return 0;
}

static bool next_line(const char **at, char line[512])
{
	const char *end = strchr(*at, '\n');
	if (!end)
		return false;
	snprintf(line, 512, "%.*s", (int)(end - *at), *at);
	*at = end + 1;
	return true;
}

/* The sample whose name and labels are `series`; fails if there is none. */
static double sample(const char *series)
{
	const char *at = text;
	char line[512];
	size_t len = strlen(series);
	while (next_line(&at, line)) {
		if (strncmp(line, series, len) == 0 && line[len] == ' ')
			return strtod(line + len + 1, NULL);
	}
	fail_msg("no sample %s", series);
	return 0;
}

static bool ends_family(const char *rest)
{
	return *rest == ' ' || *rest == '{' || strncmp(rest, "_bucket{", 8) == 0 ||
	       strncmp(rest, "_sum ", 5) == 0 || strncmp(rest, "_count ", 7) == 0;
}

/* HELP, TYPE, then samples of that family only; no family twice. */
static void every_sample_follows_the_head_of_its_family(void **state)
{
	const char *at = text;
	char line[512], family[128] = "", seen[FAMILIES_MAX][128];
	int count = 0;
	while (next_line(&at, line)) {
		char name[128], kind[16];
		if (strncmp(line, "# HELP ", 7) == 0) {
			assert_int_equal(sscanf(line, "# HELP %127s", family), 1);
			for (int i = 0; i < count; i++)
				assert_string_not_equal(seen[i], family);
			assert_true(count < FAMILIES_MAX);
			memcpy(seen[count++], family, sizeof(family));
			assert_true(strlen(line) > strlen("# HELP ") + strlen(family) + 10);
			assert_true(next_line(&at, line));
			assert_int_equal(sscanf(line, "# TYPE %127s %15s", name, kind), 2);
			assert_string_equal(name, family);
			bool total = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;
			assert_int_equal(total, strcmp(kind, "counter") == 0);
			continue;
		}
		assert_int_equal(strncmp(line, family, strlen(family)), 0);
		assert_true(ends_family(line + strlen(family)));
		char *end;
		strtod(strrchr(line, ' ') + 1, &end);
		assert_int_equal(*end, '\0');
	}
	assert_true(count > 30);
}

static void label_values_are_escaped(void **state)
{
	assert_int_equal(sample("tidemark_node_up{node=\"a\\\"b\\\\c\",role=\"replica\"}"), 1);
	assert_int_equal(sample("tidemark_node_up{node=\"lost\",role=\"unknown\"}"), 0);
}

static void what_is_not_known_has_no_sample(void **state)
{
	assert_int_equal(sample("tidemark_replica_position_bytes{node=\"a\\\"b\\\\c\"}"), 0x1000);
	assert_int_equal(sample("tidemark_replica_lag_bytes{node=\"a\\\"b\\\\c\"}"), 0x2000);
	assert_true(sample("tidemark_replica_lag_milliseconds{node=\"a\\\"b\\\\c\"}") > 0);
	assert_null(strstr(text, "position_bytes{node=\"lost\""));
	assert_null(strstr(text, "lag_bytes{node=\"lost\""));
}

static void queries_are_counted_where_they_ended(void **state)
{
	assert_int_equal(sample("tidemark_queries_total{target=\"replica\",reason=\"replica_fresh\"}"),
	                 100 + REASON_REPLICA_FRESH);
	assert_int_equal(sample("tidemark_queries_total{target=\"primary\",reason=\"strong\"}"),
	                 100 + REASON_STRONG);
	/* Waits are counted where they end; only what is observed ends with what would have been. */
	assert_null(strstr(text, "tidemark_queries_total{target=\"replica\",reason=\"wait_sample\""));
	assert_null(strstr(text, "tidemark_queries_total{target=\"primary\",reason=\"wait_sample\""));
}

static void token_waits_are_a_cumulative_histogram(void **state)
{
	const char *at = text, *bucket = "tidemark_token_wait_seconds_bucket{le=\"";
	char line[512];
	double last_edge = 0, last = 0;
	int buckets = 0;
	while (next_line(&at, line)) {
		if (strncmp(line, bucket, strlen(bucket)) != 0)
			continue;
		double edge = strtod(line + strlen(bucket), NULL);
		double seen = strtod(strrchr(line, ' ') + 1, NULL);
		assert_true(edge > last_edge && seen >= last);
		last_edge = edge;
		last = seen;
		buckets++;
	}
	assert_int_equal(buckets, 20);
	assert_int_equal(sample("tidemark_token_wait_seconds_bucket{le=\"0.000064\"}"), 1);
	assert_int_equal(sample("tidemark_token_wait_seconds_bucket{le=\"0.001024\"}"), 1);
	assert_int_equal(sample("tidemark_token_wait_seconds_bucket{le=\"0.002048\"}"), 2);
	assert_int_equal(sample("tidemark_token_wait_seconds_bucket{le=\"16.777216\"}"), 2);
	assert_int_equal(sample("tidemark_token_wait_seconds_bucket{le=\"+Inf\"}"), 3);
	assert_int_equal(sample("tidemark_token_wait_seconds_count"), 3);
	assert_true(sample("tidemark_token_wait_seconds_sum") > 60);
}

static void clients_and_servers_are_counted(void **state)
{
	assert_int_equal(sample("tidemark_clients"), 3);
	assert_int_equal(sample("tidemark_client_active"), 1);
	assert_int_equal(sample("tidemark_client_bound"), 1);
	assert_int_equal(sample("tidemark_client_bound_by{reason=\"listen\"}"), 1);
	assert_int_equal(sample("tidemark_client_bound_by{reason=\"role\"}"), 0);
	assert_int_equal(sample("tidemark_servers{node=\"p\",state=\"idle\"}"), 1);
	assert_int_equal(sample("tidemark_servers{node=\"p\",state=\"active\"}"), 1);
	assert_int_equal(sample("tidemark_servers{node=\"lost\",state=\"idle\"}"), 0);
}

/* Both ways: what is exported is described, and what is described is exported. */
static void metrics_and_their_documentation_agree(void **state)
{
	char *doc = world_source("docs/observability.md");
	const char *at = text;
	char line[512], family[128], wanted[160];
	while (next_line(&at, line)) {
		if (sscanf(line, "# TYPE %127s", family) != 1)
			continue;
		snprintf(wanted, sizeof(wanted), "| `%s", family);
		if (!strstr(doc, wanted))
			fail_msg("docs/observability.md lacks %s", family);
	}
	for (const char *row = strstr(doc, "| `tidemark_"); row;
	     row = strstr(row + 3, "| `tidemark_")) {
		assert_int_equal(sscanf(row, "| `%127[a-z_]", family), 1);
		snprintf(wanted, sizeof(wanted), "# TYPE %s ", family);
		if (!strstr(text, wanted))
			fail_msg("docs/observability.md describes %s, which is not exported", family);
	}
	free(doc);
}

static void metrics_that_do_not_fit_latch_overflow(void **state)
{
	struct buf small;
	buf_init(&small, 1000);
	admin_metrics(x.w, &small);
	assert_true(small.overflow);
	buf_release(&small);
}

static void the_router_is_healthy_while_it_has_a_primary(void **state)
{
	assert_null(admin_unhealthy(x.w));
	fleet_node_lost(&x.w->fleet, 0, net_now_us());
	assert_non_null(strstr(admin_unhealthy(x.w), "primary"));
	fleet_node_up(&x.w->fleet, 0, NODE_ROLE_PRIMARY, 1, net_now_us());
	assert_null(admin_unhealthy(x.w));
	x.w->state = WORKER_DRAINING;
	assert_non_null(admin_unhealthy(x.w));
}

static void the_page_escapes_names(void **state)
{
	snprintf(x.w->fleet.nodes[1].name, sizeof(x.w->fleet.nodes[1].name), "<b>&");
	make(admin_page);
	assert_non_null(strstr(text, "<td>&lt;b&gt;&amp;<td>"));
	assert_null(strstr(text, "<b>"));
	assert_non_null(strstr(text, "</html>"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_sample_follows_the_head_of_its_family),
		T(label_values_are_escaped),
		T(what_is_not_known_has_no_sample),
		T(queries_are_counted_where_they_ended),
		T(token_waits_are_a_cumulative_histogram),
		T(clients_and_servers_are_counted),
		T(metrics_and_their_documentation_agree),
		T(metrics_that_do_not_fit_latch_overflow),
		T(the_router_is_healthy_while_it_has_a_primary),
		T(the_page_escapes_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
