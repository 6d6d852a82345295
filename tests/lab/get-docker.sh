#!/bin/sh
# Fetches a Docker daemon and a static busybox for the lab, without installing anything: Debian's
# packages are downloaded and unpacked into a directory of their own.
#
#   get-docker.sh [DIR]      (target/lab-docker, unless told)
#
# Where DIR already has them, nothing is done. Elsewhere than on Debian and its kin the lab takes
# dockerd, docker and a static busybox from PATH, and this script says what is missing.
set -eu

dir=${1:-$(dirname "$0")/../../target/lab-docker}
say() { echo "get-docker: $*" >&2; }

if [ -e "$dir/complete" ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    missing=
    for program in dockerd docker containerd runc busybox; do
        command -v "$program" >/dev/null || missing="$missing $program"
    done
    [ -z "$missing" ] && exit 0
    say "this is no Debian, and PATH lacks:$missing. Install Docker and a static busybox."
    exit 1
fi

# Beside its final place, and moved there at the end: an interrupted run leaves nothing half-made,
# and two at once do not mix.
mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

packages="docker.io containerd runc busybox-static"
# The client is a package of its own from Debian 13 on.
if apt-cache show docker-cli >/dev/null 2>&1; then
    packages="$packages docker-cli"
fi
download() {
    # As root: the sandbox user may not write here, and apt would warn about it each time.
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$@" >&2)
}

say "downloading $packages (nothing is installed) into $dir"
if ! download $packages; then
    say "the package lists may be old or missing: apt-get update, then again"
    apt-get -q update >&2
    download $packages
fi
for deb in "$work"/*.deb; do
    dpkg -x "$deb" "$work/root"
done

# What they link against is on most machines; what is not comes along.
missing=$(ldd "$work/root/usr/sbin/dockerd" "$work/root/usr/sbin/runc" 2>/dev/null \
    | awk '/not found/ { print $1 }' | sort -u)
for library in $missing; do
    case $library in
        libdevmapper.so.1.02.1) package=libdevmapper1.02.1 ;;
        libseccomp.so.2) package=libseccomp2 ;;
        libsystemd.so.0) package=libsystemd0 ;;
        *) say "dockerd needs $library, and this script does not know its package"; exit 1 ;;
    esac
    say "also $package, for $library"
    download "$package"
    dpkg -x "$work/${package}"_*.deb "$work/root"
done

mkdir "$work/done"
mv "$work/root"/* "$work/done/"
touch "$work/done/complete"
if ! mv -T "$work/done" "$dir" 2>/dev/null && [ ! -e "$dir/complete" ]; then
    rm -rf "$dir"
    mv -T "$work/done" "$dir"
fi
say "done: $(du -sh "$dir" | cut -f1)"
