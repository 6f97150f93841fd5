// swift-tools-version: 6.2
import PackageDescription

let sdk: Target.Dependency = .product(name: "XenStorePlugin", package: "xenstored")

let package = Package(
    name: "smallest",
    products: [
        .library(name: "xenstore-smallest-store", type: .dynamic, targets: ["SmallestStoreModule"]),
        .library(name: "xenstore-smallest-policy", type: .dynamic, targets: ["SmallestPolicyModule"]),
    ],
    dependencies: [.package(name: "xenstored", path: "../../..")],
    targets: [
        .target(name: "SmallestStore", dependencies: [sdk]),
        .target(name: "SmallestStoreModule", dependencies: ["SmallestStore", sdk]),
        .target(name: "SmallestPolicy", dependencies: [sdk]),
        .target(name: "SmallestPolicyModule", dependencies: ["SmallestPolicy", sdk]),
    ]
)
