/* SPDX-License-Identifier: PostgreSQL */
#include "link.h"

#include <stdlib.h>

#define SHA_LEN 40
#define WORDS_MAX 12

/* What is said first, in this order, each with one reply; some steps may be left out. */
enum step {
	STEP_AUTH,
	STEP_SELECT,
	STEP_NAME,
	STEP_INFO,
	STEP_TIME,
	STEP_LOAD, /* and one more for each further script */
	STEPS = STEP_LOAD + SCRIPTS,
	STEP_MASTER = STEPS, /* of a sentinel */
};

struct link {
	struct net_loop *loop;
	const struct store_settings *settings;
	struct tls_context *tls;
	const struct link_handlers *handlers;
	void *owner;
	struct resp *resp;
	struct net_timer *limit;
	bool asks_sentinel, ready;
	uint8_t steps[STEPS + 1]; /* said and not answered: [next_step, step_count) */
	int next_step, step_count;
	char server[300];
	struct info info;
	struct tick tick;
	char sha[SCRIPTS][SHA_LEN];
	char why[256];
};

static void lose(struct link *k, const char *why)
{
	k->handlers->lost(k->owner, why);
}

void link_send(struct link *k, const struct slice *words, int count)
{
	resp_send(k->resp, words, count);
}

static void say(struct link *k, int step, const struct slice *words, int count)
{
	k->steps[k->step_count++] = (uint8_t)step;
	link_send(k, words, count);
}

static void say_auth(struct link *k, const char *user, const char *password)
{
	const struct slice words[] = {slice_str("AUTH"), slice_str(user), slice_str(password)};
	const struct slice words_of_old[] = {words[0], words[2]};
	if (password[0] == '\0')
		return;
	if (user[0] != '\0')
		say(k, STEP_AUTH, words, 3);
	else
		say(k, STEP_AUTH, words_of_old, 2);
}

static void say_select(struct link *k)
{
	char number[16];
	(void)snprintf(number, sizeof(number), "%d", k->settings->database);
	const struct slice words[] = {slice_str("SELECT"), slice_str(number)};
	if (k->settings->database != 0)
		say(k, STEP_SELECT, words, 2);
}

static void say_all_to_master(struct link *k)
{
	const struct slice name[] = {slice_str("CLIENT"), slice_str("SETNAME"), slice_str("tidemark")};
	const struct slice info[] = {slice_str("INFO")};
	const struct slice time[] = {slice_str("TIME")};
	say_auth(k, k->settings->user, k->settings->password);
	say_select(k);
	say(k, STEP_NAME, name, 3);
	say(k, STEP_INFO, info, 1);
	k->tick.sent_at_us = net_now_us();
	say(k, STEP_TIME, time, 1);
	for (int i = 0; i < SCRIPTS; i++) {
		const struct slice load[] = {slice_str("SCRIPT"), slice_str("LOAD"),
		                             slice_str(script_texts[i])};
		say(k, STEP_LOAD + i, load, 3);
	}
}

static void say_all_to_sentinel(struct link *k)
{
	const struct slice words[] = {slice_str("SENTINEL"), slice_str("GET-MASTER-ADDR-BY-NAME"),
	                              slice_str(k->settings->sentinel_master)};
	say_auth(k, "", k->settings->sentinel_password);
	say(k, STEP_MASTER, words, 3);
}

static void on_reply(void *owner, const struct resp_reply *reply);
static void on_lost(void *owner, const char *why);

static bool open_to(struct link *k, const char *host, int port)
{
	static const struct resp_handlers handlers = {.reply = on_reply, .lost = on_lost};
	const struct store_settings *s = k->settings;
	if (host[0] == '/')
		(void)snprintf(k->server, sizeof(k->server), "%s", host);
	else
		(void)snprintf(k->server, sizeof(k->server), "%s:%d", host, port);
	resp_close(k->resp);
	k->next_step = k->step_count = 0;
	k->resp = resp_connect(k->loop, host, host[0] == '/' ? 0 : port, s->connect_timeout_us, k->tls,
	                       s->tls_server_name[0] != '\0' ? s->tls_server_name : host, &handlers, k);
	return k->resp != NULL;
}

/* ---- replies ---- */

/* The capital letters at the beginning: "WRONGPASS", "ERR". */
static struct slice error_code(struct slice text)
{
	size_t n = 0;
	while (n < text.len && text.ptr[n] >= 'A' && text.ptr[n] <= 'Z')
		n++;
	return slice_of(text.ptr, n);
}

static bool begins(struct slice text, const char *with)
{
	return text.len >= strlen(with) && memcmp(text.ptr, with, strlen(with)) == 0;
}

/* What a server says of AUTH may repeat the password ("unknown command, with args beginning
 * with"): only its code is shown. A server that is full says so unasked. */
static const char *refusal(struct link *k, int step, struct slice text)
{
	if (step == STEP_AUTH && !begins(text, "ERR max number of clients"))
		(void)snprintf(k->why, sizeof(k->why),
		               "it refuses the user or the password (%.*s); check both",
		               SLICE_ARG(error_code(text)));
	else
		(void)snprintf(k->why, sizeof(k->why), "it says %.*s", SLICE_ARG(text));
	return k->why;
}

const char *link_judge_info(const struct resp_reply *reply, struct info *out)
{
	if (reply->top.type != RESP_TEXT || !info_parse(reply->top.text, out))
		return "its answer to INFO lacks what is needed; it must be Redis 5 or later";
	if (!out->is_master)
		return "it is a replica; marks are kept by a master";
	return out->loading ? "it is loading its data" : NULL;
}

