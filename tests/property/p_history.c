/* SPDX-License-Identifier: PostgreSQL
 *
 * Histories against a world that knows everything: a tree of branches, in which each position has
 * one owner, the branch on which it was written. A position is part of two histories if its owner
 * in both is the same. Judges that are known to be bad must be convicted.
 *
 * That is by chance, and of histories of any length. Small worlds are gone through one by one, all
 * of them, against what the verdicts mean: a server has a set of records, and there are sets that it
 * may come to have.
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

typedef enum contains (*judge_fn)(const struct history *h, uint32_t timeline, struct position fork,
                                  struct position at);

/* Of a primary, and with nothing known of the history of the branch (timeline, fork). */
static enum contains judge(const struct history *h, uint32_t timeline, struct position fork,
                           struct position at)
{
	const struct history_point p = {.timeline = timeline, .fork = fork, .at = at};
	return history_contains(&p, NULL, h, HISTORY_END);
}

/* What `judge` says wrongly of any position that some branch has, or NULL. */
static const char *error_of(judge_fn judge_it, const struct world *w)
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
	switch (judge_it(&h, b->timeline, (struct position){b->fork}, (struct position){at})) {
	case CONTAINS_YES:
		return part ? NULL : "believes what was lost";
	case CONTAINS_LOST:
		return part ? "gives up what is there" : NULL;
	case CONTAINS_NOT_YET:
	case CONTAINS_DIVERGED:
		return "says what it cannot of a primary";
	case CONTAINS_UNKNOWN:
		break;
	}
	bool whole = depth(w, server) <= HISTORY_MAX;
	bool knowable = b->timeline <= s->timeline && whole && (at > b->fork || b->timeline == 2);
	return knowable ? "could have known" : NULL;
}

/* ================= known-bad judges ================= */

static enum contains judge_by_number(const struct history *h, uint32_t timeline,
                                            struct position fork, struct position at)
{
	return CONTAINS_YES;
}

static enum contains judge_without_forks(const struct history *h, uint32_t timeline,
                                                struct position fork, struct position at)
{
	for (int i = 0; i < h->count; i++) {
		if (h->past[i].timeline == timeline)
			return position_reached(h->past[i].left, at) ? CONTAINS_YES : CONTAINS_LOST;
	}
	return timeline == h->timeline ? CONTAINS_YES : judge(h, timeline, fork, at);
}

/* Believes that siblings have everything up to the lower fork in common. Their parents may differ.
 */
static enum contains judge_by_lower_fork(const struct history *h, uint32_t timeline,
                                                struct position fork, struct position at)
{
	enum contains v = judge(h, timeline, fork, at);
	if (v != CONTAINS_UNKNOWN || timeline != h->timeline)
		return v;
	return position_reached(history_fork(h), at) ? CONTAINS_YES : CONTAINS_LOST;
}

/* Looks only at the timeline's own switch. */
static enum contains judge_by_one_switch(const struct history *h, uint32_t timeline,
                                                struct position fork, struct position at)
{
	for (int i = 0; i < h->count; i++) {
		struct position began = i > 0 ? h->past[i - 1].left : h->began;
		if (h->past[i].timeline == timeline && began.lsn == fork.lsn)
			return position_reached(h->past[i].left, at) ? CONTAINS_YES : CONTAINS_LOST;
	}
	return judge(h, timeline, fork, at);
}

