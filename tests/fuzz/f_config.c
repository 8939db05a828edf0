/* SPDX-License-Identifier: PostgreSQL
 *
 * The files an operator writes: first byte which, then its text.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "config/conninfo.h"
#include "config/keyfile.h"
#include "config/pgbouncer.h"
#include "config/userlist.h"

static void on_fault(void *arg, int line, const char *what)
{
	assert(line >= 0 && what[0] != '\0');
	(*(int *)arg)++;
}

static void try_userlist(struct slice text)
{
	struct user_entry *users;
	int count, faults = 0;
	bool ok = userlist_parse(text, &users, &count, on_fault, &faults);
	assert(ok == (faults == 0));
	for (int i = 1; i < count; i++)
		assert(!ok || strcmp(users[i - 1].name, users[i].name) < 0);
	free(users);
}

static void try_conninfo(struct slice text)
{
	char copy[2048], why[256] = "";
	struct watch_node node = {0};
	(void)snprintf(copy, sizeof(copy), "%.*s",
	               text.len < sizeof(copy) ? (int)text.len : (int)sizeof(copy) - 1,
	               (const char *)text.ptr);
	if (!conninfo_node(copy, &node, why, sizeof(why)))
		assert(why[0] != '\0');
}

/* For readers that take a path. */
static int as_file(struct slice text, char path[64])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	assert(fd >= 0);
	assert(text.len == 0 || write(fd, text.ptr, text.len) == (ssize_t)text.len);
	(void)snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

static void try_keyfile(struct slice text)
{
	struct token_keys keys;
	char path[64];
	int faults = 0, fd = as_file(text, path);
	bool ok = keyfile_load(path, &keys, on_fault, &faults);
	assert(ok == (faults == 0) && (!ok || keys.count > 0));
	close(fd);
}

static bool names_files(struct slice text);

static void try_pgbouncer(struct slice text)
{
	char path[64];
	if (text.len > 0 && (names_files(text) || memmem(text.ptr, text.len, "include", 7)))
		return;
	int fd = as_file(text, path);
	struct config_errors *told = calloc(2, sizeof(*told));
	struct buf out;
	assert(told);
	buf_init(&out, PGBOUNCER_TEXT_MAX);
	bool ok = pgbouncer_translate(path, false, &out, &told[0], &told[1]);
	assert(ok == (told[0].count == 0));
	buf_release(&out);
	free(told);
	close(fd);
}

/* A path in it would be opened, and the fuzzer is not to read whatever it thinks of. */
static bool names_files(struct slice text)
{
	return memmem(text.ptr, text.len, "file", 4) || memmem(text.ptr, text.len, "FILE", 4);
}

static void try_config(struct slice text)
{
	char path[64];
	if (text.len > 0 && names_files(text))
		return;
	int fd = as_file(text, path);
	char *argv[] = {(char[]){"tidemark"}, path, NULL};
	struct config_errors *errors = calloc(1, sizeof(*errors));
	assert(errors);
	struct settings *s = config_load(2, argv, errors);
	assert((s != NULL) == (errors->count == 0));
	config_free(s);
	free(errors);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	switch (fuzz_byte(&in)) {
	case 'u':
		try_userlist(in);
		break;
	case 'k':
		try_keyfile(in);
		break;
	case 'n':
		try_conninfo(in);
		break;
	case 'p':
		try_pgbouncer(in);
		break;
	case 'c':
		try_config(in);
		break;
	}
	return 0;
}
