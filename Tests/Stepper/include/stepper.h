/*
 * Lets the first thread of another process go on instruction by instruction, for tests that kill it at one of
 * them. All calls must come from one thread, since that is how the kernel knows a tracer.
 */
#ifndef STEPPER_H
#define STEPPER_H

#include <sys/types.h>

/* Stops the process's first thread. It is killed if the caller ends. 0, or -1 with errno. */
int stepper_stop(pid_t process);

/*
 * Carries out so many instructions of the stopped thread; a system call is one. Answers how many were carried
 * out: fewer when the thread is about to enter system call number `until` (-1: none), or has ended.
 */
long stepper_go(pid_t process, long count, long until);

/* Lets it go on by itself. */
void stepper_release(pid_t process);

/* The number of the system call with which the daemon's loop waits. */
long stepper_waiting_call(void);

#endif
