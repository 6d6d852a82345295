#!/bin/sh
# Makes what machines are started from, below DIR, and nothing that is there already.
#
#   all.sh core|all [DIR]      core: what `--set core` runs on, one tree; DIR: target/vm
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${2:-$here/../../target/vm}

case $1 in
    core) "$here/tree.sh" bookworm "$out" >/dev/null ;;
    all)
        # Side by side: each waits for the network for a good part of its time.
        "$here/emulator.sh" "$out" &
        emulator=$!
        "$here/tree.sh" sid "$out" >/dev/null &
        sid=$!
        "$here/tree.sh" bookworm "$out" >/dev/null
        "$here/kernel.sh" bookworm "$out"
        # The kernels of Amazon Linux 2023: 6.1 and 6.12.
        for suite in bookworm bookworm-backports; do
            "$here/disk.sh" "$out/$suite/root" >/dev/null
        done
        # `set -e` sees what they come to.
        wait $sid
        wait $emulator
        ;;
    *)
        echo "all.sh: core or all, not $1" >&2
        exit 2
        ;;
esac
