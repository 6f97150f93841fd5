# xenstored: the front door. What can be asked of it:
#
#   make help           this list
#   make run            build, start the daemon on a simulated Xen (config/demo.yaml) and show guests come up beside
#                       a toolstack, and go; STAY=1 keeps it running until Ctrl-C. Nothing is left behind
#   make test           everything below marked *, in this order, ending at the first failure
#   make build          .build/release/xenstored and .build/release/xenstore-bench
#   make lint           * swift format, as .swift-format has it; nothing is changed
#   make stubdom        the daemon as a kernel of its own, .build/stubdom/xenstored.elf (docs/stubdom.md)
#   make stubdom-linux  the daemon and Debian's kernel for a domain of its own, .build/stubdom-linux; OVERLAY=FOLDER
#                       puts its files over the initramfs
#   make embedded       * the core, the shared page and policies as bare-metal code: compiles, and wants no more of
#                       a C library than memory
#   make unit           * swift test: unit, host, transcripts, simulation, tidiness; PEERS=1 also plays the
#                       transcripts against other daemons (docs/testing.md)
#   make test-stubdom   * the kernel in a machine of qemu's: transcripts over simulated rings, and its figures
#   make test-clients   * xenstore-utils, xenstore-control, test-xenstore and pyxs against our daemon, and what
#                       `make run` shows; with XENSTORED_PATH=SOCKET, against the daemon that listens there
#   make test-xen       the daemon under Xen itself, emulated by qemu, with real guests (docs/testing.md);
#                       SCENE="NAME..." plays just these, DAEMON=stubdom or stubdom-linux ours in a domain of its
#                       own, DAEMON=c or ocaml Debian's daemons, DAEMON=PATH another build of ours
#   make fuzz-smoke     * each fuzz target for FUZZ_SECONDS (5)
#   make torture        kills the daemon under load for TORTURE_SECONDS (600), then at TORTURE_SAMPLES (200)
#                       instructions of each kind of request; SEED repeats a run
#   make fuzz           each fuzz target for FUZZ_SECONDS (600); findings and corpus under .build-fuzz
#   make bench          xenstore-bench on our daemon; BENCH="ARG..." are its arguments
#   make format         let swift format rewrite the sources
#   make install        into DESTDIR and PREFIX (/usr/local): daemon, modules, their header, configuration where none
#                       is yet, systemd unit
#   make deps           install Debian's packages that a build needs; every target asks for what it needs
#   make clean          remove everything that these targets made
#
# SWIFTFLAGS goes to every swift build and swift test (SWIFTFLAGS="-j 1" on a small machine).

SHELL := /bin/bash
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
SWIFTFLAGS ?=
BENCH ?=

swift_version := 6.3
packages := libxen-dev libyaml-dev libtdb-dev tdb-tools pkg-config make gcc g++ libc6-dev git ca-certificates
client_packages := xenstore-utils python3 python3-venv
stubdom_packages := qemu-system-x86 binutils
stubdom_linux_packages := binutils cpio python3
xen_packages := qemu-system-x86 binutils python3
# Which of our own daemons `make test-xen` builds.
xen_builds := $(filter stubdom stubdom-linux,$(DAEMON)) $(if $(filter-out stubdom stubdom-linux,$(DAEMON)),,static)
sources := Sources Plugins Tests stubdom Package.swift

.PHONY: help run test build stubdom stubdom-linux lint embedded unit test-stubdom test-clients test-xen torture fuzz-smoke fuzz bench format install deps clean
.PHONY: toolchain static client-deps

help:
	@sed -n '/^#   make/,/^$$/s/^# \{0,1\}//p' Makefile

run: build client-deps
	@Tests/Clients/demo .build/release/xenstored config/demo.yaml

# One after another, each in a make of its own, so that `make -j` cannot mix them.
test:
	@for step in lint embedded unit test-stubdom test-clients fuzz-smoke; do \
		echo "== make $$step"; $(MAKE) --no-print-directory $$step || exit; \
	done

build: toolchain deps
	swift build -c release $(SWIFTFLAGS)

lint: toolchain
	swift format lint --strict --recursive --parallel $(sources)

format: toolchain
	swift format --in-place --recursive --parallel $(sources)

embedded: toolchain deps
	Tests/Embedded/build

stubdom: toolchain deps
	$(call need,binutils)
	stubdom/build

stubdom-linux: static
	$(call need,$(stubdom_linux_packages))
	stubdom/linux/build .build-static/release/xenstored $(OVERLAY)

test-stubdom: stubdom
	$(call need,$(stubdom_packages))
	STUBDOM_KERNEL=$(CURDIR)/.build/stubdom/xenstored.elf swift test $(SWIFTFLAGS) --no-parallel --filter StubdomTests

disk_tests := AppendLogTests RecordLogTests TDBFileTests ConformanceTests

unit: toolchain deps
	$(call swift_test,--skip ClientTests --skip RestartTests --skip StubdomTests $(addprefix --skip ,$(disk_tests)))
	@# By themselves: these block threads, for minutes, that others need.
	$(call swift_test,--skip-build $(addprefix --filter ,$(disk_tests)))
	@# By themselves: the other tests block threads that these need.
	$(call swift_test,--skip-build --filter ClientTests)
	@# By themselves too: they are about when a process gets its turn.
	$(call swift_test,--skip-build --filter RestartTests)

