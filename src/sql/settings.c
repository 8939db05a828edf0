/* SPDX-License-Identifier: PostgreSQL
 *
 * The particulars of SET, RESET, SHOW, DEALLOCATE and savepoints.
 */
#include "tree.h"

#include <ctype.h>

enum setting_class setting_class(const char *name)
{
	static const struct {
		const char *name;
		enum setting_class class;
	} special[] = {
		{"role", SETTING_ROLE},
		{"session_authorization", SETTING_ROLE},
		{"seed", SETTING_SESSION},
		{"SESSION CHARACTERISTICS", SETTING_DEFAULTS},
		{"TRANSACTION", SETTING_TRANSACTION},
		{"TRANSACTION SNAPSHOT", SETTING_TRANSACTION},
		{"transaction_isolation", SETTING_TRANSACTION},
		{"transaction_read_only", SETTING_TRANSACTION},
		{"transaction_deferrable", SETTING_TRANSACTION},
	};
	if (strncasecmp(name, "tidemark.", 9) == 0)
		return SETTING_ROUTER;
	for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
		if (strcasecmp(name, special[i].name) == 0)
			return special[i].class;
	return SETTING_PLAIN;
}

static bool copy_name(struct set_stmt *s, const char *name)
{
	size_t len = strlen(name);
	if (len >= sizeof(s->name))
		return false;
	for (size_t i = 0; i <= len; i++)
		s->name[i] = (char)tolower((unsigned char)name[i]);
	return true;
}

static bool append_value(struct set_stmt *s, const char *text)
{
	size_t used = strlen(s->value), len = strlen(text);
	if (used + len >= sizeof(s->value))
		return false;
	memcpy(s->value + used, text, len + 1);
	return true;
}

/* "SET TIME ZONE INTERVAL '…'" and "SET TIME ZONE 1.5" are not plain; numbers and booleans are. */
static bool append_constant(struct set_stmt *s, const Node *n)
{
	if (!n || !IsA(n, A_Const) || ((const A_Const *)n)->isnull)
		return false;
	const union ValUnion *val = &((const A_Const *)n)->val;
	char number[16];
	switch (nodeTag(&val->node)) {
	case T_Integer:
		snprintf(number, sizeof(number), "%d", val->ival.ival);
		return append_value(s, number);
	case T_Float:
		return append_value(s, val->fval.fval);
	case T_String:
		return append_value(s, val->sval.sval);
	case T_Boolean:
		return append_value(s, val->boolval.boolval ? "true" : "false");
	default:
		return false;
	}
}

static bool join_values(struct set_stmt *s, const List *args)
{
	const ListCell *cell;
	foreach (cell, args) {
		if (cell != list_head(args) && !append_value(s, ", "))
			return false;
		if (!append_constant(s, lfirst(cell)))
			return false;
	}
	return args != NIL;
}

static enum set_kind kind_of_set(const VariableSetStmt *v)
{
	if (v->is_local)
		return SET_LOCAL;
	return v->kind == VAR_SET_VALUE ? SET_VALUE : SET_RESET;
}

/* False for what is none of the caller's business: it binds, or belongs to the transaction. */
static bool fill_set(struct set_stmt *s, const VariableSetStmt *v)
{
	if (v->kind == VAR_RESET_ALL) {
		s->kind = SET_RESET_ALL;
		return true;
	}
	enum setting_class class = setting_class(v->name);
	if (class != SETTING_PLAIN && class != SETTING_ROUTER)
		return false;
	s->kind = kind_of_set(v);
	if (v->kind == VAR_SET_VALUE)
		s->value_ok = join_values(s, v->args);
	return copy_name(s, v->name);
}

static bool fill_transaction(struct set_stmt *s, const TransactionStmt *t)
{
	switch (t->kind) {
	case TRANS_STMT_SAVEPOINT:
		s->kind = SET_SAVEPOINT;
		break;
	case TRANS_STMT_RELEASE:
		s->kind = SET_RELEASE;
		break;
	case TRANS_STMT_ROLLBACK_TO:
		s->kind = SET_ROLLBACK_TO;
		break;
	default:
		return false;
	}
	/* As the server knows it: not folded again. */
	size_t len = strlen(t->savepoint_name);
	if (len < sizeof(s->name))
		memcpy(s->name, t->savepoint_name, len + 1);
	return s->name[0];
}

