/* SPDX-License-Identifier: PostgreSQL
 *
 *   tidemark-sim --seed N [--verbose]          one run; --verbose prints all that happens
 *   tidemark-sim --from N --count N            many; fails at the first violation
 *   tidemark-sim --fault NAME [--count N]      a router that is known to be bad: fails if no run
 *                                              catches it
 *   tidemark-sim --twice --seed N              the same run twice: fails if they differ
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "run.h"
#include "sql/classify.h"

static const char *const fault_names[] = {
	[FAULT_NONE] = "none",
	[FAULT_POSITION_INSIDE] = "position_inside",
	[FAULT_WRITE_POINTER] = "write_pointer",
	[FAULT_NO_READ_MARKS] = "no_read_marks",
	[FAULT_GUARD_AFTER] = "guard_after",
	[FAULT_GUARD_IGNORED] = "guard_ignored",
	[FAULT_LOSS_UNTOLD] = "loss_untold",
};

struct arguments {
	uint64_t from, count;
	enum route_fault fault;
	bool verbose, twice;
	int exit_code;
};

static void print_result(uint64_t seed, const struct run_result *r)
{
	const struct client_counts *c = &r->counts;
	printf("seed %" PRIu64 ": hash %016" PRIx64 ", %" PRIu64 " reads (%" PRIu64
	       " by replicas, %" PRIu64 " waited), %" PRIu64 " writes, %" PRIu64 " errors; %" PRIu64
	       " stale, %" PRIu64 " backward, %" PRIu64 " writes back, %" PRIu64
	       " not following, %" PRIu64 " told (%" PRIu64 " of nothing), %" PRIu64
	       " not told, %" PRIu64 " hangs, %" PRIu64 " protocol, %d mistaken, %d overdue, %d leaks, %d stuck\n",
	       seed, r->hash, c->reads, r->reads_replica, r->waited, c->writes, c->errors, c->stale,
	       c->backward, c->write_back, c->not_follow, c->told, c->told_of_nothing, c->untold, c->hangs, c->protocol, r->mistaken, r->overdue, r->leaks, r->stuck);
}

static bool run_twice(uint64_t seed)
{
	struct run_result a = run_seed(seed, FAULT_NONE, false);
	struct run_result b = run_seed(seed, FAULT_NONE, false);
	struct run_result other = run_seed(seed + 1, FAULT_NONE, false);
	print_result(seed, &a);
	print_result(seed, &b);
	return a.hash == b.hash && a.hash != other.hash;
}

static bool expect_caught(const struct arguments *a)
{
	for (uint64_t seed = a->from; seed < a->from + a->count; seed++) {
		struct run_result r = run_seed(seed, a->fault, a->verbose);
		if (run_inconsistent(&r)) {
			print_result(seed, &r);
			return true;
		}
	}
	printf("%s was not caught in %" PRIu64 " runs\n", fault_names[a->fault], a->count);
	return false;
}

/* That the faults bite, and that there is something to judge. */
static bool worth_it(const struct run_result *sum)
{
	const struct client_counts *c = &sum->counts;
	return c->writes > 0 && sum->reads_replica * 10 > c->reads && c->unjudged * 10 < c->reads &&
	       sum->model.crashes > 0 && sum->model.promotions > 0 && sum->moved > 0;
}

static void add(struct run_result *sum, const struct run_result *r)
{
	sum->counts.reads += r->counts.reads;
	sum->counts.writes += r->counts.writes;
	sum->counts.errors += r->counts.errors;
	sum->counts.unjudged += r->counts.unjudged;
	sum->counts.told += r->counts.told;
	sum->model.crashes += r->model.crashes;
	sum->model.promotions += r->model.promotions;
	sum->reads_replica += r->reads_replica;
	sum->waited += r->waited;
	sum->moved += r->moved;
}

static bool expect_clean(const struct arguments *a)
{
	struct run_result sum = {0};
	for (uint64_t seed = a->from; seed < a->from + a->count; seed++) {
		struct run_result r = run_seed(seed, FAULT_NONE, a->verbose);
		bool violated = run_violated(&r);
		if (violated || a->count == 1)
			print_result(seed, &r);
		if (violated) {
			printf("to see it again: make sim SEED=%" PRIu64 "\n", seed);
			return false;
		}
		add(&sum, &r);
	}
	printf("%" PRIu64 " runs, %" PRIu64 " reads (%" PRIu64 " by replicas, %" PRIu64
	       " waited, %" PRIu64 " not judged), %" PRIu64 " writes, %" PRIu64 " errors, %" PRIu64
	       " crashes, %" PRIu64 " promotions, %" PRIu64 " told of a loss, %" PRIu64
	       " transactions moved: no violation\n",
	       a->count, sum.counts.reads, sum.reads_replica, sum.waited, sum.counts.unjudged,
	       sum.counts.writes, sum.counts.errors, sum.model.crashes, sum.model.promotions, sum.counts.told,
	       sum.moved);
	return a->count == 1 || worth_it(&sum);
}

static void *run_all(void *arg)
{
	struct arguments *a = arg;
	bool good = a->twice                 ? run_twice(a->from)
	            : a->fault != FAULT_NONE ? expect_caught(a)
	                                     : expect_clean(a);
	a->exit_code = good ? EXIT_SUCCESS : EXIT_FAILURE;
	return NULL;
}

static bool fault_parse(const char *name, enum route_fault *out)
{
	for (size_t i = 0; i < sizeof(fault_names) / sizeof(fault_names[0]); i++) {
		if (strcmp(name, fault_names[i]) == 0) {
			*out = (enum route_fault)i;
			return true;
		}
	}
	return false;
}

static bool arguments_parse(struct arguments *a, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		if (strcmp(argv[i], "--verbose") == 0)
			a->verbose = true;
		else if (strcmp(argv[i], "--twice") == 0)
			a->twice = true;
		else if (more && strcmp(argv[i], "--seed") == 0)
			*a = (struct arguments){.from = strtoull(argv[++i], NULL, 10),
			                        .count = 1,
			                        .fault = a->fault,
			                        .verbose = a->verbose,
			                        .twice = a->twice};
		else if (more && strcmp(argv[i], "--from") == 0)
			a->from = strtoull(argv[++i], NULL, 10);
		else if (more && strcmp(argv[i], "--count") == 0)
			a->count = strtoull(argv[++i], NULL, 10);
		else if (!more || strcmp(argv[i], "--fault") != 0 || !fault_parse(argv[++i], &a->fault))
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct arguments a = {.from = 1, .count = 200};
	pthread_attr_t attr;
	pthread_t thread;
	if (!arguments_parse(&a, argc, argv)) {
		fprintf(stderr,
		        "usage: tidemark-sim [--seed N] [--from N] [--count N] [--fault NAME] "
		        "[--twice] [--verbose]\n");
		return 2;
	}
	/* The log goes to stderr: line by line they stay in order. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, CLASSIFY_STACK + 1024 * 1024);
	if (pthread_create(&thread, &attr, run_all, &a) != 0)
		return EXIT_FAILURE;
	pthread_join(thread, NULL);
	return a.exit_code;
}
