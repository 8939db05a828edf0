/* SPDX-License-Identifier: PostgreSQL */
#include "errors.h"

#include <stdarg.h>

void config_errors_add(struct config_errors *e, const char *fmt, ...)
{
	va_list args;

	if (e->count++ >= CONFIG_ERRORS_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(e->lines[e->count - 1], sizeof(e->lines[0]), fmt, args);
	va_end(args);
}

void config_errors_print(const struct config_errors *e, FILE *out)
{
	int shown = e->count < CONFIG_ERRORS_MAX ? e->count : CONFIG_ERRORS_MAX;

	for (int i = 0; i < shown; i++)
		fprintf(out, "%s\n", e->lines[i]);
	if (e->count > shown)
		fprintf(out, "and %d more errors\n", e->count - shown);
}