static bool fill(struct set_stmt *s, const Node *n)
{
	switch (nodeTag(n)) {
	case T_VariableSetStmt:
		return fill_set(s, (const VariableSetStmt *)n);
	case T_VariableShowStmt: {
		const char *name = ((const VariableShowStmt *)n)->name;
		s->kind = SET_SHOW;
		return setting_class(name) == SETTING_ROUTER && copy_name(s, name);
	}
	case T_TransactionStmt:
		return fill_transaction(s, (const TransactionStmt *)n);
	case T_DeallocateStmt: {
		const char *name = ((const DeallocateStmt *)n)->name;
		s->kind = SET_DEALLOCATE;
		/* A name is kept as the server knows it: not folded again. */
		if (name && strlen(name) < sizeof(s->name))
			memcpy(s->name, name, strlen(name) + 1);
		return !name || s->name[0];
	}
	case T_ExecuteStmt: {
		const char *name = ((const ExecuteStmt *)n)->name;
		s->kind = SET_EXECUTE;
		if (strlen(name) < sizeof(s->name))
			memcpy(s->name, name, strlen(name) + 1);
		return s->name[0];
	}
	default:
		return false;
	}
}

/* A statement's own text, without the white space and semicolons around it. */
static struct slice statement_text(struct slice all, const RawStmt *raw)
{
	size_t start = raw->stmt_location > 0 ? (size_t)raw->stmt_location : 0;
	if (start > all.len)
		start = all.len;
	size_t len = raw->stmt_len > 0 ? (size_t)raw->stmt_len : all.len - start;
	if (len > all.len - start)
		len = all.len - start;
	while (len && isspace(all.ptr[start])) {
		start++;
		len--;
	}
	while (len && (isspace(all.ptr[start + len - 1]) || all.ptr[start + len - 1] == ';'))
		len--;
	return slice_of(all.ptr + start, len);
}

/* SET SESSION CHARACTERISTICS AS TRANSACTION sets default_transaction_isolation and its kin, one for each
 * option (ExecSetVariableStmt() in PostgreSQL's guc.c). The grammar has only constants there. */
static void tell_defaults(const VariableSetStmt *v, uint32_t nth, set_stmt_fn fn, void *arg)
{
	const ListCell *cell;
	foreach (cell, v->args) {
		const DefElem *option = lfirst(cell);
		struct set_stmt s = {.kind = SET_VALUE, .nth = nth};
		char text[128];
		s.value_ok = append_constant(&s, option->arg);
		(void)snprintf(s.name, sizeof(s.name), "default_%s", option->defname);
		(void)snprintf(text, sizeof(text), "SET %s = '%.50s'", s.name, s.value);
		s.text = slice_str(text);
		fn(arg, &s);
	}
}

static bool sets_defaults(const Node *n)
{
	const VariableSetStmt *v = (const VariableSetStmt *)n;
	return IsA(n, VariableSetStmt) && v->kind == VAR_SET_MULTI &&
	       setting_class(v->name) == SETTING_DEFAULTS;
}

bool classify_settings(struct slice text, set_stmt_fn fn, void *arg)
{
	struct parse p;
	parse_begin(&p, text);
	bool ok = p.ok;
	const ListCell *cell;
	foreach (cell, p.statements) {
		const RawStmt *raw = lfirst(cell);
		struct set_stmt s = {.nth = (uint32_t)foreach_current_index(cell)};
		if (sets_defaults(raw->stmt))
			tell_defaults((const VariableSetStmt *)raw->stmt, s.nth, fn, arg);
		if (!fill(&s, raw->stmt))
			continue;
		if (!s.value_ok)
			s.value[0] = '\0';
		s.text = statement_text(text, raw);
		fn(arg, &s);
	}
	parse_end(&p);
	return ok;
}
