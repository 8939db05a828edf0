/* SPDX-License-Identifier: PostgreSQL */
#include "turn.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "client.h"
#include "forward.h"
#include "local.h"
#include "local_batch.h"
#include "marks.h"
#include "observe.h"
#include "open_names.h"
#include "operate.h"
#include "pool.h"
#include "relay.h"
#include "server.h"
#include "settle.h"
#include "sql/tags.h"
#include "tokens.h"
#include "transaction.h"
#include "unit.h"
#include "unseen.h"
#include "worker.h"

#define TOKEN_WAIT_US 1000000

/* ------------------------------------------------------- refusing, locally */

static void say_ready(struct client *c)
{
	const uint8_t ready[] = {BE_READY, 0, 0, 0, 5, transaction_status(c)};
	client_say(c, ready, sizeof(ready));
}

/* Answers the unit with an error, as the server would: the connection stays. */
static void refuse_unit(struct client *c, const struct unit *u, const char *sqlstate,
                        const char *message, const char *hint)
{
	struct buf b;
	buf_init(&b, 4096);
	write_error(&b, "ERROR", sqlstate, message, hint);
	client_say(c, b.data, b.len);
	buf_release(&b);
	transaction_refused(c);
	if (u->ends)
		say_ready(c);
	else
		c->to_sync = true;
	c->skip = u->rest;
	c->skip_drop = true;
	c->batch_bits = 0;
	pool_dismiss(c);
	c->rerun = RERUN_NONE;
	c->tried = 0;
}

/* ----------------------------------------------------------------- routing */

/* The statement goes its way, or nowhere: what was kept for it is not for the next one. */
static void end_wait(struct client *c)
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
	c->guard_missed = false;
	c->turn_queued_at_us = 0;
	c->no_primary_since_us = 0;
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

/* A session tagged where the way is decided already: inside a transaction, or by a bound client.
 * What commits is that session's write too. False: too many of them. */
static bool join_tagged(struct client *c, const struct unit *u)
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

void turn_guard_missed(struct client *c)
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

void turn_guard_held(struct client *c)
{
	struct stats *st = &c->worker->stats;
	st->by_reason[REASON_REPLICA_CAUGHT_UP]++;
	st->reads_total++;
	st->reads_replica++;
	/* The replica was behind the mark as far as was known. */
	st->discriminating++;
}

enum dispatch { DISPATCH_GO, DISPATCH_WAIT, DISPATCH_REFUSED };

static enum dispatch refused(struct client *c, const struct unit *u, const char *sqlstate,
                             const char *message, const char *hint)
{
	refuse_unit(c, u, sqlstate, message, hint);
	return DISPATCH_REFUSED;
}

/* Must what others' sequences came to be gone, since currval() may be asked behind it? */
static bool sequences_matter(const struct client *c, const struct unit *u)
{
	uint32_t flags = u->traits.flags;
	bool advances = flags & (TRAIT_MAY_WRITE | TRAIT_TX_BEGIN) || c->hold == HOLD_HELD;
	return flags & TRAIT_BINDS || (advances && c->account->asks_sequences);
}

/* A server that has the client's settings; or the client waits for that. */
static enum dispatch with_settings(struct client *c, struct server *s, const struct unit *u)
{
	bool sequences = sequences_matter(c, u);
	if (server_suits(s, c, sequences))
		return DISPATCH_GO;
	c->state = CLIENT_WAIT_SYNC;
	if (!server_sync(s, c, sequences))
		server_close(s, "settings could not be sent");
	return DISPATCH_WAIT;
}

/* False: the client waits until RESET has come to what it began with. */
static bool restored(struct client *c, struct server *s)
{
	if (s->replies.count > 0 || s->mid_batch || (!c->pending_sets && s->vars == c->vars))
		return true;
	switch (server_restore(s, c)) {
	case RESTORE_NOTHING:
		return true;
	case RESTORE_FAILED:
		server_close(s, "settings could not be sent");
		return false;
	case RESTORE_ASKED:
		c->state = CLIENT_WAIT_SYNC;
		return false;
	}
	return true;
}

/* currval() in a transaction that has only read so far, or of a client that is bound already, where
 * others have advanced sequences. Once the client itself may have, what it asks for is most likely
 * its own, and cannot be told apart. */
static bool sequences_are_foreign(const struct client *c, const struct server *s,
                                  const struct unit *u)
{
	uint64_t by = s->sequence_user;
	if (u->traits.binds != BIND_SEQUENCE || s->on_replica || by == 0 || by == c->serial)
		return false;
	return !c->tx_wrote && !c->sent_wrote && (by != UINT64_MAX || !c->bound);
}

