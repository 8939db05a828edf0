/* SPDX-License-Identifier: PostgreSQL
 *
 * One function a kind of statement. Whatever is not named here is DDL: a write that may change the
 * catalog.
 */
#include "tree.h"
#include "begin.h"
#include "lex.h"
#include "opaque.h"
#include "tags.h"

static struct traits traits_of(uint32_t flags, enum route_reason reason)
{
	return (struct traits){.flags = flags, .reason = (uint8_t)reason};
}

/* A utility statement without a result, that a capture may follow. */
static struct traits utility(uint32_t flags, enum route_reason reason)
{
	return traits_of(flags | TRAIT_RESULT_FREE | TRAIT_CAPTURABLE, reason);
}

/* Runs code of the user's. */
static struct traits with_code(struct traits t, const struct catalog *c)
{
	t.flags |= TRAIT_USER_CODE | (catalog_code_sets(c) ? TRAIT_CODE_SETS : 0);
	return t;
}

static struct traits with_bind(struct traits t, enum bind_reason reason)
{
	t.flags |= TRAIT_BINDS;
	if (t.binds == BIND_NONE)
		t.binds = (uint8_t)reason;
	return t;
}

static struct traits facts_to_traits(const struct query_facts *f, const struct catalog *c)
{
	struct traits t = traits_of(TRAIT_CAPTURABLE | TRAIT_MAY_WRITE, REASON_WRITE);
	if (f->unknown)
		t.reason = REASON_UNPARSABLE;
	else if (f->writes)
		t.reason = REASON_WRITE;
	else if (f->locks)
		t.reason = REASON_LOCKING;
	else if (f->unsafe_function)
		t.reason = REASON_UNSAFE_FUNCTION;
	else if (f->server_local)
		t = traits_of(TRAIT_CAPTURABLE, REASON_UNSAFE_FUNCTION);
	else
		t = traits_of(TRAIT_CAPTURABLE | TRAIT_READ, REASON_REPLICA_FRESH);
	if (f->user_code || (f->runs_code && (f->writes || f->server_local)))
		t = with_code(t, c);
	if (f->strange_code)
		t.flags |= TRAIT_USER_CODE | TRAIT_CODE_SETS;
	if (f->statements)
		t.flags |= TRAIT_SEES_STATEMENTS;
	if (f->sets_local)
		t.flags |= TRAIT_SETS_LOCAL;
	if (f->shows_time && t.flags & TRAIT_READ)
		t.flags |= TRAIT_SHOWS_TIME;
	if (f->into_temp)
		t = with_bind(t, BIND_TEMP);
	if (f->binds)
		t = with_bind(t, f->binds);
	if (f->binds == BIND_SEQUENCE)
		t.flags |= TRAIT_ASKS_SEQUENCES;
	if (f->binds == BIND_STATISTICS)
		t.flags |= TRAIT_NEW_PROCESS;
	return t;
}

static struct traits classify_query(Node *query, const struct catalog *c)
{
	struct query_facts facts = {0};
	query_walk(query, c, &facts);
	struct traits t = facts_to_traits(&facts, c);
	if (query && IsA(query, SelectStmt) && ((SelectStmt *)query)->intoClause && !facts.into_temp)
		t.flags |= TRAIT_DDL;
	return t;
}

static struct traits classify_statement(Node *n, const struct catalog *c);

/* "off", "false" or 0; anything else counts as on, as does no value. */
static bool option_is_off(const DefElem *option)
{
	const Node *arg = option->arg;
	if (!arg)
		return false;
	if (IsA(arg, Integer))
		return intVal(arg) == 0;
	if (IsA(arg, Boolean))
		return !boolVal(arg);
	return IsA(arg, String) &&
	       (strcasecmp(strVal(arg), "off") == 0 || strcasecmp(strVal(arg), "false") == 0);
}

static bool explain_runs(const ExplainStmt *s)
{
	const ListCell *cell;
	foreach (cell, s->options) {
		const DefElem *option = lfirst(cell);
		if (strcmp(option->defname, "analyze") == 0 && !option_is_off(option))
			return true;
	}
	return false;
}

