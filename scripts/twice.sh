#!/bin/sh
# twice.sh rpm|deb [OPTION…]: builds the packages twice, each time from nothing, in directories of different
# names, and fails where a byte differs; then looks at what is in them (check-packages.sh). Takes the options of
# scripts/package.sh; the packages are in target/rpm or target/deb afterwards, as from `make`.
set -eu

cd "$(dirname "$0")/.."
kind=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

packages=$(scripts/"$kind".sh "$@" --work "$work/once")
rm -rf "$work/once"
# What a build could take up besides: where it is, who asks, when, in which words.
(umask 027 && LC_ALL=C.UTF-8 TZ=Asia/Tokyo scripts/"$kind".sh "$@" --work "$work/and/once/more" --out "$work/second") >/dev/null

different=0
for package in $packages; do
    sha256sum "$package"
    if ! cmp "$package" "$work/second/${package##*/}"; then
        different=1
    fi
done
if [ "$different" != 0 ]; then
    echo "twice: the second build is not the same" >&2
    exit 1
fi
echo "twice: both builds are the same, byte for byte"
# shellcheck disable=SC2086 # a path a word
scripts/check-packages.sh $packages
