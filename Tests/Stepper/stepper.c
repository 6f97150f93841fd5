/* Stepping through another process (stepper.h). x86-64 and AArch64. */
#define _GNU_SOURCE
#include "stepper.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

/* Waits for the next stop. Answers the signal that it came with, or -1 once the thread has ended. */
static int next_stop(pid_t process) {
    int status;
    if (waitpid(process, &status, __WALL) != process || !WIFSTOPPED(status)) return -1;
    return WSTOPSIG(status);
}

int stepper_stop(pid_t process) {
    if (ptrace(PTRACE_SEIZE, process, 0, PTRACE_O_EXITKILL) != 0) return -1;
    if (ptrace(PTRACE_INTERRUPT, process, 0, 0) != 0) return -1;
    return next_stop(process) < 0 ? -1 : 0;
}

/* The number of the system call that the next instruction enters, or -1. */
static long next_call(pid_t process) {
#if defined(__x86_64__)
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, process, 0, &registers) != 0) return -1;
    errno = 0;
    long code = ptrace(PTRACE_PEEKTEXT, process, registers.rip, 0);
    if (errno != 0 || (code & 0xFFFF) != 0x050F) return -1;
    return (long)registers.rax;
#else
    struct user_regs_struct registers;
    struct iovec whole = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, process, NT_PRSTATUS, &whole) != 0) return -1;
    errno = 0;
    long code = ptrace(PTRACE_PEEKTEXT, process, registers.pc, 0);
    if (errno != 0 || (code & 0xFFFFFFFF) != 0xD4000001) return -1;
    return (long)registers.regs[8];
#endif
}

long stepper_go(pid_t process, long count, long until) {
    int passed = 0;
    for (long done = 0; done < count; done++) {
        if (until >= 0 && next_call(process) == until) return done;
        if (ptrace(PTRACE_SINGLESTEP, process, 0, passed) != 0) return done;
        int stop = next_stop(process);
        if (stop < 0) return done;
        /* Another signal than our own is the process's. */
        passed = stop == SIGTRAP || stop == SIGSTOP ? 0 : stop;
    }
    return count;
}

void stepper_release(pid_t process) { ptrace(PTRACE_DETACH, process, 0, 0); }

long stepper_waiting_call(void) {
#if defined(SYS_epoll_wait)
    return SYS_epoll_wait;
#else
    return SYS_epoll_pwait;
#endif
}
