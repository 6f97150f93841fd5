// Xen's libraries, loaded at run time: the daemon is linked with none of them, and says by name what is
// missing.

import CXen
import Glibc

/// Where the libraries are looked for. A name without a slash is searched as ld.so(8) does.
struct XenLibraryNames {
    var eventChannels = "libxenevtchn.so.1"
    var grants = "libxengnttab.so.1"
    var foreignMemory = "libxenforeignmemory.so.1"
    var manage = "libxenmanage.so.1"
    var hypercalls = "libxencall.so.1"
    /// Of the releases up to 4.20, the release's number right behind it.
    var control = "libxenctrl.so."
}

/// Loads a library for as long as the process lives and fills its table of calls.
///
/// Fails, naming it, if the library or one of its calls is not there.
func loadXenLibrary<Calls>(
    _ name: String, into calls: inout Calls,
    _ fill: (UnsafeMutableRawPointer?, UnsafeMutablePointer<Calls>?) -> UnsafePointer<CChar>?
) throws(HypervisorFailure) {
    guard let library = dlopen(name, RTLD_NOW | RTLD_LOCAL) else {
        let reason = dlerror().map { String(cString: $0) } ?? name
        throw HypervisorFailure("cannot load \(name): \(reason)")
    }
    if let missing = fill(library, &calls) {
        dlclose(library)
        throw HypervisorFailure("\(name) has no \(String(cString: missing))")
    }
}

/// The files in the usual places whose names begin with `prefix`, for a message that says what is there
/// instead of what was looked for.
func librariesBeginning(_ prefix: String) -> [String] {
    var directories = ["/usr/local/lib", "/usr/lib64", "/usr/lib"]
    #if arch(x86_64)
        directories.append("/usr/lib/x86_64-linux-gnu")
    #elseif arch(arm64)
        directories.append("/usr/lib/aarch64-linux-gnu")
    #endif
    if let path = getenv("LD_LIBRARY_PATH") {
        directories += String(cString: path).split(separator: ":").map(String.init)
    }
    let slash = prefix.lastIndex(of: "/")
    if let slash { directories = [String(prefix[..<slash])] }
    let start = slash.map { String(prefix[prefix.index(after: $0)...]) } ?? prefix
    return directories.flatMap { directory in
        entries(of: directory).filter { $0.hasPrefix(start) }.sorted().map { "\(directory)/\($0)" }
    }
}

/// The names in a directory; none where it cannot be read.
func entries(of directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        names.append(
            withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            })
    }
    return names
}
