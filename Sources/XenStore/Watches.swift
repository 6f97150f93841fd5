// Watches, found by walking the changed path (specification, section D).
//
// Invariants: a path is in the index exactly while at least one watch is on it. Each watch is in its path's
// list, in its connection's list and in the index of (connection, path, token) exactly once. Watches on one
// path stand in the order in which they were set.

import XenStoreTypes

/// The number of a watch. 0: none.
typealias WatchID = UInt32

/// A watch of one connection on one path.
struct Watch: BitwiseCopyable {
    /// Any depth.
    static let unlimited = UInt16.max

    var connection: UInt32
    var place: UInt32
    var nextOnPath: WatchID = 0
    var previousOnPath: WatchID = 0
    var nextOfConnection: WatchID = 0
    var previousOfConnection: WatchID = 0
    /// Hash of connection, path and token.
    var hash: UInt64
    var token: Blob
    var tokenCount: UInt16
    /// Levels below the path that it reports; `unlimited` for all.
    var depth: UInt16
    /// Bytes at the start of a changed path that its events leave out, for a watch that was set by a relative
    /// path.
    var homeCount: UInt16
}

/// A path that somebody watches.
struct WatchedPath: BitwiseCopyable {
    var hash: UInt64
    var path: Blob
    var pathCount: UInt16
    var first: WatchID = 0
    var last: WatchID = 0
}

final class Watches {
    let table = Arena<Watch>()
    let places = Arena<WatchedPath>()
    private let placeIndex = HashIndex()
    private let watchIndex = HashIndex()
    private let bytes: ByteStore
    private let hash: KeyedHash

    init(_ bytes: ByteStore, _ hash: KeyedHash) {
        self.bytes = bytes
        self.hash = hash
    }

    deinit {
        table.destroy()
        places.destroy()
        placeIndex.destroy()
        watchIndex.destroy()
    }

    var count: Int { table.count }
    var memory: Int { table.memory + places.memory + placeIndex.memory + watchIndex.memory }

    func path(_ id: WatchID) -> Bytes {
        let place = table[id].place
        return bytes.bytes(places[place].path, Int(places[place].pathCount))
    }

    func token(_ id: WatchID) -> Bytes { bytes.bytes(table[id].token, Int(table[id].tokenCount)) }

    /// The watched path that the first `level` components of `path` name, or 0.
    @inline(__always) func place(_ path: ParsedPath, _ level: Int) -> UInt32 {
        let key = path.hash(at: level)
        return placeIndex.first(key) { id in
            places[id].hash == key
                && path.withPrefix(level) { bytes.bytes(places[id].path, Int(places[id].pathCount)) == $0 }
        }
    }

    /// Whether anybody watches a path with this hash; rarely true for one that nobody watches, too.
    @inline(__always) func mayBeWatched(_ key: UInt64) -> Bool {
        placeIndex.first(key) { places[$0].hash == key } != 0
    }

    var isEmpty: Bool { table.count == 0 }

    /// The watch of this connection on this path with this token, or 0.
    func find(_ connection: UInt32, _ path: ParsedPath, _ token: Bytes) -> WatchID {
        let key = key(connection, path, token)
        return watchIndex.first(key) { id in
            table[id].hash == key && table[id].connection == connection && self.token(id) == token
                && path.withText { self.path(id) == $0 }
        }
    }

    private func key(_ connection: UInt32, _ path: ParsedPath, _ token: Bytes) -> UInt64 {
        hash(path.hash(at: path.depth) ^ UInt64(connection), token)
    }

    /// Sets a watch, which must not be there yet, and puts it at the head of the connection's list.
    func insert(
        _ connection: UInt32, _ path: ParsedPath, _ token: Bytes, depth: UInt16, first: inout WatchID
    ) -> WatchID {
        var place = place(path, path.depth)
        if place == 0 {
            let key = path.hash(at: path.depth)
            let blob = path.withText { bytes.insert($0) }
            place = places.insert(
                WatchedPath(hash: key, path: blob, pathCount: UInt16(path.text.count)))
            placeIndex.insert(key, place)
        }
        let key = key(connection, path, token)
        let id = table.insert(
            Watch(
                connection: connection, place: place, previousOnPath: places[place].last,
                nextOfConnection: first, hash: key, token: bytes.insert(token),
                tokenCount: UInt16(token.count), depth: depth, homeCount: UInt16(path.homeCount)))
        watchIndex.insert(key, id)
        if places[place].last == 0 {
            places[place].first = id
        } else {
            table[places[place].last].nextOnPath = id
        }
        places[place].last = id
        if first != 0 { table[first].previousOfConnection = id }
        first = id
        return id
    }

    /// Removes a watch; `first` is the head of its connection's list.
    func remove(_ id: WatchID, first: inout WatchID) {
        let watch = table[id]
        let place = watch.place
        watchIndex.remove(watch.hash, id)
        if watch.previousOnPath == 0 {
            places[place].first = watch.nextOnPath
        } else {
            table[watch.previousOnPath].nextOnPath = watch.nextOnPath
        }
        if watch.nextOnPath == 0 {
            places[place].last = watch.previousOnPath
        } else {
            table[watch.nextOnPath].previousOnPath = watch.previousOnPath
        }
        if watch.previousOfConnection == 0 {
            first = watch.nextOfConnection
        } else {
            table[watch.previousOfConnection].nextOfConnection = watch.nextOfConnection
        }
        if watch.nextOfConnection != 0 {
            table[watch.nextOfConnection].previousOfConnection = watch.previousOfConnection
        }
        bytes.remove(watch.token, Int(watch.tokenCount))
        table.remove(id)
        if places[place].first == 0 {
            placeIndex.remove(places[place].hash, place)
            bytes.remove(places[place].path, Int(places[place].pathCount))
            places.remove(place)
        }
    }

    /// What one watch is counted with against its domain's memory.
    func cost(_ id: WatchID) -> Int {
        MemoryLayout<Watch>.stride + Int(table[id].tokenCount) + Int(places[table[id].place].pathCount)
    }
}
