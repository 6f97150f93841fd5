/*
 * The machine of the stub domain's kernel (stubdom/boot/include/machine.h), for tests that run the kernel's
 * sources in a process: what is Xen's and the processor's part, the test plays. One thread at a time.
 */
#ifndef HOSTED_MACHINE_H
#define HOSTED_MACHINE_H

#define MACHINE_IS_HOSTED 1
#define MACHINE_STEP() hosted_step()
void hosted_step(void);

#include "../../../stubdom/boot/include/machine.h"

/*
 * What the test plays; NULL: nothing happens. A hypercall that nobody plays fails with -38.
 * `step` is called before each access to memory that Xen changes at the same time, but not within itself.
 * Characters for the debug port go to `put`.
 */
typedef int64_t (*hosted_hypercall)(uint64_t number, uint64_t a1, uint64_t a2, uint64_t a3);
void hosted_play(hosted_hypercall hypercall, void (*step)(void), void (*put)(uint8_t));

/* Our own domain id, as the next cpuid of Xen's tells it; negative: it does not. */
void hosted_set_domain(int domain);

#endif
