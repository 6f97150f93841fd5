// How labels, members, paths and classes are written in a file.

import TypeLabels
import XenStoreTypes
import XenStoreYAML

extension Expected where Value == String {
    /// A label's name.
    static var label: Expected {
        Expected("a label: 1 to 60 letters, digits and _, the first a letter, and not any", plain: true) {
            text in
            let isName = text.utf8.allSatisfy { byte in
                switch byte {
                case 0x41...0x5A, 0x61...0x7A, 0x30...0x39, 0x5F: true
                default: false
                }
            }
            let isLetter = text.utf8.first.map { $0 >= 0x41 && $0 != 0x5F } ?? false
            return isName && isLetter && text.utf8.count <= 60 && text != "any" ? text : nil
        }
    }
}

extension Expected where Value == [Member] {
    /// One member, or a list of them.
    static var members: Expected {
        Expected { node, reading in
            let items: [YAMLNode] = if case .list(let items) = node.content { items } else { [node] }
            var members: [Member] = []
            for item in items {
                if case .scalar(let text, true) = item.content, let member = member(text) {
                    members.append(member)
                } else {
                    reading.mistakes.add(
                        item.place, found: item.found,
                        expected: "any, guest, dom0, user, a domain id, or a range of them (5-9)")
                }
            }
            return members
        }
    }
}

private func member(_ text: String) -> Member? {
    switch text {
    case "any": return .any
    case "guest": return .guest
    case "dom0": return .dom0
    case "user": return .user
    default: break
    }
    let domains: ClosedRange<UInt16> = 0...(DomainID.firstReserved - 1)
    let ends = text.split(separator: "-", omittingEmptySubsequences: false).map {
        wholeNumber(String($0), in: domains)
    }
    guard ends.count <= 2, let first = ends[0], let last = ends[ends.count - 1], first <= last else {
        return nil
    }
    return .domains(first, last)
}

extension Expected where Value == [[UInt8]] {
    /// The names of a path, an empty one for `*`.
    static var pathNames: Expected {
        let what =
            "an absolute path of names and * for any name, such as /local/domain/*/data, or @releaseDomain "
            + "and its like"
        return Expected(what, plain: false) { text in
            if text == "/" { return [] }
            let isSpecial = text.utf8.first == 0x40
            var names = text.utf8.split(separator: 0x2F, omittingEmptySubsequences: false).map { Array($0) }
            if isSpecial ? names.count != 1 : names.count < 2 || !names[0].isEmpty { return nil }
            if !isSpecial { names.removeFirst() }
            guard text.utf8.count <= 3072, names.allSatisfy({ $0 == [0x2A] || isName($0) }) else {
                return nil
            }
            // A first name that begins with an @ says that it is not below /.
            if !isSpecial && names[0].first == 0x40 { return nil }
            return names.map { $0 == [0x2A] ? [] : $0 }
        }
    }
}

private func isName(_ name: [UInt8]) -> Bool {
    !name.isEmpty
        && name.allSatisfy { byte in
            switch byte {
            case 0x41...0x5A, 0x61...0x7A, 0x30...0x39, 0x2D, 0x5F, 0x40: true
            default: false
            }
        }
}

extension Expected where Value == [LabelClass] {
    /// One class, a list of them, or `all`.
    static var classes: Expected {
        let names = LabelClass.allCases.map { $0.name.description }
        return Expected { node, reading in
            if node.content == .scalar("all", plain: true) { return LabelClass.allCases }
            let items: [YAMLNode] = if case .list(let items) = node.content { items } else { [node] }
            var classes: [LabelClass] = []
            for item in items {
                if case .scalar(let text, _) = item.content,
                    let one = LabelClass.allCases.first(where: { $0.name.description == text })
                {
                    classes.append(one)
                } else {
                    reading.mistakes.add(
                        item.place, found: item.found,
                        expected: "all, or of these one or a list: \(names.joined(separator: ", "))")
                }
            }
            return classes
        }
    }
}
