/* SPDX-License-Identifier: PostgreSQL
 *
 * proxy/hba.c against tables of what PostgreSQL does with the same lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/hba.h"

static int faults, fault_line;
static char fault_text[256];

static void on_fault(void *arg, int line, const char *what)
{
	if (faults++ == 0) {
		fault_line = line;
		snprintf(fault_text, sizeof(fault_text), "%s", what);
	}
}

static struct hba *parse(const char *rules, const char *ident)
{
	faults = 0;
	return hba_parse(slice_str(rules), slice_str(ident), on_fault, on_fault, NULL);
}

/* "local", "10.0.0.1" or "10.0.0.1/tls". */
static struct hba_peer peer(const char *from, const char *database, const char *user)
{
	struct hba_peer p = {.database = database, .user = user};
	char address[64];
	snprintf(address, sizeof(address), "%s", from);
	char *tls = strchr(address, '/');
	if (tls)
		*tls = '\0';
	p.tls = tls != NULL;
	p.local = strcmp(address, "local") == 0;
	p.is_v6 = strchr(address, ':') != NULL;
	if (!p.local)
		assert_int_equal(inet_pton(p.is_v6 ? AF_INET6 : AF_INET, address, p.address), 1);
	return p;
}

/* The method of the rule that matches; -1: none does. */
static int verdict(const char *rules, const char *from, const char *database, const char *user)
{
	struct hba *h = parse(rules, "m a b\n");
	assert_non_null(h);
	struct hba_peer p = peer(from, database, user);
	const struct hba_rule *r = hba_find(h, &p);
	int method = r ? (int)hba_rule_method(r) : -1;
	hba_free(h);
	return method;
}

static void the_first_line_that_matches_decides(void **state)
{
	static const struct {
		const char *rules, *from, *database, *user;
		int method;
	} cases[] = {
		{"", "local", "d", "u", -1},
		{"# host all all all trust", "10.0.0.1", "d", "u", -1},
		{"local all all trust", "local", "d", "u", HBA_TRUST},
		{"local all all trust", "127.0.0.1", "d", "u", -1},
		{"host all all all trust", "local", "d", "u", -1},
		{"host all all all md5", "10.0.0.1/tls", "d", "u", HBA_MD5},
		{"hostssl all all all md5", "10.0.0.1", "d", "u", -1},
		{"hostssl all all all md5", "10.0.0.1/tls", "d", "u", HBA_MD5},
		{"hostnossl all all all reject", "10.0.0.1", "d", "u", HBA_REJECT},
		{"hostnossl all all all reject", "10.0.0.1/tls", "d", "u", -1},
		{"hostnogssenc all all all trust", "10.0.0.1", "d", "u", HBA_TRUST},
		{"host d u 10.0.0.0/8 trust\nhost all all all reject", "10.9.9.9", "d", "u", HBA_TRUST},
		{"host d u 10.0.0.0/8 trust\nhost all all all reject", "11.9.9.9", "d", "u", HBA_REJECT},
		{"host d u 10.0.0.0/8 trust\nhost all all all reject", "10.9.9.9", "e", "u", HBA_REJECT},
		{"host d u 10.0.0.0/8 trust\nhost all all all reject", "10.9.9.9", "d", "v", HBA_REJECT},
		/* lists and quotes */
		{"host a,b,d u 0.0.0.0/0 trust", "1.2.3.4", "d", "u", HBA_TRUST},
		{"host a, b, d u 0.0.0.0/0 trust", "1.2.3.4", "d", "u", HBA_TRUST},
		{"host d v,\"u\" 0.0.0.0/0 trust", "1.2.3.4", "d", "u", HBA_TRUST},
		{"host \"all\" u 0.0.0.0/0 trust", "1.2.3.4", "d", "u", -1},
		{"host \"all\" u 0.0.0.0/0 trust", "1.2.3.4", "all", "u", HBA_TRUST},
		{"host all \"+u\" 0.0.0.0/0 trust", "1.2.3.4", "d", "+u", HBA_TRUST},
		{"host \"a b\" \"x\"\"y\" all trust", "1.2.3.4", "a b", "x\"y", HBA_TRUST},
		{"host \"a#b\" all all trust # host", "1.2.3.4", "a#b", "u", HBA_TRUST},
		{"host sameuser all all trust", "1.2.3.4", "u", "u", HBA_TRUST},
		{"host sameuser all all trust", "1.2.3.4", "d", "u", -1},
		{"host \"sameuser\" all all trust", "1.2.3.4", "u", "u", -1},
		{"host replication all all trust", "1.2.3.4", "replication", "u", -1},
		{"host \"replication\" all all trust", "1.2.3.4", "replication", "u", HBA_TRUST},
		{"host ALL all all trust", "1.2.3.4", "d", "u", -1},
		{"host all U all trust", "1.2.3.4", "d", "u", -1},
		/* addresses */
		{"host all all 10.1.2.3/32 trust", "10.1.2.3", "d", "u", HBA_TRUST},
		{"host all all 10.1.2.3/32 trust", "10.1.2.4", "d", "u", -1},
		{"host all all 10.1.2.3/31 trust", "10.1.2.2", "d", "u", HBA_TRUST},
		{"host all all 10.1.2.3/9 trust", "10.127.0.1", "d", "u", HBA_TRUST},
		{"host all all 10.1.2.3/9 trust", "10.128.0.1", "d", "u", -1},
		{"host all all 10.1.0.0 255.255.0.0 trust", "10.1.9.9", "d", "u", HBA_TRUST},
		{"host all all 10.1.0.0 255.255.0.0 trust", "10.2.9.9", "d", "u", -1},
		{"host all all 0.0.0.0/0 trust", "::1", "d", "u", -1},
		{"host all all ::/0 trust", "1.2.3.4", "d", "u", -1},
		{"host all all ::/0 trust", "fe80::1", "d", "u", HBA_TRUST},
		{"host all all fe80::/10 trust", "febf::1", "d", "u", HBA_TRUST},
		{"host all all fe80::/10 trust", "fec0::1", "d", "u", -1},
		{"host all all ::1/128 trust", "::1", "d", "u", HBA_TRUST},
		{"host all all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff trust", "::1", "d", "u", HBA_TRUST},
		/* methods, options, ends of lines */
		{"hostssl all all all cert map=m", "1.2.3.4/tls", "d", "u", HBA_CERT},
		{"hostssl all all all scram-sha-256 clientcert=verify-full", "1.2.3.4/tls", "d", "u", HBA_SCRAM},
		{"local all all peer map=m", "local", "d", "u", HBA_PEER},
		{"host all all all password\r\n", "1.2.3.4", "d", "u", HBA_PASSWORD},
		{"host \\\nall all \\\nall trust", "1.2.3.4", "d", "u", HBA_TRUST},
		{"\t host\tall\tall\tall\ttrust\t", "1.2.3.4", "d", "u", HBA_TRUST},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int got = verdict(cases[i].rules, cases[i].from, cases[i].database, cases[i].user);
		if (got != cases[i].method)
			fail_msg("\"%s\" for %s: %d", cases[i].rules, cases[i].from, got);
	}
}

