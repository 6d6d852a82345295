#!/bin/sh
# A process of root that removes the rules as fast as a shell can.
iptables=${1:-iptables}

while :; do nft delete table inet ecs_netguard; done 2>/dev/null &
while :; do $iptables -F FORWARD; done 2>/dev/null
