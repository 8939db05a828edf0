/* SPDX-License-Identifier: PostgreSQL */
#include "console.h"

#include <stdio.h>
#include <stdlib.h>

#include "act.h"
#include "show.h"
#include "table.h"

/* The buffer must still take ReadyForQuery and, if it comes to that, the error. */
#define RESULT_MARGIN 1024

/* ----------------------------------------------------------------- commands */

static void show_help(struct worker *w, struct buf *out);

static const struct command {
	const char *words[2]; /* the second may be NULL */
	void (*run)(struct worker *w, struct buf *out);
	const char *help;
} commands[] = {
	{{"SHOW", "HELP"}, show_help, "this list"},
	{{"SHOW", "FLEET"}, show_fleet, "the servers: role, position, lag, and why one is down"},
	{{"SHOW", "ROUTING"}, show_routing, "where statements went, and why"},
	{{"SHOW", "STORE"}, show_store, "where named sessions are kept, and how that goes"},
	{{"SHOW", "OBSERVE"}, show_observe, "what mode = observe has found, by shape of statement"},
	{{"SHOW", "NODE_POOLS"}, show_node_pools, "pools by database, user and node"},
	{{"SHOW", "STATS"}, show_stats, "traffic by database; times in microseconds"},
	{{"SHOW", "STATS_TOTALS"}, show_stats_totals, "the totals of SHOW STATS"},
	{{"SHOW", "STATS_AVERAGES"}, show_stats_averages, "the averages of SHOW STATS"},
	{{"SHOW", "TOTALS"}, show_totals, "SHOW STATS summed over databases"},
	{{"SHOW", "POOLS"}, show_pools, "pools by database and user"},
	{{"SHOW", "CLIENTS"}, show_clients, "client connections"},
	{{"SHOW", "SERVERS"}, show_servers, "server connections"},
	{{"SHOW", "SOCKETS"}, show_sockets, "both, with what lies in their buffers"},
	{{"SHOW", "ACTIVE_SOCKETS"}, show_active_sockets, "those of them whose buffers hold something"},
	{{"SHOW", "DATABASES"}, show_databases, "databases that were asked for since the start"},
	{{"SHOW", "USERS"}, show_users, "users of auth_file, and those who were here"},
	{{"SHOW", "LISTS"}, show_lists, "how many there are of what"},
	{{"SHOW", "CONFIG"}, show_config, "every option, its value and default"},
	{{"SHOW", "MEM"}, show_mem, "memory of the fixed-size objects"},
	{{"SHOW", "STATE"}, show_state, "active or paused"},
	{{"SHOW", "DNS_HOSTS"}, show_dns_hosts, "always empty: names are resolved when connecting"},
	{{"SHOW", "DNS_ZONES"}, show_dns_zones, "always empty"},
	{{"SHOW", "PEERS"}, show_peers, "always empty: there are no peers"},
	{{"SHOW", "PEER_POOLS"}, show_peer_pools, "always empty"},
	{{"SHOW", "VERSION"}, show_version, "this program's version"},
};

static void show_help(struct worker *w, struct buf *out)
{
	struct table t;
	TABLE_BEGIN(&t, out, NULL, "command", "meaning");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];
		table_format(&t, "%s%s%s", c->words[0], c->words[1] ? " " : "",
		             c->words[1] ? c->words[1] : "");
		table_text(&t, c->help);
		table_row_end(&t);
	}
	for (const struct act *a = acts; a->word; a++) {
		table_text(&t, a->word);
		table_text(&t, a->help);
		table_row_end(&t);
	}
	table_end(&t, "SHOW");
}

static bool is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Takes the first word off. */
static struct slice next_word(struct slice *text)
{
	size_t from = 0;
	while (from < text->len && is_space(text->ptr[from]))
		from++;
	size_t to = from;
	while (to < text->len && !is_space(text->ptr[to]))
		to++;
	struct slice word = slice_of(text->ptr + from, to - from);
	*text = slice_from(*text, to);
	return word;
}

