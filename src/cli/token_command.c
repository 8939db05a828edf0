/* SPDX-License-Identifier: PostgreSQL
 *
 * tidemark token inspect: what a token says and whether a router would believe it, for whoever
 * looks for the reason why a read went to the primary. tidemark token make-key: a line for a key
 * file.
 *
 * Key material is printed by make-key and by nothing else: faults of a key file name the line only.
 */
#include "cli.h"

#include <inttypes.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <time.h>

#include "config/keyfile.h"
#include "consistency/token.h"

#define EXIT_USAGE 2
#define KEY_BYTES 32

static const char usage[] =
	"Usage: tidemark token inspect TOKEN [--key-file FILE] [--session NAME]\n"
	"       tidemark token make-key [ID]\n"
	"inspect says what a token (or each of a list) contains, and with the keys whether it is\n"
	"believed: ends with 0 if so and with 1 if not. The age is shown, not judged, since token_ttl is\n"
	"the router's. make-key prints a line for a key file; ID is 0 to 255, by default 1.\n";

/* ================= keys ================= */

static void key_file_fault(void *path, int line, const char *what)
{
	if (line > 0)
		fprintf(stderr, "tidemark token: %s:%d: %s\n", (const char *)path, line, what);
	else
		fprintf(stderr, "tidemark token: %s: %s\n", (const char *)path, what);
}

static bool parse_id(const char *text, unsigned *id)
{
	char *end;
	if (text[0] < '0' || text[0] > '9')
		return false;
	unsigned long value = strtoul(text, &end, 10);
	*id = (unsigned)value;
	return *end == '\0' && value <= UINT8_MAX;
}

