/* SPDX-License-Identifier: PostgreSQL
 *
 *   command line ──▶ file ──▶ sections ──▶ settings ◀── flags ──▶ checks across options
 *
 * --from translates a pgbouncer.ini first (pgbouncer.h); the text takes the place of the file.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "args.h"
#include "conninfo.h"
#include "inifile.h"
#include "keyfile.h"
#include "options.h"
#include "pgbouncer.h"
#include "tls_config.h"
#include "userlist.h"

#define OPTIONS_MAX 128

struct loader {
	struct settings *s;
	struct config_errors *errors;
	const char *path; /* of the file, or NULL */
	bool translated;  /* it is a pgbouncer.ini */
	int line;
	bool auth_type_given;
	int seen_at[OPTIONS_MAX]; /* line of the option in the file; 0: not seen */
	bool primary_given;
};

/* ---- faults ---- */

static void fault(struct loader *l, const char *what)
{
	config_errors_add(l->errors, "%s:%d: %s", l->path, l->line, what);
}

static void fault_value(struct loader *l, const char *name, const char *value, const char *why)
{
	config_errors_add(l->errors, "%s:%d: %s = \"%.100s\": %s", l->path, l->line, name, value, why);
}

/* Connection strings hold passwords: the message does not repeat them. */
static void fault_secret(struct loader *l, const char *name, const char *why)
{
	config_errors_add(l->errors, "%s:%d: %s: %s", l->path, l->line, name, why);
}

/* ---- [tidemark] ---- */

static void unknown_option(struct loader *l, const char *name)
{
	const char *advice = pgbouncer_advice(name);
	const char *near = options_nearest(name);

	if (advice)
		config_errors_add(l->errors, "%s:%d: %s: %s: remove the line", l->path, l->line, name,
		                  advice);
	else if (near)
		config_errors_add(l->errors, "%s:%d: unknown option \"%.60s\"; did you mean \"%s\"?",
		                  l->path, l->line, name, near);
	else
		config_errors_add(l->errors,
		                  "%s:%d: unknown option \"%.60s\"; \"tidemark --help\" lists them",
		                  l->path, l->line, name);
}

static void note_option(struct loader *l, const struct option *o)
{
	if (o == options_find("auth_type"))
		l->auth_type_given = true;
}

static void file_option(struct loader *l, const char *name, const char *value)
{
	const struct option *o = options_find(name);
	char why[256];

	if (!o) {
		unknown_option(l, name);
		return;
	}
	int *seen = &l->seen_at[o - options];
	if (*seen) {
		snprintf(why, sizeof(why), "%s is given twice; the first time in line %d", o->name, *seen);
		fault(l, why);
		return;
	}
	*seen = l->line;
	note_option(l, o);
	if (option_set(o, l->s, value, why, sizeof(why)))
		return;
	if (o->secret)
		fault_secret(l, o->name, why);
	else
		fault_value(l, o->name, value, why);
}

/* ---- [nodes] ---- */

static struct watch_node *find_node(struct settings *s, const char *name)
{
	for (int i = 0; i < s->node_count; i++) {
		if (strcmp(s->nodes[i].name, name) == 0)
			return &s->nodes[i];
	}
	return NULL;
}

/* Puts a server into the settings; the primary goes to the front. False with `why`. */
static bool add_node(struct loader *l, const char *name, const char *conninfo, char *why,
                     size_t cap)
{
	struct settings *s = l->s;
	bool primary = strcmp(name, "primary") == 0;
	struct watch_node node = {0};

	if (strlen(name) >= sizeof(node.name)) {
		snprintf(why, cap, "the name is longer than %zu bytes", sizeof(node.name) - 1);
		return false;
	}
	if (find_node(s, name)) {
		snprintf(why, cap, "there is already a server of this name");
		return false;
	}
	if (s->node_count == FLEET_NODES_MAX) {
		snprintf(why, cap, "too many servers; at most %d", FLEET_NODES_MAX);
		return false;
	}
	/* Before the connection string is looked at: one fault should not be told as two. */
	l->primary_given = l->primary_given || primary;
	if (!conninfo_node(conninfo, &node, why, cap))
		return false;
	snprintf(node.name, sizeof(node.name), "%s", name);
	s->nodes[s->node_count] = primary ? s->nodes[0] : node;
	if (primary)
		s->nodes[0] = node;
	s->node_count++;
	explicit_bzero(&node, sizeof(node));
	return true;
}

