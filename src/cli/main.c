/* SPDX-License-Identifier: PostgreSQL
 *
 * The program `tidemark`: which subcommand, and who is wired to whom. Nothing is decided here.
 */
#include "cli.h"

#include "config/config.h"
#include "config/options.h"

#define EXIT_USAGE 2

static int run_check_config(int argc, char **argv)
{
	struct config_errors errors = {0};
	struct settings *s = config_load(argc, argv, &errors);

	if (!s) {
		config_errors_print(&errors, stderr);
		return EXIT_FAILURE;
	}
	config_free(s);
	puts("OK");
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
