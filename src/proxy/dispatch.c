/* SPDX-License-Identifier: PostgreSQL */
#include "dispatch.h"

#include <stdlib.h>

#include "client.h"
#include "marks.h"
#include "observe.h"
#include "operate.h"
#include "pool.h"
#include "server.h"
#include "settle.h"
#include "sql/tags.h"
#include "tokens.h"
#include "transaction.h"
#include "vars_sync.h"
#include "worker.h"

/* ---------------------------------------------------------------- refusing */

void dispatch_refuse(struct client *c, const struct unit *u, const char *sqlstate,
                     const char *message, const char *hint)
{
	struct buf b;
	buf_init(&b, 4096);
	write_error(&b, "ERROR", sqlstate, message, hint);
	client_say(c, b.data, b.len);
	buf_release(&b);
	transaction_refused(c);
	if (u->ends)
		transaction_say_ready(c);
	else
		c->to_sync = true;
	c->skip = u->rest;
	c->skip_drop = true;
	c->batch_bits = 0;
	pool_dismiss(c);
	c->rerun = RERUN_NONE;
	c->tried = 0;
}

/* ----------------------------------------------------------------- judging */

static void count_wait(struct client *c)
{
	struct worker *w = c->worker;
	int64_t now = net_loop_now_us(w->loop), waited = 0;
	if (c->waiting_since_us > 0) {
		waited = now - c->waiting_since_us;
		hist_record(&w->stats.token_wait, waited);
	}
	if (c->turn_queued_at_us > 0)
		waited += now - c->turn_queued_at_us;
	c->account->database->stats.wait_time_us += (uint64_t)waited;
	c->waiting_since_us = 0;
	c->turn_queued_at_us = 0;
}

/* Most have not waited: it is a hot path. */
void dispatch_end_wait(struct client *c)
{
	if (c->waiting_since_us > 0 || c->turn_queued_at_us > 0)
		count_wait(c);
	c->guard_missed = false;
	c->no_primary_since_us = 0;
	if (c->wait_mark)
		free(c->wait_mark);
	c->wait_mark = NULL;
	marks_forget(c);
}

static struct slice tagged_session(const struct client *c)
{
	const struct session *it = c->turn_session ? c->turn_session : c->session;
	return slice_str(it ? it->name : "");
}

/* The session, level and token this unit names in its tags, over the connection's. REASON_COUNT:
 * they say nothing against a replica. */
static enum route_reason apply_tags(struct client *c, const struct unit *u, struct route_policy *p)
{
	struct worker *w = c->worker;
	struct tags t;
	tags_parse(u->text, &t);
	w->stats.tags_malformed += t.malformed;
	if (!t.present)
		return t.malformed ? REASON_MARK_UNKNOWN : REASON_COUNT;
	if (t.session[0]) {
		c->turn_session = sessions_get(&w->sessions, &w->fleet, c->account->database->shared,
		                               slice_str(t.session), net_now_us());
		if (!c->turn_session)
			return REASON_MARK_UNKNOWN;
		c->turn_mark = &c->turn_session->mark;
	}
	bool level_ok = t.consistency[0] == '\0' || consistency_level_parse(t.consistency, &p->level);
	/* One that waits brought its token when it came. */
	if (t.read_after[0] && c->waiting_since_us == 0 &&
	    !tokens_take(c, c->turn_mark, tagged_session(c), slice_str(t.read_after)))
		return REASON_TOKEN_REFUSED;
	return level_ok && !t.malformed ? REASON_COUNT : REASON_MARK_UNKNOWN;
}

bool dispatch_join_tagged(struct client *c, const struct unit *u)
{
	struct worker *w = c->worker;
	struct tags t;
	if (!(u->traits.flags & TRAIT_COMMENTED) || !w->settings->query_tags)
		return true;
	tags_parse(u->text, &t);
	if (!t.present || !t.session[0])
		return true;
	int64_t now = net_now_us();
	struct session *it = sessions_get(&w->sessions, &w->fleet, c->account->database->shared,
	                                  slice_str(t.session), now);
	bool ok = settle_join_session(c, it);
	sessions_put(&w->sessions, it, now);
	return ok;
}

