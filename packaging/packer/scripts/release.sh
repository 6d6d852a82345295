#!/bin/sh
# On the build machine, as root, when nothing needs the guard any more: stops it, takes its rules out, and
# forgets what it remembers of this machine. It stays installed, configured and enabled.
set -eu

systemctl stop ecs-netguard.service
ecs-netguard release --image

left=$(ls -A /var/lib/ecs-netguard)
if [ -n "$left" ]; then
    echo "release: still in /var/lib/ecs-netguard: $left" >&2
    exit 1
fi
