/* SPDX-License-Identifier: PostgreSQL */
#include "catalog_load.h"

#include "base/log.h"
#include "pool.h"
#include "server.h"
#include "worker.h"

/* While one DDL follows another the catalog is not read: it would be old at once, and for as long as the
 * snapshot of the query lives, VACUUM leaves the pages that were written since as they are. */
#define DDL_OVER_US 200000
#define DDL_WAIT_US 5000000

static bool ddl_goes_on(const struct database *db, int64_t now_us)
{
	return now_us - db->ddl_at_us < DDL_OVER_US && now_us - db->ddl_began_us < DDL_WAIT_US;
}

void catalog_load_if_wanted(struct server *s)
{
	struct database *db = s->pool->account->database;
	if (db->catalog_state != CATALOG_WANTED || db->catalog_loader || !server_is_primary(s) ||
	    s->pool->account->lookups || ddl_goes_on(db, net_loop_now_us(s->worker->loop)) ||
	    pool_asks_another(s->pool, s))
		return;
	list_remove(&s->link);
	list_push_front(&s->pool->busy, &s->link);
	s->pool->idle_count--;
	s->pool->busy_count++;
	s->task = TASK_CATALOG;
	db->catalog_loader = s;
	db->catalog_state = CATALOG_LOADING;
	catalog_load_begin(db->catalog);
	if (!server_ask(s, SERVER_TASK, slice_str(catalog_query)))
		server_close(s, "connection lost");
}

void catalog_load_row(struct server *s, struct slice body)
{
	struct database *db = s->pool->account->database;
	struct slice name, unsafe;
	if (db->catalog_state != CATALOG_LOADING)
		return; /* DDL came meanwhile: what is read may be old already */
	if (!msg_data_row_column(body, 0, &name) || !msg_data_row_column(body, 1, &unsafe) ||
	    !name.ptr || !unsafe.ptr || unsafe.len != 1 ||
	    !catalog_load_add(db->catalog, name, unsafe.ptr[0] != 'f'))
		s->own_failed = true;
}

void catalog_load_done(struct server *s)
{
	struct database *db = s->pool->account->database;
	bool invalidated = db->catalog_state == CATALOG_WANTED; /* by DDL while it ran */
	bool ok = !s->own_failed && !invalidated && catalog_load_commit(db->catalog);
	if (ok)
		s->worker->stats.catalog_loads++;
	else
		s->worker->stats.catalog_load_failures++;
	if (s->own_failed)
		log_warn("database=%s functions could not be read, calls to them stay on the primary: %s",
		         db->name, s->own_error);
	db->catalog_loaded_at_us = net_now_us();
	db->catalog_loader = NULL;
	if (!invalidated)
		db->catalog_state = CATALOG_CURRENT;
}
