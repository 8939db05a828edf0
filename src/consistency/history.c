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

bool history_timeline_parse(struct slice word, uint32_t *out)
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
	if (!history_timeline_parse(take_word(&line), &e.timeline) ||
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

struct position history_fork_of(const struct history *h, int i)
{
	return i > 0 ? h->past[i - 1].left : h->began;
}

struct position history_fork(const struct history *h)
{
	return history_fork_of(h, h->count);
}

struct position history_left(const struct history *h, int i)
{
	struct position left = {0};
	for (; i < h->count; i++) {
		if (!position_is_set(left) || !position_reached(h->past[i].left, left))
			left = h->past[i].left;
	}
	return left;
}

/* The index of a timeline as in history_fork_of(); -1 if it is not in the history. */
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

/* The index in `h` of the branch (timeline, fork); -1 if it is not in the history. */
static int find_branch(const struct history *h, uint32_t timeline, struct position fork)
{
	int i = find_timeline(h, timeline);
	return i >= 0 && history_fork_of(h, i).lsn == fork.lsn ? i : -1;
}

struct history_point history_point(const struct history *h, struct position at)
{
	return (struct history_point){
		.system = h->system, .timeline = h->timeline, .fork = history_fork(h), .at = at};
}

bool history_same_branch(const struct history *a, const struct history *b)
{
	return a->known && b->known && a->system == b->system && a->timeline == b->timeline &&
	       history_fork(a).lsn == history_fork(b).lsn;
}

bool history_descends(const struct history *h, const struct history *other)
{
	if (!h->known || !other->known || h->system != other->system)
		return false;
	int i = find_branch(h, other->timeline, history_fork(other));
	return i >= 0 && i < h->count;
}

static enum contains by_number(struct position at, struct position want)
{
	return position_reached(at, want) ? CONTAINS_YES : CONTAINS_NOT_YET;
}

/* On past[i] of the server's own history, or on its end. */
static enum contains contains_own(const struct history *h, int i, struct position want,
                                  struct position at)
{
	struct position left = history_left(h, i);
	if (position_is_set(left) && !position_reached(left, want))
		return CONTAINS_LOST;
	return by_number(at, want);
}

static struct position lower(struct position a, struct position b)
{
	if (!position_is_set(a) || !position_is_set(b))
		return position_max(a, b);
	return position_reached(a, b) ? b : a;
}

/* The histories part on the latest branch that they have in common, where the first of them left
 * it. (The server's does not have all of `of`.) */
static enum contains contains_other(const struct history *of, struct position want,
                                    const struct history *h, struct position at)
{
	int i = of->count, j = -1;
	while (j < 0 && --i >= 0)
		j = find_branch(h, of->past[i].timeline, history_fork_of(of, i));
	if (i < 0)
		return CONTAINS_UNKNOWN;
	struct position part = lower(history_left(of, i), history_left(h, j));
	if (position_reached(part, want))
		return by_number(at, want);
	if (j < h->count)
		return CONTAINS_LOST;
	return position_reached(part, at) ? CONTAINS_NOT_YET : CONTAINS_DIVERGED;
}

/* On a branch that the server does not have and of which nothing else is known. Beyond its fork a
 * point is lost. At or before it, it belongs to the branch's parent, which is known only of
 * timeline 2: it comes from 1. */
static enum contains contains_stranger(const struct history_point *p, const struct history *h,
                                       struct position at)
{
	bool older_than_known = position_is_set(h->began) && p->timeline < h->past[0].timeline;
	if (p->timeline > h->timeline || older_than_known)
		return CONTAINS_UNKNOWN;
	if (!position_reached(p->fork, p->at))
		return CONTAINS_LOST;
	int parent = p->timeline == 2 ? find_timeline(h, 1) : -1;
	return parent >= 0 ? contains_own(h, parent, p->at, at) : CONTAINS_UNKNOWN;
}

static bool is_history_of(const struct history *of, const struct history_point *p)
{
	return of && of->known && of->system == p->system && of->timeline == p->timeline &&
	       history_fork(of).lsn == p->fork.lsn;
}

enum contains history_contains(const struct history_point *p, const struct history *of,
                               const struct history *h, struct position at)
{
	if (!h->known || p->system != h->system)
		return CONTAINS_UNKNOWN;
	int i = find_branch(h, p->timeline, p->fork);
	if (i >= 0)
		return contains_own(h, i, p->at, at);
	if (is_history_of(of, p))
		return contains_other(of, p->at, h, at);
	return contains_stranger(p, h, at);
}
