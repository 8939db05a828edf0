/* SPDX-License-Identifier: PostgreSQL
 *
 * A store of marks that is told what to do, line by line, on its standard input; test_store.py runs
 * one for each router. Settings are arguments "name=value", times in milliseconds.
 *
 *   put ID SESSION TIMELINE FORK AT   "put ID stored|owed covered|bare" when the writer may be told
 *   void ID SESSION                   the same, of a mark whose position is not known
 *   get ID SESSION                    "get ID ok|doubtful|failed TIMELINE:FORK:AT|-"
 *   flood ID COUNT SESSION            COUNT gets at once: "flood ID REFUSED", how many failed at
 * once forget ID                         the asker goes away lag MS, cluster NUMBER, stats, quit
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/store.h"

#define ASKS_MAX 65536

static struct net_loop *loop;
static struct store *store;
static struct store_request *asked[ASKS_MAX];
static char line[4096];
static size_t line_len;

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	char text[1024];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (write(STDOUT_FILENO, text, (size_t)n) != n)
		exit(1);
}

static const char *covered(void)
{
	return store_covers(store) ? "covered" : "bare";
}

static void on_put(void *arg, bool stored)
{
	uintptr_t id = (uintptr_t)arg;
	asked[id] = NULL;
	say("put %" PRIuPTR " %s %s\n", id, stored ? "stored" : "owed", covered());
}

static void on_get(void *arg, enum store_result result, const struct store_mark *mark)
{
	static const char *const words[] = {"ok", "doubtful", "failed"};
	uintptr_t id = (uintptr_t)arg;
	asked[id] = NULL;
	if (mark && mark->present)
		say("get %" PRIuPTR " %s %u:%" PRIu64 ":%" PRIu64 "\n", id, words[result], mark->timeline,
		    mark->fork.lsn, mark->at.lsn);
	else
		say("get %" PRIuPTR " %s -\n", id, words[result]);
}

static void on_flood(void *arg, enum store_result result, const struct store_mark *mark)
{
}

static uint64_t number(const char *text)
{
	return text ? strtoull(text, NULL, 10) : 0;
}

static void put(uintptr_t id, const char *session, struct store_mark mark)
{
	asked[id] = store_put(store, slice_str("db"), slice_str(session), mark, on_put, (void *)id);
	if (!asked[id])
		say("put %" PRIuPTR " owed %s\n", id, covered());
}

static void get(uintptr_t id, const char *session)
{
	asked[id] = store_get(store, slice_str("db"), slice_str(session), on_get, (void *)id);
	if (!asked[id])
		say("get %" PRIuPTR " failed -\n", id);
}

static void flood(uintptr_t id, uint64_t count, const char *session)
{
	int refused = 0;
	for (uint64_t i = 0; i < count; i++)
		refused += !store_get(store, slice_str("db"), slice_str(session), on_flood, NULL);
	say("flood %" PRIuPTR " %d\n", id, refused);
}

static void show_stats(void)
{
	struct store_stats s;
	store_stats(store, &s);
	say("stats up=%d covers=%d reads=%" PRIu64 " writes=%" PRIu64 " doubtful=%" PRIu64
	    " failed=%" PRIu64 " timeouts=%" PRIu64 " reconnects=%" PRIu64
	    " in_flight=%d owed=%d rtt=%" PRId64 " server=%s error=%s\n",
	    s.up, store_covers(store), s.reads, s.writes, s.doubtful, s.failed, s.timeouts,
	    s.reconnects, s.in_flight, s.owed, s.last_rtt_us, s.server, s.error);
}

static void obey(char *text)
{
	char *word[6] = {0}, *rest = text;
	for (int i = 0; i < 6 && rest; i++)
		word[i] = strsep(&rest, " ");
	uintptr_t id = number(word[1]) % ASKS_MAX;
	if (strcmp(word[0], "put") == 0 && word[5])
		put(id, word[2],
		    (struct store_mark){.present = true,
		                        .timeline = (uint32_t)number(word[3]),
		                        .fork = {number(word[4])},
		                        .at = {number(word[5])}});
	else if (strcmp(word[0], "void") == 0 && word[2])
		put(id, word[2], (struct store_mark){0});
	else if (strcmp(word[0], "get") == 0 && word[2])
		get(id, word[2]);
	else if (strcmp(word[0], "flood") == 0 && word[3])
		flood(id, number(word[2]), word[3]);
	else if (strcmp(word[0], "forget") == 0 && asked[id])
		store_forget(asked[id]);
	else if (strcmp(word[0], "lag") == 0)
		store_raise_ttl(store, (int64_t)number(word[1]) * 1000);
	else if (strcmp(word[0], "cluster") == 0)
		store_set_cluster(store, number(word[1]));
	else if (strcmp(word[0], "stats") == 0)
		show_stats();
	else if (strcmp(word[0], "quit") == 0)
		net_loop_stop(loop);
	else
		say("what? %s\n", word[0]);
}

static void on_input(void *arg)
{
	ssize_t n = read(STDIN_FILENO, line + line_len, sizeof(line) - line_len);
	if (n <= 0) {
		if (n == 0 || errno != EINTR)
			net_loop_stop(loop);
		return;
	}
	line_len += (size_t)n;
	char *end;
	while ((end = memchr(line, '\n', line_len))) {
		*end = '\0';
		size_t used = (size_t)(end - line) + 1;
		obey(line);
		memmove(line, line + used, line_len - used);
		line_len -= used;
	}
}

static void copy(char *to, size_t cap, const char *from)
{
	(void)snprintf(to, cap, "%s", from);
}
#define COPY(to, from) copy(to, sizeof(to), from)

static void add_address(struct store_settings *s, const char *text)
{
	struct store_address *a = &s->addresses[s->address_count++];
	const char *colon = strrchr(text, ':');
	COPY(a->host, text);
	if (colon && text[0] != '/') {
		a->host[colon - text] = '\0';
		a->port = (int)number(colon + 1);
	}
}

static void set(struct store_settings *s, const char *name, const char *value)
{
	const struct {
		const char *name;
		int64_t *us;
	} times[] = {{"timeout", &s->command_timeout_us},
	             {"connect", &s->connect_timeout_us},
	             {"lease", &s->lease_us},
	             {"ttl", &s->ttl_us}};
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (strcmp(name, times[i].name) == 0)
			*times[i].us = (int64_t)number(value) * 1000;
	if (strcmp(name, "address") == 0)
		add_address(s, value);
	else if (strcmp(name, "master") == 0)
		COPY(s->sentinel_master, value);
	else if (strcmp(name, "user") == 0)
		COPY(s->user, value);
	else if (strcmp(name, "password") == 0)
		COPY(s->password, value);
	else if (strcmp(name, "sentinel_password") == 0)
		COPY(s->sentinel_password, value);
	else if (strcmp(name, "database") == 0)
		s->database = (int)number(value);
	else if (strcmp(name, "tls_ca") == 0)
		COPY(s->tls_ca_file, value);
	else if (strcmp(name, "tls_cert") == 0)
		COPY(s->tls_cert_file, value);
	else if (strcmp(name, "tls_key") == 0)
		COPY(s->tls_key_file, value);
	else if (strcmp(name, "tls_name") == 0)
		COPY(s->tls_server_name, value);
	else if (strcmp(name, "tls") == 0)
		s->tls = number(value) != 0;
	else if (strcmp(name, "max_in_flight") == 0)
		s->max_in_flight = (int)number(value);
	else if (strcmp(name, "max_owed") == 0)
		s->max_owed = (int)number(value);
}

int main(int argc, char **argv)
{
	struct store_settings settings = {0};
	uint8_t router[16];
	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		if (!value)
			return 2;
		*value = '\0';
		set(&settings, argv[i], value + 1);
	}
	net_random(router, sizeof(router));
	loop = net_loop_new();
	store = loop ? store_new(loop, &settings, router) : NULL;
	if (!store || !net_loop_watch_fd(loop, STDIN_FILENO, on_input, NULL))
		return 1;
	net_loop_run(loop);
	store_free(store);
	net_loop_free(loop);
	return 0;
}
