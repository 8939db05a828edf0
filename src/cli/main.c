/* SPDX-License-Identifier: PostgreSQL
 *
 * The program `tidemark`: which subcommand, and who is wired to whom. Nothing is decided here.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "config/config.h"
#include "config/options.h"
#include "config/pgbouncer.h"

#define EXIT_USAGE 2

/* Passwords are in it: nobody else reads it, and no file is written over. */
static bool write_file(const char *path, struct slice text)
{
	bool to_stdout = strcmp(path, "-") == 0;
	int fd = to_stdout ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	bool ok = fd >= 0;

	while (ok && text.len > 0) {
		ssize_t n = write(fd, text.ptr, text.len);
		ok = n > 0;
		text = slice_from(text, ok ? (size_t)n : 0);
	}
	if (!ok)
		fprintf(stderr, "%s: cannot be written: %s\n", path, strerror(errno));
	if (fd >= 0 && !to_stdout)
		ok = close(fd) == 0 && ok;
	return ok;
}

static int write_translated(int argc, char **argv, const char *path)
{
	struct config_errors errors = {0}, notes = {0};
	struct buf text;

	buf_init(&text, 1024 * 1024);
	bool ok = config_translate(argc, argv, &text, &errors, &notes);
	config_errors_print(&notes, stderr);
	config_errors_print(&errors, stderr);
	ok = ok && write_file(path, buf_slice(&text));
	if (text.data)
		explicit_bzero(text.data, text.len);
	buf_release(&text);
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Takes "--write FILE" out of the command line: no other subcommand knows it. */
static const char *take_write(int *argc, char **argv)
{
	for (int i = 1; i + 1 < *argc; i++) {
		if (strcmp(argv[i], "--write") != 0)
			continue;
		const char *path = argv[i + 1];
		memmove(&argv[i], &argv[i + 2], (size_t)(*argc - i - 1) * sizeof(char *));
		*argc -= 2;
		return path;
	}
	return NULL;
}

static int run_check_config(int argc, char **argv)
{
	struct config_errors errors = {0}, notes = {0};
	const char *write_to = take_write(&argc, argv);

	if (write_to)
		return write_translated(argc, argv, write_to);
	struct settings *s = config_load_noting(argc, argv, &errors, &notes);

	config_errors_print(&notes, stderr);
	if (!s) {
		config_errors_print(&errors, stderr);
		return EXIT_FAILURE;
	}
	config_free(s);
	puts("OK");
	return EXIT_SUCCESS;
}

static int run_print_migration(int argc, char **argv)
{
	pgbouncer_print_markdown(stdout);
	return EXIT_SUCCESS;
}

static int run_print_sample(int argc, char **argv)
{
	options_print_sample(stdout);
	return EXIT_SUCCESS;
}

static int run_print_markdown(int argc, char **argv)
{
	options_print_markdown(stdout);
	return EXIT_SUCCESS;
}

static int run_print_scdoc(int argc, char **argv)
{
	options_print_scdoc(stdout);
	return EXIT_SUCCESS;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"classify", run_classify},
	{"check-config", run_check_config},
	{"demo", run_demo},
	{"token", run_token},
	/* For "make generate" and the build. */
	{"--print-sample", run_print_sample},
	{"--print-markdown", run_print_markdown},
	{"--print-scdoc", run_print_scdoc},
	{"--print-migration", run_print_migration},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	switch (config_action(argc, argv)) {
	case CONFIG_HELP:
		options_print_help(stdout, "tidemark");
		return EXIT_SUCCESS;
	case CONFIG_VERSION:
		puts("tidemark " TIDEMARK_VERSION);
		return EXIT_SUCCESS;
	case CONFIG_LOAD:
		break;
	}
	if (argc == 1) {
		fputs(
			"tidemark: no configuration. Start with \"tidemark FILE\", or\n"
			"  tidemark --primary 'host=… port=…' --replica 'host=… port=…' --listen HOST:PORT\n"
			"\"tidemark --help\" says more; \"tidemark demo\" shows it at work.\n",
			stderr);
		return EXIT_USAGE;
	}
	return run_router(argc, argv);
}
