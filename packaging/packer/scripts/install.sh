#!/bin/sh
# On the build machine, as root: installs /tmp/ecs-netguard.rpm, and /tmp/ecs-netguard.toml as its
# configuration, each where it is there. DNF_OPTIONS are added to dnf's.
set -eu

# Until cloud-init is done it installs packages too, and ecs.config is not what it will be. Its exit code
# says how user data went, which is not this script's concern.
if command -v cloud-init >/dev/null; then
    cloud-init status --wait || true
fi

if [ -e /tmp/ecs-netguard.rpm ]; then
    # Unquoted: options, separated by blanks.
    dnf -y ${DNF_OPTIONS:-} install /tmp/ecs-netguard.rpm
fi
if [ -e /tmp/ecs-netguard.toml ]; then
    install -m 0644 /tmp/ecs-netguard.toml /etc/ecs-netguard/config.toml
fi
rm -f /tmp/ecs-netguard.rpm /tmp/ecs-netguard.toml
