#!/bin/sh
# add.sh CHECKOUT RPM…: adds ecs-netguard to a checkout of amazon-ecs-ami, so that its own `make al2023`
# bakes it in:
#   - the RPMs into additional-packages/, from which its scripts install what fits the architecture;
#   - the scripts and config.toml beside this directory into ecs-netguard/;
#   - into al2023.pkr.hcl, before its cleanup.sh: the configuration, the gate, and `release --image`.
# Done again it replaces the files and leaves the template as it is.
set -eu

fail() {
    echo "add.sh: $*" >&2
    exit 1
}
[ $# -ge 2 ] || fail "usage: add.sh CHECKOUT RPM…"
packer=$(cd "$(dirname "$0")/.." && pwd)
checkout=$1
shift
template=$checkout/al2023.pkr.hcl
[ -d "$checkout/additional-packages" ] && [ -f "$template" ] || fail "$checkout is no checkout of amazon-ecs-ami"

rm -f "$checkout"/additional-packages/ecs-netguard-*.rpm
cp "$@" "$checkout/additional-packages/"
rm -rf "$checkout/ecs-netguard"
mkdir "$checkout/ecs-netguard"
cp "$packer/config.toml" "$packer/scripts/install.sh" "$packer/scripts/gate.sh" "$packer/scripts/release.sh" \
    "$checkout/ecs-netguard/"

if grep -q 'ecs-netguard/gate\.sh' "$template"; then
    exit
fi
# The provisioner that runs cleanup.sh begins on the line before the one that names it.
new=$template.new
awk -v block="$packer/amazon-ecs-ami/provisioners.hcl" '
    function flush() { if (held != "") print held; held = "" }
    /^  provisioner "shell" \{$/ { flush(); held = $0; next }
    held != "" && /script *= "scripts\/cleanup\.sh"/ {
        while ((getline line < block) > 0) print line
        print ""
        added++
    }
    { flush(); print }
    END { flush(); if (added != 1) exit 1 }
' "$template" >"$new" || {
    rm -f "$new"
    fail "$template does not run scripts/cleanup.sh as known: add provisioners.hcl by hand before it"
}
mv "$new" "$template"
