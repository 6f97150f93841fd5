import Testing
import XenStore
import XenStoreTypes

@Suite struct SmokeTests {
    @Test func writesAndReads() {
        let server = Server(ServerConfiguration(), world: World())
        let c = server.connect(.domain(.zero))
        func send(_ type: UInt32, _ tx: UInt32, _ payload: String) -> String {
            var bytes: [UInt8] = []
            for word in [type, 7, tx, UInt32(payload.utf8.count)] {
                withUnsafeBytes(of: word) { bytes.append(contentsOf: $0) }
            }
            bytes += Array(payload.utf8)
            server.receive(c, bytes.span)
            var out = ""
            server.withOutput(c) { span in
                for i in span.indices {
                    out +=
                        span[i] >= 32 && span[i] < 127
                        ? String(UnicodeScalar(span[i])) : span[i] == 0 ? "." : "?"
                }
            }
            server.sent(c, server.outputCount(c))
            #expect(server.checkInvariants() == 0)
            return out
        }
        print(send(11, 0, "/a/b\0hello"))
        print(send(2, 0, "/a/b\0"))
        print(send(1, 0, "/\0"))
        print(send(4, 0, "/a\0tok\0"))
        print(send(6, 0, "\0"))
        print(send(11, 1, "/a/c\0in"))
        print(send(1, 1, "/a\0"))
        print(send(1, 0, "/a\0"))
        print(send(13, 1, "/a/b\0"))
        print(send(2, 0, "/a/b\0"))
        print(send(2, 1, "/a/b\0"))
        print(send(7, 1, "T\0"))
        print(send(2, 0, "/a/b\0"))
        print(send(1, 0, "/a\0"))
        print(send(0, 0, "help\0"))
        print(send(0, 0, "quota\0" + "0\0"))
        print(send(3, 0, "@releaseDomain\0"))
        print(send(13, 0, "/a\0"))
    }
}
