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

static enum contains judge(const struct history *h, uint32_t timeline, struct position fork,
                           struct position at)
{
	const struct history_point p = {.timeline = timeline, .fork = fork, .at = at};
	enum contains all = history_contains(&p, NULL, h, HISTORY_END);
	/* A server that has less of it never knows better. */
	enum contains some = history_contains(&p, h, h, (struct position){at.lsn / 2});
	assert(all == some || (all == CONTAINS_YES && some == CONTAINS_NOT_YET));
	return all;
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
		assert(judge(&h, q.of, fork, at) == CONTAINS_UNKNOWN);
		return 0;
	}
	check(&h);
	/* All that lies on the server's own timeline, as it forked, is a part of it. */
	assert(judge(&h, h.timeline, history_fork(&h), at) == CONTAINS_YES);
	if (h.timeline < UINT32_MAX)
		assert(judge(&h, h.timeline + 1, fork, at) == CONTAINS_UNKNOWN);
	/* What is a part of it stays one if less is asked for. */
	if (judge(&h, q.of, fork, at) == CONTAINS_YES && q.at > 0)
		assert(judge(&h, q.of, fork, (struct position){q.at / 2}) == CONTAINS_YES);
	return 0;
}
