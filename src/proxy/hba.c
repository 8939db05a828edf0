/* SPDX-License-Identifier: PostgreSQL */
#include "hba.h"

#include <arpa/inet.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

enum rule_type { RULE_LOCAL, RULE_HOST, RULE_HOSTSSL, RULE_HOSTNOSSL };

struct name_list {
	bool all, same_user;
	int count;
	char (*names)[HBA_NAME_MAX];
};

struct hba_rule {
	enum rule_type type;
	struct name_list databases, users;
	bool any_address, is_v6;
	uint8_t address[16], mask[16];
	enum hba_method method;
	enum hba_clientcert clientcert;
	char map[HBA_NAME_MAX];
	int line;
};

struct ident_line {
	char map[HBA_NAME_MAX];
	bool is_regex, any_user;
	regex_t regex;
	char system_user[HBA_NAME_MAX], user[HBA_NAME_MAX];
};

struct hba {
	int count, ident_count;
	struct hba_rule *rules;
	struct ident_line **idents; /* compiled patterns must not move */
};

/* ================= tokens, as PostgreSQL's next_token() cuts them ================= */

struct line {
	char text[HBA_LINE_MAX];
	size_t at;
	int number;
};

struct token {
	char text[256];
	bool quoted;     /* begins with a quote: no keyword */
	bool more;       /* a comma follows: the list goes on */
};

struct parser {
	struct hba *hba;
	struct slice rest;
	struct line line;
	int lines; /* read so far */
	bool ok;
	hba_fault_fn fn;
	void *arg;
};

static bool fault(struct parser *p, const char *what)
{
	p->ok = false;
	p->fn(p->arg, p->line.number, what);
	return false;
}

/* The next line with those that a backslash at the end joins to it. False at the end, or if it was a
 * fault. */
