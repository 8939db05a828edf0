/* SPDX-License-Identifier: PostgreSQL
 *
 * tidemark-demo: one workload, three ways to a primary and its asynchronous standbys: reads split
 * naively, everything on the primary, Tidemark. Run by `tidemark demo`.
 */
#include "fleet.h"
#include "workload.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"tidemark demo: read-your-writes on real PostgreSQL standbys, with and without Tidemark\n"
	"\n"
	"usage: tidemark demo [option ...]\n"
	"\n"
	"Starts a PostgreSQL primary and streaming standbys in a temporary directory, runs the same\n"
	"checked workload three ways, prints a table, and leaves nothing behind.\n"
	"\n"
	"  --delays MS,MS,...     apply delay of each standby (0,200)\n"
	"  --clients N            clients (16)\n"
	"  --think-ms M           mean pause of a client between cycles (10)\n"
	"  --reads-per-write R    reads that follow each write (4)\n"
	"  --seconds S            length of each of the three runs (9)\n"
	"  --keep                 then leave the fleet up until Ctrl-C, to play with\n"
	"  --tidemark PATH        the router's program (beside this one, or one directory up)\n"
	"  --help\n"
	"\n"
	"Exits with 0 when Tidemark served no stale read, 1 when it did, 2 when something could not\n"
	"be started.\n";

enum { NAIVE, PRIMARY, TIDEMARK, WAYS };

static const char *const way_names[WAYS] = {"naive splitting", "primary only", "Tidemark"};

struct demo {
	int delays_ms[FLEET_MAX_STANDBYS];
	int standby_count;
	int clients;
	int think_ms;
	int reads_per_write;
	double seconds;
	bool keep;
	char tidemark[4096];

	struct fleet fleet;
	struct workload_result results[WAYS];
	double replica_share[WAYS]; /* of the reads, in percent */
	int way;                    /* the one that runs now */
};

static volatile sig_atomic_t stop_signal;

static void on_signal(int sig)
{
	stop_signal = sig;
}

static uint64_t stale_reads(const struct workload_result *r)
{
	return r->stale + r->backward;
}

/* --- progress: one line rewritten on a terminal, else a line a stage ------------------------- */

static void show_stage(const char *text)
{
	fprintf(stderr, isatty(2) ? "\r\033[K%s" : "%s\n", text);
}

static void show_progress(void *arg, const struct workload_result *r, double seconds)
{
	const struct demo *d = arg;
	char line[160];
	if (!isatty(2))
		return;
	snprintf(line, sizeof(line), "%d/3 %s: %.0f of %.0f s, %" PRIu64 " reads, %" PRIu64 " stale",
	         d->way + 1, way_names[d->way], seconds, d->seconds, r->reads, stale_reads(r));
	show_stage(line);
}

static void clear_progress(void)
{
	if (isatty(2))
		fputs("\r\033[K", stderr);
}

/* --- the three runs -------------------------------------------------------------------------- */

static struct workload_options workload_for(struct demo *d)
{
	struct workload_options o = {
		.write_dsn = d->fleet.primary.dsn,
		.second_connection = true,
		.clients = d->clients,
		.keys = d->clients,
		.reads_per_write = d->reads_per_write,
		.read_any = true,
		.seconds = d->seconds,
		.think_ms = d->think_ms,
		.session = WORKLOAD_SHARED,
		.stop = &stop_signal,
		.progress = show_progress,
		.progress_arg = d,
	};
	return o;
}

static void read_from_standbys(struct demo *d, struct workload_options *o)
{
	o->read_dsn_count = d->fleet.standby_count;
	for (int i = 0; i < d->fleet.standby_count; i++)
		o->read_dsns[i] = d->fleet.standbys[i].dsn;
}

/* Every run begins with a fresh table that all standbys have. */
static bool set_up_table(struct demo *d)
{
	struct workload_options o = workload_for(d);
	read_from_standbys(d, &o);
	return workload_setup(&o, d->fleet.message, sizeof(d->fleet.message));
}

static bool run_way(struct demo *d, int way, const struct workload_options *o)
{
	struct workload_result *r = &d->results[way];
	struct fleet *f = &d->fleet;
	char line[64];
	d->way = way;
	snprintf(line, sizeof(line), "%d/3 %s ...", way + 1, way_names[way]);
	show_stage(line);
	if (!set_up_table(d))
		return false;
	if (!workload_run(o, r)) {
		snprintf(f->message, sizeof(f->message), "%s: %s", way_names[way], r->message);
		return false;
	}
	const char *dead = fleet_dead_server(f);
	if (dead != NULL)
		snprintf(f->message, sizeof(f->message), "%s ended in the middle of the run", dead);
	else if (r->reads == 0)
		snprintf(f->message, sizeof(f->message), "%s: no read came through: %s", way_names[way],
		         r->message);
	return dead == NULL && r->reads > 0 && stop_signal == 0;
}

