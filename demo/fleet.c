/* SPDX-License-Identifier: PostgreSQL */
#include "fleet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MS 20
#define START_LIMIT_MS 30000
#define ANSWER_LIMIT_MS 5000
#define STOP_LIMIT_MS 3000
#define MAX_ARGS 48

[[gnu::format(printf, 2, 3)]] static bool fail(struct fleet *f, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(f->message, sizeof(f->message), format, args);
	va_end(args);
	return false;
}

/* Waits a moment; false when a signal asked us to end. */
static bool pause_briefly(struct fleet *f)
{
	usleep(POLL_MS * 1000);
	return *f->stop ? fail(f, "interrupted") : true;
}

/* --- finding what is needed ------------------------------------------------------------------ */

static bool has_programs(const char *bindir)
{
	static const char *const needed[] = {"initdb", "postgres", "pg_basebackup"};
	char path[300];
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", bindir, needed[i]);
		if (access(path, X_OK) != 0)
			return false;
	}
	return true;
}

/* PostgreSQL 15 where Debian keeps it, else whatever pg_config knows. */
static bool find_programs(struct fleet *f)
{
	snprintf(f->bindir, sizeof(f->bindir), "/usr/lib/postgresql/15/bin");
	if (has_programs(f->bindir))
		return true;
	FILE *pipe = popen("pg_config --bindir 2>/dev/null", "r");
	bool found = pipe != NULL && fgets(f->bindir, sizeof(f->bindir), pipe) != NULL;
	if (pipe != NULL)
		pclose(pipe);
	f->bindir[strcspn(f->bindir, "\n")] = '\0';
	if (found && has_programs(f->bindir))
		return true;
	return fail(f,
	            "no PostgreSQL server programs (initdb, postgres, pg_basebackup) in"
	            " /usr/lib/postgresql/15/bin or where pg_config points: install postgresql-15");
}

static bool choose_user(struct fleet *f)
{
	f->uid = geteuid();
	f->gid = getegid();
	if (f->uid != 0)
		return true;
	const struct passwd *user = getpwnam("postgres");
	if (user == NULL)
		return fail(f, "PostgreSQL does not run as root, and there is no user 'postgres'");
	f->uid = user->pw_uid;
	f->gid = user->pw_gid;
	return true;
}

static bool make_directory(struct fleet *f)
{
	/* Unix socket paths end at 107 bytes, so a long TMPDIR is no use. */
	const char *tmp = getenv("TMPDIR");
	if (tmp == NULL || tmp[0] != '/' || strlen(tmp) > 50)
		tmp = "/tmp";
	snprintf(f->dir, sizeof(f->dir), "%s/tidemark-demo-XXXXXX", tmp);
	if (mkdtemp(f->dir) == NULL) {
		fail(f, "cannot make a directory in %s: %s", tmp, strerror(errno));
		f->dir[0] = '\0';
		return false;
	}
	if (chown(f->dir, f->uid, f->gid) != 0)
		return fail(f, "cannot give %s to the user postgres: %s", f->dir, strerror(errno));
	return true;
}

/* Asks the kernel for `count` free ports: all are held until the last is known. */
static bool find_ports(struct fleet *f, int *ports, int count)
{
	int sockets[FLEET_MAX_STANDBYS + 2];
	int n = 0;
	bool ok = true;
	for (; n < count && ok; n++) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t size = sizeof(a);
		sockets[n] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ok = sockets[n] >= 0 && bind(sockets[n], (struct sockaddr *)&a, size) == 0 &&
		     getsockname(sockets[n], (struct sockaddr *)&a, &size) == 0;
		ports[n] = ntohs(a.sin_port);
	}
	while (n > 0)
		close(sockets[--n]);
	return ok ? true : fail(f, "no free port on 127.0.0.1: %s", strerror(errno));
}

static void name_server(struct fleet_server *s, const char *name, int port)
{
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->port = port;
	snprintf(s->dsn, sizeof(s->dsn), "host=127.0.0.1 port=%d user=postgres dbname=postgres", port);
}