/* EXPLAIN of a read is a read. Without ANALYZE nothing runs, so nothing is written or bound, but
 * only the primary plans what a replica would refuse. */
static struct traits classify_explain(const ExplainStmt *s, const struct catalog *c)
{
	struct traits t = classify_statement(s->query, c);
	if (!explain_runs(s)) {
		uint32_t keep = TRAIT_READ | TRAIT_CAPTURABLE;
		if (t.binds == BIND_PREPARE)
			keep |= TRAIT_BINDS;
		else
			t.binds = BIND_NONE;
		t.flags &= keep;
	}
	t.flags &= ~(uint32_t)TRAIT_RESULT_FREE;
	return t;
}

static struct traits classify_copy(const CopyStmt *s, const struct catalog *c)
{
	if (s->is_from) {
		bool code = s->relation && catalog_relation_runs_code(c, slice_str(s->relation->relname));
		struct traits t = traits_of(TRAIT_COPY | TRAIT_MAY_WRITE, REASON_WRITE);
		return code ? with_code(t, c) : t;
	}
	struct traits t = classify_query(s->query ? s->query : (Node *)s->relation, c);
	t.flags |= TRAIT_COPY;
	if ((t.flags & TRAIT_READ) && (s->filename || s->is_program)) {
		/* Leaves a file on the server, or runs a program there. */
		t.flags &= ~(uint32_t)TRAIT_READ;
		t.reason = REASON_UTILITY;
	}
	return t;
}

static const struct {
	const char *value;
	uint8_t option;
} isolation_levels[] = {{"read uncommitted", BEGIN_READ_UNCOMMITTED},
                        {"read committed", BEGIN_READ_COMMITTED},
                        {"repeatable read", BEGIN_REPEATABLE_READ},
                        {"serializable", BEGIN_SERIALIZABLE}};

static uint8_t isolation_option(const A_Const *value)
{
	if (!IsA(&value->val.node, String))
		return 0;
	for (size_t i = 0; i < sizeof(isolation_levels) / sizeof(isolation_levels[0]); i++) {
		if (strcasecmp(value->val.sval.sval, isolation_levels[i].value) == 0)
			return isolation_levels[i].option;
	}
	return 0;
}

static uint8_t begin_option(const DefElem *option)
{
	if (!option->arg || !IsA(option->arg, A_Const))
		return 0;
	const A_Const *value = (const A_Const *)option->arg;
	if (strcmp(option->defname, "transaction_isolation") == 0)
		return isolation_option(value);
	if (!IsA(&value->val.node, Integer))
		return 0;
	bool on = value->val.ival.ival != 0;
	if (strcmp(option->defname, "transaction_read_only") == 0)
		return on ? BEGIN_READ_ONLY : BEGIN_READ_WRITE;
	if (strcmp(option->defname, "transaction_deferrable") == 0)
		return on ? BEGIN_DEFERRABLE : BEGIN_NOT_DEFERRABLE;
	return 0;
}

/* What an option excludes: the others of its kind, and itself. */
static uint8_t option_kind(uint8_t option)
{
	if (option & BEGIN_ISOLATION)
		return BEGIN_ISOLATION;
	return option & (BEGIN_READ_ONLY | BEGIN_READ_WRITE) ? BEGIN_READ_ONLY | BEGIN_READ_WRITE
	                                                     : BEGIN_DEFERRABLE | BEGIN_NOT_DEFERRABLE;
}

/* 0 for what PostgreSQL should judge itself. */
static uint8_t begin_options(const TransactionStmt *s)
{
	uint8_t all = BEGIN_PLAIN;
	const ListCell *cell;
	foreach (cell, s->options) {
		uint8_t option = begin_option(lfirst(cell));
		if (option == 0 || all & option_kind(option))
			return 0;
		all |= option;
	}
	return all;
}

