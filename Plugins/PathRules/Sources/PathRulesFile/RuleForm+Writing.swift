// Rules as a kernel reads them. The layout is at the head of RuleForm.swift.

import PathRules
import XenStorePlugin

extension RuleForm {
    /// The form's bytes.
    public var bytes: [UInt8] {
        var form = FormWriter()
        form.add(Self.version)
        form.add(whyPermissive)
        form.add(UInt32(rules.count))
        for rule in rules { rule.write(to: &form) }
        return form.bytes
    }
}

extension Rule {
    fileprivate func write(to form: inout FormWriter) {
        switch effect {
        case .abstain: form.add(UInt16(0))
        case .grant: form.add(UInt16(1))
        case .deny(let error):
            form.add(UInt8(2))
            form.add(UInt8(error.rawValue))
        }
        form.add(isPermissive)
        form.add(patterns != nil)
        form.add(operations.rawValue)
        form.add(title)
        form.add(UInt32(subjects.count))
        for subject in subjects {
            let (kind, value) = subject.written
            form.add(kind)
            form.add(value)
        }
        guard let patterns else { return }
        form.add(UInt32(patterns.count))
        for pattern in patterns {
            form.add(pattern.root.rawValue)
            form.add(UInt32(pattern.parts.count))
            for part in pattern.parts { part.write(to: &form) }
        }
    }
}

extension RuleSubject {
    fileprivate var written: (kind: UInt8, value: UInt32) {
        switch self {
        case .anybody: (0, 0)
        case .guest: (1, 0)
        case .control: (2, 0)
        case .user: (3, 0)
        case .owner: (4, 0)
        case .domains(let first, let last): (5, UInt32(first) | UInt32(last) << 16)
        case .uid(let uid): (6, uid)
        case .gid(let gid): (7, gid)
        }
    }
}

extension PatternPart {
    fileprivate func write(to form: inout FormWriter) {
        switch self {
        case .name(let name):
            form.add(UInt8(0))
            form.add(PlainText(bytes: name))
        case .any: form.add(UInt8(1))
        case .own: form.add(UInt8(2))
        case .rest: form.add(UInt8(3))
        }
    }
}
