#!/bin/sh
# Of a Distributor package: installs or upgrades what lies beside it. An upgrade keeps the rules throughout.
set -eu
cd "$(dirname "$0")"
if [ -e ecs-netguard.deb ]; then
    # No signature of its own: the SSM agent compared the archive with the manifest's checksum.
    DEBIAN_FRONTEND=noninteractive apt-get -y install ./ecs-netguard.deb
else
    rpm --import ecs-netguard.asc
    dnf -y install --setopt=localpkg_gpgcheck=1 ./ecs-netguard.rpm
fi
