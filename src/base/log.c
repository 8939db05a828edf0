/* SPDX-License-Identifier: PostgreSQL */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static enum log_level threshold = LOG_LEVEL_INFO;

static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};

void log_set_level(enum log_level level)
{
	threshold = level;
}

bool log_level_parse(const char *name, enum log_level *level)
{
	static const char *const words[] = {"debug", "info", "warn", "error"};
	for (int i = 0; i < 4; i++) {
		if (strcmp(name, words[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

bool log_enabled(enum log_level level)
{
	return level >= threshold;
}

/* A hostile user name must not be able to forge a line of log. */
static void escape_control_bytes(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c < 0x20 || c == 0x7f)
			text[i] = '?';
	}
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if (level < threshold)
		return;

	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);

	char line[LINE_MAX_BYTES];
	size_t n = strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03ld UTC %s ", now.tv_nsec / 1000000,
	                      names[level]);

	va_list args;
	va_start(args, fmt);
	int body = vsnprintf(line + n, sizeof(line) - n - 1, fmt, args);
	va_end(args);
	if (body < 0)
		return;

	size_t room = sizeof(line) - n - 2;
	size_t body_len = (size_t)body < room ? (size_t)body : room;
	escape_control_bytes(line + n, body_len);
	n += body_len;
	line[n++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, n);
	(void)ignored;
}
