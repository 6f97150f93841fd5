/* shared_files.h: the ranges, and what happens at a SIGBUS. */
#define _GNU_SOURCE 1
#include "shared_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RANGES 256

/*
 * `start` is set last and cleared first, so that the handler, which takes no lock, sees the other two as they
 * are; it is 0 in a free range.
 */
static struct {
	_Atomic uintptr_t start;
	_Atomic uintptr_t end;
	_Atomic(_Atomic uint8_t *) lost;
} ranges[RANGES];

static _Atomic uint32_t losses;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;
static int installed;

/* The number of the range with this address, or RANGES. */
static size_t range_of(uintptr_t address)
{
	size_t i;

	for (i = 0; i < RANGES; i++) {
		uintptr_t start = atomic_load(&ranges[i].start);

		if (start && address >= start && address < atomic_load(&ranges[i].end))
			break;
	}
	return i;
}

static _Atomic uint8_t *lost_flag(size_t i, uintptr_t address)
{
	return atomic_load(&ranges[i].lost) + (address - atomic_load(&ranges[i].start)) / SHARED_PAGE;
}

/* The access that failed is made again on return: it then finds the page, or ends the process as ever. */
static void bus_error(int number, siginfo_t *about, void *state)
{
	int saved = errno;
	uintptr_t address = (uintptr_t)about->si_addr;
	size_t i = range_of(address);
	void *page = (void *)(address & ~(uintptr_t)(SHARED_PAGE - 1));

	if (i < RANGES && mmap(page, SHARED_PAGE, PROT_READ | PROT_WRITE,
			       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
		atomic_store(lost_flag(i, address), 1);
		atomic_fetch_add(&losses, 1);
	} else if (before.sa_flags & SA_SIGINFO && before.sa_sigaction) {
		/* Another copy of this file, in a module, has ranges of its own. */
		before.sa_sigaction(number, about, state);
	} else {
		sigaction(SIGBUS, &before, NULL);
	}
	errno = saved;
}

static int install(void)
{
	struct sigaction action = { .sa_sigaction = bus_error, .sa_flags = SA_SIGINFO | SA_RESTART };

	if (installed)
		return 0;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, &before) != 0)
		return -1;
	installed = 1;
	return 0;
}

static void *reserve(size_t pages)
{
	_Atomic uint8_t *lost;
	void *start;
	size_t i = 0;

	while (i < RANGES && atomic_load(&ranges[i].start))
		i++;
	if (i == RANGES) {
		errno = ENOSPC;
		return NULL;
	}
	if (install() != 0)
		return NULL;
	lost = calloc(pages, sizeof *lost);
	if (!lost)
		return NULL;
	start = mmap(NULL, pages * SHARED_PAGE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED) {
		free((void *)lost);
		return NULL;
	}
	atomic_store(&ranges[i].lost, lost);
	atomic_store(&ranges[i].end, (uintptr_t)start + pages * SHARED_PAGE);
	atomic_store(&ranges[i].start, (uintptr_t)start);
	return start;
}

void *shared_reserve(size_t pages)
{
	void *start;

	pthread_mutex_lock(&lock);
	start = reserve(pages);
	pthread_mutex_unlock(&lock);
	return start;
}

void shared_release(void *start)
{
	size_t i;

	pthread_mutex_lock(&lock);
	i = range_of((uintptr_t)start);
	if (i < RANGES) {
		uintptr_t end = atomic_load(&ranges[i].end);

		atomic_store(&ranges[i].start, 0);
		munmap(start, end - (uintptr_t)start);
		free((void *)atomic_load(&ranges[i].lost));
	}
	pthread_mutex_unlock(&lock);
}

static void clear_lost(void *where, size_t pages)
{
	size_t i = range_of((uintptr_t)where), page;

	for (page = 0; i < RANGES && page < pages; page++)
		atomic_store(lost_flag(i, (uintptr_t)where + page * SHARED_PAGE), 0);
}

int shared_map(void *where, size_t pages, int fd) { return shared_map_from(where, pages, fd, 0); }

int shared_map_from(void *where, size_t pages, int fd, uint64_t offset)
{
	void *mapped = mmap(where, pages * SHARED_PAGE, PROT_READ | PROT_WRITE,
			    MAP_FIXED | MAP_SHARED, fd, (off_t)offset);

	if (mapped == MAP_FAILED)
		return -1;
	clear_lost(where, pages);
	return 0;
}

void shared_unmap(void *where, size_t pages)
{
	mmap(where, pages * SHARED_PAGE, PROT_NONE,
	     MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	clear_lost(where, pages);
}

int shared_is_lost(const void *where)
{
	size_t i = range_of((uintptr_t)where);

	return i < RANGES && atomic_load(lost_flag(i, (uintptr_t)where));
}

uint32_t shared_losses(void) { return atomic_load(&losses); }

void shared_warm(void *where, size_t pages)
{
#ifdef MADV_POPULATE_WRITE
	int saved = errno;

	madvise(where, pages * SHARED_PAGE, MADV_POPULATE_WRITE);
	errno = saved;
#else
	(void)where;
	(void)pages;
#endif
}

int shared_identity(int directory, const char *path, uint64_t *identity)
{
	struct statx file;
	uint64_t born;

	if (statx(directory, path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &file) != 0)
		return -1;
	born = file.stx_mask & STATX_BTIME
		? (uint64_t)file.stx_btime.tv_sec * 1000000000u + file.stx_btime.tv_nsec : 0;
	/* An odd factor: two inodes of one moment stay different. */
	*identity = file.stx_ino * 0x9E3779B97F4A7C15u ^ born;
	return 0;
}
