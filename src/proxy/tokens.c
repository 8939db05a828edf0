/* SPDX-License-Identifier: PostgreSQL */
#include "tokens.h"

#include <stdio.h>
#include <time.h>

#include "client.h"
#include "worker.h"

static uint64_t cluster_id(const struct worker *w)
{
	int node = worker_primary(w);
	return node == NODE_NONE ? 0 : watch_facts(w->watch, node)->system_identifier;
}

static int64_t ttl_s(const struct worker *w)
{
	return w->settings->token_ttl_us / 1000000;
}

/* ------------------------------------------------------------------- taking */

static enum token_verdict judge_branch(const struct fleet *f, const struct token_branch *b)
{
	const struct history_point p = {
		.system = f->history.system, .timeline = b->timeline, .fork = b->fork, .at = b->at};
	switch (fleet_primary_contains(f, &p)) {
	case CONTAINS_YES:
		return TOKEN_OK;
	case CONTAINS_LOST:
	case CONTAINS_DIVERGED:
		return TOKEN_LOST;
	case CONTAINS_NOT_YET:
	case CONTAINS_UNKNOWN:
		break;
	}
	return TOKEN_UNKNOWN;
}

/* What is asked of this cluster: `need` is what its replicas must have reached. */
static enum token_verdict judge(const struct worker *w, const struct token *t,
                                struct position *need)
{
	uint64_t cluster = cluster_id(w) & TOKEN_CLUSTER_MASK;
	bool mine = false;
	if (t->primary)
		return TOKEN_PRIMARY;
	for (int i = 0; i < t->count; i++) {
		const struct token_branch *b = &t->branches[i];
		if (b->cluster != cluster)
			continue;
		mine = true;
		enum token_verdict v = judge_branch(&w->fleet, b);
		if (v != TOKEN_OK)
			return v;
		*need = position_max(*need, b->at);
	}
	return mine || t->count == 0 ? TOKEN_OK : TOKEN_FOREIGN;
}

/* A position beyond all that is known of the primary is no reason to doubt: another router, whose
 * signature it bears, may know more. The wait for it is bounded like any other. */
bool tokens_take(struct client *c, struct session_mark *mark, struct slice session,
                 struct slice text)
{
	struct worker *w = c->worker;
	struct token t;
	struct position need = {0};
	if (text.len == 0)
		return true;
	enum token_verdict v =
		token_verify_list(text, &w->settings->token_keys, session, time(NULL), ttl_s(w), &t);
	if (v == TOKEN_OK)
		v = judge(w, &t, &need);
	w->stats.tokens[v]++;
	if (v == TOKEN_OK)
		session_read_after(mark, &w->fleet, need);
	return v == TOKEN_OK;
}

void tokens_read_after(struct client *c, const char *text)
{
	struct slice session = slice_str(c->session ? c->session->name : "");
	if (text && tokens_take(c, c->mark, session, slice_str(text)))
		return;
	if (!text)
		c->worker->stats.tokens[TOKEN_MALFORMED]++;
	c->token_doubted = true;
}

/* ------------------------------------------------------------------- giving */

void tokens_give(struct client *c, struct token *out)
{
	struct worker *w = c->worker;
	const struct history *h = &w->fleet.history;
	struct position at;
	*out = (struct token){.issued_s = time(NULL)};
	struct session_mark *mark = client_mark(c);
	session_settle(mark, &w->fleet);
	/* What a refused token asked for is not in the mark. */
	bool ignorant = c->session && w->store && !c->mark_whole;
	if (c->token_doubted || ignorant || !session_position(mark, &w->fleet, &at)) {
		out->primary = true;
		return;
	}
	if (!position_is_set(at))
		return;
	if (!h->known) {
		out->primary = true;
		return;
	}
	token_add(out, (struct token_branch){.cluster = cluster_id(w) & TOKEN_CLUSTER_MASK,
	                                     .timeline = h->timeline,
	                                     .fork = history_fork(h),
	                                     .at = at});
}

void tokens_sign(struct client *c, const struct token *t, char out[TOKEN_TEXT_MAX])
{
	const struct settings *s = c->worker->settings;
	bool bind = s->token_binding == TOKEN_BINDING_SESSION && c->session;
	token_sign(t, &s->token_keys, bind ? slice_str(c->session->name) : (struct slice){0}, out);
}

static bool asks_the_same(const struct token *a, const struct token *b)
{
	return a->primary == b->primary && token_covers(a, b) && token_covers(b, a);
}

/* A client that keeps its connection for long, and sees nothing new, still gets a token that will
 * be accepted for half of its time; and one that is not of the future, if the clock was put back.
 */
static bool getting_old(const struct worker *w, const struct token *told, const struct token *now)
{
	int64_t age_s = now->issued_s - told->issued_s;
	return age_s < 0 || (ttl_s(w) > 0 && age_s > ttl_s(w) / 2);
}

void tokens_report(struct client *c, struct buf *out)
{
	struct client_options *o = c->options;
	char text[TOKEN_TEXT_MAX] = "";
	struct token now = {0};
	if (!o || (!o->report && !o->told_token))
		return;
	if (o->report)
		tokens_give(c, &now);
	bool say = o->report != o->told_token || !asks_the_same(&now, &o->told) ||
	           o->told_session != c->session || getting_old(c->worker, &o->told, &now);
	if (!say)
		return;
	if (o->report)
		tokens_sign(c, &now, text);
	o->told = now;
	o->told_token = o->report;
	o->told_session = c->session;
	write_parameter_status(out, slice_str("tidemark.token"), slice_str(text));
}
