/* SPDX-License-Identifier: PostgreSQL
 *
 * One unit on its way to a server, for the files that send parts of it: forward.c its messages,
 * prepare.c the statements that the server lacks, questions.c those of the router's own.
 */
#ifndef TM_PROXY_FORWARDING_H
#define TM_PROXY_FORWARDING_H

#include "chain.h"
#include "unit.h"

struct forward {
	struct client *c;
	struct server *s;
	struct chain *out;
	struct stmt_cache *cache;
	struct unit *unit;
	int next_parsed;
	/* Of a batch, CONTROL of its statements: of the one in the unnamed portal, if that was bound here;
	 * of those that were executed; and whether one was that is not known. */
	bool portal_known, ran_unknown;
	uint32_t portal_control, control;
	uint32_t bound_flags; /* traits of the statement bound last */
	struct pending_set *asked; /* by that in the unnamed portal; … a SELECT, whose tag would not tell */
	bool asked_by_select;
	const char *why;
};

/* False, like all that follows: f->why says what is full. */
static inline bool forward_push_entry(struct forward *f, struct reply e)
{
	if (replies_push(&f->s->replies, e)) {
		f->s->unproven += reply_is_unproven(e.tag);
		return true;
	}
	f->why = "too many messages without an answer";
	return false;
}

static inline bool forward_push(struct forward *f, uint8_t kind, uint8_t to, uint8_t tag, void *data)
{
	return forward_push_entry(f, (struct reply){.kind = kind, .to = to, .tag = tag, .data = data});
}

static inline bool forward_no_memory(struct forward *f)
{
	f->why = "out of memory";
	return false;
}

#endif
