// A value with where the configuration has it, for mistakes that are found after the file has been read.

/// A value of the configuration. Equal to the same value that stands elsewhere.
public struct Placed<Value: Equatable & Sendable>: Equatable, Sendable {
    public var value: Value
    /// The file as it was named; empty: a default.
    public var file: String
    public var place: Place?

    public init(_ value: Value, file: String = "", place: Place? = nil) {
        self.value = value
        self.file = file
        self.place = place
    }

    /// `FILE:LINE:COLUMN: text`, or the text alone where the value is a default.
    public func mistake(_ text: String) -> StartFailure {
        guard let place else { return StartFailure(text) }
        return StartFailure(ConfigurationMistake(file: file, place: place, text: text).description)
    }

    public static func == (left: Placed, right: Placed) -> Bool { left.value == right.value }
}
