/* SPDX-License-Identifier: PostgreSQL
 *
 * Tokens, as this router gives and takes them (docs/token.md): what a session's mark is as a token,
 * and what a token that came means for the session. A token that cannot be believed never fails a
 * request, never makes it wait and never lets it read stale: the connection's next statement goes
 * to the primary.
 */
#ifndef TM_PROXY_TOKENS_H
#define TM_PROXY_TOKENS_H

#include "proxy.h"

/* `text` is a token or a list; `session` the name it may be bound to. True: `mark` is raised, or
 * nothing was asked. False: it is counted, and what the caller does next goes to the primary. */
[[gnu::warn_unused_result]] bool tokens_take(struct client *c, struct session_mark *mark,
                                             struct slice session, struct slice text);
/* SET tidemark.read_after: the session's mark is raised, or the next statement of the session goes
 * to the primary. NULL: too long to be looked at, or no text. */
void tokens_read_after(struct client *c, const char *text);
/* The mark of the connection's session. `primary` while the mark, or the primary's history, is not
 * known; asks for nothing if the session has seen nothing. */
void tokens_give(struct client *c, struct token *out);
void tokens_sign(struct client *c, const struct token *t, char out[TOKEN_TEXT_MAX]);
/* Due before each ReadyForQuery: appends ParameterStatus tidemark.token if the mark is another than
 * the client was told last, or that token is getting old. When reporting has ended it tells the
 * empty text, so that what it told before is not taken for its last word. */
void tokens_report(struct client *c, struct buf *out);

#endif