static bool next_line(struct parser *p)
{
	size_t len = 0;
	bool joined = true;
	if (p->rest.len == 0)
		return false;
	p->line.at = 0;
	p->line.number = p->lines + 1;
	while (joined && p->rest.len > 0) {
		const uint8_t *end = memchr(p->rest.ptr, '\n', p->rest.len);
		size_t n = end ? (size_t)(end - p->rest.ptr) : p->rest.len;
		struct slice one = slice_of(p->rest.ptr, n);
		p->rest = slice_from(p->rest, n + 1 <= p->rest.len ? n + 1 : n);
		p->lines++;
		if (one.len > 0 && one.ptr[one.len - 1] == '\r')
			one.len--;
		joined = one.len > 0 && one.ptr[one.len - 1] == '\\';
		if (joined)
			one.len--;
		if (len + one.len >= sizeof(p->line.text) || (one.len > 0 && memchr(one.ptr, 0, one.len))) {
			p->line.text[0] = '\0';
			return !fault(p, "the line is longer than 8191 bytes, or has a zero byte");
		}
		if (one.len > 0)
			memcpy(p->line.text + len, one.ptr, one.len);
		len += one.len;
	}
	p->line.text[len] = '\0';
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* False: no token is left, or it is a fault (then *failed). */
static bool next_token(struct parser *p, struct token *t, bool *failed)
{
	const char *s = p->line.text;
	size_t at = p->line.at, n = 0;
	bool in_quote = false, was_quote = false;
	*t = (struct token){0};
	*failed = false;
	while (is_blank(s[at]) || s[at] == ',')
		at++;
	if (s[at] == '\0' || s[at] == '#') {
		p->line.at = strlen(s);
		return false;
	}
	t->quoted = s[at] == '"';
	for (; s[at] && (in_quote || (!is_blank(s[at]) && s[at] != ',' && s[at] != '#')); at++) {
		bool keep = true;
		if (s[at] == '"') {
			in_quote = !in_quote;
			keep = in_quote && was_quote; /* two of them inside are one */
			was_quote = !was_quote && !in_quote;
		} else {
			was_quote = false;
		}
		if (!keep)
			continue;
		if (n + 1 >= sizeof(t->text)) {
			*failed = !fault(p, "a word is longer than 255 bytes");
			return false;
		}
		t->text[n++] = s[at];
	}
	if (in_quote) {
		*failed = !fault(p, "a closing double quote is missing");
		return false;
	}
	t->more = s[at] == ',';
	p->line.at = at;
	return true;
}

static bool is_word(const struct token *t, const char *word)
{
	return !t->quoted && strcmp(t->text, word) == 0;
}

/* One word that is no list. False is a fault. */
static bool one_token(struct parser *p, struct token *t, const char *missing)
{
	bool failed;
	if (!next_token(p, t, &failed))
		return failed ? false : fault(p, missing);
	return t->more ? fault(p, "one value is expected here, not a list") : true;
}

/* ================= rules ================= */

/* Room for one more: it doubles when it is full. NULL: no memory, and all is as it was. */
static void *with_room(void *array, int count, size_t size)
{
	bool full = (count & (count - 1)) == 0;
	return full ? realloc(array, (count ? 2 * (size_t)count : 1) * size) : array;
}

static bool put_name(struct parser *p, struct name_list *list, const struct token *t)
{
	if (strlen(t->text) >= HBA_NAME_MAX || t->text[0] == '\0')
		return fault(p, "a name is empty or longer than 63 bytes");
	if (list->count == HBA_NAMES_MAX)
		return fault(p, "more than 256 names in one list");
	char(*grown)[HBA_NAME_MAX] = with_room(list->names, list->count, sizeof(*list->names));
	if (!grown)
		return fault(p, "out of memory");
	list->names = grown;
	memcpy(list->names[list->count++], t->text, strlen(t->text) + 1);
	return true;
}

static bool put_database(struct parser *p, struct name_list *list, const struct token *t)
{
	if (is_word(t, "all"))
		return list->all = true;
	if (is_word(t, "sameuser"))
		return list->same_user = true;
	if (is_word(t, "samerole") || is_word(t, "samegroup"))
		return fault(p, "samerole is not supported, the router knows no roles: name the databases");
	if (is_word(t, "replication"))
		return true; /* such connections never get as far as here */
	if (!t->quoted && (t->text[0] == '@' || t->text[0] == '/'))
		return fault(p, "files (@) and patterns (/) are not supported: name the databases");
	return put_name(p, list, t);
}

static bool put_user(struct parser *p, struct name_list *list, const struct token *t)
{
	if (is_word(t, "all"))
		return list->all = true;
	if (!t->quoted && t->text[0] == '+')
		return fault(p, "members of a role (+) are not supported, the router knows no roles: name "
		                "the users");
	if (!t->quoted && (t->text[0] == '@' || t->text[0] == '/'))
		return fault(p, "files (@) and patterns (/) are not supported: name the users");
	return put_name(p, list, t);
}

static bool take_list(struct parser *p, struct name_list *list, const char *missing,
                      bool (*put)(struct parser *, struct name_list *, const struct token *))
{
	struct token t;
	bool failed, any = false;
	do {
		if (!next_token(p, &t, &failed))
			return failed ? false : any ? true : fault(p, missing);
		any = true;
		if (!put(p, list, &t))
			return false;
	} while (t.more);
	return true;
}

static void set_mask(uint8_t mask[16], int bits)
{
	memset(mask, 0, 16);
	for (int i = 0; i < bits; i++)
		mask[i / 8] |= (uint8_t)(0x80 >> i % 8);
}

static const char address_expected[] =
	"expected an address with its mask, as 10.0.0.0/8, fe80::/10 or 10.0.0.0 255.0.0.0, or all; "
	"names of hosts, samehost and samenet are not supported";

static bool parse_ip(const char *text, bool *is_v6, uint8_t out[16])
{
	memset(out, 0, 16);
	*is_v6 = inet_pton(AF_INET6, text, out) == 1;
	return *is_v6 || inet_pton(AF_INET, text, out) == 1;
}

static bool take_mask(struct parser *p, struct hba_rule *r)
{
	struct token t;
	bool is_v6;
	if (!one_token(p, &t, address_expected))
		return false;
	if (!parse_ip(t.text, &is_v6, r->mask) || is_v6 != r->is_v6)
		return fault(p, address_expected);
	return true;
}

static bool take_address(struct parser *p, struct hba_rule *r)
{
	struct token t;
	if (!one_token(p, &t, address_expected))
		return false;
	if (is_word(&t, "all"))
		return r->any_address = true;
	char *slash = strchr(t.text, '/');
	if (slash)
		*slash = '\0';
	if (!parse_ip(t.text, &r->is_v6, r->address))
		return fault(p, address_expected);
	if (!slash)
		return take_mask(p, r);
	char *end;
	long bits = slash[1] >= '0' && slash[1] <= '9' ? strtol(slash + 1, &end, 10) : -1;
	if (bits < 0 || *end || bits > (r->is_v6 ? 128 : 32))
		return fault(p, address_expected);
	set_mask(r->mask, (int)bits);
	return true;
}

static bool take_type(struct parser *p, struct hba_rule *r, const struct token *t)
{
	static const struct {
		const char *word;
		enum rule_type type;
	} types[] = {{"local", RULE_LOCAL},
	             {"host", RULE_HOST},
	             {"hostssl", RULE_HOSTSSL},
	             {"hostnossl", RULE_HOSTNOSSL},
	             {"hostnogssenc", RULE_HOST}}; /* nobody comes by GSSAPI */
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (is_word(t, types[i].word) && !t->more) {
			r->type = types[i].type;
			return true;
		}
	}
	return fault(p, "expected local, host, hostssl or hostnossl; GSSAPI and include lines are not "
	                "supported");
}