static void file_node(struct loader *l, const char *name, const char *value)
{
	char why[256];

	if (!add_node(l, name, value, why, sizeof(why)))
		fault_secret(l, name, why);
}

/* ---- [databases] ---- */

/* The keys that are kept as they are. NULL: it is none of them. */
static char *database_text(struct database_entry *d, const char *key, size_t *size)
{
	const struct {
		const char *key;
		char *text;
		size_t size;
	} texts[] = {
		{"dbname", d->dbname, sizeof(d->dbname)},
		{"user", d->user, sizeof(d->user)},
		{"password", d->password, sizeof(d->password)},
		{"auth_user", d->lookup.user, sizeof(d->lookup.user)},
		{"auth_dbname", d->lookup.dbname, sizeof(d->lookup.dbname)},
		{"auth_query", d->lookup.query, sizeof(d->lookup.query)},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (strcmp(key, texts[i].key) == 0) {
			*size = texts[i].size;
			return texts[i].text;
		}
	}
	return NULL;
}

static bool database_pair(void *arg, const char *key, const char *value, char *why, size_t cap)
{
	struct database_entry *d = arg;
	char detail[160];
	size_t size;
	char *text = database_text(d, key, &size);
	int word;

	if (text && strlen(value) >= size) {
		snprintf(why, cap, "%s is longer than %zu bytes", key, size - 1);
		return false;
	}
	if (text) {
		snprintf(text, size, "%s", value);
		return true;
	}
	if (strcmp(key, "pool_size") == 0) {
		char *end;
		long n = strtol(value, &end, 10);
		if (end == value || *end || n < 1 || n > 10000) {
			snprintf(why, cap, "pool_size=%.40s: expected a number from 1 to 10000", value);
			return false;
		}
		d->pool_size = (int)n;
		return true;
	}
	if (strcmp(key, "consistency") == 0 || strcmp(key, "scope") == 0) {
		bool level = strcmp(key, "consistency") == 0;
		if (!option_parse_word(level ? words_consistency : words_scope, value, &word, detail,
		                       sizeof(detail))) {
			snprintf(why, cap, "%s=%.40s: %s", key, value, detail);
			return false;
		}
		if (level) {
			d->has_consistency = true;
			d->consistency = (enum consistency_level)word;
		} else {
			d->has_scope = true;
			d->scope = (enum scope)word;
		}
		return true;
	}
	if (strcmp(key, "host") == 0 || strcmp(key, "port") == 0)
		snprintf(why, cap, "%s belongs into [nodes]: all databases live on the same servers", key);
	else
		snprintf(why, cap,
		         "unknown keyword \"%s\"; expected dbname, pool_size, consistency, scope, user, "
		         "password, auth_user, auth_dbname or auth_query",
		         key);
	return false;
}

/* Room for one more, or NULL with `why`. */
static struct database_entry *database_slot(struct settings *s, const char *name, char *why,
                                            size_t cap)
{
	if (strlen(name) >= sizeof(s->databases->name)) {
		snprintf(why, cap, "the name is longer than %zu bytes", sizeof(s->databases->name) - 1);
		return NULL;
	}
	for (int i = 0; i < s->database_count; i++) {
		if (strcmp(s->databases[i].name, name) == 0) {
			snprintf(why, cap, "the database is given twice");
			return NULL;
		}
	}
	if (s->database_count == SETTINGS_DATABASES_MAX) {
		snprintf(why, cap, "too many databases; at most %d", SETTINGS_DATABASES_MAX);
		return NULL;
	}
	if (!s->databases)
		s->databases = calloc(SETTINGS_DATABASES_MAX, sizeof(*s->databases));
	if (!s->databases) {
		snprintf(why, cap, "out of memory");
		return NULL;
	}
	return &s->databases[s->database_count];
}

static bool add_database(struct settings *s, const char *name, const char *value, char *why,
                         size_t cap)
{
	struct database_entry *d = database_slot(s, name, why, cap);

	if (!d)
		return false;
	*d = (struct database_entry){0};
	snprintf(d->name, sizeof(d->name), "%s", name);
	s->database_count++;
	if (!conninfo_pairs(value, database_pair, d, why, cap))
		return false;
	if (d->password[0] && !d->user[0])
		snprintf(why, cap, "password goes with user: whose is it?");
	return !d->password[0] || d->user[0];
}

