/* SPDX-License-Identifier: PostgreSQL
 *
 * Two tables of names: the loaded one, and the one that is being loaded. Open addressing over an
 * array of entries whose bytes lie in one arena; built once and then only read.
 */
#include "catalog.h"
#include "builtin.h"

#include <assert.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct name_entry {
	uint32_t hash;
	uint32_t offset;
	uint16_t len; /* 0: empty slot */
	bool unsafe;
};

struct name_table {
	struct name_entry *slots;
	uint32_t mask; /* slots - 1 */
	uint32_t count;
	uint8_t *bytes;
	size_t bytes_len, bytes_cap;
};

struct catalog {
	struct name_table names;
	struct name_table staging;
	uint32_t max_names;
	uint32_t generation;
	bool loaded;
	bool loading;
	bool load_failed; /* a row did not fit, or DDL came in between */
	bool asks_sequences;
	size_t custom_len;
	char custom[CATALOG_CUSTOM_MAX];
};

/* A view is followed to what it reads, view by view. Dependencies on built-in functions are not
 * recorded in pg_depend, so those are taken from the trees of rules, defaults, constraints, policies and
 * conditions of triggers. A function that is declared STABLE or IMMUTABLE is taken at its word, unless
 * its text, or that of a function named in it, names one that changes the session. */
#define CATALOG_OIDS \
	"('pg_catalog'::pg_catalog.regnamespace, 'information_schema'::pg_catalog.regnamespace)"
#define CALLED(tree) \
	"pg_catalog.regexp_matches(" tree ", ' :(?:func|win|agg)(?:id|fnoid) ([0-9]+) ', 'g')"
/* Functions of the server that change a session, or tell what is in it. */
#define TELL_TALE "set_config|setseed|currval|lastval|pg_(try_)?advisory_lock(_shared)?"
/* Does the text name one of them? Texts are many: words are looked for before anything else is. */
#define HAS(text, word) "pg_catalog.strpos(" text ", '" word "') > 0"
#define TELLS(text) \
	"(" HAS(text, "set_config") " OR " HAS(text, "setseed") " OR " HAS(text, "currval") " OR " \
	HAS(text, "lastval") " OR " HAS(text, "advisory_lock") ")"
/* … or may it set something? SET and RESET count where a statement begins. */
#define SETS(text) \
	"(" TELLS(text) " OR " HAS(text, "execute") " OR " HAS(text, "dblink") " OR CASE WHEN " \
	HAS(text, "set") " THEN " text " ~ '(^|;|\\*/|>>|\\m(begin|then|else|loop)\\M)" \
	"\\s*(--[^\\n]*\\n\\s*)*(set|reset)\\M' ELSE false END)"

