/* SPDX-License-Identifier: PostgreSQL
 *
 * libtidemark: Tidemark's tokens for C and C++, and two helpers for libpq connections.
 *
 *   char token[TIDEMARK_LIST_SIZE];
 *   PQclear(PQexec(a, "UPDATE …"));
 *   tidemark_after_write(a, token, sizeof(token));   what this session has written and seen
 *   …                                                the token travels: header, cookie, payload
 *   tidemark_read_after(b, token);                   from here on `b` sees at least that
 *
 * The library has no state, opens nothing, reads no clock and allocates nothing of its own (libpq
 * does, for its results). So every function may be called from any thread at any time; an object is
 * used by one thread at a time, as a PGconn is.
 *
 * Texts end with NUL. NULL is the empty text. The empty text is the token that asks for nothing.
 *
 * Output: `out` has room for `cap` bytes. Constants below name what always suffices. When a
 * function that writes a token into `out` returns anything but TIDEMARK_OK, `out` is the token
 * "primary", which is always safe to send on: it makes the reader read from the primary. (It is ""
 * if `cap` is less than TIDEMARK_PRIMARY_SIZE.)
 *
 * What a token is: docs/token.md. What it promises: docs/consistency.md. Manual: tidemark(3).
 */
#ifndef TIDEMARK_H
#define TIDEMARK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TIDEMARK_API __attribute__((visibility("default")))
#define TIDEMARK_CHECKED __attribute__((warn_unused_result, visibility("default")))
#else
#define TIDEMARK_API
#define TIDEMARK_CHECKED
#endif

/* Sizes with NUL: one token; any text that a token function writes or reads; "primary". */
#define TIDEMARK_TOKEN_SIZE 297
#define TIDEMARK_LIST_SIZE 2376
#define TIDEMARK_PRIMARY_SIZE 8

#define TIDEMARK_KEYS_MAX 8
#define TIDEMARK_KEY_MIN 16 /* bytes of secret */
#define TIDEMARK_KEY_MAX 64
#define TIDEMARK_BRANCHES_MAX 8
#define TIDEMARK_MERGE_MAX 32 /* texts for tidemark_merge() */

/* The numbers are part of the ABI: new ones come behind the last. */
enum tidemark_status {
	TIDEMARK_OK = 0,

	/* What is wrong with a token. Never a reason to fail a request: read from the primary. */
	TIDEMARK_MALFORMED = 1, /* not a token at all */
	TIDEMARK_FORGED = 2,    /* its key is not known, or it was tampered with */
	TIDEMARK_BOUND = 3,     /* bound to another session name (or tampered with) */
	TIDEMARK_EXPIRED = 4,   /* older than ttl_s */
	TIDEMARK_FUTURE = 5,    /* issued more than 60 s from now */
	TIDEMARK_PRIMARY = 6,   /* good, and it says: read from the primary */

	/* What is wrong with a call. */
	TIDEMARK_TOO_SMALL = 16,  /* `cap` is too small */
	TIDEMARK_BAD_KEY = 17,    /* not a key, its id is taken, or there are TIDEMARK_KEYS_MAX */
	TIDEMARK_NO_KEY = 18,     /* there is no key to sign with, or none in the file */
	TIDEMARK_UNVERIFIED = 19, /* what was only parsed is not signed */
	TIDEMARK_RANGE = 20,      /* a number that no token can have */

	/* What is wrong with a connection. Nothing was sent, but for the last two. */
	TIDEMARK_NO_CONNECTION = 32,  /* NULL, broken, or broken by this call */
	TIDEMARK_BUSY = 33,           /* a command is under way, or its results are not all read */
	TIDEMARK_IN_TRANSACTION = 34, /* inside a transaction, also a failed one */
	TIDEMARK_IN_PIPELINE = 35,    /* in pipeline mode */
	TIDEMARK_NOT_A_ROUTER = 36,   /* the other end is not Tidemark */
	TIDEMARK_REFUSED = 37         /* it answered with an error: PQerrorMessage() */
};

/* One line of English for a status, without a newline. Static. Any number has one. */
TIDEMARK_API const char *tidemark_strerror(enum tidemark_status status);

/* ---- connections ------------------------------------------------------------------------------
 *
 * `conn` is a PGconn of libpq. Both functions block as PQexec() does, and refuse a connection that
 * is not idle instead of disturbing it: in a transaction, failed or not (TIDEMARK_IN_TRANSACTION),
 * in pipeline mode (TIDEMARK_IN_PIPELINE), while a command or COPY is under way or its results are
 * not read to the end (TIDEMARK_BUSY). So they never abort a transaction. In a transaction they
 * could not keep their word either: its writes have no position before COMMIT, and the server of
 * its reads has been chosen, so that a token cannot move them any more.
 *
 * They work best on a connection that was opened with options='-c tidemark.report=on': the router
 * then sends each new token along with its answers, and the round trips named below are saved.
 */
