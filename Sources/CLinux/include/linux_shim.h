/*
 * Linux calls that Swift's Glibc module hides, or whose C macros it cannot import. No logic.
 */
#ifndef LINUX_SHIM_H
#define LINUX_SHIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* fork(2): Swift marks it unavailable; we call it before any thread exists. */
static inline pid_t linux_fork(void) { return fork(); }

/* The peer of a connected Unix socket, as it was at connect time. Returns 0, or -1 with errno. */
static inline int linux_peer(int fd, pid_t *pid, uid_t *uid, gid_t *gid)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return -1;
	*pid = cred.pid;
	*uid = cred.uid;
	*gid = cred.gid;
	return 0;
}

#endif
