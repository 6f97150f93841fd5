// Does the table of requests say what is sent, and is a machine's creation of the size that it claims.

import Testing

@testable import xenstore_bench

private let machine = VirtualMachine(domain: 26)

@Test func placeholdersAreTheMachines() {
    #expect(machine.uuid == "3c9f2a61-7b0e-4d58-9a14-00000000001a")
    #expect(machine.expand("$D/x") == "/local/domain/26/x")
    #expect(machine.expand("$B/vbd/$N/51712") == "/local/domain/0/backend/vbd/26/51712")
    #expect(machine.expand("$V $L") == "/vm/\(machine.uuid) /libxl/26")
    #expect(machine.expand("a$x$") == "a$x$")
}

@Test func linesBecomeRequests() throws {
    let rows = try TableRow.parse(
        """
        # nothing
        tool   begin

        tool   mkdir  $D  n0 r$N   # and its permissions
        guest  write  state  4
        kernel write  $D/tty  -
        tool   watch  $B/x  token
        tool   introduce  $N 1 3
        tool   commit
        """)
    #expect(
        rows.map(\.type) == [
            .transactionStart, .makeDirectory, .setPermissions, .write, .write, .watch, .introduce,
            .transactionEnd,
        ])
    #expect(rows.map(\.speaker) == [.tool, .tool, .tool, .guest, .kernel, .tool, .tool, .tool])
    #expect(
        rows.map { $0.payload(for: machine) } == [
            "\0", "/local/domain/26\0", "/local/domain/26\0n0\0r26\0", "state\04", "/local/domain/26/tty\0",
            "/local/domain/0/backend/x\0token\0", "26\01\03\0", "T\0",
        ])
}

@Test(arguments: [
    "nobody read /a", "tool", "tool jump /a", "tool write /a", "tool begin now", "tool introduce 1 2",
    "tool watch /a",
])
func otherLinesAreRefused(_ line: String) {
    #expect(throws: Failure.self) { try TableRow.parse(line) }
}

@Test func nodesAreCountedOnce() throws {
    let rows = try TableRow.parse(
        """
        tool write $D/a/b 1
        tool write $D/a/b 2
        tool mkdir $D/a/gone/too
        tool mkdir $D/a/gonebut
        tool rm    $D/a/gone
        """)
    #expect(
        TableRow.nodes(rows, for: [machine]) == [
            "/local", "/local/domain", "/local/domain/26", "/local/domain/26/a", "/local/domain/26/a/b",
            "/local/domain/26/a/gonebut",
        ])
}

@Test func aMachineIsOfTheSizeThatToolstacksMake() throws {
    let rows = try TableRow.parse(virtualMachineCreation)
    let one = TableRow.nodes(rows, for: [VirtualMachine(domain: 1)])
    let two = TableRow.nodes(rows, for: [VirtualMachine(domain: 1), VirtualMachine(domain: 2)])
    #expect(rows.count == 280)
    #expect(two.count - one.count == 118)
    // What is removed at the end is all that it made.
    let tops = VirtualMachine(domain: 2).tops
    #expect(two.subtracting(one).allSatisfy { node in tops.contains { (node + "/").hasPrefix($0 + "/") } })
}

@Test func everyTransactionOfAMachineEnds() throws {
    var open: Set<Speaker> = []
    for row in try TableRow.parse(virtualMachineCreation) {
        if row.type == .transactionStart { #expect(open.insert(row.speaker).inserted) }
        if row.type == .transactionEnd { #expect(open.remove(row.speaker) != nil) }
    }
    #expect(open.isEmpty)
}