static void file_database(struct loader *l, const char *name, const char *value)
{
	char why[256];

	if (!add_database(l->s, name, value, why, sizeof(why)))
		fault_secret(l, name, why);
}

/* ---- the file ---- */

static void on_pair(void *arg, int line, const char *section, const char *name, const char *value)
{
	struct loader *l = arg;

	l->line = line;
	if (!value || *name == '\0')
		fault(l, "expected name = value");
	else if (strcmp(section, "tidemark") == 0 || strcmp(section, "pgbouncer") == 0)
		file_option(l, name, value);
	else if (strcmp(section, "nodes") == 0)
		file_node(l, name, value);
	else if (strcmp(section, "databases") == 0)
		file_database(l, name, value);
	else if (*section == '\0')
		fault(l, "stands before the first section; expected [tidemark], [nodes] or [databases]");
	else
		config_errors_add(
			l->errors, "%s:%d: unknown section [%s]; expected [tidemark], [nodes] or [databases]",
			l->path, l->line, section);
}

static void load_file(struct loader *l)
{
	FILE *file = fopen(l->path, "re");

	if (!file) {
		config_errors_add(l->errors, "%s: cannot be opened: %s", l->path, strerror(errno));
		return;
	}
	inifile_read(file, l->path, l->errors, on_pair, l);
	fclose(file);
}

static void load_pgbouncer(struct loader *l, const char *path, bool primary_given,
                           struct config_errors *notes)
{
	struct buf text;

	buf_init(&text, PGBOUNCER_TEXT_MAX);
	l->translated = true;
	l->path = path;
	if (pgbouncer_translate(path, primary_given, &text, l->errors, notes)) {
		FILE *stream = fmemopen(text.data, text.len, "r");
		/* The lines are those of the text; its faults were told with lines of the file. */
		l->path = "--from, as --write prints it";
		if (stream) {
			inifile_read(stream, l->path, l->errors, on_pair, l);
			fclose(stream);
		} else {
			config_errors_add(l->errors, "out of memory");
		}
	}
	if (text.data)
		explicit_bzero(text.data, text.len);
	buf_release(&text);
}

/* ---- the flags ---- */

/* The servers of the command line take the place of the file's; but a pgbouncer.ini has no
 * replicas, so that those of the command line join its primary. */
static void forget_file_nodes(struct loader *l, enum arg_kind kind, bool *forgotten)
{
	if (*forgotten || (l->translated && kind == ARG_REPLICA))
		return;
	*forgotten = true;
	explicit_bzero(l->s->nodes, sizeof(l->s->nodes));
	l->s->node_count = 0;
	l->primary_given = false;
}

static void flag_node(struct loader *l, const struct arg *a, int replica_number)
{
	char name[32];
	char why[256];

	if (a->kind == ARG_PRIMARY)
		snprintf(name, sizeof(name), "primary");
	else
		snprintf(name, sizeof(name), "replica%d", replica_number);
	if (!add_node(l, name, a->value, why, sizeof(why)))
		config_errors_add(l->errors, "--%s: %s", a->kind == ARG_PRIMARY ? "primary" : "replica",
		                  why);
}

static void flag_option(struct loader *l, const char *name, const char *value)
{
	const struct option *o = options_find(name);
	char why[256];

	note_option(l, o);
	if (option_set(o, l->s, value, why, sizeof(why)))
		return;
	if (o->secret)
		config_errors_add(l->errors, "--%s: %s", o->name, why);
	else
		config_errors_add(l->errors, "--%s \"%.100s\": %s", o->name, value, why);
}

static void flag_listen(struct loader *l, const char *value)
{
	char why[256];

	if (!option_parse_hostport(value, l->s->listen_addr, sizeof(l->s->listen_addr),
	                           &l->s->listen_port, why, sizeof(why)))
		config_errors_add(l->errors, "--listen \"%.100s\": %s", value, why);
}

