/* SPDX-License-Identifier: PostgreSQL */
#include "settle.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "client.h"
#include "local.h"
#include "marks.h"
#include "pending.h"
#include "pool.h"
#include "server.h"
#include "tokens.h"
#include "transaction.h"
#include "unseen.h"
#include "vars_sync.h"
#include "worker.h"

/* ---------------------------------------------------------- whose turn it is */

void settle_begin(struct client *c)
{
	if (c->turn_session)
		sessions_put(&c->worker->sessions, c->turn_session, net_loop_now_us(c->worker->loop));
	c->turn_session = NULL;
	c->turn_mark = c->mark;
}

void settle_end_joined(struct client *c)
{
	struct worker *w = c->worker;
	c->scope_joins = false;
	if (!c->tx_sessions)
		return;
	for (int i = 0; i < c->tx_sessions->count; i++)
		sessions_put(&w->sessions, c->tx_sessions->it[i], net_loop_now_us(w->loop));
	free(c->tx_sessions);
	c->tx_sessions = NULL;
}

bool settle_join_session(struct client *c, struct session *it)
{
	if (!it || (!c->tx_sessions && !(c->tx_sessions = calloc(1, sizeof(*c->tx_sessions)))))
		return false;
	struct tx_sessions *all = c->tx_sessions;
	bool known = it == c->turn_session;
	for (int i = 0; i < all->count; i++)
		known |= all->it[i] == it;
	if (known || all->count == TX_SESSIONS_MAX)
		return known;
	it->refs++;
	all->it[all->count++] = it;
	return true;
}

/* ------------------------------------------------------------ what it meant */

static struct position corrected(const struct worker *w, int node, struct position at)
{
	const struct watch_facts *facts = watch_facts(w->watch, node);
	return position_without_page_header(at, facts->wal_block_size, facts->wal_segment_size);
}

/* What a turn means for one session. `at` is the position of its commit, NULL if it is not known.
 */
static void settle_one(struct session_mark *mark, const struct server *s, bool trusted, bool wrote,
                       const struct position *at, int64_t now)
{
	const struct fleet *f = &s->worker->fleet;
	/* Another incarnation of a replica may have replayed less than what was read here. */
	if (s->on_replica && !trusted)
		session_read(mark, f, NODE_NONE, now);
	else if (s->observed && s->worker->observing && !wrote)
		session_observed_read(mark, f, at, s->capture_asked_us, now);
	else if (at && !wrote)
		session_read_at(mark, f, s->pool->node, *at, s->capture_asked_us, now);
	else if (s->on_replica)
		session_read(mark, f, s->pool->node, now);
	else if (wrote && at)
		session_wrote(mark, f, *at, s->capture_asked_us, now);
	else if (wrote)
		session_wrote_unknown(mark, f, now);
	else
		session_read(mark, f, s->pool->node, now);
}

static void settle_mark(struct client *c, struct server *s, bool wrote, bool ran,
                        const struct position *captured)
{
	struct worker *w = c->worker;
	if (!wrote && !ran && !s->on_replica)
		return;
	int64_t now = net_now_us();
	bool trusted = server_trusted(s);
	bool from_primary = !s->on_replica && trusted && server_is_primary(s);
	struct position at = {0};
	/* A position of a server that is no longer the primary says nothing about the one that is. */
	if (!from_primary && !(s->on_replica && trusted))
		captured = NULL;
	if (captured && s->on_replica) {
		at = *captured;
	} else if (captured) {
		at = corrected(w, s->pool->node, *captured);
		fleet_primary_reached(&w->fleet, at, now);
		if (wrote)
			c->own_write = position_max(c->own_write, at);
	}
	/* What the primary shows is past whatever a refused token asked for, or another router stored:
	 * it is in the mark now, or owed. */
	if (from_primary && c->turn_mark == c->mark) {
		c->token_doubted = false;
		c->mark_whole = true;
	}
	captured = captured ? &at : NULL;
	w->stats.captures += wrote && captured;
	w->stats.writes_uncaptured += wrote && !captured;
	settle_one(c->turn_mark, s, trusted, wrote, captured, now);
	for (int i = 0; c->tx_sessions && i < c->tx_sessions->count; i++)
		settle_one(&c->tx_sessions->it[i]->mark, s, trusted, wrote, captured, now);
	if (c->scope_joins)
		settle_one(c->mark, s, trusted, wrote, captured, now);
}

/* It concerns the database on the servers, whatever names clients know it by. */
static void ddl_done(struct client *c)
{
	list_for_each(it, &c->worker->databases)
	{
		struct database *db = container_of(it, struct database, link);
		if (strcmp(db->dbname, c->account->database->dbname) != 0)
			continue;
		catalog_invalidate(db->catalog);
		db->ddl_at_us = net_loop_now_us(c->worker->loop);
		if (db->catalog_state != CATALOG_WANTED || db->ddl_began_us == 0)
			db->ddl_began_us = db->ddl_at_us;
		db->catalog_state = CATALOG_WANTED;
		db->ddl_count++;
	}
}

