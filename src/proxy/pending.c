/* SPDX-License-Identifier: PostgreSQL */
#include "pending.h"

#include <stdlib.h>

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

void pending_forget(struct client *c)
{
	while (c->pending_sets)
		drop(&c->pending_sets);
}

/* ------------------------------------------------------------------- SETs */

struct note {
	struct client *c;
	int appended;
	enum pending_noted result;
};

/* A setting set anew, or RESET ALL: what it replaces need not be remembered, but behind a savepoint. */
static void drop_replaced(struct client *c, const struct set_stmt *st)
{
	struct pending_set **link = &c->pending_sets, **from = link;
	for (; *link; link = &(*link)->next) {
		if (!is_set((*link)->kind))
			from = &(*link)->next;
	}
	while (*from) {
		if (st->kind == SET_RESET_ALL || strcmp((*from)->name, st->name) == 0)
			drop(from);
		else
			from = &(*from)->next;
	}
}

static bool has_room(const struct client *c, size_t bytes)
{
	int count = 0;
	for (const struct pending_set *p = c->pending_sets; p; p = p->next) {
		bytes += p->sql_len;
		count++;
	}
	return count < VARS_MAX && bytes <= VARS_BYTES;
}

static void append(struct note *note, const struct set_stmt *st)
{
	struct pending_set **last = &note->c->pending_sets;
	if (!has_room(note->c, st->text.len)) {
		note->result = PENDING_TOO_MANY;
		return;
	}
	while (*last)
		last = &(*last)->next;
	struct pending_set *p = malloc(sizeof(*p) + st->text.len);
	if (!p) {
		note->result = PENDING_NO_MEMORY;
		return;
	}
	*p = (struct pending_set){
		.kind = st->kind, .asked = !is_set(st->kind), .sql_len = st->text.len};
	memcpy(p->name, st->name, sizeof(p->name));
	if (st->text.len)
		memcpy(p->sql, st->text.ptr, st->text.len);
	*last = p;
	note->appended++;
}

static void note_set(void *arg, const struct set_stmt *st)
{
	struct note *note = arg;
	if (!is_set(st->kind))
		return;
	drop_replaced(note->c, st);
	append(note, st);
}

enum pending_noted pending_note(struct client *c, struct slice text)
{
	struct note note = {.c = c, .result = PENDING_NOTED};
	return classify_settings(text, note_set, &note) ? note.result : PENDING_NO_MEMORY;
}

/* ------------------------------------------------------------- savepoints */

/* What is known of the outcome is that of the whole unit. */
static bool is_single(const struct unit *u, bool amid)
{
	if (u->traits.flags & TRAIT_MULTI || !u->ends)
		return false;
	return u->type == FE_QUERY || (u->statements == 1 && u->executes == 1 && !amid);
}

static void note_step(void *arg, const struct set_stmt *st)
{
	append(arg, st);
}

/* AND CHAIN, or a savepoint. */
static bool is_step(uint32_t flags)
{
	return flags & TRAIT_TX_PARTIAL || (flags & TRAIT_TX_BEGIN && flags & TRAIT_TX_END);
}

/* They count if their transaction commits, which is told by how that ends in a unit of its own. */
bool pending_follows(const struct client *c, const struct unit *u, bool amid)
{
	uint32_t flags = u->traits.flags;
	bool sets = flags & TRAIT_SETS || c->batch_bits & TURN_SETS;
	bool control = flags & (TRAIT_TX_BEGIN | TRAIT_TX_END) || c->batch_bits & TURN_CONTROL;
	if (sets && (control || flags & TRAIT_TX_PARTIAL || !has_room(c, u->text.len)))
		return false;
	bool matters = c->pending_sets && (flags & TRAIT_TX_END || is_step(flags));
	return !matters || is_single(u, amid);
}

bool pending_foresee(struct client *c, const struct unit *u, bool amid)
{
	struct note note = {.c = c, .result = PENDING_NOTED};
	if (!pending_follows(c, u, amid))
		return false;
	if (!c->pending_sets || !is_step(u->traits.flags))
		return true;
	return classify_settings(u->text, note_step, &note) && note.appended == 1;
}

/* Behind the last savepoint of that name; NULL: it is older than the first SET. */
static struct pending_set **behind_savepoint(struct client *c, const char *name, bool itself)
{
	struct pending_set **found = NULL;
	for (struct pending_set **link = &c->pending_sets; *link; link = &(*link)->next) {
		if ((*link)->kind == SET_SAVEPOINT && strcmp((*link)->name, name) == 0)
			found = itself ? link : &(*link)->next;
	}
	return found;
}

static void rolled_back_to(struct client *c, const char *name)
{
	struct pending_set **from = behind_savepoint(c, name, false);
	if (!from)
		from = &c->pending_sets;
	while (*from)
		drop(from);
}

/* Those behind it go too. */
static void released(struct client *c, const char *name)
{
	struct pending_set **from = behind_savepoint(c, name, true);
	if (!from)
		from = &c->pending_sets;
	while (*from) {
		if ((*from)->kind == SET_SAVEPOINT)
			drop(from);
		else
			from = &(*from)->next;
	}
}

bool pending_answered(struct client *c, uint8_t tx)
{
	struct pending_set **last = &c->pending_sets;
	while (*last && (*last)->next)
		last = &(*last)->next;
	if (!*last || !(*last)->asked)
		return false;
	struct pending_set step = **last;
	(*last)->asked = false;
	/* All of these, where they succeed, leave a transaction that has not failed. */
	if (step.kind != SET_SAVEPOINT || tx != TX_OPEN)
		drop(last);
	if (tx == TX_OPEN && step.kind == SET_ROLLBACK_TO)
		rolled_back_to(c, step.name);
	else if (tx == TX_OPEN && step.kind == SET_RELEASE)
		released(c, step.name);
	return tx == TX_OPEN && step.kind == SET_CHAIN;
}
