// libyaml's parser as a series of Swift values. All unsafe code of the configuration is in this file.
//
// The parser lives at a fixed address (libyaml keeps pointers into it) and is fed from a copy of the bytes
// that lives as long. Every event is deleted before `next` returns. libyaml counts lines and columns from
// 0, and where something is missing at the end it may name a line behind the last one.

import CYAML

/// What the parser saw next.
struct YAMLEvent {
    enum Kind {
        case streamStart, streamEnd, documentStart, documentEnd
        case alias(String)
        case scalar(String, plain: Bool)
        case listStart, mappingStart
        case collectionEnd
    }

    var kind: Kind
    var place: Place
    /// `&name` before the value.
    var anchor: String?
    /// `!name` before the value.
    var tag: String?
}

/// Reads YAML events from bytes, which must be UTF-8 (a byte order mark at the start is taken).
final class YAMLEvents {
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let input: UnsafeMutableBufferPointer<UInt8>

    init(_ bytes: [UInt8]) {
        let text = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
        parser = .allocate(capacity: 1)
        input = .allocate(capacity: text.count)
        _ = input.initialize(from: text)
        guard yaml_parser_initialize(parser) == 1 else { fatalError("out of memory") }
        yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
        yaml_parser_set_input_string(parser, input.baseAddress, input.count)
    }

    deinit {
        yaml_parser_delete(parser)
        parser.deallocate()
        input.deallocate()
    }

    /// The next event; after `.streamEnd` or a throw it must not be called again.
    ///
    /// Throws what is wrong and where, if the bytes are not UTF-8 or not YAML.
    func next() throws(YAMLSyntaxMistake) -> YAMLEvent {
        var event = yaml_event_t()
        guard yaml_parser_parse(parser, &event) == 1 else { throw mistake() }
        defer { yaml_event_delete(&event) }
        var result = YAMLEvent(kind: .streamEnd, place: Self.place(event.start_mark))
        switch event.type {
        case YAML_STREAM_START_EVENT: result.kind = .streamStart
        case YAML_DOCUMENT_START_EVENT: result.kind = .documentStart
        case YAML_DOCUMENT_END_EVENT: result.kind = .documentEnd
        case YAML_ALIAS_EVENT: result.kind = .alias(Self.text(event.data.alias.anchor) ?? "")
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            result.kind = .scalar(
                String(decoding: bytes, as: UTF8.self), plain: scalar.style == YAML_PLAIN_SCALAR_STYLE)
            result.anchor = Self.text(scalar.anchor)
            result.tag = Self.text(scalar.tag)
        case YAML_SEQUENCE_START_EVENT:
            result.kind = .listStart
            result.anchor = Self.text(event.data.sequence_start.anchor)
            result.tag = Self.text(event.data.sequence_start.tag)
        case YAML_MAPPING_START_EVENT:
            result.kind = .mappingStart
            result.anchor = Self.text(event.data.mapping_start.anchor)
            result.tag = Self.text(event.data.mapping_start.tag)
        case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT: result.kind = .collectionEnd
        default: result.kind = .streamEnd
        }
        return result
    }

    private static func place(_ mark: yaml_mark_t) -> Place {
        Place(line: mark.line + 1, column: mark.column + 1)
    }

    private static func text(_ value: UnsafeMutablePointer<yaml_char_t>?) -> String? {
        value.map { String(cString: $0) }
    }

    /// Why `yaml_parser_parse` failed. A reader's failure has a byte offset and no mark.
    private func mistake() -> YAMLSyntaxMistake {
        let failed = parser.pointee
        let problem = failed.problem.map { String(cString: $0) } ?? "out of memory"
        if failed.error == YAML_READER_ERROR {
            let text = "found bytes that are not text (\(problem)), expected UTF-8 without control characters"
            return YAMLSyntaxMistake(place: place(ofByte: failed.problem_offset), text: text)
        }
        var text = "found broken YAML: \(problem)"
        if let during = failed.context.map({ String(cString: $0) }) {
            let start = Self.place(failed.context_mark)
            text += ", \(during) that starts at line \(start.line), column \(start.column)"
        }
        let end = place(ofByte: input.count)
        return YAMLSyntaxMistake(place: min(Self.place(failed.problem_mark), end), text: text)
    }

    /// The place of the byte at `offset`, or of the end. YAML's line ends are LF, CR, CR LF, U+0085 (C2 85),
    /// U+2028 and U+2029 (E2 80 A8 and A9).
    private func place(ofByte offset: Int) -> Place {
        var place = Place(line: 1, column: 1)
        for index in 0..<offset {
            let byte = input[index]
            let before = index > 0 ? input[index - 1] : 0
            let endsLine =
                switch byte {
                case 0x0A: true
                case 0x0D: index + 1 == input.count || input[index + 1] != 0x0A
                case 0x85: before == 0xC2
                case 0xA8, 0xA9: before == 0x80 && index > 1 && input[index - 2] == 0xE2
                default: false
                }
            if endsLine {
                place = Place(line: place.line + 1, column: 1)
            } else if byte & 0xC0 != 0x80 {
                place.column += 1
            }
        }
        return place
    }
}

/// The bytes are not YAML, from here on.
struct YAMLSyntaxMistake: Error {
    var place: Place
    var text: String
}