struct pg_conn;

/* Writes the token that covers all that this connection's session has written and read so far, and
 * what it was told to read after. Call it behind the write (behind COMMIT), on the connection that
 * wrote. TIDEMARK_LIST_SIZE always suffices.
 *
 * The token that the router reported is used if there is one that says more than "primary"; else
 * one SHOW tidemark.token, for which the router takes up to a second while a position is unknown.
 * What other connections of a session that is shared (by name or by scope) have done is covered as
 * far as this connection has been told: a reported token is as new as this connection's last
 * answer.
 *
 * A server that is not Tidemark answers with an error (TIDEMARK_NOT_A_ROUTER), which its log shows.
 */
TIDEMARK_CHECKED enum tidemark_status tidemark_after_write(struct pg_conn *conn, char *out,
                                                           size_t cap);

/* Makes every statement that begins on `conn` from here on see at least what `token` covers. NULL
 * and "" ask for nothing, and nothing is sent. What cannot be a token (characters, or longer than
 * any) is TIDEMARK_MALFORMED and is not sent; nor is anything sent when the connection is not idle.
 *
 * Whether a token is genuine is for the router to judge. It never refuses one: what it does not
 * believe makes it read from the primary. To do the same with a text that was TIDEMARK_MALFORMED,
 * give "primary".
 *
 * One SET. If the connection has reported nothing yet, a SHOW goes first, since a server that is
 * not Tidemark would take the SET and keep no promise (TIDEMARK_NOT_A_ROUTER; nothing was set). */
TIDEMARK_CHECKED enum tidemark_status tidemark_read_after(struct pg_conn *conn, const char *token);

/* ---- merging ----------------------------------------------------------------------------------
 *
 * To merge is to ask for what all of them ask for. Each text may be a token, a list or empty; `out`
 * may be one of the texts. Empty texts alone give the empty text.
 */

/* Without keys: a list in which every token says something that the others do not, in a fixed
 * order. It is "primary" where the texts cannot be kept: one of them is "primary" or not a token,
 * more than eight remain, or there are more than TIDEMARK_MERGE_MAX texts. Nothing of them is
 * believed. TIDEMARK_LIST_SIZE always suffices. Errors: TIDEMARK_TOO_SMALL. */
TIDEMARK_CHECKED enum tidemark_status tidemark_merge(const char *const texts[], size_t count,
                                                     char *out, size_t cap);

/* ---- keys -------------------------------------------------------------------------------------
 */

/* Begins empty: struct tidemark_keys keys = TIDEMARK_INIT; */
struct tidemark_keys {
	uint64_t opaque[80];
};
/* clang-format off */
#define TIDEMARK_INIT {{0}}
/* clang-format on */

/* Adds a key of TIDEMARK_KEY_MIN … TIDEMARK_KEY_MAX bytes, which are not needed afterwards. The
 * first one signs, all verify. Errors: TIDEMARK_BAD_KEY, and the keys are as before. */
TIDEMARK_CHECKED enum tidemark_status tidemark_keys_add(struct tidemark_keys *keys, uint8_t id,
                                                        const void *secret, size_t len);

/* Adds the keys of a key file, `len` bytes at `text`: a line "id:hex" for each, empty lines, and
 * lines that begin with '#'. Errors: TIDEMARK_BAD_KEY, and *line (if not NULL) is the number of the
 * line, from 1; TIDEMARK_NO_KEY, there is none in it. The keys are then as before. */
TIDEMARK_CHECKED enum tidemark_status
tidemark_keys_load(struct tidemark_keys *keys, const char *text, size_t len, size_t *line);

/* Forgets them, so that they cannot be read from memory. */
TIDEMARK_API void tidemark_keys_wipe(struct tidemark_keys *keys);

/* ---- tokens, opened ---------------------------------------------------------------------------
 *
 * An opened token is a set of branches of clusters' histories, each with the position up to which
 * it was seen; or it is "primary". It remembers whether it was verified.
 */

/* Begins as the token that asks for nothing: struct tidemark_token t = TIDEMARK_INIT; */
struct tidemark_token {
	uint64_t opaque[40];
};

/* A token, a list (its tokens, merged) or the empty text. For display and comparison: NOTHING OF IT
 * IS BELIEVED, and it is not signed. Errors: TIDEMARK_MALFORMED, and the token is "primary". */
TIDEMARK_CHECKED enum tidemark_status tidemark_token_parse(struct tidemark_token *token,
                                                           const char *text);

