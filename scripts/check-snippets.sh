#!/bin/sh
# Checks packaging/snippets: runs what can be run on a host of its own (scripts/snippets/sandbox.sh), validates the
# rest, and prints which was done. As root; without an account. What it needs is fetched into target/snippets: from
# PyPI, npm and Debian.
#
#   check-snippets.sh [--record]     --record writes scripts/snippets/recorded anew: look at the difference
set -eu

cd "$(dirname "$0")/.."
scripts/setup.sh snippets
snippets=packaging/snippets
checks=scripts/snippets
tools=$(mkdir -p "${CARGO_TARGET_DIR:-target}/snippets" && cd "${CARGO_TARGET_DIR:-target}/snippets" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

CDK="aws-cdk-lib@2.276.0 constructs@10.8.1 typescript@5.9.3 @types/node@22.19.0"
# Generated from the schema of Terraform's AWS provider 6.66.0.
BINDINGS=@cdktn/provider-aws@25.7.0

# once NAME VERSIONS COMMAND...: fetches NAME, unless these versions of it are there.
once() {
    name=$1 versions=$2
    shift 2
    [ "$(cat "$tools/$name.done" 2>/dev/null)" != "$versions" ] || return 0
    echo "check-snippets: fetching $name" >&2
    rm -rf "${tools:?}/$name"
    "$@" >"$work/log" 2>&1 || fail "fetching $name failed"
    echo "$versions" >"$tools/$name.done"
}
fail() {
    [ ! -e "$work/log" ] || cat "$work/log" >&2
    echo "check-snippets: $*" >&2
    exit 1
}

fetch_python() { /usr/bin/python3 -m venv "$tools/python" && "$tools/python/bin/pip" install -q -r $checks/requirements.txt; }
fetch_cdk() { mkdir "$tools/cdk" && npm install --silent --no-save --prefix "$tools/cdk" $CDK; }
fetch_bindings() {
    mkdir "$tools/bindings"
    (cd "$work" && npm pack --silent $BINDINGS)
    tar -xzf "$work"/cdktn-provider-aws-*.tgz -C "$tools/bindings" --wildcards 'package/lib/*/index.d.ts'
}
once python "$(cat $checks/requirements.txt)" fetch_python
PATH="$tools/python/bin:$PATH"
once cdk "$CDK" fetch_cdk
once bindings "$BINDINGS" fetch_bindings
tests/lab/get-cloud-init.sh "$tools/cloud-init"
export PYTHONPATH="$tools/cloud-init/usr/lib/python3/dist-packages"

# quietly WHAT COMMAND...: what it prints is shown where it fails.
quietly() {
    what=$1
    shift
    "$@" >"$work/log" 2>&1 || fail "$what"
}
# recorded NAME: what was written to NAME.txt is what the record says.
record=${1:-}
recorded() {
    [ "$record" != --record ] || cp "$work/$1.txt" $checks/recorded/
    diff -u $checks/recorded/"$1".txt "$work/$1.txt" >"$work/log" || fail "$1 does something else than recorded"
}
row() { printf '%-28s %-9s  %s\n' "$1" "$2" "$3"; }
sandbox() { $checks/sandbox.sh "$@"; }

find $snippets $checks scripts/check-snippets.sh -name '*.sh' >"$work/scripts"
quietly "shellcheck complains" xargs shellcheck --severity=warning <"$work/scripts"
row SNIPPET DONE HOW

# The checksum of the key that the stand-ins fetch.
KEY_SHA256=$(echo key | sha256sum | cut -d' ' -f1)
export KEY_SHA256
{
    echo "=== a dnf repository; the third check holds"
    PROVED=3 sandbox $snippets/user-data.sh
    echo "=== a bucket, a launch hook, no AWS CLI, files that are there already"
    SOURCE=s3://example CLUSTER=production AUTO_SCALING_GROUP=hosts LIFECYCLE_HOOK=proved \
        BEFORE='rm -f /usr/sbin/aws /usr/bin/aws; mkdir /etc/ecs-netguard; echo "# mine" >/etc/ecs-netguard/config.toml
            printf "ECS_X=y\nECS_AWSVPC_BLOCK_IMDS=false" >/etc/ecs/ecs.config' sandbox $snippets/user-data.sh
    echo "=== an image with the package; the block is never proved: the hook hears nothing"
    INSTALLED=1 PROVED=0 LIFECYCLE_HOOK=proved sandbox $snippets/user-data.sh
    echo "=== another key: nothing is installed, and the agent does not start"
    KEY=another sandbox $snippets/user-data.sh
} >"$work/user-data.txt"
recorded user-data
row user-data.sh run "four times, with stand-ins for dnf, rpm, aws, curl, systemctl and ecs-netguard"

quietly "cloud-config.yaml" python -m cloudinit.cmd.main schema --config-file $snippets/cloud-config.yaml
sandbox "$tools/python/bin/python" $checks/cloud_config.py $snippets/cloud-config.yaml >"$work/cloud-config.txt"
recorded cloud-config
row cloud-config.yaml run "files and commands by cloud-init's own code, with the same stand-ins; its schema"

quietly "terraform" python $checks/templates.py terraform $snippets/terraform/main.tf "$tools/bindings/package/lib" "$work/terraform.sh"
quietly "cloudformation.yaml" cfn-lint $snippets/cloudformation.yaml
quietly "cloudformation.yaml" python $checks/templates.py cloudformation $snippets/cloudformation.yaml "$work/cloudformation.sh"
mkdir "$work/cdk"
sed "s/\"0\{64\}\"/\"$KEY_SHA256\"/" $snippets/cdk/app.ts >"$work/cdk/app.ts"
cp $snippets/cdk/ecs-netguard.ts "$work/cdk"
cp $snippets/user-data.sh "$work"
ln -s "$tools/cdk/node_modules" "$work/cdk/node_modules"
quietly "cdk" sh -c 'cd "$1/cdk" && tsc=node_modules/typescript/bin/tsc && node $tsc --strict --target es2022 --module commonjs \
    --moduleResolution node --skipLibCheck --types node app.ts && CDK_OUTDIR=out node app.js' - "$work"
quietly "cdk" cfn-lint "$work/cdk/out/ecs-hosts.template.json"
quietly "cdk" python $checks/templates.py cloudformation "$work/cdk/out/ecs-hosts.template.json" "$work/cdk.sh"
for other in cloudformation cdk; do
    quietly "$other has other user data than terraform" cmp "$work/terraform.sh" "$work/$other.sh"
done
sandbox "$work/terraform.sh" >"$work/launch-templates.txt"
recorded launch-templates
row terraform/ parsed "arguments as in the AWS provider's schema, references; its user data run as above"
row cloudformation.yaml validated "cfn-lint; its user data run as above"
row cdk/ run "compiled, synthesised, the template validated by cfn-lint; its user data run as above"

export ANSIBLE_HOME="$work/ansible" ANSIBLE_LOCALHOST_WARNING=False NO_COLOR=1
(cd $snippets/ansible && quietly "ansible-lint" ansible-lint --offline -q --profile production .)
STAND_INS=systemctl PRINT=1 sandbox $checks/ansible.sh "$tools/python/bin/ansible-playbook" \
    "$PWD/$snippets/ansible/playbook.yml" >"$work/ansible.txt" || {
    cat "$work/ansible.txt" >&2
    fail "the playbook fails"
}
recorded ansible
row ansible/ run "twice on a Debian, with apt and a signed repository; dnf's tasks only by ansible-lint"

for document in install check inventory; do
    quietly "ssm/$document.yaml" python $checks/ssm.py $snippets/ssm/$document.yaml "$work"
done
quietly "ssm" python $checks/ssm.py $snippets/ssm/check.yaml "$work" "guarantees=imds-block awsvpc-imds-block" packets=yes
quietly "shellcheck complains" shellcheck --exclude=SC2050 "$work"/install-*.sh "$work"/check-*.sh "$work"/inventory-*.sh
export AWS_SSM_INSTANCE_ID=i-0123456789abcdef0
{
    for script in install-posture install-proof check-check; do
        echo "=== $script"
        sandbox "$work/$script.sh"
    done
    for config in packaging/packer/config.toml packaging/config.toml; do
        echo "=== inventory-inventory, with $config"
        # Its comments left out, but for the one that is a setting.
        BEFORE="mkdir /etc/ecs-netguard; sed -n '/^[^#]/p; /^#ssm_inventory/p' $config >/etc/ecs-netguard/config.toml" \
            sandbox "$work/inventory-inventory.sh"
    done
} >"$work/ssm.txt"
recorded ssm
row ssm/\*.yaml run "each script, with stand-ins; the documents by a schema after the user guide"

for package in ecs-netguard-0.2.0-1.x86_64.rpm ecs-netguard-0.2.0-1.aarch64.rpm ecs-netguard_0.2.0-1_amd64.deb; do
    echo package >"$work/$package"
    set -- "$@" "$work/$package"
done
[ "$record" != --record ] || shift
echo key >"$work/ecs-netguard.asc"
python $snippets/ssm/distributor/package.py "$work/distributor" "$work/ecs-netguard.asc" "$@"
{
    sed 's/"[0-9a-f]\{64\}"/"CHECKSUM"/' "$work/distributor/manifest.json"
    for kind in rpm deb; do
        mkdir "$work/$kind"
        python -m zipfile -e "$work/distributor/ecs-netguard-0.2.0-$kind-x86_64.zip" "$work/$kind"
        for script in install update uninstall; do
            echo "=== $kind: $script.sh"
            BEFORE="[ $kind = rpm ] || rm /usr/sbin/dnf" sandbox sh "$work/$kind/$script.sh"
        done
    done
} >"$work/distributor.txt"
recorded distributor
row ssm/distributor/ run "packed; each script from the archives, with stand-ins"
python $checks/inventory.py docs/operations.md src/status/snapshots/*__inventory__*.snap >"$work/log" 2>&1 ||
    fail "the query of docs/operations.md does not find the violated guarantee"
row "query of the inventory" run "on a document of the daemon's, in place of AWS's answer"
row ../packer/ "" "make packer-validate, make packer-test"
