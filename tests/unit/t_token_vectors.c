/* SPDX-License-Identifier: PostgreSQL
 *
 * Every vector of tests/vectors/token.json; its generator says what they mean.
 */
#include "consistency/token.h"

#include <jansson.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <setjmp.h>
#include <cmocka.h>

static const char *vector_name; /* the one that runs, for what fails */

#define check(condition)                                     \
	do {                                                     \
		if (!(condition))                                    \
			fail_msg("\"%s\": %s", vector_name, #condition); \
	} while (0)

/* ================= reading them ================= */

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

static struct slice slice_field(json_t *v, const char *name)
{
	return slice_str(text_of(v, name));
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

static struct token_keys keys_of(json_t *v)
{
	struct token_keys k = {0};
	size_t i;
	json_t *line;
	json_array_foreach(field(v, "keys"), i, line)
		check(token_keys_add_line(&k, slice_str(json_string_value(line))));
	return k;
}

/* As it is written, not as token_add() would have it. */
static struct token token_of(json_t *v)
{
	struct token t = {.primary = json_is_true(field(v, "primary")),
	                  .issued_s = number_of(v, "issued")};
	size_t i;
	json_t *b;
	json_array_foreach(field(v, "branches"), i, b)
	{
		check(t.count < TOKEN_BRANCHES_MAX);
		t.branches[t.count++] = (struct token_branch){decimal_of(b, "cluster"),
		                                              (uint32_t)number_of(b, "timeline"),
		                                              {decimal_of(b, "fork")},
		                                              {decimal_of(b, "position")}};
	}
	return t;
}

static bool same(const struct token *a, const struct token *b)
{
	bool equal = a->primary == b->primary && a->count == b->count && a->issued_s == b->issued_s;
	for (int i = 0; equal && i < a->count; i++) {
		const struct token_branch *x = &a->branches[i], *y = &b->branches[i];
		equal = x->cluster == y->cluster && x->timeline == y->timeline &&
		        x->fork.lsn == y->fork.lsn && x->at.lsn == y->at.lsn;
	}
	return equal;
}

/* ================= running them ================= */

static void run_keys(json_t *v)
{
	struct token_keys k = {0};
	bool ok = true;
	size_t i;
	json_t *item;
	json_array_foreach(field(v, "lines"), i, item) ok =
		ok && token_keys_add_line(&k, slice_str(json_string_value(item)));
	check(ok == json_is_true(field(v, "ok")));
	if (!ok)
		return;
	check((size_t)k.count == json_array_size(field(v, "ids")));
	json_array_foreach(field(v, "ids"), i, item) check(k.keys[i].id == json_integer_value(item));
}

static void run_sign(json_t *v)
{
	struct token_keys k = keys_of(v);
	struct token t = token_of(field(v, "token"));
	char text[TOKEN_TEXT_MAX];
	token_sign(&t, &k, slice_field(v, "session"), text);
	check(strcmp(text, text_of(v, "text")) == 0);
}

typedef enum token_verdict (*verify_fn)(struct slice text, const struct token_keys *k,
                                        struct slice session, int64_t now_s, int64_t ttl_s,
                                        struct token *out);

static void run_verify_with(verify_fn verify, json_t *v)
{
	struct token_keys k = keys_of(v);
	struct token t;
	enum token_verdict verdict = verify(slice_field(v, "text"), &k, slice_field(v, "session"),
	                                    number_of(v, "now"), number_of(v, "ttl"), &t);
	check(strcmp(token_verdict_name(verdict), text_of(v, "verdict")) == 0);
	if (verdict != TOKEN_OK) {
		check(t.primary && t.count == 0);
		return;
	}
	struct token expected = token_of(field(v, "token"));
	check(same(&t, &expected));
}

static void run_verify(json_t *v)
{
	run_verify_with(token_verify, v);
}

static void run_verify_list(json_t *v)
{
	run_verify_with(token_verify_list, v);
}

static void run_merge(json_t *v)
{
	struct token t = {0}, expected = token_of(field(v, "token"));
	size_t i;
	json_t *item;
	json_array_foreach(field(v, "tokens"), i, item)
	{
		struct token one = token_of(item);
		token_merge(&t, &one);
	}
	check(same(&t, &expected));
}

static void run_merge_signed(json_t *v)
{
	struct token_keys k = keys_of(v);
	struct token t = {0};
	char text[TOKEN_TEXT_MAX];
	size_t i;
	json_t *item;
	json_array_foreach(field(v, "texts"), i, item)
	{
		struct token one;
		token_verify(slice_str(json_string_value(item)), &k, slice_field(v, "session"),
		             number_of(v, "now"), number_of(v, "ttl"), &one);
		token_merge(&t, &one);
	}
	token_sign(&t, &k, slice_field(v, "session"), text);
	check(strcmp(text, text_of(v, "text")) == 0);
}

static void run_covers(json_t *v)
{
	struct token a = token_of(field(v, "a")), b = token_of(field(v, "b"));
	check(token_covers(&a, &b) == json_is_true(field(v, "covers")));
}

/* ================= merging without a key ================= */

/* The router has the key, so nothing but this test merges without one in C. */
#define PARTS_MAX 64

struct part {
	char text[TOKEN_TEXT_MAX];
	struct token token;
	struct token_header header;
	bool read;
};

struct parts {
	int count;
	bool primary;
	struct part all[PARTS_MAX];
};

static void add_part(struct parts *p, const char *text, size_t len)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	struct part *part = &p->all[p->count];
	if (len == 0 || len >= TOKEN_TEXT_MAX || strspn(text, alphabet) < len) {
		p->primary = true;
		return;
	}
	memcpy(part->text, text, len);
	part->text[len] = '\0';
	part->read = token_read(slice_str(part->text), &part->token, &part->header);
	if (strcmp(part->text, TOKEN_PRIMARY_TEXT) == 0 || (part->read && part->token.primary))
		p->primary = true;
	for (int i = 0; i < p->count; i++) {
		if (strcmp(p->all[i].text, part->text) == 0)
			return;
	}
	check(++p->count < PARTS_MAX);
}

static void add_parts(struct parts *p, const char *list)
{
	int n = 0;
	for (const char *at = list; *list != '\0'; at++) {
		if (*at != ',' && *at != '\0')
			continue;
		add_part(p, list, (size_t)(at - list));
		n++;
		if (*at == '\0')
			break;
		list = at + 1;
		if (*list == '\0')
			p->primary = true;
	}
	if (n > TOKEN_LIST_MAX)
		p->primary = true;
}

static bool makes_superfluous(const struct part *a, const struct part *b)
{
	if (!a->read || !b->read || a->header.bound != b->header.bound ||
	    !token_covers(&a->token, &b->token))
		return false;
	if (!token_covers(&b->token, &a->token))
		return true;
	if (a->token.issued_s != b->token.issued_s)
		return a->token.issued_s > b->token.issued_s;
	return strcmp(a->text, b->text) > 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct part *)a)->text, ((const struct part *)b)->text);
}

