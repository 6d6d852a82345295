#!/bin/sh
# Builds the Debian packages from the files that git tracks, into target/deb (or --out), and prints their
# paths. Byte-identical from the same commit. scripts/package.sh lists the options.
set -eu

cd "$(dirname "$0")/.."
. scripts/package.sh

case $arch in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
esac
if [ -n "$key" ]; then
    echo "deb.sh: apt checks the signature of a repository, not of a package: make repo SIGN_KEY=$key" >&2
    exit 2
fi

if [ -z "$made" ]; then
    made=$work/made
    tar -xzf "$work/SOURCES/ecs-netguard-$version.tar.gz" -C "$work"
    tar -xzf "$work/SOURCES/ecs-netguard-$version-vendor.tar.gz" -C "$work/ecs-netguard-$version"
    if ! "$work/ecs-netguard-$version/scripts/made.sh" "$triple" "$made" >"$work/log" 2>&1; then
        cat "$work/log" >&2
        echo "deb.sh: building failed; cargo's own words are above" >&2
        exit 1
    fi
fi

# package NAME ARCHITECTURE CONTROL: of the files in $tree, with its documents as Debian has them.
package() {
    name=$1 control=$tree/DEBIAN
    documents=$tree/usr/share/doc/$name
    install -d "$control" "$documents"
    {
        echo "Copyright 2026 the authors of ecs-netguard"
        echo "ecs-netguard is under the Apache License, version 2.0: /usr/share/common-licenses/Apache-2.0."
        [ ! -e "$tree/LICENSES/$name/THIRD-PARTY.txt" ] || { echo; cat "$tree/LICENSES/$name/THIRD-PARTY.txt"; }
    } >"$documents/copyright"
    rm -r "$tree/LICENSES"
    printf '%s (%s-%s) unstable; urgency=medium\n\n  * %s\n\n -- ecs-netguard <root@localhost>  %s\n' \
        "$name" "$version" "$release" "CHANGELOG.md of the package ecs-netguard says what is new." \
        "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -n -9 >"$documents/changelog.Debian.gz"

    (cd "$tree" && find etc -type f 2>/dev/null) | sed 's|^|/|' >"$control/conffiles"
    [ -s "$control/conffiles" ] || rm "$control/conffiles"
    (cd "$tree" && find usr -type f | LC_ALL=C sort | xargs -d '\n' md5sum) >"$control/md5sums"
    sed -e "s/@VERSION@/$version-$release/" -e "s/@ARCHITECTURE@/$2/" \
        -e "s/@SIZE@/$(du -sk --apparent-size --exclude DEBIAN "$tree" | cut -f1)/" "$3" >"$control/control"
    file=$out/${name}_$version-${release}_$2.deb
    # gzip: one compressor, one level. The times are clamped to SOURCE_DATE_EPOCH.
    dpkg-deb --root-owner-group -Zgzip -z9 --build "$tree" "$file" >/dev/null
    echo "$file"
}

install_to() { # TREE PART
    tree=$1
    DESTDIR=$tree PREFIX=/usr LICENSES=/LICENSES ZSH=/usr/share/zsh/vendor-completions \
        packaging/install.sh install "$2" "$made"
}

install_to "$work/guard" guard
install -d "$tree/DEBIAN"
install -m 0755 packaging/deb/preinst "$tree/DEBIAN"
for script in postinst prerm postrm; do
    cat "packaging/deb/$script" packaging/lifecycle.sh >"$tree/DEBIAN/$script"
    chmod 0755 "$tree/DEBIAN/$script"
done
package ecs-netguard "$architecture" packaging/deb/control

install_to "$work/monitoring" monitoring
package ecs-netguard-monitoring all packaging/deb/monitoring.control
