// The stub domain's kernel without a machine: its sources run in the test's process, and the test is Xen
// (Tests/HostedMachine). One test at a time, since there is one machine.

import Testing

@Suite(.serialized) struct KernelTests {}
