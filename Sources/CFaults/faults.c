/* Faults by LD_PRELOAD: see include/faults.h. */
#define _GNU_SOURCE
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* What a call does to a file. */
enum call { OPEN, WRITE, ALLOCATE, SYNC, MAP, NAME };

static unsigned long count;

unsigned long faults_count(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* 0: the call goes on; else its errno; -1: half of it, then death. */
static int fault(enum call call)
{
	static unsigned long at;
	static const char *kind;
	unsigned long now = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);

	if (kind == NULL) {
		const char *number = getenv("FAULT_AT");
		const char *name = getenv("FAULT_KIND");
		at = number != NULL ? strtoul(number, NULL, 10) : 0;
		kind = name != NULL ? name : "";
	}
	if (at == 0 || now < at)
		return 0;
	if (strcmp(kind, "full") == 0)
		return call == WRITE || call == ALLOCATE ? ENOSPC : 0;
	if (strcmp(kind, "rofs") == 0)
		return call == OPEN ? EROFS : 0;
	if (now > at)
		return 0;
	if (strcmp(kind, "enospc") == 0)
		return call == WRITE || call == ALLOCATE ? ENOSPC : 0;
	if (strcmp(kind, "enomem") == 0)
		return call == MAP ? ENOMEM : 0;
	if (strcmp(kind, "eio") == 0)
		return call == OPEN || call == MAP ? 0 : EIO;
	if (strcmp(kind, "torn") == 0 && call == WRITE)
		return -1;
	if (strcmp(kind, "kill") == 0 || strcmp(kind, "torn") == 0)
		die();
	return 0;
}

/* The function that we stand before. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define FAIL(error)                                                                                 \
	do {                                                                                        \
		errno = (error);                                                                    \
		return -1;                                                                          \
	} while (0)

#define GUARD(call)                                                                                 \
	do {                                                                                        \
		int error = fault(call);                                                            \
		if (error != 0)                                                                     \
			FAIL(error == -1 ? EIO : error);                                            \
	} while (0)

#define OPENING(flags)                                                                              \
	mode_t mode = 0;                                                                            \
	if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                    \
		va_list rest;                                                                       \
		va_start(rest, flags);                                                              \
		mode = va_arg(rest, mode_t);                                                        \
		va_end(rest);                                                                       \
	}                                                                                           \
	if (((flags) & O_ACCMODE) != O_RDONLY)                                                      \
		GUARD(OPEN)

int open(const char *path, int flags, ...)
{
	OPENING(flags);
	return NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	OPENING(flags);
	return NEXT(open64)(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
	OPENING(flags);
	return NEXT(openat)(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
	OPENING(flags);
	return NEXT(openat64)(at, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
	int error = fd > 2 ? fault(WRITE) : 0;
	if (error == -1) {
		(void)!NEXT(write)(fd, bytes, size / 2);
		die();
	}
	if (error != 0)
		FAIL(error);
	return NEXT(write)(fd, bytes, size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
	int error = fault(WRITE);
	if (error == -1) {
		(void)!NEXT(pwrite)(fd, bytes, size / 2, offset);
		die();
	}
	if (error != 0)
		FAIL(error);
	return NEXT(pwrite)(fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
	return pwrite(fd, bytes, size, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int number)
{
	if (fd > 2)
		GUARD(WRITE);
	return NEXT(writev)(fd, parts, number);
}

ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t offset)
{
	GUARD(WRITE);
	return NEXT(pwritev)(fd, parts, number, offset);
}

int ftruncate(int fd, off_t size)
{
	GUARD(ALLOCATE);
	return NEXT(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
	GUARD(ALLOCATE);
	return NEXT(ftruncate64)(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	GUARD(ALLOCATE);
	return NEXT(fallocate)(fd, mode, offset, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
	GUARD(ALLOCATE);
	return NEXT(fallocate64)(fd, mode, offset, size);
}

/* These two answer the error instead of setting errno. */
int posix_fallocate(int fd, off_t offset, off_t size)
{
	int error = fault(ALLOCATE);
	return error != 0 ? (error == -1 ? EIO : error) : NEXT(posix_fallocate)(fd, offset, size);
}

int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
	return posix_fallocate(fd, offset, size);
}

int fsync(int fd)
{
	GUARD(SYNC);
	return NEXT(fsync)(fd);
}

int fdatasync(int fd)
{
	GUARD(SYNC);
	return NEXT(fdatasync)(fd);
}

int msync(void *start, size_t size, int flags)
{
	GUARD(SYNC);
	return NEXT(msync)(start, size, flags);
}

void *mmap(void *start, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (fd >= 0) {
		int error = fault(MAP);
		if (error != 0) {
			errno = error == -1 ? EIO : error;
			return MAP_FAILED;
		}
	}
	return NEXT(mmap)(start, size, protection, flags, fd, offset);
}

void *mmap64(void *start, size_t size, int protection, int flags, int fd, off64_t offset)
{
	return mmap(start, size, protection, flags, fd, offset);
}

int rename(const char *from, const char *to)
{
	GUARD(NAME);
	return NEXT(rename)(from, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
	GUARD(NAME);
	return NEXT(renameat)(from_at, from, to_at, to);
}

int unlink(const char *path)
{
	GUARD(NAME);
	return NEXT(unlink)(path);
}

int unlinkat(int at, const char *path, int flags)
{
	GUARD(NAME);
	return NEXT(unlinkat)(at, path, flags);
}
