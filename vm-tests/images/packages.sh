#!/bin/sh
# Makes the packages that the machines get, below DIR: guard.rpm with the binary, newer.rpm with the same
# and a higher version, and base.rpm, which provides to dnf what the package requires and Debian's own
# package manager has installed.
#
#   packages.sh BINARY DIR
set -eu

binary=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

package() {
    scripts/rpm.sh --prebuilt "$binary" --version "$2" --out "$work/$1" >/dev/null
    mv "$work/$1/ecs-netguard-$2-1.$(uname -m).rpm" "$out/$1.rpm"
}
package guard 1.0.0
package newer 1.1.0

{
    cat <<'END'
Name: debian-base
Version: 1
Release: 1
Summary: What the machine has without rpm's knowledge
License: Apache-2.0
BuildArch: noarch
AutoReqProv: no
END
    rpm -qp --requires "$out/guard.rpm" |
        sed -e '/^rpmlib(/d; /^config(/d' -e 's/^(\([^ ]*\) or .*)$/\1/; s/^/Provides: /' | sort -u
    cat <<'END'
%description
Provides by name what ecs-netguard requires.
%files
END
} >"$work/base.spec"
rpmbuild --quiet --define "_topdir $work/base" -bb "$work/base.spec"
mv "$work/base/RPMS/noarch/debian-base-1-1.noarch.rpm" "$out/base.rpm"
