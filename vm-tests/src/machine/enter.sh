#!/bin/sh
# Becomes the first process of a machine in namespaces. Runs in a mount namespace that is its own and
# private; nothing here reaches the machine that runs the tests.
#   enter.sh CGROUP ROOT           (first call: joins the cgroup, makes the other namespaces)
#   enter.sh --inside ROOT         (second call: process 1 in them)
set -eu

if [ "$1" != --inside ]; then
    cgroup=$1 root=$2
    echo $$ >"$cgroup/cgroup.procs"
    # --kill-child: whatever ends this process ends the machine.
    exec unshare --mount --propagation private --net --uts --ipc --pid --cgroup --fork --kill-child -- \
        sh "$0" --inside "$root"
fi

root=$2
cd "$root"

mount -t proc -o nosuid,nodev,noexec proc proc
# Sysctls that are not of a namespace are the whole machine's.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
for file in sysrq-trigger kmsg kcore; do
    if [ -e "proc/$file" ]; then
        mount --bind /dev/null "proc/$file"
    fi
done
# Read-only, by which systemd knows that no udev is needed.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup

mount -t tmpfs -o nosuid,mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    : >dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs run
mount -t tmpfs -o nosuid,nodev tmpfs tmp

mkdir run/old
pivot_root . run/old
exec chroot . sh -c 'umount -l /run/old && rmdir /run/old &&
    exec env -i container=ecs-netguard-test PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
        /sbin/init systemd.unified_cgroup_hierarchy=1 --log-target=journal'