const char catalog_query[] =
	"WITH RECURSIVE harmless(name) AS (VALUES ('random'), ('clock_timestamp'), ('timeofday'),"
	" ('gen_random_uuid'), ('pg_sleep'), ('pg_partition_tree'), ('pg_partition_ancestors'),"
	" ('uuidv4'), ('uuidv7'), ('random_normal')),"
	/* what functions say */
	" tell_tale(oid) AS (SELECT p.oid FROM pg_catalog.pg_proc p"
	" WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace"
	" AND p.proname::text ~ '^(" TELL_TALE ")$'),"
	" code(oid, name, volatile, language, text, tree) AS (SELECT p.oid, pg_catalog.lower(p.proname::text),"
	" p.provolatile = 'v', l.lanname::text, pg_catalog.lower(p.prosrc),"
	" CASE WHEN p.prosrc = '' THEN pg_catalog.to_jsonb(p) ->> 'prosqlbody' END"
	" FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
	" WHERE p.pronamespace NOT IN " CATALOG_OIDS "),"
	" evident(name) AS (SELECT name FROM code WHERE language IN ('sql', 'plpgsql')"
	" AND (" TELLS("text") " OR tree IS NOT NULL AND EXISTS (SELECT FROM " CALLED("tree")
	" AS called WHERE called[1]::pg_catalog.oid IN (SELECT oid FROM tell_tale)))),"
	" named(oid, name, text) AS (SELECT c.oid, c.name, CASE WHEN c.tree IS NULL THEN c.text ELSE"
	" (SELECT pg_catalog.string_agg(pg_catalog.lower(p.proname::text), ' ') FROM " CALLED("c.tree")
	" AS called JOIN pg_catalog.pg_proc p ON p.oid = called[1]::pg_catalog.oid) END"
	" FROM code c WHERE NOT c.volatile AND c.language IN ('sql', 'plpgsql')),"
	" reached(name) AS (SELECT name FROM evident"
	" UNION SELECT n.name FROM reached r JOIN named n ON CASE WHEN pg_catalog.strpos(n.text, r.name) > 0"
	" THEN r.name = ANY (pg_catalog.regexp_split_to_array(n.text, '[^[:alnum:]_$]+')) ELSE false END),"
	" volatile_proc(oid) AS (SELECT p.oid FROM pg_catalog.pg_proc p"
	" WHERE p.provolatile = 'v' AND NOT (p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace"
	" AND p.proname::text IN (SELECT name FROM harmless))"
	" UNION SELECT n.oid FROM named n JOIN reached r ON r.name = n.name"
	" UNION SELECT a.aggfnoid FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc p"
	" ON p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggmfinalfn)"
	" WHERE p.provolatile = 'v'),"
	/* what relations run */
	" rule_of(rule, view, tree) AS (SELECT r.oid, c.oid, r.ev_action::text"
	" FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class"
	" WHERE c.relkind = 'v' AND c.relnamespace NOT IN " CATALOG_OIDS "),"
	" attached(relation, tree) AS (SELECT view, tree FROM rule_of"
	" UNION ALL SELECT polrelid, pg_catalog.concat(polqual::text, polwithcheck::text)"
	" FROM pg_catalog.pg_policy"
	" UNION ALL SELECT adrelid, adbin::text FROM pg_catalog.pg_attrdef"
	" UNION ALL SELECT conrelid, conbin::text FROM pg_catalog.pg_constraint"
	" WHERE conrelid <> 0 AND conbin IS NOT NULL"
	" UNION ALL SELECT tgrelid, tgqual::text FROM pg_catalog.pg_trigger WHERE tgqual IS NOT NULL),"
	" calls(relation, proc) AS (SELECT DISTINCT relation, called[1]::pg_catalog.oid FROM attached, "
	CALLED("tree") " AS called),"
	" local_relation(oid) AS (SELECT c.oid FROM pg_catalog.pg_class c"
	" WHERE c.relkind IN ('S', 'f') OR c.relpersistence = 'u'"
	" OR (c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relname::text"
	" ~ '^pg_(stat_|statio_|locks$|settings$|file_settings$|hba_file|ident_file|replication_|"
	"prepared_|cursors$|sequences$|shmem|backend_memory|available_ext|config$)')"
	" UNION SELECT k.relation FROM calls k JOIN pg_catalog.pg_class c ON c.oid = k.relation"
	" WHERE (c.relkind = 'v' OR c.relrowsecurity AND EXISTS (SELECT FROM pg_catalog.pg_policy"
	" WHERE polrelid = c.oid AND pg_catalog.concat(polqual::text, polwithcheck::text)"
	" ~ pg_catalog.concat(' :funcid ', k.proc, ' ')))"
	" AND k.proc IN (SELECT oid FROM volatile_proc)"
	" UNION SELECT r.view FROM local_relation l JOIN pg_catalog.pg_depend d"
	" ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = l.oid"
	" AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
	" JOIN rule_of r ON r.rule = d.objid AND r.view <> l.oid),"
	/* Writing to the second writes to the first. */
	" writes(oid, other) AS (SELECT f.conrelid, f.confrelid FROM pg_catalog.pg_constraint f"
	" WHERE f.contype = 'f' AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))"
	" UNION ALL SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits"
	" UNION ALL SELECT d.refobjid, r.view FROM pg_catalog.pg_depend d JOIN rule_of r ON r.rule = d.objid"
	" WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
	" AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.view <> d.refobjid),"
	" runs_code(oid) AS (SELECT c.oid FROM pg_catalog.pg_class c"
	" WHERE c.oid IN (SELECT t.tgrelid FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal)"
	" OR (c.relkind IN ('r', 'p') AND c.relhasrules)"
	" OR (c.relkind = 'v' AND c.oid IN (SELECT oid FROM local_relation))"
	" OR c.oid IN (SELECT k.relation FROM calls k JOIN pg_catalog.pg_proc p ON p.oid = k.proc"
	" WHERE k.proc IN (SELECT oid FROM volatile_proc)"
	" AND (p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace"
	" OR p.oid IN (SELECT oid FROM tell_tale)))"
	" UNION SELECT w.other FROM runs_code k JOIN writes w ON w.oid = k.oid),"
	/* What tree.c looks for in a statement, in a view. 1082 … 1266 are the types of times. */
	" time_relation(oid) AS (SELECT polrelid FROM pg_catalog.pg_policy"
	" UNION SELECT view FROM rule_of WHERE tree ~ '{(SQLVALUEFUNCTION :op [0-8]|TABLEFUNC) '"
	" OR (tree ~ '{COERCEVIAIO ' AND tree ~ ' :resulttype (1082|1083|1114|1184|1266) ')"
	" OR EXISTS (SELECT FROM pg_catalog.regexp_matches(tree, ' :(?:func|win|agg)"
	"(?:id|fnoid) ([0-9]+) ', 'g') AS called JOIN pg_catalog.pg_proc p"
	" ON p.oid = called[1]::pg_catalog.oid"
	" WHERE p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace"
	" OR p.proname IN ('now', 'transaction_timestamp', 'statement_timestamp', 'clock_timestamp',"
	" 'timeofday', 'age', 'pg_timezone_names', 'pg_timezone_abbrevs')"
	" OR p.proname ~ '^jsonb?_(to|populate)_record')"
	" UNION SELECT r.view FROM time_relation l JOIN pg_catalog.pg_depend d"
	" ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = l.oid"
	" AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
	" JOIN rule_of r ON r.rule = d.objid AND r.view <> l.oid)"
	" SELECT p.proname::text, pg_catalog.bool_or(p.oid IN (SELECT oid FROM volatile_proc))"
	" FROM pg_catalog.pg_proc p WHERE p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace"
	" GROUP BY p.proname"
	" UNION ALL SELECT DISTINCT '@' || c.relname::text, true FROM pg_catalog.pg_class c"
	" JOIN local_relation l ON l.oid = c.oid"
	" WHERE c.relkind <> 'i' AND c.relkind <> 't'"
	" AND c.relnamespace <> 'pg_catalog'::pg_catalog.regnamespace"
	" UNION SELECT '!' || c.relname::text, true FROM pg_catalog.pg_class c"
	" JOIN runs_code k ON k.oid = c.oid"
	" UNION SELECT '~' || c.relname::text, true FROM pg_catalog.pg_class c"
	" WHERE c.oid IN (SELECT oid FROM time_relation)"
	" UNION SELECT '=' || o.oprname::text, true FROM pg_catalog.pg_operator o"
	" WHERE o.oprcode IN (SELECT oid FROM volatile_proc)"
	" UNION SELECT '$' || m.name, true FROM code, pg_catalog.regexp_matches(text, '''([a-z_][a-z0-9_$]*"
	"(?:\\.[a-z_][a-z0-9_$]*)+)''|\\mset\\s+(?:local\\s+|session\\s+)?([a-z_][a-z0-9_$]*"
	"(?:\\.[a-z_][a-z0-9_$]*)+)', 'g') AS found, LATERAL (VALUES (found[1]), (found[2])) AS m(name)"
	" WHERE m.name IS NOT NULL AND (" HAS("text", "set_config") " OR " HAS("text", "set ") ")"
	" UNION SELECT '%', true WHERE EXISTS (SELECT FROM calls k JOIN pg_catalog.pg_proc p ON p.oid = k.proc"
	" WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.proname IN ('currval', 'lastval'))"
	" UNION SELECT '#', true WHERE EXISTS (SELECT FROM code WHERE language NOT IN ('c', 'internal')"
	" AND (language NOT IN ('sql', 'plpgsql') OR " SETS("text") ")"
	" OR language = 'c' AND volatile AND name ~ 'set|lock|conf|exec')"
	" OR EXISTS (SELECT FROM evident)"
	" OR EXISTS (SELECT FROM calls WHERE proc IN (SELECT oid FROM tell_tale))";