static bool take_method(struct parser *p, struct hba_rule *r)
{
	static const struct {
		const char *word;
		enum hba_method method;
	} methods[] = {{"trust", HBA_TRUST},       {"reject", HBA_REJECT},     {"md5", HBA_MD5},
	               {"scram-sha-256", HBA_SCRAM}, {"password", HBA_PASSWORD}, {"cert", HBA_CERT},
	               {"peer", HBA_PEER}};
	struct token t;
	size_t i = 0, n = sizeof(methods) / sizeof(methods[0]);
	static const char expected[] =
		"expected a method: trust, reject, md5, scram-sha-256, password, cert or peer; others are "
		"not supported";
	if (!one_token(p, &t, expected))
		return false;
	while (i < n && !is_word(&t, methods[i].word))
		i++;
	if (i == n)
		return fault(p, expected);
	r->method = methods[i].method;
	if (r->method == HBA_CERT && r->type != RULE_HOSTSSL)
		return fault(p, "cert needs TLS: it belongs on a hostssl line");
	if (r->method == HBA_PEER && r->type != RULE_LOCAL)
		return fault(p, "peer asks the kernel: it belongs on a local line");
	return true;
}

static bool take_option(struct parser *p, struct hba_rule *r, struct token *t)
{
	char *value = strchr(t->text, '=');
	if (!value || t->more)
		return fault(p, "expected options as name=value");
	*value++ = '\0';
	if (strcmp(t->text, "map") == 0 && (r->method == HBA_CERT || r->method == HBA_PEER)) {
		if (strlen(value) >= sizeof(r->map) || !*value)
			return fault(p, "the name of a map is empty or longer than 63 bytes");
		snprintf(r->map, sizeof(r->map), "%s", value);
		return true;
	}
	if (strcmp(t->text, "clientname") == 0 && strcmp(value, "CN") == 0)
		return true; /* what is taken anyway */
	if (strcmp(t->text, "clientcert") == 0 && r->type == RULE_HOSTSSL) {
		bool full = strcmp(value, "verify-full") == 0;
		if (!full && strcmp(value, "verify-ca") != 0)
			return fault(p, "expected clientcert=verify-ca or clientcert=verify-full");
		if (!full && r->method == HBA_CERT)
			return fault(p, "cert always is clientcert=verify-full");
		r->clientcert = full ? HBA_CLIENTCERT_FULL : HBA_CLIENTCERT_CA;
		return true;
	}
	return fault(p, "expected map= behind cert or peer, clientcert= on a hostssl line, or "
	                "clientname=CN; other options are not supported");
}

static bool take_rule(struct parser *p, struct hba_rule *r, const struct token *type)
{
	struct token t;
	bool failed;
	r->line = p->line.number;
	if (!take_type(p, r, type) ||
	    !take_list(p, &r->databases, "expected databases behind the type", put_database) ||
	    !take_list(p, &r->users, "expected users behind the databases", put_user) ||
	    (r->type != RULE_LOCAL && !take_address(p, r)) || !take_method(p, r))
		return false;
	while (next_token(p, &t, &failed)) {
		if (!take_option(p, r, &t))
			return false;
	}
	return !failed;
}

