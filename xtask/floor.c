/*
 * The floor: what no program that freezes or thaws can do without. Writes the request, reads until the kernel says
 * that it is so, and ends. `xtask bench` measures everything else against it.
 *
 * usage: floor DIR 1|0 v1|v2
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int file(const char *dir, const char *name, int flags)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return open(path, flags);
}

static int v1(const char *dir, int frozen)
{
	const char *state = frozen ? "FROZEN" : "THAWED";
	char seen[32] = "";
	int fd = file(dir, "freezer.state", O_RDWR);

	if (write(fd, state, 6) != 6)
		return 1;
	while (pread(fd, seen, sizeof seen - 1, 0) > 0) {
		if (!strncmp(seen, state, 6))
			return 0;
		usleep(50);
	}
	return 1;
}

static int v2(const char *dir, const char *request)
{
	char seen[256] = "", wanted[] = "frozen ?";
	int events = file(dir, "cgroup.events", O_RDONLY), fd = file(dir, "cgroup.freeze", O_WRONLY);
	struct pollfd change = { events, POLLPRI, 0 };

	wanted[7] = request[0];
	if (write(fd, request, 1) != 1)
		return 1;
	for (int i = 0; pread(events, seen, sizeof seen - 1, 0) > 0; i++) {
		if (strstr(seen, wanted))
			return 0;
		/* The kernel notifies of changes at most once in 10 ms, so look before waiting. */
		if (i < 200)
			sched_yield();
		else
			poll(&change, 1, 1000);
	}
	return 1;
}

int main(int count, char **words)
{
	if (count != 4)
		return 2;
	return strcmp(words[3], "v1") ? v2(words[1], words[2]) : v1(words[1], words[2][0] == '1');
}