static struct traits classify_begin(const TransactionStmt *s)
{
	uint32_t start = s->kind == TRANS_STMT_START ? TRAIT_TX_START : 0;
	struct traits t = utility(TRAIT_TX_BEGIN | start, REASON_TRANSACTION);
	t.begin = begin_options(s);
	return t;
}

static struct traits classify_transaction(const TransactionStmt *s)
{
	uint32_t chain = s->chain ? TRAIT_TX_BEGIN : TRAIT_TX_PLAIN_END;
	switch (s->kind) {
	case TRANS_STMT_BEGIN:
	case TRANS_STMT_START:
		return classify_begin(s);
	case TRANS_STMT_COMMIT:
		return utility(TRAIT_TX_END | TRAIT_MAY_WRITE | chain, REASON_TRANSACTION);
	case TRANS_STMT_ROLLBACK:
		return utility(TRAIT_TX_END | chain, REASON_TRANSACTION);
	case TRANS_STMT_PREPARE:
		return utility(TRAIT_TX_END, REASON_TRANSACTION);
	case TRANS_STMT_SAVEPOINT:
	case TRANS_STMT_RELEASE:
	case TRANS_STMT_ROLLBACK_TO:
		return utility(TRAIT_TX_PARTIAL, REASON_TRANSACTION);
	case TRANS_STMT_COMMIT_PREPARED:
		return utility(TRAIT_MAY_WRITE, REASON_WRITE);
	case TRANS_STMT_ROLLBACK_PREPARED:
		break;
	}
	return utility(0, REASON_TRANSACTION);
}

/* The first value, if it is a string; else "". */
static const char *first_value(const VariableSetStmt *s)
{
	const Node *arg = s->args ? linitial(s->args) : NULL;
	if (!arg || !IsA(arg, A_Const) || ((const A_Const *)arg)->isnull)
		return "";
	const union ValUnion *val = &((const A_Const *)arg)->val;
	return IsA(&val->node, String) ? val->sval.sval : "";
}

static struct traits classify_plain_set(const VariableSetStmt *s)
{
	if (s->is_local)
		return utility(TRAIT_SETS_LOCAL, REASON_UTILITY);
	struct traits t = utility(TRAIT_SETS, REASON_UTILITY);
	enum bind_reason binds =
		setting_binds(s->name, s->kind == VAR_SET_VALUE ? first_value(s) : NULL);
	/* A schema of its own, counts of its own, no library yet. */
	if (binds != BIND_NONE && binds != BIND_SETTINGS)
		t.flags |= TRAIT_NEW_PROCESS;
	return binds ? with_bind(t, binds) : t;
}

static struct traits classify_set(const VariableSetStmt *s)
{
	if (s->kind == VAR_RESET_ALL)
		return utility(TRAIT_SETS, REASON_UTILITY);
	struct traits t = utility(0, REASON_UTILITY);
	switch (setting_class(s->name)) {
	case SETTING_ROUTER:
		t.flags |= TRAIT_ROUTER;
		break;
	case SETTING_TRANSACTION:
		t.reason = REASON_TRANSACTION;
		break;
	case SETTING_ROLE:
		/* RESET gives back the role that every connection of the pool has. */
		t.flags |= TRAIT_SETS_LOCAL;
		return s->kind == VAR_SET_VALUE && !s->is_local ? with_bind(t, BIND_ROLE) : t;
	case SETTING_SESSION:
		return s->is_local ? t : with_bind(t, BIND_SET_CONFIG);
	case SETTING_DEFAULTS:
		t.flags |= TRAIT_SETS;
		break;
	case SETTING_PLAIN:
		return classify_plain_set(s);
	}
	return t;
}

static struct traits classify_show(const VariableShowStmt *s)
{
	uint32_t router = setting_class(s->name) == SETTING_ROUTER ? TRAIT_ROUTER : 0;
	return traits_of(TRAIT_CAPTURABLE | router, REASON_UTILITY);
}

