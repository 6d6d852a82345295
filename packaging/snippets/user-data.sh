#!/bin/bash
# User data of an ECS-optimized Amazon Linux 2023 AMI: installs ecs-netguard with its signature checked,
# requires the block, and lets the ECS agent start, and with it tasks, only while the block is proved.
# The settings are these; the launch templates beside this file set them in the environment instead.
set -euo pipefail

cluster=${CLUSTER:-default}
version=${VERSION:-0.2.0}
# What make repo made, behind a web server (https://...) or in a bucket (s3://...), and the checksum of the
# public key in it: sha256sum ecs-netguard.asc
source=${SOURCE:-https://packages.example.com}
key_sha256=${KEY_SHA256:-0000000000000000000000000000000000000000000000000000000000000000}
# The auto scaling group and its launch hook, where there is one: it hears CONTINUE after the proof.
group=${AUTO_SCALING_GROUP:-}
hook=${LIFECYCLE_HOOK:-}

# First of all, the gate. ecs.service starts after user data, and systemd tries again every ten seconds
# while this fails: also where something below fails, no agent starts, and no task does.
install -d /etc/systemd/system/ecs.service.d
cat >/etc/systemd/system/ecs.service.d/50-ecs-netguard.conf <<'END'
[Service]
ExecStartPre=/usr/sbin/ecs-netguard check --require imds-block
END
systemctl daemon-reload

# Other lines of ecs.config stay, and so does a line that is there already.
ecs_config() {
    grep -q "^$1=" /etc/ecs/ecs.config || printf '%s=%s\n' "$1" "$2" >>/etc/ecs/ecs.config
}
install -d /etc/ecs /etc/ecs-netguard
touch /etc/ecs/ecs.config
# A last line without a newline would run into the next.
[ -z "$(tail -c 1 /etc/ecs/ecs.config)" ] || echo >>/etc/ecs/ecs.config
ecs_config ECS_CLUSTER "$cluster"
ecs_config ECS_AWSVPC_BLOCK_IMDS true

# The posture before the package, which starts the daemon and keeps a file that is there: blocked, whatever
# ecs.config says later.
[ -e /etc/ecs-netguard/config.toml ] || cat >/etc/ecs-netguard/config.toml <<'END'
[imds]
block = "always"
END

fetch() { # a file of the source, where to
    case $source in
        s3://*) aws s3 cp --only-show-errors "$source/$1" "$2" ;;
        *) curl -fsS --retry 5 -o "$2" "$source/$1" ;;
    esac
}
# The ECS-optimized AMI has no AWS CLI.
if [[ $source == s3://* || -n $hook ]] && ! command -v aws >/dev/null; then
    dnf -y -q install awscli-2
fi
if ! rpm -q --quiet "ecs-netguard-$version"; then
    key=/etc/pki/rpm-gpg/RPM-GPG-KEY-ecs-netguard
    fetch ecs-netguard.asc $key
    echo "$key_sha256  $key" | sha256sum --check --quiet
    case $source in
        s3://*)
            package=ecs-netguard-$version-1.$(uname -m).rpm
            directory=$(mktemp -d)
            fetch "rpm/$package" "$directory/$package"
            rpm --import $key
            dnf -y install --setopt=localpkg_gpgcheck=1 "$directory/$package"
            ;;
        *)
            cat >/etc/yum.repos.d/ecs-netguard.repo <<END
[ecs-netguard]
name=ecs-netguard
baseurl=$source/rpm
gpgkey=file://$key
gpgcheck=1
repo_gpgcheck=1
END
            dnf -y install "ecs-netguard-$version"
            ;;
    esac
fi

# Docker may still be changing rules: a minute at most, then what is not proved is said, and fails.
for _ in {1..12}; do
    ! ecs-netguard check --require imds-block >/dev/null || break
    sleep 5
done
ecs-netguard status --require imds-block

[ -n "$hook" ] || exit 0
imds() {
    curl -fsS -H "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/meta-data/$1"
}
token=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
aws autoscaling complete-lifecycle-action --region "$(imds placement/region)" --instance-id "$(imds instance-id)" \
    --auto-scaling-group-name "$group" --lifecycle-hook-name "$hook" --lifecycle-action-result CONTINUE
