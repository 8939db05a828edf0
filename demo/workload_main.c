/* SPDX-License-Identifier: PostgreSQL
 *
 * tidemark-workload: the read-your-writes workload as a program, for tests and benchmarks.
 */
#include "workload.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"tidemark-workload: write, read back, check every read\n"
	"\n"
	"usage: tidemark-workload --write-dsn DSN [option ...]\n"
	"\n"
	"Each client raises the version of a row of its own, then reads. A read is 'stale' when it is\n"
	"older than an acknowledged write of its session, 'backward' when it is only older than an\n"
	"earlier read of its session.\n"
	"\n"
	"Where to\n"
	"  --write-dsn DSN        libpq connection string for writes\n"
	"  --read-dsn DSN         reads go round-robin over these (repeatable)\n"
	"  --second-connection    reads go over a second connection to --write-dsn\n"
	"                         (neither: reads go over the writing connection)\n"
	"  --setup                create or refill table tm_ryw and function tm_write(key) first;\n"
	"                         nothing else with --seconds 0\n"
	"How much\n"
	"  --clients N            clients (16)\n"
	"  --keys N               rows (as many as clients)\n"
	"  --seconds S            run so long (5, unless --transactions is given)\n"
	"  --transactions N       cycles a client makes\n"
	"  --think-ms M           mean pause between cycles, +- 50 % (0: flat out)\n"
	"  --reads-per-write R    reads in a cycle (1); the first reads the key just written\n"
	"  --seed N               seed for keys and pauses\n"
	"What is one session\n"
	"  --session shared       all clients together (default); reads take others' keys as well\n"
	"  --session own          each client; use it with one connection a client\n"
	"  --session named        each client, its connections joined by SET tidemark.session = 'wN'\n"
	"  --read-any, --read-own whether half of the other reads take any key (as the session has it)\n"
	"How\n"
	"  --simple, --extended, --prepared\n"
	"                         protocol (--simple)\n"
	"  --explicit-tx          BEGIN; write; COMMIT\n"
	"  --read-write-tx        BEGIN; read; write; COMMIT\n"
	"  --orm-tx               BEGIN; read; write; read what was written; COMMIT\n"
	"  --read-tx BEGIN        the reads of a cycle in one transaction that begins so\n"
	"  --two-phase            BEGIN; write; PREPARE TRANSACTION; COMMIT PREPARED\n"
	"  --set-version          write version = n, not version + 1 RETURNING version; needs --setup\n"
	"  --write-function NAME  write by SELECT NAME(key), which returns the new version\n"
	"  --async-commit         SET synchronous_commit = off where it writes\n"
	"Result\n"
	"  --json                 one JSON object on stdout\n"
	"  --progress             a line a second on stderr\n"
	"  --expect-zero          exit 1 unless there were reads and no violation\n"
	"  --expect-violations    exit 1 unless there were violations\n"
	"\n"
	"Exits with 0 if it ran, 2 if it could not.\n";

enum option_id {
	OPT_WRITE_DSN = 256,
	OPT_READ_DSN,
	OPT_SECOND,
	OPT_SETUP,
	OPT_CLIENTS,
	OPT_KEYS,
	OPT_SECONDS,
	OPT_TRANSACTIONS,
	OPT_THINK,
	OPT_READS,
	OPT_SEED,
	OPT_SESSION,
	OPT_READ_ANY,
	OPT_READ_OWN,
	OPT_SIMPLE,
	OPT_EXTENDED,
	OPT_PREPARED,
	OPT_EXPLICIT,
	OPT_READ_WRITE,
	OPT_ORM,
	OPT_READ_TX,
	OPT_TWO_PHASE,
	OPT_SET_VERSION,
	OPT_FUNCTION,
	OPT_ASYNC,
	OPT_JSON,
	OPT_PROGRESS,
	OPT_ZERO,
	OPT_VIOLATIONS,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"write-dsn", required_argument, NULL, OPT_WRITE_DSN},
	{"read-dsn", required_argument, NULL, OPT_READ_DSN},
	{"second-connection", no_argument, NULL, OPT_SECOND},
	{"setup", no_argument, NULL, OPT_SETUP},
	{"clients", required_argument, NULL, OPT_CLIENTS},
	{"keys", required_argument, NULL, OPT_KEYS},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{"transactions", required_argument, NULL, OPT_TRANSACTIONS},
	{"think-ms", required_argument, NULL, OPT_THINK},
	{"reads-per-write", required_argument, NULL, OPT_READS},
	{"seed", required_argument, NULL, OPT_SEED},
	{"session", required_argument, NULL, OPT_SESSION},
	{"read-any", no_argument, NULL, OPT_READ_ANY},
	{"read-own", no_argument, NULL, OPT_READ_OWN},
	{"simple", no_argument, NULL, OPT_SIMPLE},
	{"extended", no_argument, NULL, OPT_EXTENDED},
	{"prepared", no_argument, NULL, OPT_PREPARED},
	{"explicit-tx", no_argument, NULL, OPT_EXPLICIT},
	{"read-write-tx", no_argument, NULL, OPT_READ_WRITE},
	{"orm-tx", no_argument, NULL, OPT_ORM},
	{"read-tx", required_argument, NULL, OPT_READ_TX},
	{"two-phase", no_argument, NULL, OPT_TWO_PHASE},
	{"set-version", no_argument, NULL, OPT_SET_VERSION},
	{"write-function", required_argument, NULL, OPT_FUNCTION},
	{"async-commit", no_argument, NULL, OPT_ASYNC},
	{"json", no_argument, NULL, OPT_JSON},
	{"progress", no_argument, NULL, OPT_PROGRESS},
	{"expect-zero", no_argument, NULL, OPT_ZERO},
	{"expect-violations", no_argument, NULL, OPT_VIOLATIONS},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

