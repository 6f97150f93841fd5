// What becomes of requests where the store is full, or takes nothing (design, "Backends")?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct RoomTests {
    /// A peer's request in a turn of its own.
    private func ask(_ test: TestServer, _ client: Client, _ message: Message) -> String? {
        client.send(message.bytes)
        test.server.commit()
        return client.reply()?.outcome
    }

    private func ask(
        _ test: TestServer, _ client: Client, _ type: MessageType, _ strings: [String], _ id: UInt32 = 0
    ) -> String? {
        ask(test, client, Message(type, requestID: 3, transaction: id, [UInt8](strings: strings)))
    }

    @Test func whatWouldGrowIsRefusedAndTheRestGoesOn() throws {
        let backend = TestBackend()
        let test = TestServer(backend: backend)
        let guest = test.ring(3)
        _ = ask(test, guest, .write("/n/m", "x"))
        _ = ask(test, guest, .write("/k", "x"))
        backend.limit = 0
        test.server.commits.askRoom()
        #expect(ask(test, guest, .write("/k", "y")) == "ENOSPC")
        #expect(ask(test, guest, .write("/n", "z")) == "ENOSPC")
        #expect(ask(test, guest, .write("/new", "z")) == "ENOSPC")
        #expect(ask(test, guest, .makeDirectory, ["/new"]) == "ENOSPC")
        #expect(ask(test, guest, .makeDirectory, ["/n"]) == "OK")
        #expect(ask(test, guest, .setPermissions, ["/n", "b3"]) == "ENOSPC")
        #expect(guest.read("/k") == "x")
        let growing = try #require(UInt32(ask(test, guest, .transactionStart, [""]) ?? ""))
        #expect(ask(test, guest, .write("/new", "z", transaction: growing)) == "OK")
        #expect(ask(test, guest, .transactionEnd, ["T"], growing) == "ENOSPC")
        let removing = try #require(UInt32(ask(test, guest, .transactionStart, [""]) ?? ""))
        #expect(ask(test, guest, .write("/n/m/o", "z", transaction: removing)) == "OK")
        #expect(ask(test, guest, .remove, ["/n/m"], removing) == "OK")
        #expect(ask(test, guest, .transactionEnd, ["T"], removing) == "OK")
        #expect(ask(test, guest, .remove, ["/n"]) == "OK")
        backend.limit = .max
        _ = ask(test, guest, .remove, ["/none"])
        _ = ask(test, guest, .remove, ["/k"])
        #expect(ask(test, guest, .write("/new", "z")) == "OK")
        #expect(test.server.checkInvariants() == 0)
        let refusals = test.world.lines.filter { $0.text.hasPrefix("the store is full") }
        #expect(refusals.count == 1 && refusals[0].text.hasSuffix("path /k"))
    }

    /// A batch is never larger than the room that it was promised, unless it removes.
    @Test(arguments: UInt64(0)..<20) func batchesKeepToTheirRoom(seed: UInt64) throws {
        let backend = TestBackend()
        let test = TestServer(backend: backend)
        var random = SplitMix64(seed: seed)
        var refused = 0
        for round in 0..<100 {
            backend.limit = random.below(2000)
            _ = ask(test, test.control, .remove, ["/absent"])
            let ids = try (0..<3).map { _ in try test.control.start() }
            test.server.commits.askRoom()
            for number in 0..<random.below(12) {
                let path = "/" + String(repeating: "n", count: 1 + random.below(200)) + "/\(random.below(9))"
                let value = String(repeating: "v", count: random.below(300))
                if number % 4 != 3 {
                    test.control.send(Message.write(path, value).bytes)
                } else {
                    let id = ids[number / 4]
                    test.control.send(Message.write(path, value, transaction: id).bytes)
                    test.control.send(Message.write("/t\(round)", value, transaction: id).bytes)
                    test.control.send(Message(.transactionEnd, transaction: id, [0x54, 0]).bytes)
                }
            }
            let count = backend.batches.count
            #expect(test.server.commits.batch.count <= backend.limit)
            test.server.commit()
            for batch in backend.batches.dropFirst(count) { #expect(batch.count <= backend.limit) }
            for message in test.control.drain() where message.errorName == "ENOSPC" { refused += 1 }
            for id in ids {
                test.control.send(Message(.transactionEnd, transaction: id, [0x46, 0]).bytes)
            }
            test.server.commit()
            _ = test.control.drain()
        }
        #expect(refused > 0)
    }

    @Test func aStoreThatFailsRefusesUntilItTakesAgain() {
        let backend = TestBackend()
        let test = TestServer(backend: backend)
        let guest = test.ring(3)
        #expect(ask(test, guest, .write("/k", "x")) == "OK")
        backend.mode = .failing(28)
        // It was too late to refuse this one: it waits.
        #expect(ask(test, guest, .write("/k", "y")) == nil)
        let other = test.ring(4)
        #expect(ask(test, other, .write("/l", "y")) == "ENOSPC")
        #expect(ask(test, other, .remove, ["/absent"]) == "OK")
        #expect(ask(test, other, .remove, ["/k"]) == nil)
        #expect(backend.refused == 1)
        backend.mode = .final
        test.pass(second / 2)
        test.server.commit()
        #expect(guest.reply() == nil)
        #expect(test.server.nextDeadline != nil)
        test.pass(second)
        test.server.commit()
        #expect(guest.reply()?.outcome == "OK" && other.reply()?.outcome == "OK")
        #expect(ask(test, other, .write("/l", "y")) == "OK")
        #expect(test.server.nextDeadline == nil)
        let errors = test.world.lines.filter { $0.level == .error }
        #expect(errors.first?.text.hasPrefix("the store cannot take a change: errno 28") == true)
    }

    @Test func itGoesOnInMemoryWhereItIsToldTo() {
        let backend = TestBackend()
        let test = TestServer(backend: backend) { $0.continuesInMemory = true }
        backend.mode = .failing(28)
        for round in 0..<2000 {
            test.server.commits.shrinkAt = 4096
            #expect(ask(test, test.control, .write("/n\(round % 10)", "\(round)")) == "OK")
            if round % 100 == 0 { test.pass(second * 2) }
            if round % 7 == 0 { #expect(ask(test, test.control, .remove, ["/n3"]) == "OK") }
        }
        // As much as changes again and again, not as much as was changed.
        #expect(test.server.commits.batch.count < 20_000)
        backend.mode = .final
        test.pass(second * 2)
        test.server.commit()
        #expect(test.world.lines.last?.text == "the store takes changes again, and has all of them")
        let again = Server(ServerConfiguration(), world: TestWorld(), backend: backend.found())
        #expect(again.recover(backend.records, sequence: backend.sequence))
        again.commit()
        let reader = Client(again, domain: 0)
        for number in 0..<10 {
            #expect(reader.read("/n\(number)") == test.control.read("/n\(number)"))
        }
        #expect(again.nodeCount == test.server.nodeCount)
        #expect(again.checkInvariants() == 0)
    }

    @Test(arguments: UInt64(0)..<20) func shrinkingKeepsTheNewestOfEachKey(seed: UInt64) {
        let commits = Commits(TestBackend())
        var random = SplitMix64(seed: seed)
        commits.shrinkAt = 1
        var newest: [String: String?] = [:]
        for number in 0..<300 {
            let key = "/\(random.below(20))"
            let isThere = random.chance(70)
            newest[key] = .some(isThere ? "\(number)" : nil)
            Array(key.utf8).withBytes { key in
                if isThere {
                    Array("\(number)".utf8).withBytes { value in
                        commits.put(key, generation: 1, value: value, permissionCount: 1) { _ in
                            Permission(.none, .zero)
                        }
                    }
                } else {
                    commits.remove(key, generation: 1)
                }
            }
            if random.chance(10) {
                commits.shrinkAt = 1
                commits.shrink(KeyedHash(seed: (1, 2)))
            }
        }
        commits.shrinkAt = 1
        commits.shrink(KeyedHash(seed: (1, 2)))
        var found: [String: String?] = [:]
        var count = 0
        commits.batch.withUnsafeBytes { all in
            _ = StoreRecord.forEach(in: all) { record in
                count += 1
                let value = record.kind == .put ? String(decoding: record.value, as: UTF8.self) : nil
                found[String(decoding: record.key, as: UTF8.self)] = .some(value)
            }
        }
        #expect(found == newest && count == newest.count)
    }
}
