#!/bin/sh
# Validates the Packer templates, offline and without an account: in a network namespace of its own, with
# nothing in it but loopback. Debian's Packer 1.6.6 does it; the lines that it does not know, between
# `# >> packer 1.7` and `# <<`, are left out.
set -eu

cd "$(dirname "$0")/.."
scripts/setup.sh packer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Packer keeps its configuration, cache and log where these say.
export CHECKPOINT_DISABLE=1 PACKER_NO_COLOR=1 PACKER_CONFIG_DIR="$work" PACKER_CACHE_DIR="$work/cache"
: >"$work/ecs-netguard.rpm"
mkdir "$work/amazon-ebs"
cp -R packaging/packer/scripts packaging/packer/config.toml "$work/amazon-ebs/"

for template in packaging/packer/*.pkr.hcl packaging/packer/qemu/*.pkr.hcl; do
    packer fmt -check "$template" >/dev/null || {
        echo "check-packer: $template is not formatted: run 'packer fmt $template'" >&2
        exit 1
    }
done

# validate TEMPLATE-DIRECTORY [OPTION…]
validate() {
    dir=$1
    shift
    unshare --net sh -c 'ip link set lo up && exec "$@"' - packer validate "$@" -var rpm="$work/ecs-netguard.rpm" "$dir"
}

template=packaging/packer/ecs-netguard.pkr.hcl
sed '/# >> packer 1\.7/,/# <</d' $template >"$work/amazon-ebs/ecs-netguard.pkr.hcl"
left_out=$(($(wc -l <$template) - $(wc -l <"$work/amazon-ebs/ecs-netguard.pkr.hcl")))
for architecture in x86_64 arm64; do
    validate "$work/amazon-ebs" -var architecture=$architecture >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        echo "check-packer: $template is not valid" >&2
        exit 1
    }
done
echo "$template is valid, but for $left_out lines that need a newer Packer"

template=packaging/packer/qemu/ecs-netguard-test.pkr.hcl
: >"$work/image"
ssh-keygen -q -t ed25519 -N "" -f "$work/key"
validate packaging/packer/qemu -var base_rpm="$work/ecs-netguard.rpm" -var image="$work/image" -var kernel="$work/image" -var initrd="$work/image" \
    -var key="$work/key" -var output="$work/out" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    echo "check-packer: $template is not valid" >&2
    exit 1
}
echo "$template is valid"
