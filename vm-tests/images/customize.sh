#!/bin/sh
# What tree.sh changes in a fresh tree: nothing runs that a test machine does not need, and nothing that
# a scenario wants to start by itself.
set -eu
root=$1

mask() {
    for unit; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
}
mask systemd-networkd-wait-online.service systemd-timesyncd.service systemd-hwdb-update.service \
    systemd-udev-settle.service systemd-logind.service systemd-firstboot.service \
    getty@.service serial-getty@.service getty-static.service console-getty.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer man-db.timer dnf-makecache.timer

# A scenario starts it; sshd is what Packer comes in by.
systemctl --root="$root" --quiet disable firewalld.service nftables.service ssh.service

# The journal is what is looked at when a test failed.
mkdir -p "$root/var/log/journal" "$root/etc/systemd/journald.conf.d"
cat >"$root/etc/systemd/journald.conf.d/test.conf" <<'END'
[Journal]
Storage=persistent
SystemMaxUse=200M
RateLimitIntervalSec=0
END

echo testhost >"$root/etc/hostname"
echo '127.0.0.1 localhost testhost' >"$root/etc/hosts"
: >"$root/etc/machine-id"
: >"$root/etc/fstab"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
# root may log in at the console without a password: there is no other way in.
chroot "$root" passwd -d root >/dev/null