static struct traits classify_declare(const DeclareCursorStmt *s, const struct catalog *c)
{
	struct traits query = classify_query(s->query, c);
	struct traits t = utility(query.flags & (TRAIT_MAY_WRITE | TRAIT_BINDS | TRAIT_ASKS_SEQUENCES |
	                                         TRAIT_USER_CODE | TRAIT_CODE_SETS | TRAIT_SETS_LOCAL),
	                          REASON_UTILITY);
	t.binds = query.binds;
	if (s->options & CURSOR_OPT_HOLD)
		return with_bind(t, BIND_HOLD);
	/* Its query runs at FETCH, inside the transaction, whose end is captured. */
	t.flags &= ~(uint32_t)TRAIT_MAY_WRITE;
	if (query.flags & TRAIT_READ)
		t.flags |= TRAIT_CURSOR;
	return t;
}

/* The body is another language to us. */
static struct traits classify_do(void)
{
	return utility(TRAIT_MAY_WRITE | TRAIT_USER_CODE | TRAIT_CODE_SETS, REASON_UNSAFE_FUNCTION);
}

static struct traits classify_call(const CallStmt *s, const struct catalog *c)
{
	struct traits t = classify_query((Node *)s->funccall, c);
	t.flags &= ~(uint32_t)TRAIT_READ;
	t.flags |= TRAIT_MAY_WRITE;
	t.reason = REASON_UNSAFE_FUNCTION;
	return with_code(t, c);
}

static struct traits classify_create_as(const CreateTableAsStmt *s, const struct catalog *c)
{
	struct traits t = with_code(utility(TRAIT_MAY_WRITE, REASON_WRITE), c);
	if (IsA(s->query, ExecuteStmt)) {
		t = with_bind(t, BIND_PREPARE);
	} else {
		struct traits query = classify_query(s->query, c);
		t.flags |= query.flags & (TRAIT_BINDS | TRAIT_ASKS_SEQUENCES);
		t.binds = query.binds;
	}
	if (!relation_is_temp(s->into->rel))
		t.flags |= TRAIT_DDL;
	else if (s->into->onCommit != ONCOMMIT_DROP)
		t = with_bind(t, BIND_TEMP);
	return t;
}

static struct traits classify_create_table(const CreateStmt *s, const struct catalog *c)
{
	struct traits t = with_code(utility(TRAIT_MAY_WRITE, REASON_WRITE), c);
	if (!relation_is_temp(s->relation))
		t.flags |= TRAIT_DDL;
	else if (s->oncommit != ONCOMMIT_DROP) /* else gone with its transaction */
		t = with_bind(t, BIND_TEMP);
	return t;
}

static bool names_temp(const List *qualified)
{
	return list_length(qualified) > 1 && IsA(linitial(qualified), String) &&
	       strncmp(strVal(linitial(qualified)), "pg_temp", 7) == 0;
}

/* Does the CREATE put its object into the temporary schema? */
static bool created_in_temp(const Node *n)
{
	switch (nodeTag(n)) {
	case T_ViewStmt:
		return relation_is_temp(((const ViewStmt *)n)->view);
	case T_CreateSeqStmt:
		return relation_is_temp(((const CreateSeqStmt *)n)->sequence);
	case T_CompositeTypeStmt:
		return relation_is_temp(((const CompositeTypeStmt *)n)->typevar);
	case T_CreateFunctionStmt:
		return names_temp(((const CreateFunctionStmt *)n)->funcname);
	case T_DefineStmt:
		return names_temp(((const DefineStmt *)n)->defnames);
	case T_CreateEnumStmt:
		return names_temp(((const CreateEnumStmt *)n)->typeName);
	case T_CreateRangeStmt:
		return names_temp(((const CreateRangeStmt *)n)->typeName);
	case T_CreateDomainStmt:
		return names_temp(((const CreateDomainStmt *)n)->domainname);
	default:
		return false;
	}
}

/* The server loads the library to see whether the function is there, as LOAD does
 * (src/backend/catalog/ pg_proc.c, fmgr_c_validator()), and what such code keeps, it keeps in that
 * process. */
