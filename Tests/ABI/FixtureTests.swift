// Does a module that was built for an earlier interface still load, and do what it did?

#if arch(x86_64)
    import CXenStorePlugin
    import Foundation
    import Testing
    import XenStore
    import XenStoreHost
    import XenStoreTestKit
    import XenStoreTypes

    @Suite(.serialized) struct FixtureTests {
        let scratch = ModuleScratch()

        /// The object as it was committed, where it can be trusted whoever checked it out.
        private func fixture() throws -> String {
            let kept = ModuleScratch.top + "/Tests/ABI/fixtures/store_1_0.so"
            let place = scratch / "fixture-1-0.so"
            try FileManager.default.copyItem(atPath: kept, toPath: place)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: place)
            return place
        }

        @Test func theBackendOfInterfaceOneKeepsAndHandsBack() throws {
            _ = try fixture()
            let log = try scratch.log()
            let choice = scratch.choice("fixture-1-0", [("mode", "work")])
            let batches: [[UInt8]] = [batch("/a", "1"), batch("/a", "2") + batch("/b", "3")]

            let first = try ModuleBackend(choice, log: log) { _ in }
            #expect(first.module.interface == "1.0")
            #expect(try first.recover { _ in false } == 0)
            for (index, records) in batches.enumerated() {
                #expect(first.commit(UInt64(index + 1), records.span) == .final)
            }
            #expect(first.commit(3, [UInt8](repeating: 7, count: 64).span) == .failed(code: 22))
            #expect(first.failureReason == "no record")
            #expect(first.room == 12345)
            #expect(first.flush?() == nil)
            #expect(first.report == Array("batches: some\n".utf8))
            first.close()

            let second = try ModuleBackend(choice, log: log) { _ in }
            var found: [[UInt8]] = []
            #expect(
                try second.recover {
                    found.append(Array($0))
                    return true
                } == 2)
            #expect(found == batches)
            second.close()
            log.close()
            #expect(scratch.contents("log").contains("info: fixture-1-0: opened\n"))
        }

        @Test func itsFailureToOpenIsTold() throws {
            let path = try fixture()
            let log = try scratch.log()
            let failure = #expect(throws: StartFailure.self) {
                _ = try ModuleBackend(scratch.choice(path, [("mode", "fail")]), log: log) { _ in }
            }
            let text = "f.yaml:2:12: store backend fixture-1-0: asked to fail, and does"
            #expect(failure?.description == text)
            log.close()
        }

        @Test func thePolicyOfInterfaceOneReadsAQuestion() throws {
            let module = try scratch.choice(fixture()).module()
            let policy = try #require(module.policy)
            let instance = try #require(openPolicy(module, policy))
            var interest = xenstore_interest()
            interest.size = UInt32(MemoryLayout<xenstore_interest>.size)
            policy.interest(instance, &interest)
            #expect(interest.decides == 1 << 2)
            let read = Int(XENSTORE_OP_READ)
            #expect(ask(policy, instance, read, domain: 1, "/").verdict == 0)
            let answer = ask(policy, instance, read, domain: 1, "/local/abcd")
            #expect(answer.verdict == 2 && answer.error == 4)
            #expect(ask(policy, instance, read, domain: 1, "@releaseDomain").error == 14)
            policy.close(instance)
        }

        private func batch(_ key: String, _ value: String) -> [UInt8] {
            var bytes: [UInt8] = []
            Array(key.utf8).withUnsafeBytes { key in
                Array(value.utf8).withUnsafeBytes { value in
                    StoreRecord.append(
                        to: &bytes, .put, generation: 1, permissionCount: 1, key: key, value: value
                    ) { _ in Permission(.none, DomainID(3)) }
                }
            }
            return bytes
        }
    }
#endif
