// Do the READMEs under Plugins/ list the options that their modules have, with their defaults?

import AppendLogStore
import AuditTrail
import Foundation
import MemoryStore
import PathRulesFile
import RateLimitOptions
import Testing
import TypeLabelsFile
import XenStoreHost
import XenStoreTestKit

@Suite struct ReadmeTests {
    /// Every module of this repository, and its folder.
    static let modules = [
        ("MemoryStore", BuiltInModule(memoryStore.pointer)),
        ("AppendLogStore", BuiltInModule(appendLogStore.pointer)),
        ("PathRules", BuiltInModule(pathRules.pointer)),
        ("AuditTrail", BuiltInModule(auditTrail.pointer)),
        ("RateLimit", BuiltInModule(rateLimit.pointer)),
        ("TypeLabels", BuiltInModule(typeLabels.pointer)),
    ]

    @Test(arguments: modules) func theOptionsAreThoseOfTheReadme(folder: String, module: BuiltInModule) throws
    {
        let path = ModuleScratch.top + "/Plugins/\(folder)/README.md"
        let readme = try String(contentsOfFile: path, encoding: .utf8)
        var search = ModuleSearch()
        search.builtIn = [module]
        let name = String(cString: module.plugin.pointee.name)
        let described = try search.find(Placed(name))
        #expect(readme.hasPrefix("# \(name)\n"))
        // A row an option: | `name` | default | meaning |
        let section = readme.firstMatch(of: /\n## Options\n((?s).*?)(\n## |$)/).map { String($0.1) }
        let rows = try #require(section).matches(of: /\n\| `([^`]+)` \| `?([^|`]*)`? \|/)
        let listed = rows.map { "\($0.1) \($0.2)" }
        #expect(listed == described.options.map { "\($0.name) \($0.fallback ?? "must be given")" })
    }
}
