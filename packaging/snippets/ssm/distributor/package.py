#!/usr/bin/env python3
"""Makes a package for Distributor: an archive for each kind of host, and the manifest with their checksums.

    package.py OUT ecs-netguard.asc ecs-netguard-0.2.0-1.x86_64.rpm ecs-netguard_0.2.0-1_amd64.deb ...
    aws s3 cp --recursive OUT s3://BUCKET/ecs-netguard
    aws ssm create-document --document-type Package --name ecs-netguard --version-name 0.2.0 \\
        --content file://OUT/manifest.json \\
        --attachments Key=SourceUrl,Values=https://s3.amazonaws.com/BUCKET/ecs-netguard

ecs-netguard.asc is the public key that signed the RPMs. A later version: aws ssm update-document.
"""

import hashlib
import json
import pathlib
import re
import sys
import zipfile

HERE = pathlib.Path(__file__).parent
# Distributor's names of hosts and architectures.
HOSTS = {"rpm": [("amazon", "2023")], "deb": [("debian", "_any"), ("ubuntu", "_any")]}
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
NAME = re.compile(r"ecs-netguard[-_](?P<version>[0-9.]+)-\d+[._](?P<machine>\w+)\.(?P<kind>rpm|deb)")


def archive(out, key, package):
    """Writes one archive; returns its path and what the package's name tells."""
    of = NAME.fullmatch(package.name)
    if not of or of["machine"] not in MACHINES:
        sys.exit(f"package.py: {package.name} is not named as a package of ecs-netguard is")
    kind, machine = of["kind"], MACHINES[of["machine"]]
    # A later version must not have a file of the same name.
    path = out / f"ecs-netguard-{of['version']}-{kind}-{machine}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.write(HERE / "install.sh", "install.sh")
        zipped.write(HERE / "install.sh", "update.sh")
        zipped.write(HERE / "uninstall.sh", "uninstall.sh")
        zipped.write(key, "ecs-netguard.asc")
        zipped.write(package, f"ecs-netguard.{kind}")
    return path, kind, machine, of["version"]


def main(out, key, *packages):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    hosts, files, versions = {}, {}, set()
    for package in map(pathlib.Path, packages):
        path, kind, machine, version = archive(out, key, package)
        versions.add(version)
        files[path.name] = {"checksums": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
        for host, release in HOSTS[kind]:
            hosts.setdefault(host, {}).setdefault(release, {})[machine] = {"file": path.name}
    if len(versions) != 1:
        sys.exit(f"package.py: packages of one version, not of {sorted(versions)}")
    manifest = {"schemaVersion": "2.0", "version": versions.pop(), "packages": hosts, "files": files}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