static void what_is_not_understood_is_a_fault(void **state)
{
	static const char *const lines[] = {
		"host", "host all", "host all all", "host all all all", "local all all",
		"hosts all all all trust", "HOST all all all trust", "hostgssenc all all all trust",
		"include other.conf", "include_dir d", "\"host\" all all all trust", "host,local all all all trust",
		"host samerole all all trust", "host samegroup all all trust", "host @file all all trust",
		"host /d.* all all trust", "host all +staff all trust", "host all @file all trust",
		"host all /u.* all trust", "host all all samehost trust", "host all all samenet trust",
		"host all all db.example trust", "host all all .example trust", "host all all 10.0.0.1 trust",
		"host all all 10.0.0.0/33 trust", "host all all ::/129 trust", "host all all 10.0.0.0/ trust",
		"host all all 10.0.0.0/8x trust", "host all all 10.0.0.0/-1 trust", "host all all 10.0.0/8 trust",
		"host all all 10.0.0.0 ffff:: trust", "host all all 10.0.0.0/8,11.0.0.0/8 trust",
		"host all all all gss", "host all all all ldap ldapserver=x", "host all all all pam",
		"host all all all ident", "host all all all Trust", "host all all all \"trust\"",
		"host all all all cert", "hostnossl all all all cert", "host all all all peer",
		"local all all cert", "host all all all trust map=m", "hostssl all all all cert map=unknown",
		"hostssl all all all cert map=", "hostssl all all all cert clientname=DN",
		"hostssl all all all md5 clientcert=1", "host all all all md5 clientcert=verify-ca",
		"hostssl all all all cert clientcert=verify-ca", "host all all all trust really",
		"host all all all trust x=y", "host \"all all all trust", "host all all all trust \"",
		"host \"\" all all trust",
		"host 1234567890123456789012345678901234567890123456789012345678901234 all all trust",
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char text[512];
		snprintf(text, sizeof(text), "local all all trust\n\n%s\nlocal all all reject\n", lines[i]);
		struct hba *h = parse(text, "m a b\n");
		if (h || faults != 1 || fault_line != 3 || fault_text[0] == '\0')
			fail_msg("\"%s\": %d faults, line %d: %s", lines[i], faults, fault_line, fault_text);
	}
	static const char nul[] = "local all all\0 trust\n";
	faults = 0;
	assert_null(hba_parse(slice_of(nul, sizeof(nul) - 1), (struct slice){0}, on_fault, on_fault, NULL));
	assert_int_equal(faults, 1);
}

