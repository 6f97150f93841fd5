/* The machine that a test plays (hosted_machine.h). */
#include "hosted_machine.h"

#include <stddef.h>
#include <stdlib.h>

static hosted_hypercall play_hypercall;
static void (*play_step)(void);
static void (*play_put)(uint8_t);
static int own_domain = -1;
static int is_stepping;

void hosted_play(hosted_hypercall hypercall, void (*step)(void), void (*put)(uint8_t))
{
	play_hypercall = hypercall;
	play_step = step;
	play_put = put;
}

void hosted_set_domain(int domain) { own_domain = domain; }

void hosted_step(void)
{
	if (!play_step || is_stepping)
		return;
	is_stepping = 1;
	play_step();
	is_stepping = 0;
}

int64_t machine_hypercall(uint64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	(void)a4;
	(void)a5;
	return play_hypercall ? play_hypercall(number, a1, a2, a3) : -38;
}

void machine_out8(uint16_t port, uint8_t value)
{
	if (port == 0xE9 && play_put)
		play_put(value);
}

uint8_t machine_in8(uint16_t port)
{
	(void)port;
	return 0;
}

/* "XenVMMXenVMM" at 0x40000000; the domain id at the fifth leaf. */
struct machine_cpuid machine_cpuid(uint32_t leaf)
{
	struct machine_cpuid found = { 0, 0, 0, 0 };
	if (leaf == 0x40000000)
		found = (struct machine_cpuid){ 0x40000004, 0x566E6558, 0x65584D4D, 0x4D4D566E };
	if (leaf == 0x40000004 && own_domain >= 0)
		found = (struct machine_cpuid){ 8, 0, (uint32_t)own_domain, 0 };
	return found;
}

void machine_write_msr(uint32_t number, uint64_t value)
{
	(void)number;
	(void)value;
}

void machine_pause(void) {}

uint64_t machine_time_stamp(void)
{
	static uint64_t ticks;
	return ++ticks;
}

uint64_t machine_random(void) { return 0; }
void machine_reload_pages(void) {}
uint64_t machine_fault_address(void) { return 0; }
void machine_wait(void) {}
void machine_wait_too_late(void) {}
void machine_halt(void) { abort(); }

void machine_load_tables(const void *idt, uint16_t task)
{
	(void)idt;
	(void)task;
}

/* The places that the linker script and the assembly have. */
#define PLACE(name, count) _Alignas(4096) uint8_t machine_##name[count]
PLACE(image_start, 8);
PLACE(text_end, 8);
PLACE(constants_end, 8);
PLACE(image_end, 8);
PLACE(hypercall_page, 4096);
PLACE(shared_page, 4096);
PLACE(directories, 4 * 4096);
PLACE(low_table, 4096);
PLACE(stack_guard, 4096);
PLACE(fault_stack, 8);
PLACE(descriptors, 5 * 8);
PLACE(interrupt_table, 4096);
PLACE(task_state, 4096);
PLACE(arguments, 4096);
PLACE(exception_gates, 32 * 16);
PLACE(event_gate, 16);
PLACE(start_time, 8);
