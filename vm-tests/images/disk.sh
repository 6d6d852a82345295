#!/bin/sh
# Makes what QEMU boots from a root tree: `disk.sh TREE OUT` writes OUT/vmlinuz, OUT/initrd.img and
# OUT/root.ext4. No loop device and no mount: `mke2fs -d` copies the tree into the file system.
set -eu
tree=$1
out=$2
here=$(dirname "$0")

fail() {
    echo "disk.sh: $*" >&2
    exit 1
}

for program in mke2fs cpio busybox gzip; do
    PATH="$PATH:/usr/sbin:/sbin" command -v $program >/dev/null || fail "$program is missing: run 'scripts/setup.sh vm'"
done
PATH="$PATH:/usr/sbin:/sbin"

set -- "$tree"/lib/modules/*
[ $# = 1 ] && [ -d "$1" ] || fail "$tree has not exactly one kernel in lib/modules"
kernel=$(basename "$1")
mkdir -p "$out"
cp "$tree/boot/vmlinuz-$kernel" "$out/vmlinuz"

# The initial RAM disk: busybox, and the modules that stand between the kernel and its root.
work=$(mktemp -d "$out/.initrd.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/modules" "$work/proc" "$work/sys" "$work/dev" "$work/root"
cp "$(command -v busybox)" "$work/bin/busybox"
cp "$here/initrd-init.sh" "$work/init"
chmod 755 "$work/init"
n=10
# A checksum that a kernel has built in, or does not have any more, is no fault.
for wanted in virtio_pci virtio_blk crc32c_generic ext4; do
    chroot "$tree" modprobe --set-version "$kernel" --show-depends $wanted 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$work/list"
while read -r module; do
    name=$(basename "$module")
    case $name in
        *.ko) cp "$tree$module" "$work/modules/$n-$name" ;;
        *.ko.xz) xz -dc "$tree$module" >"$work/modules/$n-${name%.xz}" ;;
        *.ko.zst) zstd -qdc "$tree$module" >"$work/modules/$n-${name%.zst}" ;;
        *) fail "$module is packed in a way not known here" ;;
    esac
    n=$((n + 1))
done <"$work/list"
rm "$work/list"
(cd "$work" && find . | cpio --quiet -o -H newc) | gzip -1 >"$out/initrd.img"

# With its journal: a power cut is one of the things tried.
rm -f "$out/root.ext4"
mke2fs -q -t ext4 -m 0 -E lazy_itable_init=1,lazy_journal_init=1 -L root -d "$tree" "$out/root.ext4" "${DISK_SIZE:-4G}"
