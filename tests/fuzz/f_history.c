/* SPDX-License-Identifier: PostgreSQL
 *
 * First line: timeline, then as hex a fork and a position that are judged. The rest: a timeline
 * history file.
 */
#include "fuzz.h"

#include <stdio.h>

#include "consistency/history.h"

struct question {
	uint32_t timeline, of;
	uint64_t fork, at;
};

static struct question read_question(struct slice line)
{
	struct question q = {.timeline = 1, .of = 1};
	char text[80];
	(void)snprintf(text, sizeof(text), "%.*s", SLICE_ARG(line));
	(void)sscanf(text, "%9u %9u %16lx %16lx", &q.timeline, &q.of, &q.fork, &q.at);
	return q;
}

static void check(const struct history *h)
{
	assert(h->count >= 0 && h->count <= HISTORY_MAX);
	for (int i = 0; i < h->count; i++) {
		assert(h->past[i].timeline < h->timeline && position_is_set(h->past[i].left));
		assert(i == 0 || h->past[i - 1].timeline < h->past[i].timeline);
#ifdef FUZZ_BROKEN
		/* Not so: the driver has to find out. */
		assert(h->past[i].timeline == (uint32_t)i + 1);
#endif
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct question q = read_question(fuzz_line(&in));
	struct history h;
	struct position at = {q.at}, fork = {q.fork};

	bool known = history_parse(&h, q.timeline, in);
	assert(known == h.known);
	if (!known) {
		assert(history_judge(&h, q.of, fork, at) == HISTORY_UNKNOWN);
		return 0;
	}
	check(&h);
	/* All that lies on the server's own timeline, as it forked, is a part of it. */
	assert(history_judge(&h, h.timeline, history_fork(&h), at) == HISTORY_PART);
	if (h.timeline < UINT32_MAX)
		assert(history_judge(&h, h.timeline + 1, fork, at) == HISTORY_UNKNOWN);
	/* What is a part of it stays one if less is asked for. */
	if (history_judge(&h, q.of, fork, at) == HISTORY_PART && q.at > 0)
		assert(history_judge(&h, q.of, fork, (struct position){q.at / 2}) == HISTORY_PART);
	return 0;
}