static void drop_superfluous(struct parts *p)
{
	bool drop[PARTS_MAX] = {false};
	int kept = 0;
	for (int i = 0; i < p->count; i++) {
		for (int j = 0; j < p->count; j++)
			drop[i] = drop[i] || (i != j && makes_superfluous(&p->all[j], &p->all[i]));
	}
	for (int i = 0; i < p->count; i++) {
		if (!drop[i])
			p->all[kept++] = p->all[i];
	}
	p->count = kept;
}

static void run_merge_list(json_t *v)
{
	static struct parts p;
	char text[TOKEN_LIST_TEXT_MAX + 2] = "";
	size_t i, len = 0;
	json_t *item;
	p = (struct parts){0};
	json_array_foreach(field(v, "texts"), i, item) add_parts(&p, json_string_value(item));
	drop_superfluous(&p);
	qsort(p.all, (size_t)p.count, sizeof(p.all[0]), by_text);
	for (int n = 0; n < p.count && p.count <= TOKEN_LIST_MAX; n++)
		len +=
			(size_t)snprintf(text + len, sizeof(text) - len, "%s%s", n ? "," : "", p.all[n].text);
	if (p.primary || p.count > TOKEN_LIST_MAX)
		snprintf(text, sizeof(text), TOKEN_PRIMARY_TEXT);
	check(strcmp(text, text_of(v, "text")) == 0);
}

/* ================= all of them ================= */

static const struct {
	const char *op;
	void (*run)(json_t *v);
	int at_least; /* so that an empty file does not pass */
} ops[] = {
	{"keys", run_keys, 15},     {"sign", run_sign, 15},
	{"verify", run_verify, 80}, {"verify_list", run_verify_list, 15},
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
