#!/bin/sh
# Runs a script of packaging/snippets as root, as if on a host of its own: in new namespaces (mounts, network,
# processes), on copies of /etc, /usr and /var that vanish, with stand-ins for the programs that fetch, install
# and start things. Prints what it called, what it left in /etc and /var, and its exit code.
#
#   sandbox.sh COMMAND [ARGUMENT...]
#
# From the environment: what stand-in.sh goes by; BEFORE, commands that make the host what it is; STAND_INS, the
# programs in place of which a stand-in is (the default: all); PRINT=1 prints what the script says, and no more.
set -eu

if [ -z "${SANDBOX:-}" ]; then
    SANDBOX=$(mktemp -d)
    export SANDBOX
    trap 'rmdir "$SANDBOX"' EXIT
    unshare --mount --net --pid --fork --mount-proc "$0" "$@"
    exit
fi

here=$(cd "$(dirname "$0")" && pwd)
mount --make-rprivate /
mount -t tmpfs tmpfs "$SANDBOX"
mkdir "$SANDBOX/tmp"
for tree in etc usr var; do
    mkdir "$SANDBOX/$tree" "$SANDBOX/$tree.work"
    mount -t overlay overlay -o "lowerdir=/$tree,upperdir=$SANDBOX/$tree,workdir=$SANDBOX/$tree.work" "/$tree"
done
for program in ${STAND_INS:-apt-get aws curl dnf ecs-netguard rpm sleep systemctl}; do
    # Where units and dpkg look first.
    ln -sf "$here/stand-in.sh" "/usr/sbin/$program"
done
export PATH="/usr/sbin:/usr/bin:/sbin:/bin" TMPDIR="$SANDBOX/tmp" CALLS="$SANDBOX/calls"
: >"$CALLS"
mkdir -p /etc/ecs /etc/pki/rpm-gpg /etc/yum.repos.d
eval "${BEFORE:-}"

if [ -n "${PRINT:-}" ]; then
    exec "$@"
fi
code=0
"$@" >"$SANDBOX/printed" 2>&1 || code=$?
# Names that differ from run to run and from machine to machine.
sed -e "s|$SANDBOX/tmp/tmp\.[A-Za-z0-9]*|TEMPORARY|g" -e "s/\.$(uname -m)\.rpm/.MACHINE.rpm/g" "$CALLS"
cd "$SANDBOX"
find etc var -type f -size -64k | LC_ALL=C sort | while read -r file; do
    echo "--- /$file"
    cat "$file"
done
find etc var -type c | LC_ALL=C sort | sed 's|^|--- removed: /|'
echo "--- exit code $code"
