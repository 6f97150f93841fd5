/*
 * Linux calls that Swift's Glibc module hides, or whose C macros it cannot import. No logic.
 * Pages that are shared with other processes: shared_files.h.
 *
 * _GNU_SOURCE must not be defined here: it changes declarations that this header shares with Swift's Glibc
 * module, and Swift then refuses both. Calls that need it stand in linux_shim.c.
 */
#ifndef LINUX_SHIM_H
#define LINUX_SHIM_H

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/types.h>
#include <syslog.h>
#include <unistd.h>

/* fork(2): Swift marks it unavailable; we call it before any thread exists. */
static inline pid_t linux_fork(void) { return fork(); }

/* One line to the system's log; `line` is text and not a format. May block. */
static inline void linux_syslog(int priority, const char *line) { syslog(priority, "%s", line); }

/* accept4(2): a connected socket, non-blocking and close-on-exec, or -1 with errno. */
int linux_accept(int listener);

/* The peer of a connected Unix socket, as it was at connect time. Returns 0, or -1 with errno. */
int linux_peer(int fd, pid_t *pid, uid_t *uid, gid_t *gid);

/*
 * The supplementary groups of the process at the other end of a Unix socket, when it connected
 * (SO_PEERGROUPS). At most `room` of them are stored. Returns how many; 0 where there are none, or where
 * there are more.
 */
size_t linux_peer_groups(int fd, gid_t *groups, size_t room);

/* pipe2(2) with O_CLOEXEC: the reading end, the writing end. Returns 0, or -1 with errno. */
int linux_pipe(int ends[2]);

/* The calling process gets `signal` when its parent ends, or at once if it has ended already. */
void linux_die_with_parent(int signal);

/* The calling thread's name, as ps and gdb show it: at most 15 bytes. */
void linux_name_thread(const char *name);

/* Lets one thread run on one CPU only. Returns 0, or -1 with errno: EINVAL for a CPU that is not there. */
int linux_pin_thread(pid_t thread, int cpu);

/*
 * The first byte of a file at or behind `offset` that may be other than zero, as far as the file system tells
 * (lseek(2), SEEK_DATA; the file's position moves). -1 with errno, ENXIO if there is none.
 */
off_t linux_next_stored(int fd, off_t offset);

#endif