static void parse_rules(struct parser *p)
{
	while (next_line(p)) {
		struct token t;
		bool failed;
		if (!next_token(p, &t, &failed))
			continue;
		if (p->hba->count == HBA_RULES_MAX) {
			fault(p, "more than 4096 rules");
			return;
		}
		struct hba_rule *grown = with_room(p->hba->rules, p->hba->count, sizeof(*p->hba->rules));
		if (!grown) {
			fault(p, "out of memory");
			return;
		}
		p->hba->rules = grown;
		struct hba_rule *r = &p->hba->rules[p->hba->count++];
		*r = (struct hba_rule){0};
		(void)take_rule(p, r, &t);
	}
}

/* ================= maps ================= */

static bool copy_name(struct parser *p, char out[HBA_NAME_MAX], const char *text)
{
	if (!*text || strlen(text) >= HBA_NAME_MAX)
		return fault(p, "a name is empty or longer than 63 bytes");
	snprintf(out, HBA_NAME_MAX, "%s", text);
	return true;
}

static bool take_ident(struct parser *p, struct ident_line *m, const struct token *map)
{
	struct token system_user, user, extra;
	bool failed;
	static const char expected[] = "expected MAP SYSTEM-USER DATABASE-USER";
	if (map->more)
		return fault(p, expected);
	if (!one_token(p, &system_user, expected) || !one_token(p, &user, expected))
		return false;
	if (next_token(p, &extra, &failed) || failed)
		return failed ? false : fault(p, expected);
	if (!user.quoted && (user.text[0] == '+' || user.text[0] == '/'))
		return fault(p, "roles (+) and patterns (/) for the database user are not supported");
	m->any_user = is_word(&user, "all");
	if (!copy_name(p, m->map, map->text) || !copy_name(p, m->user, user.text))
		return false;
	if (system_user.quoted || system_user.text[0] != '/')
		return copy_name(p, m->system_user, system_user.text);
	if (regcomp(&m->regex, system_user.text + 1, REG_EXTENDED) != 0)
		return fault(p, "the pattern behind / is no regular expression");
	m->is_regex = true;
	if (strstr(m->user, "\\1") && m->regex.re_nsub == 0)
		return fault(p, "\\1 needs a pattern with something in parentheses");
	return true;
}

static void parse_idents(struct parser *p)
{
	while (next_line(p)) {
		struct token t;
		bool failed;
		if (!next_token(p, &t, &failed))
			continue;
		if (p->hba->ident_count == HBA_RULES_MAX) {
			fault(p, "more than 4096 lines");
			return;
		}
		struct ident_line **grown = with_room(p->hba->idents, p->hba->ident_count, sizeof(struct ident_line *));
		p->hba->idents = grown ? grown : p->hba->idents;
		struct ident_line *m = grown ? calloc(1, sizeof(*m)) : NULL;
		if (!m) {
			fault(p, "out of memory");
			return;
		}
		p->hba->idents[p->hba->ident_count++] = m;
		(void)take_ident(p, m, &t);
	}
}

static bool map_known(const struct hba *h, const char *map)
{
	for (int i = 0; i < h->ident_count; i++) {
		if (strcmp(h->idents[i]->map, map) == 0)
			return true;
	}
	return false;
}

static void check_maps(struct parser *p)
{
	for (int i = 0; i < p->hba->count; i++) {
		p->line.number = p->hba->rules[i].line;
		if (p->hba->rules[i].map[0] && !map_known(p->hba, p->hba->rules[i].map))
			fault(p, "auth_ident_file has no line for this map");
	}
}

struct hba *hba_parse(struct slice rules, struct slice ident, hba_fault_fn rules_fault,
                      hba_fault_fn ident_fault, void *arg)
{
	struct hba *h = calloc(1, sizeof(*h));
	struct parser *p = calloc(1, sizeof(*p));
	bool ok = false;
	if (!h || !p) {
		rules_fault(arg, 0, "out of memory");
		goto out;
	}
	*p = (struct parser){.hba = h, .rest = ident, .ok = true, .fn = ident_fault, .arg = arg};
	parse_idents(p);
	ok = p->ok;
	*p = (struct parser){.hba = h, .rest = rules, .ok = true, .fn = rules_fault, .arg = arg};
	parse_rules(p);
	if (ok && p->ok)
		check_maps(p);
	ok = ok && p->ok;
out:
	free(p);
	if (ok)
		return h;
	hba_free(h);
	return NULL;
}

