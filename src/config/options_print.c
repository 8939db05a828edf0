/* SPDX-License-Identifier: PostgreSQL
 *
 * What is written from the options table: --help, the sample file, the reference, the man page.
 */
#include "options.h"

static const char *const group_titles[GROUP_COUNT] = {
	[GROUP_LISTEN] = "Where clients come in",
	[GROUP_TLS] = "TLS",
	[GROUP_AUTH] = "Who may come in",
	[GROUP_CONSISTENCY] = "Consistency",
	[GROUP_STORE] = "Sessions shared by several routers",
	[GROUP_FLEET] = "Watching the servers",
	[GROUP_POOLS] = "Pools",
	[GROUP_TIMEOUTS] = "Time limits",
	[GROUP_LIMITS] = "Limits on memory",
	[GROUP_LOG] = "Log",
};

static const char *const type_words[] = {
	[OPTION_BOOL] = "on|off",        [OPTION_INT] = "NUMBER",  [OPTION_TIME] = "TIME",
	[OPTION_ENUM] = "WORD",          [OPTION_STRING] = "TEXT", [OPTION_SIZE] = "SIZE",
	[OPTION_HOSTPORT] = "HOST:PORT",
};

static const char intro_values[] =
	"Times take a unit: us, ms, s, min, h or d; a bare number is seconds, as in PgBouncer. Sizes take "
	"kB, MB or GB; a bare number is bytes. Switches are on or off.";

static const char intro_flags[] =
	"Every option of the file is a flag as well, with - or _ between its words: --wait-timeout 50ms is "
	"wait_timeout = 50ms. Flags win over the file.";

static const char intro_conninfo[] =
	"CONNINFO is libpq's notation, keywords or URI: host=10.0.0.1 port=5432 user=postgres "
	"password='…' dbname=postgres. User and database are those of the router's own watching "
	"connection; both default to postgres, the host to 127.0.0.1, the port to 5432. That user needs "
	"no rights beyond connecting while all servers are on timeline 1. After a failover replicas serve "
	"reads, and tokens and stored sessions count, only with the attribute REPLICATION and a line for "
	"the database replication in pg_hba.conf; with pg_monitor a replica that follows the new primary "
	"is seen within a second. A host that "
	"begins with / is the directory of a unix socket. The address serves the clients' connections "
	"too, each as the client's own user.";

/* "trust, md5, scram-sha-256" or "0 to 1h" or what else may stand there. */
static void values_of(const struct option *o, char *out, size_t cap)
{
	char low[32], high[32];
	size_t used = 0;

	switch (o->type) {
	case OPTION_BOOL:
		snprintf(out, cap, "on, off");
		return;
	case OPTION_ENUM:
		for (const struct option_word *w = o->words; w->word && used < cap; w++)
			used += (size_t)snprintf(out + used, cap - used, "%s%s", used ? ", " : "", w->word);
		return;
	case OPTION_INT:
	case OPTION_TIME:
	case OPTION_SIZE:
		option_format_number(o, o->min, low, sizeof(low));
		option_format_number(o, o->max, high, sizeof(high));
		snprintf(out, cap, "%s to %s", low, high);
		return;
	case OPTION_STRING:
		snprintf(out, cap, "text, at most %zu bytes", o->size - 1);
		return;
	case OPTION_HOSTPORT:
		snprintf(out, cap, "HOST:PORT");
		return;
	}
}

/* Bytes that do not continue a UTF-8 sequence: columns, for our texts. */
static size_t columns(const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)text[i] & 0xC0) != 0x80;
	return n;
}

