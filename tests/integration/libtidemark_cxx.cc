// SPDX-License-Identifier: PostgreSQL
//
// The header and the library from C++: signs, merges, verifies. Prints "ok".
#include <cstdio>
#include <cstring>
#include <tidemark.h>

int main()
{
	tidemark_keys keys = TIDEMARK_INIT;
	tidemark_token token = TIDEMARK_INIT, seen;
	char one[TIDEMARK_TOKEN_SIZE], both[TIDEMARK_LIST_SIZE];
	const char *texts[] = {one, ""};

	if (tidemark_keys_add(&keys, 1, "0123456789abcdef", 16) != TIDEMARK_OK ||
	    tidemark_token_add(&token, 1, 1, 0, 100, 1000) != TIDEMARK_OK ||
	    tidemark_token_sign(&token, &keys, "cart", one, sizeof(one)) != TIDEMARK_OK ||
	    tidemark_merge(texts, 2, both, sizeof(both)) != TIDEMARK_OK || std::strcmp(one, both) != 0)
		return 1;
	tidemark_status s = tidemark_token_verify(&seen, both, &keys, "cart", 1000, 60);
	std::puts(s == TIDEMARK_OK ? "ok" : tidemark_strerror(s));
	return s != TIDEMARK_OK;
}