/* False: the client waits until they are taken away. */
static bool clean_of_sequences(struct client *c, struct server *s, const struct unit *u)
{
	if (!sequences_are_foreign(c, s, u) || s->replies.count > 0 || s->replies.tx == TX_FAILED)
		return true;
	c->state = CLIENT_WAIT_SYNC;
	if (!server_discard_sequences(s))
		server_close(s, "settings could not be sent");
	return false;
}

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

/* Finds the server for a unit of a client that has none. */
static enum dispatch dispatch(struct client *c, const struct unit *u)
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
	end_wait(c);
	count_route(c, u, &r);
	c->waited_for_others = false;
	if (d == DISPATCH_REFUSED)
		return d;
	c->turn_started_us = net_loop_now_us(w->loop);
	return with_settings(c, c->server, u);
}

/* --------------------------------------------------------- client to server */

/* Before a token is told: what other routers know of the session, and a position for what is owed.
 * False: the client waits for them. */
static bool look_mark_up(struct client *c, const struct unit *u)
{
	int64_t now = net_loop_now_us(c->worker->loop);
	if (!local_tells_token(u->text))
		return true;
	if (c->session && marks_ask(c, c->session) == MARKS_ASKED) {
		c->state = CLIENT_WAIT_STORE;
		return false;
	}
	int64_t until = (c->waiting_since_us ? c->waiting_since_us : now) + TOKEN_WAIT_US;
	struct route r = {.sample_after_us = now, .wait_until_us = until};
	bool waits = local_needs_sample(c) && now < until && start_wait(c, &r, c->mark);
	/* One that waits for a server next still needs what was asked. */
	if (!waits && (u->type == FE_QUERY || c->server))
		marks_forget(c);
	return !waits;
}

/* A token that was taken is known to the other routers before the client goes on. */
static void share_raised_mark(struct client *c)
{
	settle_begin(c);
	if (!marks_publish(c)) {
		say_ready(c);
		return;
	}
	const uint8_t ready[] = {BE_READY, 0, 0, 0, 5, TX_IDLE};
	if (!buf_append(&c->late, ready, sizeof(ready)))
		client_fatal(c, "53200", "out of memory", NULL);
}

/* One text or batch that needs no server; all answers but ReadyForQuery. */
static void run_locally(struct client *c, struct slice in, const struct unit *u, struct buf *out)
{
	if (u->type == FE_SYNC) {
		local_batch_run(c, in, u, out);
	} else if (u->begin || u->traits.flags & TRAIT_TX_PLAIN_END) {
		client_drop_unnamed(c);
		write_command_complete(out, transaction_control(c, u->traits));
	} else if (transaction_status(c) == TX_FAILED) {
		transaction_write_failed(out);
	} else {
		client_drop_unnamed(c);
		local_execute(c, u->text, true, out);
	}
}

/* Statements of the router's own. False: it waits first. */
static bool answer_locally(struct client *c, struct slice in, const struct unit *u)
{
	if (!look_mark_up(c, u))
		return false;
	const struct session_mark *mark = c->mark;
	struct position before = session_known(mark);
	struct buf b;
	buf_init(&b, 8192);
	run_locally(c, in, u, &b);
	c->waiting_since_us = 0;
	tokens_report(c, &b);
	client_say(c, b.data, b.len);
	buf_release(&b);
	bool raised = c->mark == mark && !position_reached(before, mark->brought);
	if (raised && transaction_status(c) == TX_IDLE)
		share_raised_mark(c);
	else
		say_ready(c);
	return true;
}

static bool apply_inside(struct client *c, const struct unit *u)
{
	struct local_error e;
	if (!(u->traits.flags & TRAIT_ROUTER_INSIDE) || local_apply_inside(c, u->text, &e))
		return true;
	refuse_unit(c, u, e.sqlstate, e.message, NULL);
	return false;
}

/* Needs no server, or, if attached to one, waits for none of its answers. */
static bool is_local(struct client *c, struct slice in, const struct unit *u)
{
	if (u->type == FE_QUERY && u->local_only)
		return true;
	if (c->server)
		return false;
	return u->type == FE_QUERY ? transaction_controls(c->hold, u->traits) >= 0
	                           : local_batch_is(c, in, u);
}

static bool names_session(const struct client *c, const struct unit *u)
{
	struct tags t;
	if (!(u->traits.flags & TRAIT_COMMENTED) || !c->worker->settings->query_tags)
		return false;
	tags_parse(u->text, &t);
	return t.present && t.session[0];
}

