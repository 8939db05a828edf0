/* SPDX-License-Identifier: PostgreSQL */
#include "info.h"

/* The value of the line "name:value"; empty if there is none. */
static struct slice field(struct slice text, const char *name)
{
	size_t len = strlen(name);
	while (text.len > 0) {
		const uint8_t *end = memchr(text.ptr, '\n', text.len);
		size_t line = end ? (size_t)(end - text.ptr) : text.len;
		if (line > len && text.ptr[len] == ':' && memcmp(text.ptr, name, len) == 0) {
			struct slice value = slice_of(text.ptr + len + 1, line - len - 1);
			if (value.len > 0 && value.ptr[value.len - 1] == '\r')
				value.len--;
			return value;
		}
		text = slice_from(text, line + 1);
	}
	return (struct slice){0};
}

/* Before 7, scripts did not look whether enough replicas are there. */
#define SCRIPTS_COUNT_REPLICAS 7

static int major_version(struct slice text)
{
	struct slice version = field(text, "redis_version");
	int major = 0;
	for (size_t i = 0; i < version.len && i < 4; i++) {
		if (version.ptr[i] < '0' || version.ptr[i] > '9')
			break;
		major = major * 10 + (version.ptr[i] - '0');
	}
	return major;
}

bool info_parse(struct slice text, struct info *out)
{
	struct slice run_id = field(text, "run_id");
	struct slice replication_id = field(text, "master_replid");
	struct slice evicted = field(text, "evicted_keys");
	struct slice policy = field(text, "maxmemory_policy");
	struct slice role = field(text, "role");
	*out = (struct info){
		.is_master = slice_eq_str(role, "master"),
		.loading = slice_eq_str(field(text, "loading"), "1"),
		.evicts =
			!slice_eq_str(field(text, "maxmemory"), "0") && !slice_eq_str(policy, "noeviction"),
		.stops_without_replicas = field(text, "min_slaves_good_slaves").len > 0 &&
	                              major_version(text) >= SCRIPTS_COUNT_REPLICAS,
	};
	(void)snprintf(out->policy, sizeof(out->policy), "%.*s", SLICE_ARG(policy));
	int n = snprintf(out->incarnation, sizeof(out->incarnation), "%.*s:%.*s:%.*s",
	                 SLICE_ARG(run_id), SLICE_ARG(replication_id), SLICE_ARG(evicted));
	return run_id.len > 0 && evicted.len > 0 && role.len > 0 && policy.len > 0 &&
	       (size_t)n < sizeof(out->incarnation);
}
