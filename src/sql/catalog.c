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
};

/* A view is followed to what it reads, view by view. Dependencies on built-in functions are not
 * recorded in pg_depend, so those are taken from the rule's tree. */
const char catalog_query[] =
	"WITH RECURSIVE harmless(name) AS (VALUES ('random'), ('clock_timestamp'), ('timeofday'),"
	" ('gen_random_uuid'), ('pg_sleep'), ('pg_partition_tree'), ('pg_partition_ancestors'),"
	" ('uuidv4'), ('uuidv7'), ('random_normal')),"
	" volatile_proc(oid) AS (SELECT p.oid FROM pg_catalog.pg_proc p"
	" WHERE p.provolatile = 'v' AND NOT (p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace"
	" AND p.proname::text IN (SELECT name FROM harmless))"
	" UNION SELECT a.aggfnoid FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc p"
	" ON p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggmfinalfn)"
	" WHERE p.provolatile = 'v'),"
	" rule_of(rule, view, tree) AS (SELECT r.oid, c.oid, r.ev_action::text"
	" FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class"
	" WHERE c.relkind = 'v' AND c.relnamespace NOT IN ('pg_catalog'::pg_catalog.regnamespace,"
	" 'information_schema'::pg_catalog.regnamespace)),"
	" local_relation(oid) AS (SELECT c.oid FROM pg_catalog.pg_class c"
	" WHERE c.relkind IN ('S', 'f') OR c.relpersistence = 'u'"
	" OR (c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relname::text"
	" ~ '^pg_(stat_|statio_|locks$|settings$|file_settings$|hba_file|ident_file|replication_|"
	"prepared_|cursors$|sequences$|shmem|backend_memory|available_ext|config$)')"
	" UNION SELECT view FROM rule_of, pg_catalog.regexp_matches(tree, ' :(?:func|win|agg)"
	"(?:id|fnoid) ([0-9]+) ', 'g') AS called WHERE called[1]::pg_catalog.oid IN"
	" (SELECT oid FROM volatile_proc)"
	" UNION SELECT r.view FROM local_relation l JOIN pg_catalog.pg_depend d"
	" ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = l.oid"
	" AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
	" JOIN rule_of r ON r.rule = d.objid AND r.view <> l.oid),"
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
	" WHERE c.oid IN (SELECT t.tgrelid FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal)"
	" OR (c.relkind IN ('r', 'p') AND c.relhasrules)"
	" OR (c.relkind = 'v' AND c.oid IN (SELECT oid FROM local_relation))"
	" UNION SELECT '~' || c.relname::text, true FROM pg_catalog.pg_class c"
	" WHERE c.oid IN (SELECT oid FROM time_relation)";

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
	{"lo_open", FUNCTION_LARGE_OBJECT},
	{"lo_close", FUNCTION_LARGE_OBJECT},
	{"loread", FUNCTION_LARGE_OBJECT},
	{"lowrite", FUNCTION_LARGE_OBJECT},
	{"lo_lseek", FUNCTION_LARGE_OBJECT},
	{"lo_lseek64", FUNCTION_LARGE_OBJECT},
	{"lo_tell", FUNCTION_LARGE_OBJECT},
	{"lo_tell64", FUNCTION_LARGE_OBJECT},
	{"lo_truncate", FUNCTION_LARGE_OBJECT},
	{"lo_truncate64", FUNCTION_LARGE_OBJECT},
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

bool catalog_user_function(const struct catalog *c, struct slice name)
{
	return !c->loaded || table_find(&c->names, name) != NULL;
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

/* A relation that was loaded under this mark, or of which that is not known. */
static bool marked(const struct catalog *c, uint8_t mark, struct slice name)
{
	uint8_t key[256] = {mark};
	if (!c->loaded || name.len >= sizeof(key))
		return true;
	memcpy(key + 1, name.ptr, name.len);
	return table_find(&c->names, slice_of(key, name.len + 1)) != NULL;
}

bool catalog_relation_runs_code(const struct catalog *c, struct slice name)
{
	return marked(c, '!', name);
}

bool catalog_relation_shows_time(const struct catalog *c, struct slice name)
{
	return slice_eq_str(name, "pg_timezone_names") || slice_eq_str(name, "pg_timezone_abbrevs") ||
	       marked(c, '~', name);
}

bool catalog_relation_safe(const struct catalog *c, struct slice name)
{
	if (server_local_relation(name))
		return false;
	uint8_t key[256] = {'@'};
	if (name.len >= sizeof(key))
		return false;
	memcpy(key + 1, name.ptr, name.len);
	return !table_find(&c->names, slice_of(key, name.len + 1));
}