bool fleet_create(struct fleet *f, const int *delays_ms, int count,
                  const volatile sig_atomic_t *stop)
{
	int ports[FLEET_MAX_STANDBYS + 2];
	*f = (struct fleet){.standby_count = count, .stop = stop};
	setenv("PGCONNECT_TIMEOUT", "2", 1);
	if (!find_programs(f) || !choose_user(f) || !find_ports(f, ports, count + 2) ||
	    !make_directory(f))
		return false;
	name_server(&f->primary, "primary", ports[0]);
	name_server(&f->tidemark, "tidemark", ports[1]);
	snprintf(f->admin_dsn, sizeof(f->admin_dsn),
	         "host=127.0.0.1 port=%d user=postgres dbname=tidemark", ports[1]);
	for (int i = 0; i < count; i++) {
		char name[16];
		snprintf(name, sizeof(name), "standby%d", i + 1);
		name_server(&f->standbys[i], name, ports[2 + i]);
		f->standbys[i].delay_ms = delays_ms[i];
	}
	return true;
}

/* --- processes ------------------------------------------------------------------------------- */

/* In the child: becomes the user, detaches from the terminal's signals, and dies with us. */
[[gnu::noreturn]] static void become(const struct fleet *f, const char *log, int death_signal,
                                     bool as_postgres, char *const *argv, pid_t parent)
{
	int in = open("/dev/null", O_RDONLY);
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
	    chdir(f->dir) != 0)
		_exit(127);
	setpgid(0, 0); /* Ctrl-C is ours alone: we stop the servers, in order */
	signal(SIGPIPE, SIG_DFL);
	if (as_postgres && geteuid() == 0 &&
	    (setgroups(0, NULL) != 0 || setgid(f->gid) != 0 || setuid(f->uid) != 0))
		_exit(127);
	/* After setuid(), which clears it; and we may have died before it was set. */
	prctl(PR_SET_PDEATHSIG, death_signal);
	if (getppid() != parent)
		_exit(127);
	execv(argv[0], argv);
	fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static pid_t spawn(struct fleet *f, const char *name, int death_signal, bool as_postgres,
                   char *const *argv)
{
	char log[128];
	snprintf(log, sizeof(log), "%s/%s.log", f->dir, name);
	pid_t parent = getpid();
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		become(f, log, death_signal, as_postgres, argv, parent);
	if (pid < 0)
		fail(f, "cannot fork: %s", strerror(errno));
	return pid;
}

/* Appends the last lines of a log to what went wrong: the directory will be gone. */
static bool fail_with_log(struct fleet *f, const char *name, const char *what)
{
	char path[128], tail[400];
	snprintf(path, sizeof(path), "%s/%s.log", f->dir, name);
	FILE *log = fopen(path, "r");
	size_t n = 0;
	if (log != NULL) {
		if (fseek(log, -(long)sizeof(tail) + 1, SEEK_END) != 0)
			rewind(log);
		n = fread(tail, 1, sizeof(tail) - 1, log);
		fclose(log);
	}
	tail[n] = '\0';
	return fail(f, "%s %s; the end of its log:\n%s", name, what, n > 0 ? tail : "(empty)\n");
}

/* Signals a child until it is gone: politely, then by force. */
static void reap(pid_t pid, int sig)
{
	kill(pid, sig);
	for (int ms = 0; ms < STOP_LIMIT_MS; ms += POLL_MS) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			return;
		usleep(POLL_MS * 1000);
	}
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Runs a program to its end. */
static bool run(struct fleet *f, const char *name, char *const *argv)
{
	int status;
	pid_t pid = spawn(f, name, SIGTERM, true, argv);
	if (pid < 0)
		return false;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (!pause_briefly(f)) {
			reap(pid, SIGTERM);
			return false;
		}
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return fail_with_log(f, name, "failed");
	return true;
}

static bool has_ended(struct fleet_server *s)
{
	if (s->pid > 0 && waitpid(s->pid, NULL, WNOHANG) == s->pid)
		s->pid = -1;
	return s->pid < 0;
}