static struct route to_primary(enum route_reason reason)
{
	return (struct route){.target = ROUTE_PRIMARY, .reason = reason, .node = NODE_NONE};
}

/* What other routers know of the named session. */
static enum marks_answer ask_marks(struct client *c)
{
	struct session *it = c->turn_session ? c->turn_session : c->session;
	return it && c->turn_mark == &it->mark ? marks_ask(c, it) : MARKS_KNOWN;
}

/* The replicas that this client cannot be sent to: the watcher reaches them, and its pool does not. */
static uint32_t unreachable(const struct client *c, int64_t now_us)
{
	uint32_t nodes = 0;
	for (int i = 0; i < c->worker->fleet.count; i++)
		nodes |= (uint32_t)pool_down(&c->account->pools[i], now_us) << i;
	return nodes;
}

/* Of a read that a replica has failed. */
static struct route again(struct route r)
{
	if (r.target == ROUTE_REPLICA)
		r.reason = REASON_REPLICA_RETRIED;
	else if (r.target == ROUTE_PRIMARY)
		r.reason = REASON_RETRIED;
	return r;
}

/* A guarded read may have to be run again, elsewhere: one statement, alone, kept whole, and one try. */
static bool may_guard(const struct client *c, const struct unit *u)
{
	bool first_try = !c->guard_missed && c->rerun == RERUN_NONE && c->waiting_since_us == 0;
	bool alone = c->hold == HOLD_NONE && !u->begin && !transaction_may_move(c);
	/* The guard itself is a prepared statement. */
	bool sees_it = (u->traits.flags & TRAIT_SEES_STATEMENTS) != 0;
	return first_try && alone && !sees_it && !(u->traits.flags & TRAIT_MULTI) && u->executes <= 1 &&
	       u->size <= HOLD_MAX;
}

/* REASON_COUNT: as far as the statements go, a replica may answer. */
static enum route_reason statement_objection(const struct client *c, const struct unit *u)
{
	uint8_t begin = transaction_begins(c, u);
	if (begin)
		return transaction_objection(c, u, begin);
	if (transaction_may_move(c))
		return REASON_COUNT;
	if (!(u->traits.flags & TRAIT_READ))
		return (enum route_reason)u->traits.reason;
	if (c->vars->serializable)
		return REASON_TRANSACTION;
	return u->open ? REASON_PIPELINE : REASON_COUNT;
}

static struct route decide(struct client *c, const struct unit *u)
{
	struct worker *w = c->worker;
	struct route_policy policy = client_policy(c);
	settle_begin(c);
	enum route_reason objection = REASON_COUNT;
	if (u->traits.flags & TRAIT_COMMENTED && w->settings->query_tags)
		objection = apply_tags(c, u, &policy);
	/* The transaction began with its BEGIN, in the session that the connection had. */
	c->scope_joins |= c->hold == HOLD_HELD && c->turn_mark != c->mark;
	if (objection == REASON_COUNT && c->token_doubted && c->turn_mark == c->mark)
		objection = REASON_TOKEN_REFUSED;
	if (c->rerun == RERUN_PRIMARY)
		return to_primary(REASON_RETRIED);
	if (u->statements == 0)
		return to_primary(REASON_PIPELINE);
	enum route_reason first = statement_objection(c, u);
	if (first != REASON_COUNT)
		return to_primary(first);
	if (objection != REASON_COUNT)
		return to_primary(objection);

