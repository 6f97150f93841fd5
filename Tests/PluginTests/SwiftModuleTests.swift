// Does a module in Swift, linked in, get what the daemon says over the C border, and the other way round?

import CXenStorePlugin
import Foundation
import Glibc
import Testing
import XenStore
import XenStorePlugin
import XenStoreTestKit

@testable import XenStoreHost

/// A backend that does what its options say.
private final class Obedient: StoreBackend {
    let options: [PluginOption]
    var batches: [[UInt8]] = []
    nonisolated(unsafe) static var alive = 0

    override init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        if let mode = options["mode"], mode.value != "ok" {
            throw .option(mode, expected: "ok")
        }
        if options["fail"] != nil { throw PluginFailure("no\nluck " + String(repeating: "é", count: 400)) }
        self.options = options
        try super.init(host: host, options: options)
        Self.alive += 1
        host.log(.notice, "opened with \(options.map { "\($0.key)@\($0.place)" })")
    }

    override func recover(
        _ receive: (UnsafeRawBufferPointer) throws(PluginFailure) -> Void
    ) throws(PluginFailure) -> UInt64 {
        if options["unreadable"] != nil { throw PluginFailure("cannot be read", errno: EIO) }
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 3, alignment: 1)
        defer { bytes.deallocate() }
        for value in UInt8(1)...2 {
            bytes.copyBytes(from: [value, value, value])
            try receive(UnsafeRawBufferPointer(bytes))
        }
        return 41
    }

    override func commit(
        _ sequence: UInt64, _ records: UnsafeRawBufferPointer
    ) throws(PluginFailure) -> CommitOutcome {
        if records.isEmpty { throw PluginFailure("the disk is full", errno: ENOSPC) }
        batches.append(Array(records))
        if records[0] == 9 { return .final }
        host.committed(sequence)
        return .submitted
    }

    override func close() {
        host.log(.debug, "closing at \(host.clock > 0 ? "some time" : "no time") with \(batches)")
    }

    deinit { Self.alive -= 1 }

    override var room: UInt64 { 77 }
    override func flush() throws(PluginFailure) { throw PluginFailure("the disk is gone", errno: EIO) }
    override func report() -> String { "batches: \(batches.count)\n" }
}

private let obedient = Plugin(
    backend: Obedient.init, name: "obedient", version: "2.1", summary: "Does as told.", isDurable: true,
    options: [
        OptionDescription("mode", fallback: "ok", "what else"),
        OptionDescription("fail", fallback: "", "fails"),
        OptionDescription("unreadable", fallback: "no", "cannot be read"),
    ])

private let demanding = Plugin(
    backend: StoreBackend.init, name: "demanding", version: "1", summary: "Wants a path.", isDurable: false,
    options: [OptionDescription("path", fallback: nil, "the file")])

/// Numbers that another thread may bring.
private final class Numbers: @unchecked Sendable {
    private let lock = NSLock()
    private var kept: [UInt64] = []
    func append(_ number: UInt64) { lock.withLock { kept.append(number) } }
    var all: [UInt64] { lock.withLock { kept } }
}

@Suite(.serialized) struct SwiftModuleTests {
    let scratch = ModuleScratch()

    private func choice(_ name: String, _ options: [(String, String)] = []) -> StoreChoice {
        var choice = scratch.choice(name, options)
        choice.search.builtIn = [BuiltInModule(obedient.pointer), BuiltInModule(demanding.pointer)]
        return choice
    }

    private func failure(_ choice: StoreChoice) -> String? {
        do {
            let log = try scratch.log()
            defer { log.close() }
            _ = try ModuleBackend(choice, log: log) { _ in }
            return nil
        } catch {
            return "\(error)"
        }
    }

