/* SPDX-License-Identifier: PostgreSQL
 *
 * bench-token [MILLISECONDS]: what signing and verifying a token cost, each measured for so long
 * (by default 500 ms a line). One line a case, "sign 1 branch 290 ns".
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "consistency/token.h"

#define NOW INT64_C(1767225600)
#define BATCH 1000

static struct token_keys keys;
static int64_t limit_ns = 500 * INT64_C(1000000);

static int64_t clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct subject {
	struct token token;
	char text[TOKEN_TEXT_MAX];
	struct slice session;
	int good;
};

static void sign(struct subject *s)
{
	token_sign(&s->token, &keys, s->session, s->text);
}

static void verify(struct subject *s)
{
	struct token t;
	s->good += token_verify(slice_str(s->text), &keys, s->session, NOW, 3600, &t) == TOKEN_OK;
}

static void measure(const char *what, void (*run)(struct subject *s), struct subject *s)
{
	int64_t began = clock_ns(), took = 0;
	int64_t runs = 0;
	for (; took < limit_ns; took = clock_ns() - began) {
		for (int i = 0; i < BATCH; i++)
			run(s);
		runs += BATCH;
	}
	printf("%s %d branch%s%s %.0f ns\n", what, s->token.count, s->token.count == 1 ? "" : "es",
	       s->session.len ? ", bound" : "", (double)took / (double)runs);
	if (run == verify && s->good != runs) {
		fputs("bench-token: a token did not verify\n", stderr);
		exit(1);
	}
}

static void measure_both(int branches, const char *session)
{
	struct subject s = {.token.issued_s = NOW, .session = slice_str(session)};
	for (int i = 0; i < branches; i++)
		token_add(&s.token, (struct token_branch){(uint64_t)i + 1, 2, {0x3000148}, {0x16B374D848}});
	measure("sign", sign, &s);
	measure("verify", verify, &s);
}

int main(int argc, char **argv)
{
	uint8_t secret[32] = {1};
	if (argc > 1)
		limit_ns = strtol(argv[1], NULL, 10) * 1000000;
	if (!token_keys_add(&keys, 1, slice_of(secret, sizeof(secret))))
		return 1;
	measure_both(1, "");
	measure_both(1, "session-0123456789abcdef");
	measure_both(TOKEN_BRANCHES_MAX, "");
	return 0;
}
