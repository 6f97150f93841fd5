// The shared page as the specification's section B tells it, a byte at a time: slow and obvious.

/// A copy of a shared page, and what each call should make of it.
struct ReferencePage: Equatable {
    /// The 4096 bytes of the page.
    var bytes: [UInt8]

    static let requestBytes = 0
    static let responseBytes = 1024
    static let requestConsumer = 2048
    static let requestProducer = 2052
    static let responseConsumer = 2056
    static let responseProducer = 2060
    static let features = 2064
    static let connection = 2068
    static let error = 2072
    static let eventChannelPort = 2076

    subscript(word offset: Int) -> UInt32 {
        get { bytes.withUnsafeBytes { $0.load(fromByteOffset: offset, as: UInt32.self) } }
        set {
            bytes.withUnsafeMutableBytes {
                $0.storeBytes(of: newValue, toByteOffset: offset, as: UInt32.self)
            }
        }
    }

    /// How many bytes wait, or nil for indexes that cannot be.
    func waiting(consumer: Int, producer: Int) -> Int? {
        let count = self[word: producer] &- self[word: consumer]
        return count > 1024 ? nil : Int(count)
    }

    /// What a reader with room for `limit` bytes gets, or nil for a bad index.
    mutating func take(from ring: Int, consumer: Int, producer: Int, limit: Int) -> [UInt8]? {
        guard waiting(consumer: consumer, producer: producer) != nil else { return nil }
        var taken: [UInt8] = []
        while taken.count < limit && self[word: consumer] != self[word: producer] {
            taken.append(bytes[ring + Int(self[word: consumer] % 1024)])
            self[word: consumer] &+= 1
        }
        return taken
    }

    /// How many of `offered` a writer gets rid of, or nil for a bad index.
    mutating func put(_ offered: [UInt8], into ring: Int, consumer: Int, producer: Int) -> Int? {
        guard waiting(consumer: consumer, producer: producer) != nil else { return nil }
        var count = 0
        while count < offered.count && self[word: producer] &- self[word: consumer] < 1024 {
            bytes[ring + Int(self[word: producer] % 1024)] = offered[count]
            self[word: producer] &+= 1
            count += 1
        }
        return count
    }
}