static bool created_in_c(const Node *n)
{
	const ListCell *it;
	if (!IsA(n, CreateFunctionStmt))
		return false;
	foreach (it, ((const CreateFunctionStmt *)n)->options) {
		const DefElem *option = lfirst(it);
		if (strcmp(option->defname, "language") == 0 && IsA(option->arg, String))
			return strcasecmp(strVal(option->arg), "c") == 0;
	}
	return false;
}

/* Event triggers are code too. */
static struct traits classify_ddl(const Node *n, const struct catalog *c)
{
	struct traits t = with_code(utility(TRAIT_MAY_WRITE | TRAIT_DDL, REASON_WRITE), c);
	if (created_in_c(n)) {
		t.flags |= TRAIT_LOADS;
		return with_bind(t, BIND_LOAD);
	}
	return created_in_temp(n) ? with_bind(t, BIND_TEMP) : t;
}

static struct traits classify_discard(const DiscardStmt *s)
{
	return utility(s->target == DISCARD_ALL ? TRAIT_DISCARD_ALL | TRAIT_DEALLOCATE_ALL : 0,
	               REASON_UTILITY);
}

static struct traits classify_deallocate(const DeallocateStmt *s)
{
	return utility(TRAIT_DEALLOCATE | (s->name ? 0 : TRAIT_DEALLOCATE_ALL), REASON_UTILITY);
}

static struct traits classify_statement(Node *n, const struct catalog *c)
{
	switch (nodeTag(n)) {
	case T_SelectStmt:
	case T_InsertStmt:
	case T_UpdateStmt:
	case T_DeleteStmt:
	case T_MergeStmt:
		return classify_query(n, c);
	case T_ExplainStmt:
		return classify_explain((const ExplainStmt *)n, c);
	case T_CopyStmt:
		return classify_copy((const CopyStmt *)n, c);
	case T_TransactionStmt:
		return classify_transaction((const TransactionStmt *)n);
	case T_VariableSetStmt:
		return classify_set((const VariableSetStmt *)n);
	case T_VariableShowStmt:
		return classify_show((const VariableShowStmt *)n);
	case T_DiscardStmt:
		return classify_discard((const DiscardStmt *)n);
	case T_DeallocateStmt:
		return classify_deallocate((const DeallocateStmt *)n);
	case T_PrepareStmt:
		return with_bind(utility(0, REASON_UTILITY), BIND_PREPARE);
	case T_ExecuteStmt:
		return with_bind(traits_of(TRAIT_MAY_WRITE | TRAIT_CAPTURABLE, REASON_UTILITY),
		                 BIND_PREPARE);
	case T_DeclareCursorStmt:
		return classify_declare((const DeclareCursorStmt *)n, c);
	case T_FetchStmt:
		return traits_of(TRAIT_CAPTURABLE, REASON_UTILITY);
	case T_ClosePortalStmt:
	case T_UnlistenStmt:
	case T_ConstraintsSetStmt:
	case T_CheckPointStmt:
		return utility(0, REASON_UTILITY);
	case T_LockStmt:
		return utility(0, REASON_LOCKING);
	case T_ListenStmt:
		return with_bind(utility(0, REASON_UTILITY), BIND_LISTEN);
	case T_LoadStmt:
		return with_bind(utility(TRAIT_LOADS, REASON_UTILITY), BIND_LOAD);
	case T_NotifyStmt:
	case T_VacuumStmt:
	case T_ClusterStmt:
	case T_ReindexStmt:
	case T_AlterSystemStmt:
		return utility(TRAIT_MAY_WRITE, REASON_UTILITY);
	case T_DoStmt:
		return classify_do();
	case T_CallStmt:
		return classify_call((const CallStmt *)n, c);
	case T_CreateTableAsStmt:
		return classify_create_as((const CreateTableAsStmt *)n, c);
	case T_CreateStmt:
		return classify_create_table((const CreateStmt *)n, c);
	case T_TruncateStmt:
	case T_RefreshMatViewStmt:
	case T_IndexStmt:
	case T_GrantStmt:
	case T_CommentStmt:
		return with_code(utility(TRAIT_MAY_WRITE, REASON_WRITE), c);
	default:
		return classify_ddl(n, c);
	}
}