void hba_free(struct hba *h)
{
	if (!h)
		return;
	for (int i = 0; i < h->count; i++) {
		free(h->rules[i].databases.names);
		free(h->rules[i].users.names);
	}
	for (int i = 0; i < h->ident_count; i++) {
		if (h->idents[i]->is_regex)
			regfree(&h->idents[i]->regex);
		free(h->idents[i]);
	}
	free(h->rules);
	free(h->idents);
	free(h);
}

bool hba_has_cert(const struct hba *h)
{
	for (int i = 0; i < h->count; i++) {
		if (h->rules[i].method == HBA_CERT || h->rules[i].clientcert != HBA_CLIENTCERT_NONE)
			return true;
	}
	return false;
}

/* ================= verdicts ================= */

static bool in_list(const struct name_list *list, const char *name, const char *user)
{
	if (list->all || (list->same_user && strcmp(name, user) == 0))
		return true;
	for (int i = 0; i < list->count; i++) {
		if (strcmp(list->names[i], name) == 0)
			return true;
	}
	return false;
}

static bool in_range(const struct hba_rule *r, const struct hba_peer *p)
{
	if (r->any_address)
		return true;
	if (r->is_v6 != p->is_v6)
		return false;
	for (int i = 0; i < (p->is_v6 ? 16 : 4); i++) {
		if ((r->address[i] ^ p->address[i]) & r->mask[i])
			return false;
	}
	return true;
}

static bool type_fits(enum rule_type type, const struct hba_peer *p)
{
	switch (type) {
	case RULE_LOCAL:
		return p->local;
	case RULE_HOST:
		return !p->local;
	case RULE_HOSTSSL:
		return !p->local && p->tls;
	case RULE_HOSTNOSSL:
		return !p->local && !p->tls;
	}
	return false;
}

const struct hba_rule *hba_find(const struct hba *h, const struct hba_peer *p)
{
	for (int i = 0; i < h->count; i++) {
		const struct hba_rule *r = &h->rules[i];
		if (type_fits(r->type, p) && (r->type == RULE_LOCAL || in_range(r, p)) &&
		    in_list(&r->databases, p->database, p->user) && in_list(&r->users, p->user, ""))
			return r;
	}
	return NULL;
}

enum hba_method hba_rule_method(const struct hba_rule *r)
{
	return r->method;
}

enum hba_clientcert hba_rule_clientcert(const struct hba_rule *r)
{
	return r->method == HBA_CERT ? HBA_CLIENTCERT_CA : r->clientcert;
}

/* The first \1 of the line's user becomes what the pattern's first parentheses matched. */
static bool regex_fits(const struct ident_line *m, const char *system_user, const char *user)
{
	regmatch_t found[2] = {{-1, -1}, {-1, -1}};
	char wanted[2 * HBA_NAME_MAX + 256];
	if (regexec(&m->regex, system_user, 2, found, 0) != 0)
		return false;
	if (m->any_user)
		return true;
	const char *hole = strstr(m->user, "\\1");
	if (!hole)
		return strcmp(m->user, user) == 0;
	if (found[1].rm_so < 0)
		return false;
	int n = snprintf(wanted, sizeof(wanted), "%.*s%.*s%s", (int)(hole - m->user), m->user,
	                 (int)(found[1].rm_eo - found[1].rm_so), system_user + found[1].rm_so, hole + 2);
	return n > 0 && (size_t)n < sizeof(wanted) && strcmp(wanted, user) == 0;
}

bool hba_user_fits(const struct hba *h, const struct hba_rule *r, const char *system_user,
                   const char *user)
{
	if (!r->map[0])
		return strcmp(system_user, user) == 0;
	for (int i = 0; i < h->ident_count; i++) {
		const struct ident_line *m = h->idents[i];
		if (strcmp(m->map, r->map) != 0)
			continue;
		if (m->is_regex ? regex_fits(m, system_user, user)
		                : strcmp(m->system_user, system_user) == 0 &&
		                      (m->any_user || strcmp(m->user, user) == 0))
			return true;
	}
	return false;
}
