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

/* PL/pgSQL knows none but these, and takes the others away when it is loaded: which it may be
 * already, for another client. */
static bool is_strange_to_plpgsql(const char *name)
{
	static const char *const known[] = {"plpgsql.variable_conflict", "plpgsql.print_strict_params",
	                                    "plpgsql.check_asserts", "plpgsql.extra_warnings",
	                                    "plpgsql.extra_errors"};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcasecmp(name, known[i]) == 0)
			return false;
	return strncasecmp(name, "plpgsql.", 8) == 0;
}

enum bind_reason setting_binds(const char *name, const char *value)
{
	/* Does not fit into a set_stmt. */
	if (strlen(name) >= sizeof(((struct set_stmt *)0)->name))
		return BIND_SETTINGS;
	if (!value)
		return BIND_NONE;
	/* From here on a backslash means something else to the server than to our parser. */
	if (strcasecmp(name, "standard_conforming_strings") == 0)
		return strcasecmp(value, "on") == 0 ? BIND_NONE : BIND_SETTINGS;
	/* Tables are now created in the temporary schema without saying so. */
	if (strcasecmp(name, "search_path") == 0 && strncmp(value, "pg_temp", 7) == 0)
		return BIND_TEMP;
	/* Whoever says what is to be counted looks at the counts, which are the primary's. */
	if (strcasecmp(name, "track_counts") == 0 || strcasecmp(name, "track_functions") == 0)
		return BIND_STATISTICS;
	if (is_strange_to_plpgsql(name))
		return BIND_LOAD;
	return BIND_NONE;
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

/* SET SESSION CHARACTERISTICS AS TRANSACTION sets default_transaction_isolation and its kin, one
 * for each option (ExecSetVariableStmt() in PostgreSQL's guc.c). The grammar has only constants
 * there. */
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

/* Of more there is no use: it could not be replayed with others. */
#define CONFIG_VALUE_MAX 1024

static const char *constant_string(const Node *n)
{
	bool is = n && IsA(n, A_Const) && !((const A_Const *)n)->isnull &&
	          IsA(&((const A_Const *)n)->val.node, String);
	return is ? ((const A_Const *)n)->val.sval.sval : NULL;
}

/* Names that SET takes without quotes. */
static bool is_plain_name(const char *name)
{
	if (!isalpha((unsigned char)name[0]) && name[0] != '_')
		return false;
	for (const char *p = name; *p; p++) {
		if (!isalnum((unsigned char)*p) && *p != '_' && *p != '.')
			return false;
	}
	return true;
}

/* The name and value of set_config(name, value, false). */
static bool config_call(const Node *target, const char **name, const char **value)
{
	const Node *n = target && IsA(target, ResTarget) ? ((const ResTarget *)target)->val : NULL;
	const FuncCall *f = (const FuncCall *)n;
	if (!n || !IsA(n, FuncCall) || list_length(f->args) != 3 || f->agg_order || f->agg_filter ||
	    f->over || f->agg_within_group || f->agg_star || f->agg_distinct || f->func_variadic)
		return false;
	bool qualified =
		list_length(f->funcname) == 2 && strcmp(strVal(linitial(f->funcname)), "pg_catalog") == 0;
	if ((list_length(f->funcname) != 1 && !qualified) ||
	    strcmp(strVal(llast(f->funcname)), "set_config") != 0)
		return false;
	const Node *local = llast(f->args);
	*name = constant_string(linitial(f->args));
	*value = constant_string(lsecond(f->args));
	if (*name && *value && strcasecmp(*name, "search_path") == 0 && strcasestr(*value, "pg_temp"))
		return false;
	return *name && *value && IsA(local, A_Const) && !((const A_Const *)local)->isnull &&
	       IsA(&((const A_Const *)local)->val.node, Boolean) &&
	       !((const A_Const *)local)->val.boolval.boolval && is_plain_name(*name) &&
	       setting_class(*name) == SETTING_PLAIN && setting_binds(*name, *value) == BIND_NONE &&
	       strlen(*value) <= CONFIG_VALUE_MAX;
}

bool select_sets(const Node *n)
{
	const SelectStmt *s = (const SelectStmt *)n;
	const char *name, *value;
	const ListCell *cell;
	if (!IsA(n, SelectStmt) || s->op != SETOP_NONE || s->distinctClause || s->intoClause ||
	    s->fromClause || s->whereClause || s->groupClause || s->havingClause || s->windowClause ||
	    s->valuesLists || s->sortClause || s->limitOffset || s->limitCount || s->lockingClause ||
	    s->withClause)
		return false;
	foreach (cell, s->targetList) {
		if (!config_call(lfirst(cell), &name, &value))
			return false;
	}
	return s->targetList != NIL;
}

/* Replayed by the same function, for SET would take a list as one name; and without a row. */
static void tell_config_calls(const SelectStmt *select, uint32_t nth, set_stmt_fn fn, void *arg)
{
	const ListCell *cell;
	foreach (cell, select->targetList) {
		struct set_stmt s = {.kind = SET_VALUE, .nth = nth};
		const char *name, *value;
		char quoted[2 * CONFIG_VALUE_MAX + 1], text[sizeof(quoted) + 160];
		size_t n = 0;
		if (!config_call(lfirst(cell), &name, &value) || !copy_name(&s, name))
			continue;
		s.value_ok = append_value(&s, value);
		for (const char *p = value; *p; p++) {
			if (*p == '\'')
				quoted[n++] = '\'';
			quoted[n++] = *p;
		}
		quoted[n] = '\0';
		(void)snprintf(text, sizeof(text),
		               "SELECT WHERE pg_catalog.set_config('%s', '%s', false) IS NULL", s.name,
		               quoted);
		s.text = slice_str(text);
		fn(arg, &s);
	}
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
		if (select_sets(raw->stmt))
			tell_config_calls((const SelectStmt *)raw->stmt, s.nth, fn, arg);
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
