#!/bin/sh
# check-packages.sh PACKAGE…: what is in packages made by scripts/rpm.sh and scripts/deb.sh: files with their
# modes, owners and flags (as packaging/rpm/*.files and packaging/deb/*.files say), the scripts that they run,
# what they require; rpmlint or lintian; and the program, started: under qemu-user where it is another
# architecture's. Nothing is installed. Fails with what is not as it should be.
set -eu

cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0
complain() {
    echo "check-packages: $package: $*" >&2
    wrong=1
}

# Units, pages of commands and documents come and go: one line for all.
many() {
    sed -E '/^d.*\/share\/doc\/[^/]+\/./d
        s#(/ecs-netguard)-[a-z-]+(\.8\.gz)$#\1-*\2#; s#(/share/doc/[^/]+/).*\.[^/]+$#\1*#
        s#(/systemd/system/ecs-netguard)[a-z-]*(\.[a-z]+)$#\1*\2#' | LC_ALL=C sort -u -t: -k3
}

# contents PACKAGE: a line a file: mode, owner, flags and name.
contents() {
    case $1 in
        *.rpm) rpm -qp --qf '[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}:%{FILENAMES}\n]' "$1" ;;
        # Directories of which one of the distribution's own packages has the same are no news.
        *.deb)
            dpkg-deb --info "$1" conffiles >"$work/conffiles" 2>/dev/null || : >"$work/conffiles"
            dpkg-deb --contents "$1" | sed 's|/root|:root|' | while read -r mode owner _ _ _ file; do
                file=${file#.}
                case $file in
                    *ecs-netguard/ | /usr/share/doc/ecs-netguard*/) ;;
                    */) continue ;;
                esac
                flag=
                grep -qxF "$file" "$work/conffiles" && flag=c
                echo "$mode $owner $flag:${file%/}"
            done
            ;;
    esac | many
}

# script NAME FILE: it is a shell script that ends with lifecycle.sh as it stands, and no command in it can fail.
script() {
    sh -n "$2" || complain "$1 is no shell script"
    tail -n "$(wc -l <packaging/lifecycle.sh)" "$2" | cmp -s - packaging/lifecycle.sh ||
        complain "$1 does not end with packaging/lifecycle.sh"
    if grep -nE '^[^#]*(systemctl|systemd-sysusers|journalctl|release|"\$manage") ' "$2" |
        grep -vE '\|\| (:|printf)|is-enabled|manage='; then
        complain "$1 can fail"
    fi
}

scripts_of_rpm() {
    for name in post preun postun; do
        case $name in post) tag=POSTIN ;; preun) tag=PREUN ;; postun) tag=POSTUN ;; esac
        rpm -qp --qf "%{$tag}" "$package" >"$work/$name"
        script "%$name" "$work/$name"
    done
    [ -z "$(rpm -qp --qf '%{PRETRANS}%{PREIN}%{POSTTRANS}' "$package" | sed 's/(none)//g')" ] ||
        complain "has scriptlets that were not reviewed"
}

scripts_of_deb() {
    for name in postinst prerm postrm; do
        dpkg-deb --info "$package" "$name" >"$work/$name" || complain "has no $name"
        script "$name" "$work/$name"
    done
    rm -rf "$work/control"
    dpkg-deb --control "$package" "$work/control"
    found=$(cd "$work/control" && echo *)
    [ "$found" = "conffiles control md5sums postinst postrm preinst prerm" ] || complain "its control files are: $found"
    (cd "$work/tree" && md5sum --quiet -c "$work/control/md5sums") || complain "its md5sums are others"
}

