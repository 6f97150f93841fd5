// Does the daemon answer as the transcripts in `files` say? They are played in this process, each in several
// ways, and against daemons behind sockets:
//
//     XENSTORE_TEST_SOCKET=/path[:/read-only]   ours that listens there, instead of one started here
//     PEERS=1 XENSTORE_PEER_SOCKETS=c=/path,ocaml=/path   other daemons too, by the names used in the files

import Foundation
import Testing
import XenStoreHost
import XenStoreTestKit

private let environment = ProcessInfo.processInfo.environment

private func transcripts() throws -> [Transcript] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("files")
    let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    return try files.filter { $0.pathExtension == "txt" }
        .sorted { $0.lastPathComponent < $1.lastPathComponent }
        .map { try Transcript(name: $0.lastPathComponent, text: String(contentsOf: $0, encoding: .utf8)) }
}

private func play(_ transcript: Transcript, _ peer: any TranscriptPeer) {
    let player = TranscriptPlayer(transcript, peer)
    player.play()
    for failure in player.failures { Issue.record("\(peer.name.map { "\($0): " } ?? "")\(failure)") }
}

/// How a transcript is played in this process.
enum Manner: CaseIterable {
    case sockets, rings, bytewise
}

@Test func thereAreTranscripts() throws {
    #expect(try transcripts().count > 10)
}

@Test(arguments: Manner.allCases)
func inProcess(manner: Manner) throws {
    for transcript in try transcripts() {
        let peer = ServerPeer(for: transcript, bytewise: manner == .bytewise, sockets: manner == .sockets)
        play(transcript, peer)
        #expect(peer.server.checkInvariants() == 0, "\(transcript.name)")
    }
}

/// Over the rings of guests on a simulated host, each file on a daemon of its own.
@Test(arguments: [false, true])
func overRings(ofDomain0: Bool) throws {
    for transcript in try transcripts() where !transcript.skipped.contains("rings") {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("rings-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let peer = try SimulatedPeer(for: transcript, in: folder.path, ring: ofDomain0)
        play(SimulatedPeer.playable(transcript), peer)
        #expect(peer.isIntact, "\(transcript.name)")
    }
}

/// Files about requests that the reference does not know.
private let beyondReference: Set<String> = [
    "control.txt", "transaction_nodes.txt",
]

@Test func referenceStore() throws {
    for transcript in try transcripts() where !beyondReference.contains(transcript.name) {
        play(transcript, ReferencePeer(for: transcript))
    }
}

/// Plays all that sockets can on one daemon.
private func overSocket(_ peer: SocketPeer) throws {
    for transcript in try transcripts() where !transcript.needsGuests {
        if let name = peer.name, transcript.skipped.contains(name) { continue }
        peer.clean()
        play(transcript, peer)
    }
    peer.clean()
}

@Test func overOurSocket() throws {
    if let named = environment["XENSTORE_TEST_SOCKET"] {
        let paths = named.split(separator: ":").map(String.init)
        let readOnly = paths.count > 1 ? paths[1] : nil
        return try overSocket(SocketPeer(name: nil, path: paths[0], readOnlyPath: readOnly))
    }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("transcripts-\(getpid())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let paths = ["socket", "socket_ro"].map { folder.appendingPathComponent($0).path }
    var options = HostOptions()
    options.sockets = [SocketOptions(path: paths[0]), SocketOptions(path: paths[1], readOnly: true)]
    options.logDestination = .file(folder.appendingPathComponent("log").path)
    let daemon = try DaemonThread(options)
    defer { daemon.stop() }
    try overSocket(SocketPeer(name: nil, path: paths[0], readOnlyPath: paths[1]))
}

@Test(.enabled(if: environment["PEERS"] == "1"))
func otherDaemons() throws {
    let named = (environment["XENSTORE_PEER_SOCKETS"] ?? "").split(separator: ",")
    #expect(!named.isEmpty, "XENSTORE_PEER_SOCKETS=c=/path,ocaml=/path")
    for one in named {
        let parts = one.split(separator: "=").map(String.init)
        try overSocket(SocketPeer(name: parts[0], path: parts[1]))
    }
}
