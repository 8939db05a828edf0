/* SPDX-License-Identifier: PostgreSQL */
#include "prepare.h"

#include "questions.h"
#include "server.h"

bool prepare_push(struct forward *f, uint8_t kind, uint8_t to, uint8_t tag, struct stmt *stmt, uint32_t meaning)
{
	struct reply e = {.kind = kind, .to = to, .tag = tag, .size = meaning, .data = stmt_ref(stmt)};
	if (forward_push_entry(f, e))
		return true;
	stmt_put(f->cache, stmt);
	return false;
}

static bool close_oldest(struct forward *f)
{
	char name[STMT_NAME_MAX];
	struct server_stmt old = *server_stmts_oldest(&f->s->stmts);
	struct buf close;
	buf_init(&close, 128);
	write_close(&close, 'S', slice_of(name, stmt_server_name(old.stmt, old.meaning, name)));
	struct slice bytes = buf_slice(&close);
	chain_copy(f->out, bytes.ptr, bytes.len);
	buf_release(&close);
	/* Behind an error the server skips it: then the statement is still there. */
	bool ok = prepare_push(f, REPLY_CLOSE, REPLY_NOBODY, TAG_CLOSE_EVICTED, old.stmt, old.meaning);
	server_stmts_drop(&f->s->stmts, f->cache, old.stmt, old.meaning);
	return ok;
}

bool prepare_room(struct forward *f, int count, size_t bytes)
{
	struct server *s = f->s;
	const struct settings *limits = f->c->worker->settings;
	bool ok = true;
	while (ok && !s->in_tx_after && s->stmts.count > 0 &&
	       (s->stmts.count + count > limits->max_prepared_statements ||
	        s->stmts.bytes + bytes > limits->max_client_statements_size))
		ok = close_oldest(f);
	return ok;
}

bool prepare_forget_outdated(struct forward *f)
{
	struct server *s = f->s;
	uint32_t now = f->c->account->database->ddl_count;
	if (s->stmts_ddl == now || s->in_tx_after)
		return true;
	while (s->stmts.count > 0) {
		if (!close_oldest(f))
			return false;
	}
	s->stmts_ddl = now;
	return true;
}

bool prepare_hide(struct forward *f)
{
	struct server *s = f->s;
	if (s->replies.count > 0)
		return true;
	while (f->c->stmts.count == 0 && s->stmts.count > 0) {
		if (!close_oldest(f))
			return false;
	}
	return questions_hide(f);
}

void prepare_send(struct forward *f, const struct stmt *stmt, struct slice name)
{
	size_t types = (size_t)stmt->type_count * 4;
	uint8_t head[FRAME_HEADER];
	head[0] = FE_PARSE;
	store_be32(head + 1, (uint32_t)(4 + name.len + 1 + stmt->text_len + 1 + 2 + types));
	chain_copy(f->out, head, sizeof(head));
	if (name.len)
		chain_copy(f->out, name.ptr, name.len);
	chain_copy(f->out, "", 1);
	chain_copy(f->out, stmt->text, stmt->text_len);
	uint8_t tail[3] = {0};
	store_be16(tail + 1, stmt->type_count);
	chain_copy(f->out, tail, sizeof(tail));
	if (types)
		chain_copy(f->out, stmt->types, types);
}

void prepare_note_unnamed(struct forward *f, struct stmt *stmt)
{
	if (f->s->unnamed)
		stmt_put(f->cache, f->s->unnamed);
	f->s->unnamed = stmt ? stmt_ref(stmt) : NULL;
	f->s->unnamed_by = f->c->serial;
}

static bool inject_unnamed(struct forward *f, struct stmt *stmt)
{
	prepare_note_unnamed(f, stmt);
	f->c->worker->stats.prepares++;
	prepare_send(f, stmt, (struct slice){0});
	return prepare_push(f, REPLY_PARSE, REPLY_QUIET, TAG_PARSE_INJECTED_UNNAMED, stmt, 0);
}

bool prepare_unnamed(struct forward *f, struct stmt *stmt)
{
	bool there = f->s->unnamed == stmt && f->s->unnamed_by == f->c->serial;
	return there || inject_unnamed(f, stmt);
}

uint32_t prepare_meaning(const struct forward *f)
{
	const struct server *s = f->s;
	bool known = s->vars && !f->c->tx_sets && !f->c->sets_unknown;
	return known ? s->vars->meaning : MEANING_UNKNOWN;
}

bool prepare_ensure(struct forward *f, struct stmt *stmt, uint32_t meaning)
{
	if (meaning == MEANING_UNKNOWN)
		return inject_unnamed(f, stmt);
	if (server_stmts_touch(&f->s->stmts, stmt, meaning))
		return true;
	char name[STMT_NAME_MAX];
	if (!prepare_room(f, 1, stmt->text_len) || !server_stmts_add(&f->s->stmts, stmt, meaning))
		return f->why ? false : forward_no_memory(f);
	f->c->worker->stats.prepares++;
	prepare_send(f, stmt, slice_of(name, stmt_server_name(stmt, meaning, name)));
	return prepare_push(f, REPLY_PARSE, REPLY_QUIET, TAG_PARSE_INJECTED, stmt, meaning);
}
