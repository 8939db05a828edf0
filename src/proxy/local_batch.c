/* SPDX-License-Identifier: PostgreSQL */
#include "local_batch.h"

#include <stdio.h>

#include "local.h"
#include "transaction.h"

static struct stmt_cache *cache_of(const struct client *c)
{
	return c->account->database->cache;
}

static struct slice text_of(const struct stmt *stmt)
{
	return slice_of(stmt->text, stmt->text_len);
}

/* A batch on its way through. Names of its own Parse messages are known by their place. */
struct walk {
	struct client *c;
	const struct unit *u;
	int parsed;
	struct slice names[UNIT_PARSED];
	struct stmt *portal; /* behind the unnamed portal; borrowed */
	uint8_t hold;        /* as it will be: enum transaction_hold */
};

static struct stmt *find(const struct walk *w, struct slice name)
{
	for (int i = w->parsed - 1; i >= 0; i--) {
		if (slice_eq(w->names[i], name))
			return w->u->parsed[i];
	}
	return name.len == 0 ? w->c->unnamed : client_stmts_find(&w->c->stmts, name);
}

static bool is_ours(const struct walk *w, struct stmt *stmt)
{
	struct traits t = stmt_traits(cache_of(w->c), stmt);
	return t.begin || t.flags & TRAIT_TX_PLAIN_END || local_is(w->c, t, text_of(stmt));
}

static bool look_at_parse(struct walk *w, const struct frame *f)
{
	struct msg_parse m;
	if (!msg_parse_parse(frame_body(f), &m) || m.type_count > 0 ||
	    w->parsed == w->u->parsed_count || (m.name.len > 0 && find(w, m.name)))
		return false;
	w->names[w->parsed++] = m.name;
	return is_ours(w, w->u->parsed[w->parsed - 1]);
}

/* Formats may be named, parameters may not. */
static bool has_no_parameters(struct slice rest)
{
	if (rest.len < 2)
		return false;
	size_t formats = (size_t)load_be16(rest.ptr) * 2;
	return rest.len >= 2 + formats + 2 && load_be16(rest.ptr + 2 + formats) == 0;
}

static bool look_at_bind(struct walk *w, const struct frame *f)
{
	struct msg_bind m;
	if (!msg_bind_parse(frame_body(f), &m) || m.portal.len > 0 || !has_no_parameters(m.rest))
		return false;
	w->portal = find(w, m.statement);
	return w->portal && is_ours(w, w->portal);
}

static bool look_at_target(const struct walk *w, const struct frame *f)
{
	struct msg_target m;
	if (!msg_target_parse(frame_body(f), &m))
		return false;
	if (m.kind == 'P')
		return m.name.len == 0 && w->portal;
	struct stmt *stmt = find(w, m.name);
	return stmt && is_ours(w, stmt);
}

static bool look_at_execute(struct walk *w, const struct frame *f)
{
	if (f->body_len == 0 || f->body[0] != 0 || !w->portal)
		return false;
	struct traits t = stmt_traits(cache_of(w->c), w->portal);
	if (!t.begin && !(t.flags & TRAIT_TX_PLAIN_END))
		return true;
	int next = transaction_controls(w->hold, t);
	w->hold = (uint8_t)next;
	return next >= 0;
}

static bool look_at(struct walk *w, const struct frame *f)
{
	switch (f->type) {
	case FE_PARSE:
		return look_at_parse(w, f);
	case FE_BIND:
		return look_at_bind(w, f);
	case FE_DESCRIBE:
		return look_at_target(w, f);
	case FE_EXECUTE:
		return look_at_execute(w, f);
	case FE_SYNC:
		return true;
	default:
		return false;
	}
}

bool local_batch_is(struct client *c, struct slice in, const struct unit *u)
{
	struct walk w = {.c = c, .u = u, .hold = c->hold};
	/* Most batches are not: their first statement tells. */
	if (u->type != FE_SYNC || !u->ends || u->statements == 0 ||
	    !(u->begin || u->traits.flags & (TRAIT_TX_PLAIN_END | TRAIT_ROUTER | TRAIT_DEALLOCATE)))
		return false;
	struct frame f;
	for (size_t used = 0; used < u->size; used += frame_size(&f)) {
		struct slice rest = slice_from(in, used);
		if (frame_peek(rest, &f) != PARSE_OK || !frame_complete(&f, rest) || !look_at(&w, &f))
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------ running */

static void say(struct buf *out, uint8_t type)
{
	buf_append(out, (const uint8_t[]){type, 0, 0, 0, 4}, 5);
}

static bool run_parse(struct walk *w, const struct frame *f, struct buf *out)
{
	struct client *c = w->c;
	struct msg_parse m;
	if (!msg_parse_parse(frame_body(f), &m))
		return false;
	struct stmt *stmt = w->u->parsed[w->parsed];
	w->names[w->parsed++] = m.name;
	if (m.name.len == 0) {
		if (c->unnamed)
			stmt_put(cache_of(c), c->unnamed);
		c->unnamed = stmt_ref(stmt);
	} else if (!client_stmts_add(&c->stmts, cache_of(c), m.name, stmt_ref(stmt))) {
		write_error(out, "ERROR", "53200", "too many prepared statements", NULL);
		return false;
	}
	say(out, BE_PARSE_COMPLETE);
	return true;
}

static void describe(struct walk *w, const struct frame *f, struct buf *out)
{
	struct msg_target m;
	if (!msg_target_parse(frame_body(f), &m))
		return;
	if (m.kind == 'S')
		buf_append(out, (const uint8_t[]){BE_PARAMETER_DESCRIPTION, 0, 0, 0, 6, 0, 0}, 7);
	local_describe(text_of(m.kind == 'S' ? find(w, m.name) : w->portal), out);
}

static bool run_execute(struct walk *w, struct buf *out)
{
	struct client *c = w->c;
	struct traits t = stmt_traits(cache_of(c), w->portal);
	if (t.begin || t.flags & TRAIT_TX_PLAIN_END)
		return write_command_complete(out, transaction_control(c, t));
	if (c->hold != HOLD_FAILED)
		return local_execute(c, text_of(w->portal), false, out);
	transaction_write_failed(out);
	return false;
}

/* False: an error was said, and the rest up to Sync does not count. */
static bool run(struct walk *w, const struct frame *f, struct buf *out)
{
	struct msg_bind m;
	switch (f->type) {
	case FE_PARSE:
		return run_parse(w, f, out);
	case FE_BIND:
		w->portal = msg_bind_parse(frame_body(f), &m) ? find(w, m.statement) : NULL;
		say(out, BE_BIND_COMPLETE);
		return w->portal;
	case FE_DESCRIBE:
		describe(w, f, out);
		return true;
	case FE_EXECUTE:
		return run_execute(w, out);
	default:
		return true;
	}
}

void local_batch_run(struct client *c, struct slice in, const struct unit *u, struct buf *out)
{
	struct walk w = {.c = c, .u = u};
	struct frame f;
	for (size_t used = 0; used < u->size; used += frame_size(&f)) {
		if (frame_peek(slice_from(in, used), &f) != PARSE_OK || !run(&w, &f, out))
			return;
	}
}
