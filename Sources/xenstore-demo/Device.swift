// What both drivers of a device must agree on: where its two ends are in the tree, and what their states mean
// (Xen's public header io/xenbus.h).

import XenStoreClient
import XenStoreTypes

/// The value of a node `state`. Each driver writes its own and watches the other's.
enum XenbusState: Int {
    case unknown, initialising, initWait, initialised, connected, closing, closed
}

/// A device of a guest, which its backend in domain 0 serves.
struct Device {
    enum Kind: String, CaseIterable {
        case block = "vbd"
        case net = "vif"

        /// The first of its kind, as guests number them: 51712 is xvda.
        var number: Int { self == .block ? 51712 : 0 }
    }

    let kind: Kind
    let domain: DomainID

    var frontend: String { "/local/domain/\(domain.rawValue)/device/\(kind.rawValue)/\(kind.number)" }
    var backend: String { "/local/domain/0/backend/\(kind.rawValue)/\(domain.rawValue)/\(kind.number)" }
}

/// One end of a device, as its driver sees it.
struct DeviceEnd {
    let client: XenStoreClient
    let path: String
    let otherEnd: String
    let kind: Device.Kind
    /// Whose lines these are on the terminal.
    let speaker: Speaker

    /// The end at `path`, whose node `pointer` says where the other one is: `.../vbd/51712` for a frontend,
    /// `.../vbd/7/51712` for a backend. Nil if it is gone, or no device of ours.
    init?(_ client: XenStoreClient, path: String, pointer: String, _ speaker: Speaker) async throws {
        let names = path.split(separator: "/").map(String.init)
        guard let kind = names.lazy.compactMap(Device.Kind.init(rawValue:)).first,
            let otherEnd = try await client.readIfThere("\(path)/\(pointer)")
        else { return nil }
        (self.client, self.path, self.otherEnd, self.kind) = (client, path, otherEnd, kind)
        self.speaker = speaker
    }

    var state: XenbusState? {
        get async throws { try await client.xenbusState(path) }
    }
    var otherState: XenbusState? {
        get async throws { try await client.xenbusState(otherEnd) }
    }
    /// One event now, and one whenever the other end's state may have changed.
    func otherStateEvents() async throws -> WatchEvents { try await client.watch("\(otherEnd)/state") }

    /// Changes this end's state, unless the toolstack has removed the device: then nothing is written, since
    /// a write would bring the nodes back.
    func switchState(to new: XenbusState) async throws {
        let old = try await client.withTransaction { transaction in
            let old = try await transaction.xenbusState(path)
            if old != nil { try await transaction.write("\(path)/state", "\(new.rawValue)") }
            return old
        }
        if let old { speaker.say("\(kind.rawValue): \(old) -> \(new) (\(new.rawValue))") }
    }
}

extension NodeAccess {
    /// The state of the end at `path`; nil: it is gone.
    func xenbusState(_ path: String) async throws -> XenbusState? {
        guard let text = try await readIfThere("\(path)/state") else { return nil }
        return Int(text).flatMap(XenbusState.init(rawValue:)) ?? .unknown
    }

    /// A node's value; nil: there is no such node.
    func readIfThere(_ path: String) async throws -> String? {
        do {
            return try await readString(path)
        } catch let error as XenStoreError where error.errorName == .noent {
            return nil
        }
    }

    /// The paths of all nodes that are `depth` levels below `root`.
    func nodes(below root: String, depth: Int) async throws -> Set<String> {
        var paths = [root]
        for _ in 0..<depth {
            var below: [String] = []
            for path in paths {
                do {
                    below += try await list(path).map { "\(path)/\($0)" }
                } catch let error as XenStoreError where error.errorName == .noent {
                    continue
                }
            }
            paths = below
        }
        return Set(paths)
    }
}
