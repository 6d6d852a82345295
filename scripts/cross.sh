#!/bin/sh
# cross.sh ARCH DIR: what rustc needs to build for ARCH (aarch64, x86_64) on another kind of machine.
# Prints shell assignments: PATH, the linker, and RUST_FLAGS. Where this machine's rustc has no standard
# library for ARCH, Debian's own package of it is unpacked in DIR, not installed.
set -eu

arch=$1
dir=$2
triple=$arch-unknown-linux-gnu
linker=$arch-linux-gnu-gcc
upper=$(printf '%s' "$triple" | tr a-z- A-Z_)

command -v "$linker" >/dev/null || {
    echo "cross.sh: $linker is missing: run 'scripts/setup.sh rpm $arch' as root" >&2
    exit 1
}
echo "export CARGO_TARGET_${upper}_LINKER=$linker"

# A toolchain that has it by itself: `rustup target add`.
if [ -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; then
    echo RUST_FLAGS=
    exit 0
fi

# Debian's rustc, and its standard library for the other architecture, of the same version.
rustc=/usr/bin/rustc
version=$(dpkg-query -W -f '${Version}' libstd-rust-web-dev 2>/dev/null) && [ -x "$rustc" ] || {
    echo "cross.sh: this rustc has no $triple: 'rustup target add $triple', or on Debian 'scripts/setup.sh rpm $arch' as root" >&2
    exit 1
}
case $arch in aarch64) debian=arm64 ;; x86_64) debian=amd64 ;; esac
mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/sysroot"
# Lists of its own: the machine's apt need not know the other architecture.
own() {
    apt-get -qq -o APT::Architectures::="$debian" -o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir" \
        -o APT::Sandbox::User=root "$@"
}
own update
(cd "$dir" && own download "libstd-rust-web-dev:$debian=$version")
dpkg-deb --extract "$dir"/libstd-rust-web-dev_*.deb "$dir/sysroot"
echo 'export PATH="/usr/bin:$PATH"'
echo "RUST_FLAGS=--sysroot=$dir/sysroot/usr"
