// Are the sockets where they should be, as open as they should be, and never stolen from another daemon?

import Foundation
import Glibc
import Testing

@testable import XenStoreHost

@Suite(.timeLimit(.minutes(10)))
struct ListenerTests {
    let directory = TestDirectory()

    func failure(_ path: String) -> String {
        var options = testOptions(directory)
        options.sockets = [SocketOptions(path: path)]
        do throws(StartFailure) {
            try DaemonThread(options).stop()
            return ""
        } catch {
            return error.description
        }
    }

    func mode(_ path: String) -> mode_t {
        var status = stat()
        return lstat(path, &status) == 0 ? status.st_mode & 0o7777 : 0
    }

    @Test func `mode, owner and group are as the options say`() throws {
        var options = testOptions(directory)
        options.sockets = [
            SocketOptions(path: directory / "a"),
            SocketOptions(path: directory / "b", mode: 0o660, owner: geteuid(), group: getegid()),
        ]
        let daemon = try DaemonThread(options)
        defer { daemon.stop() }
        #expect(mode(directory / "a") == 0o600)
        #expect(mode(directory / "b") == 0o660)
    }

    @Test func `missing directories are made with 0755`() throws {
        let path = directory / "one/two/socket"
        #expect(failure(path) == "")
        #expect(mode(directory / "one") == 0o755)
        #expect(mode(directory / "one/two") == 0o755)
    }

    @Test func `a socket that nobody answers on is replaced`() throws {
        let stale = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        #expect(try SocketPath(directory / "socket").withAddress { bind(stale, $0, $1) } == 0)
        close(stale)
        let daemon = try DaemonThread(testOptions(directory))
        defer { daemon.stop() }
        #expect(try RawClient(directory / "socket").ask(.getPermissions, "/\0")?.text == "n0\0")
    }

    @Test func `another daemon's socket is left alone`() throws {
        let daemon = try DaemonThread(testOptions(directory))
        defer { daemon.stop() }
        let path = directory / "socket"
        #expect(failure(path) == "socket \(path): another daemon is serving it")
        #expect(try RawClient(path).ask(.getPermissions, "/\0")?.text == "n0\0")
    }

    @Test func `a file that is no socket is left alone`() throws {
        let path = directory / "file"
        #expect(FileManager.default.createFile(atPath: path, contents: Data("mine".utf8)))
        #expect(failure(path).contains("it is no socket"))
        #expect(contents(path) == "mine")
    }

    @Test func `a path that is too long is a clear failure`() throws {
        let longest = String(repeating: "x", count: 106 - directory.path.utf8.count)
        #expect(failure(directory / longest) == "")
        let path = directory / (longest + "x")
        #expect(failure(path) == "socket \(path): its path has 108 bytes, expected at most 107")
        #expect(failure("") == "socket \"\": no such path")
    }

    @Test func `what failed to start leaves nothing behind`() throws {
        var options = testOptions(directory)
        options.pidFile = directory / "pid"
        options.sockets.append(SocketOptions(path: directory / "log/no/directory"))
        #expect(throws: StartFailure.self) { try DaemonThread(options) }
        #expect(access(directory / "socket", F_OK) != 0)
        #expect(access(directory / "pid", F_OK) != 0)
    }

    @Test func `a socket that somebody has replaced is not removed`() throws {
        let daemon = try DaemonThread(testOptions(directory))
        let path = directory / "socket"
        unlink(path)
        #expect(FileManager.default.createFile(atPath: path, contents: Data()))
        daemon.stop()
        #expect(access(path, F_OK) == 0)
    }
}
