/* SPDX-License-Identifier: PostgreSQL */
#include "history.h"

void history_first(struct history *h)
{
	*h = (struct history){.known = true, .timeline = 1};
}

/* ================= the text ================= */

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct slice skip_blanks(struct slice s)
{
	size_t n = 0;
	while (n < s.len && is_blank(s.ptr[n]))
		n++;
	return slice_from(s, n);
}

/* The characters up to the next blank. */
static struct slice take_word(struct slice *s)
{
	size_t n = 0;
	while (n < s->len && !is_blank(s->ptr[n]))
		n++;
	struct slice word = slice_of(s->ptr, n);
	*s = skip_blanks(slice_from(*s, n));
	return word;
}

static bool timeline_parse(struct slice word, uint32_t *out)
{
	uint64_t value = 0;
	if (word.len == 0 || word.len > 10)
		return false;
	for (size_t i = 0; i < word.len; i++) {
		if (word.ptr[i] < '0' || word.ptr[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(word.ptr[i] - '0');
	}
	*out = (uint32_t)value;
	return value <= UINT32_MAX;
}

/* The timeline before the one that is to come. */
static uint32_t last_timeline(const struct history *h)
{
	return h->count > 0 ? h->past[h->count - 1].timeline : 0;
}

static void append(struct history *h, struct history_entry e)
{
	if (h->count == HISTORY_MAX) {
		h->began = h->past[0].left;
		memmove(h->past, h->past + 1, (HISTORY_MAX - 1) * sizeof(h->past[0]));
		h->count--;
	}
	h->past[h->count++] = e;
}

static bool take_line(struct history *h, struct slice line)
{
	struct history_entry e;
	line = skip_blanks(line);
	if (line.len == 0 || line.ptr[0] == '#')
		return true;
	if (!timeline_parse(take_word(&line), &e.timeline) ||
	    !position_parse(take_word(&line), &e.left) || !position_is_set(e.left) ||
	    e.timeline <= last_timeline(h))
		return false;
	append(h, e);
	return true;
}

bool history_parse(struct history *h, uint32_t timeline, struct slice text)
{
	*h = (struct history){.timeline = timeline};
	while (text.len > 0) {
		const uint8_t *end = memchr(text.ptr, '\n', text.len);
		size_t n = end ? (size_t)(end - text.ptr) : text.len;
		if (!take_line(h, slice_of(text.ptr, n)))
			return false;
		text = slice_from(text, n + 1);
	}
	h->known = timeline > last_timeline(h) && (h->count > 0 || timeline == 1);
	return h->known;
}

/* ================= judging ================= */

/* Where past[i] began; i == count is the server's own timeline. */
static struct position fork_of(const struct history *h, int i)
{
	return i > 0 ? h->past[i - 1].left : h->began;
}

struct position history_fork(const struct history *h)
{
	return fork_of(h, h->count);
}

/* Where the server's history left past[i]. A recovery to a point before the beginning of the
 * timeline that was its target leaves a later switch at a lower position, and ends the earlier
 * timelines there too. Unset for i == count: it goes on. */
static struct position left_of(const struct history *h, int i)
{
	struct position left = {0};
	for (; i < h->count; i++) {
		if (!position_is_set(left) || !position_reached(h->past[i].left, left))
			left = h->past[i].left;
	}
	return left;
}

/* The index of a timeline as in fork_of(); -1 if it is not in the history. */
static int find_timeline(const struct history *h, uint32_t timeline)
{
	if (timeline == h->timeline)
		return h->count;
	for (int i = 0; i < h->count; i++) {
		if (h->past[i].timeline == timeline)
			return i;
	}
	return -1;
}

static enum history_verdict judge_own(const struct history *h, int i, struct position at)
{
	struct position left = left_of(h, i);
	return position_is_set(left) && !position_reached(left, at) ? HISTORY_LOST : HISTORY_PART;
}

/* On a branch that the server does not have. Beyond its fork a position is lost. At or before it,
 * it belongs to the branch's parent, which is known only of timeline 2: it comes from 1. */
static enum history_verdict judge_sibling(const struct history *h, uint32_t timeline,
                                          struct position fork, struct position at)
{
	if (!position_reached(fork, at))
		return HISTORY_LOST;
	int parent = timeline == 2 ? find_timeline(h, 1) : -1;
	return parent >= 0 ? judge_own(h, parent, at) : HISTORY_UNKNOWN;
}

enum history_verdict history_judge(const struct history *h, uint32_t timeline, struct position fork,
                                   struct position at)
{
	if (!h->known || timeline > h->timeline)
		return HISTORY_UNKNOWN;
	int i = find_timeline(h, timeline);
	if (i >= 0 && fork.lsn == fork_of(h, i).lsn)
		return judge_own(h, i, at);
	/* It may be one of the ancestors that were dropped. */
	if (i < 0 && position_is_set(h->began) && timeline < h->past[0].timeline)
		return HISTORY_UNKNOWN;
	return judge_sibling(h, timeline, fork, at);
}
