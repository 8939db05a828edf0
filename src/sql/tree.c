/* SPDX-License-Identifier: PostgreSQL */
#include "tree.h"

#include <stdlib.h>

/* The parser may look a little past the end for the rest of a cut multi-byte character. */
#define TEXT_PADDING 8
/* Nodes that wait to be visited: most statements need few, and no text has more than two a byte. */
#define WALK_FIRST 128
#define WALK_MAX (CLASSIFY_TEXT_MAX * 2)
#define SCAN_WORK_MAX (1024 * 1024)

void classify_thread_init(void)
{
	/* libpg_query sets up its memory contexts at the first use in a thread. */
	pg_query_exit_memory_context(pg_query_enter_memory_context());
}

static bool is_operator_char(uint8_t c)
{
	return c && strchr("~!@#^&|`?+-*/%<>=", c);
}

/* PostgreSQL's scanner reads a whole run of operator characters anew for each comment that opens in
 * it: 64 kB of slash and star would hold the thread for seconds. */
static bool scans_slowly(struct slice text)
{
	size_t work = 0;
	const uint8_t *p = text.ptr, *end = text.ptr + text.len;
	while (p < end && (p = memmem(p, (size_t)(end - p), "/*", 2))) {
		const uint8_t *run = p;
		size_t opens = 0;
		for (; p < end && is_operator_char(*p); p++)
			opens += *p == '/' && p + 1 < end && p[1] == '*';
		work += opens * (size_t)(p - run);
	}
	return work > SCAN_WORK_MAX;
}

static void parse_text(struct parse *p, const char *text)
{
	p->context = pg_query_enter_memory_context();
	PgQueryInternalParsetreeAndError result = pg_query_raw_parse(text);
	free(result.stderr_buffer);
	p->ok = !result.error;
	if (result.error)
		pg_query_free_error(result.error);
	else
		p->statements = result.tree;
}

void parse_begin(struct parse *p, struct slice text)
{
	*p = (struct parse){0};
	if (text.len > CLASSIFY_TEXT_MAX)
		return;
	if (text.len && (memchr(text.ptr, 0, text.len) || scans_slowly(text)))
		return;
	char *copy = malloc(text.len + TEXT_PADDING);
	if (!copy)
		return;
	if (text.len)
		memcpy(copy, text.ptr, text.len);
	memset(copy + text.len, 0, TEXT_PADDING);
	/* The trees do not point into the text. */
	parse_text(p, copy);
	free(copy);
}

void parse_end(struct parse *p)
{
	if (p->context)
		pg_query_exit_memory_context(p->context);
	*p = (struct parse){0};
}

struct walk {
	const struct catalog *catalog;
	struct query_facts *facts;
	const Node **nodes; /* yet to be visited: `first`, or on the heap */
	size_t depth, cap;
	const Node *first[WALK_FIRST];
};

static bool walk_grow(struct walk *w)
{
	if (w->cap >= WALK_MAX)
		return false;
	bool on_heap = w->nodes != w->first;
	const Node **nodes = realloc(on_heap ? w->nodes : NULL, w->cap * 4 * sizeof(*nodes));
	if (!nodes)
		return false;
	if (!on_heap)
		memcpy(nodes, w->first, sizeof(w->first));
	w->nodes = nodes;
	w->cap *= 4;
	return true;
}

static void push(struct walk *w, const void *node)
{
	if (!node)
		return;
	if (w->depth == w->cap && !walk_grow(w)) {
		w->facts->unknown = true;
		return;
	}
	w->nodes[w->depth++] = node;
}

static void bind(struct query_facts *f, enum bind_reason reason)
{
	if (f->binds == BIND_NONE)
		f->binds = (uint8_t)reason;
}

/* The last part of a possibly qualified name; "" if it has none. */
static const char *last_name(const List *names)
{
	const Node *last = names ? llast(names) : NULL;
	return last && IsA(last, String) ? strVal(last) : "";
}

