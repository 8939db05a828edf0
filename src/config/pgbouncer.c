/* SPDX-License-Identifier: PostgreSQL */
#include "pgbouncer.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "inifile.h"
#include "options.h"
#include "pgbouncer_keys.h"
#include "userlist.h"

#define INCLUDE_DEPTH_MAX 10 /* PgBouncer's */
#define PAIR_VALUE_MAX 512

/* What a file that does not name them means by them, where Tidemark's own default is another. */
static const struct {
	const char *name, *value;
} presets[] = {
	{"listen_addr", ""},
	{"auth_type", "md5"},
	{"admin_users", ""},
	{"max_client_conn", "100"},
	{"server_connect_timeout", "15"},
	{"server_login_retry", "15"},
};

struct import {
	struct config_errors *errors, *notes;
	const char *path;
	char section[32]; /* that the current file began in, or is in */
	int line, depth;
	bool primary_given;
	struct settings scratch; /* values are tried on it */
	char **values;           /* by option; the last line counts, as in PgBouncer */
	struct buf databases;    /* the section to be */
	int database_count;
	char auth_user[64];
	/* The server that all databases have to live on: of the first line that names one. */
	char host[256];
	int port;
	char dbname[64];
	char server_path[256];
	int server_line;
};

/* ---- saying ---- */

static void refuse(struct import *im, const char *name, const char *what)
{
	config_errors_add(im->errors, "%s:%d: %s: %s", im->path, im->line, name, what);
}

static void note(struct import *im, const char *name, const char *what)
{
	config_errors_add(im->notes, "%s:%d: %s: %s", im->path, im->line, name, what);
}

/* Is `value` one of the words between the bars? */
static bool is_harmless(const struct pgbouncer_key *k, const char *value)
{
	size_t len = strlen(value);

	for (const char *at = k->harmless; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
		if (strcspn(at, "|") == len && strncasecmp(at, value, len) == 0)
			return true;
	}
	return false;
}

static void tell_key(struct import *im, const struct pgbouncer_key *k, const char *value)
{
	char what[400];

	if (is_harmless(k, value))
		return;
	switch (k->fate) {
	case KEY_MOOT:
		snprintf(what, sizeof(what), "not needed: %s", k->advice);
		note(im, k->name, what);
		break;
	case KEY_INSTEAD:
		snprintf(what, sizeof(what), "not honoured: %s", k->advice);
		note(im, k->name, what);
		break;
	case KEY_REFUSED:
		refuse(im, k->name, k->advice);
		break;
	}
}

/* ---- [pgbouncer] ---- */

static const struct option *option_of(const char *key)
{
	for (int i = 0; i < options_count; i++) {
		if (options[i].pgbouncer && strcasecmp(options[i].pgbouncer, key) == 0)
			return &options[i];
	}
	return NULL;
}

bool pgbouncer_knows(const char *key)
{
	return option_of(key) || pgbouncer_key_find(pgbouncer_keys, key);
}

const char *pgbouncer_advice(const char *key)
{
	const struct pgbouncer_key *k = pgbouncer_key_find(pgbouncer_keys, key);

	return k ? k->advice : NULL;
}

static void put_option(struct import *im, const struct option *o, const char *value)
{
	char **at = &im->values[o - options];

	free(*at);
	*at = strdup(value);
	if (!*at)
		refuse(im, o->name, "out of memory");
}

static bool is_zero(const char *value)
{
	return *value && value[strspn(value, "0.")] == '\0';
}

/* Values that PgBouncer takes in a sense of its own. NULL: refused, and told. */
static const char *value_here(struct import *im, const struct option *o, const char *value)
{
	bool address = strcmp(o->name, "listen_addr") == 0;

	if (address || strcmp(o->name, "unix_socket_dir") == 0) {
		if (strchr(value, ',')) {
			refuse(im, o->name,
			       address ? "only one address can be listened on: name one, or * for all"
			               : "only one directory can be served: name one");
			return NULL;
		}
		if (*value == '@') {
			refuse(im, o->name, "abstract sockets are not served: name a directory");
			return NULL;
		}
	}
	if (strcmp(o->name, "server_lifetime") == 0 && is_zero(value)) {
		note(im, o->name, "0 means once only to PgBouncer and no limit here: it becomes 1 s");
		return "1";
	}
	if (strcmp(o->name, "max_prepared_statements") == 0 && is_zero(value)) {
		note(im, o->name, "prepared statements always work here: 0 becomes the default");
		return o->preset;
	}
	if (strcmp(o->name, "max_packet_size") == 0 && strtoll(value, NULL, 10) > o->max) {
		note(im, o->name, "larger than the largest that can be said: it becomes the default");
		return o->preset;
	}
	return value;
}

