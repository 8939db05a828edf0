/* SPDX-License-Identifier: PostgreSQL
 *
 * An answer to GET /cluster, as it comes from the socket.
 */
#include "fuzz.h"

#include "watch/patroni_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct http_answer a, early;
	struct patroni_cluster c;
	const char *why = NULL;
	enum parse_result r = http_answer_parse(in, true, &a);
	assert(r != PARSE_PARTIAL);
	/* What comes before the end is the same, or not known yet. */
	enum parse_result before = http_answer_parse(in, false, &early);
	assert(before == PARSE_PARTIAL || (before == r && (r != PARSE_OK || slice_eq(a.body, early.body))));
	if (size > 0 && before == PARSE_OK)
		assert(http_answer_parse(slice_of(data, size - 1), false, &early) == PARSE_PARTIAL);
	if (r == PARSE_OK) {
		assert(a.status >= 100 && a.status <= 599 && a.body.len <= PATRONI_BODY_MAX);
		in = a.body;
	}
	bool good = patroni_cluster_parse(in, &c, &why);
	assert(good || (why && !c.has_leader));
	if (c.has_leader)
		assert(c.port >= 1 && c.port <= 65535 && c.host[0] != '\0' &&
		       strnlen(c.host, sizeof(c.host)) < sizeof(c.host));
	return 0;
}
