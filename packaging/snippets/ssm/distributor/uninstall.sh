#!/bin/sh
# Of a Distributor package: removes the package, and with it all rules. The gate goes first, or the ECS agent
# could not start any more.
set -eu
rm -f /etc/systemd/system/ecs.service.d/50-ecs-netguard.conf
systemctl daemon-reload
if command -v dnf >/dev/null; then
    dnf -y remove ecs-netguard
else
    DEBIAN_FRONTEND=noninteractive apt-get -y remove ecs-netguard
fi
