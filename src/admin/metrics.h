/* SPDX-License-Identifier: PostgreSQL
 *
 * Every number of the router in Prometheus' text format (version 0.0.4). docs/observability.md
 * describes each.
 */
#ifndef TM_ADMIN_METRICS_H
#define TM_ADMIN_METRICS_H

#include "proxy/worker.h"

/* Appends; check out->overflow. */
void admin_metrics(const struct worker *w, struct buf *out);

#endif