static int make_key(int argc, char **argv)
{
	uint8_t secret[KEY_BYTES];
	unsigned id = 1;

	if (argc > 2 || (argc == 2 && !parse_id(argv[1], &id))) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	if (RAND_bytes(secret, sizeof(secret)) != 1) {
		fputs("tidemark token: no random bytes to be had\n", stderr);
		return EXIT_FAILURE;
	}
	printf("%u:", id);
	for (size_t i = 0; i < sizeof(secret); i++)
		printf("%02x", secret[i]);
	putchar('\n');
	OPENSSL_cleanse(secret, sizeof(secret));
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ================= inspecting ================= */

struct inspection {
	const char *text, *key_file, *session;
	struct token_keys keys;
	int64_t now_s;
};

static void print_issued(int64_t issued_s, int64_t now_s)
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = {{86400, "days"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	time_t at = (time_t)issued_s;
	int64_t age_s = now_s - issued_s, size_s = age_s < 0 ? -age_s : age_s;
	char text[32] = "";
	struct tm tm;
	size_t unit = 0;

	if (gmtime_r(&at, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	/* From two of a unit on: "119 min" says more than "1 h". */
	while (units[unit].seconds > 1 && size_s < 2 * units[unit].seconds)
		unit++;
	printf("  issued   %s UTC, %" PRId64 " %s %s\n", text, size_s / units[unit].seconds,
	       units[unit].name, age_s < 0 ? "in the future" : "ago");
}

static void print_branch(const struct token_branch *b)
{
	char fork[POSITION_TEXT_MAX], at[POSITION_TEXT_MAX];
	position_format(b->fork, fork);
	position_format(b->at, at);
	printf("  branch   cluster %012" PRIx64 ", timeline %" PRIu32, b->cluster, b->timeline);
	if (position_is_set(b->fork))
		printf(" from %s", fork);
	printf(", at %s\n", at);
}

static bool is_token_length(size_t len)
{
	for (size_t n = 0; n <= TOKEN_BRANCHES_MAX; n++) {
		if (len == ((22 + 25 * n) * 4 + 2) / 3)
			return true;
	}
	return false;
}

/* What is wrong with the form, as precisely as helps. The text itself is not shown: who knows what
 * is in it. */
static void print_malformed(struct slice text)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	size_t good = 0;
	while (good < text.len && memchr(alphabet, text.ptr[good], sizeof(alphabet) - 1))
		good++;
	printf("  verdict  malformed: ");
	if (text.len == 0)
		puts("empty");
	else if (good < text.len)
		printf("character %zu is none of A-Z a-z 0-9 - _\n", good + 1);
	else if (!is_token_length(text.len))
		printf("no token has %zu characters: cut off, or run together?\n", text.len);
	else if (text.ptr[0] != 'E')
		puts("of another version, or with flags that are not known here");
	else
		puts("branches out of order, a number out of range, or bits left over");
}

static const char *explain(enum token_verdict v, const struct inspection *in,
                           const struct token_header *h)
{
	switch (v) {
	case TOKEN_FORGED:
		for (int i = 0; i < in->keys.count; i++) {
			if (in->keys.keys[i].id == h->key_id)
				return ": the HMAC is wrong with this key";
		}
		return ": this key is not in the key file";
	case TOKEN_BOUND:
		return in->session[0] ? ": to another session's name, or tampered with"
		                      : ": to a session's name; --session gives it";
	case TOKEN_FUTURE:
		return ": more than 60 s ahead of this machine's clock";
	case TOKEN_PRIMARY:
		return ": asks to read from the primary";
	default:
		return "";
	}
}

/* Good is what a router does as it is told. */
static bool is_good(enum token_verdict v)
{
	return v == TOKEN_OK || v == TOKEN_PRIMARY;
}

static void print_contents(const struct token *t, const struct token_header *h, int64_t now_s)
{
	printf("  version  1\n  key      %d\n", h->key_id);
	print_issued(t->issued_s, now_s);
	printf("  bound    %s\n", h->bound ? "to a session's name" : "no");
	for (int i = 0; i < t->count; i++)
		print_branch(&t->branches[i]);
	if (t->primary)
		puts("  primary  the session must read from the primary");
}

static bool inspect_one(const struct inspection *in, struct slice text)
{
	struct token t, believed;
	struct token_header h;

	if (slice_eq_str(text, TOKEN_PRIMARY_TEXT)) {
		puts("  verdict  primary: asks to read from the primary; not signed");
		return true;
	}
	if (!token_read(text, &t, &h)) {
		print_malformed(text);
		return false;
	}
	print_contents(&t, &h, in->now_s);
	if (!in->key_file) {
		puts("  verdict  well-formed; not verified without --key-file");
		return true;
	}
	enum token_verdict v =
		token_verify(text, &in->keys, slice_str(in->session), in->now_s, 0, &believed);
	printf("  verdict  %s%s\n", token_verdict_name(v), explain(v, in, &h));
	return is_good(v);
}

/* Each token by itself, and what the list is as a whole. */
static bool inspect_list(const struct inspection *in, int count)
{
	struct slice rest = slice_str(in->text);
	struct token merged;
	bool good = true;

	if (count > TOKEN_LIST_MAX || rest.len > TOKEN_LIST_TEXT_MAX) {
		printf("malformed: a list has at most %d tokens and %d characters\n", TOKEN_LIST_MAX,
		       TOKEN_LIST_TEXT_MAX);
		return false;
	}
	for (int i = 0; i < count; i++) {
		const uint8_t *comma = rest.len ? memchr(rest.ptr, ',', rest.len) : NULL;
		size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
		printf("token %d of %d\n", i + 1, count);
		good = inspect_one(in, slice_of(rest.ptr, len)) && good;
		rest = slice_from(rest, len + 1);
	}
	if (!in->key_file)
		return good;
	enum token_verdict v = token_verify_list(slice_str(in->text), &in->keys, slice_str(in->session),
	                                         in->now_s, 0, &merged);
	printf("together\n  verdict  %s%s\n", token_verdict_name(v),
	       v == TOKEN_PRIMARY ? ": one asks for it, or there are more than 8 branches" : "");
	return good && is_good(v);
}

static int inspect(const struct inspection *in)
{
	int count = 1;
	for (const char *c = in->text; *c; c++)
		count += *c == ',';
	if (in->text[0] == '\0') {
		puts("the empty text: no token, asks for nothing");
		return EXIT_SUCCESS;
	}
	bool good;
	if (count == 1) {
		puts("token");
		good = inspect_one(in, slice_str(in->text));
	} else
		good = inspect_list(in, count);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run_inspect(int argc, char **argv)
{
	struct inspection in = {.session = "", .now_s = (int64_t)time(NULL)};
	bool ok = true;

	for (int i = 1; i < argc && ok; i++) {
		const char **into = strcmp(argv[i], "--key-file") == 0  ? &in.key_file
		                    : strcmp(argv[i], "--session") == 0 ? &in.session
		                                                        : NULL;
		if (into && i + 1 < argc)
			*into = argv[++i];
		else if (!into && !in.text && strncmp(argv[i], "--", 2) != 0)
			in.text = argv[i];
		else
			ok = false;
	}
	if (!ok || !in.text) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	if (in.key_file && !keyfile_load(in.key_file, &in.keys, key_file_fault, (void *)in.key_file))
		return EXIT_FAILURE;
	int status = inspect(&in);
	OPENSSL_cleanse(&in.keys, sizeof(in.keys));
	return status;
}

int run_token(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "inspect") == 0)
		return run_inspect(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "make-key") == 0)
		return make_key(argc - 1, argv + 1);
	bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
	fputs(usage, help ? stdout : stderr);
	return help ? EXIT_SUCCESS : EXIT_USAGE;
}
