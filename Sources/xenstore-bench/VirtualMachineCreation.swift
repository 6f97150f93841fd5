// What the creation of one virtual machine asks of a daemon: a PVH guest with a disk, a network interface and
// a console, much in the order and with the nodes that libxl and Linux have. RequestTable.swift says how to
// read it.

let virtualMachineCreation = """
    # The domain and its three trees, in one transaction.
    tool     begin
    tool     rm         $D
    tool     mkdir      $D                                          n0 r$N
    tool     rm         $V
    tool     mkdir      $V                                          n0 r$N
    tool     rm         $L
    tool     mkdir      $L                                          n0
    tool     write      $D/vm                                       $V
    tool     write      $D/name                                     vm-$N
    tool     mkdir      $D/cpu                                      n0 r$N
    tool     mkdir      $D/memory                                   n0 r$N
    tool     mkdir      $D/device                                   n0 r$N
    tool     mkdir      $D/control                                  n0 r$N
    tool     mkdir      $D/control/shutdown                         n$N
    tool     mkdir      $D/control/feature-poweroff                 n$N
    tool     mkdir      $D/control/feature-reboot                   n$N
    tool     mkdir      $D/control/feature-suspend                  n$N
    tool     mkdir      $D/control/sysrq                            n$N
    tool     mkdir      $D/device/suspend/event-channel             n$N
    tool     mkdir      $D/data                                     n$N
    tool     mkdir      $D/drivers                                  n$N
    tool     mkdir      $D/feature                                  n$N
    tool     mkdir      $D/attr                                     n$N
    tool     mkdir      $D/error                                    n$N
    tool     write      $D/domid                                    $N         n0 r$N
    tool     write      $D/control/platform-feature-multiprocessor-suspend  1  n0 r$N
    tool     write      $D/control/platform-feature-xs_reset_watches        1  n0 r$N
    tool     write      $V/uuid                                     $U
    tool     write      $V/name                                     vm-$N
    tool     write      $L/type                                     pvh
    tool     commit

    # The toolstack's process that stays until the domain ends.
    monitor  watch      @releaseDomain                              release
    monitor  watch      $D/control/shutdown                         shutdown
    monitor  watch      $D/memory/target                            target
    monitor  watch      $L/device                                   device
    monitor  watch      $D/data                                     eject
    monitor  read       $D/control/shutdown
    monitor  read       $D/data
    monitor  read       $D/name
    monitor  read       $V/uuid
    monitor  list       $L

    # Memory, CPUs, the ring; then the domain is introduced.
    tool     read       $D/vm
    tool     introduced $N
    tool     begin
    tool     write      $D/memory/static-max                        1048576    n0 r$N
    tool     write      $D/memory/target                            1048577    n0 r$N
    tool     write      $D/store/port                               1          n0 r$N
    tool     write      $D/store/ring-ref                           1044476    n0 r$N
    tool     write      $D/cpu/0/availability                       online     n0 r$N
    tool     write      $V/image/ostype                             linux
    tool     write      $V/start_time                               1767225600.00
    tool     commit
    tool     introduce  $N 1 3
    tool     path       $N
    tool     introduced $N

    # A console.
    tool     begin
    tool     rm         $D/console
    tool     mkdir      $L/device/console/0                         n0
    tool     write      $L/device/console/0/frontend                $D/console
    tool     write      $L/device/console/0/backend                 $B/console/$N/0
    tool     mkdir      $D/console                                  n0 r$N
    tool     write      $D/console/backend                          $B/console/$N/0
    tool     write      $D/console/backend-id                       0
    tool     write      $D/console/limit                            1048576    n0 r$N
    tool     write      $D/console/type                             xenconsoled n0 r$N
    tool     write      $D/console/output                           pty        n0 r$N
    tool     write      $D/console/tty                              -          n0 r$N
    tool     write      $D/console/port                             2          n0 r$N
    tool     write      $D/console/ring-ref                         1044477    n0 r$N
    tool     mkdir      $B/console/$N/0                             n0 r$N
    tool     write      $B/console/$N/0/frontend                    $D/console
    tool     write      $B/console/$N/0/frontend-id                 $N
    tool     write      $B/console/$N/0/online                      1
    tool     write      $B/console/$N/0/state                       1
    tool     commit
    kernel   read       $D/console/ring-ref
    kernel   read       $D/console/port
    kernel   write      $D/console/tty                              /dev/pts/$N
    tool     read       $D/console/tty
    tool     getperms   $D/console/tty

    # A disk: added in a transaction, which also looks whether it is there already.
    tool     begin
    tool     read       $D/vm
    tool     list       $L/device
    tool     list       $D/device
    tool     mkdir      $L/device/vbd/51712                         n0
    tool     write      $L/device/vbd/51712/frontend                $D/device/vbd/51712
    tool     write      $L/device/vbd/51712/backend                 $B/vbd/$N/51712
    tool     mkdir      $D/device/vbd/51712                         n$N r0
    tool     write      $D/device/vbd/51712/backend                 $B/vbd/$N/51712
    tool     write      $D/device/vbd/51712/backend-id              0
    tool     write      $D/device/vbd/51712/state                   1
    tool     write      $D/device/vbd/51712/virtual-device          51712
    tool     write      $D/device/vbd/51712/device-type             disk
    tool     mkdir      $B/vbd/$N/51712                             n0 r$N
    tool     write      $B/vbd/$N/51712/frontend                    $D/device/vbd/51712
    tool     write      $B/vbd/$N/51712/frontend-id                 $N
    tool     write      $B/vbd/$N/51712/params                      /dev/vg/vm-$N
    tool     write      $B/vbd/$N/51712/script                      /etc/xen/scripts/block
    tool     write      $B/vbd/$N/51712/online                      1
    tool     write      $B/vbd/$N/51712/bootable                    1
    tool     write      $B/vbd/$N/51712/state                       1
    tool     write      $B/vbd/$N/51712/dev                         xvda
    tool     write      $B/vbd/$N/51712/type                        phy
    tool     write      $B/vbd/$N/51712/mode                        w
    tool     write      $B/vbd/$N/51712/device-type                 disk
    tool     commit
    tool     watch      $B/vbd/$N/51712/state                       3/0
    tool     read       $B/vbd/$N/51712/state
    kernel   read       $B/vbd/$N/51712/frontend-id
    kernel   read       $B/vbd/$N/51712/frontend
    kernel   watch      $D/device/vbd/51712/state                   frontend
    kernel   read       $D/device/vbd/51712/state
    kernel   write      $B/vbd/$N/51712/feature-flush-cache         1
    kernel   write      $B/vbd/$N/51712/state                       2
    tool     read       $B/vbd/$N/51712/state
    tool     unwatch    $B/vbd/$N/51712/state                       3/0
    tool     watch      $B/vbd/$N/51712/hotplug-status              3/1
    tool     read       $B/vbd/$N/51712/type
    tool     read       $B/vbd/$N/51712/dev
    tool     read       $B/vbd/$N/51712/script
    tool     read       $B/vbd/$N/51712/params
    tool     read       $B/vbd/$N/51712/mode
    tool     write      $B/vbd/$N/51712/physical-device             fe:$N
    tool     write      $B/vbd/$N/51712/hotplug-status              connected
    tool     unwatch    $B/vbd/$N/51712/hotplug-status              3/1
    kernel   read       $B/vbd/$N/51712/hotplug-status
    kernel   read       $B/vbd/$N/51712/physical-device
    kernel   read       $B/vbd/$N/51712/mode
    kernel   read       $B/vbd/$N/51712/device-type
    tool     read       $L/device/vbd/51712/backend
    tool     read       $B/vbd/$N/51712/hotplug-status

    # A network interface.
    tool     begin
    tool     read       $D/vm
    tool     list       $L/device
    tool     list       $D/device
    tool     mkdir      $L/device/vif/0                             n0
    tool     write      $L/device/vif/0/frontend                    $D/device/vif/0
    tool     write      $L/device/vif/0/backend                     $B/vif/$N/0
    tool     mkdir      $D/device/vif/0                             n$N r0
    tool     write      $D/device/vif/0/backend                     $B/vif/$N/0
    tool     write      $D/device/vif/0/backend-id                  0
    tool     write      $D/device/vif/0/state                       1
    tool     write      $D/device/vif/0/handle                      0
    tool     write      $D/device/vif/0/mac                         00:16:3e:00:00:01
    tool     mkdir      $B/vif/$N/0                                 n0 r$N
    tool     write      $B/vif/$N/0/frontend                        $D/device/vif/0
    tool     write      $B/vif/$N/0/frontend-id                     $N
    tool     write      $B/vif/$N/0/online                          1
    tool     write      $B/vif/$N/0/state                           1
    tool     write      $B/vif/$N/0/script                          /etc/xen/scripts/vif-bridge
    tool     write      $B/vif/$N/0/mac                             00:16:3e:00:00:01
    tool     write      $B/vif/$N/0/bridge                          xenbr0
    tool     write      $B/vif/$N/0/handle                          0
    tool     commit
    tool     watch      $B/vif/$N/0/state                           4/0
    tool     read       $B/vif/$N/0/state
    kernel   read       $B/vif/$N/0/frontend-id
    kernel   read       $B/vif/$N/0/frontend
    kernel   watch      $D/device/vif/0/state                       frontend
    kernel   read       $D/device/vif/0/state
    kernel   write      $B/vif/$N/0/feature-sg                      1
    kernel   write      $B/vif/$N/0/feature-rx-copy                 1
    kernel   write      $B/vif/$N/0/state                           2
    tool     read       $B/vif/$N/0/state
    tool     unwatch    $B/vif/$N/0/state                           4/0
    tool     watch      $B/vif/$N/0/hotplug-status                  4/1
    tool     read       $B/vif/$N/0/script
    tool     read       $B/vif/$N/0/handle
    tool     read       $D/name
    tool     read       $B/vif/$N/0/bridge
    tool     read       $B/vif/$N/0/mac
    tool     write      $B/vif/$N/0/hotplug-status                  connected
    tool     unwatch    $B/vif/$N/0/hotplug-status                  4/1
    kernel   read       $B/vif/$N/0/hotplug-status
    kernel   read       $B/vif/$N/0/handle
    tool     read       $L/device/vif/0/backend
    tool     read       $B/vif/$N/0/hotplug-status

    # The guest runs: its frontends meet the backends.
    guest    list       device
    guest    list       device/vbd
    guest    list       device/vif
    guest    read       vm
    guest    read       domid
    guest    read       control/platform-feature-xs_reset_watches
    guest    read       memory/static-max
    guest    read       cpu/0/availability
    guest    read       console/ring-ref
    guest    read       device/vbd/51712/backend
    guest    read       device/vbd/51712/backend-id
    guest    read       device/vbd/51712/virtual-device
    guest    read       device/vbd/51712/device-type
    guest    read       device/vbd/51712/state
    guest    watch      $B/vbd/$N/51712/state                       backend
    guest    read       $B/vbd/$N/51712/state
    guest    begin
    guest    write      device/vbd/51712/ring-ref                   8
    guest    write      device/vbd/51712/event-channel              4
    guest    write      device/vbd/51712/protocol                   x86_64-abi
    guest    commit
    guest    write      device/vbd/51712/state                      3
    guest    read       device/vif/0/backend
    guest    read       device/vif/0/backend-id
    guest    read       device/vif/0/handle
    guest    read       device/vif/0/mac
    guest    read       $B/vif/$N/0/feature-sg
    guest    read       $B/vif/$N/0/feature-rx-copy
    guest    watch      $B/vif/$N/0/state                           backend
    guest    read       $B/vif/$N/0/state
    guest    begin
    guest    write      device/vif/0/tx-ring-ref                    9
    guest    write      device/vif/0/rx-ring-ref                    10
    guest    write      device/vif/0/event-channel                  5
    guest    write      device/vif/0/request-rx-copy                1
    guest    commit
    guest    write      device/vif/0/state                          4
    kernel   read       $D/device/vbd/51712/ring-ref
    kernel   read       $D/device/vbd/51712/state
    kernel   read       $D/device/vbd/51712/protocol
    kernel   read       $D/device/vbd/51712/event-channel
    kernel   begin
    kernel   write      $B/vbd/$N/51712/sectors                     41943040
    kernel   write      $B/vbd/$N/51712/sector-size                 512
    kernel   write      $B/vbd/$N/51712/info                        0
    kernel   commit
    kernel   write      $B/vbd/$N/51712/state                       4
    kernel   read       $D/device/vif/0/tx-ring-ref
    kernel   read       $D/device/vif/0/rx-ring-ref
    kernel   read       $D/device/vif/0/request-rx-copy
    kernel   read       $D/device/vif/0/state
    kernel   read       $D/device/vif/0/event-channel
    kernel   write      $B/vif/$N/0/state                           4
    guest    read       $B/vbd/$N/51712/sectors
    guest    read       $B/vbd/$N/51712/sector-size
    guest    read       $B/vbd/$N/51712/info
    guest    read       $B/vbd/$N/51712/feature-flush-cache
    guest    read       $B/vif/$N/0/state
    guest    write      device/vbd/51712/state                      4
    guest    watch      control/shutdown                            control
    tool     read       $D/name
    tool     list       $L/device
    """
