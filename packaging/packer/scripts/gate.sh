#!/bin/sh
# On the build machine, as root: fails, and with it the build, unless the installed daemon starts and
# every required guarantee is proved from this machine's own kernel, iptables and Docker rules, and no
# packet of a probe gets through.
#
# REQUIRED_GUARANTEES, separated by blanks: these must be among the required ones. Without that a
# configuration that asks for nothing would pass.
set -eu

fail() {
    echo "gate: $*: this image is not to be used" >&2
    exit 1
}

# Without a pager, and all of what it says.
log() {
    journalctl --no-pager --boot --unit ecs-netguard.service >&2 || true
}

# A machine that still boots starts Docker, which changes rules while they are proved. What state it comes
# to is not this script's concern.
timeout 300 systemctl is-system-running --wait || true

systemctl is-enabled --quiet ecs-netguard.service ||
    fail "ecs-netguard.service is not enabled, so it would not start at boot"

# With the configuration that there is now. It returns after the first proof, or fails.
if ! systemctl restart ecs-netguard.service; then
    log
    fail "ecs-netguard.service does not start"
fi
ecs-netguard config
ecs-netguard status || true

for guarantee in ${REQUIRED_GUARANTEES:-}; do
    set -- "$@" --require "$guarantee"
done
code=0
ecs-netguard check "$@" || code=$?
if [ $code -ne 0 ]; then
    log
    fail "ecs-netguard check exits with $code (1: violated, or not required by config.toml or ecs.config; 2: configuration error; 3: undecided)"
fi
# The same by packets, from a container of its own on each bridge.
code=0
ecs-netguard probe || code=$?
case $code in
    0) ;;
    3)
        # A build machine has no ECS agent that could answer, and not every one a metadata service. The
        # proof stands.
        echo "gate: probe is undecided on this machine, for the reason that it names" >&2
        ;;
    *)
        log
        fail "ecs-netguard probe exits with $code (1: a packet got through, 2: it could not be run)"
        ;;
esac
echo "gate: passed"
