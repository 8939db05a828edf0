/* SPDX-License-Identifier: PostgreSQL */
#include "conninfo.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "options.h"

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_space(const char *p)
{
	while (is_space(*p))
		p++;
	return p;
}

/* keyword and "="; the keyword ends at white space or "=". NULL with `why`. */
static const char *take_key(const char *p, char *key, size_t key_cap, char *why, size_t cap)
{
	size_t len = strcspn(p, "= \t\r\n");

	if (len == 0 || len >= key_cap) {
		snprintf(why, cap, "expected keyword=value, found \"%.30s\"", p);
		return NULL;
	}
	memcpy(key, p, len);
	key[len] = '\0';
	p = skip_space(p + len);
	if (*p != '=') {
		snprintf(why, cap, "\"%s\" has no value; expected %s=…", key, key);
		return NULL;
	}
	return skip_space(p + 1);
}

/* A bare value ends at white space, a quoted one at its quote; backslash takes the next byte as it
 * is in both. NULL with `why`. */
static const char *take_value(const char *p, const char *key, char *value, char *why, size_t cap)
{
	bool quoted = *p == '\'';
	size_t n = 0;

	if (quoted)
		p++;
	while (*p && (quoted ? *p != '\'' : !is_space(*p))) {
		if (*p == '\\' && p[1])
			p++;
		if (n + 1 >= CONNINFO_VALUE_MAX) {
			snprintf(why, cap, "the value of %s is too long", key);
			return NULL;
		}
		value[n++] = *p++;
	}
	value[n] = '\0';
	if (!quoted)
		return p;
	if (*p != '\'') {
		snprintf(why, cap, "the value of %s has no closing quote", key);
		return NULL;
	}
	return p + 1;
}

bool conninfo_pairs(const char *text, conninfo_fn fn, void *arg, char *why, size_t cap)
{
	char key[64];
	char value[CONNINFO_VALUE_MAX];
	bool ok = true;

	for (const char *p = skip_space(text); ok && *p; p = skip_space(p)) {
		p = take_key(p, key, sizeof(key), why, cap);
		if (p)
			p = take_value(p, key, value, why, cap);
		if (!p) {
			ok = false;
			break;
		}
		ok = fn(arg, key, value, why, cap);
	}
	explicit_bzero(value, sizeof(value));
	return ok;
}

static bool put(char *into, size_t size, const char *key, const char *value, char *why, size_t cap)
{
	size_t len = strlen(value);

	if (len >= size) {
		snprintf(why, cap, "%s is longer than %zu bytes", key, size - 1);
		return false;
	}
	memcpy(into, value, len + 1);
	return true;
}

static bool put_host(struct watch_node *node, const char *key, const char *value, char *why,
                     size_t cap)
{
	if (*value == '\0' || strchr(value, ',')) {
		snprintf(why, cap, "%s must be one host; each server is a node of its own", key);
		return false;
	}
	return put(node->host, sizeof(node->host), key, value, why, cap);
}

static bool put_port(struct watch_node *node, const char *value, char *why, size_t cap)
{
	char *end;
	long port = isdigit((unsigned char)*value) ? strtol(value, &end, 10) : 0;

	if (port < 1 || port > 65535 || *end) {
		snprintf(why, cap, "port=%s is not a port; expected 1 to 65535", value);
		return false;
	}
	node->port = (int)port;
	return true;
}

static bool put_weight(struct watch_node *node, const char *value, char *why, size_t cap)
{
	char *end;
	long weight = isdigit((unsigned char)*value) ? strtol(value, &end, 10) : -1;

	if (weight < 0 || weight > HEALTH_WEIGHT_MAX || *end) {
		snprintf(why, cap, "weight=%.40s: expected a number from 0 to %d", value,
		         HEALTH_WEIGHT_MAX);
		return false;
	}
	node->weight = (int)weight;
	return true;
}

static bool put_sslmode(struct watch_node *node, const char *value, char *why, size_t cap)
{
	int word;
	char detail[160];

	if (!option_parse_word(words_sslmode, value, &word, detail, sizeof(detail))) {
		snprintf(why, cap, "sslmode=%.40s: %s", value, detail);
		return false;
	}
	node->sslmode = (enum sslmode)word;
	node->has_sslmode = true;
	return true;
}

static bool put_sslnegotiation(struct watch_node *node, const char *value, char *why, size_t cap)
{
	node->tls_direct = strcmp(value, "direct") == 0;
	if (node->tls_direct || strcmp(value, "postgres") == 0)
		return true;
	snprintf(why, cap, "sslnegotiation=%.40s: expected postgres or direct", value);
	return false;
}

static bool put_channel_binding(struct watch_node *node, const char *value, char *why, size_t cap)
{
	static const char *const words[] = {
		[CHANNEL_BINDING_PREFER] = "prefer",
		[CHANNEL_BINDING_REQUIRE] = "require",
		[CHANNEL_BINDING_DISABLE] = "disable",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(value, words[i]) == 0) {
			node->channel_binding = (enum channel_binding)i;
			return true;
		}
	}
	snprintf(why, cap, "channel_binding=%.40s: expected disable, prefer or require", value);
	return false;
}

