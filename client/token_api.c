/* SPDX-License-Identifier: PostgreSQL */
#include "opened.h"

/* ---- parse, verify ---- */

/* One token: signed, or "primary". It is not believed. False: it is neither, and *out is primary.
 */
static bool read_one(struct slice item, struct opened *out)
{
	struct token_header h = {0};
	*out = (struct opened){.token.primary = true, .unverified = true};
	if (slice_eq_str(item, TOKEN_PRIMARY_TEXT))
		return true;
	if (!token_read(item, &out->token, &h))
		return false;
	out->key = (uint16_t)(h.key_id + 1);
	out->bound = h.bound;
	return true;
}

static void opened_merge(struct opened *into, const struct opened *from)
{
	token_merge(&into->token, &from->token);
	into->key = 0;
	into->bound |= from->bound;
	into->unverified |= from->unverified;
}

enum tidemark_status tidemark_token_parse(struct tidemark_token *token, const char *text)
{
	struct opened *all = opened_in(token), one;
	struct slice list = text_slice(text);
	int items = 0;

	*all = (struct opened){0};
	bool good = text_list_fits(list);
	for (struct text_walk w = text_walk(list); good && text_next(&w); items++) {
		good = read_one(w.item, &one);
		if (items == 0)
			*all = one;
		else
			opened_merge(all, &one);
	}
	if (good)
		return TIDEMARK_OK;
	*all = (struct opened){.token.primary = true, .unverified = true};
	return TIDEMARK_MALFORMED;
}

static enum tidemark_status status_of(enum token_verdict v)
{
	static const enum tidemark_status status[TOKEN_VERDICTS] = {
		[TOKEN_OK] = TIDEMARK_OK,
		[TOKEN_MALFORMED] = TIDEMARK_MALFORMED,
		[TOKEN_FORGED] = TIDEMARK_FORGED,
		[TOKEN_BOUND] = TIDEMARK_BOUND,
		[TOKEN_EXPIRED] = TIDEMARK_EXPIRED,
		[TOKEN_FUTURE] = TIDEMARK_FUTURE,
		/* A library knows no fleet; if it comes all the same, it must not pass for OK. */
		[TOKEN_FOREIGN] = TIDEMARK_PRIMARY,
		[TOKEN_LOST] = TIDEMARK_PRIMARY,
		[TOKEN_UNKNOWN] = TIDEMARK_PRIMARY,
		[TOKEN_PRIMARY] = TIDEMARK_PRIMARY,
	};
	return status[v];
}

enum tidemark_status tidemark_token_verify(struct tidemark_token *token, const char *text,
                                           const struct tidemark_keys *keys, const char *session,
                                           int64_t now_s, int64_t ttl_s)
{
	struct opened *o = opened_in(token);
	struct token_header h;
	struct token unbelieved;
	struct slice list = text_slice(text);

	*o = (struct opened){0};
	enum tidemark_status s = status_of(
		token_verify_list(list, keys_of(keys), slice_str(session), now_s, ttl_s, &o->token));
	if (s == TIDEMARK_OK && token_read(list, &unbelieved, &h)) {
		o->key = (uint16_t)(h.key_id + 1);
		o->bound = h.bound;
	}
	return s;
}

/* ---- what is in it ---- */

enum tidemark_status tidemark_token_add(struct tidemark_token *token, uint64_t cluster,
                                        uint32_t timeline, uint64_t fork, uint64_t position,
                                        int64_t issued_s)
{
	struct token *t = &opened_in(token)->token;
	bool good = timeline >= 1 && timeline <= TOKEN_TIMELINE_MAX && position != 0;

	opened_in(token)->key = 0;
	if (issued_s > t->issued_s)
		t->issued_s = issued_s;
	token_add(t, (struct token_branch){
					 .cluster = cluster & TOKEN_CLUSTER_MASK,
					 .timeline = timeline,
					 .fork = {fork},
					 .at = {position},
				 });
	return good ? TIDEMARK_OK : TIDEMARK_RANGE;
}

void tidemark_token_merge(struct tidemark_token *into, const struct tidemark_token *from)
{
	opened_merge(opened_in(into), opened_of(from));
}

int tidemark_token_covers(const struct tidemark_token *a, const struct tidemark_token *b)
{
	return token_covers(&opened_of(a)->token, &opened_of(b)->token);
}

int tidemark_token_is_primary(const struct tidemark_token *token)
{
	return opened_of(token)->token.primary;
}

int tidemark_token_is_bound(const struct tidemark_token *token)
{
	return opened_of(token)->bound;
}

int tidemark_token_key_id(const struct tidemark_token *token)
{
	return opened_of(token)->key - 1;
}

int64_t tidemark_token_issued(const struct tidemark_token *token)
{
	return opened_of(token)->token.issued_s;
}

int tidemark_token_branch_count(const struct tidemark_token *token)
{
	return opened_of(token)->token.count;
}

enum tidemark_status tidemark_token_branch(const struct tidemark_token *token, int index,
                                           struct tidemark_branch *branch)
{
	const struct token *t = &opened_of(token)->token;
	*branch = (struct tidemark_branch){0};
	if (index < 0 || index >= t->count)
		return TIDEMARK_RANGE;
	const struct token_branch *b = &t->branches[index];
	branch->cluster = b->cluster;
	branch->timeline = b->timeline;
	branch->fork = b->fork.lsn;
	branch->position = b->at.lsn;
	return TIDEMARK_OK;
}

/* ---- signing ---- */

static enum tidemark_status sign(const struct token *t, const struct token_keys *keys,
                                 const char *session, char *out, size_t cap)
{
	char text[TOKEN_TEXT_MAX];
	if (keys->count == 0 && (t->primary || t->count > 0))
		return text_fail(TIDEMARK_NO_KEY, out, cap);
	token_sign(t, keys, slice_str(session), text);
	return text_put(slice_str(text), out, cap);
}

enum tidemark_status tidemark_token_sign(const struct tidemark_token *token,
                                         const struct tidemark_keys *keys, const char *session,
                                         char *out, size_t cap)
{
	const struct opened *o = opened_of(token);
	if (o->unverified)
		return text_fail(TIDEMARK_UNVERIFIED, out, cap);
	return sign(&o->token, keys_of(keys), session, out, cap);
}

enum tidemark_status tidemark_merge_signed(const char *const texts[], size_t count,
                                           const struct tidemark_keys *keys, const char *session,
                                           int64_t now_s, int64_t ttl_s, char *out, size_t cap)
{
	static const struct token primary = {.primary = true};
	struct token all = {0}, one;
	for (size_t i = 0; i < count; i++) {
		struct slice list = text_slice(texts[i]);
		if (!text_list_fits(list)) {
			token_merge(&all, &primary);
			continue;
		}
		for (struct text_walk w = text_walk(list); text_next(&w);) {
			/* What does not verify has become `primary`. */
			(void)token_verify(w.item, keys_of(keys), slice_str(session), now_s, ttl_s, &one);
			token_merge(&all, &one);
		}
	}
	return sign(&all, keys_of(keys), session, out, cap);
}