static void why_not_auth(struct import *im, const char *value, const char *why)
{
	static const struct {
		const char *type, *advice;
	} types[] = {
		{"any",
	     "clients are logged in to the servers as themselves: trust asks for nothing either"},
		{"pam", "PAM is not asked: scram-sha-256 with auth_file"},
		{"ldap", "LDAP is not asked: scram-sha-256 with auth_file"},
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcasecmp(value, types[i].type) == 0)
			why = types[i].advice;
	}
	config_errors_add(im->errors, "%s:%d: auth_type = %.40s: %s", im->path, im->line, value, why);
}

static const char fixed_path[] =
	"auth_query is run with search_path = pg_catalog: functions and tables of your own need their "
	"schema in it";

static void take_option(struct import *im, const struct option *o, const char *given)
{
	char why[256];
	const char *value = value_here(im, o, given);

	if (!value)
		return;
	if (option_set(o, &im->scratch, value, why, sizeof(why)))
		put_option(im, o, value);
	else if (strcmp(o->name, "auth_type") == 0)
		why_not_auth(im, value, why);
	else
		refuse(im, o->name, why);
}

static void take_key(struct import *im, const char *key, const char *value)
{
	const struct option *o = option_of(key);
	const struct pgbouncer_key *k = pgbouncer_key_find(pgbouncer_keys, key);

	if (strcasecmp(key, "auth_user") == 0)
		snprintf(im->auth_user, sizeof(im->auth_user), "%s", value);
	if (strcasecmp(key, "auth_query") == 0)
		note(im, key, fixed_path);
	if (o)
		take_option(im, o, value);
	else if (k)
		tell_key(im, k, value);
	else
		config_errors_add(im->errors, "%s:%d: \"%.60s\" is no key of PgBouncer 1.18 to 1.25",
		                  im->path, im->line, key);
}

/* ---- pairs: key=value key='va''lue' ---- */

typedef void (*pair_fn)(struct import *im, void *arg, const char *key, const char *value);

/* What stands behind the value, or NULL: no closing quote, or too long. A bare value ends at a
 * blank, a quoted one at its quote; two quotes are one. */
static const char *take_value(const char *p, char value[PAIR_VALUE_MAX])
{
	bool quoted = *p == '\'';
	size_t len = 0;

	for (p += quoted; *p && (quoted || (*p != ' ' && *p != '\t')); p++) {
		if (quoted && *p == '\'' && *++p != '\'') {
			value[len] = '\0';
			return p;
		}
		if (len + 1 >= PAIR_VALUE_MAX)
			return NULL;
		value[len++] = *p;
	}
	value[len] = '\0';
	return quoted ? NULL : p;
}

static const char *take_pair(const char *p, char key[64], char value[PAIR_VALUE_MAX])
{
	size_t n = strcspn(p, "= \t");

	if (n == 0 || n >= 64)
		return NULL;
	memcpy(key, p, n);
	key[n] = '\0';
	p += n + strspn(p + n, " \t");
	return *p == '=' ? take_value(p + 1 + strspn(p + 1, " \t"), value) : NULL;
}

static bool each_pair(struct import *im, const char *text, pair_fn fn, void *arg)
{
	char key[64], value[PAIR_VALUE_MAX];
	const char *p = text + strspn(text, " \t");
	bool ok = true;

	while (ok && *p) {
		p = take_pair(p, key, value);
		ok = p != NULL;
		if (ok) {
			fn(im, arg, key, value);
			p += strspn(p, " \t");
		}
	}
	explicit_bzero(value, sizeof(value));
	return ok;
}

