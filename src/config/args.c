/* SPDX-License-Identifier: PostgreSQL */
#include "args.h"

#include <string.h>

#include "options.h"

static const struct {
	const char *name;
	enum arg_kind kind;
	bool takes_value;
} specials[] = {
	{"config", ARG_CONFIG, true},    {"c", ARG_CONFIG, true},
	{"from", ARG_FROM, true},        {"listen", ARG_LISTEN, true},
	{"primary", ARG_PRIMARY, true},  {"replica", ARG_REPLICA, true},
	{"verbose", ARG_VERBOSE, false}, {"v", ARG_VERBOSE, false},
	{"version", ARG_VERSION, false}, {"V", ARG_VERSION, false},
	{"help", ARG_HELP, false},       {"h", ARG_HELP, false},
};

static void unknown(struct args *a, const char *word, const char *name)
{
	const char *near = options_nearest(name);

	if (near)
		config_errors_add(a->errors, "%s: unknown option; did you mean --%s?", word, near);
	else
		config_errors_add(a->errors, "%s: unknown option; --help lists them", word);
}

/* Says which kind of flag `name` is. One letter needs one dash, more need two. */
static bool find_kind(const char *name, bool two_dashes, enum arg_kind *kind, bool *takes_value)
{
	for (size_t i = 0; i < sizeof(specials) / sizeof(specials[0]); i++) {
		if (strcmp(specials[i].name, name) != 0 || (strlen(name) > 1) != two_dashes)
			continue;
		*kind = specials[i].kind;
		*takes_value = specials[i].takes_value;
		return true;
	}
	*kind = ARG_OPTION;
	*takes_value = true;
	return two_dashes && options_find(name) != NULL;
}

/* "--log-connections" without a value is "on". */
static bool is_bare_switch(const struct args *a, const char *name)
{
	const struct option *o = options_find(name);
	const char *next = a->next < a->argc ? a->argv[a->next] : NULL;

	return o && o->type == OPTION_BOOL && (!next || next[0] == '-');
}

/* The name's text ends at "=" or at the end of the word. */
static void copy_name(struct arg *out, const char *name)
{
	size_t len = strcspn(name, "=");

	if (len >= sizeof(out->name))
		len = sizeof(out->name) - 1;
	for (size_t i = 0; i < len; i++)
		out->name[i] = name[i] == '-' ? '_' : name[i];
	out->name[len] = '\0';
}

/* False: a fault, told; the caller goes on with the next word. */
static bool take_flag(struct args *a, const char *word, struct arg *out)
{
	bool two_dashes = word[1] == '-';
	const char *equals = strchr(word, '=');
	bool takes_value;

	copy_name(out, word + (two_dashes ? 2 : 1));
	if (!find_kind(out->name, two_dashes, &out->kind, &takes_value)) {
		unknown(a, word, out->name);
		return false;
	}
	out->value = equals ? equals + 1 : NULL;
	if (!takes_value && equals) {
		config_errors_add(a->errors, "%s: takes no value", word);
		return false;
	}
	if (!takes_value || equals)
		return true;
	if (out->kind == ARG_OPTION && is_bare_switch(a, out->name)) {
		out->value = "on";
		return true;
	}
	if (a->next >= a->argc) {
		config_errors_add(a->errors, "%s: needs a value", word);
		return false;
	}
	out->value = a->argv[a->next++];
	return true;
}

bool args_next(struct args *a, struct arg *out)
{
	while (a->next < a->argc) {
		const char *word = a->argv[a->next++];
		if (word[0] == '-' && word[1] != '\0') {
			if (take_flag(a, word, out))
				return true;
			continue;
		}
		out->kind = ARG_CONFIG;
		out->name[0] = '\0';
		out->value = word;
		return true;
	}
	return false;
}