struct command {
	struct workload_options workload;
	bool setup;
	bool seconds_given;
	bool json;
	bool expect_zero;
	bool expect_violations;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

[[gnu::noreturn]] static void refuse(const char *what)
{
	fprintf(stderr, "tidemark-workload: %s (see --help)\n", what);
	exit(2);
}

static double number(const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);
	if (end == text || *end != '\0' || !(value >= least && value <= most)) {
		fprintf(stderr, "tidemark-workload: '%s' is not a number from %g to %g\n", text, least,
		        most);
		exit(2);
	}
	return value;
}

static enum workload_session session_named(const char *name)
{
	static const char *const names[] = {"shared", "own", "named"};
	for (int i = 0; i < 3; i++) {
		if (strcmp(name, names[i]) == 0)
			return (enum workload_session)i;
	}
	refuse("--session is one of shared, own, named");
}

static void add_read_dsn(struct workload_options *o, const char *dsn)
{
	if (o->read_dsn_count == WORKLOAD_MAX_READ_DSNS)
		refuse("too many --read-dsn");
	o->read_dsns[o->read_dsn_count++] = dsn;
}

static void parse(int argc, char **argv, struct command *cmd)
{
	struct workload_options *o = &cmd->workload;
	int read_any = -1;
	int id;
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (id) {
		case OPT_WRITE_DSN:
			o->write_dsn = optarg;
			break;
		case OPT_READ_DSN:
			add_read_dsn(o, optarg);
			break;
		case OPT_SECOND:
			o->second_connection = true;
			break;
		case OPT_SETUP:
			cmd->setup = true;
			break;
		case OPT_CLIENTS:
			o->clients = (int)number(optarg, 1, WORKLOAD_MAX_CLIENTS);
			break;
		case OPT_KEYS:
			o->keys = (int)number(optarg, 1, 1e6);
			break;
		case OPT_SECONDS:
			o->seconds = number(optarg, 0, 1e6);
			cmd->seconds_given = true;
			break;
		case OPT_TRANSACTIONS:
			o->transactions = (uint64_t)number(optarg, 1, 1e12);
			break;
		case OPT_THINK:
			o->think_ms = (int)number(optarg, 0, 60000);
			break;
		case OPT_READS:
			o->reads_per_write = (int)number(optarg, 0, 1e6);
			break;
		case OPT_SEED:
			o->seed = (uint64_t)number(optarg, 1, 1e15);
			break;
		case OPT_SESSION:
			o->session = session_named(optarg);
			break;
		case OPT_READ_ANY:
			read_any = 1;
			break;
		case OPT_READ_OWN:
			read_any = 0;
			break;
		case OPT_SIMPLE:
			o->protocol = WORKLOAD_SIMPLE;
			break;
		case OPT_EXTENDED:
			o->protocol = WORKLOAD_EXTENDED;
			break;
		case OPT_PREPARED:
			o->protocol = WORKLOAD_PREPARED;
			break;
		case OPT_EXPLICIT:
			o->tx = WORKLOAD_EXPLICIT;
			break;
		case OPT_READ_WRITE:
		o->tx = WORKLOAD_READ_WRITE;
		break;
	case OPT_ORM:
		o->tx = WORKLOAD_ORM;
		break;
	case OPT_READ_TX:
		o->read_tx = optarg;
		break;
	case OPT_TWO_PHASE:
			o->tx = WORKLOAD_TWO_PHASE;
			break;
		case OPT_SET_VERSION:
			o->set_version = true;
			break;
		case OPT_FUNCTION:
			o->write_function = optarg;
			break;
		case OPT_ASYNC:
			o->async_commit = true;
			break;
		case OPT_JSON:
			cmd->json = true;
			break;
		case OPT_PROGRESS:
			o->progress_arg = stderr;
			break;
		case OPT_ZERO:
			cmd->expect_zero = true;
			break;
		case OPT_VIOLATIONS:
			cmd->expect_violations = true;
			break;
		case OPT_HELP:
			fputs(help, stdout);
			exit(0);
		default:
			refuse("bad command line");
		}
	}
	o->read_any = read_any < 0 ? o->session == WORKLOAD_SHARED : read_any == 1;
}

