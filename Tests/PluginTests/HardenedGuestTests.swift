// Does what a Linux guest does with XenStore from its boot to its end go well under the shipped rules, and
// nothing beyond it?

import PathRulesFile
import Testing
import XenStore
import XenStoreTestKit

@testable import XenStoreHost

@Suite struct HardenedGuestTests {
    /// A guest of libxl's: its home is its owner's to read, and what it may write is its own, as libxl
    /// makes it. Domain 8 is another.
    static let toolstack = """
        needs: guests
        dom0 write /local/domain/7/name "guest" -> OK
        dom0 set_perms /local/domain/7 n0 r7 -> OK
        dom0 write /local/domain/7/domid "7" -> OK
        dom0 set_perms /local/domain/7/domid n0 r7 -> OK
        dom0 write /local/domain/7/vm "/vm/8a7c1e9c" -> OK
        dom0 set_perms /local/domain/7/vm n0 r7 -> OK
        dom0 write /local/domain/7/memory/target "262144" -> OK
        dom0 set_perms /local/domain/7/memory n0 r7 -> OK
        dom0 set_perms /local/domain/7/memory/target n0 r7 -> OK
        dom0 write /vm/8a7c1e9c/uuid "8a7c1e9c" -> OK
        dom0 set_perms /vm/8a7c1e9c/uuid n0 r7 -> OK
        dom0 mkdir /local/domain/7/control -> OK
        dom0 set_perms /local/domain/7/control n0 r7 -> OK
        dom0 write /local/domain/7/control/shutdown "" -> OK
        dom0 set_perms /local/domain/7/control/shutdown n7 -> OK
        dom0 write /local/domain/7/control/feature-poweroff "" -> OK
        dom0 set_perms /local/domain/7/control/feature-poweroff n7 -> OK
        dom0 write /local/domain/7/control/sysrq "" -> OK
        dom0 set_perms /local/domain/7/control/sysrq n7 -> OK
        dom0 write /local/domain/7/control/platform-feature-xs_reset_watches "1" -> OK
        dom0 set_perms /local/domain/7/control/platform-feature-xs_reset_watches n0 r7 -> OK
        dom0 mkdir /local/domain/7/data -> OK
        dom0 set_perms /local/domain/7/data n7 -> OK
        dom0 mkdir /local/domain/7/error -> OK
        dom0 set_perms /local/domain/7/error n7 -> OK
        dom0 mkdir /local/domain/7/device -> OK
        dom0 set_perms /local/domain/7/device n0 r7 -> OK
        dom0 mkdir /local/domain/7/device/vif -> OK
        dom0 set_perms /local/domain/7/device/vif n0 r7 -> OK
        dom0 mkdir /local/domain/7/device/vif/0 -> OK
        dom0 set_perms /local/domain/7/device/vif/0 n7 r0 -> OK
        dom0 write /local/domain/7/device/vif/0/backend "/local/domain/0/backend/vif/7/0" -> OK
        dom0 write /local/domain/7/device/vif/0/backend-id "0" -> OK
        dom0 write /local/domain/7/device/vif/0/state "1" -> OK
        dom0 write /local/domain/7/device/vif/0/mac "00:16:3e:00:00:01" -> OK
        dom0 mkdir /local/domain/0/backend/vif/7/0 -> OK
        dom0 set_perms /local/domain/0/backend/vif/7/0 n0 r7 -> OK
        dom0 write /local/domain/0/backend/vif/7/0/state "2" -> OK
        dom0 write /local/domain/0/backend/vif/7/0/feature-sg "1" -> OK
        dom0 write /local/domain/8/data "b8" -> OK
        dom0 set_perms /local/domain/8/data b8 -> OK

        """

