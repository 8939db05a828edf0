/* SPDX-License-Identifier: PostgreSQL */
#include "act.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "proxy/operate.h"
#include "proxy/pool.h"

static struct slice unquoted(struct slice name)
{
	if (name.len >= 2 && name.ptr[0] == '"' && name.ptr[name.len - 1] == '"')
		return slice_of(name.ptr + 1, name.len - 2);
	return name;
}

static void log_act(const struct client *by, const char *word, struct slice arg)
{
	log_info("user=%s at the console: %s %.*s", by->console->user, word,
	         arg.len < 64 ? (int)arg.len : 64, (const char *)arg.ptr);
}

/* ------------------------------------------------------------ the configuration */

static void takes_nothing(struct buf *out)
{
	write_error(out, "ERROR", "42601", "the command takes no argument",
	            "SHOW HELP has the commands.");
}

static void run_reload(struct client *by, struct slice arg, struct buf *out)
{
	struct worker *w = by->worker;
	if (arg.len > 0)
		takes_nothing(out);
	else if (!w->reload)
		write_error(out, "ERROR", "0A000", "there is no configuration to read again", NULL);
	else if (w->reload(w->reload_arg))
		write_command_complete(out, "RELOAD");
	else
		write_error(out, "ERROR", "F0000", "the configuration has errors; the running one stays",
		            "The router's log names each of them.");
}

