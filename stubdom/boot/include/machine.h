/*
 * The processor's instructions that Swift has none for, and the places that the linker script and the
 * assembly know. No logic.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include <stddef.h>
#include <stdint.h>

/*
 * What happens before each access to memory that Xen changes at the same time: nothing. Tests that run the
 * kernel's sources in a process (Tests/HostedMachine) let Xen's side go on here; with MACHINE_IS_HOSTED the
 * instructions that a process may not have are functions of theirs.
 */
#ifndef MACHINE_STEP
#define MACHINE_STEP() ((void)0)
#endif

/* The address of a symbol of the assembly or the linker script. */
#define MACHINE_PLACE(name) \
	extern uint8_t machine_##name[]; \
	static inline void *machine_place_##name(void) { return machine_##name; }

/* Where the image begins, and its parts end: code, constants, all of it. Multiples of 4096 bytes. */
MACHINE_PLACE(image_start)
MACHINE_PLACE(text_end)
MACHINE_PLACE(constants_end)
MACHINE_PLACE(image_end)
/* A page for Xen's hypercalls, and one to map shared_info over. */
MACHINE_PLACE(hypercall_page)
MACHINE_PLACE(shared_page)
/* The page directories of the first 4 GiB, and an empty page table for the first 2 MiB of them. */
MACHINE_PLACE(directories)
MACHINE_PLACE(low_table)
/* The page below the stack, and the upper end of the stack for what that one cannot take. */
MACHINE_PLACE(stack_guard)
MACHINE_PLACE(fault_stack)
/* Five segment descriptors, of which the last two are left for the task state. */
MACHINE_PLACE(descriptors)
/* Empty pages for the interrupt table, the task state and a hypercall's structure. */
MACHINE_PLACE(interrupt_table)
MACHINE_PLACE(task_state)
MACHINE_PLACE(arguments)
/* The entries for exceptions 0 to 31, 16 bytes each; and the one for Xen's events. */
MACHINE_PLACE(exception_gates)
MACHINE_PLACE(event_gate)
/* The time stamp counter as it was at the entry. */
MACHINE_PLACE(start_time)

/* A hypercall; the result is its result, a negative errno if it failed. The hypercall page must be set up. */
int64_t machine_hypercall(uint64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5);
/* Opens interrupts, waits for one, and closes them again. */
void machine_wait(void);
/* For a test: the same, with the interrupt at the worst moment, so that it returns at once. */
void machine_wait_too_late(void);
/* Loads an interrupt table (by the operand of lidt) and a task state (by its selector). */
void machine_load_tables(const void *idt, uint16_t task);

struct machine_cpuid { uint32_t eax, ebx, ecx, edx; };

#ifdef MACHINE_IS_HOSTED
void machine_out8(uint16_t port, uint8_t value);
uint8_t machine_in8(uint16_t port);
void machine_halt(void);
struct machine_cpuid machine_cpuid(uint32_t leaf);
void machine_write_msr(uint32_t number, uint64_t value);
void machine_pause(void);
uint64_t machine_time_stamp(void);
uint64_t machine_random(void);
void machine_reload_pages(void);
uint64_t machine_fault_address(void);
#else
static inline void machine_out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t machine_in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

/* Stops the processor for good, in a way that a hypervisor takes for the end of the domain. */
static inline void machine_halt(void) { __asm__ volatile("cli; hlt" : : : "memory"); }

static inline struct machine_cpuid machine_cpuid(uint32_t leaf)
{
	struct machine_cpuid found;
	__asm__ volatile("cpuid" : "=a"(found.eax), "=b"(found.ebx), "=c"(found.ecx), "=d"(found.edx)
			 : "a"(leaf), "c"(0));
	return found;
}

static inline void machine_write_msr(uint32_t number, uint64_t value)
{
	uint32_t low = (uint32_t)value, high = (uint32_t)(value >> 32);
	__asm__ volatile("wrmsr" : : "c"(number), "a"(low), "d"(high) : "memory");
}

static inline void machine_pause(void) { __asm__ volatile("pause" : : : "memory"); }

static inline uint64_t machine_time_stamp(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* A random number of the processor's own; 0: it has none at the moment. Only where cpuid says rdrand. */
static inline uint64_t machine_random(void)
{
	uint64_t value;
	uint8_t there;
	__asm__ volatile("rdrand %0; setc %1" : "=r"(value), "=qm"(there) : : "cc");
	return there ? value : 0;
}

/* Makes changes of the page tables count. */
static inline void machine_reload_pages(void)
{
	uint64_t root;
	__asm__ volatile("movq %%cr3, %0; movq %0, %%cr3" : "=r"(root) : : "memory");
}

/* The address of the access that a page fault was about. */
static inline uint64_t machine_fault_address(void)
{
	uint64_t address;
	__asm__ volatile("movq %%cr2, %0" : "=r"(address));
	return address;
}
#endif

/* Memory that Xen changes at the same time: one access each, in one piece, in the order of the program. */
static inline uint32_t machine_load32(const void *at)
{
	MACHINE_STEP();
	return __atomic_load_n((const uint32_t *)at, __ATOMIC_SEQ_CST);
}
static inline void machine_store8(void *at, uint8_t value)
{
	MACHINE_STEP();
	__atomic_store_n((uint8_t *)at, value, __ATOMIC_SEQ_CST);
}
static inline void machine_store32(void *at, uint32_t value)
{
	MACHINE_STEP();
	__atomic_store_n((uint32_t *)at, value, __ATOMIC_SEQ_CST);
}
static inline uint32_t machine_exchange32(void *at, uint32_t value)
{
	MACHINE_STEP();
	return __atomic_exchange_n((uint32_t *)at, value, __ATOMIC_SEQ_CST);
}
/* Writes `value` where `expected` stands; answers whether it did. */
static inline int machine_replace32(void *at, uint32_t expected, uint32_t value)
{
	MACHINE_STEP();
	return __atomic_compare_exchange_n((uint32_t *)at, &expected, value, 0, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}
static inline uint64_t machine_load64(const void *at)
{
	MACHINE_STEP();
	return __atomic_load_n((const uint64_t *)at, __ATOMIC_SEQ_CST);
}
static inline void machine_store64(void *at, uint64_t value)
{
	MACHINE_STEP();
	__atomic_store_n((uint64_t *)at, value, __ATOMIC_SEQ_CST);
}
static inline uint64_t machine_exchange(void *at, uint64_t value)
{
	MACHINE_STEP();
	return __atomic_exchange_n((uint64_t *)at, value, __ATOMIC_SEQ_CST);
}
static inline uint64_t machine_clear_bits(void *at, uint64_t bits)
{
	MACHINE_STEP();
	return __atomic_fetch_and((uint64_t *)at, ~bits, __ATOMIC_SEQ_CST);
}
static inline uint64_t machine_set_bits(void *at, uint64_t bits)
{
	MACHINE_STEP();
	return __atomic_fetch_or((uint64_t *)at, bits, __ATOMIC_SEQ_CST);
}

#endif
