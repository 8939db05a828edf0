/* SPDX-License-Identifier: PostgreSQL
 *
 * The keys of PgBouncer 1.18 to 1.25 that are no option here (options.c), and what to do about each.
 */
#ifndef TM_CONFIG_PGBOUNCER_KEYS_H
#define TM_CONFIG_PGBOUNCER_KEYS_H

enum key_fate {
	KEY_MOOT,    /* not needed here */
	KEY_INSTEAD, /* not honoured; works without, and the advice says how to get it */
	KEY_REFUSED, /* without it something would be less safe or mean something else */
};

struct pgbouncer_key {
	const char *name;
	enum key_fate fate;
	const char *harmless; /* values that ask for nothing, separated by "|"; NULL: none */
	const char *advice;
};

/* Each ends with a row without a name. */
extern const struct pgbouncer_key pgbouncer_keys[];          /* [pgbouncer] */
extern const struct pgbouncer_key pgbouncer_database_keys[]; /* pairs of [databases] */
extern const struct pgbouncer_key pgbouncer_user_keys[];     /* pairs of [users] */

const struct pgbouncer_key *pgbouncer_key_find(const struct pgbouncer_key *keys, const char *name);

#endif
