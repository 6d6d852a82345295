#!/bin/sh
# Runs fuzz targets, each for so many seconds: fuzz.sh SECONDS [TARGET...]. Without a target all of them run,
# one after the other. An input that breaks something lies in fuzz/artifacts, and ends the run.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
seconds=$1
shift
"$cargo" fuzz --version >/dev/null 2>&1 || "$cargo" install cargo-fuzz --locked
# A sanitizer needs a nightly compiler, and what reads bytes has no `unsafe`.
sanitizer=none
# The netlink sockets are real, although a script answers: in a namespace of their own they hear nothing, and
# nobody needs to be root to open them.
private="unshare --net"
[ "$(id -u)" = 0 ] || private="$private --map-root-user"

if [ $# = 0 ]; then
    # shellcheck disable=SC2046 # a word a target
    set -- $("$cargo" fuzz list)
fi
for target; do
    if [ ! -f "fuzz/fuzz_targets/$target.rs" ]; then
        echo "fuzz.sh: no target $target; there are:" "$("$cargo" fuzz list | tr '\n' ' ')" >&2
        exit 2
    fi
    # Before there is no network any more.
    "$cargo" fuzz build --sanitizer $sanitizer "$target"
    corpus=fuzz/corpus/$target
    seeds=fuzz/corpus-seeds/$target
    mkdir -p "$corpus"
    [ -d "$seeds" ] || seeds=
    echo "== $target, $seconds s"
    $private "$cargo" fuzz run --sanitizer $sanitizer "$target" "$corpus" $seeds -- \
        -max_total_time="$seconds" -rss_limit_mb=512 -timeout=10 -max_len=70000 -print_final_stats=1
done
