/* SPDX-License-Identifier: PostgreSQL
 *
 * The options table: one row an option, and everything that is said of options anywhere is made
 * from it: defaults, the parser of the file and of the command line, --help, the man page, the
 * sample file, docs/configuration.md. Names are PgBouncer's where the meaning is the same.
 */
#ifndef TM_CONFIG_OPTIONS_H
#define TM_CONFIG_OPTIONS_H

#include <stdio.h>

#include "proxy/settings.h"

enum option_type {
	OPTION_BOOL,
	OPTION_INT,
	OPTION_TIME, /* int64_t µs; a bare number is seconds */
	OPTION_ENUM,
	OPTION_STRING,   /* char array */
	OPTION_SIZE,     /* size_t; a bare number is bytes */
	OPTION_HOSTPORT, /* char array at `offset`, int at `port_offset`; "" is none */
};

enum option_group {
	GROUP_LISTEN,
	GROUP_TLS,
	GROUP_AUTH,
	GROUP_CONSISTENCY,
	GROUP_STORE,
	GROUP_FLEET,
	GROUP_POOLS,
	GROUP_TIMEOUTS,
	GROUP_LIMITS,
	GROUP_LOG,
	GROUP_COUNT,
};

struct option_word {
	const char *word; /* NULL ends the list */
	int value;
};

struct option {
	const char *name;
	enum option_group group;
	enum option_type type;
	size_t offset;                   /* in struct settings */
	size_t size;                     /* of the field at `offset` */
	size_t port_offset;              /* OPTION_HOSTPORT */
	const char *preset;              /* the default, as text */
	int64_t min, max;                /* INT, TIME (µs), SIZE */
	const struct option_word *words; /* ENUM */
	const char *help;                /* one line */
	const char *doc;                 /* more sentences, or NULL */
	const char *pgbouncer;           /* PgBouncer's key of the same meaning, or NULL */
	bool fixed;                      /* a reload does not change it: restart */
	bool secret;                     /* messages do not repeat the value */
};

extern const struct option options[];
extern const int options_count;

/* Fills the whole struct with the table's defaults. */
void options_defaults(struct settings *s);

/* By name; '-' and '_' are the same. NULL: no such option. */
const struct option *options_find(const char *name);
/* What somebody who wrote `name` probably meant, or NULL. */
const char *options_nearest(const char *name);
/* False, with what is wrong and what would be right in `why`, and the field untouched. */
[[gnu::warn_unused_result]] bool option_set(const struct option *o, struct settings *s,
                                            const char *text, char *why, size_t cap);
/* The words of an enum for the pairs of [databases]. False with `why`, like option_set. */
[[gnu::warn_unused_result]] bool option_parse_word(const struct option_word *words,
                                                   const char *text, int *value, char *why,
                                                   size_t cap);
extern const struct option_word words_consistency[];
extern const struct option_word words_scope[];
extern const struct option_word words_sslmode[];

/* "HOST:PORT", "[v6]:PORT", ":PORT" (host "*") or "PORT" (host "127.0.0.1"). */
[[gnu::warn_unused_result]] bool option_parse_hostport(const char *text, char *host, size_t cap,
                                                       int *port, char *why, size_t why_cap);

/* The value in the notation of the file; cut to cap. */
void option_format(const struct option *o, const struct settings *s, char *out, size_t cap);
/* May a running router be told another value, without reading its configuration again? */
bool option_changeable(const struct option *o);

/* A limit of the option in its own notation, for messages and documents. */
void option_format_number(const struct option *o, int64_t value, char *out, size_t cap);

bool option_equal(const struct option *o, const struct settings *a, const struct settings *b);
/* Copies one option's field. */
void option_copy(const struct option *o, struct settings *into, const struct settings *from);

/* ---- what is made from the table (options_print.c) ---- */
void options_print_help(FILE *out, const char *program);
void options_print_sample(FILE *out);
void options_print_markdown(FILE *out);
/* The options section of the man page. */
void options_print_scdoc(FILE *out);

#endif
