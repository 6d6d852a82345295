#!/bin/sh
# Builds the packages twice, each time from nothing, in directories of different names, and fails where
# a byte differs; then looks at what is in them (check-rpm.sh). Takes the options of rpm.sh; the
# packages are in target/rpm afterwards, as from `make rpm`.
set -eu

cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

packages=$(scripts/rpm.sh "$@" --work "$work/once")
rm -rf "$work/once"
# What a build could take up besides: where it is, who asks, when, in which words.
(umask 027 && LC_ALL=C.UTF-8 TZ=Asia/Tokyo scripts/rpm.sh "$@" --work "$work/and/once/more" --out "$work/second") >/dev/null

different=0
for package in $packages; do
    sha256sum "$package"
    if ! cmp "$package" "$work/second/${package##*/}"; then
        different=1
    fi
done
if [ "$different" != 0 ]; then
    echo "rpm-twice: the second build is not the same" >&2
    exit 1
fi
echo "rpm-twice: both builds are the same, byte for byte"
# shellcheck disable=SC2086 # a path a word
scripts/check-rpm.sh $packages