static void complete(int argc, struct command *cmd)
{
	struct workload_options *o = &cmd->workload;
	if (optind < argc || o->write_dsn == NULL)
		refuse("--write-dsn is missing, or there is an argument too many");
	if (o->keys == 0)
		o->keys = o->clients;
	if (o->transactions == 0 && !cmd->seconds_given)
		o->seconds = 5;
	if (o->set_version && (!cmd->setup || o->keys < o->clients))
		refuse("--set-version needs --setup, and a key for each client");
	if (o->write_function != NULL &&
	    (strlen(o->write_function) > 64 ||
	     o->write_function[strspn(o->write_function, "abcdefghijklmnopqrstuvwxyz_.0123456789")]))
		refuse("--write-function is a plain lower-case name");
}

static void print_progress(void *arg, const struct workload_result *r, double seconds)
{
	fprintf(arg,
	        "%.0f s: %" PRIu64 " reads, %" PRIu64 " writes, %" PRIu64 " stale, %" PRIu64
	        " backward, %" PRIu64 " errors\n",
	        seconds, r->reads, r->writes, r->stale, r->backward, r->errors);
}

static void print_json(const struct workload_result *r)
{
	printf("{\"reads\": %" PRIu64 ", \"writes\": %" PRIu64 ", \"stale\": %" PRIu64
	       ", \"backward\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"read_p50_us\": %" PRIu64
	       ", \"read_p99_us\": %" PRIu64 ", \"write_p50_us\": %" PRIu64
	       ", \"write_p99_us\": %" PRIu64 ", \"seconds\": %.3f}\n",
	       r->reads, r->writes, r->stale, r->backward, r->errors, r->read_p50_us, r->read_p99_us,
	       r->write_p50_us, r->write_p99_us, r->seconds);
}

static void print_text(const struct workload_result *r)
{
	printf("reads     %" PRIu64 " (%.0f/s), p50 %.3f ms, p99 %.3f ms\n", r->reads,
	       (double)r->reads / r->seconds, (double)r->read_p50_us / 1e3,
	       (double)r->read_p99_us / 1e3);
	printf("writes    %" PRIu64 " (%.0f/s), p50 %.3f ms, p99 %.3f ms\n", r->writes,
	       (double)r->writes / r->seconds, (double)r->write_p50_us / 1e3,
	       (double)r->write_p99_us / 1e3);
	printf("stale     %" PRIu64 "\nbackward  %" PRIu64 "\nerrors    %" PRIu64 "\n", r->stale,
	       r->backward, r->errors);
}

static int run(struct command *cmd)
{
	struct workload_options *o = &cmd->workload;
	struct workload_result r = {0};
	if (cmd->setup && !workload_setup(o, r.message, sizeof(r.message))) {
		fprintf(stderr, "tidemark-workload: setting up: %s\n", r.message);
		return 2;
	}
	if (o->seconds <= 0 && o->transactions == 0)
		return 0;
	if (!workload_run(o, &r)) {
		fprintf(stderr, "tidemark-workload: %s\n", r.message);
		return 2;
	}
	if (r.errors > 0)
		fprintf(stderr, "tidemark-workload: the first of %" PRIu64 " errors: %s\n", r.errors,
		        r.message);
	if (cmd->json)
		print_json(&r);
	else
		print_text(&r);
	uint64_t violations = r.stale + r.backward;
	if (cmd->expect_zero && (violations > 0 || r.reads == 0))
		return 1;
	return cmd->expect_violations && violations == 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct command cmd = {.workload = {.clients = 16, .reads_per_write = 1, .stop = &interrupted}};
	parse(argc, argv, &cmd);
	complete(argc, &cmd);
	if (cmd.workload.progress_arg != NULL)
		cmd.workload.progress = print_progress;
	signal(SIGINT, interrupt);
	signal(SIGTERM, interrupt);
	signal(SIGPIPE, SIG_IGN);
	return run(&cmd);
}
