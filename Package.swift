// swift-tools-version: 6.2
import PackageDescription

/// What every target of ours is compiled with.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .unsafeFlags(["-warnings-as-errors"]),
]

/// The core and its values also build for bare metal (Embedded Swift); what cannot is an error already here.
/// Without unsafe flags, which packages that want the modules' SDK by its version would be refused for.
let embeddable: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .treatWarning("EmbeddedRestrictions", as: .error),
]

let package = Package(
    name: "xenstored",
    products: [
        .executable(name: "xenstored", targets: ["xenstored"]),
        .executable(name: "xenstore-bench", targets: ["xenstore-bench"]),
        .library(name: "XenStoreClient", targets: ["XenStoreClient", "XenStoreTypes"]),
        .executable(name: "simulated-domain", targets: ["simulated-domain"]),
        .library(name: "XenStorePlugin", targets: ["XenStorePlugin", "CXenStorePlugin"]),
        .executable(name: "xenstore-conformance", targets: ["xenstore-conformance"]),
        .library(name: "xenstore-faults", type: .dynamic, targets: ["CFaults"]),
        .library(name: "xenstore-memory", type: .dynamic, targets: ["MemoryStoreModule"]),
        .library(name: "xenstore-append-log", type: .dynamic, targets: ["AppendLogStoreModule"]),
        .library(name: "xenstore-tdb-file", type: .dynamic, targets: ["TDBFileStoreModule"]),
        .library(name: "xenstore-audit-trail", type: .dynamic, targets: ["AuditTrailModule"]),
        .library(name: "xenstore-rate-limit", type: .dynamic, targets: ["RateLimitModule"]),
        .library(name: "xenstore-type-labels", type: .dynamic, targets: ["TypeLabelsModule"]),
        .library(name: "xenstore-path-rules", type: .dynamic, targets: ["PathRulesModule"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
    ],
    targets: [
        .target(name: "XenStoreTypes", swiftSettings: embeddable),
        .target(name: "XenStore", dependencies: ["XenStoreTypes"], swiftSettings: embeddable),
        .target(name: "CRing"),
        .target(name: "XenStoreRing", dependencies: ["CRing"], swiftSettings: embeddable),
        .target(name: "CLinux"),
        .target(name: "CFaults"),
        .target(name: "XenStoreLog", dependencies: ["CLinux"], swiftSettings: strict),
        .target(name: "CXenStorePlugin"),
        .target(
            name: "XenStorePlugin", dependencies: ["XenStoreTypes", "CXenStorePlugin"],
            swiftSettings: embeddable),
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .target(
            name: "XenStoreYAML", dependencies: ["XenStoreTypes", "CYAML"], swiftSettings: strict),
        .target(name: "CXen"),  // Xen's headers: libxen-dev
        .target(
            name: "MemoryStore", dependencies: ["XenStorePlugin"],
            path: "Plugins/MemoryStore/Sources/MemoryStore", swiftSettings: embeddable),
        .target(
            name: "MemoryStoreModule", dependencies: ["MemoryStore", "CXenStorePlugin"],
            path: "Plugins/MemoryStore/Sources/MemoryStoreModule", swiftSettings: strict),
        .target(
            name: "AppendLogStore",
            dependencies: ["XenStorePlugin", "XenStoreTypes", "XenStoreLog", "CLinux"],
            path: "Plugins/AppendLogStore/Sources/AppendLogStore", swiftSettings: strict),
        .target(
            name: "AppendLogStoreModule", dependencies: ["AppendLogStore", "CXenStorePlugin"],
            path: "Plugins/AppendLogStore/Sources/AppendLogStoreModule", swiftSettings: strict),
        .systemLibrary(name: "CTDB", pkgConfig: "tdb", providers: [.apt(["libtdb-dev"])]),
        .target(
            name: "TDBFileStore",
            dependencies: ["XenStorePlugin", "XenStoreTypes", "XenStoreLog", "CTDB", "CLinux"],
            path: "Plugins/TDBFileStore/Sources/TDBFileStore", swiftSettings: strict),
        .target(
            name: "TDBFileStoreModule", dependencies: ["TDBFileStore", "CXenStorePlugin"],
            path: "Plugins/TDBFileStore/Sources/TDBFileStoreModule", swiftSettings: strict),
        .target(
            name: "AuditTrailLines", dependencies: ["XenStorePlugin", "XenStoreTypes"],
            path: "Plugins/AuditTrail/Sources/AuditTrailLines", swiftSettings: embeddable),
        .target(
            name: "AuditTrail", dependencies: ["AuditTrailLines", "XenStorePlugin", "CLinux"],
            path: "Plugins/AuditTrail/Sources/AuditTrail", swiftSettings: strict),
        .target(
            name: "AuditTrailModule", dependencies: ["AuditTrail", "CXenStorePlugin"],
            path: "Plugins/AuditTrail/Sources/AuditTrailModule", swiftSettings: strict),
        .target(
            name: "RateLimit", dependencies: ["XenStorePlugin"],
            path: "Plugins/RateLimit/Sources/RateLimit", swiftSettings: embeddable),
        .target(
            name: "RateLimitOptions", dependencies: ["RateLimit", "XenStorePlugin"],
            path: "Plugins/RateLimit/Sources/RateLimitOptions", swiftSettings: strict),
        .target(
            name: "RateLimitModule", dependencies: ["RateLimitOptions", "CXenStorePlugin"],
            path: "Plugins/RateLimit/Sources/RateLimitModule", swiftSettings: strict),
        .target(
            name: "PathRules", dependencies: ["XenStorePlugin", "XenStoreTypes"],
            path: "Plugins/PathRules/Sources/PathRules", swiftSettings: embeddable),
        .target(
            name: "PathRulesFile", dependencies: ["PathRules", "XenStorePlugin", "XenStoreYAML"],
            path: "Plugins/PathRules/Sources/PathRulesFile", swiftSettings: strict),
        .target(
            name: "PathRulesModule", dependencies: ["PathRulesFile", "CXenStorePlugin"],
            path: "Plugins/PathRules/Sources/PathRulesModule", swiftSettings: strict),
        .target(
            name: "TypeLabels", dependencies: ["XenStorePlugin", "XenStoreTypes"],
            path: "Plugins/TypeLabels/Sources/TypeLabels", swiftSettings: embeddable),
        .target(
            name: "TypeLabelsFile", dependencies: ["TypeLabels", "XenStorePlugin", "XenStoreYAML"],
            path: "Plugins/TypeLabels/Sources/TypeLabelsFile", swiftSettings: strict),
        .target(
            name: "TypeLabelsModule", dependencies: ["TypeLabelsFile", "CXenStorePlugin"],
            path: "Plugins/TypeLabels/Sources/TypeLabelsModule", swiftSettings: strict),
        .target(
            name: "XenStorePolicies", dependencies: ["XenStoreTypes", "XenStore", "CXenStorePlugin"],
            swiftSettings: embeddable),
        .target(
            name: "XenStoreHost",
            dependencies: [
                "XenStoreTypes", "XenStore", "XenStoreRing", "XenStoreLog", "CLinux", "CXen",
                "CXenStorePlugin", "XenStoreYAML", "XenStorePolicies",
            ],
            swiftSettings: strict),
        .target(
            name: "XenStoreClient", dependencies: ["XenStoreTypes", "XenStoreRing", "CLinux"],
            swiftSettings: strict),
        .executableTarget(
            name: "xenstored",
            dependencies: [
                "XenStoreHost", "AppendLogStore", "MemoryStore", "AuditTrail", "RateLimitOptions",
                "TypeLabelsFile", "PathRulesFile",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "simulated-domain",
            dependencies: [
                "XenStoreHost", "XenStoreTypes",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "xenstore-demo",
            dependencies: [
                "XenStoreClient", "XenStoreHost", "XenStoreTypes",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "xenstore-bench",
            dependencies: [
                "XenStoreTypes", "XenStoreRing", "CLinux",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .target(
            name: "XenStoreTestKit",
            dependencies: [
                "XenStoreTypes", "XenStore", "XenStoreRing", "XenStoreHost", "XenStorePolicies", "CLinux",
                "CXenStorePlugin",
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "xenstore-conformance",
            dependencies: [
                "XenStoreTestKit", "XenStoreHost", "AppendLogStore", "MemoryStore", "AuditTrail",
                "RateLimitOptions", "TypeLabelsFile", "PathRulesFile",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ConformanceTests",
            dependencies: [
                "xenstore-conformance", "XenStoreTestKit", "CFaults", "AppendLogStoreModule",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "XenStoreTests", dependencies: ["XenStore", "XenStoreTypes", "XenStoreTestKit", "CXen"],
            swiftSettings: strict),
        .testTarget(
            name: "HostTests",
            dependencies: [
                "XenStoreHost", "XenStore", "XenStoreRing", "XenStoreTypes", "XenStoreTestKit", "CXen",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "Transcripts", dependencies: ["XenStoreTestKit", "XenStore", "XenStoreHost"],
            exclude: ["files"], swiftSettings: strict),
        .testTarget(
            name: "StubdomTests",
            dependencies: [
                "XenStoreTestKit", "XenStore", "XenStoreTypes", "XenStoreHost", "XenStorePolicies",
                "CXenStorePlugin", "PathRulesFile", "TypeLabelsFile", "RateLimitOptions",
            ],
            exclude: ["policies"],
            swiftSettings: strict),
        // The kernel's sources in a process: what a C library has is left out, and the machine is the tests'.
        .target(name: "CMachine", path: "Tests/HostedMachine"),
        .target(
            name: "StubKernel",
            dependencies: [
                "XenStoreTypes", "XenStore", "XenStoreRing", "XenStorePolicies", "XenStorePlugin",
                "CXenStorePlugin", "PathRules", "TypeLabels", "RateLimit", "CMachine",
            ],
            path: "stubdom/Sources", exclude: ["RuntimeNames.swift"], swiftSettings: embeddable),
        .testTarget(
            name: "KernelTests",
            dependencies: [
                "StubKernel", "CMachine", "XenStore", "XenStoreTypes", "XenStoreRing", "XenStoreTestKit",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SimulationTests", dependencies: ["XenStoreTestKit", "XenStore"], swiftSettings: strict),
        .testTarget(
            name: "RingTests", dependencies: ["XenStoreRing", "CRing", "XenStoreTestKit"],
            swiftSettings: strict),
        .testTarget(
            name: "ClientTests",
            dependencies: ["XenStoreClient", "XenStoreHost", "XenStoreTestKit", "XenStoreTypes"],
            swiftSettings: strict),
        .testTarget(
            name: "BenchTests",
            dependencies: [
                "xenstore-bench", "XenStoreTypes", "XenStoreRing", "CLinux",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "module-cost",
            dependencies: ["XenStoreHost", "XenStore", "XenStorePlugin", "CXenStorePlugin"],
            path: "Tests/ModuleCost", swiftSettings: strict),
        .testTarget(
            name: "RecordLogTests", dependencies: ["XenStoreLog", "XenStoreTestKit", "CLinux"],
            swiftSettings: strict),
        .testTarget(
            name: "ABITests",
            dependencies: [
                "XenStoreHost", "XenStore", "XenStoreTypes", "CXenStorePlugin", "XenStoreTestKit",
            ],
            path: "Tests/ABI", exclude: ["fixtures"], swiftSettings: strict),
        .testTarget(
            name: "PluginTests",
            dependencies: [
                "XenStoreHost", "XenStore", "XenStoreTypes", "XenStorePlugin", "CXenStorePlugin",
                "MemoryStore", "AppendLogStore", "AuditTrail", "RateLimit", "RateLimitOptions", "TypeLabels",
                "TypeLabelsFile", "PathRules", "PathRulesFile", "XenStorePolicies", "XenStoreTestKit",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "PolicyModuleTests",
            dependencies: [
                "XenStoreHost", "XenStore", "XenStoreTypes", "XenStorePlugin", "CXenStorePlugin",
                "XenStoreClient", "XenStoreTestKit", "AuditTrail", "AuditTrailLines",
                "RateLimitOptions", "TypeLabelsFile",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "RestartTests",
            dependencies: [
                "XenStoreHost", "XenStoreRing", "XenStoreTypes", "XenStoreTestKit", "CLinux", "Stepper",
                "XenStore", "XenStoreLog",
            ],
            swiftSettings: strict),
        .target(name: "Stepper", path: "Tests/Stepper"),  // C, for RestartTests
        .testTarget(
            name: "AppendLogTests",
            dependencies: [
                "AppendLogStore", "XenStoreLog", "XenStorePlugin", "CXenStorePlugin", "XenStoreTypes",
                "XenStoreTestKit", "CLinux",
            ], swiftSettings: strict),
        .testTarget(
            name: "TDBFileTests",
            dependencies: [
                "TDBFileStore", "XenStorePlugin", "CXenStorePlugin", "XenStoreTypes", "XenStoreLog",
                "XenStoreTestKit", "CTDB", "CLinux",
            ],
            swiftSettings: strict),
        .testTarget(name: "TidyTests", dependencies: [], swiftSettings: strict),
    ]
)