/* ---- [databases] ---- */

struct database_line {
	const char *name;
	char host[256], dbname[64];
	int port;
	struct buf pairs; /* what is kept */
};

/* In the quotes of libpq's connection strings. */
static void put_quoted(struct buf *out, const char *key, const char *value)
{
	buf_printf(out, " %s='", key);
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			buf_append(out, "\\", 1);
		buf_append(out, value, 1);
	}
	buf_append(out, "'", 1);
}

/* Means the same here. */
static bool is_kept(const char *key)
{
	static const char *const kept[] = {"user", "password", "auth_user", "auth_dbname",
	                                   "auth_query"};

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		if (strcmp(key, kept[i]) == 0)
			return true;
	}
	return false;
}

static void database_pair(struct import *im, void *arg, const char *key, const char *value)
{
	struct database_line *d = arg;
	const struct pgbouncer_key *k = pgbouncer_key_find(pgbouncer_database_keys, key);

	if (strcmp(key, "host") == 0 || strcmp(key, "dbname") == 0) {
		bool host = *key == 'h';
		if (strlen(value) >= (host ? sizeof(d->host) : sizeof(d->dbname)))
			refuse(im, d->name, host ? "host is too long" : "dbname is too long");
		else if (host && strchr(value, ','))
			refuse(im, d->name,
			       "several hosts: name the primary alone, and the others as --replica, or as "
			       "replica1 = host=… under [nodes] of a tidemark.ini");
		else if (host)
			snprintf(d->host, sizeof(d->host), "%s", value);
		else
			snprintf(d->dbname, sizeof(d->dbname), "%s", value);
	} else if (strcmp(key, "port") == 0) {
		char *end;
		long port = strtol(value, &end, 10);
		if (port < 1 || port > 65535 || *end)
			refuse(im, d->name, "port is no number from 1 to 65535");
		else
			d->port = (int)port;
	} else if (strcmp(key, "pool_size") == 0) {
		char *end;
		long n = strtol(value, &end, 10);
		if (n < 1 || n > 10000 || *end)
			refuse(im, d->name, "pool_size is no number from 1 to 10000");
		else
			buf_printf(&d->pairs, " pool_size=%ld", n);
	} else if (is_kept(key)) {
		put_quoted(&d->pairs, key, value);
		if (strcmp(key, "auth_query") == 0)
			note(im, d->name, fixed_path);
	} else if (k) {
		tell_key(im, k, value);
	} else {
		config_errors_add(im->errors,
		                  "%s:%d: %s: \"%.60s\" is no parameter of PgBouncer's databases", im->path,
		                  im->line, d->name, key);
	}
}

/* Tidemark has one fleet: every database is on the same primary. */
static void one_server(struct import *im, const struct database_line *d)
{
	if (im->primary_given && !d->host[0])
		return;
	if (!d->host[0]) {
		refuse(
			im, d->name,
			"no host, which to PgBouncer is a unix socket: add host=/DIRECTORY or host=NAME, or give "
			"--primary");
		return;
	}
	if (im->server_line == 0) {
		snprintf(im->host, sizeof(im->host), "%s", d->host);
		snprintf(im->server_path, sizeof(im->server_path), "%s", im->path);
		snprintf(im->dbname, sizeof(im->dbname), "%s",
		         d->dbname[0]                ? d->dbname
		         : strcmp(d->name, "*") == 0 ? "postgres"
		                                     : d->name);
		im->port = d->port;
		im->server_line = im->line;
	} else if (strcmp(im->host, d->host) != 0 || im->port != d->port) {
		config_errors_add(
			im->errors,
			"%s:%d: %s: host=%s port=%d is another server than that of %s:%d, host=%s "
			"port=%d: a router has one primary and its replicas; run another router for "
			"this database, or, if it is a replica of that one, remove the line and give "
			"it as --replica",
			im->path, im->line, d->name, d->host, d->port, im->server_path, im->server_line,
			im->host, im->port);
	}
}

