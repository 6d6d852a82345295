#!/bin/sh
# The network around the host: `wan0` leads to the namespace `up`, where the metadata service has its
# addresses and where everything that is sent to it is counted.
#
# What a container sends was forwarded once, so it arrives with a TTL of one less; what the host itself
# sends (or a task on its network) arrives with the TTL as it was, 64. That tells them apart where their
# addresses do not: Docker's MASQUERADE gives both the host's.
set -eu

ip netns add up
ip link add wan0 type veth peer name host0 netns up
ip addr add 10.0.0.10/24 dev wan0
ip -6 addr add fd00:10::10/64 dev wan0 nodad
ip link set wan0 up

ip -n up link set lo up
ip -n up addr add 10.0.0.1/24 dev host0
ip -n up -6 addr add fd00:10::1/64 dev host0 nodad
ip -n up link set host0 up
ip -n up addr add 169.254.169.254/32 dev lo
ip -n up -6 addr add fd00:ec2::254/128 dev lo nodad
# Without masquerading, answers find their way too.
ip -n up route add 172.16.0.0/12 via 10.0.0.10
ip -n up -6 route add fd00:d0c::/32 via fd00:10::10

ip route add default via 10.0.0.1
ip -6 route add default via fd00:10::1

ip netns exec up nft -f - <<'END'
table inet arrived {
    counter containers { }
    counter host { }
    # For the person who has to find out what came through.
    set senders {
        type inet_proto . ether_addr
        flags dynamic
        size 64
        counter
    }
    chain containers {
        counter name containers
        add @senders { meta l4proto . ether saddr }
    }
    chain prerouting {
        type filter hook prerouting priority -300;
        # A task's own interface does not lead through the host: nothing was forwarded.
        iifname "eni*" ip daddr 169.254.169.254 goto containers
        iifname "eni*" ip6 daddr fd00:ec2::254 goto containers
        ip daddr 169.254.169.254 ip ttl 64 counter name host
        ip daddr 169.254.169.254 ip ttl != 64 jump containers
        ip6 daddr fd00:ec2::254 ip6 hoplimit 64 counter name host
        ip6 daddr fd00:ec2::254 ip6 hoplimit != 64 jump containers
    }
}
END