static bool run_naive(struct demo *d)
{
	struct workload_options o = workload_for(d);
	read_from_standbys(d, &o);
	d->replica_share[NAIVE] = 100;
	return run_way(d, NAIVE, &o);
}

static bool run_primary(struct demo *d)
{
	struct workload_options o = workload_for(d);
	return run_way(d, PRIMARY, &o);
}

static bool run_tidemark(struct demo *d)
{
	struct workload_options o = workload_for(d);
	uint64_t replica[2], primary[2];
	o.write_dsn = d->fleet.tidemark.dsn;
	if (!fleet_read_routing(&d->fleet, &replica[0], &primary[0]) || !run_way(d, TIDEMARK, &o) ||
	    !fleet_read_routing(&d->fleet, &replica[1], &primary[1]))
		return false;
	double on_replica = (double)(replica[1] - replica[0]);
	double all = on_replica + (double)(primary[1] - primary[0]);
	d->replica_share[TIDEMARK] = all > 0 ? 100 * on_replica / all : 0;
	return true;
}

/* --- the report ------------------------------------------------------------------------------ */

static void print_settings(const struct demo *d)
{
	printf("A PostgreSQL primary and %d standby%s that appl%s changes", d->standby_count,
	       d->standby_count == 1 ? "" : "s", d->standby_count == 1 ? "ies" : "y");
	for (int i = 0; i < d->standby_count; i++)
		printf("%s %d", i > 0 ? "," : "", d->delays_ms[i]);
	printf(
		" ms late.\n"
		"%d clients, %.0f s each way. A client writes its row, reads %d times over another\n"
		"connection (its own row first, then also rows of others), and pauses %d ms on average.\n"
		"All clients are one session: no read may be older than any write acknowledged, or any\n"
		"read completed, before it began.\n\n",
		d->clients, d->seconds, d->reads_per_write, d->think_ms);
}

static void print_table(const struct demo *d)
{
	printf("%-16s %9s %16s %12s %9s %9s %10s %9s\n", "", "reads", "stale reads", "on replicas",
	       "read p50", "read p99", "write p50", "writes/s");
	for (int way = 0; way < WAYS; way++) {
		const struct workload_result *r = &d->results[way];
		printf("%-16s %9" PRIu64 " %9" PRIu64
		       " %5.1f%% %11.1f%% %6.2f ms %6.2f ms %7.2f ms %9.0f\n",
		       way_names[way], r->reads, stale_reads(r),
		       100 * (double)stale_reads(r) / (double)r->reads, d->replica_share[way],
		       (double)r->read_p50_us / 1e3, (double)r->read_p99_us / 1e3,
		       (double)r->write_p50_us / 1e3, (double)r->writes / r->seconds);
	}
	for (int way = 0; way < WAYS; way++) {
		if (d->results[way].errors > 0)
			printf("%s: %" PRIu64 " errors, the first: %s\n", way_names[way],
			       d->results[way].errors, d->results[way].message);
	}
}

static void print_sentence(const struct demo *d)
{
	const struct workload_result *naive = &d->results[NAIVE];
	uint64_t stale = stale_reads(&d->results[TIDEMARK]);
	printf(
		"\nRead straight from the standbys, %.0f in 100 reads were older than what the session had\n"
		"already written or seen. ",
		100 * (double)stale_reads(naive) / (double)naive->reads);
	if (stale == 0)
		printf(
			"Tidemark served %.0f %% of the reads from the same standbys, and\n"
			"not one was stale.\n",
			d->replica_share[TIDEMARK]);
	else
		printf("Through Tidemark %" PRIu64 " were: that is a fault, please\nreport it.\n", stale);
}

/* The last line is for scripts. */
static void print_summary(const struct demo *d)
{
	printf("demo: naive_stale=%" PRIu64 " primary_stale=%" PRIu64 " tidemark_stale=%" PRIu64
	       " tidemark_replica_share=%.1f%%\n",
	       stale_reads(&d->results[NAIVE]), stale_reads(&d->results[PRIMARY]),
	       stale_reads(&d->results[TIDEMARK]), d->replica_share[TIDEMARK]);
	fflush(stdout);
}

static void keep(struct demo *d)
{
	const struct fleet *f = &d->fleet;
	printf(
		"\nThe fleet is up; its logs are in %s. Play with it, and end it with Ctrl-C.\n"
		"  through Tidemark  psql '%s'\n"
		"                      SELECT * FROM tm_ryw LIMIT 3;\n"
		"                      SHOW tidemark.route;   -- where that went, and why\n"
		"  its console       psql '%s'\n"
		"                      SHOW ROUTING;   SHOW FLEET;\n"
		"  the primary       psql '%s'\n",
		f->dir, f->tidemark.dsn, f->admin_dsn, f->primary.dsn);
	for (int i = 0; i < f->standby_count; i++)
		printf("  %s, %3d ms    psql '%s'\n", f->standbys[i].name, f->standbys[i].delay_ms,
		       f->standbys[i].dsn);
	fflush(stdout);
	while (stop_signal == 0) {
		const char *dead = fleet_dead_server(&d->fleet);
		if (dead != NULL) {
			fprintf(stderr, "%s has ended.\n", dead);
			return;
		}
		usleep(200000);
	}
}

