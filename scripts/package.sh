# What rpm.sh and deb.sh have in common, read by them: their options, and what both packages are made of. Sets
# arch, version, release, out, work, key and, in $made, the directory that scripts/made.sh fills; where no
# binary is given, made is empty and $work/SOURCES has the sources and the crates.
#
#   --arch ARCH        x86_64 or aarch64; this machine's own by default
#   --version VERSION  the package's version, and
#   --release RELEASE  its release, for tests of upgrades; the binary keeps its own version
#   --prebuilt BINARY  package this binary instead of building one: seconds
#   --out DIR          where the packages go
#   --work DIR         where they are built; a temporary directory by default, removed afterwards
#   --sign KEY         sign them with this key of gpg's (GNUPGHOME); RPMs alone

self=${0##*/}
# The modes of the sources come into their package, and its checksum into the others.
umask 022

arch=$(uname -m)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
release=1
prebuilt=
out=${CARGO_TARGET_DIR:-target}/${self%.sh}
work=
key=
while [ $# -gt 0 ]; do
    case $1 in
        --arch | --version | --release | --prebuilt | --out | --work | --sign)
            [ $# -gt 1 ] || { echo "$self: $1 asks for a value" >&2; exit 2; }
            ;;
        *) echo "$self: $1 is not known; the head of scripts/package.sh says what is" >&2; exit 2 ;;
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
    *) echo "$self: --arch is x86_64 or aarch64, not $arch" >&2; exit 2 ;;
esac
triple=$arch-unknown-linux-gnu

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
    echo "$self: with changes that are not committed" >&2
fi
git ls-files >"$work/tracked"
transform="s|^|ecs-netguard-$version/|"
archive "$work/SOURCES/ecs-netguard-$version.tar.gz" . --no-recursion --files-from "$work/tracked"

made=
if [ -n "$prebuilt" ]; then
    made=$work/made
    scripts/made.sh "$triple" "$made" "$prebuilt"
else
    if [ "$arch" != "$(uname -m)" ]; then
        assignments=$(scripts/cross.sh "$arch" "$work/cross")
        eval "$assignments"
        export RUST_FLAGS
    fi
    scripts/vendor.sh "$work/vendored"
    transform='s|^\./||'
    archive "$work/SOURCES/ecs-netguard-$version-vendor.tar.gz" "$work/vendored" .cargo vendor
fi
