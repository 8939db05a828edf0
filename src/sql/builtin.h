/* SPDX-License-Identifier: PostgreSQL
 *
 * The table in builtin.c, made from PostgreSQL's own pg_proc. Only catalog.c reads it.
 */
#ifndef TM_SQL_BUILTIN_H
#define TM_SQL_BUILTIN_H

/* Sorted by byte value, no duplicates. */
extern const char *const builtin_safe_functions[];
extern const int builtin_safe_function_count;

#endif