/* --- command line ---------------------------------------------------------------------------- */

[[gnu::noreturn]] static void refuse(const char *option, const char *what)
{
	fprintf(stderr, "tidemark demo: --%s: %s (see --help)\n", option, what);
	exit(2);
}

static int whole(const char *option, const char *text, long least, long most, char **rest)
{
	char *end;
	long value = strtol(text, &end, 10);
	if (end == text || value < least || value > most || (rest == NULL && *end != '\0'))
		refuse(option, "not a number, or out of its limits");
	if (rest != NULL)
		*rest = end;
	return (int)value;
}

static void parse_delays(struct demo *d, char *list)
{
	d->standby_count = 0;
	for (char *at = list;; at++) {
		if (d->standby_count == FLEET_MAX_STANDBYS)
			refuse("delays", "too many standbys");
		d->delays_ms[d->standby_count++] = whole("delays", at, 0, 20000, &at);
		if (*at == '\0')
			return;
		if (*at != ',')
			refuse("delays", "milliseconds separated by commas, as in 0,200");
	}
}

/* Beside our own program, else one directory up (the build tree). */
static void find_tidemark(struct demo *d)
{
	char self[4000];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	snprintf(d->tidemark, sizeof(d->tidemark), "%s/tidemark", self);
	if (access(d->tidemark, X_OK) != 0)
		snprintf(d->tidemark, sizeof(d->tidemark), "%s/../tidemark", self);
}

/* The program is started from another directory. */
static void use_tidemark(struct demo *d, const char *path)
{
	char *real = realpath(path, NULL);
	snprintf(d->tidemark, sizeof(d->tidemark), "%s", real != NULL ? real : path);
	free(real);
}

static void parse(int argc, char **argv, struct demo *d)
{
	static const struct option options[] = {
		{"delays", required_argument, NULL, 'd'},
		{"clients", required_argument, NULL, 'c'},
		{"think-ms", required_argument, NULL, 't'},
		{"reads-per-write", required_argument, NULL, 'r'},
		{"seconds", required_argument, NULL, 's'},
		{"keep", no_argument, NULL, 'k'},
		{"tidemark", required_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int id, index = 0;
	while ((id = getopt_long(argc, argv, "h", options, &index)) != -1) {
		const char *name = options[index].name;
		switch (id) {
		case 'd':
			parse_delays(d, optarg);
			break;
		/* Each client has a connection to the primary and, at most, one to every standby. */
		case 'c':
			d->clients = whole(name, optarg, 1, 80, NULL);
			break;
		case 't':
			d->think_ms = whole(name, optarg, 0, 10000, NULL);
			break;
		case 'r':
			d->reads_per_write = whole(name, optarg, 1, 1000, NULL);
			break;
		case 's':
			d->seconds = whole(name, optarg, 1, 3600, NULL);
			break;
		case 'k':
			d->keep = true;
			break;
		case 'p':
			use_tidemark(d, optarg);
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			exit(2);
		}
	}
	if (optind < argc)
		refuse(argv[optind], "not an option");
}

/* --- the story ------------------------------------------------------------------------------- */

static bool start_fleet(struct demo *d)
{
	struct fleet *f = &d->fleet;
	show_stage("starting PostgreSQL ...");
	if (!fleet_create(f, d->delays_ms, d->standby_count, &stop_signal) || !fleet_start_postgres(f))
		return false;
	show_stage("starting Tidemark ...");
	return fleet_start_tidemark(f, d->tidemark);
}

static int tell(struct demo *d)
{
	bool ok = start_fleet(d) && run_naive(d) && run_primary(d) && run_tidemark(d);
	clear_progress();
	if (!ok) {
		if (stop_signal == 0)
			fprintf(stderr, "tidemark demo: %s\n", d->fleet.message);
		return 2;
	}
	print_settings(d);
	print_table(d);
	print_sentence(d);
	print_summary(d);
	if (d->keep)
		keep(d);
	return stale_reads(&d->results[TIDEMARK]) > 0 ? 1 : 0;
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN); /* a closed stdout must not keep us from cleaning up */
}

int main(int argc, char **argv)
{
	static struct demo d = {.delays_ms = {0, 200},
	                        .standby_count = 2,
	                        .clients = 16,
	                        .think_ms = 10,
	                        .reads_per_write = 4,
	                        .seconds = 9};
	find_tidemark(&d);
	parse(argc, argv, &d);
	if (access(d.tidemark, X_OK) != 0) {
		fprintf(stderr, "tidemark demo: no program %s: build it first, or say --tidemark PATH\n",
		        d.tidemark);
		return 2;
	}
	catch_signals();
	int code = tell(&d);
	if (stop_signal != 0 && !d.keep)
		code = 128 + stop_signal;
	fleet_destroy(&d.fleet);
	return code;
}