static void take_database(struct import *im, const char *name, const char *value)
{
	struct database_line d = {.name = name, .port = 5432};

	im->database_count++;
	if (strpbrk(name, "=:;#[]'\"")) {
		refuse(im, name, "this name cannot be written in a configuration");
		return;
	}
	buf_init(&d.pairs, 512);
	if (!each_pair(im, value, database_pair, &d))
		refuse(im, name, "expected key=value pairs; a value with blanks stands in single quotes");
	one_server(im, &d);
	buf_printf(&im->databases, "%s =", name);
	if (d.dbname[0])
		put_quoted(&im->databases, "dbname", d.dbname);
	if (d.pairs.len > 0)
		buf_append(&im->databases, d.pairs.data, d.pairs.len);
	buf_append_str(&im->databases, "\n");
	buf_release(&d.pairs);
}

/* ---- [users] ---- */

static void user_pair(struct import *im, void *name, const char *key, const char *value)
{
	const struct pgbouncer_key *k = pgbouncer_key_find(pgbouncer_user_keys, key);

	if (k)
		tell_key(im, k, value);
	else
		config_errors_add(im->errors, "%s:%d: %s: \"%.60s\" is no parameter of PgBouncer's users",
		                  im->path, im->line, (const char *)name, key);
}

static void take_user(struct import *im, const char *name, const char *value)
{
	if (!each_pair(im, value, user_pair, (void *)name))
		refuse(im, name, "expected key=value pairs");
}

/* ---- files ---- */

static void read_file(struct import *im, const char *path);

/* 'a b' = …: quotes make a name of anything. */
static void unquoted(char out[256], const char *name)
{
	size_t len = strlen(name);
	bool quoted = len >= 2 && name[0] == '\'' && name[len - 1] == '\'';

	snprintf(out, 256, "%.*s", (int)(quoted ? len - 2 : len), name + quoted);
}

static void include(struct import *im, const char *path)
{
	const char *from = im->path;
	int line = im->line;

	if (im->depth >= INCLUDE_DEPTH_MAX) {
		refuse(im, "%include", "files include each other more than 10 deep");
		return;
	}
	im->depth++;
	read_file(im, path);
	im->depth--;
	im->path = from;
	im->line = line;
}

static void on_pair(void *arg, int line, const char *section, const char *name, const char *value)
{
	struct import *im = arg;
	char key[256];

	im->line = line;
	/* A file that is included goes on in the section that it is included from. */
	if (*section)
		snprintf(im->section, sizeof(im->section), "%s", section);
	else
		section = im->section;
	if (strncmp(name, "%include", 8) == 0 && isblank((unsigned char)name[8])) {
		if (value)
			refuse(im, "%include", "a path with = in it cannot be read");
		else
			include(im, name + 8 + strspn(name + 8, " \t"));
		return;
	}
	unquoted(key, name);
	if (!value || !*key)
		refuse(im, "syntax", "expected name = value");
	else if (strcasecmp(section, "pgbouncer") == 0)
		take_key(im, key, value);
	else if (strcasecmp(section, "databases") == 0)
		take_database(im, key, value);
	else if (strcasecmp(section, "users") == 0)
		take_user(im, key, value);
	else if (strcasecmp(section, "peers") == 0)
		note(im, key, "not honoured: a cancel request must reach the router that the client has");
	else
		config_errors_add(im->errors, "%s:%d: [%.60s] is no section of PgBouncer", im->path, line,
		                  section);
}

static void read_file(struct import *im, const char *path)
{
	FILE *file = fopen(path, "re");

	if (!file) {
		config_errors_add(im->errors, "%s: cannot be opened: %s", path, strerror(errno));
		return;
	}
	im->path = path;
	inifile_read(file, path, im->errors, on_pair, im);
	fclose(file);
}

/* ---- the result ---- */

static void ignore_fault(void *arg, int line, const char *what)
{
}

/* A user of auth_file with a password in clear; SCRAM verifiers and hashes do not log in anywhere.
 */
static const struct user_entry *with_password(const struct user_entry *users, int count,
                                              struct slice name)
{
	for (int i = 0; i < count; i++) {
		const char *secret = users[i].secret;
		if (slice_eq_str(name, users[i].name) && secret[0] &&
		    strncmp(secret, "SCRAM-SHA-256$", 14) != 0 && strncmp(secret, "md5", 3) != 0)
			return &users[i];
	}
	return NULL;
}