requires() {
    case $package in
        *.rpm) rpm -qp --requires "$package" >"$work/requires" ;;
        *.deb) dpkg-deb --field "$package" Depends | sed 's/, /\n/g' >"$work/requires" ;;
    esac
    while read -r needed; do
        grep -qxF "$needed" "$work/requires" || complain "does not require $needed"
    done
    # Amazon Linux 2023 has glibc 2.34.
    newest=$(readelf -VW "$work/tree/usr/sbin/ecs-netguard" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
    newest=${newest#GLIBC_}
    [ -n "$newest" ] || complain "its program's glibc is not known"
    [ "$(printf '%s\n2.34\n' "$newest" | sort -V | tail -n 1)" = 2.34 ] ||
        complain "asks for glibc $newest, and Amazon Linux 2023 has 2.34"
}

program() {
    tree=$work/tree
    case $package in
        *x86_64* | *amd64*) arch=x86_64 ;;
        *) arch=aarch64 ;;
    esac
    starter=
    if [ "$arch" != "$(uname -m)" ]; then
        starter="qemu-$arch-static -L /usr/$arch-linux-gnu"
    fi
    guard="$starter $tree/usr/sbin/ecs-netguard"
    $guard --version || complain "its program does not start"
    $guard config --check --config "$tree/etc/ecs-netguard/config.toml" >/dev/null || complain "its configuration is not read"
    # The bridges that these rules are about.
    printf '[imds]\ninterfaces = ["docker+", "br-+", "ecs-bridge"]\n' >"$work/config.toml"
    $guard check --ruleset tests/fixtures/netguard.rules --ruleset6 tests/fixtures/netguard.rules6 \
        --config "$work/config.toml" >"$work/check" ||
        { cat "$work/check" >&2; complain "its program does not prove what holds"; }
    if $guard check --ruleset tests/fixtures/docker25-aws-restart.rules >"$work/check"; then
        complain "its program proves what does not hold"
    fi
    # The places of the machine that built it.
    if grep -aoE "(/tmp/|/root/|/home/|\.cargo/registry)[[:print:]]{0,60}" "$tree/usr/sbin/ecs-netguard" >"$work/places"; then
        head -n 3 "$work/places" >&2
        complain "its program names places of the machine that built it"
    fi
    for unit in "$tree"/usr/lib/systemd/system/*.service; do
        started=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")
        [ -x "$tree$started" ] || complain "${unit##*/} starts $started, which is not in it"
    done
}

rpms='' debs=''
for package in "$@"; do
    rm -rf "$work/tree"
    mkdir "$work/tree"
    case $package in
        *.rpm)
            rpms="$rpms $package"
            list=packaging/rpm/$(rpm -qp --qf '%{NAME}' "$package").files
            rpm2cpio "$package" | (cd "$work/tree" && cpio --quiet -idm)
            ;;
        *.deb)
            debs="$debs $package"
            list=packaging/deb/$(dpkg-deb --field "$package" Package).files
            dpkg-deb --extract "$package" "$work/tree"
            ;;
    esac
    case $package in
        *.src.rpm) ;;
        *)
            contents "$package" | diff "$list" - >"$work/diff" ||
                { cat "$work/diff" >&2; complain "its files are not those of $list"; }
            ;;
    esac
    case $package in
        *.src.rpm | *.noarch.rpm | *_all.deb) ;;
        *.rpm) scripts_of_rpm; printf '%s\n' '(iptables-nft or iptables)' systemd | requires; program ;;
        *.deb) scripts_of_deb; printf '%s\n' iptables systemd 'libc6 (>= 2.34)' | requires; program ;;
    esac
done

# Their warnings do not make them fail by themselves.
: >"$work/lint"
package=lint
if [ -n "$rpms" ]; then
    # shellcheck disable=SC2086 # a path a word
    rpmlint --config packaging/rpm/rpmlint.toml packaging/rpm/ecs-netguard.spec $rpms >"$work/rpmlint" 2>&1 || complain "rpmlint failed"
    grep -E ': [EW]: ' "$work/rpmlint" >>"$work/lint" || :
fi
if [ -n "$debs" ]; then
    # shellcheck disable=SC2086
    lintian --no-cfg --allow-root --suppress-tags-from-file packaging/deb/lintian-tags $debs >>"$work/lint" 2>&1 || complain "lintian failed"
fi
if [ -s "$work/lint" ]; then
    cat "$work/lint" >&2
    complain "what is not followed stands in packaging/rpm/rpmlint.toml and packaging/deb/lintian-tags"
fi
exit "$wrong"
