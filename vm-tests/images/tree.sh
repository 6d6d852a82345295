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

own_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' | head -n 1
}
mirror=${VM_MIRROR:-$(own_mirror)}
if [ -z "$mirror" ]; then
    # A machine that never asked its mirror does not know it by its label.
    apt-get update -qq >&2 || :
    mirror=$(own_mirror)
fi
if [ -z "$mirror" ]; then
    echo "tree.sh: this machine's apt knows no Debian mirror: run 'apt-get update', or name one in VM_MIRROR" >&2
    exit 1
fi

# mmdebstrap does not read this machine's apt configuration: how to get at the mirror is carried over.
apt-config dump Acquire | grep -E '::(Proxy|Retries|Check-Valid-Until|Check-Date)\b' >"$dir/apt.conf" || :

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