static void table_release(struct name_table *t)
{
	free(t->slots);
	free(t->bytes);
	*t = (struct name_table){0};
}

static uint32_t name_hash(struct slice name)
{
	return (uint32_t)XXH3_64bits(name.ptr, name.len);
}

/* The slot that holds the name, or the empty one where it belongs. */
static struct name_entry *table_slot(const struct name_table *t, struct slice name, uint32_t hash)
{
	for (uint32_t i = hash & t->mask;; i = (i + 1) & t->mask) {
		struct name_entry *e = &t->slots[i];
		if (e->len == 0)
			return e;
		if (e->hash == hash && slice_eq(slice_of(t->bytes + e->offset, e->len), name))
			return e;
	}
}

static const struct name_entry *table_find(const struct name_table *t, struct slice name)
{
	if (!t->slots || name.len == 0)
		return NULL;
	const struct name_entry *e = table_slot(t, name, name_hash(name));
	return e->len ? e : NULL;
}

/* Keeps the table at most half full. */
static bool table_grow(struct name_table *t)
{
	if (t->slots && t->count < (t->mask + 1) / 2)
		return true;
	uint32_t slots = t->slots ? (t->mask + 1) * 2 : 64;
	struct name_entry *fresh = calloc(slots, sizeof(*fresh));
	if (!fresh)
		return false;
	for (uint32_t i = 0; t->slots && i <= t->mask; i++) {
		if (t->slots[i].len == 0)
			continue;
		uint32_t j = t->slots[i].hash & (slots - 1);
		while (fresh[j].len)
			j = (j + 1) & (slots - 1);
		fresh[j] = t->slots[i];
	}
	free(t->slots);
	t->slots = fresh;
	t->mask = slots - 1;
	return true;
}

