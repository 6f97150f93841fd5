// What the roles say on the terminal: a line each, in a colour of their own.

import Glibc

/// One of those who take part.
struct Speaker {
    enum Colour: Int {
        case green = 32
        case yellow, blue
    }

    let name: String
    let colour: Colour

    static let toolstack = Speaker(name: "toolstack", colour: .blue)
    static let backend = Speaker(name: "backend", colour: .yellow)

    /// One line, written at once, so that the lines of several programs do not mix. Colours on a terminal
    /// only.
    func say(_ text: String) {
        let marked = isatty(STDOUT_FILENO) == 1 ? "\u{1B}[\(colour.rawValue)m\(name)\u{1B}[0m" : name
        let line = Array("  \(marked): \(text)\n".utf8)
        _ = line.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
    }
}
