/* SPDX-License-Identifier: PostgreSQL
 *
 * All faults of a configuration, so that somebody who mends it sees them at once and not one by
 * one. A zeroed struct is valid and empty.
 */
#ifndef TM_CONFIG_ERRORS_H
#define TM_CONFIG_ERRORS_H

#include <stdio.h>

#define CONFIG_ERRORS_MAX 64

struct config_errors {
	int count; /* may be above CONFIG_ERRORS_MAX: the rest is only counted */
	char lines[CONFIG_ERRORS_MAX][512];
};

void config_errors_add(struct config_errors *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* One a line; a last line counts those that are not shown. */
void config_errors_print(const struct config_errors *e, FILE *out);

#endif
