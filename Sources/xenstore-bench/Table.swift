// Prints rows of cells: aligned for a terminal, or as a Markdown table.

struct Table {
    var header: [String]
    var rows: [[String]] = []
    /// The columns that are numbers, and stand to the right.
    var numeric: Set<Int> = []

    /// One line of text a row, without a newline at the end of the last.
    func text(markdown: Bool) -> String {
        let widths = header.indices.map { column in
            ([header] + rows).map { $0[column].count }.max() ?? 0
        }
        var lines = [line(header, widths, markdown)]
        let rule = header.indices.map { column in
            let dashes = String(repeating: "-", count: max(widths[column], 3))
            return markdown && numeric.contains(column) ? String(dashes.dropLast()) + ":" : dashes
        }
        lines.append(markdown ? "| " + rule.joined(separator: " | ") + " |" : rule.joined(separator: "  "))
        for row in rows { lines.append(line(row, widths, markdown)) }
        return lines.joined(separator: "\n")
    }

    private func line(_ cells: [String], _ widths: [Int], _ markdown: Bool) -> String {
        let padded = cells.indices.map { column in
            let space = String(repeating: " ", count: max(widths[column], 3) - cells[column].count)
            return numeric.contains(column) ? space + cells[column] : cells[column] + space
        }
        guard !markdown else { return "| " + padded.joined(separator: " | ") + " |" }
        let plain = padded.joined(separator: "  ")
        return String(plain[...(plain.lastIndex { $0 != " " } ?? plain.startIndex)])
    }
}
