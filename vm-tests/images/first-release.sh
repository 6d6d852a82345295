#!/bin/sh
# Makes DIR/0.1.0.rpm, the package of the first version, from its commit; built once (some minutes) and kept.
#
#   first-release.sh DIR
set -eu

COMMIT=6dec213c0eaba486d0c1529085742eeae2616708 # the last one of 0.1.0

mkdir -p "$1"
out=$(realpath "$1")
cd "$(dirname "$0")/../.."
[ ! -e "$out/0.1.0.rpm" ] || exit 0

if ! git cat-file -e "$COMMIT" 2>/dev/null; then
    echo "first-release.sh: this clone lacks commit $COMMIT, of which 0.1.0 is made: run 'git fetch --unshallow'" >&2
    exit 1
fi
echo "first-release.sh: building version 0.1.0 (once; one to four minutes)" >&2
work=$(mktemp -d "$out/0.1.0.XXXXXX")
trap 'rm -rf "$work"' EXIT
git clone --quiet --shared --no-checkout . "$work/source"
git -C "$work/source" checkout --quiet "$COMMIT"
cd "$work/source"
# What it does does not depend on how quickly.
export CARGO_TARGET_DIR="$work/target" CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=false
${CARGO:-cargo} build --locked --quiet -p ecs-netguard --bin ecs-netguard
strip "$work/target/debug/ecs-netguard"
scripts/rpm.sh --prebuilt "$work/target/debug/ecs-netguard" --out "$work/rpm" >/dev/null
mv "$work/rpm/ecs-netguard-0.1.0-1.$(uname -m).rpm" "$out/0.1.0.rpm"
