/* SPDX-License-Identifier: PostgreSQL
 *
 * The options of a BEGIN in one byte, and back to text. Only forms that cannot fail outside a
 * transaction have one: each option is named at most once.
 */
#ifndef TM_SQL_BEGIN_H
#define TM_SQL_BEGIN_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

/* 0 is "no BEGIN". What is not named is the session's default. */
enum begin_option {
	BEGIN_PLAIN = 1 << 0, /* always set */
	BEGIN_ISOLATION = 7 << 1,
	BEGIN_READ_UNCOMMITTED = 1 << 1,
	BEGIN_READ_COMMITTED = 2 << 1,
	BEGIN_REPEATABLE_READ = 3 << 1,
	BEGIN_SERIALIZABLE = 4 << 1,
	BEGIN_READ_ONLY = 1 << 4,
	BEGIN_READ_WRITE = 1 << 5,
	BEGIN_DEFERRABLE = 1 << 6,
	BEGIN_NOT_DEFERRABLE = 1 << 7,
};

#define BEGIN_TEXT_MAX 96
/* Writes the statement, NUL-terminated; returns its length. */
size_t begin_text(uint8_t begin, char out[BEGIN_TEXT_MAX]);

#endif
