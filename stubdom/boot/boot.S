/*
 * The way in, and the few instructions that no other language has.
 *
 * A PVH loader (Xen's domain builder, or qemu) enters at `start32`: 32-bit protected mode, paging off, ebx =
 * address of hvm_start_info, interrupts off, .bss zeroed. We leave it in 64-bit mode with the first 4 GiB
 * mapped one to one (2 MiB pages) and call kernel_main(start info) on a stack of our own, which never returns.
 *
 * Interrupts are open in one place only, the hlt of `machine_wait`: so there is no reentrancy, and no code
 * needs to spare the red zone of another.
 */
	.set STACK_SIZE, 65536
	.set CODE64, 0x08
	.set STATE, 0x10

/* The loader's note: where to enter (XEN_ELFNOTE_PHYS32_ENTRY). */
	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18
	.asciz "Xen"
	.long start32

	.section .text.boot, "ax"
	.code32
	.globl start32
start32:
	cld
	movl $stack_top, %esp
	movl %ebx, %ebp

	/* Four page directories of 512 pages of 2 MiB: present, writable, large. */
	movl $directories, %edi
	movl $0x83, %eax
	movl $2048, %ecx
1:	movl %eax, (%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 1b
	movl $directories + 3, %eax
	movl $pointers, %edi
	movl $4, %ecx
2:	movl %eax, (%edi)
	addl $4096, %eax
	addl $8, %edi
	loop 2b
	movl $pointers + 3, %eax
	movl %eax, page_root

	/* PAE and the SSE that compiled code takes for granted. */
	movl %cr4, %eax
	orl $0x620, %eax
	movl %eax, %cr4
	movl $page_root, %eax
	movl %eax, %cr3
	/* Long mode, and pages that are not to be executed. */
	movl $0xC0000080, %ecx
	rdmsr
	orl $0x900, %eax
	wrmsr
	/* Paging, write protection for ourselves too, no emulated FPU. */
	movl %cr0, %eax
	andl $~0x0C, %eax
	orl $0x80010022, %eax
	movl %eax, %cr0
	lgdt descriptors_pointer
	ljmp $CODE64, $start64

	.code64
start64:
	movl $STATE, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movq $stack_top, %rsp
	fninit
	rdtsc
	shlq $32, %rdx
	orq %rdx, %rax
	movq %rax, machine_start_time(%rip)
	movabsq $0x9E3779B97F4A7C15, %rcx
	xorq %rcx, %rax
	movq %rax, __stack_chk_guard(%rip)
	movl %ebp, %edi
	xorl %ebp, %ebp
	call kernel_main
3:	cli
	hlt
	jmp 3b

	.text
/* uint64_t machine_hypercall(number, a1, a2, a3, a4, a5): rdi rsi rdx r10 r8 are Xen's. */
	.globl machine_hypercall
machine_hypercall:
	movq %rdi, %rax
	shlq $5, %rax
	leaq machine_hypercall_page(%rip), %r11
	addq %r11, %rax
	movq %rsi, %rdi
	movq %rdx, %rsi
	movq %rcx, %rdx
	movq %r8, %r10
	movq %r9, %r8
	jmp *%rax

/* Waits for an interrupt. One that has come since interrupts were closed ends it at once. */
	.globl machine_wait
machine_wait:
	sti
machine_wait_halt:
	hlt
machine_wait_end:
	cli
	ret

/*
 * Xen's one interrupt: events are pending. Xen would interrupt again and again while its flag (byte 0 of
 * shared_info) is up; who waits looks at the events themselves.
 *
 * A processor takes no interrupt between sti and hlt. One that is emulated below Xen does (qemu's SVM forgets
 * that when it leaves the guest just there), and the hlt would then wait for an interrupt that has been: it is
 * left out.
 */
	.globl machine_event_gate
machine_event_gate:
	movb $0, machine_shared_page(%rip)
	pushq %rax
	leaq machine_wait_halt(%rip), %rax
	cmpq %rax, 8(%rsp)
	jne 1f
	leaq machine_wait_end(%rip), %rax
	movq %rax, 8(%rsp)
1:	popq %rax
	iretq

/* For a test: what `machine_wait` does when an interrupt comes in front of its hlt. */
	.globl machine_wait_too_late
machine_wait_too_late:
	movq %rsp, %rax
	movq %ss, %rcx
	pushq %rcx
	pushq %rax
	pushfq
	pushq $CODE64
	leaq machine_wait_halt(%rip), %rcx
	pushq %rcx
	jmp machine_event_gate

/*
 * Exceptions: none of them is expected. Each entry pushes what is missing of (error code, vector), so that
 * kernel_exception(vector, error code, address of the instruction, stack pointer) can say what happened.
 */
	.globl machine_exception_gates
	.balign 16
machine_exception_gates:
	.set vector, 0
	.rept 32
	.balign 16
	/* Vectors 8, 10 to 14, 17, 21, 29 and 30 have an error code of their own. */
	.if ((0x60227D00 >> vector) & 1) == 0
	pushq $0
	.endif
	pushq $vector
	jmp exception
	.set vector, vector + 1
	.endr
exception:
	cld
	popq %rdi
	popq %rsi
	movq (%rsp), %rdx
	movq 24(%rsp), %rcx
	andq $-16, %rsp
	call kernel_exception
4:	cli
	hlt
	jmp 4b

/* void machine_load_tables(idt pointer, task selector): the interrupt table and the task state. */
	.globl machine_load_tables
machine_load_tables:
	lidt (%rdi)
	ltr %si
	ret

	.section .rodata, "a"
descriptors_pointer:
	.word descriptors_end - descriptors - 1
	.quad descriptors

	.data
	.balign 16
	.globl machine_descriptors
/* Segments; the last two are the task state's, filled in later. */
descriptors:
machine_descriptors:
	.quad 0
	.quad 0x00AF9A000000FFFF
	.quad 0x00CF92000000FFFF
	.quad 0
	.quad 0
descriptors_end:
	.globl __stack_chk_guard
__stack_chk_guard:
	.quad 0
	.globl machine_start_time
machine_start_time:
	.quad 0

	.section .bss.pages, "aw", @nobits
	.balign 4096
	.globl machine_hypercall_page, machine_shared_page, machine_low_table, machine_directories
	.globl machine_interrupt_table, machine_task_state, machine_arguments
machine_hypercall_page:
	.skip 4096
machine_shared_page:
	.skip 4096
page_root:
	.skip 4096
pointers:
	.skip 4096
directories:
machine_directories:
	.skip 4 * 4096
machine_low_table:
	.skip 4096
machine_interrupt_table:
	.skip 4096
machine_task_state:
	.skip 4096
machine_arguments:
	.skip 4096
/* The page below the stack is taken out of the map. */
	.globl machine_stack_guard, machine_fault_stack
machine_stack_guard:
	.skip 4096
	.skip STACK_SIZE
stack_top:
	.skip 4096
machine_fault_stack:
