#!/bin/sh
# repo.sh KEY DIR PACKAGE…: makes two repositories of these packages: DIR/rpm for dnf and DIR/deb for apt, signed
# with KEY of gpg's (GNUPGHOME), whose public half is DIR/ecs-netguard.asc. What was in DIR is replaced. RPMs are
# signed one by one, too; apt checks the signature of the whole. Any web server can serve DIR.
set -eu

key=$1 dir=$2
shift 2
gpg --batch --list-secret-keys "$key" >/dev/null 2>&1 || {
    echo "repo.sh: gpg has no secret key $key; 'gpg --list-secret-keys' names those it has" >&2
    exit 1
}
umask 022
rm -rf "$dir"
mkdir -p "$dir/rpm" "$dir/deb/pool"
dir=$(realpath "$dir")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    "$@" >"$log" 2>&1 || {
        cat "$log" >&2
        echo "repo.sh: $1 failed; its own words are above" >&2
        exit 1
    }
}
sign() {
    quietly gpg --batch --yes --local-user "$key" --digest-algo SHA512 "$@"
}

for package in "$@"; do
    case $package in
        *.src.rpm) ;;
        # By the names that they have in themselves: apt-ftparchive goes by those.
        *.rpm) cp "$package" "$dir/rpm/$(rpm -qp --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm' "$package")" ;;
        *.deb)
            name=$(dpkg-deb --show --showformat '${Package}_${Version}_${Architecture}.deb' "$package")
            cp "$package" "$dir/deb/pool/$name"
            ;;
        *) echo "repo.sh: $package is neither an RPM nor a Debian package" >&2; exit 2 ;;
    esac
done
gpg --batch --armor --export "$key" >"$dir/ecs-netguard.asc"

# Debian's rpm looks for gpg2, which is called gpg there.
[ -z "$(find "$dir/rpm" -name '*.rpm')" ] ||
    quietly rpmsign --define "_gpg_name $key" --define "__gpg $(command -v gpg)" --addsign "$dir"/rpm/*.rpm
quietly createrepo_c --no-database "$dir/rpm"
sign --armor --detach-sign "$dir/rpm/repodata/repomd.xml"

cd "$dir/deb"
for architecture in amd64 arm64; do
    index=dists/stable/main/binary-$architecture
    mkdir -p "$index"
    apt-ftparchive --arch "$architecture" packages pool >"$index/Packages"
    gzip -n -9 -k "$index/Packages"
done
apt-ftparchive -o APT::FTPArchive::Release::Origin=ecs-netguard -o APT::FTPArchive::Release::Label=ecs-netguard \
    -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable \
    -o APT::FTPArchive::Release::Architectures='amd64 arm64' -o APT::FTPArchive::Release::Components=main \
    release dists/stable >"$dir/Release"
mv "$dir/Release" dists/stable/Release
sign --clearsign --output dists/stable/InRelease dists/stable/Release
sign --armor --detach-sign --output dists/stable/Release.gpg dists/stable/Release
echo "$dir"
