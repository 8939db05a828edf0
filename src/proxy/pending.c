/* SPDX-License-Identifier: PostgreSQL */
#include "pending.h"

#include <stdlib.h>

#include "client.h"
#include "sql/classify.h"

static bool is_set(enum set_kind kind)
{
	return kind == SET_VALUE || kind == SET_RESET || kind == SET_RESET_ALL;
}

static void drop(struct pending_set **link)
{
	struct pending_set *p = *link;
	*link = p->next;
	free(p);
}

void pending_free(struct pending_set *list)
{
	while (list)
		drop(&list);
}

void pending_forget(struct client *c)
{
	pending_free(c->pending_sets);
	c->pending_sets = NULL;
}

/* ------------------------------------------------------------- asked for */

static bool has_room(const struct client *c, int count, size_t bytes)
{
	for (const struct pending_set *p = c->pending_sets; p; p = p->next) {
		bytes += p->sql_len;
		count++;
	}
	return count <= VARS_MAX && bytes <= VARS_BYTES;
}

struct asking {
	const struct client *c;
	struct pending_set *first, **last;
	int count;
	size_t bytes;
	enum pending_asked result;
};

static void ask_one(void *arg, const struct set_stmt *st)
{
	struct asking *a = arg;
	bool bears = is_set(st->kind) || st->kind == SET_SAVEPOINT || st->kind == SET_RELEASE ||
	             st->kind == SET_ROLLBACK_TO;
	if (!bears || a->result != PENDING_ASKED)
		return;
	a->count++;
	a->bytes += st->text.len;
	if (!has_room(a->c, a->c->sets_asked + a->count, a->bytes)) {
		a->result = PENDING_TOO_MANY;
		return;
	}
	struct pending_set *p = malloc(sizeof(*p) + st->text.len);
	if (!p) {
		a->result = PENDING_NO_MEMORY;
		return;
	}
	*p = (struct pending_set){.kind = st->kind, .nth = st->nth, .sql_len = st->text.len};
	memcpy(p->name, st->name, sizeof(p->name));
	if (st->text.len)
		memcpy(p->sql, st->text.ptr, st->text.len);
	*a->last = p;
	a->last = &p->next;
}

enum pending_asked pending_ask(const struct client *c, struct slice text,
                               struct pending_set **asked)
{
	struct asking a = {.c = c, .result = PENDING_ASKED};
	a.last = &a.first;
	if (!classify_settings(text, ask_one, &a))
		a.result = PENDING_NO_MEMORY;
	if (a.result != PENDING_ASKED) {
		pending_free(a.first);
		a.first = NULL;
	}
	*asked = a.first;
	return a.result;
}

void pending_give_up(struct client *c, struct slice text)
{
	client_bind(c, BIND_SETTINGS, text);
	pending_forget(c);
}

bool pending_fits(const struct client *c, const struct unit *u)
{
	struct pending_set *asked;
	if (!(u->traits.flags & TRAIT_SETS))
		return true;
	if (u->type != FE_QUERY)
		return has_room(c, c->sets_asked + u->executes, u->text.len);
	bool fits = pending_ask(c, u->text, &asked) == PENDING_ASKED;
	pending_free(asked);
	return fits;
}

uint8_t pending_asked_by(struct replies *r)
{
	uint8_t count = 0;
	for (uint32_t i = 0; i < r->count; i++) {
		const struct reply *e = replies_at(r, i);
		for (const struct pending_set *p = e->tag == TAG_ASKED ? e->data : NULL; p; p = p->next)
			count++;
	}
	return count;
}

/* ------------------------------------------------------------------ done */

/* Where those of the transaction under way begin. */
static struct pending_set **uncommitted(struct client *c)
{
	struct pending_set **link = &c->pending_sets;
	while (*link && (*link)->committed)
		link = &(*link)->next;
	return link;
}

/* A setting set anew, or RESET ALL: what it replaces need not be remembered, but behind a
 * savepoint. */
static void drop_replaced(struct client *c, const struct pending_set *by)
{
	struct pending_set **link = uncommitted(c), **from = link;
	for (; *link; link = &(*link)->next) {
		if (!is_set((*link)->kind))
			from = &(*link)->next;
	}
	while (*from) {
		if (by->kind == SET_RESET_ALL || strcmp((*from)->name, by->name) == 0)
			drop(from);
		else
			from = &(*from)->next;
	}
}

static void append(struct client *c, struct pending_set *p)
{
	if (!has_room(c, 1, p->sql_len)) {
		pending_give_up(c, slice_of(p->sql, p->sql_len));
		free(p);
		return;
	}
	struct pending_set **last = &c->pending_sets;
	while (*last)
		last = &(*last)->next;
	p->next = NULL;
	*last = p;
}

/* Behind the last savepoint of that name; NULL: it is older than the first SET. */
static struct pending_set **behind_savepoint(struct client *c, const char *name, bool itself)
{
	struct pending_set **found = NULL;
	for (struct pending_set **link = uncommitted(c); *link; link = &(*link)->next) {
		if ((*link)->kind == SET_SAVEPOINT && strcmp((*link)->name, name) == 0)
			found = itself ? link : &(*link)->next;
	}
	return found;
}

/* What was set again after a RESET may have come behind the savepoint. */
static void rolled_back_to(struct client *c, const char *name)
{
	struct pending_set **from = behind_savepoint(c, name, false);
	if (!from)
		from = uncommitted(c);
	while (*from)
		drop(from);
	for (struct pending_set *p = *uncommitted(c); p; p = p->next)
		p->restored = false;
}

/* Those behind it go too. */
static void released(struct client *c, const char *name)
{
	struct pending_set **from = behind_savepoint(c, name, true);
	if (!from)
		from = uncommitted(c);
	while (*from) {
		if ((*from)->kind == SET_SAVEPOINT)
			drop(from);
		else
			from = &(*from)->next;
	}
}

static void one_done(struct client *c, struct pending_set *p)
{
	if (is_set(p->kind)) {
		drop_replaced(c, p);
		append(c, p);
	} else if (p->kind == SET_SAVEPOINT && *uncommitted(c)) {
		append(c, p);
	} else {
		if (p->kind == SET_ROLLBACK_TO)
			rolled_back_to(c, p->name);
		else if (p->kind == SET_RELEASE)
			released(c, p->name);
		free(p);
	}
}

bool pending_done(struct client *c, struct reply *e)
{
	struct pending_set *p = e->data;
	uint32_t nth = e->size++;
	bool any = p && p->nth == nth;
	for (; p && p->nth == nth; p = e->data) {
		e->data = p->next;
		one_done(c, p);
	}
	return any;
}

void pending_ended(struct client *c, bool committed)
{
	struct pending_set **from = uncommitted(c);
	if (!committed) {
		pending_free(*from);
		*from = NULL;
	}
	for (struct pending_set *p = *from; p; p = p->next)
		p->committed = true;
}
