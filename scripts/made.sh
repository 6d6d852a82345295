#!/bin/sh
# made.sh TRIPLE DIR [BINARY]: writes to DIR what packaging/install.sh installs and is no source: the program for
# TRIPLE, its man pages and completions, and the licences of what is linked into it. Without BINARY the program is
# built from the crates in vendor/, without a network and with nothing in it of where.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
triple=$1 dir=$2
mkdir -p "$dir"

if [ $# -gt 2 ]; then
    binary=$3
    for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do :; done
    $cargo run --locked --quiet -p ecs-netguard --example man -- "$dir"
else
    crates=vendor
    export CARGO_TARGET_DIR="$PWD/target"
    # Where the sources lie must not show in the binary.
    RUSTFLAGS="--remap-path-prefix=$PWD=/usr/src/ecs-netguard ${RUST_FLAGS:-}" \
        $cargo build --release --frozen --target "$triple" -p ecs-netguard --bin ecs-netguard
    binary=target/$triple/release/ecs-netguard
    # The pages are made by a program of the build machine's own kind.
    RUSTFLAGS="" $cargo run --frozen --quiet --config profile.dev.opt-level=0 --config profile.dev.debug=false \
        -p ecs-netguard --example man -- "$dir"
fi
install -p -m 0755 "$binary" "$dir/ecs-netguard"
scripts/licences.sh "$triple" "$crates" >"$dir/THIRD-PARTY.txt"
