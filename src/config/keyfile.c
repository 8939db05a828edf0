/* SPDX-License-Identifier: PostgreSQL */
#include "keyfile.h"

#include <errno.h>
#include <stdio.h>

#define LINE_MAX_BYTES 512

/* A line that fills the buffer is a comment, or too long for a key, whatever follows. */
static void skip_rest(FILE *file, const char *line, size_t len)
{
	if (len + 1 < LINE_MAX_BYTES || line[len - 1] == '\n')
		return;
	for (int c = fgetc(file); c != '\n' && c != EOF;)
		c = fgetc(file);
}

static bool take_line(struct token_keys *keys, char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\n')
		len--;
	return token_keys_add_line(keys, slice_of(line, len));
}

bool keyfile_load(const char *path, struct token_keys *keys, userlist_fault_fn fn, void *arg)
{
	char line[LINE_MAX_BYTES];
	bool ok = true;
	int number = 0;
	FILE *file = fopen(path, "re");

	*keys = (struct token_keys){0};
	if (!file) {
		fn(arg, 0, strerror(errno));
		return false;
	}
	while (ok && fgets(line, sizeof(line), file)) {
		number++;
		skip_rest(file, line, strlen(line));
		ok = take_line(keys, line, strlen(line));
		if (!ok)
			fn(arg, number,
			   "expected id:hex, an id of 0 to 255 that is not taken yet and 16 to 64 bytes; at "
			   "most 8 keys (tidemark token make-key prints such a line)");
	}
	if (ok && ferror(file)) {
		fn(arg, 0, "cannot be read");
		ok = false;
	} else if (ok && keys->count == 0) {
		fn(arg, 0, "no key in it (tidemark token make-key prints one)");
		ok = false;
	}
	explicit_bzero(line, sizeof(line));
	fclose(file);
	return ok;
}
