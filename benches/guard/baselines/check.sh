#!/bin/sh
# What a careful script does every so often: ask for each rule.
set -e
iptables=${1:-iptables}
comment='-m comment --comment'

$iptables -C FORWARD -i docker+ -d 169.254.169.254/32 $comment 'ecs-netguard: imds-block' -j DROP
$iptables -C FORWARD -i br-+ -d 169.254.169.254/32 $comment 'ecs-netguard: imds-block' -j DROP
$iptables -t nat -C PREROUTING -d 169.254.170.2/32 -p tcp --dport 80 \
    $comment 'ecs-netguard: task-credentials' -j DNAT --to-destination 127.0.0.1:51679
$iptables -t nat -C OUTPUT -d 169.254.170.2/32 -p tcp --dport 80 \
    $comment 'ecs-netguard: task-credentials' -j REDIRECT --to-ports 51679
