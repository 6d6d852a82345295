#!/bin/sh
# Builds the RPMs by packaging/rpm/ecs-netguard.spec, from the files that git tracks, into target/rpm (or
# --out), and prints their paths. Byte-identical from the same commit. scripts/package.sh lists the options.
set -eu

cd "$(dirname "$0")/.."
. scripts/package.sh

# What is given here stands in the spec of the source package: `rpmbuild --rebuild` needs no arguments.
{
    echo "%global package_version $version"
    echo "%global package_release $release"
    echo "%{lua: posix.setenv(\"SOURCE_DATE_EPOCH\", \"$SOURCE_DATE_EPOCH\")}"
    cat packaging/rpm/ecs-netguard.spec
} >"$work/ecs-netguard.spec"
set -- --define "_topdir $work" --define "_tmppath $work" --target "$arch-linux" --nodeps
if [ -n "$made" ]; then
    export PREBUILT_DIR="$made"
    set -- "$@" --with prebuilt -bb
else
    set -- "$@" -ba
fi

log=$work/rpmbuild.log
# --nodeps above: where rpm is not the system's own, its database knows of no compiler.
if ! rpmbuild "$@" "$work/ecs-netguard.spec" >"$log" 2>&1; then
    cat "$log" >&2
    echo "rpm.sh: rpmbuild failed; its own words are above" >&2
    exit 1
fi

find "$work/RPMS" "$work/SRPMS" -name '*.rpm' 2>/dev/null | LC_ALL=C sort | while read -r package; do
    if [ -n "$key" ]; then
        # Debian's rpm looks for gpg2, which is called gpg there.
        rpmsign --define "_gpg_name $key" --define "__gpg $(command -v gpg)" --addsign "$package" >"$work/sign" 2>&1 || {
            cat "$work/sign" >&2
            echo "rpm.sh: $package could not be signed with $key; is it in 'gpg --list-secret-keys'?" >&2
            exit 1
        }
    fi
    cp "$package" "$out/"
    echo "$out/${package##*/}"
done