/* The same, verified. `session` is the name of the reader's session, NULL or "" if it has none: a
 * token that is bound to a name is good only with that name, one that is not bound with any.
 * `now_s` is the time, seconds since 1970. `ttl_s` is how old a token may be; 0: any age. Returns
 * TIDEMARK_OK, or the fault of the first token that has one, MALFORMED … PRIMARY; the token is then
 * "primary". `keys` may be NULL: none are known. */
TIDEMARK_CHECKED enum tidemark_status tidemark_token_verify(struct tidemark_token *token,
                                                            const char *text,
                                                            const struct tidemark_keys *keys,
                                                            const char *session, int64_t now_s,
                                                            int64_t ttl_s);

/* Adds a position to a token. `cluster` is the system identifier (its low 48 bits count),
 * `timeline` 1 … 16777215, `fork` the LSN at which that timeline left its parent, 0 for timeline 1;
 * `position` an LSN, not 0. `issued_s` is the time of the position; a token has the latest of its
 * times. A ninth branch makes it "primary": nothing is forgotten silently. Errors: TIDEMARK_RANGE,
 * and the token is "primary". */
TIDEMARK_CHECKED enum tidemark_status tidemark_token_add(struct tidemark_token *token,
                                                         uint64_t cluster, uint32_t timeline,
                                                         uint64_t fork, uint64_t position,
                                                         int64_t issued_s);

/* Merges `from` into `into`. More than eight branches, or "primary" on either side: "primary". What
 * was merged with something unverified is unverified. */
TIDEMARK_API void tidemark_token_merge(struct tidemark_token *into,
                                       const struct tidemark_token *from);

/* 1 if `a` covers `b`: who has seen `a` has seen `b`. Else 0; there are tokens of which neither
 * covers the other. "primary" covers everything and only "primary" covers it, since it is what a
 * merge that cannot be kept becomes. So it must not be taken for the position of anything: whoever
 * stamps what he stores asks tidemark_token_is_primary() first. */
TIDEMARK_API int tidemark_token_covers(const struct tidemark_token *a,
                                       const struct tidemark_token *b);

/* Writes the signed text. `session` binds it to that name unless it is NULL or "". A token that
 * asks for nothing gives "". TIDEMARK_TOKEN_SIZE always suffices. Errors: TIDEMARK_UNVERIFIED,
 * TIDEMARK_NO_KEY, TIDEMARK_TOO_SMALL. */
TIDEMARK_CHECKED enum tidemark_status tidemark_token_sign(const struct tidemark_token *token,
                                                          const struct tidemark_keys *keys,
                                                          const char *session, char *out,
                                                          size_t cap);

/* Verify, merge and sign in one: each text counts as "primary" if it does not verify, and `out` is
 * then a signed token that says so, with TIDEMARK_OK. The arguments are those of
 * tidemark_token_verify() and tidemark_token_sign(). TIDEMARK_TOKEN_SIZE always suffices. Errors:
 * TIDEMARK_NO_KEY, TIDEMARK_TOO_SMALL. */
TIDEMARK_CHECKED enum tidemark_status tidemark_merge_signed(const char *const texts[], size_t count,
                                                            const struct tidemark_keys *keys,
                                                            const char *session, int64_t now_s,
                                                            int64_t ttl_s, char *out, size_t cap);

/* 1 if it says: read from the primary. It has no branches then. */
TIDEMARK_API int tidemark_token_is_primary(const struct tidemark_token *token);
/* 1 if it, or one of the list, is bound to a session name. */
TIDEMARK_API int tidemark_token_is_bound(const struct tidemark_token *token);
/* The id of the key that it claims to be signed with; -1 unless it was made from one signed text.
 */
TIDEMARK_API int tidemark_token_key_id(const struct tidemark_token *token);
/* Seconds since 1970; 0 if it has no time. */
TIDEMARK_API int64_t tidemark_token_issued(const struct tidemark_token *token);

struct tidemark_branch {
	uint64_t cluster; /* the low 48 bits of the system identifier */
	uint64_t fork;
	uint64_t position;
	uint32_t timeline;
	uint32_t reserved; /* 0 */
};
/* 0 … TIDEMARK_BRANCHES_MAX */
TIDEMARK_API int tidemark_token_branch_count(const struct tidemark_token *token);
/* The branch `index`, from 0, in the order of the text. Errors: TIDEMARK_RANGE, and *branch is
 * zero. */
TIDEMARK_CHECKED enum tidemark_status tidemark_token_branch(const struct tidemark_token *token,
                                                            int index,
                                                            struct tidemark_branch *branch);

#ifdef __cplusplus
}
#endif

#endif
