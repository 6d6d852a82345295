#!/bin/sh
# Installs what is missing to build and test: with apt-get or dnf, as root. Says what it installs;
# is silent and does nothing where nothing is missing. With `rpm`, `rpmlint`, `deb`, `lintian`, `repo`, `vm`,
# `packer`, `snippets` or the name of an architecture also what packages, their checks, repositories, whole machines,
# Packer, the snippets' check and building for that architecture need.
set -eu

RUST_NEEDED=1.95 # rust-version in Cargo.toml; sysinfo asks for it

if command -v apt-get >/dev/null; then
    manager=apt
elif command -v dnf >/dev/null; then
    manager=dnf
else
    manager=none
fi

missing=
# need PROGRAM DEBIAN-PACKAGE DNF-PACKAGE
need() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null && return 0
    case $manager in
        apt) missing="$missing $2" ;;
        dnf) missing="$missing $3" ;;
        none) missing="$missing $1" ;;
    esac
}

# need_file FILE DEBIAN-PACKAGE DNF-PACKAGE: what must stand where a unit names it; a shell has its own kill.
need_file() {
    [ -x "$1" ] || need "$1" "$2" "$3"
}

need iptables iptables iptables-nft
need nft nftables nftables
need ipset ipset ipset
need ip iproute2 iproute
need curl curl curl-minimal
need cc gcc gcc
need setpriv util-linux util-linux
need python3 python3 python3
need_file /bin/kill procps procps-ng
need journalctl systemd systemd
# Only to check the units: nothing of it is started.
need systemd-analyze systemd systemd

# Debian's rustc and a linker for another architecture, and what starts its programs.
need_cross() {
    [ "$1" != "$(uname -m)" ] || return 0
    need "$1-linux-gnu-gcc" "gcc-$(echo "$1" | tr _ -)-linux-gnu libc6-dev-$2-cross" "gcc-$1-linux-gnu"
    need "qemu-$1-static" qemu-user-static "qemu-user-static-$1"
    if [ "$manager" = apt ] && [ ! -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$1-unknown-linux-gnu/lib" ] &&
        ! { dpkg -s libstd-rust-web-dev && dpkg -s cargo-web; } >/dev/null 2>&1; then
        missing="$missing rustc-web cargo-web"
    fi
}

for what in "$@"; do
    case $what in
        rpm)
            need rpmbuild rpm rpm-build
            need rpmsign rpm rpm-sign
            need git git git
            ;;
        rpmlint)
            need rpmlint rpmlint rpmlint
            need rpm2cpio rpm2cpio rpm
            need cpio cpio cpio
            ;;
        deb)
            need dpkg-deb dpkg dpkg
            need git git git
            ;;
        lintian) need lintian lintian lintian ;;
        repo)
            need apt-ftparchive apt-utils apt-utils
            need createrepo_c createrepo-c createrepo_c
            need gpg gnupg gnupg2
            ;;
        vm)
            need mmdebstrap mmdebstrap mmdebstrap
            need busybox busybox-static busybox
            ;;
        qemu)
            # In one go: alone, the first may take away a qemu-utils of another version.
            need qemu-system-x86_64 'qemu-system-x86 qemu-utils' qemu-system-x86-core
            need qemu-img qemu-utils qemu-img
            need mke2fs e2fsprogs e2fsprogs
            need cpio cpio cpio
            need xz xz-utils xz
            ;;
        packer)
            need packer packer packer
            need ssh openssh-client openssh-clients
            ;;
        snippets)
            # A virtual environment, and a Python that knows apt, for Ansible.
            /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || need python3-venv python3-venv python3
            /usr/bin/python3 -c 'import apt' 2>/dev/null || need python3-apt python3-apt python3-dnf
            need gpg gnupg gnupg2
            need dpkg-deb dpkg dpkg
            ;;
        aarch64) need_cross aarch64 arm64 ;;
        x86_64) need_cross x86_64 amd64 ;;
        *)
            echo "setup: $what is not known; rpm, rpmlint, deb, lintian, repo, vm, qemu, packer, snippets, aarch64 and x86_64 are" >&2
            exit 2
            ;;
    esac
done

# The tests' own dockerd starts itself again without its environment, and so finds this library only
# where the system has it.
if [ "$manager" = apt ] && ! ldconfig -p | grep -q 'libdevmapper\.so\.1\.02\.1'; then
    missing="$missing libdevmapper1.02.1"
fi

rust_is_recent() {
    version=$(rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
    recent_enough "$version"
}
recent_enough() {
    [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$RUST_NEEDED" "$1" | sort -V | head -n 1)" = "$RUST_NEEDED" ]
}

if ! { rust_is_recent && command -v cargo >/dev/null; }; then
    case $manager in
        # Debian 12's own rustc is older; the -web packages follow upstream.
        apt) missing="$missing rustc-web cargo-web rustfmt-web rust-web-clippy" ;;
        dnf) missing="$missing rust cargo rustfmt clippy" ;;
        none) missing="$missing rust>=$RUST_NEEDED" ;;
    esac
fi

[ -n "$missing" ] || exit 0

if [ "$manager" = none ]; then
    echo "setup: missing:$missing; neither apt-get nor dnf is here: install them by hand" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup: missing:$missing; run 'sudo make setup'" >&2
    exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' INT TERM

# step WHAT COMMAND...: says what, and every half minute the last line of what the package manager says.
step() {
    echo "setup: $1"
    shift
    "$@" >"$log" 2>&1 &
    waited=0
    while kill -0 $! 2>/dev/null; do
        sleep 1
        waited=$((waited + 1))
        if [ $((waited % 30)) = 0 ]; then
            echo "setup: ... $waited s: $(tail -n 1 "$log" | cut -c1-100)"
        fi
    done
    if ! wait $!; then
        cat "$log" >&2
        echo "setup: this failed; the package manager's own words are above" >&2
        exit 1
    fi
}

candidate() { apt-cache policy "$1" | sed -n 's/ *Candidate: //p'; }

case $manager in
    apt)
        step "reading the lists of packages" apt-get update -qq
        case $missing in
            *rustc-web*)
                if ! recent_enough "$(candidate rustc-web)"; then
                    echo "setup: Rust $RUST_NEEDED or newer is needed, and apt has $(candidate rustc-web)." >&2
                    echo "On Debian 12 this line in /etc/apt/sources.list brings it; elsewhere rustup.rs does:" >&2
                    echo "deb http://security.debian.org/debian-security bookworm-security main" >&2
                    exit 1
                fi
                ;;
        esac
        case $missing in
            *qemu-system-x86*)
                # QEMU's packages exclude each other's other versions: qemu-utils may be here from backports.
                missing=$(echo "$missing" | sed "s/ qemu-utils/ qemu-utils=$(candidate qemu-system-x86)/g")
                ;;
        esac
        export DEBIAN_FRONTEND=noninteractive
        step "installing$missing (one to four minutes)" \
            apt-get install -y -q --no-install-recommends --allow-downgrades $missing
        ;;
    dnf) step "installing$missing (one to four minutes)" dnf install -y $missing ;;
esac
if ! rust_is_recent; then
    echo "setup: Rust $RUST_NEEDED or newer is needed and $(rustc --version 2>/dev/null || echo none) was found: install it from rustup.rs" >&2
    exit 1
fi
