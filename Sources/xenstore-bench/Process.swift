// What Linux tells of a process, and where it lets it run.

import CLinux
import Glibc

/// Nanoseconds since some moment in the past; never goes back.
func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// A process, by its id.
struct Process: Sendable {
    var pid: pid_t

    static var own: Process { Process(pid: getpid()) }

    /// Nanoseconds of CPU time that all its threads have had. Threads that have ended are not counted any
    /// more.
    func cpuTime() throws(Failure) -> UInt64 {
        var sum: UInt64 = 0
        for thread in try threads() {
            // "time on the CPU, time waiting for it, slices", the first two in nanoseconds.
            guard let text = readFile("/proc/\(pid)/task/\(thread)/schedstat"),
                let first = text.split(separator: " ").first, let time = UInt64(first)
            else { continue }
            sum += time
        }
        guard sum > 0 else { throw Failure("process \(pid): no CPU time in /proc (is it still alive?)") }
        return sum
    }

    /// Bytes of memory it has: all of its pages (`resident`), and with a share of those that it shares
    /// (`proportional`).
    func memory() throws(Failure) -> (resident: UInt64, proportional: UInt64) {
        guard let text = readFile("/proc/\(pid)/smaps_rollup"),
            let resident = kibibytes("Rss:", in: text), let proportional = kibibytes("Pss:", in: text)
        else { throw .call("/proc/\(pid)/smaps_rollup") }
        return (resident * 1024, proportional * 1024)
    }

    /// Lets every thread that it has now run on one CPU only; threads they create later inherit that.
    func pin(to cpu: Int) throws(Failure) {
        for thread in try threads() where linux_pin_thread(thread, CInt(clamping: cpu)) != 0 {
            throw .call("process \(pid) to CPU \(cpu)")
        }
    }

    /// How many files it may have open; nil if that cannot be read.
    func openFileLimit() -> UInt? {
        for line in (readFile("/proc/\(pid)/limits") ?? "").split(separator: "\n")
        where line.hasPrefix("Max open files") {
            return line.split(separator: " ").dropFirst(3).first.flatMap {
                $0 == "unlimited" ? .max : UInt($0)
            }
        }
        return nil
    }

    /// Lets us, and what we start from now on, have as many files open as the system allows us.
    static func allowManyFiles() {
        let files = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        guard getrlimit(files, &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(files, &limit)
    }

    private func threads() throws(Failure) -> [pid_t] {
        let names = fileNames(in: "/proc/\(pid)/task")
        guard !names.isEmpty else { throw Failure("process \(pid) is not there") }
        return names.compactMap { pid_t($0) }
    }

    private func kibibytes(_ key: String, in text: String) -> UInt64? {
        for line in text.split(separator: "\n") where line.hasPrefix(key) {
            return line.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }
        }
        return nil
    }
}

/// The names in a directory but `.` and `..`; none if it cannot be read.
func fileNames(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}

/// A whole file's text; nil, with errno set, if it cannot be read.
func readFile(_ path: String) -> String? {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = read(fd, &chunk, chunk.count)
        guard count >= 0 else { return nil }
        if count == 0 { return String(decoding: bytes, as: UTF8.self) }
        bytes += chunk[..<count]
    }
}
