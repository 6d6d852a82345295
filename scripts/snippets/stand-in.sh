#!/bin/sh
# The stand-in for a program that fetches, installs or starts things: writes down how it was called, and does
# what the scripts rely on. From the environment:
#
#   INSTALLED=1   rpm knows the package
#   KEY=TEXT      what a fetched key is
#   PROVED=N      the Nth check holds, and none before; 0: none at all. Where it is not set, each does
program=$(basename "$0")
echo "$program $*" >>"$CALLS"

fetch() { # from where, where to
    case $1 in
        *.asc) printf '%s\n' "${KEY:-key}" >"$2" ;;
        *) echo package >"$2" ;;
    esac
}

case "$program $*" in
    "rpm -q"*) [ -n "${INSTALLED:-}" ] ;;
    "dnf"*" awscli-2") ln -s "$(readlink "$0")" /usr/sbin/aws ;;
    "curl"*"/api/token") echo token ;;
    "curl"*"/instance-id") echo i-0123456789abcdef0 ;;
    "curl"*"/placement/region") echo eu-west-1 ;;
    "curl -fsS --retry 5 -o "*) fetch "$6" "$5" ;;
    "aws s3 cp --only-show-errors "*) fetch "$4" "$5" ;;
    "systemctl start "*) : >"$SANDBOX/started" ;;
    "systemctl is-enabled "*) echo enabled ;;
    "systemctl show "*)
        state=inactive
        [ ! -e "$SANDBOX/started" ] || state=active
        printf 'LoadState=loaded\nUnitFileState=enabled\nActiveState=%s\n' $state
        ;;
    "ecs-netguard check"* | "ecs-netguard status"*)
        tries=$(grep -c '^ecs-netguard check' "$CALLS")
        [ -z "${PROVED:-}" ] || { [ "$PROVED" -gt 0 ] && [ "$tries" -ge "$PROVED" ]; }
        ;;
esac
