/*
 * Loaded below a server by LD_PRELOAD: while the file $FULL_DISK_FLAG exists, no file in the folder
 * $FULL_DISK_FOLDER can be made longer, as on a disk that is full. What is there can be overwritten.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Would a write up to this offset make a file of the folder longer while the disk is full? */
static int
is_full(int fd, long long end)
{
	const char *folder = getenv("FULL_DISK_FOLDER");
	const char *flag = getenv("FULL_DISK_FLAG");
	char link[64];
	char path[4096];
	struct stat about;
	ssize_t length;

	if (folder == NULL || flag == NULL || access(flag, F_OK) != 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length <= 0)
		return 0;
	path[length] = '\0';
	if (strncmp(path, folder, strlen(folder)) != 0 || fstat(fd, &about) != 0 ||
		end <= about.st_size)
		return 0;
	errno = ENOSPC;
	return 1;
}

/* The function of this name that comes after this library's. */
#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static long long
length_of(const struct iovec *iov, int n)
{
	long long length = 0;

	for (int i = 0; i < n; i++)
		length += iov[i].iov_len;
	return length;
}

ssize_t
pwrite(int fd, const void *data, size_t n, off_t offset)
{
	return is_full(fd, offset + (long long) n) ? -1 : NEXT(pwrite)(fd, data, n, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t n, off64_t offset)
{
	return is_full(fd, offset + (long long) n) ? -1 : NEXT(pwrite64)(fd, data, n, offset);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return is_full(fd, offset + length_of(iov, n)) ? -1 : NEXT(pwritev)(fd, iov, n, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
	return is_full(fd, offset + length_of(iov, n)) ? -1 : NEXT(pwritev64)(fd, iov, n, offset);
}

int posix_fallocate(int fd, off_t offset, off_t length);
int posix_fallocate64(int fd, off64_t offset, off64_t length);

int
posix_fallocate(int fd, off_t offset, off_t length)
{
	return is_full(fd, offset + length) ? ENOSPC : NEXT(posix_fallocate)(fd, offset, length);
}

int
posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	return is_full(fd, offset + length) ? ENOSPC : NEXT(posix_fallocate64)(fd, offset, length);
}
