/* SPDX-License-Identifier: PostgreSQL
 *
 * Reads the catalog of a database (sql/catalog.h) on a connection to the primary that is idle: one at a
 * time, a TASK_CATALOG. Behind DDL it waits until that has come to rest.
 */
#ifndef TM_PROXY_CATALOG_LOAD_H
#define TM_PROXY_CATALOG_LOAD_H

#include "proxy.h"

/* The server is idle: asks there, if the catalog is wanted and it is the one to ask. */
void catalog_load_if_wanted(struct server *s);
/* Answers. */
void catalog_load_row(struct server *s, struct slice body);
void catalog_load_done(struct server *s);

#endif
