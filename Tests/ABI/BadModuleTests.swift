// What is said about what is no module that this daemon can use: each message, whole.

import Foundation
import Glibc
import Testing
import XenStoreHost
import XenStoreTestKit

@Suite struct BadModuleTests {
    let scratch = ModuleScratch()

    /// What loading the module that `name` names fails with.
    private func failure(_ name: String) -> String? {
        do throws(StartFailure) {
            _ = try scratch.choice(name).module()
            return nil
        } catch {
            return error.description
        }
    }

    /// A module of which everything can be set wrong by a macro.
    static let source = """
        #include <xenstore_plugin.h>
        #ifndef MAGIC
        #define MAGIC XENSTORE_PLUGIN_MAGIC
        #endif
        #ifndef MAJOR
        #define MAJOR XENSTORE_PLUGIN_MAJOR
        #endif
        #ifndef MINOR
        #define MINOR XENSTORE_PLUGIN_MINOR
        #endif
        #ifndef SIZE
        #define SIZE sizeof(struct xenstore_plugin)
        #endif
        #ifndef KIND
        #define KIND XENSTORE_KIND_BACKEND
        #endif
        #ifndef NAME
        #define NAME "x"
        #endif
        #ifndef CALLS_SIZE
        #define CALLS_SIZE sizeof(struct xenstore_backend)
        #endif
        static int call(void) { return 0; }
        #ifndef OPEN
        #define OPEN (void *)call
        #endif
        #ifndef RECOVER
        #define RECOVER (void *)call
        #endif
        #ifndef COMMIT
        #define COMMIT (void *)call
        #endif
        #ifndef CLOSE
        #define CLOSE (void *)call
        #endif
        static const struct xenstore_backend calls = { CALLS_SIZE, 0, OPEN, RECOVER, COMMIT, CLOSE };
        static const struct xenstore_policy policy = { CALLS_SIZE, 0, OPEN, RECOVER, COMMIT, CLOSE };
        #ifndef BACKEND
        #define BACKEND &calls
        #endif
        #ifndef POLICY
        #define POLICY &policy
        #endif
        #ifndef OPTIONS
        #define OPTIONS 0
        #endif
        static const struct xenstore_plugin plugin = {
            MAGIC, MAJOR, MINOR, SIZE, KIND, NAME, "1", "s", 0, OPTIONS, BACKEND, POLICY
        };
        #ifdef NOTHING
        const struct xenstore_plugin *xenstore_plugin_entry(void) { return 0; }
        #else
        XENSTORE_PLUGIN_EXPORT(plugin)
        #endif
        """

    @Test(arguments: [
        (["MAGIC=0x12345678"], "its magic number is 0x12345678, expected 0x47505358: it is no such module"),
        (["MAJOR=2"], "it is made for interface 2.1, expected 1.1"),
        (["MAJOR=0", "MINOR=9"], "it is made for interface 0.9, expected 1.1"),
        (["MINOR=2"], "it is made for interface 1.2, expected 1.1"),
        (["SIZE=72"], "its struct xenstore_plugin has 72 bytes, expected at least 80"),
        (["SIZE=0"], "its struct xenstore_plugin has 0 bytes, expected at least 80"),
        (["CALLS_SIZE=56"], "its struct xenstore_backend has 56 bytes, expected at least 64"),
        (["KIND=2", "CALLS_SIZE=56"], "its struct xenstore_policy has 56 bytes, expected at least 64"),
        (["OPEN=0"], "it has no open"), (["RECOVER=0"], "it has no recover"),
        (["COMMIT=0"], "it has no commit"), (["CLOSE=0"], "it has no close"),
        (["KIND=2", "RECOVER=0"], "it has no interest"), (["KIND=2", "COMMIT=0"], "it has no decide"),
        (["NAME=0"], "it has no name"),
        (["NAME=\"a/b\""], "its name is \"a/b\", expected lower-case letters, digits and -"),
        (["KIND=0"], "it is neither a backend nor a policy"),
        (["KIND=4"], "it is neither a backend nor a policy"),
        (["BACKEND=0"], "it has no struct xenstore_backend"),
        (["KIND=3", "POLICY=0"], "it has no struct xenstore_policy"),
        (["OPTIONS=3"], "it has 3 options, expected a list of at most 1024"),
    ])
    func aWrongDescription(macros: [String], text: String) throws {
        let path = try scratch.build("x", Self.source, macros.map { "-D\($0)" })
        #expect(failure("x") == "f.yaml:2:12: the module \(path) cannot be used: \(text)")
    }

