/* SPDX-License-Identifier: PostgreSQL
 *
 * Rules and maps as an operator writes them, and who comes: the first line is "from database user
 * system-user", then the rules up to a line of its own that says "---", then the maps.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "proxy/hba.h"

struct guest {
	struct hba_peer peer;
	char database[HBA_NAME_MAX], user[HBA_NAME_MAX], system_user[HBA_NAME_MAX];
};

static void on_fault(void *arg, int line, const char *what)
{
	assert(line >= 0 && what[0] != '\0');
	(*(int *)arg)++;
}

/* A C string, as hba.h wants it, of what comes before the next blank. */
static void take_word(struct slice *in, char out[HBA_NAME_MAX])
{
	const uint8_t *end = in->len > 0 ? memchr(in->ptr, ' ', in->len) : NULL;
	struct slice word = slice_of(in->ptr, end ? (size_t)(end - in->ptr) : in->len);
	(void)snprintf(out, HBA_NAME_MAX, "%.*s", SLICE_ARG(word));
	*in = slice_from(*in, word.len + 1);
}

/* "local", or an address with a "+" behind it if it comes in TLS. */
static void take_guest(struct slice line, struct guest *g)
{
	char from[HBA_NAME_MAX];
	struct hba_peer *p = &g->peer;
	take_word(&line, from);
	take_word(&line, g->database);
	take_word(&line, g->user);
	take_word(&line, g->system_user);
	char *plus = strchr(from, '+');
	if (plus)
		*plus = '\0';
	*p = (struct hba_peer){.tls = plus != NULL, .database = g->database, .user = g->user};
	p->is_v6 = inet_pton(AF_INET6, from, p->address) == 1;
	p->local = !p->is_v6 && inet_pton(AF_INET, from, p->address) != 1;
}

static struct hba *parse(struct slice rules, struct slice maps)
{
	int faults = 0;
	struct hba *h = hba_parse(rules, maps, on_fault, on_fault, &faults);
	assert((h != NULL) == (faults == 0));
	return h;
}

static void check_verdict(const struct hba *h, const struct guest *g)
{
	const struct hba_rule *r = hba_find(h, &g->peer);
	if (!r)
		return;
	assert(hba_rule_method(r) != HBA_CERT || (g->peer.tls && !g->peer.local && hba_has_cert(h)));
	assert(hba_rule_method(r) != HBA_PEER || g->peer.local);
	assert(hba_rule_clientcert(r) == HBA_CLIENTCERT_NONE || g->peer.tls);
	/* A map may only say who else may come, and nobody may be nobody. */
	(void)hba_user_fits(h, r, g->system_user, g->user);
}

/* What stands first decides, whatever follows. */
static void check_first_counts(struct slice rules, struct slice maps, const struct guest *g)
{
	static const char nobody[] = "local all all reject\nhost all all all reject\n";
	struct buf text;
	buf_init(&text, sizeof(nobody) + rules.len);
	assert(buf_append_str(&text, nobody) && buf_append(&text, rules.ptr, rules.len));
	struct hba *h = parse(buf_slice(&text), maps);
	assert(h);
	const struct hba_rule *r = hba_find(h, &g->peer);
	assert(r && hba_rule_method(r) == HBA_REJECT);
	hba_free(h);
	buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char separator[] = "\n---\n";
	struct slice in = slice_of(data, size), maps = {0};
	struct guest g;
	take_guest(fuzz_line(&in), &g);
	const uint8_t *at =
		in.len > 0 ? memmem(in.ptr, in.len, separator, sizeof(separator) - 1) : NULL;
	struct slice rules = in;
	if (at) {
		rules = slice_of(in.ptr, (size_t)(at - in.ptr) + 1);
		maps = slice_from(in, rules.len + sizeof(separator) - 2);
	}
	struct hba *h = parse(rules, maps);
	if (!h)
		return 0;
	check_verdict(h, &g);
	check_first_counts(rules, maps, &g);
	hba_free(h);
	return 0;
}
