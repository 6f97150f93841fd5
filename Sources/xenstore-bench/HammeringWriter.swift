// A thread that writes one node as fast as the daemon lets it.

import Glibc

/// Writes `a` and `b` by turns from its beginning until `stop`, with 32 requests outstanding on a connection
/// of its own.
///
/// The thread owns `Work` and nobody else touches it before the thread is joined, but for the connection's
/// `shutDown`, which is one system call on a descriptor that lives as long as this.
final class HammeringWriter {
    private final class Work {
        let connection: Connection
        let node: String
        var writes = 0

        init(_ connection: Connection, _ node: String) {
            self.connection = connection
            self.node = node
        }

        /// Tops up the outstanding writes whenever replies have come, until the connection fails.
        func write() throws(Failure) {
            let requests = ["a", "b"].map { RequestBytes.one(.write, node + "\0" + $0) }
            var batch = RequestBytes()
            var sent = 0
            while true {
                batch.removeAll()
                while sent - writes < 32 {
                    batch.add(requests[sent % 2])
                    sent += 1
                }
                try connection.send(batch)
                repeat {
                    try connection.takeReply()
                    writes += 1
                } while connection.hasBufferedMessage
            }
        }
    }

    private let work: Work
    private var thread: pthread_t?

    /// Returns when the first write has been seen.
    init(of node: String, on daemon: Daemon) throws(Failure) {
        let observer = try daemon.connect()
        try observer.call(.write, node + "\0untouched")
        work = Work(try daemon.connect(), node)
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { argument in
                let work = Unmanaged<Work>.fromOpaque(argument!).takeRetainedValue()
                // It ends with the connection.
                try? work.write()
                return nil
            }, Unmanaged.passRetained(work).toOpaque())
        guard failure == 0 else {
            errno = failure
            throw .call("pthread_create")
        }
        self.thread = thread
        while try observer.call(.read, node + "\0") == "untouched" {}
    }

    /// Ends the thread; returns the number of writes that were answered.
    @discardableResult
    func stop() -> Int {
        if let thread {
            work.connection.shutDown()
            pthread_join(thread, nil)
            self.thread = nil
        }
        return work.writes
    }
}
