#!/bin/sh
# `make packer-test`, or `test.sh BINARY`: bakes the test machine with Packer's qemu builder and the scripts
# that bake an AMI, looks at the disk that comes out, starts two machines from it, has the gate refuse what
# it must, and bakes what amazon-ecs-ami makes of the RPM alone. As root: it makes a root tree, and a network
# namespace of its own with nothing in it but loopback. What machines and Packer said stays in target/packer.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
work=$target/packer
PATH=$PATH:/usr/sbin:/sbin

say() {
    echo "packer-test: $* ($(($(date +%s) - started)) s)"
}
fail() {
    echo "packer-test: $*; the logs are in $work" >&2
    exit 1
}

if [ "${1:-}" != isolated ]; then
    binary=$(readlink -e "${1:-}") || {
        echo "packer-test: there is no '${1:-}': run 'make build'" >&2
        exit 1
    }
    "$root/scripts/setup.sh" packer vm qemu rpm deb repo
    "$root/vm-tests/images/packages.sh" "$binary" "$target/packer-rpm"
    tree=$("$root/vm-tests/images/tree.sh" bookworm "$target/vm")
    image=$("$root/vm-tests/images/disk.sh" "$tree")
    exec unshare --net "$0" isolated "$target/packer-rpm" "$image"
fi
packages=$2
image=$3
started=$(date +%s)
ip link set lo up
rm -rf "$work"
mkdir -p "$work/overlay"
cd "$work"

# What an instance gets from cloud-init: an address, host keys where there are none, a key that may log in.
ssh-keygen -q -t ed25519 -N '' -C packer-test -f key
cat >overlay/10-packer.network <<'END'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
END
cat >overlay/keys.conf <<'END'
[Service]
ExecStartPre=
ExecStartPre=/usr/bin/ssh-keygen -A
ExecStartPre=/usr/sbin/sshd -t
END
echo ECS_ENABLE_TASK_IAM_ROLE=true >overlay/ecs.config
cp --sparse=always "$image/root.ext4" base.ext4
# Written without a mount. root.ext4 is of a tree, so what is made here is not there yet.
cat >overlay/commands <<'END'
write key.pub /root/.ssh/authorized_keys
sif /root/.ssh/authorized_keys mode 0100600
write overlay/10-packer.network /etc/systemd/network/10-packer.network
mkdir /etc/systemd/system/ssh.service.d
write overlay/keys.conf /etc/systemd/system/ssh.service.d/keys.conf
symlink /etc/systemd/system/multi-user.target.wants/ssh.service /lib/systemd/system/ssh.service
symlink /etc/systemd/system/multi-user.target.wants/systemd-networkd.service /lib/systemd/system/systemd-networkd.service
mkdir /etc/ecs
write overlay/ecs.config /etc/ecs/ecs.config
END
debugfs -w -f overlay/commands base.ext4 >overlay/log 2>&1

export CHECKPOINT_DISABLE=1 PACKER_NO_COLOR=1 PACKER_CONFIG_DIR="$work" PACKER_CACHE_DIR="$work/cache"

# bake NAME BUILD [OPTION…]: the image is NAME/root.ext4, what Packer said NAME.log.
bake() {
    name=$1
    build=$2
    shift 2
    timeout 1200 packer build -only="$build.*" "$@" -var rpm="$packages/guard.rpm" -var base_rpm="$packages/base.rpm" -var image="$work/base.ext4" \
        -var kernel="$image/vmlinuz" -var initrd="$image/initrd.img" \
        -var key="$work/key" -var output="$work/$name" "$here" >"$name.log" 2>&1
}

# The machine-id of the machine on which NAME was baked.
builder_of() {
    sed -n 's/.*builder: \([0-9a-f]\{32\}\)$/\1/p' "$1.log" | grep . || fail "$1.log does not tell the build machine's id"
}

# The names in a directory of a disk that nothing runs on.
names() {
    debugfs -R "ls -p $2" "$1" 2>>debugfs.log | cut -s -d/ -f6 | grep -v '^\.\.*$' || true
}

