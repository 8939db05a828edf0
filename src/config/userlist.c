/* SPDX-License-Identifier: PostgreSQL */
#include "userlist.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "pgwire/scram.h"

#define FILE_MAX (4 * 1024 * 1024)

struct reader {
	struct slice rest; /* of the current line */
	int line;
	bool ok;
	userlist_fault_fn fn;
	void *arg;
};

static bool fault(struct reader *r, const char *what)
{
	r->ok = false;
	r->fn(r->arg, r->line, what);
	return false;
}

static void skip_space(struct reader *r)
{
	while (r->rest.len && (r->rest.ptr[0] == ' ' || r->rest.ptr[0] == '\t'))
		r->rest = slice_from(r->rest, 1);
}

/* A quoted string; two quotes are one. */
static bool take_quoted(struct reader *r, char *out, size_t cap, const char *what)
{
	size_t n = 0;

	skip_space(r);
	if (r->rest.len == 0 || r->rest.ptr[0] != '"')
		return fault(r, "expected \"name\" \"secret\", both in double quotes");
	for (r->rest = slice_from(r->rest, 1); r->rest.len; r->rest = slice_from(r->rest, 1)) {
		if (r->rest.ptr[0] == '"') {
			r->rest = slice_from(r->rest, 1);
			if (r->rest.len == 0 || r->rest.ptr[0] != '"') {
				out[n] = '\0';
				return true;
			}
		}
		if (n + 1 >= cap)
			return fault(r, what);
		if (r->rest.ptr[0] == '\0')
			return fault(r, "a zero byte cannot be part of a name or secret");
		out[n++] = (char)r->rest.ptr[0];
	}
	return fault(r, "a closing double quote is missing; a quote inside is doubled: \"\"");
}

static bool check_secret(struct reader *r, const char *secret)
{
	struct scram_secret parsed;

	if (strncmp(secret, SCRAM_MECHANISM "$", strlen(SCRAM_MECHANISM "$")) == 0 &&
	    !scram_secret_parse(slice_str(secret), &parsed))
		return fault(r,
		             "a SCRAM-SHA-256 verifier that cannot be read; copy "
		             "pg_authid.rolpassword as it is");
	return true;
}

static bool take_line(struct reader *r, struct user_entry *u)
{
	if (!take_quoted(r, u->name, sizeof(u->name), "the name is longer than 63 bytes") ||
	    !take_quoted(r, u->secret, sizeof(u->secret), "the secret is longer than 255 bytes"))
		return false;
	if (u->name[0] == '\0')
		return fault(r, "the name is empty");
	return check_secret(r, u->secret);
}

static bool is_comment(struct slice line)
{
	return line.len == 0 || line.ptr[0] == ';' || line.ptr[0] == '#';
}

/* The next line without its end; false at the end of the text. */
static bool next_line(struct slice *text, struct reader *r)
{
	if (text->len == 0)
		return false;
	const uint8_t *end = memchr(text->ptr, '\n', text->len);
	size_t len = end ? (size_t)(end - text->ptr) : text->len;
	r->rest = slice_of(text->ptr, len);
	if (len && r->rest.ptr[len - 1] == '\r')
		r->rest.len--;
	*text = slice_from(*text, len + 1);
	r->line++;
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct user_entry *)a)->name, ((const struct user_entry *)b)->name);
}

static void find_twins(struct reader *r, const struct user_entry *users, int count)
{
	for (int i = 1; i < count; i++) {
		char what[128];
		if (strcmp(users[i - 1].name, users[i].name) != 0)
			continue;
		r->line = 0;
		snprintf(what, sizeof(what), "user \"%s\" is listed twice", users[i].name);
		fault(r, what);
	}
}

bool userlist_parse(struct slice text, struct user_entry **users, int *count, userlist_fault_fn fn,
                    void *arg)
{
	struct reader r = {.ok = true, .fn = fn, .arg = arg};
	struct user_entry *list = NULL;
	int n = 0, cap = 0;

	while (next_line(&text, &r)) {
		skip_space(&r);
		if (is_comment(r.rest))
			continue;
		if (n == SETTINGS_USERS_MAX) {
			fault(&r, "too many users; at most 4096");
			break;
		}
		if (n == cap) {
			cap = cap ? 2 * cap : 16;
			struct user_entry *grown = realloc(list, (size_t)cap * sizeof(*list));
			if (!grown) {
				fault(&r, "out of memory");
				break;
			}
			list = grown;
		}
		memset(&list[n], 0, sizeof(list[n]));
		if (take_line(&r, &list[n]))
			n++;
	}
	if (n)
		qsort(list, (size_t)n, sizeof(*list), by_name);
	find_twins(&r, list, n);
	*users = list;
	*count = n;
	return r.ok;
}

bool userlist_load(const char *path, struct user_entry **users, int *count, userlist_fault_fn fn,
                   void *arg)
{
	bool ok = false;
	char *text = NULL;
	FILE *file = fopen(path, "re");

	*users = NULL;
	*count = 0;
	if (!file) {
		fn(arg, 0, strerror(errno));
		return false;
	}
	text = malloc(FILE_MAX + 1);
	size_t len = text ? fread(text, 1, FILE_MAX + 1, file) : 0;
	if (!text)
		fn(arg, 0, "out of memory");
	else if (ferror(file))
		fn(arg, 0, "cannot be read");
	else if (len > FILE_MAX)
		fn(arg, 0, "larger than 4 MB");
	else
		ok = userlist_parse(slice_of(text, len), users, count, fn, arg);
	if (text)
		explicit_bzero(text, len);
	free(text);
	fclose(file);
	return ok;
}
