/* SPDX-License-Identifier: PostgreSQL */
#include "operate.h"

#include "base/log.h"
#include "client.h"
#include "pool.h"
#include "server.h"
#include "worker.h"

bool database_paused(const struct database *db)
{
	return db->paused || db->worker->paused;
}

/* Calls fn for every pool of the database, or of all. */
static void each_pool_of(struct worker *w, struct database *only, void (*fn)(struct pool *p))
{
	list_for_each(d, &w->databases)
	{
		struct database *db = container_of(d, struct database, link);
		if (only && db != only)
			continue;
		list_for_each(a, &db->accounts)
		{
			struct account *acc = container_of(a, struct account, link);
			for (int i = 0; i < w->fleet.count; i++)
				fn(&acc->pools[i]);
		}
	}
}

/* ---- holding ---- */

bool operate_hold(struct client *c)
{
	struct worker *w = c->worker;
	if (!database_paused(c->account->database))
		return false;
	c->state = CLIENT_WAIT_SERVER;
	if (c->turn_queued_at_us == 0)
		c->turn_queued_at_us = net_loop_now_us(w->loop);
	list_remove(&c->queue);
	list_push_back(&w->await_resume, &c->queue);
	c->in_pause = true;
	c->account->pause_count++;
	return true;
}

void operate_let_go(struct client *c)
{
	if (!c->in_pause)
		return;
	c->in_pause = false;
	c->account->pause_count--;
}

static void pause_pool(struct pool *p)
{
	struct worker *w = p->account->database->worker;
	/* They look again, and are held. */
	struct list *const queues[] = {&p->waiting, &p->held};
	for (int i = 0; i < 2; i++) {
		while (!list_empty(queues[i])) {
			struct client *c = container_of(list_first(queues[i]), struct client, queue);
			pool_leave_queue(c);
			worker_make_runnable(w, c);
		}
	}
	list_for_each(it, &p->idle) server_close(container_of(it, struct server, link), NULL);
}

bool operate_pause(struct worker *w, struct database *db)
{
	bool *flag = db ? &db->paused : &w->paused;
	if (*flag)
		return false;
	*flag = true;
	each_pool_of(w, db, pause_pool);
	return true;
}

bool operate_resume(struct worker *w, struct database *db)
{
	bool *flag = db ? &db->paused : &w->paused;
	if (!*flag)
		return false;
	*flag = false;
	list_for_each(it, &w->await_resume)
	{
		struct client *c = container_of(it, struct client, queue);
		if (!database_paused(c->account->database))
			worker_make_runnable(w, c);
	}
	return true;
}

/* ---- closing ---- */

static void reconnect_pool(struct pool *p)
{
	list_for_each(it, &p->busy) container_of(it, struct server, link)->close_after = true;
	list_for_each(it, &p->idle) server_close(container_of(it, struct server, link), NULL);
}

void operate_reconnect(struct worker *w, struct database *db)
{
	each_pool_of(w, db, reconnect_pool);
}

static void close_pool(struct pool *p)
{
	list_for_each(it, &p->idle) server_close(container_of(it, struct server, link), NULL);
	list_for_each(it, &p->busy) server_close(container_of(it, struct server, link), "KILL");
}

void operate_kill(struct worker *w, struct database *db)
{
	(void)operate_pause(w, db);
	list_for_each(it, &w->clients)
	{
		struct client *c = container_of(it, struct client, link);
		if (c->account && (!db || c->account->database == db))
			client_fatal(c, "57P01", "terminating connection due to administrator command", NULL);
	}
	each_pool_of(w, db, close_pool);
}

bool operate_kill_client(struct client *by, uint64_t number, bool serial)
{
	list_for_each(it, &by->worker->clients)
	{
		struct client *c = container_of(it, struct client, link);
		if (number == 0 || number != (serial ? c->serial : c->id) || c == by)
			continue;
		log_info("client=%u ended by user=%s at the console", c->id, by->console->user);
		client_fatal(c, "57P01", "terminating connection due to administrator command", NULL);
		return true;
	}
	return false;
}

/* ---- answers that wait ---- */

static bool has_servers(const struct pool *p, bool only_old)
{
	if (!only_old)
		return p->idle_count + p->busy_count > 0;
	for (const struct list *it = p->busy.next; it != &p->busy; it = it->next) {
		if (container_of(it, struct server, link)->close_after)
			return true;
	}
	return false;
}

static bool still_there(const struct worker *w, const struct database *only, bool only_old)
{
	for (const struct list *d = w->databases.next; d != &w->databases; d = d->next) {
		const struct database *db = container_of(d, struct database, link);
		if (only && db != only)
			continue;
		for (const struct list *a = db->accounts.next; a != &db->accounts; a = a->next) {
			const struct account *acc = container_of(a, struct account, link);
			for (int i = 0; i < w->fleet.count; i++) {
				if (has_servers(&acc->pools[i], only_old))
					return true;
			}
		}
	}
	return false;
}

/* NULL: not yet; "": the pause was taken back; else the command tag. */
static const char *verdict(const struct worker *w, const struct console *s)
{
	if (s->waits == CONSOLE_WAITS_CLOSE)
		return still_there(w, s->waits_for, true) ? NULL : "WAIT_CLOSE";
	if (!(s->waits_for ? s->waits_for->paused : w->paused))
		return "";
	return still_there(w, s->waits_for, false) ? NULL : "PAUSE";
}

static void answer(struct client *c, const char *tag)
{
	struct buf b;
	buf_init(&b, 1024);
	if (*tag)
		write_command_complete(&b, tag);
	else
		write_error(&b, "ERROR", "57014", "pause canceled", "Somebody has said RESUME.");
	write_ready(&b, TX_IDLE);
	c->console->waits = CONSOLE_WAITS_NOT;
	c->worker->consoles_waiting--;
	client_say(c, b.data, b.len);
	buf_release(&b);
	/* What it has said meanwhile. */
	if (c->state != CLIENT_DEAD)
		worker_make_runnable(c->worker, c);
}

void operate_answer_later(struct client *by, enum console_wait what, struct database *db)
{
	by->console->waits = what;
	by->console->waits_for = db;
	by->worker->consoles_waiting++;
}

void operate_tend(struct worker *w)
{
	if (w->consoles_waiting == 0)
		return;
	list_for_each(it, &w->clients)
	{
		struct client *c = container_of(it, struct client, link);
		const char *tag = c->console && c->console->waits ? verdict(w, c->console) : NULL;
		if (tag)
			answer(c, tag);
	}
}