    @Test func theSameWithNothingWrongIsTaken() throws {
        _ = try scratch.build("x", Self.source)
        #expect(failure("x") == nil)
    }

    @Test func aPolicyIsNoBackend() throws {
        let path = try scratch.build("x", Self.source, ["-DKIND=2"])
        #expect(
            failure("x") == "f.yaml:2:12: found the module \"x\", an access policy (\(path)), "
                + "expected a store backend")
    }

    @Test func anotherName() throws {
        let path = try scratch.build("y", Self.source)
        let text = "f.yaml:2:12: the module \(path) calls itself \"x\", expected \"y\""
        #expect(failure("y") == text)
        #expect(failure(path) == nil)
    }

    @Test func whatDescribesNothing() throws {
        let path = try scratch.build("x", Self.source, ["-DNOTHING"])
        #expect(failure("x") == "f.yaml:2:12: the module \(path) describes nothing")
    }

    @Test func whatHasNoEntry() throws {
        let path = try scratch.build("x", "int f(void) { return 1; }")
        let text = "has no xenstore_plugin_entry: it is no module of xenstored"
        #expect(failure("x") == "f.yaml:2:12: the module \(path) \(text)")
    }

    @Test func whatLacksASymbol() throws {
        let path = try scratch.build(
            "x", "extern int missing_one(void); int f(void) { return missing_one(); }")
        let text = "cannot be loaded: undefined symbol: missing_one"
        #expect(failure("x") == "f.yaml:2:12: the module \(path) \(text)")
    }

    @Test func whatIsNoSharedObject() throws {
        let path = scratch / "x.so"
        try String(repeating: "this is text and nothing else\n", count: 10)
            .write(toFile: path, atomically: false, encoding: .utf8)
        #expect(
            failure("x") == "f.yaml:2:12: the module \(path) cannot be loaded: invalid ELF header")
        try "".write(toFile: path, atomically: false, encoding: .utf8)
        #expect(failure("x") == "f.yaml:2:12: the module \(path) cannot be loaded: file too short")
        #expect(unlink(path) == 0 && mkdir(path, 0o700) == 0)
        #expect(
            failure("x") == "f.yaml:2:12: the module \(path) is a directory, expected a shared object")
    }

    @Test func whatIsNotThere() {
        let path = scratch / "none.so"
        #expect(
            failure(path)
                == "f.yaml:2:12: the module \(path) cannot be opened: No such file or directory")
        #expect(
            failure("none") == "f.yaml:2:12: found no module \"none\", "
                + "expected libxenstore-none.so or none.so in \(scratch.path)")
    }

    @Test func whatOthersCanWrite() throws {
        let path = try scratch.build("x", Self.source)
        let text = "f.yaml:2:12: the module \(path) cannot be trusted:"
        #expect(chmod(path, 0o775) == 0)
        #expect(failure("x") == "\(text) \(path) has mode 0775, expected nothing that lets others write")
        #expect(chmod(path, 0o755) == 0 && chmod(scratch.path, 0o777) == 0)
        #expect(
            failure("x")
                == "\(text) \(scratch.path) has mode 0777, expected nothing that lets others write")
        // As /tmp is: others write beside it, but cannot replace it.
        #expect(chmod(scratch.path, 0o1777) == 0)
        #expect(failure("x") == nil)
        #expect(chmod(scratch.path, 0o700) == 0)
    }

    @Test(.enabled(if: geteuid() == 0)) func whatBelongsToSomebodyElse() throws {
        let path = try scratch.build("x", Self.source)
        #expect(chown(path, 12345, 0) == 0)
        let text = "f.yaml:2:12: the module \(path) cannot be trusted:"
        #expect(failure("x") == "\(text) \(path) belongs to user 12345, expected root")
        #expect(chown(path, 0, 0) == 0 && chown(scratch.path, 12345, 0) == 0)
        #expect(failure("x") == "\(text) \(scratch.path) belongs to user 12345, expected root")
        #expect(chown(scratch.path, 0, 0) == 0)
        #expect(failure("x") == nil)
    }

    /// What a link leads to is looked at, not the link.
    @Test func aLinkIsFollowed() throws {
        let path = try scratch.build("x", Self.source)
        #expect(symlink(path, scratch / "libxenstore-x.so") == 0)
        #expect(try scratch.choice("x").module().origin == .file(path))
        #expect(chmod(path, 0o757) == 0)
        let link = scratch / "libxenstore-x.so"
        #expect(
            failure("x") == "f.yaml:2:12: the module \(link) cannot be trusted: \(path) has mode 0757, "
                + "expected nothing that lets others write")
    }
}
