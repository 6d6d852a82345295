#!/bin/sh
# Starts containers as tasks would be: one on Docker's own bridge with a published port, two on a
# user-defined network with IPv6. All of them send to the metadata service from their first moment on,
# and Docker starts them again whenever it starts.
set -eu
docker network inspect tasks >/dev/null 2>&1 ||
    docker network create --ipv6 --subnet fd00:d0c:1::/64 tasks >/dev/null
# Seconds between two attempts; an emulated processor makes few processes a second.
pause=0.05
[ "$(systemd-detect-virt --vm)" != qemu ] || pause=5
run() {
    docker run -d --restart always --stop-timeout 1 -e PAUSE=$pause "$@" probe /probe.sh >/dev/null
}
run --name one -p 8080:80
run --name two --network tasks
run --name three --network tasks