	if (w->observing)
		return observe_decide(&w->fleet, c->turn_mark, &policy, net_loop_now_us(w->loop));
	if (policy.level == LEVEL_SESSION) {
		switch (ask_marks(c)) {
		case MARKS_KNOWN:
			policy.known_back_us = marks_known_back_us(c);
			break;
		case MARKS_ASKED:
			return (struct route){
				.target = ROUTE_WAIT, .reason = REASON_WAIT_STORE, .node = NODE_NONE};
		case MARKS_DOUBTFUL:
			return to_primary(REASON_STORE_DOUBTFUL);
		}
	} else if (c->turn_mark == c->mark) {
		c->mark_whole = false;
	}
	/* A statement that waits owes what was owed when it came, not what others have written since.
	 */
	struct session_mark *mark =
		c->wait_mark && c->waiting_since_us > 0 ? c->wait_mark : c->turn_mark;
	int64_t now = net_loop_now_us(w->loop);
	session_settle(mark, &w->fleet);
	policy.avoid = c->tried | unreachable(c, now);
	if (may_guard(c, u))
		policy.guard_within_us = w->settings->watch.busy_interval_us;
	struct route r = route_decide(&w->fleet, mark, &policy, c->waiting_since_us, now);
	return c->rerun == RERUN_ELSEWHERE ? again(r) : r;
}

/* Would this connection's own writes have allowed a replica? Then the obstacle is what other
 * connections of the shared session wrote, and naming sessions would gain something. */
static bool held_up_by_others(const struct client *c)
{
	const struct worker *w = c->worker;
	if (c->turn_mark != c->account->database->shared)
		return false;
	int64_t now = net_loop_now_us(w->loop);
	for (int i = 0; i < w->fleet.count; i++) {
		if (fleet_replica_asked(&w->fleet, i, now) &&
		    position_reached(w->fleet.nodes[i].at, c->own_write))
			return true;
	}
	return false;
}

/* Without memory for the copy it waits for the live mark, which asks for more, never for less. */
static void keep_mark(struct client *c, const struct session_mark *mark)
{
	if (!c->wait_mark)
		c->wait_mark = malloc(sizeof(*c->wait_mark));
	if (c->wait_mark)
		*c->wait_mark = *mark;
}

/* Asks at once whom it is worth asking: for a position the replica that is expected first, unless
 * it is expected only later. The fast polling asks all of them. */
static void ask_for(struct worker *w, const struct route *r)
{
	if (r->sample_after_us > 0) {
		for (int i = 0; i < w->fleet.count; i++)
			watch_kick(w->watch, i);
		return;
	}
	int64_t soon_us = 2 * w->settings->watch.busy_interval_us;
	if (r->node != NODE_NONE &&
	    fleet_catch_up_us(&w->fleet, r->node, r->need, net_loop_now_us(w->loop)) <= soon_us)
		watch_kick(w->watch, r->node);
}

static void begin_wait(struct client *c, const struct session_mark *mark, int64_t now_us)
{
	struct stats *st = &c->worker->stats;
	c->waiting_since_us = now_us;
	keep_mark(c, mark);
	st->reads_waited++;
	c->waited_for_others = held_up_by_others(c);
	st->waited_for_others += c->waited_for_others;
}

void dispatch_guard_missed(struct client *c)
{
	c->guard_missed = true;
	begin_wait(c, c->turn_mark, c->turn_started_us);
}

/* False: too many wait already. `mark` is what the statement depends on. */
static bool start_wait(struct client *c, const struct route *r, const struct session_mark *mark)
{
	struct worker *w = c->worker;
	c->waiter.need = r->need;
	c->waiter.sample_after_us = r->sample_after_us;
	c->waiter.deadline_us = r->wait_until_us;
	if (!waitlist_add(&w->waitlist, &c->waiter)) {
		w->stats.waitlist_full++;
		return false;
	}
	if (c->waiting_since_us == 0)
		begin_wait(c, mark, net_loop_now_us(w->loop));
	c->state = CLIENT_WAIT_POSITION;
	ask_for(w, r);
	worker_arm_wait(w);
	return true;
}

/* A plain read, with a BEGIN before it or a COMMIT behind it perhaps. */
static bool is_read(const struct client *c, const struct unit *u)
{
	if (transaction_begins(c, u))
		return statement_objection(c, u) == REASON_COUNT;
	return transaction_may_move(c) ? u->plain && u->reads : u->traits.flags & TRAIT_READ;
}