static bool is_literal_true(const Node *n)
{
	if (n && IsA(n, TypeCast))
		n = ((const TypeCast *)n)->arg;
	return n && IsA(n, A_Const) && !((const A_Const *)n)->isnull &&
	       IsA(&((const A_Const *)n)->val.node, Boolean) &&
	       ((const A_Const *)n)->val.boolval.boolval;
}

/* set_config(name, value, true) lives until the end of the transaction; anything else may not. */
static bool set_config_is_local(const FuncCall *call)
{
	return list_length(call->args) == 3 && !call->func_variadic &&
	       is_literal_true(llast(call->args));
}

static bool is_one_of(const char *name, const char *const names[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}
#define IS_ONE_OF(name, names) is_one_of(name, names, sizeof(names) / sizeof((names)[0]))

/* A text becomes one of these by a cast, and it may be 'now'. */
static bool is_time_type(const char *name)
{
	static const char *const types[] = {"date", "time", "timetz", "timestamp", "timestamptz"};
	return IS_ONE_OF(name, types);
}

/* The clock itself, what makes times of texts that nobody sees here, and functions of the user's:
 * what they ask is not seen. */
static bool shows_time(const struct catalog *c, const char *name)
{
	static const char *const functions[] = {"now",
	                                        "transaction_timestamp",
	                                        "statement_timestamp",
	                                        "clock_timestamp",
	                                        "timeofday",
	                                        "age",
	                                        "pg_timezone_names",
	                                        "pg_timezone_abbrevs",
	                                        "json_to_record",
	                                        "json_to_recordset",
	                                        "json_populate_record",
	                                        "json_populate_recordset",
	                                        "jsonb_to_record",
	                                        "jsonb_to_recordset",
	                                        "jsonb_populate_record",
	                                        "jsonb_populate_recordset"};
	return IS_ONE_OF(name, functions) || is_time_type(name) ||
	       catalog_user_function(c, slice_str(name));
}

static void visit_function_name(struct walk *w, const char *name, const FuncCall *call)
{
	enum function_safety safety = catalog_function(w->catalog, slice_str(name));
	w->facts->statements |= strcmp(name, "pg_prepared_statement") == 0;
	w->facts->shows_time |= shows_time(w->catalog, name);
	if (safety == FUNCTION_SAFE)
		return;
	w->facts->unsafe_function = true;
	if (safety == FUNCTION_UNSAFE)
		w->facts->user_code |= catalog_user_function(w->catalog, slice_str(name));
	w->facts->strange_code |= catalog_strange_function(w->catalog, slice_str(name));
	switch (safety) {
	case FUNCTION_ADVISORY:
		bind(w->facts, BIND_ADVISORY);
		break;
	case FUNCTION_SET_CONFIG:
		w->facts->sets_local = true;
		if (!set_config_is_local(call))
			bind(w->facts, BIND_SET_CONFIG);
		break;
	case FUNCTION_SEQUENCE:
		bind(w->facts, BIND_SEQUENCE);
		break;
	case FUNCTION_STATISTICS:
		bind(w->facts, BIND_STATISTICS);
		break;
	case FUNCTION_SAFE:
	case FUNCTION_UNSAFE:
		break;
	}
}

static void visit_function(struct walk *w, const FuncCall *f)
{
	visit_function_name(w, last_name(f->funcname), f);
	push(w, f->args);
	push(w, f->agg_order);
	push(w, f->agg_filter);
	push(w, f->over);
}

static void visit_operator(struct walk *w, const A_Expr *e)
{
	if (catalog_operator_safe(w->catalog, slice_str(last_name(e->name))))
		return;
	w->facts->unsafe_function = true;
	w->facts->user_code = true;
}

/* A sequence can be read like a table: its columns tell it apart where the catalog cannot. */
static void visit_column(struct walk *w, const ColumnRef *c)
{
	const char *name = last_name(c->fields);
	if (strcmp(name, "last_value") == 0 || strcmp(name, "is_called") == 0 ||
	    strcmp(name, "log_cnt") == 0)
		w->facts->server_local = true;
}

static void visit_relation(struct walk *w, const RangeVar *r)
{
	if (relation_is_temp(r) || !catalog_relation_safe(w->catalog, slice_str(r->relname)))
		w->facts->server_local = true;
	w->facts->statements |= strcmp(r->relname, "pg_prepared_statements") == 0;
	w->facts->runs_code |= catalog_relation_runs_code(w->catalog, slice_str(r->relname));
	w->facts->shows_time |= catalog_relation_shows_time(w->catalog, slice_str(r->relname));
}

/* Literals and parameters are in the client's bytes, for all to see. */
static void visit_cast(struct walk *w, const TypeCast *cast)
{
	bool seen = IsA(cast->arg, A_Const) || IsA(cast->arg, ParamRef);
	const char *type = last_name(cast->typeName->names);
	w->facts->shows_time |= is_time_type(type) && (!seen || strcmp(type, "timetz") == 0);
	push(w, cast->arg);
}

static void visit_sample(struct walk *w, const RangeTableSample *s)
{
	const char *method = last_name(s->method);
	/* The two built-in methods are volatile only in their choice of rows. */
	if (strcmp(method, "bernoulli") != 0 && strcmp(method, "system") != 0)
		w->facts->unsafe_function = true;
	push(w, s->relation);
	push(w, s->args);
	push(w, s->repeatable);
}

static void visit_select(struct walk *w, const SelectStmt *s)
{
	if (s->intoClause) {
		w->facts->writes = true;
		if (relation_is_temp(s->intoClause->rel))
			w->facts->into_temp = true;
	}
	if (s->lockingClause)
		w->facts->locks = true;
	push(w, s->larg);
	push(w, s->rarg);
	push(w, s->withClause);
	/* SELECT DISTINCT without ON is a list of one NULL, which push() skips. */
	push(w, s->distinctClause);
	push(w, s->targetList);
	push(w, s->fromClause);
	push(w, s->whereClause);
	push(w, s->groupClause);
	push(w, s->havingClause);
	push(w, s->windowClause);
	push(w, s->valuesLists);
	push(w, s->sortClause);
	push(w, s->limitOffset);
	push(w, s->limitCount);
}

static void visit_target(struct walk *w, const RangeVar *r)
{
	w->facts->writes = true;
	w->facts->runs_code |= !r || catalog_relation_runs_code(w->catalog, slice_str(r->relname));
}

static void visit_insert(struct walk *w, const InsertStmt *s)
{
	visit_target(w, s->relation);
	push(w, s->withClause);
	push(w, s->cols);
	push(w, s->selectStmt);
	push(w, s->onConflictClause);
	push(w, s->returningList);
}

static void visit_update(struct walk *w, const UpdateStmt *s)
{
	visit_target(w, s->relation);
	push(w, s->withClause);
	push(w, s->targetList);
	push(w, s->fromClause);
	push(w, s->whereClause);
	push(w, s->returningList);
}

static void visit_delete(struct walk *w, const DeleteStmt *s)
{
	visit_target(w, s->relation);
	push(w, s->withClause);
	push(w, s->usingClause);
	push(w, s->whereClause);
	push(w, s->returningList);
}

static void visit_merge(struct walk *w, const MergeStmt *s)
{
	visit_target(w, s->relation);
	push(w, s->withClause);
	push(w, s->sourceRelation);
	push(w, s->joinCondition);
	push(w, s->mergeWhenClauses);
}

static void push2(struct walk *w, const void *a, const void *b)
{
	push(w, a);
	push(w, b);
}

static void push3(struct walk *w, const void *a, const void *b, const void *c)
{
	push2(w, a, b);
	push(w, c);
}

/* The clauses of statements, and what stands in FROM. False: not one of these. */
static bool visit_clause(struct walk *w, const Node *n)
{
	switch (nodeTag(n)) {
	case T_SelectStmt:
		visit_select(w, (const SelectStmt *)n);
		return true;
	case T_InsertStmt:
		visit_insert(w, (const InsertStmt *)n);
		return true;
	case T_UpdateStmt:
		visit_update(w, (const UpdateStmt *)n);
		return true;
	case T_DeleteStmt:
		visit_delete(w, (const DeleteStmt *)n);
		return true;
	case T_MergeStmt:
		visit_merge(w, (const MergeStmt *)n);
		return true;
	case T_MergeWhenClause: {
		const MergeWhenClause *m = (const MergeWhenClause *)n;
		push3(w, m->condition, m->targetList, m->values);
		return true;
	}
	case T_OnConflictClause: {
		const OnConflictClause *o = (const OnConflictClause *)n;
		push3(w, o->infer, o->targetList, o->whereClause);
		return true;
	}
	case T_InferClause:
		push2(w, ((const InferClause *)n)->indexElems, ((const InferClause *)n)->whereClause);
		return true;
	case T_IndexElem:
		push(w, ((const IndexElem *)n)->expr);
		return true;
	case T_WithClause:
		push(w, ((const WithClause *)n)->ctes);
		return true;
	case T_CommonTableExpr: {
		const CommonTableExpr *cte = (const CommonTableExpr *)n;
		push2(w, cte->ctequery, cte->cycle_clause);
		return true;
	}
	case T_CTECycleClause: {
		const CTECycleClause *cycle = (const CTECycleClause *)n;
		push2(w, cycle->cycle_mark_value, cycle->cycle_mark_default);
		return true;
	}
	case T_RangeVar:
		visit_relation(w, (const RangeVar *)n);
		return true;
	case T_JoinExpr: {
		const JoinExpr *j = (const JoinExpr *)n;
		push3(w, j->larg, j->rarg, j->quals);
		return true;
	}
	case T_RangeSubselect:
		push(w, ((const RangeSubselect *)n)->subquery);
		return true;
	case T_RangeFunction:
		/* A list of (function, column definitions): the definitions name types only. */
		push2(w, ((const RangeFunction *)n)->functions, ((const RangeFunction *)n)->coldeflist);
		return true;
	case T_RangeTableSample:
		visit_sample(w, (const RangeTableSample *)n);
		return true;
	case T_RangeTableFunc: {
		const RangeTableFunc *f = (const RangeTableFunc *)n;
		/* Its columns have types, and its texts come from anywhere. */
		w->facts->shows_time = true;
		push3(w, f->docexpr, f->rowexpr, f->namespaces);
		push(w, f->columns);
		return true;
	}
	case T_RangeTableFuncCol: {
		const RangeTableFuncCol *f = (const RangeTableFuncCol *)n;
		push2(w, f->colexpr, f->coldefexpr);
		return true;
	}
	case T_ResTarget:
		push2(w, ((const ResTarget *)n)->indirection, ((const ResTarget *)n)->val);
		return true;
	case T_SortBy:
		push(w, ((const SortBy *)n)->node);
		return true;
	case T_GroupingSet:
		push(w, ((const GroupingSet *)n)->content);
		return true;
	case T_WindowDef: {
		const WindowDef *d = (const WindowDef *)n;
		push2(w, d->partitionClause, d->orderClause);
		push2(w, d->startOffset, d->endOffset);
		return true;
	}
	default:
		return false;
	}
}

/* Expressions. A node that is not listed makes the whole query unknown. */
static void visit_expression(struct walk *w, const Node *n)
{
	switch (nodeTag(n)) {
	case T_A_Const:
	case T_ParamRef:
	case T_A_Star:
	case T_String:
	case T_SetToDefault:
	case T_CurrentOfExpr:
	case T_ColumnDef:
		break;
	case T_SQLValueFunction:
		/* CURRENT_DATE … LOCALTIMESTAMP(n); behind them come CURRENT_ROLE and the like. */
		w->facts->shows_time |= ((const SQLValueFunction *)n)->op <= SVFOP_LOCALTIMESTAMP_N;
		break;
	case T_ColumnRef:
		visit_column(w, (const ColumnRef *)n);
		break;
	case T_FuncCall:
		visit_function(w, (const FuncCall *)n);
		break;
	case T_A_Expr:
		visit_operator(w, (const A_Expr *)n);
		push2(w, ((const A_Expr *)n)->lexpr, ((const A_Expr *)n)->rexpr);
		break;
	case T_BoolExpr:
		push(w, ((const BoolExpr *)n)->args);
		break;
	case T_TypeCast:
		visit_cast(w, (const TypeCast *)n);
		break;
	case T_CollateClause:
		push(w, ((const CollateClause *)n)->arg);
		break;
	case T_NamedArgExpr:
		push(w, ((const NamedArgExpr *)n)->arg);
		break;
	case T_A_Indices:
		push2(w, ((const A_Indices *)n)->lidx, ((const A_Indices *)n)->uidx);
		break;
	case T_A_Indirection:
		push2(w, ((const A_Indirection *)n)->arg, ((const A_Indirection *)n)->indirection);
		break;
	case T_A_ArrayExpr:
		push(w, ((const A_ArrayExpr *)n)->elements);
		break;
	case T_MultiAssignRef:
		/* Each column of "(a, b) = (…)" points to the same source: once is enough. */
		if (((const MultiAssignRef *)n)->colno == 1)
			push(w, ((const MultiAssignRef *)n)->source);
		break;
	case T_SubLink:
		push2(w, ((const SubLink *)n)->testexpr, ((const SubLink *)n)->subselect);
		break;
	case T_CaseExpr: {
		const CaseExpr *c = (const CaseExpr *)n;
		push3(w, c->arg, c->args, c->defresult);
		break;
	}
	case T_CaseWhen:
		push2(w, ((const CaseWhen *)n)->expr, ((const CaseWhen *)n)->result);
		break;
	case T_RowExpr:
		push(w, ((const RowExpr *)n)->args);
		break;
	case T_CoalesceExpr:
		push(w, ((const CoalesceExpr *)n)->args);
		break;
	case T_MinMaxExpr:
		push(w, ((const MinMaxExpr *)n)->args);
		break;
	case T_NullTest:
		push(w, ((const NullTest *)n)->arg);
		break;
	case T_BooleanTest:
		push(w, ((const BooleanTest *)n)->arg);
		break;
	case T_GroupingFunc:
		push(w, ((const GroupingFunc *)n)->args);
		break;
	case T_XmlExpr:
		push2(w, ((const XmlExpr *)n)->named_args, ((const XmlExpr *)n)->args);
		break;
	case T_XmlSerialize:
		push(w, ((const XmlSerialize *)n)->expr);
		break;
	default:
		w->facts->unknown = true;
	}
}

void query_walk(Node *root, const struct catalog *c, struct query_facts *facts)
{
	struct walk w;
	w.catalog = c;
	w.facts = facts;
	w.nodes = w.first;
	w.depth = 0;
	w.cap = WALK_FIRST;
	push(&w, root);
	while (w.depth) {
		const Node *n = w.nodes[--w.depth];
		if (IsA(n, List)) {
			const ListCell *cell;
			foreach (cell, (const List *)n)
				push(&w, lfirst(cell));
		} else if (!visit_clause(&w, n)) {
			visit_expression(&w, n);
		}
	}
	if (w.nodes != w.first)
		free(w.nodes);
}

bool relation_is_temp(const RangeVar *rel)
{
	return rel && (rel->relpersistence == RELPERSISTENCE_TEMP ||
	               (rel->schemaname && strncmp(rel->schemaname, "pg_temp", 7) == 0));
}
