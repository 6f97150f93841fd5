// Labels as a kernel reads them. The layout is at the head of LabelForm.swift.

import TypeLabels
import XenStorePlugin

extension LabelRules {
    /// The compiled form's bytes.
    public var compiled: [UInt8] {
        var form = FormWriter()
        form.add(Self.formVersion)
        form.add(isPermissive)
        form.add(file)
        form.add(UInt32(labels.count))
        for label in labels { form.add(label) }
        form.add(UInt32(domains.count))
        for domain in domains { domain.write(to: &form) }
        form.add(UInt32(nodes.count))
        for node in nodes { node.write(to: &form) }
        form.add(UInt32(allowances.count))
        for allowance in allowances { allowance.write(to: &form) }
        return form.bytes
    }
}

extension FormWriter {
    fileprivate mutating func add(labels: [Label]?) {
        add(labels != nil)
        guard let labels else { return }
        add(UInt32(labels.count))
        for label in labels { add(label) }
    }
}

extension DomainLabel {
    fileprivate func write(to form: inout FormWriter) {
        form.add(label)
        form.add(UInt32(line))
        form.add(UInt32(members.count))
        for member in members {
            let (kind, first, last) = member.written
            form.add(kind)
            form.add(first)
            form.add(last)
        }
    }
}

extension Member {
    fileprivate var written: (kind: UInt8, first: UInt16, last: UInt16) {
        switch self {
        case .any: (0, 0, 0)
        case .dom0: (1, 0, 0)
        case .guest: (2, 0, 0)
        case .user: (3, 0, 0)
        case .domains(let first, let last): (4, first, last)
        }
    }
}

extension NodeLabel {
    fileprivate func write(to form: inout FormWriter) {
        form.add(label)
        form.add(UInt32(line))
        form.add(UInt32(names.count))
        for name in names { form.add(PlainText(bytes: name)) }
        form.add(labels: owners)
    }
}

extension Allowance {
    fileprivate func write(to form: inout FormWriter) {
        form.add(UInt32(line))
        form.add(classes.reduce(UInt8(0)) { $0 | 1 << $1.rawValue })
        form.add(labels: subjects)
        form.add(labels: objects)
    }
}