/* The watcher logs in as auth_user, or as one of stats_users and admin_users, whose password is
 * known. */
static const struct user_entry *watcher(const struct import *im, const struct user_entry *users,
                                        int count)
{
	const char *lists[] = {im->auth_user, im->scratch.stats_users, im->scratch.admin_users};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (const char *at = lists[i]; *at;) {
			at += strspn(at, " ,\t");
			size_t len = strcspn(at, " ,\t");
			const struct user_entry *u = with_password(users, count, slice_of(at, len));
			if (u)
				return u;
			at += len;
		}
	}
	return NULL;
}

static void put_primary(struct import *im, struct buf *out)
{
	struct user_entry *users = NULL;
	int count = 0;

	buf_append_str(out, "[nodes]\n");
	if (im->server_line == 0)
		return;
	/* Faults of the file are told when the settings are loaded. */
	if (im->scratch.auth_file[0] &&
	    !userlist_load(im->scratch.auth_file, &users, &count, ignore_fault, NULL))
		count = 0;
	const struct user_entry *u = watcher(im, users, count);
	buf_append_str(out, "primary =");
	put_quoted(out, "host", im->host);
	buf_printf(out, " port=%d", im->port);
	put_quoted(out, "dbname", im->dbname);
	if (u) {
		put_quoted(out, "user", u->name);
		put_quoted(out, "password", u->secret);
	} else if (!im->primary_given) {
		im->path = im->server_path;
		im->line = im->server_line;
		note(im, "[nodes]",
		     "the router watches the servers as user postgres without a password: if that is not "
		     "right, give --primary 'host=… user=… password=…'");
	}
	buf_append_str(out, "\n");
	if (users)
		explicit_bzero(users, (size_t)count * sizeof(*users));
	free(users);
}

static void put_presets(struct import *im)
{
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
		const struct option *o = options_find(presets[i].name);
		if (!im->values[o - options])
			put_option(im, o, presets[i].value);
	}
}

static void put_options(struct import *im, struct buf *out)
{
	buf_append_str(out, "\n[tidemark]\n");
	for (int i = 0; i < options_count; i++) {
		if (im->values[i])
			buf_printf(out, "%s = %s\n", options[i].name, im->values[i]);
	}
}

static void import_free(struct import *im)
{
	for (int i = 0; im->values && i < options_count; i++)
		free(im->values[i]);
	free(im->values);
	buf_release(&im->databases);
	explicit_bzero(&im->scratch, sizeof(im->scratch));
	free(im);
}

bool pgbouncer_translate(const char *path, bool primary_given, struct buf *out,
                         struct config_errors *errors, struct config_errors *notes)
{
	struct import *im = calloc(1, sizeof(*im));
	int before = errors->count;

	if (im)
		im->values = calloc((size_t)options_count, sizeof(*im->values));
	if (!im || !im->values) {
		config_errors_add(errors, "out of memory");
		free(im);
		return false;
	}
	im->errors = errors;
	im->notes = notes;
	im->primary_given = primary_given;
	options_defaults(&im->scratch);
	im->scratch.admin_users[0] = '\0';
	buf_init(&im->databases, PGBOUNCER_TEXT_MAX / 4);
	read_file(im, path);
	if (im->database_count == 0 && errors->count == before)
		config_errors_add(errors, "%s: [databases] is empty: PgBouncer would serve none", path);
	put_presets(im);
	put_primary(im, out);
	buf_append_str(out, "\n[databases]\n");
	if (im->databases.len > 0)
		buf_append(out, im->databases.data, im->databases.len);
	put_options(im, out);
	if (im->databases.overflow || out->overflow)
		config_errors_add(errors, "%s: too long", path);
	import_free(im);
	return errors->count == before;
}

/* ---- docs/migrating-from-pgbouncer.md ---- */

