/* SPDX-License-Identifier: PostgreSQL
 *
 * The signed token, version 1: docs/token.md is its specification. Pure: no clock, no allocation;
 * keys and times come in as parameters.
 *
 * A token is a set of branches (cluster, timeline, fork), each with the greatest position seen on
 * it. Merging is the union, so it is commutative, associative and idempotent; what does not fit
 * becomes `primary`, which absorbs everything.
 */
#ifndef TM_CONSISTENCY_TOKEN_H
#define TM_CONSISTENCY_TOKEN_H

#include "position.h"

#define TOKEN_BRANCHES_MAX 8
#define TOKEN_TEXT_MAX 297       /* one token, with NUL */
#define TOKEN_LIST_MAX 8         /* tokens in a list */
#define TOKEN_LIST_TEXT_MAX 2375 /* without NUL */
#define TOKEN_CLUSTER_MASK UINT64_C(0xffffffffffff)
#define TOKEN_TIMELINE_MAX UINT32_C(0xffffff)
#define TOKEN_FUTURE_MAX_S 60
#define TOKEN_PRIMARY_TEXT "primary"

#define TOKEN_KEYS_MAX 8
#define TOKEN_KEY_MIN 16 /* bytes of secret */
#define TOKEN_KEY_MAX 64

/* One branch of a cluster's history, and how far on it. */
struct token_branch {
	uint64_t cluster;  /* system identifier & TOKEN_CLUSTER_MASK */
	uint32_t timeline; /* 1 … TOKEN_TIMELINE_MAX */
	struct position fork;
	struct position at;
};

/* A zeroed token asks for nothing. */
struct token {
	bool primary; /* the session must read from the primary; then there are no branches */
	int count;
	int64_t issued_s;                                 /* seconds since 1970 */
	struct token_branch branches[TOKEN_BRANCHES_MAX]; /* sorted */
};

/* A key, ready to use: the hash states after the inner and the outer block (RFC 2104). */
struct token_key {
	uint8_t id;
	uint32_t inner[8], outer[8];
};

/* The first one signs. */
struct token_keys {
	int count;
	struct token_key keys[TOKEN_KEYS_MAX];
};

enum token_verdict {
	TOKEN_OK,
	TOKEN_MALFORMED,
	TOKEN_FORGED, /* unknown key, or the HMAC is wrong */
	TOKEN_BOUND,  /* bound, and not to this session name (or tampered with: that cannot be told) */
	TOKEN_EXPIRED,
	TOKEN_FUTURE, /* issued more than TOKEN_FUTURE_MAX_S from now */
	/* found by those who know a fleet (history.h) */
	TOKEN_FOREIGN, /* no branch of this cluster */
	TOKEN_LOST,    /* cut off from the primary's history */
	TOKEN_UNKNOWN, /* nobody knows whether the primary's history has it */
	TOKEN_PRIMARY, /* asks for the primary itself */
	TOKEN_VERDICTS,
};
/* "ok", "malformed", … as the metrics have it. */
const char *token_verdict_name(enum token_verdict v);

/* False: the secret's length is not between TOKEN_KEY_MIN and TOKEN_KEY_MAX, the id is taken, or
 * there are TOKEN_KEYS_MAX already. */
[[gnu::warn_unused_result]] bool token_keys_add(struct token_keys *k, uint8_t id,
                                                struct slice secret);
/* One line of a key file, "id:hex", without its LF; a CR at its end is dropped. False: it is not
 * that, or token_keys_add() refuses. An empty line and one that begins with '#' add nothing and are
 * true. */
[[gnu::warn_unused_result]] bool token_keys_add_line(struct token_keys *k, struct slice line);

/* Adds a branch, or raises it. Too many, or values out of range: the token becomes `primary`. */
void token_add(struct token *t, struct token_branch b);
void token_merge(struct token *into, const struct token *from);
/* `a` has seen at least what `b` has: merging `b` into it adds no branch. `primary` covers all. */
bool token_covers(const struct token *a, const struct token *b);

/* Signs with the first key; `session` binds it unless it is empty. A time of issue that does not
 * fit into 32 bits becomes the nearest one that does. A token without branches that is not
 * `primary` gives the empty text; without a key (count 0) all others give "primary". */
void token_sign(const struct token *t, const struct token_keys *k, struct slice session,
                char out[TOKEN_TEXT_MAX]);
/* One signed token, or "primary" (TOKEN_PRIMARY). Whatever is wrong is found before anything of the
 * contents is believed; `out` is then `primary`, with the time of issue only if that is what it
 * rightly asks for. `session` is the name a bound token must be
 * bound to; an unbound token is good with any. ttl_s 0: it never expires. */
enum token_verdict token_verify(struct slice text, const struct token_keys *k, struct slice session,
                                int64_t now_s, int64_t ttl_s, struct token *out);
/* A list, merged into one. The empty text is TOKEN_OK and asks for nothing. The verdict is that of
 * the first token that was not good, and then the result is `primary`; so it is, with
 * TOKEN_PRIMARY, if all are good but have too many branches together. */
enum token_verdict token_verify_list(struct slice text, const struct token_keys *k,
                                     struct slice session, int64_t now_s, int64_t ttl_s,
                                     struct token *out);
/* Reads one signed token without believing it: for display. False: malformed, and `out` is
 * `primary`. */
struct token_header {
	uint8_t key_id;
	bool bound;
};
bool token_read(struct slice text, struct token *out, struct token_header *h);

#endif
