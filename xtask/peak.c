/*
 * Runs a program and prints the largest resident set, in KiB, that it or a process below it ever had: wait4(2) tells of
 * each. Those that the program leaves behind come to this one, and are waited for too. Ends as the program did.
 *
 * usage: peak PROGRAM [WORD]...
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct rusage used;
	long most = 0;
	int status, ended = 0;
	pid_t child, one;

	if (count < 2 || prctl(PR_SET_CHILD_SUBREAPER, 1))
		return 2;
	child = fork();
	if (child == 0) {
		if (!freopen("/dev/null", "w", stdout))
			_exit(126);
		execv(words[1], words + 1);
		_exit(127);
	}
	if (child < 0)
		return 126;
	while ((one = wait4(-1, &status, 0, &used)) > 0) {
		if (used.ru_maxrss > most)
			most = used.ru_maxrss;
		if (one == child)
			ended = status;
	}
	printf("%ld\n", most);
	return WIFEXITED(ended) ? WEXITSTATUS(ended) : 126;
}
