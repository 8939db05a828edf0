/* SPDX-License-Identifier: PostgreSQL
 *
 * Every vector of tests/vectors/token.json, through the public functions.
 */
#include "tidemark.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

static const char *vector_name; /* the one that runs, for what fails */

#define check(condition)                                     \
	do {                                                     \
		if (!(condition))                                    \
			fail_msg("\"%s\": %s", vector_name, #condition); \
	} while (0)

static json_t *field(json_t *v, const char *name)
{
	json_t *f = json_object_get(v, name);
	if (!f)
		fail_msg("\"%s\" has no \"%s\"", vector_name, name);
	return f;
}

static const char *text_of(json_t *v, const char *name)
{
	check(json_is_string(field(v, name)));
	return json_string_value(field(v, name));
}

static int64_t number_of(json_t *v, const char *name)
{
	check(json_is_integer(field(v, name)));
	return json_integer_value(field(v, name));
}

static uint64_t decimal_of(json_t *v, const char *name)
{
	return strtoull(text_of(v, name), NULL, 10);
}

/* As a file. */
static enum tidemark_status load_lines(struct tidemark_keys *k, json_t *lines)
{
	char file[4096];
	size_t i, n = 0;
	json_t *line;
	json_array_foreach(lines, i, line)
	{
		size_t len = json_string_length(line);
		check(n + len + 1 < sizeof(file));
		memcpy(file + n, json_string_value(line), len);
		n += len;
		file[n++] = '\n';
	}
	return tidemark_keys_load(k, file, n, NULL);
}

static struct tidemark_keys keys_of(json_t *v)
{
	struct tidemark_keys k = TIDEMARK_INIT;
	enum tidemark_status s = load_lines(&k, field(v, "keys"));
	check(s == TIDEMARK_OK || json_array_size(field(v, "keys")) == 0);
	return k;
}

static struct tidemark_token token_of(json_t *v)
{
	struct tidemark_token t = TIDEMARK_INIT;
	size_t i;
	json_t *b;
	if (json_is_true(field(v, "primary"))) {
		check(tidemark_token_verify(&t, "primary", NULL, NULL, 0, 0) == TIDEMARK_PRIMARY);
		check(tidemark_token_add(&t, 1, 1, 0, 1, number_of(v, "issued")) == TIDEMARK_OK);
	}
	json_array_foreach(field(v, "branches"), i, b)
		check(tidemark_token_add(&t, decimal_of(b, "cluster"), (uint32_t)number_of(b, "timeline"),
	                             decimal_of(b, "fork"), decimal_of(b, "position"),
	                             number_of(v, "issued")) == TIDEMARK_OK);
	return t;
}

/* Is `t` what `v` says? */
static void check_token(const struct tidemark_token *t, json_t *v)
{
	json_t *branches = field(v, "branches"), *b;
	size_t i;
	check(tidemark_token_is_primary(t) == json_is_true(field(v, "primary")));
	check((size_t)tidemark_token_branch_count(t) == json_array_size(branches));
	check(tidemark_token_issued(t) == number_of(v, "issued"));
	json_array_foreach(branches, i, b)
	{
		struct tidemark_branch is;
		check(tidemark_token_branch(t, (int)i, &is) == TIDEMARK_OK);
		check(is.cluster == decimal_of(b, "cluster") && is.timeline == number_of(b, "timeline") &&
		      is.fork == decimal_of(b, "fork") && is.position == decimal_of(b, "position"));
	}
}

/* ================= running them ================= */

static void run_keys(json_t *v)
{
	struct tidemark_keys k = TIDEMARK_INIT;
	struct tidemark_token t = TIDEMARK_INIT;
	char text[TIDEMARK_TOKEN_SIZE];
	json_t *ids = field(v, "ids");
	enum tidemark_status s = load_lines(&k, field(v, "lines"));
	if (!json_is_true(field(v, "ok"))) {
		check(s == TIDEMARK_BAD_KEY);
		return;
	}
	check(s == (json_array_size(ids) ? TIDEMARK_OK : TIDEMARK_NO_KEY));
	if (s != TIDEMARK_OK)
		return;
	check(tidemark_token_add(&t, 1, 1, 0, 1, 0) == TIDEMARK_OK);
	check(tidemark_token_sign(&t, &k, NULL, text, sizeof(text)) == TIDEMARK_OK);
	check(tidemark_token_parse(&t, text) == TIDEMARK_OK);
	check(tidemark_token_key_id(&t) == json_integer_value(json_array_get(ids, 0)));
	/* Those that are there are taken, and no others. */
	for (int id = 0; id < 256 && json_array_size(ids) < TIDEMARK_KEYS_MAX; id++) {
		struct tidemark_keys more = k;
		bool there = false;
		size_t i;
		json_t *item;
		json_array_foreach(ids, i, item) there = there || json_integer_value(item) == id;
		check(tidemark_keys_add(&more, (uint8_t)id, "0123456789abcdef", 16) ==
		      (there ? TIDEMARK_BAD_KEY : TIDEMARK_OK));
	}
}

static void run_sign(json_t *v)
{
	struct tidemark_keys k = keys_of(v);
	struct tidemark_token t = token_of(field(v, "token"));
	char text[TIDEMARK_TOKEN_SIZE];
	enum tidemark_status s = tidemark_token_sign(&t, &k, text_of(v, "session"), text, sizeof(text));
	check(s == TIDEMARK_OK || (s == TIDEMARK_NO_KEY && json_array_size(field(v, "keys")) == 0));
	check(strcmp(text, text_of(v, "text")) == 0);
}

static enum tidemark_status status_named(const char *verdict)
{
	static const struct {
		const char *name;
		enum tidemark_status status;
	} all[] = {
		{"ok", TIDEMARK_OK},           {"malformed", TIDEMARK_MALFORMED},
		{"forged", TIDEMARK_FORGED},   {"bound", TIDEMARK_BOUND},
		{"expired", TIDEMARK_EXPIRED}, {"future", TIDEMARK_FUTURE},
		{"primary", TIDEMARK_PRIMARY},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (strcmp(all[i].name, verdict) == 0)
			return all[i].status;
	}
	fail_msg("\"%s\": verdict %s", vector_name, verdict);
	return TIDEMARK_OK;
}

static void run_verify(json_t *v)
{
	struct tidemark_keys k = keys_of(v);
	struct tidemark_token t;
	const char *text = text_of(v, "text");
	/* Here every text is a list; that nothing, or a list, is not one token cannot be asked. */
	if (strcmp(text_of(v, "op"), "verify") == 0 && (text[0] == '\0' || strchr(text, ',')))
		return;
	enum tidemark_status s = tidemark_token_verify(&t, text, &k, text_of(v, "session"),
	                                               number_of(v, "now"), number_of(v, "ttl"));
	check(s == status_named(text_of(v, "verdict")));
	if (s == TIDEMARK_OK)
		check_token(&t, field(v, "token"));
	else
		check(tidemark_token_is_primary(&t) && tidemark_token_branch_count(&t) == 0);
}

static void run_merge(json_t *v)
{
	struct tidemark_token t = TIDEMARK_INIT;
	size_t i;
	json_t *item;
	json_array_foreach(field(v, "tokens"), i, item)
	{
		struct tidemark_token one = token_of(item);
		tidemark_token_merge(&t, &one);
	}
	check_token(&t, field(v, "token"));
}

static size_t texts_of(json_t *v, const char *texts[TIDEMARK_MERGE_MAX])
{
	size_t i;
	json_t *item;
	check(json_array_size(field(v, "texts")) <= TIDEMARK_MERGE_MAX);
	json_array_foreach(field(v, "texts"), i, item) texts[i] = json_string_value(item);
	return json_array_size(field(v, "texts"));
}

static void run_merge_signed(json_t *v)
{
	struct tidemark_keys k = keys_of(v);
	const char *texts[TIDEMARK_MERGE_MAX];
	char out[TIDEMARK_TOKEN_SIZE];
	size_t n = texts_of(v, texts);
	check(tidemark_merge_signed(texts, n, &k, text_of(v, "session"), number_of(v, "now"),
	                            number_of(v, "ttl"), out, sizeof(out)) == TIDEMARK_OK);
	check(strcmp(out, text_of(v, "text")) == 0);
}

static void run_covers(json_t *v)
{
	struct tidemark_token a = token_of(field(v, "a")), b = token_of(field(v, "b"));
	check(tidemark_token_covers(&a, &b) == json_is_true(field(v, "covers")));
}

static void run_merge_list(json_t *v)
{
	const char *texts[TIDEMARK_MERGE_MAX];
	char out[TIDEMARK_LIST_SIZE];
	size_t n = texts_of(v, texts);
	check(tidemark_merge(texts, n, out, sizeof(out)) == TIDEMARK_OK);
	check(strcmp(out, text_of(v, "text")) == 0);
}

static const struct {
	const char *op;
	void (*run)(json_t *v);
	int at_least; /* so that an empty file does not pass */
} ops[] = {
	{"keys", run_keys, 15},     {"sign", run_sign, 15},
	{"verify", run_verify, 80}, {"verify_list", run_verify, 15},
	{"merge", run_merge, 10},   {"merge_signed", run_merge_signed, 5},
	{"covers", run_covers, 10}, {"merge_list", run_merge_list, 15},
};
#define OPS (sizeof(ops) / sizeof(ops[0]))

static void every_vector_holds(void **state)
{
	int seen[OPS] = {0};
	json_error_t error;
	json_t *vectors = json_load_file(TM_SOURCE_ROOT "/tests/vectors/token.json", 0, &error), *v;
	size_t i;
	if (!vectors)
		fail_msg("token.json:%d: %s", error.line, error.text);
	json_array_foreach(vectors, i, v)
	{
		size_t op = 0;
		vector_name = "a vector";
		vector_name = text_of(v, "name");
		while (op < OPS && strcmp(ops[op].op, text_of(v, "op")) != 0)
			op++;
		check(op < OPS);
		ops[op].run(v);
		seen[op]++;
	}
	for (size_t op = 0; op < OPS; op++) {
		vector_name = ops[op].op;
		check(seen[op] >= ops[op].at_least);
	}
	json_decref(vectors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_vector_holds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