static void apply_flags(struct loader *l, int argc, char **argv)
{
	/* The first pass, for the file's name, has told the faults of the words themselves. */
	struct config_errors told = {0};
	struct args args = {.argc = argc, .argv = argv, .next = 1, .errors = &told};
	struct arg a;
	bool forgotten = false;
	int replicas = 0;

	while (args_next(&args, &a)) {
		if (a.kind == ARG_PRIMARY || a.kind == ARG_REPLICA) {
			forget_file_nodes(l, a.kind, &forgotten);
			replicas += a.kind == ARG_REPLICA;
			flag_node(l, &a, replicas);
		} else if (a.kind == ARG_LISTEN) {
			flag_listen(l, a.value);
		} else if (a.kind == ARG_VERBOSE) {
			flag_option(l, "log_level", "debug");
		} else if (a.kind == ARG_OPTION) {
			flag_option(l, a.name, a.value);
		}
	}
}

/* What the command line says of files, before anything is read. */
struct named {
	const char *path, *from; /* a tidemark.ini, or a pgbouncer.ini; or neither */
	bool primary;
};

static struct named find_file(int argc, char **argv, struct config_errors *errors)
{
	struct args args = {.argc = argc, .argv = argv, .next = 1, .errors = errors};
	struct arg a;
	struct named n = {0};

	while (args_next(&args, &a)) {
		const char **into = a.kind == ARG_CONFIG ? &n.path : a.kind == ARG_FROM ? &n.from : NULL;
		n.primary = n.primary || a.kind == ARG_PRIMARY;
		if (!into)
			continue;
		if (n.path || n.from)
			config_errors_add(errors, "%s: a second configuration file; there is already %s",
			                  a.value, n.path ? n.path : n.from);
		else
			*into = a.value;
	}
	return n;
}

enum config_action config_action(int argc, char **argv)
{
	struct config_errors ignored = {0};
	struct args args = {.argc = argc, .argv = argv, .next = 1, .errors = &ignored};
	struct arg a;

	while (args_next(&args, &a)) {
		if (a.kind == ARG_HELP)
			return CONFIG_HELP;
		if (a.kind == ARG_VERSION)
			return CONFIG_VERSION;
	}
	return CONFIG_LOAD;
}

/* ---- checks across options ---- */

static void userlist_fault(void *arg, int line, const char *what)
{
	struct loader *l = arg;

	if (line)
		config_errors_add(l->errors, "%s:%d: %s", l->s->auth_file, line, what);
	else
		config_errors_add(l->errors, "auth_file = \"%s\": %s", l->s->auth_file, what);
}

static void keyfile_fault(void *arg, int line, const char *what)
{
	struct loader *l = arg;

	if (line)
		config_errors_add(l->errors, "%s:%d: %s", l->s->token_key_file, line, what);
	else
		config_errors_add(l->errors, "token_key_file = \"%s\": %s", l->s->token_key_file, what);
}

/* Without a file: a key that nobody else has, for tokens among the connections of this router. */
static void take_keys(struct loader *l)
{
	struct settings *s = l->s;
	uint8_t secret[32];

	if (s->token_key_file[0]) {
		if (!keyfile_load(s->token_key_file, &s->token_keys, keyfile_fault, l))
			s->token_keys.count = 0;
		return;
	}
	net_random(secret, sizeof(secret));
	if (!token_keys_add(&s->token_keys, 0, slice_of(secret, sizeof(secret))))
		config_errors_add(l->errors, "no key for tokens can be made");
	explicit_bzero(secret, sizeof(secret));
}

/* "host:port", "[::1]:6379", "/path/of/redis.sock". */
static bool take_store_address(struct store_settings *s, struct slice one)
{
	struct store_address *a = &s->addresses[s->address_count];
	if (one.len == 0 || one.len >= sizeof(a->host) || s->address_count == STORE_ADDRESSES_MAX)
		return false;
	/* An URL: with a user and a password, as a rule. */
	if (one.ptr[0] != '/' && (memchr(one.ptr, '/', one.len) || memchr(one.ptr, '@', one.len)))
		return false;
	char text[sizeof(a->host)];
	memcpy(text, one.ptr, one.len);
	text[one.len] = '\0';
	*a = (struct store_address){0};
	if (text[0] != '/') {
		char *colon = strrchr(text, ':'), *end;
		long port = colon ? strtol(colon + 1, &end, 10) : 0;
		if (!colon || colon == text || end == colon + 1 || *end || port < 1 || port > 65535)
			return false;
		*colon = '\0';
		a->port = (int)port;
	}
	size_t len = strlen(text);
	bool bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';
	snprintf(a->host, sizeof(a->host), "%.*s", (int)(bracketed ? len - 2 : len),
	         text + (bracketed ? 1 : 0));
	s->address_count++;
	return true;
}