/* Without white space at both ends and the semicolons behind. */
static struct slice trimmed(struct slice text)
{
	while (text.len > 0 && is_space(text.ptr[0]))
		text = slice_from(text, 1);
	while (text.len > 0 && (is_space(text.ptr[text.len - 1]) || text.ptr[text.len - 1] == ';'))
		text.len--;
	return text;
}

static const struct command *command_find(struct slice text)
{
	struct slice first = next_word(&text);
	struct slice second = next_word(&text);
	if (trimmed(text).len > 0)
		return NULL;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];
		if (slice_ieq_str(first, c->words[0]) &&
		    slice_ieq_str(second, c->words[1] ? c->words[1] : ""))
			return c;
	}
	return NULL;
}

/* `text` is trimmed, so whatever follows the word is its argument. */
static bool run_act(struct client *by, struct slice text, struct buf *out)
{
	struct slice word = next_word(&text);
	for (const struct act *a = acts; a->word; a++) {
		if (!slice_ieq_str(word, a->word))
			continue;
		a->run(by, trimmed(text), out);
		return true;
	}
	return false;
}

/* SHOW of what drivers ask any server for. */
static bool show_drivers(struct slice text, struct buf *out)
{
	static const char *const known[][2] = {
		{"client_encoding", "UTF8"},
		{"standard_conforming_strings", "on"},
		{"datestyle", "ISO, MDY"},
		{"timezone", "GMT"},
		{"default_transaction_isolation", "read committed"},
	};
	struct table t;
	(void)next_word(&text);
	text = trimmed(text);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!slice_ieq_str(text, known[i][0]))
			continue;
		table_begin(&t, out, NULL, &known[i][0], 1);
		table_text(&t, known[i][1]);
		table_row_end(&t);
		table_end(&t, "SHOW");
		return true;
	}
	return false;
}

static void say_unknown(struct slice text, struct buf *out)
{
	char shown[64], message[128];
	size_t n = 0;
	for (; n < text.len && n < sizeof(shown) - 1; n++)
		shown[n] = (char)(text.ptr[n] >= ' ' && text.ptr[n] < 0x7f ? text.ptr[n] : '?');
	shown[n] = '\0';
	snprintf(message, sizeof(message), "unknown console command \"%s%s\"", shown,
	         n < text.len ? "…" : "");
	write_error(out, "ERROR", "42601", message, "SHOW HELP lists the commands.");
}

/* SHOW is for everybody who was let in. */
static bool is_show(struct slice text)
{
	return slice_ieq_str(next_word(&text), "SHOW");
}

void console_run(void *arg, struct client *by, struct slice sql, struct buf *out)
{
	struct slice text = trimmed(sql);
	if (text.len == 0) {
		message_end(out, message_begin(out, BE_EMPTY_QUERY));
		return;
	}
	if (!by->console->admin && !is_show(text)) {
		write_error(out, "ERROR", "42501", "only admin_users may do that; stats_users may look",
		            NULL);
		return;
	}
	const struct command *c = command_find(text);
	if (!c) {
		if (slice_ieq_str(text, "SHOW FDS"))
			write_error(out, "ERROR", "0A000", "descriptors are not handed over", NULL);
		else if (!run_act(by, text, out) && !(is_show(text) && show_drivers(text, out)))
			say_unknown(text, out);
		return;
	}
	/* A result goes out as a whole or not at all. */
	struct buf result;
	size_t room = out->max - out->len;
	buf_init(&result, room > RESULT_MARGIN ? room - RESULT_MARGIN : 0);
	c->run(by->worker, &result);
	if (result.overflow)
		write_error(out, "ERROR", "54000", "the result is too large for the console",
		            "/metrics on the HTTP port has the totals.");
	else
		buf_append(out, result.data + result.start, result.len);
	buf_release(&result);
}
