// Loading a module from a file (design, "Loading modules safely"): it runs with the daemon's rights, so
// nobody else may have had a hand in it.

import CXenStorePlugin
import Glibc

/// Loads the shared object at `path`, for as long as the process lives, and checks what it says of itself.
///
/// Throws why it is not taken.
func loadModule(_ path: String) throws(ModuleFault) -> Module {
    guard let resolved = realpath(path, nil) else {
        throw ModuleFault("cannot be opened: \(errorText(errno))")
    }
    defer { free(resolved) }
    let real = String(cString: resolved)
    try checkOwners(real)
    guard let object = dlopen(real, RTLD_NOW | RTLD_LOCAL) else {
        var reason = dlerror().map { String(cString: $0) } ?? "no reason is known"
        if reason.hasPrefix("\(real): ") { reason.removeFirst(real.count + 2) }
        throw ModuleFault("cannot be loaded: \(reason)")
    }
    guard let symbol = dlsym(object, XENSTORE_PLUGIN_ENTRY) else {
        throw ModuleFault("has no \(XENSTORE_PLUGIN_ENTRY): it is no module of xenstored")
    }
    let entry = unsafeBitCast(symbol, to: (@convention(c) () -> UnsafePointer<xenstore_plugin>?).self)
    guard let plugin = entry() else { throw ModuleFault("describes nothing") }
    do throws(ModuleFault) {
        return try Module(plugin, .file(real))
    } catch {
        throw ModuleFault("cannot be used: \(error.text)")
    }
}

/// Throws unless the file and all directories above it belong to root or to this process's user, and nobody
/// else can replace them. A directory with the sticky bit, such as /tmp, lets others write beside, but not
/// move what belongs to root or to us.
///
/// - Parameter path: absolute, without symbolic links.
private func checkOwners(_ path: String) throws(ModuleFault) {
    var part = path
    while true {
        var status = stat()
        guard lstat(part, &status) == 0 else {
            throw ModuleFault("cannot be trusted: \(part): \(errorText(errno))")
        }
        let isDirectory = status.st_mode & S_IFMT == S_IFDIR
        if part == path, status.st_mode & S_IFMT != S_IFREG {
            throw ModuleFault(
                "is \(isDirectory ? "a directory" : "a special file"), expected a shared object")
        }
        guard status.st_uid == 0 || status.st_uid == geteuid() else {
            throw ModuleFault(
                "cannot be trusted: \(part) belongs to user \(status.st_uid), expected root"
                    + (geteuid() == 0 ? "" : " or user \(geteuid())"))
        }
        let isSticky = isDirectory && status.st_mode & S_ISVTX != 0
        guard status.st_mode & 0o022 == 0 || isSticky else {
            throw ModuleFault(
                "cannot be trusted: \(part) has mode 0\(String(status.st_mode & 0o7777, radix: 8)), "
                    + "expected nothing that lets others write")
        }
        if part == "/" { return }
        let parent = part[..<(part.lastIndex(of: "/") ?? part.startIndex)]
        part = parent.isEmpty ? "/" : String(parent)
    }
}