static enum contains judge_nothing(const struct history *h, uint32_t timeline,
                                          struct position fork, struct position at)
{
	return CONTAINS_UNKNOWN;
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

/* ================= all small worlds ================= */

#define SMALL_BRANCHES 4
#define SMALL_FORKS 4 /* a branch begins behind record 1 … 4 */
#define SMALL_RECORDS 6

/* Bit x of have[o]: record x as branch o wrote it. */
struct records {
	uint8_t have[SMALL_BRANCHES];
};

/* All that a server on branch `i` has when it is at `at`. */
static struct records records_of(const struct world *w, int i, uint64_t at)
{
	struct records r = {{0}};
	for (uint64_t x = 1; x <= at; x++)
		r.have[owner(w, i, x)] |= (uint8_t)(1u << x);
	return r;
}

static bool within(const struct records *a, const struct records *b)
{
	for (int i = 0; i < SMALL_BRANCHES; i++) {
		if (a->have[i] & ~b->have[i])
			return false;
	}
	return true;
}

static bool comes_from(const struct world *w, int i, int ancestor)
{
	while (i >= 0 && i != ancestor)
		i = w->all[i].parent;
	return i == ancestor;
}

/* By what the words mean. A server goes on along its own branch or follows to one that came from
 * it, as long as it has nothing that this one has not. */
static enum contains verdict_of(const struct world *w, int of, uint64_t want, int server,
                                uint64_t at)
{
	struct records now = records_of(w, server, at);
	uint8_t record = (uint8_t)(1u << want);
	int wrote = owner(w, of, want);
	if (now.have[wrote] & record)
		return CONTAINS_YES;
	for (int i = 0; i < w->count; i++) {
		struct records later = records_of(w, i, SMALL_RECORDS);
		if (comes_from(w, i, server) && within(&now, &later) && later.have[wrote] & record)
			return CONTAINS_NOT_YET;
	}
	return comes_from(w, of, server) && of != server ? CONTAINS_DIVERGED : CONTAINS_LOST;
}

typedef enum contains (*contains_fn)(const struct history_point *p, const struct history *of,
                                     const struct history *h, struct position at);

/* `blind`: how often the judge did not know, without the point's history. */
static const char *error_of_all(contains_fn judge_it, const struct world *w, uint64_t *asked,
                                uint64_t *blind)
{
	struct history h[SMALL_BRANCHES];
	char text[SMALL_BRANCHES * 64];
	for (int i = 0; i < w->count; i++) {
		size_t len = history_text(w, i, text, sizeof(text));
		require(history_parse(&h[i], w->all[i].timeline, slice_of(text, len)), "history");
	}
	for (int of = 0; of < w->count; of++) {
		for (int server = 0; server < w->count; server++) {
			for (uint64_t want = 1; want <= SMALL_RECORDS; want++) {
				for (uint64_t at = 1; at <= SMALL_RECORDS; at++) {
					struct history_point p = history_point(&h[of], (struct position){want});
					enum contains truth = verdict_of(w, of, want, server, at);
					struct position has = {at};
					if (judge_it(&p, &h[of], &h[server], has) != truth)
						return "is wrong, knowing both histories";
					enum contains less = judge_it(&p, NULL, &h[server], has);
					if (less != truth && less != CONTAINS_UNKNOWN)
						return "is wrong, knowing one history";
					*asked += 1;
					*blind += less == CONTAINS_UNKNOWN;
				}
			}
		}
	}
	return NULL;
}

/* Adds every possible branch to `w`, and to what comes of that every other one. */
static const char *every_world(contains_fn judge_it, struct world *w, uint64_t *asked,
                               uint64_t *blind)
{
	const char *error = error_of_all(judge_it, w, asked, blind);
	if (error || w->count == SMALL_BRANCHES)
		return error;
	for (int parent = 0; parent < w->count; parent++) {
		for (uint32_t skip = 1; skip <= 2; skip++) {
			for (uint64_t fork = 1; fork <= SMALL_FORKS; fork++) {
				struct branch b = {parent, w->all[parent].timeline + skip, fork};
				if (taken(w, &b))
					continue;
				w->all[w->count++] = b;
				error = every_world(judge_it, w, asked, blind);
				w->count--;
				if (error)
					return error;
			}
		}
	}
	return NULL;
}

static enum contains contains_by_number(const struct history_point *p, const struct history *of,
                                        const struct history *h, struct position at)
{
	return position_reached(at, p->at) ? CONTAINS_YES : CONTAINS_NOT_YET;
}

/* Forgets how far the server has gone on the branch that was left. */
static enum contains contains_without_divergence(const struct history_point *p,
                                                 const struct history *of, const struct history *h,
                                                 struct position at)
{
	enum contains v = history_contains(p, of, h, at);
	return v == CONTAINS_DIVERGED ? CONTAINS_NOT_YET : v;
}

static enum contains contains_by_timeline(const struct history_point *p, const struct history *of,
                                          const struct history *h, struct position at)
{
	return p->timeline == h->timeline ? contains_by_number(p, of, h, at)
	                                  : history_contains(p, of, h, at);
}

static void small_worlds_are_judged_rightly_one_by_one(void)
{
	static const contains_fn bad[] = {contains_by_number, contains_without_divergence,
	                                  contains_by_timeline};
	struct world w = {.count = 1, .all = {{-1, 1, 0}}};
	uint64_t asked = 0, blind = 0;
	const char *error = every_world(history_contains, &w, &asked, &blind);
	require(error == NULL, "%s", error);
	require(asked > 1000000 && blind * 2 < asked, "%llu of %llu not known", (unsigned long long)blind,
	        (unsigned long long)asked);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		require(every_world(bad[i], &w, &asked, &blind) != NULL, "bad judge %zu is always right", i);
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
	judge(&h, (uint32_t)below(5), (struct position){any() % 3}, (struct position){any()});
	free(exact);
}

static void run(void)
{
	struct world w = any_world();
	for (int i = 0; i < 10; i++) {
		const char *error = error_of(judge, &w);
		require(error == NULL, "%s", error);
	}
	anything();
}

int main(int argc, char **argv)
{
	bad_judges_are_convicted();
	small_worlds_are_judged_rightly_one_by_one();
	property_run(argc, argv, 60000, run);
	return 0;
}
