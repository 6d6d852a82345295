#!/bin/sh
# Checks the systemd units without starting anything: syntax and references by `systemd-analyze
# verify`, and what the sandbox leaves open by `systemd-analyze security`, which must not be more
# than 3.1 of 10. What each remaining point is for stands in systemd/ecs-netguard.service.
set -eu

THRESHOLD=31 # tenths

cd "$(dirname "$0")/../systemd"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
# verify asks whether the program is there; the units name the place of an installed one.
for unit in *.service; do
    sed "s|/usr/sbin/ecs-netguard|/bin/true|" "$unit" >"$tree/$unit"
done
# It exits with 0 after most of its complaints: whatever it says is one.
complaints=$(systemd-analyze verify --man=no "$tree"/*.service 2>&1 | grep -F ecs-netguard || true)
if [ -n "$complaints" ]; then
    printf '%s\n' "$complaints" >&2
    exit 1
fi
for unit in *.service; do
    if ! figure=$(systemd-analyze security --offline=yes --threshold=$THRESHOLD "$unit" 2>&1); then
        printf '%s\n' "$figure" >&2
        exit 1
    fi
    printf '%s\n' "$figure" | sed -n 's/^→ //p'
done
