// What compiled code calls by the names that C gives it (boot/runtime.c has memory's own). The tests that run
// the kernel's sources in a process leave this file out: there a C library has them.

/// Stops where there is no room: the core asks for memory ahead of what needs it (World.memoryState).
@_cdecl("kernel_allocate")
public func allocate(_ count: Int, _ alignment: Int) -> UnsafeMutableRawPointer {
    guard let found = heap?.allocate(count, alignment: alignment) else {
        stop("no memory is left for a piece of bytes: ", count)
    }
    return found
}

@_cdecl("kernel_release")
public func release(_ piece: UnsafeMutableRawPointer?) {
    if let piece { heap?.release(piece) }
}

/// The seed of the compiler's own hashing (Set, Dictionary).
@_cdecl("arc4random_buf")
public func fillRandomly(_ place: UnsafeMutableRawPointer, _ count: Int) { Randomness.fill(place, count) }

@_cdecl("__stack_chk_fail")
public func stackIsBroken() { stop("a function wrote over the end of its stack frame") }