static bool table_store_bytes(struct name_table *t, struct slice name)
{
	if (t->bytes_len + name.len > t->bytes_cap) {
		size_t cap = t->bytes_cap ? t->bytes_cap * 2 : 4096;
		if (cap < t->bytes_len + name.len)
			cap = t->bytes_len + name.len;
		uint8_t *bytes = realloc(t->bytes, cap);
		if (!bytes)
			return false;
		t->bytes = bytes;
		t->bytes_cap = cap;
	}
	memcpy(t->bytes + t->bytes_len, name.ptr, name.len);
	t->bytes_len += name.len;
	return true;
}

static bool table_add(struct name_table *t, struct slice name, bool unsafe)
{
	if (!table_grow(t))
		return false;
	uint32_t hash = name_hash(name);
	struct name_entry *e = table_slot(t, name, hash);
	if (e->len) {
		e->unsafe = e->unsafe || unsafe;
		return true;
	}
	uint32_t offset = (uint32_t)t->bytes_len;
	if (!table_store_bytes(t, name))
		return false;
	*e = (struct name_entry){
		.hash = hash, .offset = offset, .len = (uint16_t)name.len, .unsafe = unsafe};
	t->count++;
	return true;
}

struct catalog *catalog_new(int max_names)
{
	struct catalog *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->max_names = max_names > 0 ? (uint32_t)max_names : 0;
	c->generation = 1;
	return c;
}

void catalog_free(struct catalog *c)
{
	if (!c)
		return;
	table_release(&c->names);
	table_release(&c->staging);
	free(c);
}

void catalog_load_begin(struct catalog *c)
{
	table_release(&c->staging);
	c->loading = true;
	c->load_failed = false;
}

bool catalog_load_add(struct catalog *c, struct slice name, bool unsafe)
{
	assert(c->loading);
	/* '@' and NAMEDATALEN at most; a server built with longer names is not for us. */
	if (name.len == 0 || name.len > 1024 || c->staging.count >= c->max_names ||
	    !table_add(&c->staging, name, unsafe))
		c->load_failed = true;
	return !c->load_failed;
}

static bool custom_known(const struct catalog *c, struct slice name)
{
	for (size_t i = 0; i < c->custom_len;) {
		const char *comma = memchr(&c->custom[i], ',', c->custom_len - i);
		size_t len = (comma ? (size_t)(comma - c->custom) : c->custom_len) - i;
		if (len == name.len && memcmp(&c->custom[i], name.ptr, len) == 0)
			return true;
		i += len + 1;
	}
	return false;
}

static void custom_add(struct catalog *c, struct slice name)
{
	if (custom_known(c, name) || c->custom_len + name.len + 1 > sizeof(c->custom))
		return;
	if (c->custom_len > 0)
		c->custom[c->custom_len++] = ',';
	memcpy(&c->custom[c->custom_len], name.ptr, name.len);
	c->custom_len += name.len;
}

