#!/bin/sh
# Makes what QEMU boots from a root tree that tree.sh made, beside it: TREE/../qemu-<hash>/ with vmlinuz,
# initrd.img, root.ext4 and kernel (the kernel's release). Prints that directory. The hash is that of
# this file and initrd-init.sh, so an image that is there is used again; the
# link TREE/../qemu is the last one made. No loop device and no mount:
# `mke2fs -d` copies the tree into the file system.
#
#   disk.sh TREE
set -eu

tree=$(cd "$1" && pwd -P)
here=$(cd "$(dirname "$0")" && pwd)
hash=$(cat "$here/disk.sh" "$here/initrd-init.sh" | sha256sum | cut -c1-12)
out=$(dirname "$tree")/qemu-$hash
PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "disk.sh: $*" >&2
    exit 1
}

# One builder at a time; one that waited finds it done.
exec 9>"$out.lock"
flock 9
done_with() {
    ln -sfn "qemu-$hash" "$(dirname "$tree")/qemu"
    echo "$out"
}
if [ -e "$out/kernel" ]; then
    done_with
    exit
fi
for program in mke2fs cpio busybox gzip xz; do
    command -v $program >/dev/null || fail "$program is missing: run 'scripts/setup.sh vm'"
done
for old in "$(dirname "$tree")"/qemu-*/; do
    rm -rf "$old"
done
set -- "$tree"/lib/modules/*
if [ $# != 1 ] || [ ! -d "$1" ]; then
    fail "there is not exactly one kernel in $tree/lib/modules"
fi
kernel=$(basename "$1")
work=$out/initrd
mkdir -p "$work/bin" "$work/modules" "$work/proc" "$work/sys" "$work/dev" "$work/root"
cp "$tree/boot/vmlinuz-$kernel" "$out/vmlinuz"

# The initial RAM disk: busybox, and the modules that stand between the kernel and its root.
cp "$(command -v busybox)" "$work/bin/busybox"
install -m 755 "$here/initrd-init.sh" "$work/init"
# What a kernel has built in is not listed; what it does not know (a checksum that has become part of
# another module) is no fault.
for wanted in virtio_pci virtio_blk crc32c_generic ext4; do
    chroot "$tree" modprobe --set-version "$kernel" --show-depends "$wanted" 2>/dev/null || :
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$out/modules"
order=100
while read -r module; do
    to=$work/modules/$order-$(basename "$module")
    case $module in
        *.ko) cp "$tree$module" "$to" ;;
        *.ko.xz) xz -dc "$tree$module" >"${to%.xz}" ;;
        *) fail "$module: packed in a way that is not known here" ;;
    esac
    order=$((order + 1))
done <"$out/modules"
(cd "$work" && find . | cpio --quiet -o -H newc) | gzip -1 >"$out/initrd.img"
rm -r "$work" "$out/modules"

# With its journal: a power cut is one of the things tried.
mke2fs -q -t ext4 -m 0 -L root -d "$tree" "$out/root.ext4" 4G >/dev/null
echo "$kernel" >"$out/kernel"
done_with
