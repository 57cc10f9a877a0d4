/*
 * Runs a program and prints the largest resident set, in KiB, that it or a process it waited for ever had: wait4(2)
 * tells. Ends as the program did.
 *
 * usage: peak PROGRAM [WORD]...
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct rusage used;
	int status;
	pid_t child;

	if (count < 2)
		return 2;
	child = fork();
	if (child == 0) {
		if (!freopen("/dev/null", "w", stdout))
			_exit(126);
		execv(words[1], words + 1);
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &used) < 0)
		return 126;
	printf("%ld\n", used.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}
