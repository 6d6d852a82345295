#!/bin/sh
# Fetches the programs that manage firewalls, and what they need and this machine lacks, for the lab,
# without installing anything. The lab lays the directory over /usr, /etc and /var of its host alone.
#
#   get-firewalls.sh [DIR]      (default: target/lab-firewalls)
#
# Where DIR already has them, nothing is done. Elsewhere than on Debian and its kin it says so: the
# tests are of Debian's packages.
set -eu
. "$(dirname "$0")/fetch.sh"

begin firewalls "${1:-$(dirname "$0")/../../target/lab-firewalls}"
debian_or_path "a Debian: the tests are of its packages" apt-get dpkg

# netfilter-persistent and ufw exclude each other where they are installed; the former needs nothing
# else.
wanted="firewalld python3-firewall ufw fail2ban netfilter-persistent iptables-persistent"
# What they need and this machine has not: what apt would install newly.
lacking() {
    LC_ALL=C apt-get -qq --no-install-recommends --simulate install \
        dbus-daemon python3 firewalld ufw fail2ban | awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }'
}
# Without package lists apt knows of nothing.
[ -n "$(lacking)" ] || apt-get -q update >&2
fetch $( (printf '%s\n' $wanted; lacking) | sort -u)

# /bin, /lib and /sbin are links into /usr where the lab lays this.
for top in bin lib sbin; do
    if [ -d "$work/root/$top" ]; then
        mkdir -p "$work/root/usr/$top"
        cp -a "$work/root/$top/." "$work/root/usr/$top/"
        rm -r "$work/root/$top"
    fi
done
# What ufw's postinst copies to where ufw reads it.
mkdir -p "$work/root/var"
cp "$work"/root/usr/share/ufw/iptables/*.rules "$work"/root/usr/share/ufw/*.init \
    "$work/root/usr/share/ufw/ufw.conf" "$work/root/etc/ufw/"
# What a package's installation does too: start-up takes a third of the time.
if [ -x /usr/bin/python3 ]; then
    /usr/bin/python3 -m compileall -q "$work/root/usr/lib/python3" >&2 || true
fi
finish
