// Does the benchmark take what its help says, and refuse the rest.

import ArgumentParser
import Testing

@testable import xenstore_bench

@Test func targetsAreRunningOrCommands() {
    #expect(
        TargetArgument(argument: "a=12:/run/x/socket")?.source
            == .running(pid: 12, socket: "/run/x/socket", simulated: nil))
    #expect(
        TargetArgument(argument: "a=12:/run/x/socket:/run/x/sim")?.source
            == .running(pid: 12, socket: "/run/x/socket", simulated: "/run/x/sim"))
    #expect(
        TargetArgument(argument: "a=12:/run/x:y")?.source
            == .running(pid: 12, socket: "/run/x:y", simulated: nil))
    #expect(TargetArgument(argument: "a=12:/run/x/socket")?.name == "a")
    #expect(TargetArgument(argument: "b=xenstored -N")?.source == .command("xenstored -N"))
    #expect(TargetArgument(argument: "b=env A=1 x")?.source == .command("env A=1 x"))
    #expect(TargetArgument(argument: "b=0:/socket")?.source == .command("0:/socket"))
    #expect(TargetArgument(argument: "b=12:socket")?.source == .command("12:socket"))
    for wrong in ["", "a", "a=", "=x"] { #expect(TargetArgument(argument: wrong) == nil) }
}

@Test func optionsAreParsed() throws {
    let bench = try Bench.parse([
        "--target", "a=1:/a", "--target", "b=true", "--cpu", "1", "--client-cpu", "0", "--rounds", "2",
        "--scenario", "read", "--scenario", "hammer", "--scale", "small", "--markdown", "--check",
    ])
    #expect(bench.targets.map(\.name) == ["a", "b"])
    #expect(bench.cpu == 1)
    #expect(bench.clientCPU == 0)
    #expect(bench.rounds == 2)
    #expect(bench.scenarios == ["read", "hammer"])
    #expect(bench.scale == .small)
    #expect(bench.markdown && bench.check)
}

@Test(arguments: [
    ["--target", "a=1:/a", "--target", "a=2:/b"], ["--target", "a"],
    ["--target", "a=1:/a", "--rounds", "0"], ["--target", "a=1:/a", "--client-cpu", "1"],
    ["--target", "a=1:/a", "--scenario", "nothing"], ["--target", "a=1:/a", "--scale", "huge"],
])
func mistakesAreRefused(_ arguments: [String]) {
    #expect(throws: (any Error).self) { try Bench.parse(arguments) }
}

@Test func theDaemonOfTheSameBuildIsTheDefault() throws {
    #expect(try Bench.parse([]).targets.isEmpty)
    let target = TargetArgument.besideThisProgram()
    guard case .command(let command) = target.source else {
        Issue.record("not a command: \(target)")
        return
    }
    #expect(command.hasPrefix("'/") && command.hasSuffix("/xenstored' -N --hypervisor simulated"))
}

@Test func scenariosHaveNamesOfTheirOwn() {
    #expect(Set(Scenario.all.map(\.name)).count == Scenario.all.count)
}
