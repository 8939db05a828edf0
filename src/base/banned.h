/* SPDX-License-Identifier: PostgreSQL
 *
 * Functions that must not appear in this project, refused at compile time.
 * Each has a bounded, re-entrant or checked counterpart. Force-included by the build.
 */
#ifndef TM_BASE_BANNED_H
#define TM_BASE_BANNED_H

/* Pull in the declarations first, so that poisoning does not break the system headers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* OpenSSL's headers have parameters of a banned name. */
#include <openssl/evp.h>

/* Some are macros of the C library under _FORTIFY_SOURCE. */
#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf
#undef gets

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok atoi atol atof
#pragma GCC poison gmtime localtime ctime asctime rand srand gets

#endif
