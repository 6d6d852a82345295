#!/bin/sh
# Makes the root tree of a test machine: Debian SUITE with systemd, Docker, what an ECS host has around
# it, and what the scenarios need. Prints the tree's directory, DIR/SUITE-<hash>/root. The hash is that of
# this file, customize.sh and the suite, so a tree that is there is used again.
#
#   tree.sh SUITE [DIR]        DIR: target/vm
#
# The mirror is the one this machine's apt uses; VM_MIRROR names another.
set -eu

suite=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/mirror.sh"
out=${2:-$here/../../target/vm}
hash=$({ echo "$suite"; cat "$here/tree.sh" "$here/customize.sh"; } | sha256sum | cut -c1-12)
dir=$out/$suite-$hash
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# One builder at a time; one that waited finds it done.
exec 9>"$dir/lock"
flock 9
# By this name the harness finds it.
link() {
    ln -sfn "$(basename "$dir")" "$(dirname "$dir")/$suite"
    echo "$dir/root"
}
if [ -e "$dir/complete" ]; then
    link
    exit
fi
rm -rf --one-file-system "$dir/root" "$dir/new"

mirror=$(debian_mirror)
apt_access "$dir/apt.conf"

packages=systemd,systemd-sysv,dbus,udev,kmod,procps,util-linux,e2fsprogs
packages=$packages,docker.io,iptables,nftables,firewalld,iproute2,conntrack,curl,socat,jq
packages=$packages,python3-minimal,busybox-static,rpm,dnf
packages=$packages,linux-image-cloud-amd64,qemu-guest-agent,openssh-server
case $suite in
    bookworm) ;;
    *) packages=$packages,docker-cli ;;
esac

echo "tree.sh: making the root tree of $suite (a few minutes)" >&2
if ! mmdebstrap --mode=root --variant=minbase --include="$packages" --skip=output/dev \
    --aptopt="$dir/apt.conf" \
    --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='force-unsafe-io' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --essential-hook='mkdir -p "$1/etc"; echo do_initrd=no >"$1/etc/kernel-img.conf"' \
    --customize-hook="$here/customize.sh"' "$1"' \
    "$suite" "$dir/new" "$mirror" >"$dir/log" 2>&1; then
    tail -n 30 "$dir/log" >&2
    echo "tree.sh: making the tree of $suite failed: the whole log is $dir/log" >&2
    exit 1
fi
mv "$dir/new" "$dir/root"
touch "$dir/complete"
link
