/*
 * Pages of files that other processes map too, and may cut short while we look at them.
 *
 * A read of a page that its file has no longer is a SIGBUS, which would end the process. Here it makes the
 * page *lost* instead: a private page of zeros takes its place for good, the access goes on, and whoever
 * asks is told.
 */
#ifndef SHARED_FILES_H
#define SHARED_FILES_H

#include <stddef.h>
#include <stdint.h>

#define SHARED_PAGE 4096

/*
 * Reserves addresses for so many pages, none of which can be touched yet. Returns their start, or NULL with
 * errno (ENOSPC: there are 256 such ranges in this process). Any thread may reserve and release.
 */
void *shared_reserve(size_t pages);

/* Gives back all of `start`, from shared_reserve, with the pages mapped in it. */
void shared_release(void *start);

/* Maps the first `pages` pages of a file at `where`, readable and writable. Returns 0, or -1 with errno. */
int shared_map(void *where, size_t pages, int fd);

/* The same from byte `offset` of the file on, a multiple of SHARED_PAGE. */
int shared_map_from(void *where, size_t pages, int fd, uint64_t offset);

/* Ends that: the pages can be touched no more, and are not lost any more. */
void shared_unmap(void *where, size_t pages);

/* Whether the page at `where` has been lost since it was mapped. */
int shared_is_lost(const void *where);

/* How many pages this process has lost so far: to know that none was lost meanwhile, compare. */
uint32_t shared_losses(void);

/*
 * Makes mapped pages present and writable ahead of the first write to them. Nothing happens, and nothing
 * fails, where the kernel cannot (before Linux 5.14) or the file has no such pages.
 */
void shared_warm(void *where, size_t pages);

/* A word that other processes read and write at any time. */
static inline uint32_t shared_load(const void *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_ACQUIRE);
}

static inline void shared_store(void *word, uint32_t value)
{
	__atomic_store_n((uint32_t *)word, value, __ATOMIC_SEQ_CST);
}

/* Stores `value` after everything that was stored before: whoever sees it sees that too. */
static inline void shared_publish(void *word, uint32_t value)
{
	__atomic_store_n((uint32_t *)word, value, __ATOMIC_RELEASE);
}

/* The same two for 64 bits, between the threads of one process. */
static inline uint64_t shared_load_long(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void shared_publish_long(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Stores `value` and returns what stood there before. A full memory barrier. */
static inline uint32_t shared_exchange(void *word, uint32_t value)
{
	return __atomic_exchange_n((uint32_t *)word, value, __ATOMIC_SEQ_CST);
}

/* Sets bits of a word. A full memory barrier. */
static inline void shared_set_bits(void *word, uint32_t bits)
{
	__atomic_fetch_or((uint32_t *)word, bits, __ATOMIC_SEQ_CST);
}

/*
 * A number that tells the file at `path`, below the directory `directory`, from an earlier one of that name:
 * from its inode's number and, where the file system keeps it, its time of birth. Two files that exist at
 * the same time have different ones. Returns 0, or -1 with errno.
 */
int shared_identity(int directory, const char *path, uint64_t *identity);

#endif
