// Does the pid file tell who serves, and that nobody else does?

import Foundation
import Glibc
import Testing

@testable import XenStoreHost

struct PidFileTests {
    let directory = TestDirectory()

    func failure(_ path: String) -> String {
        do throws(StartFailure) {
            _ = try PidFile(path)
            return ""
        } catch {
            return error.description
        }
    }

    @Test func `it holds the number and a newline, with mode 0600`() throws {
        let path = directory / "pid"
        let file = try PidFile(path)
        var status = stat()
        #expect(lstat(path, &status) == 0 && status.st_mode & 0o7777 == 0o600)
        #expect(contents(path) == "\(getpid())\n")
        file.remove()
        #expect(access(path, F_OK) != 0)
    }

    @Test func `a second daemon is refused`() throws {
        let path = directory / "pid"
        let file = try PidFile(path)
        #expect(failure(path) == "pid file \(path): another daemon is running (process \(getpid()))")
        #expect(contents(path) == "\(getpid())\n")
        file.remove()
    }

    @Test func `a dead daemon's file is taken over`() throws {
        let path = directory / "pid"
        #expect(FileManager.default.createFile(atPath: path, contents: Data("4194304123\nmore\n".utf8)))
        let file = try PidFile(path)
        #expect(contents(path) == "\(getpid())\n")
        file.remove()
    }

    @Test func `symbolic links and other things are refused`() throws {
        let target = directory / "target"
        #expect(FileManager.default.createFile(atPath: target, contents: Data("precious".utf8)))
        symlink(target, directory / "link")
        mkfifo(directory / "fifo", 0o600)
        #expect(failure(directory / "link").contains("Too many levels of symbolic links"))
        #expect(failure(directory / "fifo").contains("no regular file"))
        #expect(failure(directory / "none/pid").contains("No such file or directory"))
        #expect(contents(target) == "precious")
    }
}
