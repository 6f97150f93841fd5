/* What of linux_shim.h cannot be inline. */
#define _GNU_SOURCE 1
#include "linux_shim.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

int linux_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int linux_peer(int fd, pid_t *pid, uid_t *uid, gid_t *gid)
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

size_t linux_peer_groups(int fd, gid_t *groups, size_t room)
{
	socklen_t len = (socklen_t)(room * sizeof *groups);

	return getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == 0 ? len / sizeof *groups : 0;
}

int linux_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

void linux_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int linux_pin_thread(pid_t thread, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(thread, sizeof set, &set);
}

off_t linux_next_stored(int fd, off_t offset) { return lseek(fd, offset, SEEK_DATA); }

void linux_die_with_parent(int signal)
{
	pid_t parent = getppid();

	prctl(PR_SET_PDEATHSIG, signal);
	if (getppid() != parent)
		kill(getpid(), signal);
}
