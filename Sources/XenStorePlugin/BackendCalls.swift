// The C side of a store backend: what each pointer of struct xenstore_backend does. Unsafe code.
//
// `self` over there is a retained StoreBackend here; close releases it.

import CXenStorePlugin

final class BackendOpening {
    let open: Plugin.Opening<StoreBackend>
    init(_ open: @escaping Plugin.Opening<StoreBackend>) { self.open = open }
}

func backendCalls(isDurable: Bool) -> xenstore_backend {
    var calls = xenstore_backend()
    calls.size = UInt32(MemoryLayout<xenstore_backend>.size)
    calls.flags = isDurable ? UInt32(XENSTORE_BACKEND_DURABLE) : 0
    calls.open = openBackend
    calls.recover = recoverBackend
    calls.commit = commitToBackend
    calls.close = closeBackend
    calls.room = { backend($0).room }
    calls.flush = flushBackend
    calls.report = { copyOut(backend($0).report(), to: $1, room: $2) }
    return calls
}

@inline(__always)
private func backend(_ instance: UnsafeMutableRawPointer?) -> StoreBackend {
    Unmanaged<StoreBackend>.fromOpaque(instance.unsafelyUnwrapped).takeUnretainedValue()
}

/// What `commit` is called on: the same, without counting a reference, which costs as much as the call. The
/// daemon's own holds until close.
@inline(__always)
private func borrowed(_ instance: UnsafeMutableRawPointer?) -> Unmanaged<StoreBackend> {
    Unmanaged.fromOpaque(instance.unsafelyUnwrapped)
}

private func openBackend(
    _ plugin: UnsafePointer<xenstore_plugin>?, _ host: UnsafePointer<xenstore_host>?,
    _ options: UnsafePointer<xenstore_option>?, _ count: Int,
    _ failure: UnsafeMutablePointer<xenstore_failure>?
) -> UnsafeMutableRawPointer? {
    guard let own = plugin?.pointee.own, let host else { return nil }
    let opening = Unmanaged<BackendOpening>.fromOpaque(own).takeUnretainedValue()
    do throws(PluginFailure) {
        let backend = try opening.open(PluginHost(host), PluginOption.all(options, count))
        return Unmanaged.passRetained(backend).toOpaque()
    } catch {
        _ = error.fill(failure)
        return nil
    }
}

private func recoverBackend(
    _ instance: UnsafeMutableRawPointer?, _ receive: xenstore_receive?,
    _ receiver: UnsafeMutableRawPointer?, _ sequence: UnsafeMutablePointer<UInt64>?,
    _ failure: UnsafeMutablePointer<xenstore_failure>?
) -> Int32 {
    do throws(PluginFailure) {
        let newest = try backend(instance).recover {
            (records: UnsafeRawBufferPointer) throws(PluginFailure) in
            let start = records.assumingMemoryBound(to: UInt8.self).baseAddress
            if let receive, receive(receiver, start, records.count) != 0 {
                throw PluginFailure("the daemon does not take what is recovered", errno: 125)
            }
        }
        sequence?.pointee = newest
        return 0
    } catch {
        return error.fill(failure)
    }
}

private func commitToBackend(
    _ instance: UnsafeMutableRawPointer?, _ sequence: UInt64, _ records: UnsafePointer<UInt8>?,
    _ count: Int, _ failure: UnsafeMutablePointer<xenstore_failure>?
) -> Int32 {
    borrowed(instance)._withUnsafeGuaranteedRef { backend in
        do throws(PluginFailure) {
            let bytes = UnsafeRawBufferPointer(start: records, count: count)
            return try backend.commit(sequence, bytes) == .final ? 0 : 1
        } catch {
            return error.fill(failure)
        }
    }
}

private func closeBackend(_ instance: UnsafeMutableRawPointer?) {
    guard let instance else { return }
    let owned = Unmanaged<StoreBackend>.fromOpaque(instance)
    owned.takeUnretainedValue().close()
    owned.release()
}

private func flushBackend(
    _ instance: UnsafeMutableRawPointer?, _ failure: UnsafeMutablePointer<xenstore_failure>?
) -> Int32 {
    do throws(PluginFailure) {
        try backend(instance).flush()
        return 0
    } catch {
        return error.fill(failure)
    }
}

/// Copies as much of `text` as there is room for. Returns how many bytes that is.
func copyOut(_ text: String, to place: UnsafeMutablePointer<CChar>?, room: Int) -> Int {
    guard let place else { return 0 }
    var text = text
    return text.withUTF8 { bytes in
        let count = min(room, bytes.count)
        for index in 0..<count { place[index] = CChar(bitPattern: bytes[index]) }
        return count
    }
}