/* May more be sent to the server the client has, before what was sent is answered? On a replica one
 * unit at a time: it may have to be run again elsewhere. */
static bool accepts(const struct client *c, const struct server *s, struct slice in,
                    const struct unit *u)
{
	if (s->state != SERVER_ACTIVE)
		return false;
	if (s->replies.count == 0)
		return true;
	if (s->on_replica || s->observed)
		return false;
	if (sequences_are_foreign(c, s, u) && !s->mid_batch)
		return false;
	if (names_are_open(c, s, in, u))
		return false;
	/* The rest of a batch: what was sent of it may not be answered before its Sync. */
	if (s->mid_batch && u->type == FE_SYNC)
		return true;
	/* What the answer changes, the next statement has to find changed. */
	if (u->traits.flags & (TRAIT_SETS | TRAIT_ROUTER_INSIDE) || c->pending_sets || u->local_only ||
	    s->barrier)
		return false;
	/* Each answer is written to the session of its own statement, and its mark stored, before the
	 * next one. */
	return !marks_shared(c) && !c->turn_session && !c->tx_sessions && !names_session(c, u);
}

/* Keeps the bytes of a read on a replica, so that it can be run again elsewhere. */
static void keep_for_rerun(struct server *s, struct slice in, const struct unit *u)
{
	if (!s->on_replica)
		return;
	buf_reset(&s->replay);
	s->reading = false;
	if (s->pinned && s->replies.tx != TX_IDLE)
		return;
	s->reading = buf_append(&s->replay, in.ptr, u->size);
	s->many = u->executes > 1 || u->traits.flags & TRAIT_MULTI;
}

/* What the server said at the RESET was its own idea of the start; the client's has been replayed
 * since. */
static void tell_params(struct client *c, const struct server *s)
{
	if (s->vars != c->vars)
		return;
	struct buf b;
	buf_init(&b, READ_CHUNK);
	params_write(s, &b);
	c->tell_params = false;
	client_say(c, b.data, b.len);
	buf_release(&b);
}

/* Returns false if the client is gone. */
static bool send_unit(struct client *c, struct slice in, struct unit *u)
{
	struct server *s = c->server;
	struct chain ch;
	const char *why = NULL;
	if (c->tell_params && s->replies.count == 0) {
		tell_params(c, s);
		if (c->state == CLIENT_DEAD)
			return false;
	}
	if (s->replies.count == 0)
		c->query_started_us = net_loop_now_us(c->worker->loop);
	chain_init(&ch, s->stream, &s->out);
	keep_for_rerun(s, in, u);
	transaction_sent(c, s, u);
	if (u->traits.flags & TRAIT_MAY_WRITE && !s->on_replica && s->sequence_user != c->serial)
		s->sequence_user = s->sequence_user == 0 ? c->serial : UINT64_MAX;
	c->tx_sets |= s->unseen == UNSEEN_ANY;
	unseen_note(s, c->serial, u->traits, u->text);
	bool ok = forward_unit(c, s, in, u, &ch, &why);
	if (ok)
		chain_flush(&ch);
	if (!ok) {
		c->worker->stats.client_errors++;
		client_fatal(c, "08P01", why, NULL);
		return false;
	}
	if (ch.failed) {
		server_close(s, "the server closed the connection");
		return c->state != CLIENT_DEAD;
	}
	c->account->database->stats.query_count++;
	if (u->open)
		relay_local_answers(s);
	return c->state != CLIENT_DEAD;
}

static size_t pass_through(struct client *c, struct slice in)
{
	size_t n = c->skip < in.len ? (size_t)c->skip : in.len;
	struct server *s = c->server;
	if (!c->skip_drop && s && s->out.len > 0)
		return 0; /* the server does not keep up */
	c->skip -= n;
	if (c->skip_drop || !s)
		return n;
	struct chain ch;
	chain_init(&ch, s->stream, &s->out);
	chain_range(&ch, in.ptr, n);
	chain_flush(&ch);
	if (ch.failed)
		server_close(s, "the server closed the connection");
	else if (c->skip == 0 && s->state == SERVER_ACTIVE && replies_at_rest(&s->replies))
		settle_rest(s);
	return n;
}

/* What waits for the answers of a batch that has no Sync yet would wait for ever. */
static void ask_for_answers(struct client *c)
{
	struct server *s = c->server;
	struct chain ch;
	chain_init(&ch, s->stream, &s->out);
	forward_flush(s, &ch);
	chain_flush(&ch);
	if (ch.failed)
		server_close(s, "the server closed the connection");
}