# $(call swift_test,ARGUMENTS): thousands of lines, so that what failed is said again at the end.
define swift_test
@mkdir -p .build; echo "swift test $(SWIFTFLAGS) $(1)"; set -o pipefail; \
swift test $(SWIFTFLAGS) $(1) 2>&1 | tee .build/unit.log || \
	{ printf '\n== what failed:\n'; grep -a -A 4 -e '^✘' -e 'Precondition failed' -e 'error:' -e 'Fatal error' .build/unit.log | tail -n 100; exit 1; }
endef

test-clients: client-deps $(if $(XENSTORED_PATH),,build)
	Tests/Clients/run $(if $(XENSTORED_PATH),,.build/release/xenstored)

# Built with a static standard library, so that who runs it needs nothing of Swift.
static: toolchain deps
	@for product in xenstored xenstore-tdb-file; do swift build -c release --static-swift-stdlib \
		--product $$product --scratch-path .build-static $(SWIFTFLAGS) || exit; done

test-xen: $(xen_builds) deps
	$(call need,$(xen_packages))
	@Tests/Xen/run $(if $(DAEMON),--daemon $(DAEMON)) --seconds $(or $(XEN_SECONDS),1800) $(SCENE)

torture: build
	XENSTORED=$(CURDIR)/.build/release/xenstored TORTURE_SECONDS=$(or $(TORTURE_SECONDS),600) \
		TORTURE_SAMPLES=$(or $(TORTURE_SAMPLES),200) $(if $(SEED),SEED=$(SEED)) \
		swift test $(SWIFTFLAGS) --filter RestartTests

fuzz-smoke: toolchain deps
	Tests/Fuzz/run $(or $(FUZZ_SECONDS),5)

fuzz: toolchain deps
	Tests/Fuzz/run $(or $(FUZZ_SECONDS),600)

bench: build
	.build/release/xenstore-bench $(BENCH)

# Building is left to `make build`, so that `sudo make install` compiles nothing as root.
install:
	@test -x .build/release/xenstored || { echo "make install: run 'make build' first" >&2; exit 1; }
	install -D -m 755 .build/release/xenstored $(DESTDIR)$(PREFIX)/sbin/xenstored
	install -d -m 755 $(DESTDIR)$(PREFIX)/lib/xenstored $(DESTDIR)$(SYSCONFDIR)/xen
	@# What breaks modules on purpose is for xenstore-conformance alone.
	for file in $$(ls .build/release/libxenstore-*.so | grep -v -e -faults.so); do \
		install -m 755 $$file $(DESTDIR)$(PREFIX)/lib/xenstored || exit 1; \
	done
	install -D -m 644 Sources/CXenStorePlugin/include/xenstore_plugin.h \
		$(DESTDIR)$(PREFIX)/include/xenstore_plugin.h
	test -e $(DESTDIR)$(SYSCONFDIR)/xen/xenstored.yaml || \
		install -m 644 config/xenstored.yaml $(DESTDIR)$(SYSCONFDIR)/xen/xenstored.yaml
	install -d -m 755 $(DESTDIR)$(SYSCONFDIR)/xen/policies
	for file in config/policies/*.yaml; do \
		test -e $(DESTDIR)$(SYSCONFDIR)/xen/policies/$${file##*/} || \
			install -m 644 $$file $(DESTDIR)$(SYSCONFDIR)/xen/policies/; \
	done
	install -d -m 755 $(DESTDIR)$(UNITDIR)
	sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' config/xenstored.service \
		> $(DESTDIR)$(UNITDIR)/xenstored.service

clean:
	rm -rf .build .build-*

# The Swift toolchain is the one thing that Debian 12 has no package of.
toolchain:
	@have=$$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9.]*\).*/\1/p'); \
	if [ -z "$$have" ]; then \
		echo "make: no Swift toolchain in PATH; version $(swift_version) is needed (swift.org/install)" >&2; exit 1; \
	elif [ "$$(printf '%s\n' $(swift_version) $$have | sort -V | head -n 1)" != $(swift_version) ]; then \
		echo "make: Swift $$have found, $(swift_version) or newer is needed (swift.org/install)" >&2; exit 1; \
	fi

# $(call need,PACKAGES): installs those of Debian's packages that are missing.
define need
@missing=$$(comm -23 <(printf '%s\n' $(1) | sort) \
	<(dpkg-query -W -f='$${db:Status-Status} $${Package}\n' $(1) 2>/dev/null | sed -n 's/^installed //p' | sort)); \
[ -z "$$missing" ] && exit 0; \
set -- $$missing; \
run=; [ "$$(id -u)" = 0 ] || run="$$(command -v sudo)" && command -v apt-get >/dev/null || \
	{ echo "make: Debian's packages $$* are missing, and this user cannot install them" >&2; exit 1; }; \
echo "make: installing $$*"; \
$$run apt-get -q update && $$run env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $$*
endef

deps:
	$(call need,$(packages))

client-deps:
	$(call need,$(packages) $(client_packages))
	@Tests/Clients/fetch .build-clients
