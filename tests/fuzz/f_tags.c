/* SPDX-License-Identifier: PostgreSQL
 *
 * The text of a statement, for its comments.
 */
#include "fuzz.h"

#include "sql/tags.h"

static bool is_text(const char *value, size_t cap)
{
	size_t len = strnlen(value, cap);
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)value[i] < ' ')
			return false;
	return len < cap;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_of(data, size);
	struct tags t;
	bool commented, again;

	tags_parse(text, &t);
	assert(is_text(t.session, sizeof(t.session)) && is_text(t.consistency, sizeof(t.consistency)) &&
	       is_text(t.read_after, sizeof(t.read_after)));
	if (t.session[0] || t.consistency[0] || t.read_after[0])
		assert(t.present);

	struct slice core = sql_strip_comments(text, &commented);
	assert(core.len <= size &&
	       (core.len == 0 || (core.ptr >= data && core.ptr + core.len <= data + size)));
	if (t.present)
		assert(commented);
	/* Nothing is left to be stripped, unless a comment does not end. */
	struct slice inner = sql_strip_comments(core, &again);
	assert(!commented || (inner.len == core.len && !again));
	return 0;
}
