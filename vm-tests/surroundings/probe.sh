#!/bin/sh
# In a container: asks the metadata service for the instance's role without end, by every protocol.
export PATH=/bin
imds=169.254.169.254

forever() {
    while :; do
        "$@" >/dev/null 2>&1
        # What cannot be sent at all must not take the processor.
        sleep "${PAUSE:-0.05}"
    done
}

forever ping -q -i 0.02 -w 5 $imds &
forever ping6 -q -i 0.05 -w 5 fd00:ec2::254 &
for worker in 1 2 3 4; do
    forever timeout 1 wget -q -O - http://$imds/latest/meta-data/iam/security-credentials/ &
    forever timeout 1 wget -q -O - 'http://[fd00:ec2::254]/latest/meta-data/iam/security-credentials/' &
done
forever timeout 1 nslookup role.invalid $imds &
# What a container offers to others.
exec httpd -f -p 80 -h /www