static void take_store(struct loader *l)
{
	struct settings *s = l->s;
	struct slice rest = slice_str(s->redis);
	if (s->session_store == SESSION_STORE_MEMORY)
		return;
	while (rest.len > 0) {
		size_t n = 0, skip;
		while (n < rest.len && rest.ptr[n] != ',')
			n++;
		skip = n < rest.len ? n + 1 : n;
		struct slice one = slice_of(rest.ptr, n);
		while (one.len > 0 && one.ptr[0] == ' ')
			one = slice_from(one, 1);
		while (one.len > 0 && one.ptr[one.len - 1] == ' ')
			one.len--;
		if (!take_store_address(&s->store, one))
			/* Without the value, which may be an URL and hold a password. */
			config_errors_add(
				l->errors,
				"redis: expected HOST:PORT, or /path/of/redis.sock; at most 8, separated by "
				"commas; no URL, its parts are redis_user, redis_password, redis_db, redis_tls");
		rest = slice_from(rest, skip);
	}
	if (s->store.address_count == 0)
		config_errors_add(l->errors, "session_store = redis needs an address: redis = HOST:PORT");
	if (s->store.address_count > 1 && !s->store.sentinel_master[0])
		config_errors_add(l->errors,
		                  "redis names several servers: they must be sentinels, and "
		                  "redis_sentinel_master says which master they are asked for");
	if (s->policy.strategy != STRATEGY_POSITION)
		config_errors_add(l->errors,
		                  "session_store = redis shares positions: it needs strategy = "
		                  "position");
	s->store.ttl_us = s->session_ttl_us;
}

static bool is_local(const char *addr)
{
	return strncmp(addr, "127.", 4) == 0 || strcmp(addr, "localhost") == 0 ||
	       strcmp(addr, "::1") == 0;
}

static void hba_fault(void *arg, int line, const char *what)
{
	struct loader *l = arg;

	config_errors_add(l->errors, "%s:%d: %s", l->s->auth_hba_file, line, what);
}

static void ident_fault(void *arg, int line, const char *what)
{
	struct loader *l = arg;

	config_errors_add(l->errors, "%s:%d: %s", l->s->auth_ident_file, line, what);
}

#define RULES_FILE_MAX (1024 * 1024)

/* The caller frees. NULL, with the fault told. */
static char *read_rules(struct loader *l, const char *option, const char *path, size_t *len)
{
	FILE *file = fopen(path, "re");
	char *text = file ? malloc(RULES_FILE_MAX + 1) : NULL;

	*len = text ? fread(text, 1, RULES_FILE_MAX + 1, file) : 0;
	if (text && !ferror(file) && *len <= RULES_FILE_MAX) {
		fclose(file);
		return text;
	}
	config_errors_add(l->errors, "%s = \"%s\": %s", option, path,
	                  !file ? strerror(errno) : "cannot be read, or is larger than 1 MB");
	if (file)
		fclose(file);
	free(text);
	return NULL;
}

static void load_hba(struct loader *l)
{
	struct settings *s = l->s;
	size_t rules_len, ident_len = 0;
	char *rules, *ident = NULL;

	if (!s->auth_hba_file[0]) {
		config_errors_add(l->errors, "auth_type = hba needs rules: set auth_hba_file");
		return;
	}
	rules = read_rules(l, "auth_hba_file", s->auth_hba_file, &rules_len);
	if (s->auth_ident_file[0])
		ident = read_rules(l, "auth_ident_file", s->auth_ident_file, &ident_len);
	if (rules && (ident || !s->auth_ident_file[0]))
		s->hba = hba_parse(slice_of(rules, rules_len), slice_of(ident, ident_len), hba_fault,
		                   ident_fault, l);
	free(rules);
	free(ident);
	if (s->hba && hba_has_cert(s->hba) &&
	    (s->client_tls.mode == SSLMODE_DISABLE || !s->client_tls.ca_file[0]))
		config_errors_add(l->errors, "%s asks for certificates of clients: set client_tls_sslmode "
		                             "and client_tls_ca_file", s->auth_hba_file);
}

/* Types that find out without a list of users who somebody is. */
static bool needs_no_users(const struct settings *s)
{
	return s->auth_type == AUTH_TYPE_TRUST || s->auth_type == AUTH_TYPE_CERT ||
	       s->auth_type == AUTH_TYPE_PEER || s->auth_type == AUTH_TYPE_HBA;
}

static const char *auth_word(enum auth_type type)
{
	return type == AUTH_TYPE_MD5 ? "md5" : type == AUTH_TYPE_PLAIN ? "plain" : "scram-sha-256";
}

/* "http://host", "http://host:8008", "http://[::1]:8008/". */
static bool take_patroni_member(struct patroni_settings *s, struct slice one)
{
	static const char scheme[] = "http://";
	struct patroni_member *m = &s->members[s->member_count];
	size_t skip = sizeof(scheme) - 1;
	if (one.len <= skip || memcmp(one.ptr, scheme, skip) != 0 ||
	    s->member_count == PATRONI_MEMBERS_MAX)
		return false;
	one = slice_from(one, skip);
	if (one.ptr[one.len - 1] == '/')
		one.len--;
	char text[sizeof(m->host) + 8], why[160];
	bool plain = one.len > 0 && one.len < sizeof(text) - 6;
	for (size_t i = 0; plain && i < one.len; i++)
		plain = one.ptr[i] > ' ' && one.ptr[i] < 0x7f && !strchr("/@?#%", one.ptr[i]);
	if (!plain || one.ptr[0] == ':')
		return false;
	const uint8_t *bracket = memchr(one.ptr, ']', one.len);
	bool has_port = memchr(bracket ? bracket : one.ptr, ':',
	                       one.len - (bracket ? (size_t)(bracket - one.ptr) : 0)) != NULL;
	int n = has_port ? snprintf(text, sizeof(text), "%.*s", SLICE_ARG(one))
	                 : snprintf(text, sizeof(text), "%.*s:%d", SLICE_ARG(one), PATRONI_PORT);
	if (n < 0 || (size_t)n >= sizeof(text) ||
	    !option_parse_hostport(text, m->host, sizeof(m->host), &m->port, why, sizeof(why)) ||
	    strcmp(m->host, "*") == 0)
		return false;
	s->member_count++;
	return true;
}

static void take_patroni(struct loader *l)
{
	struct settings *s = l->s;
	struct slice rest = slice_str(s->patroni_members);
	while (rest.len > 0) {
		const uint8_t *comma = memchr(rest.ptr, ',', rest.len);
		size_t n = comma ? (size_t)(comma - rest.ptr) : rest.len;
		struct slice one = slice_of(rest.ptr, n);
		rest = slice_from(rest, n + 1);
		while (one.len > 0 && one.ptr[0] == ' ')
			one = slice_from(one, 1);
		while (one.len > 0 && one.ptr[one.len - 1] == ' ')
			one.len--;
		if (!take_patroni_member(&s->patroni, one)) {
			config_errors_add(l->errors,
			                  "patroni: number %d is not http://HOST:PORT; write %d of them at the "
			                  "most, with commas between, and no user, password or path",
			                  s->patroni.member_count + 1, PATRONI_MEMBERS_MAX);
			return;
		}
	}
	if (s->patroni.member_count > 0 &&
	    s->patroni.max_age_us < s->patroni.interval_us + PATRONI_TIMEOUT_US)
		config_errors_add(l->errors, "patroni_max_age must be at least patroni_interval and 1 s, or "
		                             "Patroni's word ends before the next one comes");
}

static bool is_served(const struct settings *s, const char *database)
{
	/* No line at all is the line of "*". */
	for (int i = 0; i < s->database_count; i++) {
		if (strcmp(s->databases[i].name, database) == 0 || strcmp(s->databases[i].name, "*") == 0)
			return true;
	}
	return s->database_count == 0;
}

static bool looks_users_up(const struct settings *s)
{
	for (int i = 0; i < s->database_count; i++) {
		if (s->databases[i].lookup.user[0])
			return true;
	}
	return s->lookup.user[0] != '\0';
}

static void check_lookups(struct loader *l)
{
	const struct settings *s = l->s;

	for (int i = -1; i < s->database_count; i++) {
		const struct auth_lookup *one = i < 0 ? &s->lookup : &s->databases[i].lookup;
		if (one->dbname[0] && !is_served(s, one->dbname))
			config_errors_add(l->errors, "auth_dbname = \"%s\" is no database of [databases]",
			                  one->dbname);
	}
}

