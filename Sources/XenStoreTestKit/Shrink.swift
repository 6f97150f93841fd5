// Makes a failing run shorter, by leaving steps out.

/// The shortest list of steps found that still fails, by dropping ever smaller parts of it. `fails` runs a
/// list from the beginning; it is called at most `budget` times.
public func shrink<Item>(_ steps: [Item], budget: Int = 300, fails: ([Item]) -> Bool) -> [Item] {
    var best = steps
    var left = budget
    var size = best.count / 2
    while size > 0 && left > 0 {
        var from = 0
        var hasShrunk = false
        while from < best.count && left > 0 {
            let shorter = Array(best[..<from] + best[min(from + size, best.count)...])
            left -= 1
            if fails(shorter) {
                best = shorter
                hasShrunk = true
            } else {
                from += size
            }
        }
        if !hasShrunk || size > best.count { size /= 2 }
    }
    return best
}
