# Everything a newcomer needs; `make` alone lists it.
.DEFAULT_GOAL := help
CARGO ?= cargo
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

.PHONY: help root prefix setup build demo test attack fuzz fuzz-kernel kill-test lint bench bench-compare load soak fleet man install uninstall rpm rpm-check deb deb-check repo vm-set vm-image vm-test vm-trees vm-packages packer-validate packer-test snippets-check clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Before anything is installed or built: the demo, the tests and what measures make network namespaces.
root:
	@[ "$$(id -u)" = 0 ] || { echo "This needs root, to make network namespaces of its own; run: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

setup: ## Install what is missing to build and test (says what; nothing where nothing is)
	@scripts/setup.sh

build: setup ## Build the release binary: target/release/ecs-netguard
	@[ -e $(TARGET_DIR)/release/ecs-netguard ] || echo "build: the release binary; the first time this takes one to four minutes"
	@$(CARGO) build --release --locked

# The lab and what stands on it alone: not one dependency of the tests. Profile, name, arguments.
define LAB_EXAMPLE
	@$(CARGO) build --profile $(1) --locked -p lab --example $(2)
	@$(TARGET_DIR)/$(1)/examples/$(2) $(3)
endef

demo: root setup ## Run the daemon in a private lab of namespaces, attack it, show what happens
	@[ -e $(TARGET_DIR)/demo/ecs-netguard ] || echo "demo: building the program and its lab; the first time this takes one to three minutes"
	@$(CARGO) build --profile demo --locked
	$(call LAB_EXAMPLE,demo,demo)

# Tests wait for daemons more than they compute.
test: root lint ## Lint and run all tests (as root: they make network namespaces of their own)
	RUST_TEST_THREADS=$(or $(RUST_TEST_THREADS),$(shell echo $$((2 * $$(nproc))))) $(CARGO) test --locked

fuzz-kernel: root setup ## Compare proofs with real packets for N random rulesets
	ECS_NETGUARD_ORACLE_N=$(or $(N),5000) $(CARGO) test --release --locked --test integration -- --nocapture oracle::

fuzz: setup ## Feed random bytes to everything that reads (TARGET=nftables, SECONDS=1800)
	@scripts/fuzz.sh $(or $(SECONDS),600) $(TARGET)

kill-test: root setup ## Kill the daemon and the probe N times at random instants, and look at what is left
	ECS_NETGUARD_KILLS=$(or $(N),2000) $(CARGO) test --locked --test integration -- --nocapture kills::
	ECS_NETGUARD_KILLS=$(or $(N),200) $(CARGO) test --locked --test integration -- --nocapture a_probe_that_is_killed

attack: root setup ## Attack the daemon as containers, users and broken files can; print a table
	@scripts/attack.sh

lint: setup ## Formatting, clippy, and the systemd units with their sandbox
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --locked --all-targets -- -D warnings
	@scripts/check-units.sh

bench: root setup ## Measure the guard against what people use today (ONLY=window,idle chooses)
	@$(CARGO) bench --locked --quiet --bench guard -- $(if $(ONLY),--only $(ONLY)) $(BENCH_ARGS)

bench-compare: setup ## Compare two runs of make bench (A=before.json B=after.json)
	@[ -n "$(A)" -a -n "$(B)" ] || { echo "Name two files that make bench wrote: make bench-compare A=before.json B=after.json" >&2; exit 2; }
	@$(CARGO) bench --locked --quiet --bench guard -- --compare "$(abspath $(A))" "$(abspath $(B))"

load: root build ## Crowd the status socket while another program flushes the rules; REQUESTS=10000 FLUSHES=10
	$(call LAB_EXAMPLE,release,load,$(or $(REQUESTS),10000) $(or $(FLUSHES),10))

soak: root build ## Let tasks, interfaces, rules and clients come and go for MINUTES=30; memory and descriptors must not grow
	$(call LAB_EXAMPLE,release,soak,$(or $(MINUTES),30))

fleet: root build ## Serve N=1000 simulated hosts to a real Prometheus; its alerts must find the bad ones and no other (SECONDS=150)
	$(call LAB_EXAMPLE,release,fleet,$(or $(N),1000) $(or $(SECONDS),150))

man: setup ## Write man pages and completions to target/man and target/completions
	@$(CARGO) run --locked --quiet --example man -- target

PREFIX ?= /usr/local
INSTALL = DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" packaging/install.sh

# Before three minutes of building.
prefix:
	@case "$(PREFIX)" in /*) ;; *) echo "PREFIX is a path from the root, not $(PREFIX)" >&2; exit 2 ;; esac

install: prefix build ## Install below PREFIX (/usr/local), with DESTDIR before it; starts nothing
	@scripts/made.sh $$(uname -m)-unknown-linux-gnu $(TARGET_DIR)/made $(TARGET_DIR)/release/ecs-netguard
	@$(INSTALL) install all $(TARGET_DIR)/made
	@echo "Start it: systemd-sysusers && systemctl daemon-reload && systemctl enable --now ecs-netguard"

# Without DESTDIR it is this machine's: the daemon is stopped and its rules are removed, as by the packages.
LIFECYCLE = [ -n "$(DESTDIR)" ] || env prefix="$(PREFIX)" step=$(1) sh packaging/lifecycle.sh

uninstall: ## Remove what make install installed, and the rules; a changed config.toml stays
	@[ ! -e "$(DESTDIR)$(PREFIX)/sbin/ecs-netguard" ] || $(call LIFECYCLE,removing)
	@$(INSTALL) uninstall all $(TARGET_DIR)/made
	@$(call LIFECYCLE,removed)

PACKAGE_OPTIONS = $(if $(ARCH),--arch $(ARCH)) $(if $(VERSION),--version $(VERSION)) $(if $(RELEASE),--release $(RELEASE))

rpm: ## Build the RPMs into target/rpm (ARCH=aarch64, SIGN_KEY=...: packaging/README.md)
	@scripts/setup.sh rpm $(ARCH)
	@scripts/rpm.sh $(PACKAGE_OPTIONS) $(if $(SIGN_KEY),--sign $(SIGN_KEY))

deb: ## Build the Debian packages into target/deb (ARCH=aarch64 is arm64)
	@scripts/setup.sh deb $(ARCH)
	@scripts/deb.sh $(PACKAGE_OPTIONS)

rpm-check: ## Build the RPMs twice, compare the bytes, and look at what is in them
	@scripts/setup.sh rpm rpmlint $(ARCH)
	@scripts/twice.sh rpm $(PACKAGE_OPTIONS)

deb-check: ## The same with the Debian packages
	@scripts/setup.sh deb lintian $(ARCH)
	@scripts/twice.sh deb $(PACKAGE_OPTIONS)

repo: ## Make signed repositories of target/rpm and target/deb for dnf and apt in target/repo (SIGN_KEY=...)
	@[ -n "$(SIGN_KEY)" ] || { echo "Name the key of gpg's to sign with: make repo SIGN_KEY=security@example.com" >&2; exit 1; }
	@set -- $(wildcard $(TARGET_DIR)/rpm/*.rpm $(TARGET_DIR)/deb/*.deb); \
	    [ $$# -gt 0 ] || { echo "There are no packages: make rpm deb" >&2; exit 1; }; \
	    scripts/setup.sh rpm deb repo && scripts/repo.sh "$(SIGN_KEY)" $(TARGET_DIR)/repo "$$@"

VM_DIR = $(TARGET_DIR)/vm
VM_SET = $(or $(SET),all)
# Namespaces need one tree and no emulator.
VM_CORE = $(filter core,$(VM_SET))
VM_SETUP = @scripts/setup.sh rpm deb repo vm $(if $(VM_CORE),,qemu)

vm-set:
	@case "$(VM_SET)" in core | all | bare) ;; *) echo "SET is core, all or bare, not $(VM_SET)" >&2; exit 2 ;; esac

vm-image: root vm-set setup ## Build the trees and disks of the test machines (SET=core: the one that core needs)
	$(VM_SETUP)
	@vm-tests/images/all.sh $(VM_SET) $(VM_DIR)

vm-test: root vm-set setup ## Run the package on whole machines (SET=core or bare, ONLY=flush,crash, VM_ARGS="--tier 1 --suite sid")
	$(VM_SETUP)
ifeq ($(VM_SET),bare)
	@vm-tests/bare.sh $(VM_DIR)
else
	@$(MAKE) --no-print-directory -j2 vm-trees vm-packages
	@$(CARGO) run --locked --quiet -p ecs-netguard-vm-tests -- --images $(VM_DIR) --packages $(VM_DIR)/packages \
	    --out $(VM_DIR)-tests --set $(VM_SET) $(if $(VM_CORE),--tier 1 --suite bookworm) \
	    $(if $(ONLY),--only $(ONLY)) $(VM_ARGS)
endif

# Side by side: most of a tree is fetched and unpacked, most of a package is compiled.
vm-trees:
	@vm-tests/images/all.sh $(VM_SET) $(VM_DIR)

vm-packages:
	@CARGO="$(CARGO)" vm-tests/images/build.sh $(VM_SET) $(VM_DIR)

packer-validate: ## Validate the Packer templates, offline and without an account
	@scripts/check-packer.sh

packer-test: root build ## Bake virtual machines with Packer, and start others from the images (as root, six to nine minutes)
	@packaging/packer/qemu/test.sh $(TARGET_DIR)/release/ecs-netguard

snippets-check: root ## Run or validate packaging/snippets, and say which (as root; fetches its tools the first time)
	@scripts/check-snippets.sh

clean: ## Remove what was built
	$(CARGO) clean
