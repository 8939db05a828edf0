/* SPDX-License-Identifier: PostgreSQL
 *
 * Structured log to stderr, one line an event:
 *
 *   2026-01-31 12:00:00.123 UTC WARN node=replica1 what happened: detail
 *
 * Log once, where it is decided, with what an operator needs: what happened, to which thing,
 * what to do. Secrets, statement texts and parameters never come here at the default level.
 * consistency/ and pgwire/ must not include this file.
 */
#ifndef TM_BASE_LOG_H
#define TM_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

void log_set_level(enum log_level level);
/* "debug", "info", "warn", "error"; false if `name` is none of them. */
bool log_level_parse(const char *name, enum log_level *level);
bool log_enabled(enum log_level level);

/* Bytes outside printable ASCII in the arguments are escaped; the line is cut at 2 kB. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...)                               \
	do {                                             \
		if (log_enabled(LOG_LEVEL_DEBUG))            \
			log_write(LOG_LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