/* Asynchronous replication lost what the session had been told was done: it is told so, once. */
static void tell_loss(struct client *c, struct buf *out)
{
	struct worker *w = c->worker;
	struct position survived, wrote;
	char from[POSITION_TEXT_MAX], to[POSITION_TEXT_MAX], text[256];
	bool lost = session_lost(c->mark, &w->fleet, &survived, &wrote) &&
	            w->settings->policy.fault != FAULT_LOSS_UNTOLD;
	if (c->options && c->options->report && (lost || c->options->told_lost)) {
		write_parameter_status(out, slice_str("tidemark.lost"), slice_str(lost ? "on" : "off"));
		c->options->told_lost = lost;
	}
	if (!lost)
		return;
	position_format(survived, from);
	position_format(wrote, to);
	w->stats.sessions_lost++;
	log_warn(
		"session=%s database=%s: writes between %s and %s of timeline %u may be lost: "
		"node=%s became primary without them",
		c->session ? c->session->name : "", c->account->database->name, from, to,
		w->fleet.branch_before.timeline, w->fleet.nodes[w->fleet.primary].name);
	snprintf(
		text, sizeof(text),
		"writes of this session may have been lost in a failover: it had written up to %s, and "
		"replication had come to %s",
		to, from);
	write_error(out, "NOTICE", "01000", text,
	            "Asynchronous replication does not keep what the new primary had not received.");
}

static void tell(struct client *c, uint8_t tx, struct chain *ch)
{
	struct buf b;
	buf_init(&b, 2048);
	if (tx == TX_IDLE)
		tell_loss(c, &b);
	tokens_report(c, &b);
	if (b.len > 0)
		chain_copy(ch, b.data, b.len);
	buf_release(&b);
}

static void forget_deallocates(struct client *c)
{
	while (c->deallocates) {
		struct pending_name *first = c->deallocates;
		c->deallocates = first->next;
		free(first);
	}
}

void settle_ready(struct client *c, struct server *s, uint8_t bits, uint8_t tx,
                  const struct position *captured, struct chain *ch)
{
	bool wrote = bits & TURN_WROTE || (c->tx_wrote && !s->rolled_back);
	bool ddl = bits & TURN_DDL || c->tx_ddl;
	struct database_stats *st = &c->account->database->stats;
	st->query_time_us += (uint64_t)(net_loop_now_us(c->worker->loop) - c->query_started_us);
	if (tx == TX_IDLE) {
		settle_mark(c, s, wrote, bits & TURN_RAN, captured);
		if (ddl)
			ddl_done(c);
		if (!marks_publish(c) || !marks_await_sample(c))
			settle_end_joined(c);
		c->tx_wrote = false;
		c->tx_ddl = false;
		st->xact_count++;
	} else {
		/* What a transaction reads is seen before it ends. */
		settle_mark(c, s, false, bits & TURN_RAN, NULL);
		c->tx_wrote |= (bits & TURN_WROTE) != 0;
		c->tx_ddl |= (bits & TURN_DDL) != 0;
	}
	if (c->pending_sets)
		vars_sync_adopt(c, s, tx);
	if (c->sets_asked)
		c->sets_asked = pending_asked_by(&s->replies);
	forget_deallocates(c);
	transaction_ready(c, s, tx);
	if (tx != TX_FAILED)
		c->turn_error = false;
	/* ROLLBACK TO SAVEPOINT says the same, and ends nothing. */
	if (tx == TX_OPEN)
		s->rolled_back = false;

	/* Nearly nobody: it is a hot path. */
	if (c->options || position_is_set(c->mark->cut))
		tell(c, tx, ch);
}

void settle_rest(struct server *s)
{
	struct client *c = s->client;
	if (!c) {
		if (s->unseen)
			unseen_ask(s);
		else
			server_release(s);
		return;
	}
	int64_t took = net_loop_now_us(c->worker->loop) - c->turn_started_us;
	c->account->database->stats.xact_time_us += (uint64_t)took;
	c->sent_wrote = false;
	c->batch_failed = false;
	if (c->tx_sets || s->unseen == UNSEEN_ANY)
		s->unnamed_by = 0; /* it was read by settings that are gone */
	c->tx_sets = false;
	c->rerun = RERUN_NONE;
	c->tried = 0;
	s->rolled_back = false;
	s->observed = false;
	pool_dismiss(c);
	if (c->bound && c->bound != BIND_UNSEEN && !s->on_replica)
		return;
	/* Nobody can be bound to a replica: what it was to be bound for goes with the connection. */
	if (c->bound && c->bound != BIND_UNSEEN) {
		s->close_after = true;
		client_unbind(c);
	}
	/* In the middle of a message of a COPY that failed: the server still waits for the rest of it.
	 */
	if (s->mid_batch || (c->skip > 0 && !c->skip_drop))
		return;
	if (s->unseen) {
		unseen_ask(s);
		return;
	}
	c->server = NULL;
	server_release(s);
}

