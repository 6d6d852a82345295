#!/bin/sh
# Makes the packages that the machines get, below DIR, with the binary: guard.rpm and guard.deb, newer.rpm and
# newer.deb, the same with a higher version, and base.rpm, which provides to dnf what the RPM (and that of the first
# release, where DIR has it) requires and Debian's own package manager has installed. repo.tar has repositories of
# guard.*, signed with a key that is thrown away.
#
#   packages.sh BINARY DIR
set -eu

binary=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What is not sent to a machine takes no time.
strip -o "$work/ecs-netguard" "$binary"

package() {
    for format in rpm deb; do
        scripts/$format.sh --prebuilt "$work/ecs-netguard" --version "$2" --out "$work/$1" >/dev/null
    done
    mv "$work/$1/ecs-netguard-$2-1.$(uname -m).rpm" "$out/$1.rpm"
    mv "$work/$1"/ecs-netguard_"$2"-1_*.deb "$out/$1.deb"
}
package guard 1.0.0
package newer 1.1.0

export GNUPGHOME="$work/gnupg"
mkdir -m 0700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key throwaway rsa3072 2>/dev/null
scripts/repo.sh throwaway "$work/repo" "$out/guard.rpm" "$out/guard.deb" >/dev/null
gpgconf --kill all
tar -C "$work" -cf "$out/repo.tar" repo

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
    for package in "$out/guard.rpm" "$out/0.1.0.rpm"; do
        [ ! -e "$package" ] || rpm -qp --requires "$package"
    done |
        sed -e '/^rpmlib(/d; /^config(/d' -e 's/^(\([^ ]*\) or .*)$/\1/; s/^/Provides: /' | sort -u
    cat <<'END'
%description
Provides by name what ecs-netguard requires.
%files
END
} >"$work/base.spec"
rpmbuild --quiet --define "_topdir $work/base" -bb "$work/base.spec"
mv "$work/base/RPMS/noarch/debian-base-1-1.noarch.rpm" "$out/base.rpm"