/* COPY messages are the server's affair; without a COPY under way they are the rest of one that
 * failed, and are dropped as the server drops them. */
static size_t copy_message(struct client *c, const struct frame *f, struct slice in)
{
	struct server *s = c->server;
	if (!s || s->state != SERVER_ACTIVE || s->replies.count == 0) {
		size_t here = frame_complete(f, in) ? frame_size(f) : in.len;
		c->skip = frame_size(f) - here;
		c->skip_drop = true;
		return here;
	}
	struct chain ch;
	chain_init(&ch, s->stream, &s->out);
	size_t here = forward_copy(c, s, f, in, &ch);
	chain_flush(&ch);
	if (ch.failed)
		server_close(s, "the server closed the connection");
	return here;
}

static bool is_copy(const struct client *c, uint8_t type)
{
	if (type == FE_COPY_DATA || type == FE_COPY_DONE || type == FE_COPY_FAIL)
		return true;
	const struct server *s = c->server;
	return type == FE_FLUSH && s && s->replies.copy == COPY_IN;
}

/* After an error of ours in a batch: nothing counts until Sync. */
static size_t skip_to_sync(struct client *c, const struct frame *f, struct slice in)
{
	size_t here = frame_complete(f, in) ? frame_size(f) : in.len;
	c->skip = frame_size(f) - here;
	c->skip_drop = true;
	if (f->type == FE_SYNC) {
		c->to_sync = false;
		say_ready(c);
	}
	return here;
}

/* What came before it is answered first; nothing behind it counts. */
static size_t protocol_error(struct client *c, struct slice in, const char *message)
{
	c->worker->stats.client_errors++;
	client_end(c, message);
	return in.len;
}

/* Named so that a Parse of any size can be held: only its text makes it a statement. */
static bool too_large(const struct client *c, const struct frame *f)
{
	bool held = f->type == FE_PARSE || f->type == FE_DESCRIBE || f->type == FE_EXECUTE ||
	            f->type == FE_CLOSE || f->type == FE_SYNC || f->type == FE_FLUSH;
	return held && f->body_len > c->worker->settings->max_packet_size;
}

/* It was cancelled, or has waited too long. */
static void refuse_waiting(struct client *c, const struct unit *u)
{
	bool cancelled = c->cancelled;
	enum timeout timeout = c->timed_out;
	c->cancelled = false;
	c->timed_out = TIMEOUT_NONE;
	end_wait(c);
	if (cancelled)
		refuse_unit(c, u, "57014", "canceling statement due to user request", NULL);
	else if (timeout == TIMEOUT_HELD)
		refuse_unit(c, u, "53300",
		            "no replica was fit for this read, and no place on the primary came free within "
		            "query_wait_timeout",
		            "SHOW FLEET on database tidemark tells why; fallback_pool_share is the limit.");
	else
		refuse_unit(c, u, "53300", "no server connection came free within query_wait_timeout",
		            "Raise default_pool_size, or shorten transactions.");
}

/* The next statement of a client that has a server. Of a transaction on a replica it may be the
 * last one there: then the client has none. False: refused. */
static bool goes_on(struct client *c, const struct unit *u)
{
	struct server *s = c->server;
	if (!s->on_replica || s->replies.tx == TX_IDLE)
		return true;
	struct route r = {.target = ROUTE_REPLICA, .reason = REASON_REPLICA_TRANSACTION};
	switch (transaction_next(c, u)) {
	case TRANSACTION_STAYS:
		count_route(c, u, &r);
		break;
	case TRANSACTION_ASKS:
		r = decide(c, u);
		if (r.target == ROUTE_REPLICA && r.node == s->pool->node) {
			end_wait(c);
			count_route(c, u, &r);
			break;
		}
		transaction_leave(c);
		break;
	case TRANSACTION_MOVES:
		c->worker->stats.transactions_moved++;
		transaction_leave(c);
		break;
	case TRANSACTION_FAILS:
		transaction_leave(c);
		refuse_unit(c, u, "0A000",
		            u->beyond ? "nothing may follow the end of a READ ONLY transaction that runs on a "
		                        "replica in the same message or batch"
		                      : "session state cannot be made in a READ ONLY transaction that runs on a "
		                        "replica",
		            "Send it by itself outside the transaction, or in one that is not READ ONLY.");
		return false;
	}
	return true;
}