# start NAME DISK: a machine with a copy of the disk. Its ssh is 127.0.0.1:2222.
start() {
    name=$1
    cp --sparse=always "$2" "$name.ext4"
    qemu-system-x86_64 -M q35,hpet=off -cpu qemu64 -m 1536 -smp 2 -accel tcg,thread=multi,tb-size=512 \
        -nodefaults -no-user-config -display none -serial "file:$name.serial" \
        -kernel "$image/vmlinuz" -initrd "$image/initrd.img" \
        -append 'root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off apparmor=0 audit=0 tsc=reliable clocksource=tsc no_timer_check net.ifnames=0' \
        -drive "if=virtio,file=$name.ext4,format=raw,cache=unsafe" \
        -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng \
        -netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22 -device virtio-net-pci,netdev=net &
    machine=$!
    trap 'kill $machine 2>/dev/null || true' EXIT
    tries=0
    until inside true 2>ssh.log; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "$name cannot be reached: $(tail -n 1 ssh.log)"
        kill -0 $machine 2>/dev/null || fail "$name stopped by itself"
        sleep 1
    done
}

stop() {
    # The connection may end before the answer.
    inside systemctl start --no-block poweroff.target || true
    tries=0
    while kill -0 $machine 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "the machine does not power off"
        sleep 1
    done
    wait $machine || fail "the machine ended with $?"
    trap - EXIT
}

# Runs a command in the machine; its input is this one's.
inside() {
    ssh -i key -p 2222 -o BatchMode=yes -o ConnectTimeout=20 -o LogLevel=ERROR -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null root@127.0.0.1 "$@"
}

bake baked template || fail "baking failed: $(tail -n 3 baked.log)"
said() {
    grep -q -- "$1" baked.log || fail "baked.log does not say '$1'"
}
said 'gate: passed'
said '  imds-block  *held'
said '  task-credentials  *held'
# There was something to forget.
said 'forgot  */var/lib/ecs-netguard/state.json'
builder=$(builder_of baked)
say "baked on machine $builder"

# Before a first start can have repaired anything.
for path in /var/lib/ecs-netguard /var/log/journal; do
    left=$(names baked/root.ext4 $path)
    [ -z "$left" ] || fail "$path of the image has $left"
done
debugfs -R 'stat /etc/machine-id' baked/root.ext4 2>>debugfs.log | grep -q 'Size: 0$' || fail "the image has a machine-id"
say "the image has no state, no journal and no machine-id"

: >machines
for name in first second; do
    start $name baked/root.ext4
    inside sh -s "$builder" nothing <"$here/inside.sh" >>machines 2>"$name.log" || fail "$name: $(cat "$name.log")"
    say "the $name machine from the image: $(sed -n 1p "$name.log"), of its own"
    [ $name = second ] || stop
done
[ "$(sort -u machines | wc -l)" = 2 ] || fail "two machines have one machine-id: $(cat machines)"

# On the second machine, the gate against a firewall that drops credentials which the guard may not let in.
{
    echo 'set -e; iptables -P INPUT DROP; iptables -I INPUT -p tcp --dport 22 -j ACCEPT'
    echo 'printf "[imds]\nblock = \"always\"\n[credentials]\nopen_input = \"never\"\n" >/etc/ecs-netguard/config.toml'
    cat "$here/../scripts/gate.sh"
} | inside sh -s >refused.log 2>&1 && fail "the gate passed a machine that drops credentials"
grep -q '^gate: ecs-netguard check exits with 1 ' refused.log || fail "the gate failed for another reason: $(tail -n 1 refused.log)"
stop
say "the gate refuses: $(grep -m 1 -o 'task-credentials *VIOLATED' refused.log)"

# And a refusal ends the build, with no image.
printf '[imds]\nblock = "never"\n' >never.toml
! bake refused-build template -var config_file="$work/never.toml" || fail "Packer made an image that the gate refused"
grep -q 'imds-block is not required on this host' refused-build.log || fail "the build failed for another reason: $(tail -n 3 refused-build.log)"
[ ! -e refused-build ] || fail "a refused build left an image"
say "a refused build leaves no image"

# amazon-ecs-ami with the RPM alone: nothing is released, so the image brings the build machine's state along.
bake additional additional-package || fail "baking with the RPM alone failed: $(tail -n 3 additional.log)"
names additional/root.ext4 /var/lib/ecs-netguard | grep -q '^state\.json$' || fail "the build machine left no state to discard"
start third additional/root.ext4
inside sh -s "$(builder_of additional)" discard <"$here/inside.sh" >machines 2>third.log || fail "third: $(cat third.log)"
stop
say "with the RPM alone: $(sed -n 1p third.log), and discards the build machine's state"

rm -f ./*.ext4 baked/root.ext4 additional/root.ext4
echo "packer-test: passed"