static struct slice strip(struct slice s)
{
	while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
		s = slice_from(s, 1);
	while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* key = value, key TO value; the value may stand in single quotes. False: neither. */
static bool take_setting(struct slice arg, char key[64], char value[256])
{
	size_t n = 0;
	while (n < arg.len && arg.ptr[n] != ' ' && arg.ptr[n] != '\t' && arg.ptr[n] != '=')
		n++;
	struct slice rest = strip(slice_from(arg, n));
	if (rest.len > 0 && rest.ptr[0] == '=')
		rest = strip(slice_from(rest, 1));
	else if (rest.len > 3 && slice_ieq_str(slice_of(rest.ptr, 2), "TO") && rest.ptr[2] == ' ')
		rest = strip(slice_from(rest, 3));
	else
		return false;
	if (rest.len >= 2 && rest.ptr[0] == '\'' && rest.ptr[rest.len - 1] == '\'')
		rest = slice_of(rest.ptr + 1, rest.len - 2);
	if (n == 0 || n >= 64 || rest.len >= 256 || memchr(rest.ptr, 0, rest.len))
		return false;
	snprintf(key, 64, "%.*s", (int)n, (const char *)arg.ptr);
	snprintf(value, 256, "%.*s", SLICE_ARG(rest));
	return true;
}

/* Drivers say these to whatever they connect to. */
static bool is_drivers(const char *key)
{
	static const char *const names[] = {"client_encoding",
	                                    "datestyle",
	                                    "timezone",
	                                    "extra_float_digits",
	                                    "standard_conforming_strings",
	                                    "application_name",
	                                    "intervalstyle"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (slice_ieq_str(slice_str(key), names[i]))
			return true;
	}
	return false;
}

static void run_set(struct client *by, struct slice arg, struct buf *out)
{
	struct worker *w = by->worker;
	char key[64], value[256], why[300] = "";
	if (!take_setting(arg, key, value)) {
		write_error(out, "ERROR", "42601", "expected SET key = value", NULL);
		return;
	}
	if (is_drivers(key)) {
		write_command_complete(out, "SET");
		return;
	}
	log_act(by, "SET", slice_str(key));
	if (w->set && w->set(w->reload_arg, key, value, why, sizeof(why)))
		write_command_complete(out, "SET");
	else
		write_error(out, "ERROR", "22023", w->set ? why : "there is no configuration to change",
		            "SHOW CONFIG tells what can be changed.");
}

/* -------------------------------------------------------------------- databases */

/* False: told. *db NULL is all, where that is allowed. */
static bool take_database(struct client *by, struct slice arg, bool all, struct database **db,
                          struct buf *out)
{
	char message[128];
	struct slice name = unquoted(arg);
	*db = NULL;
	if (name.len == 0 && all)
		return true;
	if (name.len == 0) {
		write_error(out, "ERROR", "42601", "a database is required", NULL);
		return false;
	}
	if (database_served(by->worker, name))
		*db = database_get(by->worker, name);
	if (*db)
		return true;
	snprintf(message, sizeof(message), "no such database: %.*s", name.len < 64 ? (int)name.len : 64,
	         (const char *)name.ptr);
	write_error(out, "ERROR", "3D000", message, "Names are case-sensitive.");
	return false;
}

static void run_pause(struct client *by, struct slice arg, struct buf *out)
{
	struct database *db;
	if (!take_database(by, arg, true, &db, out))
		return;
	log_act(by, "PAUSE", arg);
	if (operate_pause(by->worker, db))
		operate_answer_later(by, CONSOLE_WAITS_PAUSE, db);
	else
		write_error(out, "ERROR", "55000", "already paused", NULL);
}

static void run_resume(struct client *by, struct slice arg, struct buf *out)
{
	struct database *db;
	if (!take_database(by, arg, true, &db, out))
		return;
	log_act(by, "RESUME", arg);
	if (operate_resume(by->worker, db))
		write_command_complete(out, "RESUME");
	else
		write_error(out, "ERROR", "55000", "it is not paused",
		            db ? NULL : "RESUME NAME is for a database that was paused by name.");
}

static void run_reconnect(struct client *by, struct slice arg, struct buf *out)
{
	struct database *db;
	if (!take_database(by, arg, true, &db, out))
		return;
	log_act(by, "RECONNECT", arg);
	operate_reconnect(by->worker, db);
	write_command_complete(out, "RECONNECT");
}

static void run_wait_close(struct client *by, struct slice arg, struct buf *out)
{
	struct database *db;
	if (take_database(by, arg, true, &db, out))
		operate_answer_later(by, CONSOLE_WAITS_CLOSE, db);
}

static void run_kill(struct client *by, struct slice arg, struct buf *out)
{
	struct database *db;
	if (!take_database(by, arg, true, &db, out))
		return;
	log_act(by, "KILL", arg);
	operate_kill(by->worker, db);
	write_command_complete(out, "KILL");
}

static void run_kill_client(struct client *by, struct slice arg, struct buf *out)
{
	char text[32], *end = text;
	bool serial = arg.len > 2 && arg.ptr[0] == '0' && arg.ptr[1] == 'x';
	snprintf(text, sizeof(text), "%.*s", arg.len < 31 ? (int)arg.len : 31, (const char *)arg.ptr);
	uint64_t number = arg.len > 0 && arg.ptr[0] >= '0' && arg.ptr[0] <= '9'
	                      ? strtoull(text, &end, serial ? 16 : 10)
	                      : 0;
	if (number == 0 || *end || arg.len > 30)
		write_error(out, "ERROR", "42601",
		            "expected KILL_CLIENT and an id, or a ptr, of SHOW CLIENTS", NULL);
	else if (operate_kill_client(by, number, serial))
		write_command_complete(out, "KILL_CLIENT");
	else
		write_error(out, "ERROR", "42704", "client not found", NULL);
}

static void enable(struct client *by, struct slice arg, bool on, struct buf *out)
{
	struct database *db;
	if (!take_database(by, arg, false, &db, out))
		return;
	log_act(by, on ? "ENABLE" : "DISABLE", arg);
	db->disabled = !on;
	write_command_complete(out, on ? "ENABLE" : "DISABLE");
}

static void run_disable(struct client *by, struct slice arg, struct buf *out)
{
	enable(by, arg, false, out);
}

static void run_enable(struct client *by, struct slice arg, struct buf *out)
{
	enable(by, arg, true, out);
}

static void run_suspend(struct client *by, struct slice arg, struct buf *out)
{
	write_error(out, "ERROR", "0A000",
	            "sockets are not handed over, so there is nothing to suspend for",
	            "PAUSE holds statements.");
}

/* ---------------------------------------------------------------------- servers */

static void drain_node(struct worker *w, struct slice name, bool drain, struct buf *out)
{
	switch (worker_drain(w, unquoted(name), drain)) {
	case DRAIN_DONE:
		write_command_complete(out, drain ? "DRAIN" : "UNDRAIN");
		break;
	case DRAIN_NO_SUCH_NODE:
		write_error(out, "ERROR", "42704", "there is no server of this name",
		            "SHOW FLEET lists them; names are case-sensitive.");
		break;
	case DRAIN_IS_PRIMARY:
		write_error(out, "ERROR", "55000",
		            "the primary cannot be drained: writes have nowhere else to go",
		            "Promote a replica first; then this server may be drained.");
		break;
	}
}

static void run_drain(struct client *by, struct slice name, struct buf *out)
{
	drain_node(by->worker, name, true, out);
}

static void run_undrain(struct client *by, struct slice name, struct buf *out)
{
	drain_node(by->worker, name, false, out);
}

static void run_shutdown(struct client *by, struct slice arg, struct buf *out)
{
	struct worker *w = by->worker;
	log_act(by, "SHUTDOWN", arg);
	if (arg.len == 0)
		worker_stop(w);
	else if (slice_ieq_str(arg, "WAIT_FOR_SERVERS"))
		worker_shutdown(w);
	else if (slice_ieq_str(arg, "WAIT_FOR_CLIENTS"))
		worker_leave(w);
	else {
		write_error(out, "ERROR", "42601",
		            "expected SHUTDOWN, alone or with WAIT_FOR_SERVERS or "
		            "WAIT_FOR_CLIENTS",
		            NULL);
		return;
	}
	write_command_complete(out, "SHUTDOWN");
}

const struct act acts[] = {
	{"RELOAD", run_reload, "reads the configuration again, as SIGHUP does"},
	{"SET", run_set, "KEY = VALUE: changes an option until the next RELOAD"},
	{"PAUSE", run_pause, "[DATABASE]: holds statements; answers when no server connection is left"},
	{"RESUME", run_resume, "[DATABASE]: what was held goes on"},
	{"RECONNECT", run_reconnect, "[DATABASE]: closes server connections as they come free"},
	{"WAIT_CLOSE", run_wait_close, "[DATABASE]: answers when RECONNECT has closed the last"},
	{"KILL", run_kill,
     "[DATABASE]: ends clients and server connections at once; RESUME serves again"},
	{"KILL_CLIENT", run_kill_client, "ID: ends one client; the id, or the ptr, of SHOW CLIENTS"},
	{"DISABLE", run_disable, "DATABASE: refuses new clients"},
	{"ENABLE", run_enable, "DATABASE: lets them in again"},
	{"SUSPEND", run_suspend, "is an error: sockets are not handed over"},
	{"DRAIN", run_drain, "NAME: sends no new reads to a replica; what runs there ends"},
	{"UNDRAIN", run_undrain, "NAME: sends reads to it again"},
	{"SHUTDOWN", run_shutdown,
     "ends at once; WAIT_FOR_SERVERS: when transactions have; WAIT_FOR_CLIENTS: when clients have gone"},
	{0},
};
