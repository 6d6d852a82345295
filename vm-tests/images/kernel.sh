#!/bin/sh
# Makes of a root tree that tree.sh made the same tree with the kernel of its suite's backports, beside it:
# DIR/SUITE-backports/root. What is the same is the same file.
#
#   kernel.sh SUITE [DIR]      DIR: target/vm
set -eu

suite=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/mirror.sh"
. "$here/backports.sh"
out=$(cd "${2:-$here/../../target/vm}" && pwd)
tree=$(cd "$out/$suite/root" && pwd -P)
hash=$({ echo "$tree"; cat "$here/kernel.sh"; } | sha256sum | cut -c1-12)
dir=$out/$suite-backports-$hash
mkdir -p "$dir"

# One builder at a time; one that waited finds it done.
exec 9>"$dir/lock"
flock 9
if [ ! -e "$dir/complete" ]; then
    echo "kernel.sh: fetching the kernel of $suite-backports" >&2
    rm -rf --one-file-system "$dir/root" "$dir/work"
    cp -al "$tree" "$dir/root"
    rm -rf "$dir"/root/boot/* "$dir"/root/lib/modules/*
    mkdir "$dir/work"
    cd "$dir/work"
    backports_of "$suite"
    package=$(backports apt-cache show linux-image-cloud-amd64 |
        sed -n 's/^Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
    backports apt-get -qq download "$package"
    dpkg-deb --fsys-tarfile "$package"_*.deb |
        tar -x -C "$dir/root" --keep-directory-symlink ./boot ./lib/modules
    chroot "$dir/root" depmod "${package#linux-image-}"
    cd "$dir"
    rm -rf work
    touch complete
fi
ln -sfn "$(basename "$dir")" "$out/$suite-backports"