const char *fleet_dead_server(struct fleet *f)
{
	if (has_ended(&f->primary))
		return f->primary.name;
	if (has_ended(&f->tidemark))
		return f->tidemark.name;
	for (int i = 0; i < f->standby_count; i++) {
		if (has_ended(&f->standbys[i]))
			return f->standbys[i].name;
	}
	return NULL;
}

/* --- waiting for answers --------------------------------------------------------------------- */

/* Runs `sql` on a new connection; NULL unless rows come in time. Never blocks for longer: a server
 * that accepts and says nothing must not keep us from a signal. */
static PGresult *query(struct fleet *f, const char *dsn, const char *sql)
{
	PGresult *answer = NULL;
	PGconn *pg = PQconnectdb(dsn);
	if (PQstatus(pg) == CONNECTION_OK && PQsendQuery(pg, sql)) {
		for (int ms = 0; ms < ANSWER_LIMIT_MS && PQisBusy(pg) && !*f->stop; ms += POLL_MS) {
			struct pollfd readable = {.fd = PQsocket(pg), .events = POLLIN};
			poll(&readable, 1, POLL_MS);
			if (!PQconsumeInput(pg))
				break;
		}
		if (PQstatus(pg) == CONNECTION_OK && !PQisBusy(pg))
			answer = PQgetResult(pg);
	}
	PQfinish(pg);
	if (PQresultStatus(answer) == PGRES_TUPLES_OK)
		return answer;
	PQclear(answer);
	return NULL;
}

/* As query(); the first value, a number, goes to *value. */
static bool ask(struct fleet *f, const char *dsn, const char *sql, long *value)
{
	PGresult *answer = query(f, dsn, sql);
	bool ok = PQntuples(answer) > 0;
	if (ok)
		*value = strtol(PQgetvalue(answer, 0, 0), NULL, 10);
	PQclear(answer);
	return ok;
}

/* Waits until `sql`, asked there, yields `wanted`. */
static bool wait_for(struct fleet *f, struct fleet_server *s, const char *sql, long wanted,
                     const char *what)
{
	for (int ms = 0; ms < START_LIMIT_MS; ms += POLL_MS) {
		long value;
		if (ask(f, s->dsn, sql, &value) && value == wanted)
			return true;
		if (has_ended(s))
			return fail_with_log(f, s->name, "ended at its start");
		if (!pause_briefly(f))
			return false;
	}
	return fail_with_log(f, s->name, what);
}

/* --- PostgreSQL ------------------------------------------------------------------------------ */

/* Starts a node. All settings are on its command line, which beats the copied file. */
static bool start_node(struct fleet *f, struct fleet_server *s)
{
	char program[300], port[16], sockets[128], delay[64], name[48];
	snprintf(program, sizeof(program), "%s/postgres", f->bindir);
	snprintf(port, sizeof(port), "%d", s->port);
	snprintf(sockets, sizeof(sockets), "unix_socket_directories=%s", f->dir);
	snprintf(delay, sizeof(delay), "recovery_min_apply_delay=%dms", s->delay_ms);
	snprintf(name, sizeof(name), "cluster_name=%s", s->name);
	char data[128];
	snprintf(data, sizeof(data), "%s/%s", f->dir, s->name);
	char *argv[MAX_ARGS] = {
		program,
		"-D",
		data,
		"-p",
		port,
		"-c",
		sockets,
		"-c",
		delay,
		"-c",
		name,
		"-c",
		"listen_addresses=127.0.0.1",
		"-c",
		"fsync=off",
		"-c",
		"full_page_writes=off",
		"-c",
		"shared_buffers=32MB",
		"-c",
		"max_connections=200",
		"-c",
		"max_wal_senders=10",
		"-c",
		"wal_level=replica",
		"-c",
		"wal_keep_size=256MB",
		"-c",
		"hot_standby=on",
		"-c",
		"max_prepared_transactions=64",
		"-c",
		"logging_collector=off",
	};
	s->pid = spawn(f, s->name, SIGQUIT, true, argv);
	return s->pid > 0;
}