static bool node_pair(void *arg, const char *key, const char *value, char *why, size_t cap)
{
	struct watch_node *node = arg;

	if (strcmp(key, "host") == 0 || strcmp(key, "hostaddr") == 0)
		return put_host(node, key, value, why, cap);
	if (strcmp(key, "port") == 0)
		return put_port(node, value, why, cap);
	if (strcmp(key, "user") == 0)
		return put(node->user, sizeof(node->user), key, value, why, cap);
	if (strcmp(key, "dbname") == 0)
		return put(node->database, sizeof(node->database), key, value, why, cap);
	if (strcmp(key, "password") == 0) {
		node->secret_kind = *value ? SECRET_PLAIN : SECRET_NONE;
		return put(node->secret, sizeof(node->secret), key, value, why, cap);
	}
	if (strcmp(key, "sslmode") == 0)
		return put_sslmode(node, value, why, cap);
	if (strcmp(key, "sslnegotiation") == 0)
		return put_sslnegotiation(node, value, why, cap);
	if (strcmp(key, "channel_binding") == 0)
		return put_channel_binding(node, value, why, cap);
	if (strcmp(key, "sslrootcert") == 0)
		return put(node->sslrootcert, sizeof(node->sslrootcert), key, value, why, cap);
	if (strcmp(key, "sslcert") == 0)
		return put(node->sslcert, sizeof(node->sslcert), key, value, why, cap);
	if (strcmp(key, "sslkey") == 0)
		return put(node->sslkey, sizeof(node->sslkey), key, value, why, cap);
	if (strcmp(key, "weight") == 0)
		return put_weight(node, value, why, cap);
	snprintf(why, cap,
	         "unknown keyword \"%s\"; expected host, port, user, password, dbname, sslmode, "
	         "sslrootcert, sslcert, sslkey, sslnegotiation, channel_binding or weight",
	         key);
	return false;
}

/* ---- postgresql://user:password@host:port/dbname?key=value&… ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes the percent signs out of `part` and hands it on as a pair. An empty part is no pair. */
static bool uri_part(struct watch_node *node, const char *key, struct slice part, char *why,
                     size_t cap)
{
	char value[CONNINFO_VALUE_MAX];
	size_t n = 0;
	bool ok;

	if (part.len == 0)
		return true;
	for (size_t i = 0; i < part.len; i++) {
		char c = (char)part.ptr[i];
		if (n + 1 >= sizeof(value)) {
			snprintf(why, cap, "the value of %s is too long", key);
			return false;
		}
		if (c == '%') {
			int high = i + 2 < part.len ? hex_digit((char)part.ptr[i + 1]) : -1;
			int low = high >= 0 ? hex_digit((char)part.ptr[i + 2]) : -1;
			if (low < 0 || (high == 0 && low == 0)) {
				snprintf(why, cap, "%s has a %% that is not followed by two hex digits", key);
				return false;
			}
			c = (char)(high * 16 + low);
			i += 2;
		}
		value[n++] = c;
	}
	value[n] = '\0';
	ok = node_pair(node, key, value, why, cap);
	explicit_bzero(value, sizeof(value));
	return ok;
}

/* Cuts `s` at the first `c`: the part before it, and the rest behind it in *rest. Without one, all
 * of it and an empty rest. */
static struct slice cut(struct slice s, char c, struct slice *rest)
{
	const uint8_t *at = s.len ? memchr(s.ptr, c, s.len) : NULL;
	size_t len = at ? (size_t)(at - s.ptr) : s.len;

	*rest = at ? slice_from(s, len + 1) : (struct slice){0};
	return slice_of(s.ptr, len);
}

static bool uri_host(struct watch_node *node, struct slice s, char *why, size_t cap)
{
	struct slice host, port;

	if (s.len && s.ptr[0] == '[') {
		host = cut(slice_from(s, 1), ']', &port);
		if (port.len && port.ptr[0] != ':') {
			snprintf(why, cap, "expected :PORT behind ]");
			return false;
		}
		port = slice_from(port, 1);
	} else {
		host = cut(s, ':', &port);
	}
	return uri_part(node, "host", host, why, cap) && uri_part(node, "port", port, why, cap);
}

static bool uri_query(struct watch_node *node, struct slice query, char *why, size_t cap)
{
	while (query.len) {
		char key[64];
		struct slice value;
		struct slice pair = cut(query, '&', &query);
		struct slice name = cut(pair, '=', &value);
		if (name.len >= sizeof(key)) {
			snprintf(why, cap, "a keyword of the URI is too long");
			return false;
		}
		snprintf(key, sizeof(key), "%.*s", SLICE_ARG(name));
		if (!uri_part(node, key, value, why, cap))
			return false;
	}
	return true;
}

static bool parse_uri(struct watch_node *node, struct slice s, char *why, size_t cap)
{
	struct slice query, path, password;
	struct slice body = cut(s, '?', &query);
	struct slice authority = cut(body, '/', &path);
	struct slice at;
	struct slice user = cut(authority, '@', &at);

	if (user.len == authority.len) /* no "@": it was the host */
		return uri_host(node, authority, why, cap) && uri_part(node, "dbname", path, why, cap) &&
		       uri_query(node, query, why, cap);
	user = cut(user, ':', &password);
	return uri_part(node, "user", user, why, cap) &&
	       uri_part(node, "password", password, why, cap) && uri_host(node, at, why, cap) &&
	       uri_part(node, "dbname", path, why, cap) && uri_query(node, query, why, cap);
}

static const char *uri_body(const char *text)
{
	static const char *const schemes[] = {"postgresql://", "postgres://"};

	for (int i = 0; i < 2; i++) {
		if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
			return text + strlen(schemes[i]);
	}
	return NULL;
}

bool conninfo_node(const char *text, struct watch_node *node, char *why, size_t cap)
{
	const char *uri = uri_body(text);

	snprintf(node->host, sizeof(node->host), "127.0.0.1");
	node->port = 5432;
	snprintf(node->user, sizeof(node->user), "postgres");
	snprintf(node->database, sizeof(node->database), "postgres");
	node->secret_kind = SECRET_NONE;
	node->secret[0] = '\0';
	node->weight = 1;
	if (uri)
		return parse_uri(node, slice_str(uri), why, cap);
	return conninfo_pairs(text, node_pair, node, why, cap);
}
