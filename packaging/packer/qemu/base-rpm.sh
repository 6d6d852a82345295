#!/bin/sh
# base-rpm.sh RPM OUT: writes OUT, an empty package that provides what RPM requires. On a Debian machine rpm's
# own database knows nothing of what is installed; dnf, which the scripts use as on Amazon Linux, asks it.
set -eu
rpm=$1
out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    printf '%s\n' 'Name: al2023-base' 'Version: 1' 'Release: 1' 'Summary: What the test machine has from Debian' \
        'License: Apache-2.0' 'BuildArch: noarch' 'Provides: iptables-nft'
    rpm -qp --requires "$rpm" | grep -v -e '^rpmlib(' -e '^config(' -e '^(' | sort -u | sed 's/^/Provides: /'
    printf '%s\n' '%description' 'What the test machine has from Debian.' '%files'
} >"$work/base.spec"
rpmbuild --quiet -bb --define "_topdir $work" --define "_rpmdir $work" --define '_rpmfilename base.rpm' \
    "$work/base.spec" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
mv "$work/base.rpm" "$out"
