/* SPDX-License-Identifier: PostgreSQL */
#include "cli.h"

#include <pthread.h>

#include "sql/classify.h"

int run_on_big_stack(void *(*fn)(void *arg), void *arg)
{
	pthread_t thread;
	pthread_attr_t attr;
	int failed;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, CLASSIFY_STACK);
	failed = pthread_create(&thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	if (failed) {
		fprintf(stderr, "tidemark: cannot start a thread: %s\n", strerror(failed));
		return -1;
	}
	pthread_join(thread, NULL);
	return 0;
}

static void *classify_thread(void *arg)
{
	char words[512];
	struct catalog *catalog = catalog_new(16);

	if (!catalog)
		return NULL;
	classify_thread_init();
	traits_describe(classify(slice_str(arg), catalog), words, sizeof(words));
	puts(words);
	catalog_free(catalog);
	return NULL;
}

int run_classify(int argc, char **argv)
{
	if (argc != 2 || strcmp(argv[1], "--help") == 0) {
		fputs(
			"Usage: tidemark classify 'SQL'\n"
			"Says where a statement may go and why. No server is asked: a function that is not\n"
			"PostgreSQL's own counts as one that writes.\n",
			argc == 2 ? stdout : stderr);
		return argc == 2 ? EXIT_SUCCESS : 2;
	}
	return run_on_big_stack(classify_thread, argv[1]) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
