/* SPDX-License-Identifier: PostgreSQL
 *
 * Named sessions whose marks other routers share (session_store = redis). Without a store all of
 * this is nothing: a session's mark is what this process knows.
 *
 * With one, the mark here is only what this router has seen of the session:
 *
 *   a read    asks the store first (marks_ask), raises the mark by the answer and is routed then;
 *             no answer, or a doubtful one: the primary
 *   the end   of each statement outside a transaction has an exact mark, because a position is
 *             captured behind it (client_is_told). It is stored before the client hears
 *             ReadyForQuery (marks_publish), unless the store is known to have it
 */
#ifndef TM_PROXY_MARKS_H
#define TM_PROXY_MARKS_H

#include "proxy.h"

/* Opens the store if the settings name one. False: it cannot be; logged. */
bool marks_start(struct worker *w);
/* Before the loop goes. */
void marks_stop(struct worker *w);
/* The fleet changed, or time passed: whose marks they are, and how long they must live. */
void marks_tend(struct worker *w);

/* Is the session of the statement under way, or one that joined it, in the store? */
bool marks_shared(const struct client *c);

enum marks_answer {
	MARKS_KNOWN,    /* the mark covers what any router stored */
	MARKS_ASKED,    /* the client is resumed when the answer is there */
	MARKS_DOUBTFUL, /* the primary knows */
};
/* For a read of `it`, whose mark is to be relied on. The answer is kept until marks_forget(). */
enum marks_answer marks_ask(struct client *c, struct session *it);
/* Such a mark may lack what was stored longer ago than this, and has expired; 0: it lacks nothing.
 */
int64_t marks_known_back_us(const struct client *c);
/* The statement that asked is on its way. */
void marks_forget(struct client *c);

/* The statement's marks are settled. True: ReadyForQuery must be withheld; give it to c->late, and
 * the client hears it, and goes on, when the marks are stored. */
[[gnu::warn_unused_result]] bool marks_publish(struct client *c);
/* Withheld for a sample that tells what to store: the sessions that joined in are still needed. */
bool marks_await_sample(const struct client *c);
/* The sample is there, or too late. */
void marks_resume(struct client *c);
/* The client goes away. */
void marks_release(struct client *c);

#endif
