// A PV guest's kernel that waits for no event and for ever, for domains that are to be there and do nothing:
// 4 MiB are enough for it, and it costs no time. What Xen must know of it stands in its notes (Xen,
// public/elfnote.h).

    .macro note type:req, value:vararg
    .balign 4
    .long 4, 2f - 1f, \type
    .asciz "Xen"
1:  \value
2:
    .endm

    .section .note.Xen, "a", @note
    note 1, .quad _start            // XEN_ELFNOTE_ENTRY
    note 2, .quad hypercalls        // XEN_ELFNOTE_HYPERCALL_PAGE
    note 3, .quad 0xffffffff80000000 // XEN_ELFNOTE_VIRT_BASE
    note 4, .quad 0xffffffff80000000 // XEN_ELFNOTE_PADDR_OFFSET
    note 5, .asciz "xen-3.0"        // XEN_ELFNOTE_XEN_VERSION
    note 6, .asciz "still"          // XEN_ELFNOTE_GUEST_OS
    note 8, .asciz "generic"        // XEN_ELFNOTE_LOADER

    .text
    .balign 4096
hypercalls:
    .skip 4096
    .global _start
_start:
    mov $3, %edi                    // SCHEDOP_poll: unlike SCHEDOP_block, it lets no event in
    lea poll(%rip), %rsi
    call hypercalls + 29 * 32       // HYPERVISOR_sched_op
    jmp _start

    .balign 8
poll:
    .quad 0, 0, 0                   // no ports, no time-out