static void check_auth(struct loader *l)
{
	struct settings *s = l->s;

	check_lookups(l);

	if (s->auth_type == AUTH_TYPE_HBA)
		load_hba(l);
	if (s->auth_type == AUTH_TYPE_CERT && s->client_tls.mode < SSLMODE_VERIFY_CA)
		config_errors_add(l->errors,
		                  "auth_type = cert needs certificates of clients: set client_tls_sslmode = "
		                  "verify-full");
	if (s->auth_file[0]) {
		if (!l->auth_type_given)
			config_errors_add(l->errors,
			                  "auth_file is given, but without auth_type nobody is asked for "
			                  "a password: set auth_type = scram-sha-256, md5, or trust");
		if (!userlist_load(s->auth_file, &s->users, &s->user_count, userlist_fault, l))
			return;
	} else if (!needs_no_users(s) && !looks_users_up(s)) {
		config_errors_add(
			l->errors,
			"auth_type = %s needs to know the users: set auth_file to a file of \"name\" "
			"\"secret\" lines, or auth_user to have them looked up, or set auth_type = trust",
			auth_word(s->auth_type));
	} else if (!l->auth_type_given && s->listen_addr[0] && !is_local(s->listen_addr)) {
		config_errors_add(
			l->errors,
			"listen_addr = \"%s\" lets other machines in, and nobody would be asked for a "
			"password: set auth_type = scram-sha-256 and auth_file, or say auth_type = "
			"trust",
			s->listen_addr);
	}
}

static void load_tls(struct loader *l)
{
	char why[512];

	if (!tls_config_clients(&l->s->client_tls, &l->s->client_tls_context, why, sizeof(why)))
		config_errors_add(l->errors, "%s", why);
	for (int i = 0; i < l->s->node_count; i++) {
		if (!tls_config_node(&l->s->server_tls, &l->s->nodes[i], why, sizeof(why)))
			config_errors_add(l->errors, "[nodes]: %s: %s", l->s->nodes[i].name, why);
	}
}

/* One server under two names would be seen as two primaries, and two primaries are none. */
static void check_twins(struct loader *l)
{
	const struct settings *s = l->s;

	for (int i = 0; i < s->node_count; i++) {
		for (int j = 0; j < i; j++) {
			if (s->nodes[i].port == s->nodes[j].port &&
			    strcmp(s->nodes[i].host, s->nodes[j].host) == 0)
				config_errors_add(l->errors, "[nodes]: %s and %s are the same server, %s port %d",
				                  s->nodes[j].name, s->nodes[i].name, s->nodes[i].host,
				                  s->nodes[i].port);
		}
	}
}

static void check_all(struct loader *l)
{
	struct settings *s = l->s;

	if (!l->primary_given)
		config_errors_add(l->errors, "no primary: %s",
		                  l->path ? "add \"primary = host=… port=…\" under [nodes]"
		                          : "give a configuration file, or --primary 'host=… port=…'");
	check_twins(l);
	if (s->listen_addr[0] == '\0' && s->unix_socket_dir[0] == '\0')
		config_errors_add(l->errors, "no way in: set listen_addr or unix_socket_dir");
	if (s->sample_max_age_us < 2 * s->watch.idle_interval_us)
		config_errors_add(l->errors,
		                  "sample_max_age must be at least twice poll_idle_interval, or no "
		                  "replica ever serves a read");
	check_auth(l);
	load_tls(l);
	take_keys(l);
	take_store(l);
	take_patroni(l);
}

/* What follows from other options. */
static bool derive(struct settings *s)
{
	char why[64];

	s->watch.connect_timeout_us = s->server_connect_timeout_us;
	return s->database_count > 0 || add_database(s, "*", "", why, sizeof(why));
}

struct settings *config_load(int argc, char **argv, struct config_errors *errors)
{
	struct config_errors notes = {0};

	return config_load_noting(argc, argv, errors, &notes);
}

bool config_translate(int argc, char **argv, struct buf *out, struct config_errors *errors,
                      struct config_errors *notes)
{
	struct named n = find_file(argc, argv, errors);

	if (!n.from && errors->count == 0)
		config_errors_add(errors, "--write needs --from, the pgbouncer.ini to be translated");
	return errors->count == 0 && pgbouncer_translate(n.from, n.primary, out, errors, notes);
}

struct settings *config_load_noting(int argc, char **argv, struct config_errors *errors,
                                    struct config_errors *notes)
{
	struct settings *s = calloc(1, sizeof(*s));
	struct loader l = {.s = s, .errors = errors};

