#!/bin/sh
# Puts what an ECS host has around it into a machine: run there, from the directory it lies in, as root.
# After it the network is up, and the container image `probe` is there.
set -eu
cd "$(dirname "$0")"

install -d /usr/lib/ecs-test /usr/libexec /etc/ecs /var/lib/ecs
install -m 0755 network.sh probe.sh ecs-tasks.sh awsvpc-task.sh stand_in.py /usr/lib/ecs-test/
install -m 0755 amazon-ecs-init /usr/libexec/amazon-ecs-init
install -m 0755 cloud-init /usr/bin/cloud-init
install -m 0644 units/* /etc/systemd/system/
systemctl daemon-reload
systemctl --quiet enable test-network test-imds cloud-final ecs
systemctl start test-network test-imds

# The image holds one static program.
image=$(mktemp -d)
mkdir "$image/bin" "$image/www"
cp probe.sh "$image/probe.sh"
chmod 0755 "$image/probe.sh"
echo published >"$image/www/index.html"
cp /bin/busybox "$image/bin/busybox"
"$image/bin/busybox" --install "$image/bin"
tar -C "$image" -c . | docker import - probe >/dev/null
rm -rf "$image"
