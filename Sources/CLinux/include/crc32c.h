/*
 * CRC-32C (Castagnoli: polynomial 0x1EDC6F41 reflected), the checksum of records on disk.
 *
 * By the processor's own instruction where it has one, some 8 bytes in 3 cycles; else by tables.
 */
#ifndef CRC32C_H
#define CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `count` bytes after what `crc` is the checksum of; 0 is that of nothing. */
uint32_t crc32c(uint32_t crc, const void *start, size_t count);

/* The same by tables, whatever the processor has: for tests to compare. */
uint32_t crc32c_by_tables(uint32_t crc, const void *start, size_t count);

#endif
