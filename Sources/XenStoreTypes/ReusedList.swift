// A list that is filled and emptied in every turn.

/// Elements in order, in memory that is kept when they go: adding allocates only when there have not been so
/// many since memory was given back (`removeAll(keeping:)`).
@frozen
public struct ReusedList<Element: BitwiseCopyable> {
    /// Its first `count` elements are the list.
    @usableFromInline var storage: [Element] = []
    @usableFromInline var used = 0

    @inlinable public init() {}

    @inlinable public var count: Int { used }
    @inlinable public var isEmpty: Bool { used == 0 }

    @inlinable public subscript(_ index: Int) -> Element {
        get {
            precondition(index >= 0 && index < used)
            return storage[index]
        }
        set {
            precondition(index >= 0 && index < used)
            storage[index] = newValue
        }
    }

    @inlinable public mutating func append(_ element: Element) {
        if used < storage.count { storage[used] = element } else { storage.append(element) }
        used += 1
    }

    /// The elements behind the first `count` go.
    @inlinable public mutating func keepFirst(_ count: Int) {
        precondition(count >= 0 && count <= used)
        used = count
    }

    /// The first `number` elements go, and the others move up.
    @inlinable public mutating func removeFirst(_ number: Int) {
        precondition(number >= 0 && number <= used)
        for index in number..<used { storage[index - number] = storage[index] }
        used -= number
    }

    /// All elements go; memory for more than `most` of them is given back.
    @inlinable public mutating func removeAll(keeping most: Int = .max) {
        used = 0
        if storage.count > most { storage = [] }
    }
}
