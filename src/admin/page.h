/* SPDX-License-Identifier: PostgreSQL
 *
 * What a browser and a load balancer see: the status page and the health check.
 */
#ifndef TM_ADMIN_PAGE_H
#define TM_ADMIN_PAGE_H

#include "proxy/worker.h"

/* Appends a page of plain HTML; check out->overflow. */
void admin_page(const struct worker *w, struct buf *out);
/* NULL when the router can serve; else a sentence that says why not. */
const char *admin_unhealthy(const struct worker *w);

#endif