void settle_refusal(struct client *c, struct slice unit)
{
	struct stmt_cache *cache = c->account->database->cache;
	struct frame f;
	struct slice text;
	while (frame_peek(unit, &f) == PARSE_OK && frame_complete(&f, unit)) {
		struct msg_parse p;
		struct msg_bind b;
		if (f.type == FE_QUERY && msg_query_parse(frame_body(&f), &text)) {
			stmt_cache_refuse(cache, text);
		} else if (f.type == FE_PARSE && msg_parse_parse(frame_body(&f), &p)) {
			stmt_cache_refuse(cache, p.query);
		} else if (f.type == FE_BIND && msg_bind_parse(frame_body(&f), &b)) {
			struct stmt *st =
				b.statement.len ? client_stmts_find(&c->stmts, b.statement) : c->unnamed;
			if (st)
				stmt_cache_refuse(cache, slice_of(st->text, st->text_len));
		}
		unit = slice_from(unit, frame_size(&f));
	}
}

void settle_deallocated(struct client *c)
{
	struct pending_name *first = c->deallocates;
	if (!first)
		return;
	c->deallocates = first->next;
	struct stmt *stmt = client_stmts_remove(&c->stmts, slice_str(first->name));
	if (stmt)
		stmt_put(c->account->database->cache, stmt);
	free(first);
}

void settle_deallocated_all(struct client *c, struct server *s)
{
	struct stmt_cache *cache = c->account->database->cache;
	client_stmts_clear(&c->stmts, cache);
	server_stmts_clear(&s->stmts, cache);
	s->capture_prepared = s->guard_prepared = false;
	s->unseen_prepared = 0;
}

void settle_discarded_all(struct client *c, struct server *s)
{
	settle_deallocated_all(c, s);
	pending_forget(c);
	client_reset_options(c);
	c->tell_params |= c->startup_vars->count > 0;
	client_set_vars(c, vars_ref(c->startup_vars));
	vars_put(&c->worker->vars, s->vars);
	s->vars = vars_ref(c->worker->vars.none);
	s->sequence_user = s->sets_user = 0;
	client_unbind(c);
}

void settle_unknown(struct client *c)
{
	const struct fleet *f = &c->worker->fleet;
	int64_t now = net_now_us();
	session_wrote_unknown(c->turn_mark, f, now);
	for (int i = 0; c->tx_sessions && i < c->tx_sessions->count; i++)
		session_wrote_unknown(&c->tx_sessions->it[i]->mark, f, now);
	if (c->scope_joins)
		session_wrote_unknown(c->mark, f, now);
}

void settle_server_lost(struct client *c, bool told, bool in_transaction)
{
	struct worker *w = c->worker;
	if (c->state == CLIENT_WAIT_SYNC && !c->bound && !c->pending_sets && !in_transaction) {
		/* Nothing of the client's was sent yet, and nothing of it was kept there. */
		c->state = CLIENT_READY;
		worker_make_runnable(w, c);
		return;
	}
	/* Whatever was in flight may have committed. */
	if (c->sent_wrote || c->tx_wrote || c->batch_bits & TURN_WROTE)
		settle_unknown(c);
	client_unbind(c);
	if (told)
		client_close(c);
	else
		client_fatal(c, "08006", "the server closed the connection unexpectedly",
		             "What was in flight may or may not have been committed.");
}

void settle_release(struct client *c)
{
	struct worker *w = c->worker;
	struct stmt_cache *cache = c->account ? c->account->database->cache : NULL;
	waitlist_remove(&w->waitlist, &c->waiter);
	pool_leave_queue(c);
	pool_dismiss(c);
	if (c->turn_session)
		sessions_put(&w->sessions, c->turn_session, net_loop_now_us(w->loop));
	c->turn_session = NULL;
	settle_end_joined(c);
	free(c->wait_mark);
	c->wait_mark = NULL;
	pending_forget(c);
	forget_deallocates(c);
	if (!cache)
		return;
	client_stmts_clear(&c->stmts, cache);
	if (c->unnamed)
		stmt_put(cache, c->unnamed);
	if (c->local_stmt)
		stmt_put(cache, c->local_stmt);
	c->unnamed = c->local_stmt = NULL;
}
