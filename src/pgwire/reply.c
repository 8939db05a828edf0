/* SPDX-License-Identifier: PostgreSQL */
#include "reply.h"

#include <stdlib.h>

void replies_release(struct replies *r)
{
	free(r->slots);
	*r = (struct replies){0};
}

bool replies_grow(struct replies *r)
{
	uint32_t cap = r->cap ? r->cap * 2 : 8;
	if (cap > REPLIES_MAX)
		return false;
	struct reply *slots = malloc(cap * sizeof(*slots));
	if (!slots)
		return false;
	for (uint32_t i = 0; i < r->count; i++)
		slots[i] = *replies_at(r, i);
	free(r->slots);
	r->slots = slots;
	r->head = 0;
	r->cap = cap;
	return true;
}

static enum reply_verdict verdict_for(const struct reply *e)
{
	return e->to == REPLY_CLIENT ? REPLY_STEP_FORWARD : REPLY_STEP_SWALLOW;
}

static struct reply_step invalid(void)
{
	return (struct reply_step){.verdict = REPLY_STEP_INVALID};
}

static struct reply_step part_of(const struct reply *e)
{
	return (struct reply_step){.verdict = verdict_for(e), .entry = *e};
}

static struct reply_step complete(struct replies *r)
{
	struct reply e = replies_pop(r);
	return (struct reply_step){.verdict = verdict_for(&e), .completed = true, .entry = e};
}

static bool ends_with_ready(uint8_t kind)
{
	return kind == REPLY_SYNC || kind == REPLY_QUERY || kind == REPLY_FUNCTION;
}

/* During COPY IN the server ignores Sync and Flush, so Syncs sent before it told us that it had
 * entered that mode will not be answered. */
static uint8_t take_back_ignored_syncs(struct replies *r)
{
	uint8_t bits = 0;
	uint32_t kept = 1, end = r->copy_end ? r->copy_end : r->count;
	for (uint32_t i = 1; i < r->count; i++) {
		if (i < end && replies_at(r, i)->kind == REPLY_SYNC)
			bits |= replies_at(r, i)->bits;
		else
			*replies_at(r, kept++) = *replies_at(r, i);
	}
	r->count = kept;
	r->open = replies_at(r, kept - 1)->kind < REPLY_SYNC;
	return bits;
}

static struct reply_step enter_copy(struct replies *r, enum copy_state state)
{
	struct reply *e = replies_head(r);
	if (e->kind != REPLY_QUERY && e->kind != REPLY_EXECUTE)
		return invalid();
	r->copy = (uint8_t)state;
	struct reply_step step = part_of(e);
	if (state == COPY_IN) {
		step.inherited = take_back_ignored_syncs(r);
		if (r->copy_end > 0)
			r->copy = COPY_NONE;
		r->copy_end = 0;
	}
	return step;
}

static struct reply_step on_error(struct replies *r)
{
	struct reply *e = replies_head(r);
	r->failed = true;
	r->copy = COPY_NONE;
	struct reply_step step = {
		.verdict = e->to == REPLY_NOBODY ? REPLY_STEP_SWALLOW : REPLY_STEP_FORWARD,
		.entry = *e,
	};
	if (!ends_with_ready(e->kind)) {
		while (step.voided < r->count && replies_at(r, step.voided)->kind != REPLY_SYNC)
			step.voided++;
	}
	return step;
}

static struct reply_step on_ready(struct replies *r, const struct frame *f)
{
	struct reply *e = replies_head(r);
	if (!ends_with_ready(e->kind) || f->body_len != 1)
		return invalid();
	uint8_t status = f->body[0];
	if (status != TX_IDLE && status != TX_OPEN && status != TX_FAILED)
		return invalid();
	r->tx = status;
	r->copy = COPY_NONE;
	r->failed = false;
	return complete(r);
}

struct reply_step replies_step(struct replies *r, const struct frame *f)
{
	struct reply *e = replies_head(r);
	if (!e)
		return invalid();

	switch (f->type) {
	case BE_PARSE_COMPLETE:
		return e->kind == REPLY_PARSE ? complete(r) : invalid();
	case BE_BIND_COMPLETE:
		return e->kind == REPLY_BIND ? complete(r) : invalid();
	case BE_CLOSE_COMPLETE:
		return e->kind == REPLY_CLOSE ? complete(r) : invalid();
	case BE_PARAMETER_DESCRIPTION:
		return e->kind == REPLY_DESCRIBE ? part_of(e) : invalid();
	case BE_ROW_DESCRIPTION:
		if (e->kind == REPLY_QUERY)
			return part_of(e);
		return e->kind == REPLY_DESCRIBE ? complete(r) : invalid();
	case BE_NO_DATA:
		return e->kind == REPLY_DESCRIBE ? complete(r) : invalid();
	case BE_DATA_ROW:
		return e->kind == REPLY_EXECUTE || e->kind == REPLY_QUERY ? part_of(e) : invalid();
	case BE_COMMAND_COMPLETE:
	case BE_EMPTY_QUERY:
	case BE_PORTAL_SUSPENDED:
		r->copy = COPY_NONE;
		if (e->kind == REPLY_QUERY)
			return part_of(e);
		return e->kind == REPLY_EXECUTE ? complete(r) : invalid();
	case BE_COPY_IN:
		return enter_copy(r, COPY_IN);
	case BE_COPY_OUT:
		return enter_copy(r, COPY_OUT);
	case BE_COPY_BOTH:
		return enter_copy(r, COPY_BOTH);
	case BE_COPY_DATA:
	case BE_COPY_DONE:
		return r->copy == COPY_OUT || r->copy == COPY_BOTH ? part_of(e) : invalid();
	case BE_FUNCTION_RESULT:
		return e->kind == REPLY_FUNCTION ? part_of(e) : invalid();
	case BE_ERROR:
		return on_error(r);
	case BE_READY:
		return on_ready(r, f);
	default:
		return invalid();
	}
}
