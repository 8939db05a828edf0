/* SPDX-License-Identifier: PostgreSQL
 *
 * Preloaded into a server: its wall clock is off by the milliseconds that the file CLOCK_SHIFT
 * holds as text, and jumps when they change.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift_us(void)
{
	char text[32] = {0};
	const char *path = getenv("CLOCK_SHIFT");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	if (fd >= 0)
		close(fd);
	return strtol(text, NULL, 10) * 1000;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	long us = now.tv_sec * 1000000 + now.tv_nsec / 1000 + shift_us();
	tv->tv_sec = us / 1000000;
	tv->tv_usec = us % 1000000;
	return 0;
}

time_t time(time_t *out)
{
	struct timeval now;
	gettimeofday(&now, NULL);
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}
