/*
 * What compiled code asks of a C library: memory, and little more. The allocator is Swift's
 * (Sources/Allocation.swift), which may not have these names.
 */
#include <stddef.h>
#include <stdint.h>

void *kernel_allocate(size_t count, size_t alignment);
void kernel_release(void *piece);

int posix_memalign(void **place, size_t alignment, size_t count)
{
	*place = kernel_allocate(count, alignment);
	return 0;
}

void free(void *piece) { kernel_release(piece); }

/* Eight bytes that may stand anywhere and overlap with anything. */
typedef uint64_t word __attribute__((may_alias, aligned(1)));

void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
	uint8_t *at = to;
	const uint8_t *source = from;
	for (; count >= 8; count -= 8, at += 8, source += 8)
		*(word *)at = *(const word *)source;
	for (; count > 0; count--)
		*at++ = *source++;
	return to;
}

void *memmove(void *to, const void *from, size_t count)
{
	if ((uintptr_t)to - (uintptr_t)from >= count)
		return memcpy(to, from, count);
	uint8_t *at = (uint8_t *)to + count;
	const uint8_t *source = (const uint8_t *)from + count;
	for (; count >= 8; count -= 8) {
		at -= 8;
		source -= 8;
		*(word *)at = *(const word *)source;
	}
	for (; count > 0; count--)
		*--at = *--source;
	return to;
}

void *memset(void *to, int value, size_t count)
{
	uint8_t *at = to;
	uint64_t all = 0x0101010101010101 * (uint8_t)value;
	for (; count >= 8; count -= 8, at += 8)
		*(word *)at = all;
	for (; count > 0; count--)
		*at++ = (uint8_t)value;
	return to;
}

int memcmp(const void *one, const void *other, size_t count)
{
	const uint8_t *a = one, *b = other;
	for (; count > 0; count--, a++, b++)
		if (*a != *b)
			return *a - *b;
	return 0;
}

size_t strlen(const char *text)
{
	size_t count = 0;
	while (text[count] != '\0')
		count++;
	return count;
}

/* How large a Set or a Dictionary begins: small positive numbers only. */
double ceil(double value)
{
	double whole = (double)(int64_t)value;
	return whole < value ? whole + 1 : whole;
}
