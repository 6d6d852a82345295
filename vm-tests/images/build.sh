#!/bin/sh
# Builds what the machines get: the harness, and the packages of what is in this clone.
#
#   build.sh core|all DIR
set -eu

set=$1 dir=$2
here=$(cd "$(dirname "$0")" && pwd)
cargo=${CARGO:-cargo}
# `make -j` hands on how much may run at once; a compiler may use every processor.
unset MAKEFLAGS MFLAGS
cd "$here/../.."

case $set in
    # Every change can afford the tests' own build.
    core)
        $cargo build --locked --quiet
        built=debug
        ;;
    # The release's, but for what linking it takes.
    all)
        $cargo build --profile demo --locked --quiet
        built=demo
        "$here/first-release.sh" "$dir/packages"
        ;;
    *)
        echo "build.sh: core or all, not $set" >&2
        exit 2
        ;;
esac
# To pack takes one processor.
$cargo build --locked --quiet -p ecs-netguard-vm-tests &
"$here/packages.sh" "${CARGO_TARGET_DIR:-target}/$built/ecs-netguard" "$dir/packages"
# `set -e` sees what it comes to.
wait $!
