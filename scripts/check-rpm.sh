#!/bin/sh
# check-rpm.sh PACKAGE…: what is in packages made by scripts/rpm.sh: files with their modes, owners and
# flags (as packaging/rpm/*.files say), scriptlets, what it requires; rpmlint; and the program, started:
# under qemu-user where it is another architecture's. Nothing is installed. Fails with what is not as
# it should be.
set -eu

cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0
complain() {
    echo "check-rpm: $package: $*" >&2
    wrong=1
}

# contents PACKAGE: a line a file. Pages of commands and documents come and go: one line for all.
contents() {
    rpm -qp --qf '[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}:%{FILENAMES}\n]' "$1" |
        sed -E 's|(/ecs-netguard)-[a-z]+(\.8\.gz)$|\1-*\2|; s|(/doc/.*/)[^/]+\.[^/]+$|\1*|' | LC_ALL=C sort -u -t: -k3
}

# has NAME SCRIPT LINE…: each line stands in the scriptlet, whatever it is indented by.
has() {
    name=$1 script=$2
    shift 2
    for line in "$@"; do
        grep -qxF -- "$line" "$script" || complain "$name lacks: $line"
    done
}

scriptlets() {
    on='if [ -d /run/systemd/system ] && [ /proc/1/root -ef / ]; then'
    for name in post preun postun; do
        script=$work/$name
        case $name in post) tag=POSTIN ;; preun) tag=PREUN ;; postun) tag=POSTUN ;; esac
        rpm -qp --qf "%{$tag}\n" "$package" | sed 's/^ *//' >"$script"
        sh -n "$script" || complain "%$name is no shell script"
        # What rpmbuild did not know stands there as it was written.
        if grep -n '%[a-z_{]' "$script" | grep -v "printf '%s"; then
            complain "%$name has a macro that was not expanded"
        fi
        if grep -nE '^[^#]*(systemctl|systemd-sysusers|journalctl|release)' "$script" |
            grep -vE '\|\| (:|printf)|is-enabled'; then
            complain "%$name can fail"
        fi
        has "%$name" "$script" "$on"
    done
    units='ecs-netguard.service ecs-netguard-strict.service ecs-netguard-probe.timer ecs-netguard-exporter.service'
    has %post "$work/post" "systemctl --quiet preset $units || :" \
        'systemctl daemon-reload || :' 'systemctl try-restart ecs-netguard.service || :' \
        'systemctl try-restart ecs-netguard-exporter.service || :' \
        'systemctl start ecs-netguard.service || :' 'journalctl --update-catalog || :'
    has %preun "$work/preun" 'if [ "$1" -eq 0 ]; then' 'systemctl stop ecs-netguard.service || :' \
        'systemctl stop ecs-netguard-probe.timer ecs-netguard-exporter.service || :' \
        "systemctl --quiet disable $units || :"
    has %postun "$work/postun" 'systemctl daemon-reload || :' 'journalctl --update-catalog || :'
    [ -z "$(rpm -qp --qf '%{PRETRANS}%{PREIN}%{POSTTRANS}' "$package" | sed 's/(none)//g')" ] ||
        complain "has scriptlets that were not reviewed"
}

requires() {
    rpm -qp --requires "$package" >"$work/requires"
    for needed in '(iptables-nft or iptables)' systemd; do
        grep -qxF "$needed" "$work/requires" || complain "does not require $needed"
    done
    # Amazon Linux 2023 has glibc 2.34.
    newest=$(sed -n 's/.*(GLIBC_\([0-9.]*\)).*/\1/p' "$work/requires" | sort -V | tail -n 1)
    [ "$(printf '%s\n2.34\n' "$newest" | sort -V | tail -n 1)" = 2.34 ] ||
        complain "asks for glibc $newest, and Amazon Linux 2023 has 2.34"
}

program() {
    tree=$work/tree
    rm -rf "$tree"
    mkdir "$tree"
    rpm2cpio "$package" | (cd "$tree" && cpio --quiet -idm)
    arch=$(rpm -qp --qf '%{ARCH}' "$package")
    starter=
    if [ "$arch" != "$(uname -m)" ]; then
        starter="qemu-$arch-static -L /usr/$arch-linux-gnu"
    fi
    guard="$starter $tree/usr/sbin/ecs-netguard"
    $guard --version || complain "its program does not start"
    $guard check --ruleset tests/fixtures/netguard.rules --ruleset6 tests/fixtures/netguard.rules6 \
        --config "$tree/etc/ecs-netguard/config.toml" >"$work/check" ||
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

for package in "$@"; do
    name=$(rpm -qp --qf '%{NAME}' "$package")
    case $package in
        *.src.rpm) ;;
        *)
            contents "$package" | diff "packaging/rpm/$name.files" - >"$work/diff" ||
                { cat "$work/diff" >&2; complain "its files are not those of packaging/rpm/$name.files"; }
            ;;
    esac
    case $package in
        *.src.rpm | *.noarch.rpm) ;;
        *) scriptlets && requires && program ;;
    esac
done

if ! rpmlint --config packaging/rpm/rpmlint.toml packaging/rpm/ecs-netguard.spec "$@" >"$work/lint" 2>&1; then
    wrong=1
fi
# Warnings do not make it fail by itself.
if grep -E ': [EW]: ' "$work/lint" >&2; then
    echo "check-rpm: rpmlint complains; what is not followed stands in packaging/rpm/rpmlint.toml" >&2
    wrong=1
elif [ "$wrong" != 0 ]; then
    cat "$work/lint" >&2
fi
exit "$wrong"
