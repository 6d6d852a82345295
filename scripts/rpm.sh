#!/bin/sh
# Builds the packages by packaging/rpm/ecs-netguard.spec, from the files that git tracks, into
# target/rpm (or --out), and prints their paths. Byte-identical from the same commit.
#
#   --arch ARCH        x86_64 or aarch64; this machine's own by default
#   --version VERSION  the package's version, and
#   --release RELEASE  its release, for tests of upgrades; the binary keeps its own version
#   --prebuilt BINARY  package this binary instead of building one: seconds
#   --out DIR          where the packages go
#   --work DIR         where they are built; a temporary directory by default, removed afterwards
#   --sign KEY         sign the packages with this key of gpg's (GNUPGHOME)
set -eu

cd "$(dirname "$0")/.."
# The modes of the sources come into their package, and its checksum into the others.
umask 022

arch=$(uname -m)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
release=1
prebuilt=
out=${CARGO_TARGET_DIR:-target}/rpm
work=
key=
while [ $# -gt 0 ]; do
    case $1 in
        --arch | --version | --release | --prebuilt | --out | --work | --sign)
            [ $# -gt 1 ] || { echo "rpm.sh: $1 asks for a value" >&2; exit 2; }
            ;;
        *) echo "rpm.sh: $1 is not known; its head says what is" >&2; exit 2 ;;
    esac
    case $1 in
        --arch) arch=$2 ;;
        --version) version=$2 ;;
        --release) release=$2 ;;
        --prebuilt) prebuilt=$(realpath "$2") ;;
        --out) out=$2 ;;
        --work) work=$2 ;;
        --sign) key=$2 ;;
    esac
    shift 2
done
case $arch in
    x86_64 | aarch64) ;;
    *) echo "rpm.sh: --arch is x86_64 or aarch64, not $arch" >&2; exit 2 ;;
esac

mkdir -p "$out"
out=$(realpath "$out")
if [ -z "$work" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work/SOURCES"
work=$(realpath "$work")

# The time of everything in the packages.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# archive FILE DIRECTORY NAME…: as many bytes, and the same, whichever machine makes it.
archive() {
    file=$1 directory=$2
    shift 2
    tar --directory "$directory" --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
        --numeric-owner --mode=u+rw,go=rX --transform "$transform" --create "$@" | gzip -n -6 >"$file"
}

if ! git diff --quiet HEAD; then
    echo "rpm.sh: with changes that are not committed" >&2
fi
git ls-files >"$work/tracked"
transform="s|^|ecs-netguard-$version/|"
archive "$work/SOURCES/ecs-netguard-$version.tar.gz" . --no-recursion --files-from "$work/tracked"

# What is given here stands in the spec of the source package: `rpmbuild --rebuild` needs no arguments.
{
    echo "%global package_version $version"
    echo "%global package_release $release"
    echo "%{lua: posix.setenv(\"SOURCE_DATE_EPOCH\", \"$SOURCE_DATE_EPOCH\")}"
    cat packaging/rpm/ecs-netguard.spec
} >"$work/ecs-netguard.spec"
set -- --define "_topdir $work" --define "_tmppath $work" --target "$arch-linux" --nodeps
if [ -n "$prebuilt" ]; then
    made=$work/made
    mkdir -p "$made"
    ${CARGO:-cargo} run --locked --quiet -p ecs-netguard --example man -- "$made"
    for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do :; done
    scripts/licences.sh "$arch-unknown-linux-gnu" "$crates" >"$made/THIRD-PARTY.txt"
    cp "$prebuilt" "$made/ecs-netguard"
    export PREBUILT_DIR="$made"
    set -- "$@" --with prebuilt -bb
else
    if [ "$arch" != "$(uname -m)" ]; then
        assignments=$(scripts/cross.sh "$arch" "$work/cross")
        eval "$assignments"
        export RUST_FLAGS
    fi
    scripts/vendor.sh "$work/vendored"
    transform='s|^\./||'
    archive "$work/SOURCES/ecs-netguard-$version-vendor.tar.gz" "$work/vendored" .cargo vendor
    set -- "$@" -ba
fi

log=$work/rpmbuild.log
# --nodeps above: where rpm is not the system's own, its database knows of no compiler.
if ! rpmbuild "$@" "$work/ecs-netguard.spec" >"$log" 2>&1; then
    cat "$log" >&2
    echo "rpm.sh: rpmbuild failed; its own words are above" >&2
    exit 1
fi

find "$work/RPMS" "$work/SRPMS" -name '*.rpm' 2>/dev/null | LC_ALL=C sort | while read -r package; do
    if [ -n "$key" ]; then
        # Debian's rpm looks for gpg2, which is called gpg there.
        rpmsign --define "_gpg_name $key" --define "__gpg $(command -v gpg)" --addsign "$package" >"$work/sign" 2>&1 || {
            cat "$work/sign" >&2
            echo "rpm.sh: $package could not be signed with $key; is it in 'gpg --list-secret-keys'?" >&2
            exit 1
        }
    fi
    cp "$package" "$out/"
    echo "$out/${package##*/}"
done