/* Traits of a text that hold only if they hold for each of its statements. */
#define TRAITS_OF_ALL (TRAIT_READ | TRAIT_CAPTURABLE | TRAIT_RESULT_FREE)

static void traits_merge(struct traits *all, struct traits one)
{
	if ((all->flags & TRAIT_READ) && !(one.flags & TRAIT_READ))
		all->reason = one.reason;
	if (all->binds == BIND_NONE)
		all->binds = one.binds;
	all->begin = one.begin;
	all->flags = ((all->flags | one.flags) & ~(uint32_t)TRAITS_OF_ALL) |
	             (all->flags & one.flags & TRAITS_OF_ALL);
}

/* Does the text leave a transaction open behind `one`, if it was `open` before? */
static bool transaction_open_after(bool open, struct traits one)
{
	if (one.flags & TRAIT_TX_BEGIN)
		return true;
	return open && !(one.flags & TRAIT_TX_END);
}

/* As a statement of its own: in EXPLAIN it is none. One of the user's by that name may be meant. */
static bool is_set_config(const Node *n, const struct catalog *c)
{
	return select_sets(n) && !catalog_names_function(c, slice_str("set_config"));
}

static struct traits classify_list(const List *statements, const struct catalog *c)
{
	struct traits all = traits_of(TRAITS_OF_ALL, REASON_REPLICA_FRESH);
	bool open = false, closed = false;
	const ListCell *cell;
	foreach (cell, statements) {
		Node *n = ((RawStmt *)lfirst(cell))->stmt;
		struct traits one = is_set_config(n, c)
		                        ? traits_of(TRAIT_SETS | TRAIT_CAPTURABLE, REASON_UNSAFE_FUNCTION)
		                        : classify_statement(n, c);
		open = transaction_open_after(open, one);
		closed = !open && (closed || one.flags & TRAIT_TX_END);
		traits_merge(&all, one);
	}
	/* Nothing may be sent behind it that is taken for a part of the transaction. */
	if (open)
		all.flags &= ~(uint32_t)TRAIT_CAPTURABLE;
	if (closed)
		all.flags |= TRAIT_TX_CLOSED;
	if (list_length(statements) > 1) {
		all.flags |= TRAIT_MULTI;
		all.flags &= ~(uint32_t)TRAIT_TX_PLAIN_END;
		all.begin = 0;
		if (all.flags & TRAIT_ROUTER)
			all.flags ^= TRAIT_ROUTER | TRAIT_ROUTER_INSIDE;
	}
	return all;
}

/* Outside of literals, and so not in a function's body. */
static bool names_sequence_state(struct slice text)
{
	for (size_t i = lex_skip_space(text, 0), end; i < text.len; i = lex_skip_space(text, end)) {
		end = lex_comment_end(text, i);
		if (end == LEX_UNTERMINATED)
			return false;
		if (end > i)
			continue;
		end = lex_token_end(text, i);
		struct slice word = slice_of(text.ptr + i, end - i);
		if (slice_ieq_str(word, "currval") || slice_ieq_str(word, "lastval"))
			return true;
	}
	return false;
}

struct traits classify(struct slice text, const struct catalog *c)
{
	bool commented;
	sql_strip_comments(text, &commented);
	struct traits t;
	if (text.len > CLASSIFY_TEXT_MAX) {
		t = opaque_traits(text, REASON_TOO_LONG);
	} else {
		struct parse p;
		parse_begin(&p, text);
		if (!p.ok)
			t = opaque_traits(text, REASON_UNPARSABLE);
		else if (p.statements == NIL)
			t = utility(TRAIT_EMPTY, REASON_UTILITY);
		else
			t = classify_list(p.statements, c);
		parse_end(&p);
	}
	if (commented)
		t.flags |= TRAIT_COMMENTED;
	/* A default, a check or a rule that is made here, or the view. */
	if (t.flags & TRAIT_DDL && names_sequence_state(text))
		t.flags |= TRAIT_ASKS_SEQUENCES;
	return t;
}