static bool fits(const char *ident, const char *system_user, const char *user)
{
	struct hba *h = parse("local all all peer map=m\n", ident);
	assert_non_null(h);
	struct hba_peer p = peer("local", "d", user);
	bool ok = hba_user_fits(h, hba_find(h, &p), system_user, user);
	hba_free(h);
	return ok;
}

static void maps_say_who_may_be_whom(void **state)
{
	assert_true(fits("m root postgres", "root", "postgres"));
	assert_false(fits("m root postgres", "root", "app"));
	assert_false(fits("m root postgres", "toor", "postgres"));
	assert_false(fits("m x y\nn root postgres", "root", "postgres"));
	assert_true(fits("m x y\nm root postgres", "root", "postgres"));
	assert_true(fits("m root all", "root", "whoever"));
	assert_false(fits("m root \"all\"", "root", "whoever"));
	assert_true(fits("m /^(.*)@tide\\.test$ \\1", "ann@tide.test", "ann"));
	assert_false(fits("m /^(.*)@tide\\.test$ \\1", "ann@tide.test", "bob"));
	assert_false(fits("m /^(.*)@tide\\.test$ \\1", "ann@tideXtest", "ann"));
	assert_true(fits("m /^(.*)-dev$ app_\\1_x", "ann-dev", "app_ann_x"));
	assert_false(fits("m \"/^.*$\" u", "anybody", "u"));
	struct hba *h = parse("local all all peer\n", "");
	struct hba_peer p = peer("local", "d", "u");
	assert_true(hba_user_fits(h, hba_find(h, &p), "u", "u"));
	assert_false(hba_user_fits(h, hba_find(h, &p), "v", "u"));
	hba_free(h);

	static const char *const bad[] = {"m", "m a", "m a b c", "m /( b", "m /a \\1", "m a +b", "m a /b", "m a,b c"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse("local all all trust\n", bad[i]) || faults != 1 || fault_line != 1)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

static const char everything[] =
	"# comment\nlocal all \"a\"\"b\",c peer map=m\nhostssl sameuser,\"x y\" all 10.0.0.0 255.0.0.0 cert "
	"map=m clientcert=verify-full\nhost a,\\\nb all fe80::/10 scram-sha-256\n";

/* Cut anywhere or damaged anywhere, it says yes or names a line; and a cut never lets in more than the
 * whole lines did. */
static void no_damage_is_unsafe(void **state)
{
	for (size_t len = 0; len < sizeof(everything); len++) {
		char *copy = malloc(len + 1);
		memcpy(copy, everything, len);
		faults = 0;
		struct hba *h = hba_parse(slice_of(copy, len), slice_str("m /(.*) \\1\n"), on_fault, on_fault, NULL);
		assert_true((h != NULL) == (faults == 0));
		hba_free(h);
		free(copy);
	}
	for (size_t bit = 0; bit < 8 * (sizeof(everything) - 1); bit++) {
		char copy[sizeof(everything)];
		memcpy(copy, everything, sizeof(copy));
		copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
		faults = 0;
		struct hba *h = hba_parse(slice_of(copy, sizeof(copy) - 1), slice_str("m /(.*) \\1\n"), on_fault,
		                          on_fault, NULL);
		assert_true((h != NULL) == (faults == 0));
		hba_free(h);
	}
}

static void there_are_limits(void **state)
{
	size_t cap = 1 << 20;
	char *text = malloc(cap);
	size_t n = 0;
	for (int i = 0; i < HBA_RULES_MAX; i++)
		n += (size_t)snprintf(text + n, cap - n, "local all all trust\n");
	struct hba *h = parse(text, "");
	assert_non_null(h);
	hba_free(h);
	n += (size_t)snprintf(text + n, cap - n, "local all all trust\n");
	assert_null(parse(text, ""));
	for (int names = HBA_NAMES_MAX; names <= HBA_NAMES_MAX + 1; names++) {
		n = (size_t)snprintf(text, cap, "local a");
		for (int i = 1; i < names; i++)
			n += (size_t)snprintf(text + n, cap - n, ",a");
		snprintf(text + n, cap - n, " all trust\n");
		h = parse(text, "");
		assert_int_equal(h != NULL, names == HBA_NAMES_MAX);
		hba_free(h);
	}
	memset(text, ' ', HBA_LINE_MAX);
	text[HBA_LINE_MAX] = '\0';
	assert_null(parse(text, ""));
	text[HBA_LINE_MAX - 1] = '\0';
	h = parse(text, "");
	assert_non_null(h);
	hba_free(h);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_line_that_matches_decides),
		cmocka_unit_test(what_is_not_understood_is_a_fault),
		cmocka_unit_test(maps_say_who_may_be_whom),
		cmocka_unit_test(no_damage_is_unsafe),
		cmocka_unit_test(there_are_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
