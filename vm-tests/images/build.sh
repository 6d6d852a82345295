#!/bin/sh
# Makes all that the machines need below DIR: trees and disks, the harness, and the packages of what is in this clone. What
# takes long is done at the same time: most of a tree is fetched and unpacked, most of a build is computed.
#
#   ready.sh core|all DIR
set -eu

set=$1 dir=$2
here=$(cd "$(dirname "$0")" && pwd)
cargo=${CARGO:-cargo}
cd "$here/../.."

"$here/all.sh" "$set" "$dir" &
trees=$!
(
    # Every change can afford the tests' own build. The other is the release's, but for what linking it takes.
    case $set in
        core)
            $cargo build --locked --quiet
            built=debug
            ;;
        *)
            $cargo build --profile demo --locked --quiet
            built=demo
            "$here/first-release.sh" "$dir/packages"
            ;;
    esac
    $cargo build --locked --quiet -p ecs-netguard-vm-tests &
    "$here/packages.sh" "${CARGO_TARGET_DIR:-target}/$built/ecs-netguard" "$dir/packages"
    wait $!
) &
# Not in a condition, where a failure in it would go unnoticed.
builds=$!
code=0
wait $builds || code=$?
wait $trees || code=$?
exit $code
