/* SPDX-License-Identifier: PostgreSQL */
#include "belief.h"

/* Packets that are late, and timers. */
#define SLACK_US 700000

/* By the watcher's limits it has noticed by then. Where a server falls silent, an answer that was under way
 * may come as late as is allowed, before the next question goes unanswered. */
static int64_t notice_us(const struct settings *s, int answers)
{
	return s->watch.idle_interval_us + answers * s->watch.answer_timeout_us + SLACK_US;
}

static bool lasts(int64_t *since_us, bool so, int64_t limit_us)
{
	int64_t now_us = net_now_us();
	if (!so)
		*since_us = 0;
	else if (*since_us == 0)
		*since_us = now_us;
	return so && now_us - *since_us > limit_us;
}

static bool reachable(const struct model *m, int node)
{
	return model_answers(m, node) && sim_link_up(sim_host("router"), model_host(m, node));
}

/* The watcher has learnt of this very process. */
static bool knows(const struct worker *w, const struct model *m, int node)
{
	const struct watch_facts *facts = watch_facts(w->watch, node);
	return w->fleet.nodes[node].up && model_up(m, node) && facts->known &&
	       facts->postmaster_start_us == model_started(m, node);
}

static bool replica_ahead(const struct worker *w, const struct model *m, int node)
{
	const struct node *n = &w->fleet.nodes[node];
	return knows(w, m, node) && n->role == NODE_ROLE_REPLICA && model_is_replica(m, node) &&
	       n->at.lsn > model_position(m, node);
}

static bool went_back(struct belief *b, const struct node *n, int node)
{
	bool back = n->epoch == b->epoch[node] && !position_reached(n->at, b->at[node]);
	b->epoch[node] = n->epoch;
	b->at[node] = n->at;
	return back;
}

/* A position that was captured on another process, or another server, than the primary. */
static bool primary_ahead(const struct worker *w, const struct model *m)
{
	int node = w->fleet.primary;
	return node != NODE_NONE && node == model_primary(m) && knows(w, m, node) &&
	       w->fleet.timeline == model_timeline(m) && w->fleet.nodes[node].sampled_at_us != 0 &&
	       fleet_newest(&w->fleet).lsn > model_position(m, node);
}

const char *belief_wrong(struct belief *b, const struct worker *w, const struct model *m)
{
	int64_t limit_us = notice_us(w->settings, 1), silent_limit_us = notice_us(w->settings, 2);
	const char *wrong = NULL;
	for (int i = 0; i < model_nodes(m); i++) {
		bool up = w->fleet.nodes[i].up;
		if (lasts(&b->unreachable_us[i], up && !reachable(m, i), silent_limit_us))
			wrong = "a server that does not answer is taken for up";
		if (lasts(&b->ahead_us[i], replica_ahead(w, m, i), limit_us))
			wrong = "a replica is believed to be further than it is";
		if (went_back(b, &w->fleet.nodes[i], i))
			wrong = "a position went back, and what was read before still counts";
	}
	return primary_ahead(w, m) ? "the primary is believed to be further than it is" : wrong;
}