static void print_advices(FILE *out, const struct pgbouncer_key *keys)
{
	static const char *const fates[] = {
		[KEY_MOOT] = "not needed",
		[KEY_INSTEAD] = "not honoured",
		[KEY_REFUSED] = "refused",
	};

	for (; keys->name; keys++) {
		fprintf(out, "| `%s` | %s", keys->name, fates[keys->fate]);
		if (keys->harmless && keys->fate != KEY_MOOT) {
			fputs(", unless it is ", out);
			if (!*keys->harmless)
				fputs("empty", out);
			for (const char *at = keys->harmless; *at;) {
				size_t len = strcspn(at, "|");
				fprintf(out, "%s`%.*s`", at == keys->harmless ? "" : " or ", (int)len, at);
				at += len + (at[len] == '|');
			}
		}
		fprintf(out, " | %s |\n", keys->advice);
	}
}

void pgbouncer_print_markdown(FILE *out)
{
	fputs(
		"# From PgBouncer\n\n"
		"Written by `make generate` from the tables that the program itself uses.\n\n"
		"```\n"
		"tidemark check-config --from /etc/pgbouncer/pgbouncer.ini                         # what would change?\n"
		"tidemark --from /etc/pgbouncer/pgbouncer.ini --replica 'host=10.0.0.2 user=…'     # start with it\n"
		"tidemark check-config --from /etc/pgbouncer/pgbouncer.ini --write tidemark.ini    # or move for good\n"
		"```\n\n"
		"The file is read with its `%include`s, `auth_file` as it is. Its databases must be on one server: that is the "
		"primary. Replicas come from `--replica`, or from `[nodes]` of the file that `--write` has made. Flags go "
		"before the file. For every key that means something else here, or nothing, one line says what to do; with "
		"a key that is *refused* nothing is started. `--write` makes a file that only its owner can read, since "
		"passwords are in it, and does not overwrite one; `--write -` prints.\n\n"
		"What PgBouncer takes for granted where a file is silent is taken over: `auth_type = md5`, no TCP without "
		"`listen_addr`, nobody at the console without `admin_users`, `max_client_conn = 100`, 15 s for "
		"`server_connect_timeout` and `server_login_retry`. Not so the directory of the unix socket, which depends "
		"on how PgBouncer was built: say `unix_socket_dir`.\n\n"
		"The watcher logs in to the servers as `auth_user`, or as the first of `stats_users` and `admin_users` "
		"for whom `auth_file` has a password in clear, else as postgres without a password; `--primary` says it "
		"otherwise.\n\n"
		"The admin console answers PgBouncer's commands on the database `pgbouncer` too: "
		"[observability.md](observability.md).\n\n"
		"## What is the same\n\n| PgBouncer | Tidemark |\n|---|---|\n",
		out);
	for (int i = 0; i < options_count; i++) {
		if (options[i].pgbouncer)
			fprintf(out, "| `%s` | `%s`%s%s |\n", options[i].pgbouncer, options[i].name,
			        strcmp(options[i].pgbouncer, options[i].name) == 0 ? "" : " (renamed)",
			        strcmp(options[i].name, "server_lifetime") == 0
			            ? "; 0, once only to PgBouncer, becomes 1 s"
			        : strcmp(options[i].name, "auth_query") == 0
			            ? "; names of your own need their schema"
			            : "");
	}
	fputs(
		"\nOf `[databases]`: `dbname`, `pool_size`, `user` and `password`, `auth_user`, `auth_dbname` and `auth_query`; `host` and `port` become the primary. Several hosts in one line, "
		"and databases on another server, are refused with their line.\n\n"
		"## What is not, of [pgbouncer]\n\n| key | | why, or what instead |\n|---|---|---|\n",
		out);
	print_advices(out, pgbouncer_keys);
	fputs("\n## Of [databases]\n\n| parameter | | why, or what instead |\n|---|---|---|\n", out);
	print_advices(out, pgbouncer_database_keys);
	fputs("\n## Of [users]\n\n| parameter | | why, or what instead |\n|---|---|---|\n", out);
	print_advices(out, pgbouncer_user_keys);
	fputs(
		"\n`[peers]` is not honoured: a cancel request must reach the router that the client has.\n",
		out);
}
