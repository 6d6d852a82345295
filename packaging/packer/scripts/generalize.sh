#!/bin/sh
# On the build machine, as root, last of all: removes what makes this machine this one, so that each
# instance of the image becomes its own. (A build with amazon-ecs-ami has its own cleanup.sh for that.)
set -eu

# A stopped agent has no cluster; one that took its state along would be two instances in one.
if systemctl is-active --quiet ecs.service; then
    systemctl stop ecs.service
fi
rm -rf /var/lib/ecs/data/* /var/log/ecs/*

# Empty, not absent: absent would be a first boot to systemd, which then applies presets again.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed

# The journal goes on in memory, so nothing writes to the disk what was just removed.
journalctl --relinquish-var
rm -rf /var/log/journal/*

if command -v cloud-init >/dev/null; then
    cloud-init clean --logs
fi
dnf clean all
rm -rf /var/cache/dnf /var/lib/dnf/history*
# Made again at the next start of sshd. From here on this machine takes no new connection.
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
sync
