/*
 * Faults for a process under test, by LD_PRELOAD: the n-th call that changes a file, allocates for it or
 * makes it durable fails, or kills the process. The environment says which:
 *
 *     FAULT_AT     the number of the call, from 1; 0 or absent: none, they are only counted
 *     FAULT_KIND   enospc   writes and allocations fail with ENOSPC, this once
 *                  eio      any of the calls fails with EIO, this once
 *                  enomem   mappings fail with ENOMEM, this once
 *                  full     from this call on, writes and allocations fail with ENOSPC
 *                  rofs     from this call on, opening for writing fails with EROFS
 *                  kill     the process dies by SIGKILL before the call
 *                  torn     a write does half of its work, then the process dies; other calls as kill
 *
 * Counted are open for writing, write, pwrite, writev, pwritev, ftruncate, fallocate, posix_fallocate, fsync,
 * fdatasync, msync, mmap of files, rename and unlink, in all their forms. Descriptors 0 to 2 are not touched.
 */
#ifndef FAULTS_H
#define FAULTS_H

/* How many calls there were so far. */
unsigned long faults_count(void);

#endif
