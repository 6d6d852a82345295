#!/bin/sh
# Are `make demo` and `make test` all that a fresh machine needs? Makes a bare Debian 12 (debootstrap's minimum with
# make, git and ca-certificates), and runs each command as the first one in a copy of its own, with a clone of what is
# committed: in this machine's PID namespace and in a new one. Before that, what a Debian without its security archive
# says, which has no Rust that is new enough. Prints a table; fails where a command does. As root.
#
#   bare.sh [DIR] [COMMAND...]      DIR: target/vm; COMMAND: demo test
#
# The network is this machine's (Debian's and Rust's packages come by it); the commands make their own namespaces.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/images/mirror.sh"
out=$(realpath -m "${1:-$here/../target/vm}")/bare
[ $# = 0 ] || shift
[ $# != 0 ] || set -- demo test
mkdir -p "$out"

security=$(mirror Debian-Security)
security=${security:-http://security.debian.org/debian-security}
apt_access "$out/apt.conf"
if [ ! -e "$out/complete" ]; then
    echo "bare: making the root (a minute)" >&2
    rm -rf --one-file-system "$out/root"
    mmdebstrap --mode=root --variant=minbase --include=make,git,ca-certificates --skip=output/dev \
        --aptopt="$out/apt.conf" bookworm "$out/root" "$(debian_mirror)" >"$out/log" 2>&1 || {
        tail -n 30 "$out/log" >&2
        exit 1
    }
    touch "$out/complete"
fi
# What this machine reaches the registries with: names, certificates and proxies.
access=$(env | grep -iE '^(https?_proxy|no_proxy|ssl_cert_(file|dir)|git_ssl_cainfo|cargo_(http|net|registries)_[a-z_]*)=' || :)

# inside ROOT UNSHARE-OPTIONS COMMAND: as a login on the bare machine would run it. Ends with all that it started.
inside() {
    root=$1
    unshare --mount --propagation slave $2 --fork --kill-child sh -euc '
        mount --bind "$1" "$1"
        cd "$1"
        mount -t proc proc proc
        for dir in sys dev; do mount --rbind /$dir $dir; done
        mount -t tmpfs tmpfs run
        mkdir run/before
        pivot_root . run/before
        umount -l run/before
        rmdir run/before
        exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $3 sh -c "$2"
    ' sh "$root" "$3" "$access"
}

# attempt LABEL UNSHARE-OPTIONS SECURITY COMMAND
attempt() {
    root=$out/$(echo "$1" | tr -c 'A-Za-z\n' -)
    rm -rf --one-file-system "$root"
    cp -a "$out/root" "$root"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp "$out/apt.conf" "$root/etc/apt/apt.conf.d/99access"
    [ -z "$3" ] || echo "deb $security bookworm-security main" >>"$root/etc/apt/sources.list"
    git clone -q "$here/.." "$root/root/ecs-netguard"
    began=$(date +%s)
    code=0
    inside "$root" "$2" "cd && cd ecs-netguard && $4" >"$root.log" 2>&1 || code=$?
    rm -rf --one-file-system "$root"
    printf '%-44s %6s s  exit code %s\n' "$1" $(($(date +%s) - began)) "$code"
}

failed=0
result=$(attempt "without the security archive" "" "" "make demo")
echo "$result"
grep -q 'deb .*bookworm-security main' "$out/without-the-security-archive.log" || failed=1
for command; do
    for pid in "" --pid; do
        result=$(attempt "make $command${pid:+, in a PID namespace}" "$pid" yes "make $command")
        echo "$result"
        case $result in
            *"exit code 0") ;;
            *)
                failed=1
                tail -n 40 "$out/$(echo "${result%%  *}" | tr -c 'A-Za-z\n' -).log" >&2
                ;;
        esac
    done
done
echo "bare: the logs are $out/*.log"
exit $failed
