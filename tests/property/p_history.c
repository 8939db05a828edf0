/* SPDX-License-Identifier: PostgreSQL
 *
 * Histories against a world that knows everything: a tree of branches, in which each position has
 * one owner, the branch on which it was written. A position is part of two histories if its owner
 * in both is the same. Judges that are known to be bad must be convicted.
 */
#include "consistency/history.h"
#include "property.h"

#define BRANCHES_MAX 100

struct branch {
	int parent; /* -1: the first timeline */
	uint32_t timeline;
	uint64_t fork;
};

struct world {
	int count;
	struct branch all[BRANCHES_MAX];
};

/* Who wrote what a server on branch `i` has at position `at`. */
static int owner(const struct world *w, int i, uint64_t at)
{
	while (at <= w->all[i].fork)
		i = w->all[i].parent;
	return i;
}

/* (timeline, fork) is all that is known of a branch; two of the same name cannot be told apart. */
static bool taken(const struct world *w, const struct branch *b)
{
	for (int i = 0; i < w->count; i++) {
		if (w->all[i].timeline == b->timeline && w->all[i].fork == b->fork)
			return true;
	}
	return false;
}

static struct world any_world(void)
{
	struct world w = {.count = 1, .all = {{-1, 1, 0}}};
	bool chain = one_in(50);
	int64_t want = chain ? BRANCHES_MAX : 2 + below(7);
	while (w.count < want) {
		int parent = chain && !one_in(10) ? w.count - 1 : (int)below(w.count);
		const struct branch *p = &w.all[parent];
		/* Independent promotions take the same number. A recovery that stops before its target
		 * timeline begins forks below the fork of what it names as its parent. */
		uint64_t span = chain ? 100000 : 30;
		uint64_t fork = one_in(8) ? 1 + any() % (p->fork + span) : p->fork + 1 + any() % span;
		struct branch b = {parent, p->timeline + 1 + (uint32_t)one_in(4), fork};
		if (!taken(&w, &b))
			w.all[w.count++] = b;
		else if (one_in(50))
			break;
	}
	return w;
}

/* The history file of a server on branch `i`, as PostgreSQL writes it. */
static size_t history_text(const struct world *w, int i, char *out, size_t cap)
{
	size_t len = 0;
	if (w->all[i].parent < 0)
		return 0;
	len = history_text(w, w->all[i].parent, out, cap);
	return len + (size_t)snprintf(out + len, cap - len, "%u\t%X/%X\tno recovery target specified\n",
	                              w->all[w->all[i].parent].timeline,
	                              (uint32_t)(w->all[i].fork >> 32), (uint32_t)w->all[i].fork);
}

static int depth(const struct world *w, int i)
{
	int n = 0;
	for (; w->all[i].parent >= 0; i = w->all[i].parent)
		n++;
	return n;
}

typedef enum history_verdict (*judge_fn)(const struct history *h, uint32_t timeline,
                                         struct position fork, struct position at);

/* What `judge` says wrongly of any position that some branch has, or NULL. */
static const char *error_of(judge_fn judge, const struct world *w)
{
	static char text[BRANCHES_MAX * 64];
	struct history h;
	int server = (int)below(w->count), other = (int)below(w->count);
	const struct branch *s = &w->all[server], *b = &w->all[other];
	size_t len = history_text(w, server, text, sizeof(text));
	if (!history_parse(&h, s->timeline, slice_of(text, len)) || history_fork(&h).lsn != s->fork)
		return "does not understand the history";

	uint64_t at = one_in(3) ? 1 + any() % (b->fork + 1) : b->fork + 1 + any() % 30;
	bool part = owner(w, other, at) == owner(w, server, at);
	switch (judge(&h, b->timeline, (struct position){b->fork}, (struct position){at})) {
	case HISTORY_PART:
		return part ? NULL : "believes what was lost";
	case HISTORY_LOST:
		return part ? "gives up what is there" : NULL;
	case HISTORY_UNKNOWN:
		break;
	}
	bool whole = depth(w, server) <= HISTORY_MAX;
	bool knowable = b->timeline <= s->timeline && whole && (at > b->fork || b->timeline == 2);
	return knowable ? "could have known" : NULL;
}

/* ================= known-bad judges ================= */

