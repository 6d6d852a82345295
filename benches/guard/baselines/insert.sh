#!/bin/sh
# Four rules, one program each.
set -e
iptables=${1:-iptables}

$iptables -I FORWARD -i docker+ -d 169.254.169.254/32 -j DROP
$iptables -I FORWARD -i br-+ -d 169.254.169.254/32 -j DROP
$iptables -t nat -I PREROUTING -d 169.254.170.2/32 -p tcp --dport 80 \
    -j DNAT --to-destination 127.0.0.1:51679
$iptables -t nat -I OUTPUT -d 169.254.170.2/32 -p tcp --dport 80 -j REDIRECT --to-ports 51679
