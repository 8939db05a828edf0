/* SPDX-License-Identifier: PostgreSQL */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <unistd.h>

#define PROGRAM "tidemark-demo"

static bool runnable(char *path, size_t cap, const char *dir, const char *below)
{
	int n = snprintf(path, cap, "%s%s/" PROGRAM, dir, below);

	return n > 0 && (size_t)n < cap && access(path, X_OK) == 0;
}

/* Beside us in an installed tree, in demo/ in a build tree, in libexecdir for distributions. */
static bool find_program(const char *dir, char *path, size_t cap)
{
	return runnable(path, cap, dir, "") || runnable(path, cap, dir, "/demo") ||
	       runnable(path, cap, TIDEMARK_LIBEXECDIR, "");
}

/* Our own path, which the demo needs to start routers. */
static bool own_path(char *path, size_t cap)
{
	ssize_t n = readlink("/proc/self/exe", path, cap - 1);

	if (n <= 0)
		return false;
	path[n] = '\0';
	return true;
}

int run_demo(int argc, char **argv)
{
	char self[PATH_MAX], dir[PATH_MAX], program[PATH_MAX + 64];
	char **args = calloc((size_t)argc + 3, sizeof(*args));

	if (!args || !own_path(self, sizeof(self))) {
		fputs("tidemark demo: cannot tell where this program is\n", stderr);
		free(args);
		return EXIT_FAILURE;
	}
	snprintf(dir, sizeof(dir), "%s", self);
	*strrchr(dir, '/') = '\0';
	if (!find_program(dir, program, sizeof(program))) {
		fprintf(stderr, "tidemark demo: " PROGRAM " is neither in %s, in %s/demo nor in %s\n", dir,
		        dir, TIDEMARK_LIBEXECDIR);
		free(args);
		return EXIT_FAILURE;
	}
	args[0] = program;
	args[1] = (char *)"--tidemark";
	args[2] = self;
	for (int i = 1; i < argc; i++)
		args[i + 2] = argv[i];
	execv(program, args);
	fprintf(stderr, "tidemark demo: %s: %s\n", program, strerror(errno));
	free(args);
	return EXIT_FAILURE;
}
