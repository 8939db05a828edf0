/* SPDX-License-Identifier: PostgreSQL
 *
 * Runs one worker on a thread with a big stack; the worker's own loop handles the signals.
 */
#include "cli.h"

#include <signal.h>

#include "admin/console.h"
#include "admin/http.h"
#include "base/log.h"
#include "config/config.h"
#include "proxy/worker.h"

struct router {
	int argc;
	char **argv;
	enum route_fault fault;
	struct settings *settings; /* what the worker has now */
	struct worker *worker;
	int result;
};

#ifdef TIDEMARK_TEST_SWITCHES
/* Takes "--test-fault NAME" out of the command line. Only the test build knows it: the released
 * program cannot be made to route wrongly. */
static bool take_test_fault(struct router *r)
{
	static const char *const names[] = {
		[FAULT_POSITION_INSIDE] = "position_inside",
		[FAULT_WRITE_POINTER] = "write_pointer",
		[FAULT_NO_READ_MARKS] = "no_read_marks",
		[FAULT_GUARD_AFTER] = "guard_after",
		[FAULT_GUARD_IGNORED] = "guard_ignored",
		[FAULT_LOSS_UNTOLD] = "loss_untold",
	};

	for (int i = 1; i + 1 < r->argc; i++) {
		if (strcmp(r->argv[i], "--test-fault") != 0)
			continue;
		for (int f = 1; f < (int)(sizeof(names) / sizeof(names[0])); f++) {
			if (strcmp(r->argv[i + 1], names[f]) == 0)
				r->fault = (enum route_fault)f;
		}
		if (r->fault == FAULT_NONE) {
			fprintf(stderr, "--test-fault %s: unknown fault\n", r->argv[i + 1]);
			return false;
		}
		memmove(&r->argv[i], &r->argv[i + 2], (size_t)(r->argc - i - 1) * sizeof(char *));
		r->argc -= 2;
		return true;
	}
	return true;
}
#else
static bool take_test_fault(struct router *r)
{
	return true;
}
#endif

static struct settings *load(const struct router *r, struct config_errors *errors)
{
	struct config_errors notes = {0};
	struct settings *s = config_load_noting(r->argc, r->argv, errors, &notes);
	int shown = notes.count < CONFIG_ERRORS_MAX ? notes.count : CONFIG_ERRORS_MAX;

	if (s) {
		s->policy.fault = r->fault;
		log_set_level((enum log_level)s->log_level);
		for (int i = 0; i < shown; i++)
			log_warn("%s", notes.lines[i]);
	}
	return s;
}

static void tell_fixed(void *arg, const char *name)
{
	log_warn("reload: %s was changed in the configuration; that needs a restart", name);
}

/* SIGHUP. With a fault in it, the running configuration stays. */
static bool reload(void *arg)
{
	struct router *r = arg;
	struct config_errors errors = {0};
	struct settings *next = load(r, &errors);

	if (!next) {
		int shown = errors.count < CONFIG_ERRORS_MAX ? errors.count : CONFIG_ERRORS_MAX;
		for (int i = 0; i < shown; i++)
			log_error("reload: %s", errors.lines[i]);
		log_error("reload: %d errors; the running configuration stays", errors.count);
		return false;
	}
	config_keep_fixed(next, r->settings, tell_fixed, NULL);
	worker_reload(r->worker, next);
	config_free(r->settings);
	r->settings = next;
	log_info("reload: configuration read");
	return true;
}

/* SET at the console. In place: what settings own besides (users, TLS contexts) stays theirs. */
static bool set_option(void *arg, const char *name, const char *value, char *why, size_t cap)
{
	struct router *r = arg;

	if (!config_change(r->settings, name, value, why, cap))
		return false;
	worker_reload(r->worker, r->settings);
	return true;
}

static void *router_thread(void *arg)
{
	struct router *r = arg;
	char error[512];
	struct admin_http *http = NULL;

	r->worker = worker_new(r->settings, error, sizeof(error));
	if (!r->worker) {
		fprintf(stderr, "tidemark: %s\n", error);
		return NULL;
	}
	worker_set_reload(r->worker, reload, r);
	worker_set_set(r->worker, set_option);
	worker_set_console(r->worker, console_run, NULL);
	if (r->settings->http_listen_port != 0)
		http = admin_http_new(r->worker, error, sizeof(error));
	if (http || r->settings->http_listen_port == 0)
		r->result = worker_run(r->worker);
	else
		fprintf(stderr, "tidemark: %s\n", error);
	admin_http_free(http);
	worker_free(r->worker);
	return NULL;
}

int run_router(int argc, char **argv)
{
	struct router r = {.argc = argc, .argv = argv, .result = EXIT_FAILURE};
	struct config_errors errors = {0};

	signal(SIGPIPE, SIG_IGN);
	if (!take_test_fault(&r))
		return 2;
	r.settings = load(&r, &errors);
	if (!r.settings) {
		config_errors_print(&errors, stderr);
		return EXIT_FAILURE;
	}
	run_on_big_stack(router_thread, &r);
	config_free(r.settings);
	return r.result;
}