    @Test func itIsDescribed() throws {
        let module = try choice("obedient").module()
        #expect(
            module.longDescription == """
                name: obedient
                version: 2.1
                interface: 1.1
                summary: Does as told.
                kinds: backend
                file: built in
                durable: yes
                options:
                  mode (default ok): what else
                  fail (default empty): fails
                  unreadable (default no): cannot be read

                """)
    }

    @Test func callsGoBothWays() throws {
        let log = try scratch.log()
        let numbers = Numbers()
        var backend: ModuleBackend? = try ModuleBackend(choice("obedient", [("mode", "ok")]), log: log) {
            numbers.append($0)
        }
        do {
            let backend = try #require(backend)
            #expect(backend.isDurable)
            var handed: [[UInt8]] = []
            let newest = try backend.recover {
                handed.append(Array($0))
                return true
            }
            #expect(newest == 41 && handed == [[1, 1, 1], [2, 2, 2]])
            #expect(backend.commit(42, [9, 8].span) == .final)
            #expect(backend.commit(43, [7].span) == .submitted)
            #expect(numbers.all == [43])
            #expect(backend.commit(44, [UInt8]().span) == .failed(code: ENOSPC))
            #expect(backend.failureReason == "the disk is full")
            #expect(backend.room == 77)
            #expect(backend.report == Array("batches: 2\n".utf8))
            let text = "f.yaml:2:12: store backend obedient: the disk is gone"
            #expect(backend.flush?()?.description == text)
            #expect(Obedient.alive == 1)
            backend.close()
            #expect(Obedient.alive == 0)
            backend.close()
            #expect(backend.commit(44, [1].span) == .failed(code: EBADF))
        }
        backend = nil
        log.close()
        let lines = scratch.contents("log")
        #expect(lines.contains("notice: obedient: opened with [\"mode@f.yaml:4:11\"]\n"))
        #expect(lines.contains("debug: obedient: closing at some time with [[9, 8], [7]]\n"))
    }

    /// A module in C that finishes its batches on a thread of its own.
    static let slow = """
        #include <pthread.h>
        #include <stdlib.h>
        #include <xenstore_plugin.h>
        struct store { const struct xenstore_host *host; pthread_t thread; int work[2]; };
        int pipe(int *); long read(int, void *, size_t);
        long write(int, const void *, size_t); int close(int);
        static void *work(void *self) {
            struct store *store = self;
            uint64_t number;
            while (read(store->work[0], &number, 8) == 8) {
                store->host->log(store->host->world, XENSTORE_LOG_INFO, "done", 4);
                store->host->committed(store->host->world, number);
            }
            return NULL;
        }
        static void *slow_open(const struct xenstore_plugin *plugin, const struct xenstore_host *host,
            const struct xenstore_option *options, size_t count, struct xenstore_failure *failure) {
            struct store *store = malloc(sizeof(*store));
            store->host = host;
            return pipe(store->work) || pthread_create(&store->thread, NULL, work, store) ? NULL : store;
        }
        static int slow_recover(void *self, xenstore_receive receive, void *receiver, uint64_t *sequence,
            struct xenstore_failure *failure) { return 0; }
        static int slow_commit(void *self, uint64_t sequence, const uint8_t *records, size_t count,
            struct xenstore_failure *failure) {
            return write(((struct store *)self)->work[1], &sequence, 8) == 8 ? 1 : -1;
        }
        static void slow_close(void *self) {
            struct store *store = self;
            close(store->work[1]);
            pthread_join(store->thread, NULL);
            free(store);
        }
        static const struct xenstore_backend backend = { sizeof(backend), 0, slow_open, slow_recover,
            slow_commit, slow_close };
        static const struct xenstore_plugin plugin = { XENSTORE_PLUGIN_HEAD, XENSTORE_KIND_BACKEND,
            "slow", "1", "Takes its time.", NULL, 0, &backend, NULL };
        XENSTORE_PLUGIN_EXPORT(plugin)
        """

    @Test func anotherThreadMayUseTheHost() throws {
        _ = try scratch.build("slow", Self.slow, ["-pthread"])
        let log = try scratch.log()
        let numbers = Numbers()
        let backend = try ModuleBackend(scratch.choice("slow"), log: log) { numbers.append($0) }
        log.level = .info
        for sequence in UInt64(1)...1000 {
            #expect(backend.commit(sequence, [1].span) == .submitted)
            // The level is read over there, and may change at any time.
            if sequence == 500 { log.level = .notice }
        }
        backend.close()
        #expect(numbers.all == Array(1...1000))
        log.close()
        let lines = scratch.contents("log").split(separator: "\n")
        #expect(lines.allSatisfy { $0.hasSuffix("info: slow: done") } && lines.count < 1000)
    }

    @Test func aBackendThatIsForgottenIsClosed() throws {
        let log = try scratch.log()
        _ = try ModuleBackend(choice("obedient"), log: log) { _ in }
        #expect(Obedient.alive == 0)
        log.close()
        #expect(scratch.contents("log").contains("obedient: closing"))
    }

    @Test func failuresToOpenAreTold() {
        #expect(
            failure(choice("obedient", [("mode", "ok"), ("fail", "")]))
                == "f.yaml:2:12: store backend obedient: no luck " + String(repeating: "é", count: 247))
        #expect(
            failure(choice("obedient", [("mode", "a\"\u{1B}b")]))
                == "f.yaml:4:11: found \"a\\\"\\u{1b}b\", expected ok")
    }

    @Test func optionsAreCheckedBeforeItIsOpened() {
        #expect(
            failure(choice("obedient", [("moda", "ok")]))
                == "f.yaml:4:5: found the unknown key \"moda\" (did you mean \"mode\"?), "
                + "expected one of: mode, fail, unreadable (module obedient)")
        #expect(
            failure(choice("demanding"))
                == "f.yaml:2:12: found the module \"demanding\" without the option \"path\", "
                + "expected it: the file")
        #expect(failure(choice("demanding", [("path", "/x")])) == nil)
    }

    @Test func failuresToRecoverAreTold() throws {
        let log = try scratch.log()
        let sound = try ModuleBackend(choice("obedient"), log: log) { _ in }
        let refused = #expect(throws: StartFailure.self) { try sound.recover { _ in false } }
        #expect(
            refused?.description == "f.yaml:2:12: store backend obedient: "
                + "what it hands back are no records that this daemon understands")
        let broken = try ModuleBackend(choice("obedient", [("unreadable", "x")]), log: log) { _ in }
        let failure = #expect(throws: StartFailure.self) { try broken.recover { _ in true } }
        #expect(failure?.description == "f.yaml:2:12: store backend obedient: cannot be read")
        log.close()
    }
}
