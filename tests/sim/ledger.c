/* SPDX-License-Identifier: PostgreSQL */
#include "ledger.h"

#include <assert.h>
#include <stdlib.h>

void ledger_init(struct ledger *l, const struct model *m, int sessions)
{
	*l = (struct ledger){.model = m, .sessions = sessions};
	l->it = calloc((size_t)sessions, sizeof(*l->it));
	assert(l->it);
}

void ledger_release(struct ledger *l)
{
	free(l->it);
	*l = (struct ledger){0};
}

static void judge(const struct ledger *l, struct ledger_entry *e)
{
	bool past = e->timeline != 0 && e->timeline < model_timeline(l->model);
	uint64_t fork = model_fork(l->model);
	/* Two failovers, and the first one not told yet: nobody can say whether the router has read the
	 * history between. One of them may be between two servers of one timeline. */
	bool twice = e->must || e->timeline + 1 < model_timeline(l->model) ||
	             model_has_stray(l->model, e->timeline);
	e->may = e->may || e->must || (past && e->written > fork);
	e->must = past && !twice && e->end > fork && !model_has_twin(l->model, e->timeline);
}

void ledger_wrote(struct ledger *l, int session, int key, uint32_t version)
{
	struct ledger_entry *e = &l->it[session], now = {.must = e->must, .may = e->may};
	if (!model_commit(l->model, key, version, &now.end, &now.written, &now.timeline)) {
		ledger_open(l, session);
		return;
	}
	*e = now;
	/* A primary that no longer counts: whether the router knew is its own affair. */
	if (e->timeline < model_timeline(l->model) || model_has_twin(l->model, e->timeline))
		ledger_open(l, session);
}

void ledger_open(struct ledger *l, int session)
{
	l->it[session].may = true;
}

void ledger_unheard(struct ledger *l, int session)
{
	struct ledger_entry *e = &l->it[session];
	e->may = e->may || e->must;
	e->must = false;
}

void ledger_open_all(struct ledger *l)
{
	for (int i = 0; i < l->sessions; i++)
		l->it[i] = (struct ledger_entry){.may = true};
}

void ledger_promoted(struct ledger *l)
{
	for (int i = 0; i < l->sessions; i++)
		judge(l, &l->it[i]);
}

bool ledger_told(struct ledger *l, int session)
{
	struct ledger_entry *e = &l->it[session];
	bool due = e->must || e->may;
	/* What it had written was spoken of: another failover is not to speak of that again. */
	*e = (struct ledger_entry){.may = e->may};
	return due;
}

void ledger_forget(struct ledger *l, int session)
{
	l->it[session] = (struct ledger_entry){0};
}

int ledger_untold(const struct ledger *l)
{
	int count = 0;
	for (int i = 0; i < l->sessions; i++)
		count += l->it[i].must;
	return count;
}
