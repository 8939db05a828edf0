/* SPDX-License-Identifier: PostgreSQL
 *
 * Lines of a configuration file, read by inih: [section], name = value, comments that begin with ;
 * or
 * #. No continuation lines and no comments behind a value, as in PgBouncer: a password may hold
 * anything.
 */
#ifndef TM_CONFIG_INIFILE_H
#define TM_CONFIG_INIFILE_H

#include "errors.h"

#define INIFILE_LINE_MAX 2000

/* `value` is NULL if the line has no "=". */
typedef void (*inifile_fn)(void *arg, int line, const char *section, const char *name,
                           const char *value);

/* Calls fn for each pair, in order. What cannot be read is told in `errors` under the name `path`,
 * and skipped. The stream stays the caller's. Not from two threads at once: inih's knobs are
 * global. */
void inifile_read(FILE *stream, const char *path, struct config_errors *errors, inifile_fn fn,
                  void *arg);

#endif
