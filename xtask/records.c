/*
 * What `xtask bench --records` needs beside the records themselves.
 *
 * usage: records crowd TASKS DIR...
 *     For each line of standard input, a cgroup's name: makes the cgroup DIR/NAME for every DIR, starts so many processes
 *     that only wait, moves them there, and prints the tick that the first one started at, and their PIDs. The end of the
 *     input ends all of them.
 * usage: records loop FILE
 *     The least that a reading of many files takes: per line of FILE, `@DIR` goes to a directory, `r NAME` reads a file
 *     below it, `l NAME` lists a directory there, `w NAME WORD` writes a word to a file. Of a hundred one may be gone by now: the machine lives on.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static pid_t waiter(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(0, ~0U, 0);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	return pid;
}

static int make(const char *dir, const char *id)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/%s", dir, id);
	return mkdir(path, 0755) ? fail(path) : 0;
}

static int move(pid_t pid, const char *dir, const char *id)
{
	char path[4096], number[16];
	int fd, length = snprintf(number, sizeof number, "%d", pid);
	int moved;

	snprintf(path, sizeof path, "%s/%s/cgroup.procs", dir, id);
	fd = open(path, O_WRONLY);
	moved = write(fd, number, length) == length;
	close(fd);
	return moved ? 0 : fail(path);
}

/* Field 22 of /proc/PID/stat; the name before it is this program's, which has no parenthesis in it. */
static unsigned long long start_of(pid_t pid)
{
	unsigned long long start = 0;
	char path[64];
	FILE *stat;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	stat = fopen(path, "r");
	if (stat) {
		if (fscanf(stat, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			   &start) != 1)
			start = 0;
		fclose(stat);
	}
	return start;
}

static int crowd(int tasks, char **dirs)
{
	char id[256];

	setvbuf(stdout, NULL, _IOLBF, 0);
	setpgid(0, 0);
	while (fgets(id, sizeof id, stdin)) {
		id[strcspn(id, "\n")] = 0;
		for (char **dir = dirs; *dir; dir++)
			if (make(*dir, id))
				return 1;
		for (int task = 0; task < tasks; task++) {
			pid_t pid = waiter();

			if (pid < 0)
				return fail("fork");
			for (char **dir = dirs; *dir; dir++)
				if (move(pid, *dir, id))
					return 1;
			if (task == 0)
				printf("%llu", start_of(pid));
			printf(" %d", pid);
		}
		printf("\n");
	}
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM); /* The group is its own. */
	while (wait(NULL) > 0)
		;
	return 0;
}

static int list(int at, const char *name)
{
	static char buffer[1 << 15];
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return 1;
	while (syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0)
		;
	close(fd);
	return 0;
}

static int whole(int at, const char *name)
{
	static char buffer[1 << 16];
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 1;
	while (read(fd, buffer, sizeof buffer) == sizeof buffer)
		;
	close(fd);
	return 0;
}

static int put(int at, char *name)
{
	char *word = strchr(name, ' ');
	int fd, missed;

	*word++ = 0;
	fd = openat(at, name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return 1;
	missed = write(fd, word, strlen(word)) < 0;
	close(fd);
	return missed;
}

static int loop(const char *name)
{
	struct stat stat;
	int fd = open(name, O_RDONLY), at = AT_FDCWD, all = 0, missed = 0;
	char *line, *end, *last;

	if (fd < 0 || fstat(fd, &stat))
		return fail(name);
	line = mmap(NULL, stat.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (line == MAP_FAILED)
		return fail(name);
	for (last = line + stat.st_size; (end = memchr(line, '\n', last - line)); line = end + 1) {
		*end = 0;
		if (line[0] == '@') {
			if (at != AT_FDCWD)
				close(at);
			at = open(line + 1, O_PATH | O_DIRECTORY | O_CLOEXEC);
			missed += at < 0;
		} else {
			all++;
			missed += line[0] == 'l' ? list(at, line + 2) : line[0] == 'w' ? put(at, line + 2) : whole(at, line + 2);
		}
	}
	if (missed * 100 <= all)
		return 0;
	fprintf(stderr, "%d of %d files and directories can't be read\n", missed, all);
	return 1;
}

int main(int count, char **words)
{
	if (count >= 4 && !strcmp(words[1], "crowd"))
		return crowd(atoi(words[2]), words + 3);
	if (count == 3 && !strcmp(words[1], "loop"))
		return loop(words[2]);
	return 2;
}
