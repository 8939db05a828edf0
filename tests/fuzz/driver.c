/* SPDX-License-Identifier: PostgreSQL
 *
 * A target without libFuzzer, for the unit suite: each file of its corpus as it is, cut off
 * everywhere (to a limit), then changed in the same ways on each run. What was done last is told
 * when something breaks:
 *
 *   driver CORPUS COUNT      the corpus, each file cut off at up to COUNT / 150 places, and so many mutations
 *   driver CORPUS FROM TO    mutations FROM … TO-1 alone
 *
 * A mutation depends on its number and on nothing else, so "driver CORPUS 4711 4712" replays one.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz.h"

#define SEEDS_MAX 256
#define INPUT_MAX 65536
/* Of each file of the corpus, for so many mutations in all. */
#define CUTS_PER 150

struct seed {
	char *name;
	uint8_t *bytes;
	size_t len;
};

static struct seed seeds[SEEDS_MAX];
static int seed_count;
static char doing[512];

/* ================= telling ================= */

static void tell(void)
{
	ssize_t ignored = write(STDERR_FILENO, doing, strlen(doing));
	(void)ignored;
}

static void on_signal(int signum)
{
	tell();
	signal(signum, SIG_DFL);
	raise(signum);
}

/* Of the sanitizers' run time, if it is there. */
extern void __sanitizer_set_death_callback(void (*fn)(void)) __attribute__((weak));

static void watch_for_death(void)
{
	signal(SIGABRT, on_signal);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(tell);
	else
		signal(SIGSEGV, on_signal);
}

/* ================= the corpus ================= */

static void die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static void read_seed(const char *dir, const char *name)
{
	char path[4096];
	struct seed *s = &seeds[seed_count];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "re");
	s->name = strdup(name);
	s->bytes = malloc(INPUT_MAX);
	if (!f || !s->name || !s->bytes)
		die(path);
	s->len = fread(s->bytes, 1, INPUT_MAX, f);
	fclose(f);
	seed_count++;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct seed *)a)->name, ((const struct seed *)b)->name);
}

static void read_corpus(const char *dir)
{
	struct dirent *e;
	DIR *d = opendir(dir);
	if (!d)
		die(dir);
	while (seed_count < SEEDS_MAX && (e = readdir(d)))
		if (e->d_name[0] != '.')
			read_seed(dir, e->d_name);
	closedir(d);
	qsort(seeds, (size_t)seed_count, sizeof(seeds[0]), by_name);
	if (seed_count == 0) {
		(void)fprintf(stderr, "%s: no seeds\n", dir);
		exit(EXIT_FAILURE);
	}
}

/* ================= running ================= */

/* In memory of its own, so that a read past the end is seen. */
static void run(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	if (!copy)
		die("malloc");
	if (len > 0)
		memcpy(copy, bytes, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static void run_seed(const struct seed *s, long count)
{
	size_t step = s->len / ((size_t)count / CUTS_PER + 1) + 1;
	for (size_t len = 0; len < s->len; len += step) {
		(void)snprintf(doing, sizeof(doing), "the first %zu bytes of %s\n", len, s->name);
		run(s->bytes, len);
	}
	(void)snprintf(doing, sizeof(doing), "%s\n", s->name);
	run(s->bytes, s->len);
}

/* xorshift64*; a state of 0 would stay. */
static uint64_t dice;

static uint64_t next_dice(void)
{
	dice ^= dice >> 12;
	dice ^= dice << 25;
	dice ^= dice >> 27;
	return dice * UINT64_C(2685821657736338717) >> 16;
}

static size_t below(size_t n)
{
	return n > 0 ? (size_t)(next_dice() % n) : 0;
}

static uint8_t telling_byte(void)
{
	static const uint8_t bytes[] = "\0\1\x7f\x80\xff\r\n\t 0919aAzZ'\"\\/*-;,.:=%$@#&_+$*(){}";
	return bytes[below(sizeof(bytes))];
}

/* Moves the bytes from `from` on by `by`, which may be negative. Returns the new length. */
static size_t shift(uint8_t *bytes, size_t len, size_t from, ptrdiff_t by)
{
	memmove(bytes + (ptrdiff_t)from + by, bytes + from, len - from);
	return (size_t)((ptrdiff_t)len + by);
}

static size_t mutate(uint8_t *b, size_t len)
{
	const struct seed *other = &seeds[below((size_t)seed_count)];
	size_t at = below(len + 1), n = 1 + below(below(4) == 0 ? 64 : 4);
	switch (below(8)) {
	case 0: /* a bit */
		if (at < len)
			b[at] ^= (uint8_t)(1u << below(8));
		break;
	case 1: /* a byte */
		if (at < len)
			b[at] = telling_byte();
		break;
	case 2: /* a number up or down */
		if (at < len)
			b[at] = (uint8_t)(b[at] + (below(2) ? 1 : -1));
		break;
	case 3: /* some out */
		if (at + n <= len)
			len = shift(b, len, at + n, -(ptrdiff_t)n);
		break;
	case 4: /* some in */
		if (len + n <= INPUT_MAX) {
			len = shift(b, len, at, (ptrdiff_t)n);
			for (size_t i = 0; i < n; i++)
				b[at + i] = telling_byte();
		}
		break;
	case 5: /* some twice */
		if (at + n <= len && len + n <= INPUT_MAX)
			len = shift(b, len, at, (ptrdiff_t)n);
		break;
	case 6: /* the rest of another one */
		n = below(other->len + 1);
		if (at + other->len - n <= INPUT_MAX) {
			memcpy(b + at, other->bytes + n, other->len - n);
			len = at + other->len - n;
		}
		break;
	default: /* cut off */
		len = below(4) ? len : at;
	}
	return len;
}

static void run_mutation(long number)
{
	static uint8_t bytes[INPUT_MAX];
	dice = (uint64_t)number * UINT64_C(0x9e3779b97f4a7c15) + 1;
	const struct seed *s = &seeds[below((size_t)seed_count)];
	size_t len = s->len;
	memcpy(bytes, s->bytes, len);
	for (size_t i = 1 + below(6); i > 0; i--)
		len = mutate(bytes, len);
	(void)snprintf(doing, sizeof(doing), "mutation %ld, of %s; again with: %ld %ld\n", number,
	               s->name, number, number + 1);
	run(bytes, len);
}

int main(int argc, char **argv)
{
	if (argc != 3 && argc != 4) {
		(void)fprintf(stderr, "usage: %s CORPUS COUNT | CORPUS FROM TO\n", argv[0]);
		return 2;
	}
	long from = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
	long to = strtol(argv[argc - 1], NULL, 10);
	read_corpus(argv[1]);
	watch_for_death();
	for (int i = 0; argc == 3 && i < seed_count; i++)
		run_seed(&seeds[i], to);
	for (long i = from; i < to; i++)
		run_mutation(i);
	for (int i = 0; i < seed_count; i++) {
		free(seeds[i].name);
		free(seeds[i].bytes);
	}
	return EXIT_SUCCESS;
}
