/* crc32c.h: by instruction and by tables. */
#include "crc32c.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

/* table[k][b]: what byte b does to the checksum k bytes later. */
static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
	uint32_t byte, crc;
	int bit, k;

	for (byte = 0; byte < 256; byte++) {
		crc = byte;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
		table[0][byte] = crc;
	}
	for (k = 1; k < 8; k++)
		for (byte = 0; byte < 256; byte++)
			table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 0xFF];
}

uint32_t crc32c_by_tables(uint32_t crc, const void *start, size_t count)
{
	const uint8_t *at = start;
	uint32_t low, high;

	pthread_once(&once, fill_tables);
	crc = ~crc;
	for (; count >= 8; count -= 8, at += 8) {
		low = crc ^ ((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16
			     | (uint32_t)at[3] << 24);
		high = (uint32_t)at[4] | (uint32_t)at[5] << 8 | (uint32_t)at[6] << 16 | (uint32_t)at[7] << 24;
		crc = table[7][low & 0xFF] ^ table[6][low >> 8 & 0xFF] ^ table[5][low >> 16 & 0xFF]
			^ table[4][low >> 24] ^ table[3][high & 0xFF] ^ table[2][high >> 8 & 0xFF]
			^ table[1][high >> 16 & 0xFF] ^ table[0][high >> 24];
	}
	for (; count; count--, at++)
		crc = crc >> 8 ^ table[0][(crc ^ *at) & 0xFF];
	return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2")))
static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t count)
{
	uint64_t wide = (uint32_t)~crc, word;

	for (; count >= 8; count -= 8, at += 8) {
		memcpy(&word, at, 8);
		wide = _mm_crc32_u64(wide, word);
	}
	for (; count; count--, at++)
		wide = _mm_crc32_u8((uint32_t)wide, *at);
	return ~(uint32_t)wide;
}

static int has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
__attribute__((target("crc")))
static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t count)
{
	uint64_t word;

	crc = ~crc;
	for (; count >= 8; count -= 8, at += 8) {
		memcpy(&word, at, 8);
		crc = __crc32cd(crc, word);
	}
	for (; count; count--, at++)
		crc = __crc32cb(crc, *at);
	return ~crc;
}

static int has_instruction(void) { return (getauxval(AT_HWCAP) & 1 << 7) != 0; }
#else
static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t count)
{
	return crc32c_by_tables(crc, at, count);
}

static int has_instruction(void) { return 0; }
#endif

uint32_t crc32c(uint32_t crc, const void *start, size_t count)
{
	if (!has_instruction())
		return crc32c_by_tables(crc, start, count);
	return by_instruction(crc, start, count);
}