/* A guarded read counts when its guard held. */
static void count_route(struct client *c, const struct unit *u, const struct route *r)
{
	struct stats *st = &c->worker->stats;
	if (!u->local_only)
		c->last_reason = (uint8_t)r->reason;
	if (r->reason == REASON_REPLICA_CAUGHT_UP) {
		st->guards++;
		return;
	}
	st->by_reason[r->reason]++;
	if (r->reason == REASON_OBSERVED)
		observe_count(c, u, r);
	if (!is_read(c, u))
		return;
	st->reads_total++;
	st->discriminating += r->discriminating;
	if (r->target == ROUTE_REPLICA) {
		st->reads_replica++;
		return;
	}
	st->reads_primary++;
	st->wait_timeouts += r->reason == REASON_WAIT_TIMEOUT;
	if ((r->reason == REASON_WAIT_TIMEOUT || r->reason == REASON_TOO_FAR_BEHIND) &&
	    (c->waited_for_others || held_up_by_others(c)))
		st->primary_for_others++;
}

void dispatch_guard_held(struct client *c)
{
	struct stats *st = &c->worker->stats;
	st->by_reason[REASON_REPLICA_CAUGHT_UP]++;
	st->reads_total++;
	st->reads_replica++;
	/* The replica was behind the mark as far as was known. */
	st->discriminating++;
}

static enum dispatch refused(struct client *c, const struct unit *u, const char *sqlstate,
                             const char *message, const char *hint)
{
	dispatch_refuse(c, u, sqlstate, message, hint);
	return DISPATCH_REFUSED;
}

/* Must what others' sequences came to be gone, since currval() may be asked behind it? */
static bool sequences_matter(const struct client *c, const struct unit *u)
{
	uint32_t flags = u->traits.flags;
	bool advances = flags & (TRAIT_MAY_WRITE | TRAIT_TX_BEGIN) || c->hold == HOLD_HELD;
	return flags & TRAIT_BINDS || (advances && account_asks_sequences(c->account));
}

/* A server that has the client's settings; or the client waits for that. */
static enum dispatch with_settings(struct client *c, struct server *s, const struct unit *u)
{
	bool sequences = sequences_matter(c, u);
	if (vars_sync_suits(s, c, sequences))
		return DISPATCH_GO;
	c->state = CLIENT_WAIT_SYNC;
	if (!vars_sync(s, c, sequences))
		server_close(s, "settings could not be sent");
	return DISPATCH_WAIT;
}

/* ------------------------------------------------------------ finding a server */

/* Nothing of the statement was sent: it may wait for a primary that is restarted, or for the next
 * one, and the application sees a pause. True: it waits. */
static bool wait_for_primary(struct client *c)
{
	struct worker *w = c->worker;
	int64_t now = net_loop_now_us(w->loop);
	if (c->no_primary_since_us == 0)
		c->no_primary_since_us = now;
	if (now - c->no_primary_since_us >= w->settings->failover_timeout_us)
		return false;
	/* query_wait_timeout is for a server of the primary that is to come. */
	c->turn_queued_at_us = 0;
	c->state = CLIENT_WAIT_PRIMARY;
	list_remove(&c->queue);
	list_push_back(&w->await_primary, &c->queue);
	return true;
}

static enum dispatch no_primary(struct client *c, const struct unit *u)
{
	if (wait_for_primary(c))
		return DISPATCH_WAIT;
	return refused(c, u, "08006", "no primary is known: none of the nodes answers as one",
	               "SHOW FLEET on database tidemark tells what the router sees.");
}

/* A read that is there for want of a replica has only its part of the primary's pool. */
static enum pool_answer acquire(struct client *c, const struct unit *u, const struct route *r,
                                struct pool *p, struct server **out)
{
	bool reads = u->traits.flags & TRAIT_READ && !transaction_may_write(c, u);
	if (r->target == ROUTE_PRIMARY && reads && route_is_fallback(r->reason))
		return pool_acquire_fallback(p, c, out);
	pool_dismiss(c);
	return pool_acquire(p, c, out);
}

