/* SPDX-License-Identifier: PostgreSQL */
#include "patroni_answer.h"

#include <jansson.h>

#define PORT_DEFAULT 5432
#define NO_LENGTH SIZE_MAX

/* ================= HTTP (RFC 9112) ================= */

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* The line up to CR LF, which goes too. False: no such end is there. */
static bool next_line(struct slice *in, struct slice *line)
{
	const uint8_t *end = in->len > 0 ? memmem(in->ptr, in->len, "\r\n", 2) : NULL;
	if (!end)
		return false;
	*line = slice_of(in->ptr, (size_t)(end - in->ptr));
	*in = slice_from(*in, line->len + 2);
	return true;
}

/* HTTP/1.x NNN reason */
static bool parse_status(struct slice line, int *status)
{
	static const char version[] = "HTTP/1.";
	size_t at = sizeof(version) - 1;
	const uint8_t *p = line.ptr;
	if (line.len < at + 5 || memcmp(p, version, at) != 0)
		return false;
	p += at;
	if (!is_digit(p[0]) || p[1] != ' ' || !is_digit(p[2]) || !is_digit(p[3]) || !is_digit(p[4]) ||
	    (line.len > at + 5 && p[5] != ' '))
		return false;
	*status = (p[2] - '0') * 100 + (p[3] - '0') * 10 + (p[4] - '0');
	return *status >= 100 && *status <= 599;
}

static struct slice trimmed(struct slice s)
{
	while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
		s = slice_from(s, 1);
	while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static bool parse_length(struct slice s, size_t *length)
{
	size_t n = 0;
	for (size_t i = 0; i < s.len; i++) {
		if (!is_digit(s.ptr[i]))
			return false;
		n = n * 10 + (size_t)(s.ptr[i] - '0');
		if (n > PATRONI_BODY_MAX)
			return false;
	}
	*length = n;
	return s.len > 0;
}

/* name: value. A line that begins with a blank would go on with the one before it: nobody writes
 * that any more, and it is a way to hide a length. */
static bool parse_field(struct slice line, size_t *length)
{
	const uint8_t *colon = memchr(line.ptr, ':', line.len);
	if (!colon || colon == line.ptr)
		return false;
	struct slice name = slice_of(line.ptr, (size_t)(colon - line.ptr));
	for (size_t i = 0; i < name.len; i++) {
		if (name.ptr[i] <= ' ' || name.ptr[i] >= 0x7f)
			return false;
	}
	if (slice_ieq_str(name, "Transfer-Encoding"))
		return false;
	if (!slice_ieq_str(name, "Content-Length"))
		return true;
	return *length == NO_LENGTH && parse_length(trimmed(slice_from(line, name.len + 1)), length);
}

/* `in` goes past the head. */
static enum parse_result parse_head(struct slice *in, int *status, size_t *length)
{
	struct slice line, rest = *in;
	*length = NO_LENGTH;
	if (!next_line(&rest, &line))
		return in->len > PATRONI_HEAD_MAX ? PARSE_INVALID : PARSE_PARTIAL;
	if (!parse_status(line, status))
		return PARSE_INVALID;
	while (next_line(&rest, &line)) {
		if (in->len - rest.len > PATRONI_HEAD_MAX)
			return PARSE_INVALID;
		if (line.len == 0) {
			*in = rest;
			return PARSE_OK;
		}
		if (!parse_field(line, length))
			return PARSE_INVALID;
	}
	return in->len > PATRONI_HEAD_MAX ? PARSE_INVALID : PARSE_PARTIAL;
}

static enum parse_result parse_body(struct slice in, bool ended, size_t length)
{
	if (length == NO_LENGTH) {
		if (in.len > PATRONI_BODY_MAX)
			return PARSE_INVALID;
		return ended ? PARSE_OK : PARSE_PARTIAL;
	}
	if (in.len > length)
		return PARSE_INVALID;
	return in.len == length ? PARSE_OK : PARSE_PARTIAL;
}

enum parse_result http_answer_parse(struct slice in, bool ended, struct http_answer *out)
{
	size_t length;
	*out = (struct http_answer){0};
	enum parse_result r = parse_head(&in, &out->status, &length);
	if (r == PARSE_OK) {
		out->body = in;
		r = parse_body(in, ended, length);
	}
	return r == PARSE_PARTIAL && ended ? PARSE_INVALID : r;
}

/* ================= the cluster ================= */

static bool is_role(const json_t *role, const char *word)
{
	return strcmp(json_string_value(role), word) == 0;
}

/* Without a port the address that Patroni was given had none: it is PostgreSQL's own. */
static bool take_address(const json_t *member, struct patroni_cluster *out)
{
	const json_t *host = json_object_get(member, "host"), *port = json_object_get(member, "port");
	size_t len = json_string_length(host);
	json_int_t number = port ? json_integer_value(port) : PORT_DEFAULT;
	if (len == 0 || len >= sizeof(out->host) || (port && !json_is_integer(port)) || number < 1 ||
	    number > 65535)
		return false;
	memcpy(out->host, json_string_value(host), len + 1);
	out->port = (int)number;
	return true;
}

static bool take_members(const json_t *members, struct patroni_cluster *out, const char **why)
{
	for (size_t i = 0; i < json_array_size(members); i++) {
		const json_t *member = json_array_get(members, i);
		const json_t *role = json_object_get(member, "role");
		*why = "a member without a role";
		if (!json_is_string(role))
			return false;
		if (!is_role(role, "leader") && !is_role(role, "master"))
			continue;
		*why = "two leaders";
		if (out->has_leader)
			return false;
		*why = "a leader without host and port";
		if (!take_address(member, out))
			return false;
		out->has_leader = true;
	}
	return true;
}

static bool take_cluster(const json_t *root, struct patroni_cluster *out, const char **why)
{
	const json_t *members = json_object_get(root, "members");
	const json_t *pause = json_object_get(root, "pause");
	*why = "not a cluster with its members";
	if (!json_is_array(members) || (pause && !json_is_boolean(pause)))
		return false;
	out->paused = json_is_true(pause);
	return take_members(members, out, why);
}

bool patroni_cluster_parse(struct slice body, struct patroni_cluster *out, const char **why)
{
	*out = (struct patroni_cluster){0};
	*why = "not JSON";
	/* Nests up to 2048 deep, no text with a NUL in it, no number that is too large. */
	json_t *root = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
	bool good = root && take_cluster(root, out, why);
	json_decref(root);
	if (!good)
		*out = (struct patroni_cluster){0};
	return good;
}
