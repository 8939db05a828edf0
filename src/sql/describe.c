/* SPDX-License-Identifier: PostgreSQL */
#include "classify.h"

#include <stdio.h>

const char *bind_reason_name(enum bind_reason reason)
{
	static const char *const names[BIND_COUNT] = {
		[BIND_NONE] = "none",           [BIND_TEMP] = "temporary_object",
		[BIND_LISTEN] = "listen",       [BIND_HOLD] = "cursor_with_hold",
		[BIND_PREPARE] = "sql_prepare", [BIND_ADVISORY] = "advisory_lock",
		[BIND_ROLE] = "role",           [BIND_SET_CONFIG] = "set_config",
		[BIND_LOAD] = "load",           [BIND_SETTINGS] = "settings",
		[BIND_SEQUENCE] = "sequence",   [BIND_STATISTICS] = "statistics",
		[BIND_UNSEEN] = "unseen",
	};
	return reason >= 0 && reason < BIND_COUNT ? names[reason] : "unknown";
}

void traits_describe(struct traits t, char *out, size_t cap)
{
	const char *binds = t.flags & TRAIT_BINDS ? bind_reason_name(t.binds) : NULL;
	const char *also = binds ? "; binds the client to its connection: " : "";
	if (t.flags & TRAIT_EMPTY)
		snprintf(out, cap, "primary: no statement");
	else if (t.flags & TRAIT_ROUTER)
		snprintf(out, cap, "router: answered by tidemark itself");
	else if (t.flags & TRAIT_READ)
		snprintf(out, cap, "replica: plain read");
	else
		snprintf(out, cap, "primary: %s%s%s", route_reason_words(t.reason), also,
		         binds ? binds : "");
}
