#!/bin/sh
# What goes where: the one list for `make install` and `make uninstall`, the RPM and the Debian packages.
#
#   install.sh install|uninstall guard|monitoring|all MADE
#
# MADE is what scripts/made.sh wrote. DESTDIR stands before every path; PREFIX, LICENSES and ZSH say what
# differs between distributions. A config.toml that was changed is neither replaced nor removed.
set -eu

cd "$(dirname "$0")/.."
umask 022

action=$1 what=$2 made=$3
to=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
licenses=${LICENSES:-$prefix/share/licenses}
zsh=${ZSH:-$prefix/share/zsh/site-functions}
units=$prefix/lib/systemd/system
program=$prefix/sbin/ecs-netguard
documents=$prefix/share/doc/ecs-netguard
man=$prefix/share/man
config=/etc/ecs-netguard/config.toml

case $prefix in
    /*) ;;
    *) echo "install.sh: PREFIX is a path from the root, not $prefix" >&2; exit 2 ;;
esac

# file MODE SOURCE TARGET
file() {
    case $action in
        install) install -D -p -m "$1" "$2" "$to$3" ;;
        uninstall) rm -f "$to$3" ;;
    esac
}

# pages DIRECTORY SOURCE…: packed, as every distribution has them.
pages() {
    directory=$1
    shift
    for page in "$@"; do
        file 0644 "$page" "$directory/${page##*/}"
        case $action in
            install) gzip -n -9 -f "$to$directory/${page##*/}" ;;
            uninstall) rm -f "$to$directory/${page##*/}.gz" ;;
        esac
    done
}

guard() {
    file 0755 "$made/ecs-netguard" "$program"
    for unit in systemd/*.service systemd/*.timer; do
        file 0644 "$unit" "$units/${unit##*/}"
        [ "$action" = uninstall ] || [ "$prefix" = /usr ] || sed -i "s|/usr/sbin/ecs-netguard|$program|g" "$to$units/${unit##*/}"
    done
    file 0644 systemd/ecs-netguard.preset "$prefix/lib/systemd/system-preset/80-ecs-netguard.preset"
    file 0644 systemd/ecs-netguard.catalog "$prefix/lib/systemd/catalog/ecs-netguard.catalog"
    file 0644 systemd/ecs-netguard.sysusers "$prefix/lib/sysusers.d/ecs-netguard.conf"

    pages "$man/man8" "$made"/man/*.8
    pages "$man/man5" packaging/man/*.5
    file 0644 "$made/completions/ecs-netguard.bash" "$prefix/share/bash-completion/completions/ecs-netguard"
    file 0644 "$made/completions/_ecs-netguard" "$zsh/_ecs-netguard"
    file 0644 "$made/completions/ecs-netguard.fish" "$prefix/share/fish/vendor_completions.d/ecs-netguard.fish"

    file 0644 LICENSE "$licenses/ecs-netguard/LICENSE"
    file 0644 "$made/THIRD-PARTY.txt" "$licenses/ecs-netguard/THIRD-PARTY.txt"
    # Every page that another one links to, where the links find it (tests/install.rs).
    for source in *.md docs/* packaging/README.md packaging/*/README.md vm-tests/README.md; do
        file 0644 "$source" "$documents/$source"
    done
}

monitoring() {
    file 0644 LICENSE "$licenses/ecs-netguard-monitoring/LICENSE"
    file 0644 packaging/prometheus/ecs-netguard.rules.yml "$prefix/share/ecs-netguard/prometheus/ecs-netguard.rules.yml"
    file 0644 packaging/grafana/ecs-netguard.json "$prefix/share/ecs-netguard/grafana/ecs-netguard.json"
}

configuration() {
    if [ "$action" = install ]; then
        if [ -e "$to$config" ]; then
            cmp -s packaging/config.toml "$to$config" || echo "install.sh: $to$config was changed and stays as it is" >&2
        else
            file 0644 packaging/config.toml "$config"
        fi
    elif cmp -s packaging/config.toml "$to$config"; then
        rm -r "$to${config%/*}"
    elif [ -e "$to$config" ]; then
        echo "install.sh: $to$config was changed and stays" >&2
    fi
}

case $action in
    install | uninstall) ;;
    *) echo "install.sh: install or uninstall, not $action" >&2; exit 2 ;;
esac
case $what in
    guard) guard; configuration ;;
    monitoring) monitoring ;;
    all) guard; monitoring; configuration ;;
    *) echo "install.sh: guard, monitoring or all, not $what" >&2; exit 2 ;;
esac
if [ "$action" = uninstall ]; then
    # Also pages of commands that MADE does not know, and directories that nothing else is in.
    rm -f "$to$man/man8/ecs-netguard.8.gz" "$to$man"/man8/ecs-netguard-*.8.gz
    rm -rf "$to$documents" "$to$licenses/ecs-netguard" "$to$licenses/ecs-netguard-monitoring" "$to$prefix/share/ecs-netguard"
fi
