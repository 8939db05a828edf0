/* SPDX-License-Identifier: PostgreSQL */
#include "open_names.h"

#include "proxy.h"

/* Answers outstanding that belong to earlier batches, each of which ends for itself. */
static uint32_t of_earlier_batches(const struct replies *r)
{
	uint32_t n = r->count;
	while (n > 0 && replies_at((struct replies *)r, n - 1)->kind < REPLY_SYNC)
		n--;
	return n;
}

/* What a message speaks of: a name, "" if it is the unnamed one, and a statement or its text. */
struct mention {
	struct slice name;
	const struct stmt *stmt;
	struct slice text;
};

static bool same_statement(const struct stmt *stmt, const struct mention *m)
{
	return stmt == m->stmt || (m->text.ptr && slice_eq(slice_of(stmt->text, stmt->text_len), m->text));
}

static bool concerns(const struct reply *e, const struct mention *m)
{
	const struct name_undo *u;
	switch (e->tag) {
	case TAG_PARSE_NAMED:
	case TAG_CLOSE_NAMED:
		u = e->data;
		return slice_eq(slice_of(u->name, u->len), m->name) || same_statement(u->stmt, m);
	case TAG_PARSE_INJECTED:
	case TAG_CLOSE_EVICTED:
		return same_statement(e->data, m);
	case TAG_PARSE_INJECTED_UNNAMED:
		return m->name.len == 0;
	default:
		return false;
	}
}

/* False: the message names no statement. */
static bool read_mention(const struct client *c, const struct frame *f, struct slice here,
                         struct mention *m)
{
	struct msg_parse parse;
	struct msg_target target;
	struct msg_bind bind;
	*m = (struct mention){0};
	if (f->type == FE_PARSE && msg_parse_parse(frame_body(f), &parse)) {
		m->name = parse.name;
		m->text = parse.query;
		return parse.name.len > 0;
	}
	if (f->type == FE_BIND) {
		if (!msg_bind_parse(slice_from(here, FRAME_HEADER), &bind))
			return false;
		m->name = bind.statement;
	} else if ((f->type == FE_DESCRIBE || f->type == FE_CLOSE) &&
	           msg_target_parse(frame_body(f), &target) && target.kind == 'S') {
		m->name = target.name;
	} else {
		return false;
	}
	m->stmt = m->name.len ? client_stmts_find(&c->stmts, m->name) : NULL;
	return true;
}

bool names_are_open(const struct client *c, const struct server *s, struct slice in, const struct unit *u)
{
	struct replies *r = (struct replies *)&s->replies;
	if (u->type == FE_QUERY)
		return s->unproven > 0 && u->traits.flags & (TRAIT_BINDS | TRAIT_DEALLOCATE);
	uint32_t earlier = s->unproven > 0 || s->in_tx_after ? of_earlier_batches(r) : 0;
	struct slice left = slice_of(in.ptr, u->size);
	struct frame f;
	while (earlier > 0 && frame_peek(left, &f) == PARSE_OK) {
		struct mention m;
		struct slice here =
			slice_of(left.ptr, frame_complete(&f, left) ? frame_size(&f) : left.len);
		bool mentions = here.len == frame_size(&f) || f.type == FE_BIND;
		if (mentions && read_mention(c, &f, here, &m)) {
			/* In a transaction that has failed by then it has to fail, known or not. */
			if (f.type == FE_PARSE && s->in_tx_after)
				return true;
			for (uint32_t i = 0; s->unproven > 0 && i < earlier; i++) {
				if (concerns(replies_at(r, i), &m))
					return true;
			}
		}
		left = slice_from(left, here.len);
	}
	return false;
}
