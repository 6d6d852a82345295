#!/bin/sh
# Fetches the programs that manage firewalls, for the lab, without installing anything: Debian's
# packages, and what they need and this machine lacks, are downloaded and unpacked into a directory
# of their own. No maintainer script runs, so nothing is started or enabled. The lab lays the
# directory over /usr, /etc and /var of its host alone.
#
#   get-firewalls.sh [DIR]      (target/lab-firewalls, unless told)
#
# Where DIR already has them, nothing is done. Elsewhere than on Debian and its kin it says so.
set -eu

dir=${1:-$(dirname "$0")/../../target/lab-firewalls}
say() { echo "get-firewalls: $*" >&2; }

if [ -e "$dir/complete" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    say "this is no Debian: its packages of firewalld, ufw and fail2ban are what is tested"
    exit 1
fi

# Beside its final place, and moved there at the end: an interrupted run leaves nothing half-made,
# and two at once do not mix.
mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# netfilter-persistent and ufw exclude each other where they are installed; the former needs nothing
# else.
wanted="firewalld python3-firewall ufw fail2ban netfilter-persistent iptables-persistent"
# What they need and this machine has not: what apt would install newly.
lacking() {
    LC_ALL=C apt-get -qq --no-install-recommends --simulate install \
        dbus-daemon python3 firewalld ufw fail2ban | awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }'
}
download() {
    packages=$( (printf '%s\n' $wanted; lacking) | sort -u)
    # As root: the sandbox user may not write here, and apt would warn about it each time.
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download $packages >&2)
}

say "downloading firewalld, ufw, fail2ban and netfilter-persistent (nothing is installed) into $dir"
if ! download; then
    say "the package lists may be old or missing: apt-get update, then again"
    apt-get -q update >&2
    download
fi
for deb in "$work"/*.deb; do
    dpkg -x "$deb" "$work/root"
done

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

mkdir "$work/done"
mv "$work/root"/* "$work/done/"
touch "$work/done/complete"
if ! mv -T "$work/done" "$dir" 2>/dev/null && [ ! -e "$dir/complete" ]; then
    rm -rf "$dir"
    mv -T "$work/done" "$dir"
fi
say "done: $(du -sh "$dir" | cut -f1)"
