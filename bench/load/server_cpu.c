/*
 * server_cpu.c
 *	  The processor time of a server of PostgreSQL, by the kernel's books.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients.h"
#include "server_cpu.h"

/*
 * What /proc/PID/stat tells of a process. Its own seconds are there too, but in hundredths and rounded
 * down, which is too coarse for hundreds of processes that take some milliseconds each.
 */
typedef struct Process
{
	int parent;
	double ended; /* seconds of its children that have ended */
} Process;

static bool
read_process(int pid, Process *process)
{
	char path[64];
	char line[1024];
	long ended[2];
	const char *rest;
	double tick = sysconf(_SC_CLK_TCK);
	FILE *file;
	bool known;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (file == NULL)
		return false;
	known = fgets(line, sizeof(line), file) != NULL;
	fclose(file);
	/* the name may have spaces and parentheses */
	rest = known ? strrchr(line, ')') : NULL;
	if (rest == NULL ||
		sscanf(rest + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %ld %ld",
			   &process->parent, &ended[0], &ended[1]) != 3)
		return false;
	process->ended = (ended[0] + ended[1]) / tick;
	return true;
}

double
process_cpu(int pid)
{
	char path[64];
	unsigned long long nanoseconds = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	file = fopen(path, "r");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%llu", &nanoseconds) != 1)
		fail("cannot read %s", path);
	fclose(file);
	return nanoseconds / 1e9;
}

double
server_cpu(int postmaster)
{
	DIR *folder = opendir("/proc");
	struct dirent *entry;
	Process process;
	double seconds;

	if (folder == NULL || !read_process(postmaster, &process))
		fail("cannot read the times of process %d", postmaster);
	seconds = process_cpu(postmaster) + process.ended;
	while ((entry = readdir(folder)) != NULL)
		if (isdigit((unsigned char) entry->d_name[0]) &&
			read_process(atoi(entry->d_name), &process) && process.parent == postmaster)
			seconds += process_cpu(atoi(entry->d_name));
	closedir(folder);
	return seconds;
}
