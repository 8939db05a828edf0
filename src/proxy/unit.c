/* SPDX-License-Identifier: PostgreSQL */
#include "unit.h"

#include "client.h"
#include "local.h"
#include "sql/shows_time.h"
#include "sql/tags.h"
#include "transaction.h"
#include "worker.h"

static struct stmt_cache *cache_of(const struct client *c)
{
	return c->account->database->cache;
}

/* Only in a transaction that may write, and that is or may come to be on a replica. */
static bool time_matters(const struct client *c, const struct unit *u)
{
	bool begins = c->hold == HOLD_HELD || u->begin;
	return (begins && client_splits(c)) || (c->server && c->server->on_replica);
}

/* What the transaction that this is part of must know. */
static void note_for_transaction(struct unit *u, struct traits t)
{
	bool ended = u->statements > 0 && u->traits.flags & TRAIT_TX_END;
	u->beyond |= ended || (t.flags & TRAIT_MULTI && t.flags & TRAIT_TX_END);
	if (u->statements == 0 && t.begin) {
		u->begin = t.begin;
		return;
	}
	bool read = t.flags & (TRAIT_READ | TRAIT_CURSOR);
	if (u->plain && !read && !(t.flags & (TRAIT_TX_PLAIN_END | TRAIT_EMPTY))) {
		u->plain = false;
		u->reason = t.reason;
	}
	u->reads |= read;
	u->keeps |= (t.flags & TRAIT_CURSOR) != 0;
	u->shows_time |= (t.flags & TRAIT_SHOWS_TIME) != 0;
}

static void unite(struct unit *u, struct traits t, struct slice text)
{
	struct traits *all = &u->traits;
	note_for_transaction(u, t);
	if (u->statements++ == 0) {
		*all = t;
		u->text = text;
		return;
	}
	bool read = all->flags & t.flags & TRAIT_READ;
	bool capturable = !(all->flags & TRAIT_MAY_WRITE && !(all->flags & TRAIT_CAPTURABLE)) &&
	                  !(t.flags & TRAIT_MAY_WRITE && !(t.flags & TRAIT_CAPTURABLE));
	if (all->flags & TRAIT_READ && !(t.flags & TRAIT_READ))
		all->reason = t.reason;
	if (!all->binds)
		all->binds = t.binds;
	all->flags = (all->flags & ~(uint32_t)TRAIT_TX_CLOSED) | t.flags;
	all->flags &= ~(uint32_t)(TRAIT_READ | TRAIT_CAPTURABLE);
	all->flags |= (read ? (uint32_t)TRAIT_READ : 0) |
	              (capturable && all->flags & TRAIT_MAY_WRITE ? (uint32_t)TRAIT_CAPTURABLE : 0);
}

/* A text that passes by without being here as a whole: it may leave anything behind. */
static struct traits unseen(void)
{
	return (struct traits){.flags = TRAIT_MAY_WRITE | TRAIT_DDL | TRAIT_BINDS,
	                       .reason = REASON_TOO_LONG,
	                       .binds = BIND_SETTINGS};
}

static enum parse_result scan_query(struct client *c, struct slice in, const struct frame *f,
                                    struct unit *u)
{
	u->type = FE_QUERY;
	u->ends = true;
	if (!frame_complete(f, in)) {
		/* Too long to be parsed, but its words may tell what it leaves behind. */
		if (f->body_len <= c->worker->settings->max_packet_size)
			return PARSE_PARTIAL;
		u->size = in.len;
		u->rest = frame_size(f) - in.len;
		unite(u, unseen(), (struct slice){0});
		return PARSE_OK;
	}
	struct slice text;
	if (!msg_query_parse(frame_body(f), &text))
		return PARSE_INVALID;
	u->size = frame_size(f);
	unite(u, stmt_cache_classify(cache_of(c), text), text);
	u->local_only = local_is(c, u->traits, text);
	u->shows_time |= time_matters(c, u) && text_shows_time(text);
	return PARSE_OK;
}

static enum parse_result scan_function(struct slice in, const struct frame *f, struct unit *u)
{
	u->type = FE_FUNCTION_CALL;
	u->ends = true;
	u->size = frame_complete(f, in) ? frame_size(f) : in.len;
	u->rest = frame_size(f) - u->size;
	unite(u,
	      (struct traits){.flags = TRAIT_MAY_WRITE | TRAIT_CAPTURABLE | TRAIT_USER_CODE |
	                               TRAIT_CODE_SETS,
	                      .reason = REASON_UNSAFE_FUNCTION},
	      (struct slice){0});
	return PARSE_OK;
}

static void add_statement(struct client *c, struct unit *u, struct stmt *stmt)
{
	struct slice text = slice_of(stmt->text, stmt->text_len);
	struct traits t = stmt_traits(cache_of(c), stmt);
	u->local_only &= local_is(c, t, text);
	u->shows_time |= time_matters(c, u) && text_shows_time(text);
	unite(u, t, text);
}

static bool scan_parse(struct client *c, const struct frame *f, struct unit *u)
{
	struct msg_parse m;
	if (!msg_parse_parse(frame_body(f), &m))
		return false;
	struct stmt *stmt = stmt_get(cache_of(c), m.query, m.types);
	if (!stmt)
		return false;
	add_statement(c, u, stmt);
	if (u->parsed_count < UNIT_PARSED)
		u->parsed[u->parsed_count++] = stmt;
	else
		stmt_put(cache_of(c), stmt);
	return true;
}