static bool init_primary(struct fleet *f)
{
	char program[300], data[128];
	snprintf(program, sizeof(program), "%s/initdb", f->bindir);
	snprintf(data, sizeof(data), "%s/primary", f->dir);
	char *argv[] = {program, "-D",   data,         "-U",        "postgres",          "-A", "trust",
	                "-E",    "UTF8", "--locale=C", "--no-sync", "--no-instructions", NULL};
	return run(f, "initdb", argv);
}

static bool copy_primary(struct fleet *f, const struct fleet_server *standby)
{
	char program[300], data[128];
	snprintf(program, sizeof(program), "%s/pg_basebackup", f->bindir);
	snprintf(data, sizeof(data), "%s/%s", f->dir, standby->name);
	char *argv[] = {program, "-d",     f->primary.dsn, "-D",   data,        "-R",
	                "-X",    "stream", "-c",           "fast", "--no-sync", NULL};
	return run(f, "pg_basebackup", argv);
}

bool fleet_start_postgres(struct fleet *f)
{
	if (!init_primary(f) || !start_node(f, &f->primary) ||
	    !wait_for(f, &f->primary, "SELECT 1", 1, "does not answer"))
		return false;
	for (int i = 0; i < f->standby_count; i++) {
		if (!copy_primary(f, &f->standbys[i]) || !start_node(f, &f->standbys[i]))
			return false;
	}
	for (int i = 0; i < f->standby_count; i++) {
		if (!wait_for(f, &f->standbys[i], "SELECT 1", 1, "does not answer"))
			return false;
	}
	return wait_for(f, &f->primary,
	                "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'",
	                f->standby_count, "does not see all standbys stream");
}

/* --- Tidemark -------------------------------------------------------------------------------- */

bool fleet_start_tidemark(struct fleet *f, const char *path)
{
	char program[4096], listen[32];
	char *argv[MAX_ARGS];
	int n = 0;
	snprintf(program, sizeof(program), "%s", path);
	snprintf(listen, sizeof(listen), "127.0.0.1:%d", f->tidemark.port);
	argv[n++] = program;
	argv[n++] = "--primary";
	argv[n++] = f->primary.dsn;
	for (int i = 0; i < f->standby_count; i++) {
		argv[n++] = "--replica";
		argv[n++] = f->standbys[i].dsn;
	}
	argv[n++] = "--listen";
	argv[n++] = listen;
	argv[n++] = "--auth-type";
	argv[n++] = "trust";
	argv[n] = NULL;
	/* As ourselves: the user postgres may not be able to reach the program. */
	f->tidemark.pid = spawn(f, "tidemark", SIGKILL, false, argv);
	return f->tidemark.pid > 0 && wait_for(f, &f->tidemark, "SELECT 1", 1, "does not answer");
}

bool fleet_read_routing(struct fleet *f, uint64_t *replica, uint64_t *primary)
{
	PGresult *answer = query(f, f->admin_dsn, "SHOW ROUTING");
	int found = 0;
	for (int row = 0; row < PQntuples(answer) && PQnfields(answer) >= 2; row++) {
		const char *name = PQgetvalue(answer, row, 0);
		uint64_t value = strtoull(PQgetvalue(answer, row, 1), NULL, 10);
		if (strcmp(name, "reads_replica") == 0) {
			*replica = value;
			found++;
		} else if (strcmp(name, "reads_primary") == 0) {
			*primary = value;
			found++;
		}
	}
	if (found != 2)
		fail(f, "SHOW ROUTING on Tidemark's console does not tell reads_replica, reads_primary");
	PQclear(answer);
	return found == 2;
}

/* --- the end --------------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void stop_server(struct fleet_server *s, int sig)
{
	if (s->pid > 0)
		reap(s->pid, sig);
	s->pid = 0;
}

void fleet_destroy(struct fleet *f)
{
	stop_server(&f->tidemark, SIGTERM);
	/* SIGQUIT is an immediate shutdown: nothing here is worth a checkpoint. */
	for (int i = 0; i < f->standby_count; i++)
		stop_server(&f->standbys[i], SIGQUIT);
	stop_server(&f->primary, SIGQUIT);
	if (f->dir[0] != '\0' && nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
		fprintf(stderr, "could not remove all of %s: %s\n", f->dir, strerror(errno));
	f->dir[0] = '\0';
}
