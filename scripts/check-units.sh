#!/bin/sh
# Checks the systemd units without starting anything: syntax and references by `systemd-analyze
# verify`, and what the sandbox leaves open by `systemd-analyze security`, in tenths of 10: for all that a unit
# starts together, for the daemon alone with what it gives up, and for the exporter, which needs least. (tests/sandbox.rs shows that it does.)
# What each remaining point is for stands in systemd/ecs-netguard.service.
set -eu

TOGETHER=31
DAEMON=20
EXPORTER=10

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
exposure() { # what, unit, at most
    if ! figure=$(systemd-analyze security --offline=yes --threshold="$3" "$2" 2>&1); then
        printf '%s\n' "$figure" >&2
        exit 1
    fi
    printf '%s\n' "$figure" | sed -n "s/^→ Overall exposure level for [^:]*/$1/p"
}
for unit in *.service; do
    most=$TOGETHER
    [ "$unit" != ecs-netguard-exporter.service ] || most=$EXPORTER
    exposure "$unit" "$unit" "$most"
done
sed -e 's/^CapabilityBoundingSet=.*/CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW/' \
    -e 's/^RestrictNamespaces=.*/RestrictNamespaces=yes/' \
    -e 's/^\(SystemCallFilter=.*\) capset seccomp$/\1/' ecs-netguard.service >"$tree/daemon.service"
exposure "the daemon without its worker" "$tree/daemon.service" $DAEMON