/* A statement parsed earlier in this very batch was united at its Parse. */
static bool scan_bind(struct client *c, struct slice name, struct unit *u)
{
	struct stmt *stmt = name.len == 0 ? c->unnamed : client_stmts_find(&c->stmts, name);
	if (name.len == 0 && u->parsed_count > 0)
		return true;
	if (!stmt) {
		/* Named by a Parse of this batch, or an error that the server will tell. */
		u->local_only &= u->parsed_count > 0;
		return true;
	}
	add_statement(c, u, stmt);
	return true;
}

/* The first names of a Bind whose values are not all here yet. */
static enum parse_result bind_name(struct slice in, const struct frame *f, struct slice *name)
{
	struct slice here = slice_of(
		f->body, in.len - FRAME_HEADER < f->body_len ? in.len - FRAME_HEADER : f->body_len);
	struct msg_bind m;
	if (msg_bind_parse(here, &m)) {
		*name = m.statement;
		return PARSE_OK;
	}
	return here.len == f->body_len || here.len > HOLD_MAX ? PARSE_INVALID : PARSE_PARTIAL;
}

/* The unnamed portal, all its rows. */
static bool execute_is_whole(struct slice body)
{
	static const uint8_t whole[] = {0, 0, 0, 0, 0};
	return slice_eq(body, slice_of(whole, sizeof(whole)));
}

static enum parse_result scan_batch(struct client *c, struct slice in, bool attached,
                                    struct unit *u)
{
	u->type = FE_SYNC;
	u->local_only = true;
	size_t used = 0;
	struct frame f;
	enum parse_result r;
	while ((r = frame_peek(slice_from(in, used), &f)) == PARSE_OK) {
		struct slice rest = slice_from(in, used);
		bool whole = frame_complete(&f, rest);
		struct slice name;
		struct msg_target target;
		if (!whole && f.type != FE_BIND)
			break;
		switch (f.type) {
		case FE_PARSE:
			if (!scan_parse(c, &f, u))
				return PARSE_INVALID;
			break;
		case FE_BIND:
			r = bind_name(rest, &f, &name);
			if (r != PARSE_OK)
				goto cut;
			if (!whole && f.body_len <= HOLD_MAX)
				goto cut;
			if (!scan_bind(c, name, u))
				return PARSE_INVALID;
			u->keeps |= f.body[0] != 0;
			u->shows_time |= whole && time_matters(c, u) && bytes_show_time(frame_body(&f));
			if (!whole) {
				/* Its values pass by as they come. */
				u->local_only = false;
				u->open = true;
				u->size = in.len;
				u->rest = frame_size(&f) - rest.len;
				return PARSE_OK;
			}
			break;
		case FE_DESCRIBE:
			if (!msg_target_parse(frame_body(&f), &target))
				return PARSE_INVALID;
			if (target.kind == 'S')
				scan_bind(c, target.name, u);
			break;
		case FE_EXECUTE:
			u->executes++;
			u->keeps |= !execute_is_whole(frame_body(&f));
			break;
		case FE_CLOSE:
			break;
		case FE_FLUSH:
			u->size = used + frame_size(&f);
			u->open = true;
			return PARSE_OK;
		case FE_SYNC:
			u->size = used + frame_size(&f);
			u->ends = true;
			return PARSE_OK;
		default:
			/* A Query or a COPY message amid a batch: what is there goes first. */
			u->size = used;
			u->open = true;
			return used > 0 ? PARSE_OK : PARSE_INVALID;
		}
		used += frame_size(&f);
	}
cut:
	if (r == PARSE_INVALID)
		return PARSE_INVALID;
	if (used > 0 && (attached || in.len >= HOLD_MAX)) {
		u->size = used;
		u->open = true;
		return PARSE_OK;
	}
	return PARSE_PARTIAL;
}

enum parse_result unit_scan(struct client *c, struct slice in, bool attached, struct unit *u)
{
	u->size = u->rest = 0;
	u->ends = u->open = u->local_only = false;
	u->statements = u->executes = u->parsed_count = 0;
	u->traits = (struct traits){0};
	u->begin = u->reason = 0;
	u->plain = true;
	u->reads = u->keeps = u->beyond = u->shows_time = false;
	u->text = (struct slice){0};

	struct frame f;
	enum parse_result r = frame_peek(in, &f);
	if (r != PARSE_OK)
		return r;
	switch (f.type) {
	case FE_QUERY:
		return scan_query(c, in, &f, u);
	case FE_FUNCTION_CALL:
		return scan_function(in, &f, u);
	case FE_PARSE:
	case FE_BIND:
	case FE_DESCRIBE:
	case FE_EXECUTE:
	case FE_CLOSE:
	case FE_FLUSH:
	case FE_SYNC:
		r = scan_batch(c, in, attached, u);
		u->local_only &= u->statements > 0;
		return r;
	default:
		return PARSE_INVALID;
	}
}

void unit_release(struct client *c, struct unit *u)
{
	for (int i = 0; i < u->parsed_count; i++)
		stmt_put(cache_of(c), u->parsed[i]);
	u->parsed_count = 0;
}

bool unit_names_session(const struct client *c, const struct unit *u)
{
	struct tags t;
	if (!(u->traits.flags & TRAIT_COMMENTED) || !c->worker->settings->query_tags)
		return false;
	tags_parse(u->text, &t);
	return t.present && t.session[0];
}