static bool parse_number(struct slice text, int64_t max, int64_t *out)
{
	*out = 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] < '0' || text.ptr[i] > '9' || *out > max / 10)
			return false;
		*out = *out * 10 + (text.ptr[i] - '0');
	}
	return text.len > 0 && *out <= max;
}

#define SECONDS_MAX INT64_C(99999999999) /* fourteen digits of ms, see scripts.c */

static const char *learn_time(struct link *k, const struct resp_reply *reply)
{
	int64_t seconds, us;
	if (reply->count != 2 || !parse_number(reply->items[0].text, SECONDS_MAX, &seconds) ||
	    !parse_number(reply->items[1].text, 999999, &us))
		return "its answer to TIME is none";
	k->tick.time_ms = seconds * 1000 + us / 1000;
	k->tick.heard_at_us = net_now_us();
	return NULL;
}

static const char *learn_script(struct link *k, int script, const struct resp_reply *reply)
{
	if (reply->top.text.len != SHA_LEN)
		return "its answer to SCRIPT LOAD is none";
	memcpy(k->sha[script], reply->top.text.ptr, SHA_LEN);
	return NULL;
}

/* The sentinel told who is the master: the same again with that one. */
static const char *learn_master(struct link *k, const struct resp_reply *reply)
{
	char host[256];
	int64_t port;
	struct slice text = reply->items[0].text;
	if (reply->top.type == RESP_NIL)
		return "this sentinel does not know the master's name; check it";
	if (reply->count != 2 || text.len == 0 || text.len >= sizeof(host) || text.ptr[0] == '/' ||
	    memchr(text.ptr, 0, text.len) || !parse_number(reply->items[1].text, 65535, &port))
		return "what this sentinel says is no address";
	(void)snprintf(host, sizeof(host), "%.*s", SLICE_ARG(text));
	k->asks_sentinel = false;
	if (!open_to(k, host, (int)port))
		return "no memory or no descriptors";
	say_all_to_master(k);
	return NULL;
}

/* NULL, or why this server will not do. */
static const char *take_step(struct link *k, int step, const struct resp_reply *reply)
{
	/* A user who may not name the connection may be a good one. */
	bool forgiven = step == STEP_NAME && begins(reply->top.text, "NOPERM");
	if (reply->top.type == RESP_ERROR)
		return forgiven ? NULL : refusal(k, step, reply->top.text);
	switch (step) {
	case STEP_AUTH:
	case STEP_SELECT:
	case STEP_NAME:
		return NULL;
	case STEP_INFO:
		return link_judge_info(reply, &k->info);
	case STEP_TIME:
		return learn_time(k, reply);
	case STEP_MASTER:
		return learn_master(k, reply);
	default:
		return learn_script(k, step - STEP_LOAD, reply);
	}
}

static void on_reply(void *owner, const struct resp_reply *reply)
{
	struct link *k = owner;
	if (k->ready) {
		k->handlers->reply(k->owner, reply);
		return;
	}
	if (k->next_step == k->step_count) {
		lose(k, "an answer that nobody asked for");
		return;
	}
	const char *why = take_step(k, k->steps[k->next_step++], reply);
	if (why) {
		lose(k, why);
	} else if (k->next_step == k->step_count) {
		k->ready = true;
		net_timer_stop(k->limit);
		k->handlers->ready(k->owner);
	}
}

static void on_lost(void *owner, const char *why)
{
	lose(owner, why);
}

static void on_limit(void *arg)
{
	lose(arg, "no connection in time");
}

/* ---- the owner's side ---- */

struct link *link_open(struct net_loop *l, const struct store_settings *settings,
                       struct tls_context *tls, unsigned turn, const struct link_handlers *handlers,
                       void *owner)
{
	const struct store_address *a = &settings->addresses[turn % (unsigned)settings->address_count];
	struct link *k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->loop = l;
	k->settings = settings;
	k->tls = tls;
	k->handlers = handlers;
	k->owner = owner;
	k->asks_sentinel = settings->sentinel_master[0] != '\0';
	k->limit = net_timer_new(l, on_limit, k);
	if (!k->limit || !open_to(k, a->host, a->port)) {
		link_close(k);
		return NULL;
	}
	net_timer_start(k->limit, settings->connect_timeout_us);
	if (k->asks_sentinel)
		say_all_to_sentinel(k);
	else
		say_all_to_master(k);
	return k;
}

void link_close(struct link *k)
{
	if (!k)
		return;
	resp_close(k->resp);
	net_timer_free(k->limit);
	free(k);
}

void link_run(struct link *k, enum script script, const struct slice keys[SCRIPT_KEYS],
              const struct slice arguments[SCRIPT_ARGUMENTS])
{
	struct slice words[3 + SCRIPT_KEYS + SCRIPT_ARGUMENTS] = {
		slice_str("EVALSHA"), slice_of(k->sha[script], SHA_LEN), slice_str("3")};
	for (int i = 0; i < SCRIPT_KEYS; i++)
		words[3 + i] = keys[i];
	for (int i = 0; i < SCRIPT_ARGUMENTS; i++)
		words[3 + SCRIPT_KEYS + i] = arguments[i];
	link_send(k, words, 3 + SCRIPT_KEYS + SCRIPT_ARGUMENTS);
}

void link_flush(struct link *k)
{
	resp_flush(k->resp);
}

void link_read_now(struct link *k)
{
	resp_read_now(k->resp);
}

const char *link_server(const struct link *k)
{
	return k->server;
}

const struct info *link_info(const struct link *k)
{
	return &k->info;
}

const struct tick *link_tick(const struct link *k)
{
	return &k->tick;
}