/* One unit, or one message that needs no judgement. 0: cannot go on now. */
static size_t step(struct client *c, struct slice in)
{
	struct frame f;
	enum parse_result r = frame_peek(in, &f);
	if (r == PARSE_PARTIAL) {
		c->wants_more = true;
		return 0;
	}
	if (r == PARSE_INVALID)
		return protocol_error(c, in, "invalid message length");
	if (f.type == FE_TERMINATE) {
		client_end(c, NULL);
		return in.len;
	}
	if (c->to_sync)
		return skip_to_sync(c, &f, in);
	if (c->server && (c->server->out.len > 0 || c->server->replies.count > REPLIES_MAX / 2))
		return 0;
	if (is_copy(c, f.type))
		return copy_message(c, &f, in);
	if (too_large(c, &f)) {
		client_fatal(c, "54000", "message is larger than max_packet_size",
		             "Raise max_packet_size in the router's configuration.");
		return 0;
	}

	struct unit u;
	size_t used = 0;
	r = unit_scan(c, in, c->server && !transaction_may_move(c), &u);
	if (r == PARSE_INVALID) {
		unit_release(c, &u);
		return protocol_error(c, in, "invalid or unexpected message");
	}
	if (r == PARSE_PARTIAL) {
		c->wants_more = true;
		goto out;
	}
	if (c->server && !accepts(c, c->server, in, &u)) {
		ask_for_answers(c);
		goto out;
	}
	if (c->server && (!restored(c, c->server) || !clean_of_sequences(c, c->server, &u)))
		goto out;
	if (c->cancelled || c->timed_out) {
		refuse_waiting(c, &u);
		used = u.size;
		goto out;
	}
	c->seen_at_us = net_loop_now_us(c->worker->loop);
	c->account->asks_sequences |= u.traits.binds == BIND_SEQUENCE;
	if (is_local(c, in, &u)) {
		if (answer_locally(c, in, &u))
			used = u.size;
		goto out;
	}
	if (c->hold == HOLD_FAILED && u.size > FRAME_HEADER) {
		refuse_unit(c, &u, "25P02",
		            "current transaction is aborted, commands ignored until end of transaction block",
		            NULL);
		used = u.size;
		goto out;
	}
	if (u.local_only && u.statements > 0) {
		if (!look_mark_up(c, &u))
			goto out;
		c->waiting_since_us = 0;
	}
	if (u.type == FE_SYNC && u.ends && u.size == FRAME_HEADER && !c->server) {
		say_ready(c);
		used = u.size;
		goto out;
	}
	if (!apply_inside(c, &u)) {
		end_wait(c);
		used = u.size;
		goto out;
	}
	if (c->server && !goes_on(c, &u)) {
		used = u.size;
		goto out;
	}
	bool attached = c->server != NULL;
	if (!attached) {
		enum dispatch d = dispatch(c, &u);
		if (d == DISPATCH_REFUSED)
			used = u.size;
		if (d != DISPATCH_GO)
			goto out;
	} else if (c->bound && c->server->replies.count == 0 && c->server->replies.tx == TX_IDLE) {
		settle_begin(c);
		c->turn_started_us = net_loop_now_us(c->worker->loop);
		c->last_reason = REASON_BOUND;
		c->worker->stats.by_reason[REASON_BOUND]++;
	} else if (c->server->on_replica) {
		/* goes_on() has counted it. */
	} else if (c->server->replies.tx != TX_IDLE) {
		/* Which of the SETs outlive the savepoint is the server's to know. */
		if (u.traits.flags & TRAIT_TX_PARTIAL && c->pending_sets)
			client_bind(c, BIND_SETTINGS, u.text);
		c->last_reason = REASON_TRANSACTION;
		c->worker->stats.by_reason[REASON_TRANSACTION]++;
	}
	if (attached && !join_tagged(c, &u))
		client_fatal(c, "54000", "too many sessions are tagged in one transaction, or in all",
		             NULL);
	else if (send_unit(c, in, &u))
		used = u.size;
out:
	unit_release(c, &u);
	return used;
}

size_t turn_from_client(struct client *c, struct slice in)
{
	size_t used = 0;
	c->wants_more = false;
	/* A read that has to be run again comes first, and so do answers the client has not taken. */
	while (used < in.len && c->state == CLIENT_READY && c->redo.len == 0 &&
	       c->out.len < READ_CHUNK) {
		struct slice rest = slice_from(in, used);
		size_t n = c->skip > 0 ? pass_through(c, rest) : step(c, rest);
		if (n == 0)
			break;
		used += n;
	}
	return used;
}