struct slice catalog_custom_names(const struct catalog *c)
{
	return slice_of((const uint8_t *)c->custom, c->custom_len);
}

#define CUSTOM_NAME_MAX 63

/* "a.b" at the start of `s`, in lower case: its length; 0: there is none. */
static size_t custom_name(struct slice s, char out[CUSTOM_NAME_MAX])
{
	size_t n = 0, dots = 0;
	for (; n < s.len && n < CUSTOM_NAME_MAX; n++) {
		uint8_t c = s.ptr[n];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
		bool starts = n == 0 || s.ptr[n - 1] == '.';
		if (c == '.' && !starts)
			dots++;
		else if (!letter && (starts || !((c >= '0' && c <= '9') || c == '$')))
			break;
		out[n] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	return dots > 0 && out[n - 1] != '.' ? n : 0;
}

void catalog_learn_custom(struct catalog *c, struct slice text)
{
	char name[CUSTOM_NAME_MAX];
	const uint8_t *quote;
	while (text.len && (quote = memchr(text.ptr, '\'', text.len)) != NULL) {
		text = slice_from(text, (size_t)(quote - text.ptr) + 1);
		size_t n = custom_name(text, name);
		if (n > 0 && n < text.len && text.ptr[n] == '\'')
			custom_add(c, slice_of((const uint8_t *)name, n));
	}
}

/* Looked up behind a mark that no name of its kind begins with: catalog_query. */
static bool marked(const struct catalog *c, uint8_t mark, struct slice name)
{
	uint8_t key[256] = {mark};
	if (name.len >= sizeof(key))
		return true;
	if (name.len)
		memcpy(key + 1, name.ptr, name.len);
	return table_find(&c->names, slice_of(key, name.len + 1)) != NULL;
}

/* What the functions of the database name. */
static void take_custom(struct catalog *c)
{
	for (uint32_t i = 0; c->names.slots && i <= c->names.mask; i++) {
		const struct name_entry *e = &c->names.slots[i];
		if (e->len > 1 && c->names.bytes[e->offset] == '$')
			custom_add(c, slice_of(&c->names.bytes[e->offset + 1], e->len - 1u));
	}
}

bool catalog_load_commit(struct catalog *c)
{
	assert(c->loading);
	c->loading = false;
	if (c->load_failed) {
		table_release(&c->staging);
		return false;
	}
	table_release(&c->names);
	c->names = c->staging;
	c->staging = (struct name_table){0};
	take_custom(c);
	c->asks_sequences = marked(c, '%', (struct slice){0});
	c->loaded = true;
	c->generation++;
	return true;
}

void catalog_invalidate(struct catalog *c)
{
	c->load_failed = true;
	if (!c->loaded)
		return;
	c->loaded = false;
	c->generation++;
}

bool catalog_loaded(const struct catalog *c)
{
	return c->loaded;
}

uint32_t catalog_generation(const struct catalog *c)
{
	return c->generation;
}

/* Built-in functions that do more to a session than write. */
static const struct {
	const char *name;
	enum function_safety safety;
} special_functions[] = {
	{"pg_advisory_lock", FUNCTION_ADVISORY},
	{"pg_advisory_lock_shared", FUNCTION_ADVISORY},
	{"pg_try_advisory_lock", FUNCTION_ADVISORY},
	{"pg_try_advisory_lock_shared", FUNCTION_ADVISORY},
	{"set_config", FUNCTION_SET_CONFIG},
	{"setseed", FUNCTION_SET_CONFIG},
	{"currval", FUNCTION_SEQUENCE},
	{"lastval", FUNCTION_SEQUENCE},
	{"pg_stat_force_next_flush", FUNCTION_STATISTICS},
};

static int compare_name(struct slice name, const char *other)
{
	size_t len = strlen(other);
	int cmp = memcmp(name.ptr, other, name.len < len ? name.len : len);
	return cmp ? cmp : (name.len > len) - (name.len < len);
}

static bool builtin_safe(struct slice name)
{
	int low = 0, high = builtin_safe_function_count - 1;
	while (low <= high) {
		int mid = (low + high) / 2;
		int cmp = compare_name(name, builtin_safe_functions[mid]);
		if (cmp == 0)
			return true;
		if (cmp < 0)
			high = mid - 1;
		else
			low = mid + 1;
	}
	return false;
}

/* Built-in functions that may not run on a replica, and leave the session's state as it is; those that run
 * a query that they are given (query_to_xml) are not among them. A name with pg_ is taken for one. */
static bool builtin_leaves_no_state(struct slice name)
{
	static const char *const names[] = {
		"nextval",         "setval",        "currval",           "lastval",
		"current_setting", "set_config",    "setseed",           "mxid_age",
		"txid_current",    "txid_status",   "txid_current_snapshot", "txid_current_if_assigned",
		"inet_client_addr", "inet_client_port", "inet_server_addr", "inet_server_port",
		"lo_close",        "lo_creat",      "lo_create",         "lo_export",
		"lo_from_bytea",   "lo_get",        "lo_import",         "lo_lseek",
		"lo_lseek64",      "lo_open",       "lo_put",            "lo_tell",
		"lo_tell64",       "lo_truncate",   "lo_truncate64",     "lo_unlink",
		"loread",          "lowrite"};
	if (name.len >= 3 && memcmp(name.ptr, "pg_", 3) == 0)
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (slice_eq_str(name, names[i]))
			return true;
	return builtin_safe(name);
}

bool catalog_strange_function(const struct catalog *c, struct slice name)
{
	return !table_find(&c->names, name) && !builtin_leaves_no_state(name);
}

bool catalog_user_function(const struct catalog *c, struct slice name)
{
	return !c->loaded || !builtin_leaves_no_state(name) || table_find(&c->names, name) != NULL;
}

bool catalog_names_function(const struct catalog *c, struct slice name)
{
	return table_find(&c->names, name) != NULL;
}

enum function_safety catalog_function(const struct catalog *c, struct slice name)
{
	if (name.len == 0)
		return FUNCTION_UNSAFE;
	for (size_t i = 0; i < sizeof(special_functions) / sizeof(special_functions[0]); i++)
		if (slice_eq_str(name, special_functions[i].name))
			return special_functions[i].safety;
	const struct name_entry *e = table_find(&c->names, name);
	if (e && e->unsafe)
		return FUNCTION_UNSAFE;
	if (builtin_safe(name))
		return FUNCTION_SAFE;
	return e && c->loaded ? FUNCTION_SAFE : FUNCTION_UNSAFE;
}

static bool server_local_relation(struct slice name)
{
	static const char *const prefixes[] = {"pg_stat_", "pg_statio_", "pg_replication_",
	                                       "pg_prepared_", "pg_available_ext"};
	static const char *const names[] = {"pg_locks",
	                                    "pg_settings",
	                                    "pg_file_settings",
	                                    "pg_hba_file_rules",
	                                    "pg_ident_file_mappings",
	                                    "pg_cursors",
	                                    "pg_sequences",
	                                    "pg_shmem_allocations",
	                                    "pg_backend_memory_contexts",
	                                    "pg_config",
	                                    "pg_buffercache",
	                                    "pg_wait_sampling_current",
	                                    "pg_wait_sampling_history",
	                                    "pg_wait_sampling_profile",
	                                    "pg_aios",
	                                    "pg_dsm_registry_allocations"};
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t len = strlen(prefixes[i]);
		if (name.len > len && memcmp(name.ptr, prefixes[i], len) == 0)
			return true;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (slice_eq_str(name, names[i]))
			return true;
	return false;
}

bool catalog_relation_runs_code(const struct catalog *c, struct slice name)
{
	return !c->loaded || marked(c, '!', name);
}

bool catalog_operator_safe(const struct catalog *c, struct slice name)
{
	return !marked(c, '=', name);
}

bool catalog_code_sets(const struct catalog *c)
{
	return !c->loaded || marked(c, '#', (struct slice){0});
}

bool catalog_asks_sequences(const struct catalog *c)
{
	return c->asks_sequences;
}

bool catalog_relation_shows_time(const struct catalog *c, struct slice name)
{
	return slice_eq_str(name, "pg_timezone_names") || slice_eq_str(name, "pg_timezone_abbrevs") ||
	       !c->loaded || marked(c, '~', name);
}

bool catalog_relation_safe(const struct catalog *c, struct slice name)
{
	return !server_local_relation(name) && !marked(c, '@', name);
}