    /// What Linux's xenbus, netfront, balloon driver and manage.c ask for.
    static let linux = """
        # xenbus_init: is RESET_WATCHES there? Then the watches of an earlier kernel go.
        dom7 read control/platform-feature-xs_reset_watches -> "1"
        dom7 reset_watches "" -> OK
        # /sys/hypervisor/uuid
        dom7 read vm -> "/vm/8a7c1e9c"
        dom7 read /vm/8a7c1e9c/uuid -> "8a7c1e9c"
        dom7 read domid -> "7"
        # The balloon.
        dom7 watch memory/target m -> OK
        dom7 event memory/target m
        dom7 read memory/target -> "262144"
        # manage.c: shutdown and sysrq.
        dom7 watch control/shutdown s -> OK
        dom7 event control/shutdown s
        dom7 write control/feature-poweroff "1" -> OK
        dom7 watch control/sysrq q -> OK
        dom7 event control/sysrq q
        # The frontends: found by listing.
        dom7 directory device -> "vif"
        dom7 directory device/vif -> "0"
        dom7 watch device d -> OK
        dom7 event device d
        dom7 read device/vif/0/state -> "1"
        dom7 event
        dom7 read device/vif/0/backend -> "/local/domain/0/backend/vif/7/0"
        dom7 read device/vif/0/backend-id -> "0"
        dom7 watch /local/domain/0/backend/vif/7/0/state b -> OK
        dom7 event /local/domain/0/backend/vif/7/0/state b
        dom7 read /local/domain/0/backend/vif/7/0/state -> "2"
        dom7 read /local/domain/0/backend/vif/7/0/feature-sg -> "1"
        # netfront's talk_to_netback.
        dom7 read device/vif/0/mac -> "00:16:3e:00:00:01"
        dom7 transaction_start "" -> [t]
        dom7[t] write device/vif/0/tx-ring-ref "8" -> OK
        dom7[t] write device/vif/0/rx-ring-ref "9" -> OK
        dom7[t] write device/vif/0/queue-0/event-channel "5" -> OK
        dom7[t] write device/vif/0/request-rx-copy "1" -> OK
        dom7[t] transaction_end T -> OK
        dom7 events device/vif/0/tx-ring-ref d ; device/vif/0/rx-ring-ref d
        dom7 events device/vif/0/queue-0/event-channel d ; device/vif/0/request-rx-copy d
        dom7 write device/vif/0/state "3" -> OK
        dom7 event device/vif/0/state d
        dom7 write error/device/vif/0/error "19 something failed" -> OK
        dom7 write data/agent/version "1" -> OK
        dom7 rm data/agent -> OK
        # Told to power off, it says that it has heard.
        dom0 write /local/domain/7/control/shutdown "poweroff" -> OK
        dom7 event control/shutdown s
        dom7 transaction_start "" -> [u]
        dom7[u] read control/shutdown -> "poweroff"
        dom7[u] write control/shutdown "" -> OK
        dom7[u] transaction_end T -> OK
        dom7 event control/shutdown s
        dom7 unwatch control/sysrq q -> OK
        dom7 get_domain_path 7 -> "/local/domain/7"

        """

    /// What no guest is for, also where node permissions would let it.
    static let beyond = """
        dom7 write /local/domain/8/data "mine" -> EACCES
        dom7 read /local/domain/8/data -> EACCES
        dom7 write name "other" -> EACCES
        dom7 write new "x" -> EACCES
        dom7 mkdir data-not -> EACCES
        dom7 rm /local/domain/7 -> EACCES
        dom7 directory /local/domain -> EACCES
        dom7 directory / -> EACCES
        dom7 watch / w -> EACCES
        dom7 watch @introduceDomain i -> EACCES
        dom7 write /local/domain/0/backend/vif/7/0/state "6" -> EACCES
        dom7 read /local/domain/0/backend/vif/77/0/state -> EACCES
        dom7 set_perms /local/domain/7 n7 -> EACCES
        dom7 is_domain_introduced 8 -> EACCES
        dom7 introduce 9 1 2 -> EACCES

        """

    private func play(_ text: String, open: Bool) throws -> [String] {
        let transcript = try Transcript(name: "linux", text: text)
        let peer = ServerPeer(for: transcript)
        var options = HostOptions()
        let file = ModuleScratch.top + "/config/policies/hardened-guests.yaml"
        options.policies = [
            PolicyChoice(Placed("path-rules"), options: [ModuleOption(Placed("file"), Placed(file))])
        ]
        options.policySearch.builtIn = [BuiltInModule(pathRules.pointer)]
        let scratch = ModuleScratch()
        let log = try scratch.log()
        defer { log.close() }
        let policies = try OpenPolicies(options, log)
        defer { policies.close() }
        if !open { peer.server.setPolicies(policies.all) }
        let player = TranscriptPlayer(transcript, peer)
        player.play()
        #expect(peer.server.checkInvariants() == 0)
        peer.server.setPolicies([])
        return player.failures
    }

    @Test(arguments: [false, true]) func aLinuxGuestWorks(withoutRules: Bool) throws {
        let failures = try play(Self.toolstack + Self.linux, open: withoutRules)
        #expect(failures == [])
    }

    @Test func aGuestStaysInItsPlace() throws {
        // Wide open, so that it is the rules that refuse.
        let wide =
            "dom0 set_perms / b0 -> OK\n"
            + ["8/data", "7", "7/name"].map {
                "dom0 set_perms /local/domain/\($0) b0 -> OK\n"
            }.joined()
        #expect(try play(Self.toolstack + wide + Self.beyond, open: false) == [])
        #expect(try play(Self.toolstack + wide + Self.beyond, open: true).count > 5)
    }
}
