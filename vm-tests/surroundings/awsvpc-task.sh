#!/bin/sh
# Starts a task in awsvpc mode as the ECS agent does: a pause container whose network namespace gets an
# interface of its own, which leads to the network and not through the host, and a port of `ecs-bridge`
# for credentials (aws/amazon-ecs-cni-plugins); and a container that joins it and sends to the metadata
# service without end.
#
#   awsvpc-task.sh NAME NUMBER [blackhole]     blackhole: with ECS_AWSVPC_BLOCK_IMDS=true
set -eu
name=$1 number=$2 block=${3:-}
slice=ecstasks-$name.slice

docker run -d --name "pause-$name" --network none --cgroup-parent "$slice" --stop-timeout 1 \
    --label com.amazonaws.ecs.container-name='~internal~ecs~pause' \
    --label "com.amazonaws.ecs.task-arn=arn:aws:ecs:eu-west-1:123456789012:task/test/$name" \
    probe sleep 36000 >/dev/null
pid=$(docker inspect -f '{{.State.Pid}}' "pause-$name")
inside="nsenter -t $pid -n"

ip link add "eni$number" type veth peer name "task$number"
ip link set "eni$number" netns up
ip -n up addr add "10.0.$number.1/24" dev "eni$number"
ip -n up -6 addr add "fd00:$number::1/64" dev "eni$number" nodad
ip -n up link set "eni$number" up
ip link set "task$number" netns "$pid" name eth0
# Docker turns it off where a container has no network of Docker's.
$inside sysctl -q -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0
$inside ip addr add "10.0.$number.5/24" dev eth0
$inside ip -6 addr add "fd00:$number::5/64" dev eth0 nodad
$inside ip link set eth0 up
$inside ip route add default via "10.0.$number.1"
$inside ip -6 route add default via "fd00:$number::1"

if ! ip link show ecs-bridge >/dev/null 2>&1; then
    ip link add ecs-bridge type bridge
    ip addr add 169.254.172.1/22 dev ecs-bridge
    ip link set ecs-bridge up
fi
ip link add "vethecs$number" type veth peer name "peerecs$number"
ip link set "peerecs$number" netns "$pid" name ecs-eth0
$inside ip addr add "169.254.172.$number/22" dev ecs-eth0
$inside ip link set ecs-eth0 up
$inside ip route add 169.254.170.2/32 via 169.254.172.1
ip link set "vethecs$number" master ecs-bridge up
if [ "$block" = blackhole ]; then
    $inside ip route add blackhole 169.254.169.254/32
    $inside ip -6 route add blackhole fd00:ec2::254/128
fi
docker run -d --name "task-$name" --network "container:pause-$name" --cgroup-parent "$slice" \
    --stop-timeout 1 --cap-add NET_ADMIN probe /probe.sh >/dev/null
