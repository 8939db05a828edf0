/* SPDX-License-Identifier: PostgreSQL
 *
 * The limits that a router promises to keep whatever its servers do, looked up inside it.
 */
#ifndef TM_SIM_OVERDUE_H
#define TM_SIM_OVERDUE_H

#include "proxy/proxy.h"

/* NULL, or which limit somebody is past. */
const char *overdue_limit(const struct worker *w, int64_t now_us);

#endif