/* Fills lines of at most `width` columns, each behind `prefix`. */
static void print_wrapped(FILE *out, const char *prefix, const char *text, size_t width)
{
	size_t column = 0;

	while (*text) {
		size_t len = strcspn(text, " ");
		size_t wide = columns(text, len);
		if (column == 0 || column + 1 + wide > width) {
			fprintf(out, "%s%s", column ? "\n" : "", prefix);
			column = strlen(prefix);
		} else {
			fputc(' ', out);
			column++;
		}
		fwrite(text, 1, len, out);
		column += wide;
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

static void print_flag_name(FILE *out, const char *name)
{
	for (; *name; name++)
		fputc(*name == '_' ? '-' : *name, out);
}

/* ---- --help ---- */

static void help_options(FILE *out)
{
	for (int g = 0; g < GROUP_COUNT; g++) {
		fprintf(out, "\n%s:\n", group_titles[g]);
		for (int i = 0; i < options_count; i++) {
			const struct option *o = &options[i];
			if ((int)o->group != g)
				continue;
			fputs("  --", out);
			print_flag_name(out, o->name);
			fprintf(out, " %s", type_words[o->type]);
			if (o->type == OPTION_ENUM) {
				char values[128];
				values_of(o, values, sizeof(values));
				fprintf(out, " (%s)", values);
			}
			fprintf(out, "\n        %s", o->help);
			fprintf(out, *o->preset ? " [%s]\n" : " [none]\n", o->preset);
		}
	}
}

void options_print_help(FILE *out, const char *program)
{
	fprintf(out,
	        "Usage:\n"
	        "  %s [FILE] [OPTION …]            run the router\n"
	        "  %s check-config [FILE] [OPTION …]  say whether the configuration is right\n"
	        "  %s classify 'SQL'               where a statement would go, and why\n"
	        "  %s demo [OPTION …]              a fleet and a workload on this machine\n"
	        "  %s token --help                 what a token says; keys for the key file\n\n"
	        "  -c, --config FILE      configuration file; the same as FILE alone\n"
	        "      --from FILE        a pgbouncer.ini in its place; check-config --write FILE\n"
	        "                         makes a tidemark.ini of it\n"
	        "      --listen HOST:PORT listen_addr and listen_port at once\n"
	        "      --primary CONNINFO the primary, as 'host=… port=…' or postgresql://…\n"
	        "      --replica CONNINFO a replica; repeat it for more\n"
	        "                         either replaces the file's [nodes]\n"
	        "  -v, --verbose          log_level = debug\n"
	        "      --version          print the version\n"
	        "  -h, --help             print this\n",
	        program, program, program, program, program);
	fputc('\n', out);
	print_wrapped(out, "", intro_flags, 90);
	print_wrapped(out, "", intro_values, 90);
	help_options(out);
}

/* ---- packaging/tidemark.ini.sample ---- */

static void sample_option(FILE *out, const struct option *o)
{
	char text[1024];
	char values[128];

	values_of(o, values, sizeof(values));
	snprintf(text, sizeof(text), "%s.%s%s", o->help, o->doc ? " " : "", o->doc ? o->doc : "");
	print_wrapped(out, "; ", text, 96);
	snprintf(text, sizeof(text), "Values: %s.%s", values,
	         o->fixed ? " A change needs a restart." : "");
	print_wrapped(out, "; ", text, 96);
	fprintf(out, ";%s =%s%s\n\n", o->name, *o->preset ? " " : "", o->preset);
}

void options_print_sample(FILE *out)
{
	fputs(
		"; Tidemark: sample configuration, written by \"make generate\" from the options table.\n"
		"; Lines that begin with ; or # are comments. Every option below shows its default.\n;\n",
		out);
	print_wrapped(out, "; ", intro_values, 96);
	print_wrapped(out, "; ", intro_flags, 96);
	fputs("\n[nodes]\n", out);
	print_wrapped(out, "; ", intro_conninfo, 96);
	fputs(
		"; \"primary\" is the server you expect to be it; the role is asked at run time. The other\n"
		"; names are yours.\n"
		"primary = host=127.0.0.1 port=5432\n"
		";replica1 = host=10.0.0.2 port=5432\n"
		";replica2 = host=10.0.0.3 port=5432 weight=3\n\n"
		"[databases]\n"
		"; NAME = dbname=… pool_size=… consistency=… scope=…   each of them optional.\n"
		"; \"*\" is every database without a line of its own; without any line here, all are served.\n"
		"* =\n"
		";shop = dbname=shop_production pool_size=40 consistency=session scope=connection\n\n"
		"[tidemark]\n",
		out);
	for (int g = 0; g < GROUP_COUNT; g++) {
		fprintf(out, ";;;; %s\n\n", group_titles[g]);
		for (int i = 0; i < options_count; i++) {
			if ((int)options[i].group == g)
				sample_option(out, &options[i]);
		}
	}
}

/* ---- docs/configuration.md ---- */

static void markdown_option(FILE *out, const struct option *o)
{
	char values[128];

	values_of(o, values, sizeof(values));
	fprintf(out, "### `%s`\n\n", o->name);
	fprintf(out, "%s.%s%s\n\n", o->help, o->doc ? " " : "", o->doc ? o->doc : "");
	if (*o->preset)
		fprintf(out, "Default `%s`; ", o->preset);
	else
		fputs("Default empty; ", out);
	fprintf(out, "values: %s; ", values);
	fprintf(out, "%s. ", o->fixed ? "a change needs a restart" : "changes on reload");
	if (o->pgbouncer)
		fprintf(out, "PgBouncer: `%s`.\n\n", o->pgbouncer);
	else
		fputs("Not in PgBouncer.\n\n", out);
}

void options_print_markdown(FILE *out)
{
	fprintf(
		out,
		"<!-- Written by \"make generate\" from src/config/options.c. Do not edit. -->\n"
		"# Configuration\n\n"
		"Tidemark reads one file in PgBouncer's style, `tidemark FILE`, or is started from flags "
		"alone:\n\n"
		"```\ntidemark --primary 'host=127.0.0.1 port=5432' --replica 'host=127.0.0.1 port=5433' "
		"--listen 127.0.0.1:6432\n```\n\n"
		"%s\n\n%s\n\n"
		"`tidemark check-config FILE` says whether a file is right. A wrong one is refused as a "
		"whole: every fault is printed with file, line, what is wrong and what would be right, and "
		"nothing is started. On SIGHUP the file is read again in the same way; if it is wrong, "
		"the running configuration stays.\n\n",
		intro_flags, intro_values);
	fputs(
		"Flags that are not options: `-c`, `--config FILE`; `--listen HOST:PORT` sets `listen_addr` "
		"and `listen_port`; `--primary CONNINFO` and `--replica CONNINFO` (as often as there are "
		"replicas) replace `[nodes]`; `-v`, `--verbose` is `log_level = debug`; `--version`; "
		"`--help`. What stands on a command line can be read by other users of the machine: "
		"passwords belong in the file.\n\n",
		out);
	fprintf(
		out,
		"## Sections of the file\n\n"
		"`[tidemark]` (`[pgbouncer]` is accepted too): the options below.\n\n"
		"`[nodes]`: one line a server, `NAME = CONNINFO`. The one named `primary` must be there and "
		"is the server you expect to be the primary; the role is asked at run time. At most %d "
		"servers. A change needs a restart, but for weights.\n\n%s\n\n"
		"`weight=N` (0 to %d, 1 if not given) is a replica's share of the reads, in proportion to "
		"the others'; with 0 it is watched and never asked. `channel_binding` and `sslnegotiation` "
		"are libpq's: [authentication.md](authentication.md).\n\n",
		FLEET_NODES_MAX, intro_conninfo, HEALTH_WEIGHT_MAX);
	fprintf(
		out,
		"`[databases]`: `NAME = dbname=… pool_size=… consistency=… scope=…`, and further `user`, "
		"`password`, `auth_user`, `auth_dbname` and `auth_query`, each of them optional. "
		"`dbname` is the name on the servers, the others override `default_pool_size`, "
		"`consistency`, `scope` and the options of the same name for this database; with `user` all its "
		"clients are that one on the servers ([authentication.md](authentication.md)). `*` is every database without a line of its "
		"own. With lines but without `*`, other databases are refused; without any line, all are "
		"served. At most %d lines.\n\n"
		"A line is at most 2000 bytes long.\n\n",
		SETTINGS_DATABASES_MAX);
	for (int g = 0; g < GROUP_COUNT; g++) {
		fprintf(out, "## %s\n\n", group_titles[g]);
		for (int i = 0; i < options_count; i++) {
			if ((int)options[i].group == g)
				markdown_option(out, &options[i]);
		}
	}
}

/* ---- man/tidemark.1 ---- */

/* scdoc gives a meaning to some of these in some places; an escaped one is always plain. */
static void scdoc_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("_*\\<>#[]|", *text))
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void scdoc_option(FILE *out, const struct option *o)
{
	char values[128];

	values_of(o, values, sizeof(values));
	fputs("*", out);
	scdoc_text(out, o->name);
	fputs("* = ", out);
	scdoc_text(out, type_words[o->type]);
	fputs("\n\t", out);
	scdoc_text(out, o->help);
	fputs(".", out);
	if (o->doc) {
		fputc(' ', out);
		scdoc_text(out, o->doc);
	}
	fputs(" Values: ", out);
	scdoc_text(out, values);
	fputs(". Default: ", out);
	scdoc_text(out, *o->preset ? o->preset : "empty");
	fprintf(out, ".%s\n\n", o->fixed ? " A change needs a restart." : "");
}

void options_print_scdoc(FILE *out)
{
	scdoc_text(out, intro_flags);
	fputs("\n\n", out);
	scdoc_text(out, intro_values);
	fputs("\n\n", out);
	scdoc_text(out, intro_conninfo);
	fputs("\n\n", out);
	for (int g = 0; g < GROUP_COUNT; g++) {
		fprintf(out, "## %s\n\n", group_titles[g]);
		for (int i = 0; i < options_count; i++) {
			if ((int)options[i].group == g)
				scdoc_option(out, &options[i]);
		}
	}
}