	assert(options_count <= OPTIONS_MAX);
	if (!s) {
		config_errors_add(errors, "out of memory");
		return NULL;
	}
	options_defaults(s);
	struct named n = find_file(argc, argv, errors);
	l.path = n.path;
	if (n.path)
		load_file(&l);
	else if (n.from)
		load_pgbouncer(&l, n.from, n.primary, notes);
	/* What is missing because the translation stopped is no fault of its own. */
	if (!n.from || errors->count == 0) {
		apply_flags(&l, argc, argv);
		check_all(&l);
	}
	if (!derive(s))
		config_errors_add(errors, "out of memory");
	if (errors->count == 0)
		return s;
	config_free(s);
	return NULL;
}

bool config_change(struct settings *s, const char *name, const char *value, char *why, size_t cap)
{
	const struct option *o = options_find(name);

	if (!o) {
		snprintf(why, cap, "there is no option of this name");
		return false;
	}
	if (!option_changeable(o)) {
		snprintf(why, cap,
		         o->fixed ? "%s: a change needs a restart"
		                  : "%s is changed in the configuration, then RELOAD",
		         o->name);
		return false;
	}
	/* What routers share hangs together (take_store). */
	if (s->session_store == SESSION_STORE_REDIS &&
	    (strcmp(o->name, "strategy") == 0 || strcmp(o->name, "session_ttl") == 0)) {
		snprintf(why, cap, "%s is changed in the configuration with session_store = redis", o->name);
		return false;
	}
	return option_set(o, s, value, why, cap);
}

void config_free(struct settings *s)
{
	if (!s)
		return;
	if (s->users)
		explicit_bzero(s->users, (size_t)s->user_count * sizeof(*s->users));
	free(s->users);
	tls_context_free(s->client_tls_context);
	hba_free(s->hba);
	for (int i = 0; i < FLEET_NODES_MAX; i++)
		tls_context_free(s->nodes[i].tls);
	if (s->databases)
		explicit_bzero(s->databases, SETTINGS_DATABASES_MAX * sizeof(*s->databases));
	free(s->databases);
	explicit_bzero(s, sizeof(*s));
	free(s);
}

/* The watchers know the contexts of the nodes by address: what was read anew moves into those. The
 * new settings point to them, and do not own them yet. */
static void keep_contexts(struct settings *next, const struct settings *now)
{
	for (int i = 0; i < FLEET_NODES_MAX; i++) {
		struct watch_node *n = &next->nodes[i];
		const struct watch_node *o = &now->nodes[i];
		if (n->tls && o->tls && n->sslmode == o->sslmode && strcmp(n->name, o->name) == 0)
			tls_context_swap(o->tls, n->tls);
		tls_context_free(n->tls);
		n->tls = o->tls;
	}
}

/* Servers stay as they are until a restart, but for their weights. */
static void keep_nodes(struct settings *next, const struct settings *now,
                       void (*fn)(void *arg, const char *name), void *arg)
{
	int weights[FLEET_NODES_MAX];
	for (int i = 0; i < now->node_count; i++) {
		const struct watch_node *said = find_node(next, now->nodes[i].name);
		weights[i] = said ? said->weight : now->nodes[i].weight;
	}
	for (int i = 0; i < next->node_count; i++)
		next->nodes[i].weight = now->nodes[i].weight;
	keep_contexts(next, now);
	if (next->node_count != now->node_count ||
	    memcmp(next->nodes, now->nodes, sizeof(next->nodes)) != 0)
		fn(arg, "[nodes]");
	memcpy(next->nodes, now->nodes, sizeof(next->nodes));
	next->node_count = now->node_count;
	for (int i = 0; i < next->node_count; i++) {
		next->nodes[i].weight = weights[i];
		(void)tls_context_share(next->nodes[i].tls);
	}
}

void config_keep_fixed(struct settings *next, const struct settings *now,
                       void (*fn)(void *arg, const char *name), void *arg)
{
	for (int i = 0; i < options_count; i++) {
		const struct option *o = &options[i];
		if (!o->fixed || option_equal(o, next, now))
			continue;
		fn(arg, o->name);
		option_copy(o, next, now);
	}
	/* The key of its own stays for as long as the process. */
	if (!next->token_key_file[0] && !now->token_key_file[0])
		next->token_keys = now->token_keys;
	keep_nodes(next, now, fn, arg);
}
