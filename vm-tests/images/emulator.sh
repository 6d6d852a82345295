#!/bin/sh
# Sees to an emulator that runs newer kernels: QEMU 7.2 (Debian 12) leaves garbage in the flags register
# now and then (seen: 10 of 78 boots of Linux 6.12 ended in a panic, with 10.0 and the same kernel
# none of 25). Where this machine's QEMU is older than 9, the one of Debian's backports is unpacked, not
# installed, to DIR/emulator, where the harness finds it; the libraries are those of the older one.
#
#   emulator.sh [DIR]          DIR: target/vm
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/mirror.sh"
. "$here/backports.sh"
out=${1:-$here/../../target/vm}
emulator=qemu-system-x86_64

if ! command -v $emulator >/dev/null; then
    echo "emulator.sh: $emulator is missing: run 'scripts/setup.sh vm'" >&2
    exit 1
fi
major=$($emulator --version | sed -n 's/^QEMU emulator version \([0-9]*\)\..*/\1/p')
if [ "$major" -ge 9 ] || [ -x "$out/emulator/usr/bin/$emulator" ]; then
    exit
fi
mkdir -p "$out"
work=$(mktemp -d "$out/emulator.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir root
echo "emulator.sh: fetching a newer QEMU ($emulator here is $major)" >&2
backports_of "$(. /etc/os-release && echo "$VERSION_CODENAME")"
backports apt-get -qq download qemu-system-x86 qemu-system-data seabios
for package in *.deb; do
    dpkg-deb -x "$package" root
done
root/usr/bin/$emulator --version >/dev/null
rm -rf ../emulator
mv root ../emulator
