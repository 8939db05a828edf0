/* SPDX-License-Identifier: PostgreSQL
 *
 * Position texts against printf and scanf, and the page header correction against a log that is
 * laid out byte by byte.
 */
#include "consistency/position.h"
#include "property.h"

static bool naive_parse(const char *text, uint64_t *lsn)
{
	size_t slash = strcspn(text, "/"), len = strlen(text);
	if (slash == len || slash == 0 || slash > 8 || len - slash < 2 || len - slash > 9)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (i != slash && strchr("0123456789abcdefABCDEF", text[i]) == NULL)
			return false;
	}
	*lsn = strtoull(text, NULL, 16) << 32 | strtoull(text + slash + 1, NULL, 16);
	return true;
}

static void texts(void)
{
	struct position p = {any() >> below(64)}, q;
	char text[POSITION_TEXT_MAX], naive[32];
	position_format(p, text);
	snprintf(naive, sizeof(naive), "%" PRIX64 "/%" PRIX64, p.lsn >> 32, p.lsn & 0xffffffffu);
	require(strcmp(text, naive) == 0, "%s is not %s", text, naive);
	require(position_parse(slice_str(text), &q) && q.lsn == p.lsn, "%s does not come back", text);

	/* A damaged text is what the naive parser says it is. */
	static const char alphabet[] = "0123456789abcdefABCDEF//gG -+x";
	size_t len = strlen(text);
	text[below((int64_t)len)] = alphabet[below((int64_t)sizeof(alphabet) - 1)];
	if (one_in(3))
		text[below((int64_t)len)] = alphabet[below((int64_t)sizeof(alphabet) - 1)];
	uint64_t lsn = 0;
	bool good = naive_parse(text, &lsn);
	require(position_parse(slice_str(text), &q) == good, "\"%s\"", text);
	require(!good || q.lsn == lsn, "\"%s\" is not %" PRIu64, text, lsn);
}

/* Where a record that ends at `end` makes the insert position point: past the next page's header.
 */
static uint64_t insert_position(uint64_t end, uint32_t block, uint32_t segment)
{
	if (end % segment == 0)
		return end + 40;
	return end % block == 0 ? end + 24 : end;
}

static void headers(void)
{
	uint32_t block = 1u << (9 + below(8)), segment = 1u << (20 + below(11));
	uint64_t end = (1 + (any() >> 20)) * segment;
	switch (below(3)) {
	case 0:
		break; /* at the end of a segment */
	case 1:
		end += block * (uint64_t)below(segment / block); /* … of a page */
		break;
	default: /* in the middle of a page, behind its header */
		end += block * (uint64_t)below(segment / block);
		end += 41 + (uint64_t)below(block - 41);
	}
	struct position p = {insert_position(end, block, segment)};
	require(position_without_page_header(p, block, segment).lsn == end,
	        "block %u segment %u end %" PRIX64, block, segment, end);
	require(position_without_page_header(p, 0, 0).lsn == p.lsn,
	        "changed without knowing the sizes");
}

static void run(void)
{
	texts();
	headers();
}

int main(int argc, char **argv)
{
	property_run(argc, argv, 100000, run);
	return 0;
}
