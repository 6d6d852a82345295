#!/bin/sh
# In a sandbox: runs the playbook twice on this very host, with Debian's apt and dpkg as they are. The package
# is a stand-in in a signed repository of its own; so are systemctl and the key.
#
#   ansible.sh ANSIBLE-PLAYBOOK PLAYBOOK
set -eu
work=$(mktemp -d)
cd "$work"

mkdir -p package/DEBIAN package/usr/sbin deb/dists/stable/main/binary-all gnupg
cat >package/DEBIAN/control <<'END'
Package: ecs-netguard
Version: 0.2.0-1
Architecture: all
Maintainer: none
Description: stand-in
END
# It finds its configuration there already, which the real one's start relies on.
cat >package/usr/sbin/ecs-netguard <<'END'
#!/bin/sh
echo "ecs-netguard $*" >>"$CALLS"
grep -q 'block = "always"' /etc/ecs-netguard/config.toml
END
cat >package/DEBIAN/postinst <<'END'
#!/bin/sh
/usr/sbin/ecs-netguard run && systemctl start ecs-netguard.service
END
chmod 0755 package/usr/sbin/ecs-netguard package/DEBIAN/postinst
dpkg-deb --root-owner-group --build package deb/ecs-netguard_0.2.0-1_all.deb >/dev/null

export GNUPGHOME="$work/gnupg"
chmod 0700 gnupg
gpg --batch --quiet --passphrase '' --quick-generate-key ecs-netguard@example.com ed25519
gpg --export --armor >ecs-netguard.asc
(
    cd deb
    deb=ecs-netguard_0.2.0-1_all.deb
    index=main/binary-all/Packages
    {
        cat ../package/DEBIAN/control
        printf 'Filename: %s\nSize: %s\nSHA256: %s\n' $deb "$(stat -c %s $deb)" "$(sha256sum <$deb | cut -d' ' -f1)"
    } >dists/stable/$index
    cd dists/stable
    printf 'Suite: stable\nComponents: main\nArchitectures: all\nSHA256:\n %s %s %s\n' \
        "$(sha256sum <$index | cut -d' ' -f1)" "$(stat -c %s $index)" $index >Release
    gpg --batch --quiet --clearsign --output InRelease Release
)
gpgconf --kill gpg-agent
# apt reads as a user of its own, and this host's own sources cannot be reached.
chmod -R a+rX "$work" && chmod 0711 "$SANDBOX" "$SANDBOX/tmp" "$work" && chmod 0700 gnupg
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*

cat >inventory.yml <<END
ecs:
  hosts: {localhost: {ansible_connection: local, ansible_python_interpreter: /usr/bin/python3}}
  vars: {ecs_netguard_key: $work/ecs-netguard.asc, ecs_netguard_repository: "file:$work"}
END

printf 'ECS_CLUSTER=production' >/etc/ecs/ecs.config
for run in first second; do
    : >"$CALLS"
    "$1" --inventory inventory.yml "$2" >"$run.log" 2>&1 || {
        cat "$run.log"
        exit 1
    }
    echo "$run run: $(sed -n 's/^localhost *: //p' "$run.log" | tr -s ' ')"
    # The units are asked how they are in many ways.
    grep -v '^systemctl \(show\|is-\|list-\|--version\)' "$CALLS"
done
for file in /etc/ecs/ecs.config /etc/ecs-netguard/config.toml /etc/systemd/system/ecs.service.d/*; do
    echo "--- $file"
    cat "$file"
done
dpkg-query -W ecs-netguard

# With another key in place of the one that signed it:
gpg --batch --quiet --passphrase '' --quick-generate-key other@example.com ed25519
gpg --export --armor other@example.com >/etc/apt/keyrings/ecs-netguard.asc
gpgconf --kill gpg-agent
if apt-get update 2>&1 | grep -q 'not signed\|NO_PUBKEY'; then
    echo "a repository signed by another key is refused"
fi
