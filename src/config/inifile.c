/* SPDX-License-Identifier: PostgreSQL */
#include "inifile.h"

#include <ini.h>
#include <stdbool.h>
#include <string.h>

struct source {
	FILE *stream;
	const char *path;
	struct config_errors *errors;
	int line;
	inifile_fn fn;
	void *arg;
};

/* inih's fgets: a line that does not fit would come in pieces, each parsed as a line. */
static char *read_line(char *into, int cap, void *arg)
{
	struct source *s = arg;

	if (!fgets(into, cap, s->stream))
		return NULL;
	s->line++;
	size_t len = strlen(into);
	if (len <= INIFILE_LINE_MAX)
		return into;
	config_errors_add(s->errors, "%s:%d: the line is longer than %d bytes", s->path, s->line,
	                  INIFILE_LINE_MAX);
	for (int c = into[len - 1]; c != '\n' && c != EOF;)
		c = fgetc(s->stream);
	into[0] = '\n';
	into[1] = '\0';
	return into;
}

static int on_pair(void *arg, const char *section, const char *name, const char *value)
{
	struct source *s = arg;

	s->fn(s->arg, s->line, section, name, value);
	return 1;
}

void inifile_read(FILE *stream, const char *path, struct config_errors *errors, inifile_fn fn,
                  void *arg)
{
	struct source s = {.stream = stream, .path = path, .errors = errors, .fn = fn, .arg = arg};

	ini_allow_multiline = false;
	ini_allow_inline_comments = false;
	ini_allow_no_value = true;
	ini_max_line = INIFILE_LINE_MAX + 8;
	int bad_line = ini_parse_stream(read_line, &s, on_pair, &s);
	if (bad_line > 0)
		config_errors_add(errors, "%s:%d: expected [section], name = value or a comment", path,
		                  bad_line);
	if (ferror(stream))
		config_errors_add(errors, "%s: cannot be read", path);
}