static enum dispatch pool_full(struct client *c, const struct unit *u, const struct route *r)
{
	if (r->target == ROUTE_PRIMARY && route_is_fallback(r->reason))
		return refused(c, u, "53300",
		               "no replica is fit for this read, and too many others wait for the primary already",
		               "SHOW FLEET on database tidemark tells why; fallback_pool_share and "
		               "max_pool_waiting are the limits.");
	return refused(c, u, "53300", "too many clients wait for a server connection already",
	               "Raise default_pool_size or max_pool_waiting.");
}

/* What is known of the node now is what its answer will be held against. */
static void guard_read(struct server *s, const struct route *r)
{
	const struct fleet *f = &s->worker->fleet;
	s->guard = r->need;
	s->guard_epoch = f->nodes[r->node].epoch;
	s->guard_generation = f->generation;
}

static enum dispatch take_server(struct client *c, const struct unit *u, struct route *r)
{
	struct worker *w = c->worker;
	struct server *s = NULL;
	struct pool *p = &c->account->pools[r->node];
	c->wants_unused = (u->traits.flags & TRAIT_NEW_PROCESS) != 0;
	enum pool_answer answer = acquire(c, u, r, p, &s);
	switch (answer) {
	case POOL_TAKEN:
		break;
	case POOL_QUEUED:
		c->state = CLIENT_WAIT_SERVER;
		if (c->turn_queued_at_us == 0)
			c->turn_queued_at_us = net_loop_now_us(w->loop);
		return DISPATCH_WAIT;
	case POOL_FULL:
		return pool_full(c, u, r);
	case POOL_DOWN:
		if (pool_unreachable(p) && wait_for_primary(c))
			return DISPATCH_WAIT;
		return refused(c, u, p->sqlstate, p->error,
		               p->hint[0] ? p->hint : "The router will try again; so may you.");
	}
	server_attach(s, c);
	s->on_replica = r->target == ROUTE_REPLICA;
	s->observed = r->reason == REASON_OBSERVED;
	if (s->on_replica && w->settings->policy.fault == FAULT_GUARD_AFTER)
		s->guard_after = r->need;
	else if (s->on_replica)
		guard_read(s, r);
	/* SHOW tidemark.route does not speak of itself. */
	if (!u->local_only)
		c->last_node = (int8_t)r->node;
	return DISPATCH_GO;
}

enum dispatch dispatch_unit(struct client *c, const struct unit *u)
{
	struct worker *w = c->worker;
	if (operate_hold(c))
		return DISPATCH_WAIT;
	struct route r = decide(c, u);
	if (r.reason == REASON_WAIT_STORE) {
		c->state = CLIENT_WAIT_STORE;
		return DISPATCH_WAIT;
	}
	if (r.target == ROUTE_WAIT) {
		if (start_wait(c, &r, c->turn_mark))
			return DISPATCH_WAIT;
		r = to_primary(REASON_WAIT_TIMEOUT);
	}
	if (r.target == ROUTE_PRIMARY)
		r.node = worker_primary(w);
	enum dispatch d = r.node == NODE_NONE ? no_primary(c, u) : take_server(c, u, &r);
	if (d == DISPATCH_WAIT)
		return d;
	dispatch_end_wait(c);
	count_route(c, u, &r);
	c->waited_for_others = false;
	if (d == DISPATCH_REFUSED)
		return d;
	c->turn_started_us = net_loop_now_us(w->loop);
	return with_settings(c, c->server, u);
}

void dispatch_goes_on(struct client *c, const struct unit *u)
{
	struct route r = {.target = ROUTE_REPLICA, .reason = REASON_REPLICA_TRANSACTION};
	count_route(c, u, &r);
}

bool dispatch_stays(struct client *c, const struct unit *u)
{
	struct route r = decide(c, u);
	if (r.target != ROUTE_REPLICA || r.node != c->server->pool->node)
		return false;
	dispatch_end_wait(c);
	count_route(c, u, &r);
	return true;
}

bool dispatch_wait_for_sample(struct client *c, int64_t until_us)
{
	int64_t now = net_loop_now_us(c->worker->loop);
	struct route r = {.sample_after_us = now, .wait_until_us = until_us};
	return start_wait(c, &r, c->mark);
}