static enum history_verdict judge_by_number(const struct history *h, uint32_t timeline,
                                            struct position fork, struct position at)
{
	return HISTORY_PART;
}

static enum history_verdict judge_without_forks(const struct history *h, uint32_t timeline,
                                                struct position fork, struct position at)
{
	for (int i = 0; i < h->count; i++) {
		if (h->past[i].timeline == timeline)
			return position_reached(h->past[i].left, at) ? HISTORY_PART : HISTORY_LOST;
	}
	return timeline == h->timeline ? HISTORY_PART : history_judge(h, timeline, fork, at);
}

/* Believes that siblings have everything up to the lower fork in common. Their parents may differ.
 */
static enum history_verdict judge_by_lower_fork(const struct history *h, uint32_t timeline,
                                                struct position fork, struct position at)
{
	enum history_verdict v = history_judge(h, timeline, fork, at);
	if (v != HISTORY_UNKNOWN || timeline != h->timeline)
		return v;
	return position_reached(history_fork(h), at) ? HISTORY_PART : HISTORY_LOST;
}

/* Looks only at the timeline's own switch. */
static enum history_verdict judge_by_one_switch(const struct history *h, uint32_t timeline,
                                                struct position fork, struct position at)
{
	for (int i = 0; i < h->count; i++) {
		struct position began = i > 0 ? h->past[i - 1].left : h->began;
		if (h->past[i].timeline == timeline && began.lsn == fork.lsn)
			return position_reached(h->past[i].left, at) ? HISTORY_PART : HISTORY_LOST;
	}
	return history_judge(h, timeline, fork, at);
}

static enum history_verdict judge_nothing(const struct history *h, uint32_t timeline,
                                          struct position fork, struct position at)
{
	return HISTORY_UNKNOWN;
}

static void bad_judges_are_convicted(void)
{
	static const struct {
		const char *name;
		judge_fn judge;
	} bad[] = {
		{"compares numbers", judge_by_number},
		{"ignores forks", judge_without_forks},
		{"takes the lower fork", judge_by_lower_fork},
		{"looks at one switch", judge_by_one_switch},
		{"knows nothing", judge_nothing},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *error = NULL;
		for (uint64_t seed = 1; error == NULL && seed <= 20000; seed++) {
			property_start(seed);
			struct world w = any_world();
			error = error_of(bad[i].judge, &w);
		}
		require(error != NULL, "the judge that \"%s\" is always right", bad[i].name);
	}
}

/* ================= anything ================= */

/* Bytes that look more or less like a history file. */
static void anything(void)
{
	static const char *const words[] = {"\t",  "\n", "#",   "0/", "/",  "1",    "2", "3000148",
	                                    "FFF", " ",  "why", "\r", "-1", "4294", "0", "x"};
	char text[512];
	size_t len = 0;
	for (int64_t n = below(60); n > 0; n--) {
		const char *word = words[below((int64_t)(sizeof(words) / sizeof(words[0])))];
		memcpy(text + len, word, strlen(word));
		len += strlen(word);
		if (one_in(50))
			text[len++] = (char)any();
	}
	char *exact = malloc(len ? len : 1);
	require(exact != NULL, "memory");
	memcpy(exact, text, len);
	struct history h;
	uint32_t timeline = (uint32_t)(any() >> below(64));
	bool ok = history_parse(&h, timeline, slice_of(exact, len));
	require(ok == h.known, "known");
	require(h.count >= 0 && h.count <= HISTORY_MAX, "count");
	for (int i = 0; ok && i < h.count; i++)
		require(position_is_set(h.past[i].left) && h.past[i].timeline > 0 &&
		            h.past[i].timeline < (i + 1 < h.count ? h.past[i + 1].timeline : timeline),
		        "%.*s", (int)len, text);
	history_judge(&h, (uint32_t)below(5), (struct position){any() % 3}, (struct position){any()});
	free(exact);
}

static void run(void)
{
	struct world w = any_world();
	for (int i = 0; i < 10; i++) {
		const char *error = error_of(history_judge, &w);
		require(error == NULL, "%s", error);
	}
	anything();
}

int main(int argc, char **argv)
{
	bad_judges_are_convicted();
	property_run(argc, argv, 60000, run);
	return 0;
}
