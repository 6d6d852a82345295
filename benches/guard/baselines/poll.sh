#!/bin/sh
# What people run on their hosts: look once a second, restore what is gone.
iptables=${1:-iptables}
rule='FORWARD -i docker+ -d 169.254.169.254/32 -j DROP'

while sleep 1; do
    $iptables -C $rule 2>/dev/null || $iptables -I $rule
done
