// Signals, read from a descriptor like everything else.

import CLinux
import Glibc

/// SIGTERM and SIGINT stop the loop after its turn; SIGHUP calls `reload`. SIGPIPE is ignored by the whole
/// process.
///
/// To be made on the process's first thread, before there is another: a thread that does not block a signal
/// takes it from us, and dies of it.
final class Signals: EventSource {
    let descriptor: Int32
    private let reload: () -> Void

    init(_ reload: @escaping () -> Void) throws(StartFailure) {
        self.reload = reload
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, number) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        descriptor = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        if descriptor < 0 { throw StartFailure("cannot create a signal descriptor", errno: errno) }
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
    }

    static func ignoreBrokenPipes() { signal(SIGPIPE, SIG_IGN) }

    func ready(_ loop: EventLoop) {
        var signal = signalfd_siginfo()
        while read(descriptor, &signal, MemoryLayout.size(ofValue: signal)) > 0 {
            if signal.ssi_signo == UInt32(SIGHUP) { reload() } else { loop.stop() }
        }
    }
}
