// Domain ids in runs that no rule of a policy tells apart.

/// Runs of domain ids, numbered from 0 in their order.
///
/// Invariant: `starts` begins with 0 and rises.
public struct DomainRuns: Sendable {
    /// The first id of each run.
    public let starts: [UInt16]

    /// The fewest runs of which each lies in every one of these ranges, or outside of it.
    public init(_ ranges: [(first: UInt16, last: UInt16)]) {
        var isStart = [Bool](repeating: false, count: 0x1_0001)
        isStart[0] = true
        for (first, last) in ranges {
            isStart[Int(first)] = true
            isStart[Int(last) + 1] = true
        }
        var starts: [UInt16] = []
        for id in 0..<0x1_0000 where isStart[id] { starts.append(UInt16(id)) }
        self.starts = starts
    }

    /// The number of the run that the id is in.
    public func number(of domain: UInt16) -> Int {
        var low = 0
        var high = starts.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if starts[middle] <= domain { low = middle } else { high = middle }
        }
        return low
    }
}
