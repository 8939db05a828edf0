/* SPDX-License-Identifier: PostgreSQL
 *
 * The frame of a property test: seeds in, verdict out. A run is a function of its seed alone.
 *
 *   p_route             the fixed seeds 1..n and as many that nobody has tried before
 *   p_route SEED        that one again (or SEED=… in the environment)
 */
#ifndef TM_TESTS_PROPERTY_H
#define TM_TESTS_PROPERTY_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t property_state;
static uint64_t property_seed;

/* splitmix64 */
static inline uint64_t any(void)
{
	uint64_t z = property_state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0 … n-1 */
static inline int64_t below(int64_t n)
{
	return (int64_t)(any() % (uint64_t)n);
}

static inline bool one_in(int64_t n)
{
	return below(n) == 0;
}

#define require(condition, ...)                                                         \
	do {                                                                                \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: violated: %s\n  ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__);                                               \
			fprintf(stderr, "\n  replay with SEED=%" PRIu64 "\n", property_seed);       \
			exit(1);                                                                    \
		}                                                                               \
	} while (0)

static inline void property_start(uint64_t seed)
{
	property_seed = seed;
	property_state = seed * 0xd1342543de82ef95u + 1;
}

/* Runs `run` once for each seed. */
static inline void property_run(int argc, char **argv, int seeds, void (*run)(void))
{
	const char *given = argc > 1 ? argv[1] : getenv("SEED");
	if (given != NULL) {
		property_start(strtoull(given, NULL, 10));
		run();
		return;
	}
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t fresh = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
	printf("seeds 1..%d and from %" PRIu64 "\n", seeds, fresh);
	for (int i = 0; i < seeds; i++) {
		property_start((uint64_t)i + 1);
		run();
		property_start(fresh + (uint64_t)i);
		run();
	}
}

#endif
