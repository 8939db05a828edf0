/* SPDX-License-Identifier: PostgreSQL */
#include "begin.h"

#include <stdio.h>

size_t begin_text(uint8_t begin, char out[BEGIN_TEXT_MAX])
{
	static const char *const isolation[] = {
		"",
		" ISOLATION LEVEL READ UNCOMMITTED",
		" ISOLATION LEVEL READ COMMITTED",
		" ISOLATION LEVEL REPEATABLE READ",
		" ISOLATION LEVEL SERIALIZABLE",
		"",
		"",
		"",
	};
	const char *access = begin & BEGIN_READ_ONLY    ? " READ ONLY"
	                     : begin & BEGIN_READ_WRITE ? " READ WRITE"
	                                                : "";
	const char *deferrable = begin & BEGIN_DEFERRABLE       ? " DEFERRABLE"
	                         : begin & BEGIN_NOT_DEFERRABLE ? " NOT DEFERRABLE"
	                                                        : "";
	int n = snprintf(out, BEGIN_TEXT_MAX, "BEGIN%s%s%s", isolation[(begin & BEGIN_ISOLATION) >> 1],
	                 access, deferrable);
	return (size_t)n;
}
