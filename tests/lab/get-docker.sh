#!/bin/sh
# Fetches a Docker daemon and a static busybox for the lab, without installing anything.
#
#   get-docker.sh [DIR]      (default: target/lab-docker)
#
# Where DIR already has them, nothing is done. Elsewhere than on Debian and its kin the lab takes
# dockerd, docker and a static busybox from PATH, and this script says what is missing.
set -eu
. "$(dirname "$0")/fetch.sh"

begin docker "${1:-$(dirname "$0")/../../target/lab-docker}"
debian_or_path "Docker and a static busybox" dockerd docker containerd runc busybox

packages="docker.io containerd runc busybox-static"
# The client is a package of its own from Debian 13 on.
if apt-cache show docker-cli >/dev/null 2>&1; then
    packages="$packages docker-cli"
fi
fetch $packages

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
    fetch "$package"
done
finish
