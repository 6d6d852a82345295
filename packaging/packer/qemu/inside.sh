#!/bin/sh
# On a machine started from a baked image, as root: fails where the guard does not protect it, or where
# anything of the build machine, whose machine-id is $1, is left. $2 is what the guard had to do for that:
# `nothing`, or `discard` what the image brought along. Prints this machine's own id.
set -eu
builder=$1
todo=$2
faults=0
fault() {
    echo "inside: $*" >&2
    faults=1
}

own=$(cat /etc/machine-id)
[ ${#own} = 32 ] || fault "no machine-id: '$own'"
[ "$own" != "$builder" ] || fault "the machine-id is the build machine's"

# While the machine boots, Docker changes rules while a proof is made.
timeout 300 systemctl is-system-running --wait >/dev/null || true
# Type=notify, so this waits for the first proof of this boot.
systemctl start ecs-netguard.service || fault "ecs-netguard.service does not start"
systemctl is-enabled --quiet ecs-netguard.service || fault "ecs-netguard.service is not enabled"
# On a slow machine the last pass may have been made while Docker changed rules; the next one follows in seconds.
for try in $(seq 30); do
    ecs-netguard status >/dev/null && break
    sleep 1
done
ecs-netguard status >&2 || fault "status exits with $?"
ecs-netguard check >&2 || fault "check exits with $?"

journal=$(journalctl --no-pager --quiet --unit ecs-netguard.service)
case $todo:$journal in
    discard:*'/var/lib/ecs-netguard/state.json is of another machine'*'it is discarded'*) ;;
    nothing:*'of another machine'* | discard:*) fault "the guard did not $todo: $journal" ;;
esac
boots=$(journalctl --no-pager --quiet --list-boots | wc -l)
[ "$boots" = 1 ] || fault "the journal knows $boots boots"
grep -q "$own" /var/lib/ecs-netguard/state.json || fault "state.json is not of this machine"

for directory in /etc /var /root /opt /usr/local; do
    ! grep -rIl "$builder" $directory >&2 || fault "the build machine's machine-id stands in the files above"
done
# What generalize.sh cleans, and not what others do.
if [ "$todo" = nothing ]; then
    for path in /var/log/journal/*; do
        [ "$path" = "/var/log/journal/$own" ] || fault "a journal of another machine: $path"
    done
    for path in /tmp/ecs-netguard* /tmp/script_* /var/cache/dnf/*; do
        [ ! -e "$path" ] || fault "left over: $path"
    done
fi
for path in /var/lib/ecs-netguard/* /etc/ecs-netguard/*; do
    case ${path##*/} in
        state.json | state.json.previous | events.jsonl | config.toml) ;;
        *) fault "left over: $path" ;;
    esac
done
[ $faults = 0 ] || exit 1
echo "$own"
