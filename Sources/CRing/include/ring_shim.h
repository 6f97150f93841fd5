/*
 * Access to memory that another party, perhaps a hostile one, changes at the same time. No logic.
 *
 * Every word is 32 bits, aligned to 4 bytes, in this machine's byte order.
 */
#ifndef RING_SHIM_H
#define RING_SHIM_H

#include <stddef.h>
#include <stdint.h>

/* Reads a word, just once; the compiler neither repeats nor splits the read. Orders nothing. */
static inline uint32_t ring_load(const void *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_RELAXED);
}

/* Writes a word, in one piece. Whoever sees it sees all that was read or written before as done. */
static inline void ring_store(void *word, uint32_t value)
{
	__atomic_store_n((uint32_t *)word, value, __ATOMIC_RELEASE);
}

/* What follows is read and written after the words that were loaded before. */
static inline void ring_fence_loads(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }

/* What follows is read and written after everything before, stores before loads too. */
static inline void ring_fence_all(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/*
 * Copies bytes into or out of shared memory; the two places must not overlap. Once it has returned, the
 * compiler may not look at `from` again for what stands in `to`: without that, a byte that was checked in
 * the copy could be fetched again from the page when it is used.
 */
static inline void ring_copy(void *to, const void *from, size_t count)
{
	__builtin_memcpy(to, from, count);
	__asm__ volatile("" : : : "memory");
}

#endif
