//! Installed from signed repositories, by apt and by dnf, which refuse what is not as it was signed.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::{Host, PLACE};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "repositories",
    about: "installed by apt and dnf from signed repositories on a web server; what was altered is refused",
    core: false,
    bare: true,
    on: On::EveryTree,
    needs: &[],
    run,
};

/// As packaging/README.md says, with the web server's address in it.
const CLIENTS: &str = "\
    install -D -m 0644 repo/ecs-netguard.asc /etc/apt/keyrings/ecs-netguard.asc && \
    printf 'Types: deb\\nURIs: http://127.0.0.1:8000/deb\\nSuites: stable\\nComponents: main\\nSigned-By: /etc/apt/keyrings/ecs-netguard.asc\\n' \
        >/etc/apt/sources.list.d/ecs-netguard.sources && \
    rm -f /etc/apt/sources.list && \
    rpm --import repo/ecs-netguard.asc && \
    printf '[ecs-netguard]\\nname=ecs-netguard\\nbaseurl=http://127.0.0.1:8000/rpm\\ngpgcheck=1\\nrepo_gpgcheck=1\\ngpgkey=http://127.0.0.1:8000/ecs-netguard.asc\\n' \
        >/etc/yum.repos.d/ecs-netguard.repo";

const APT: &str = "rm -rf /var/lib/apt/lists/* && apt-get -q update && apt-get -q -y -o Dpkg::Use-Pty=0 install ecs-netguard";
const DNF: &str = "dnf -y -q clean all && dnf -y --repo ecs-netguard install ecs-netguard";

/// Who installs; how sed alters which files of the repository; what the refusal says.
const ALTERED: [(&str, &str, &str, &str); 6] = [
    (
        APT,
        "$ s/$/x/",
        "deb/dists/stable/main/binary-amd64/Packages*",
        "unexpected size",
    ),
    (
        APT,
        "s/^Date: .*/Date: Thu, 01 Jan 2026 00:00:00 UTC/",
        "deb/dists/stable/InRelease",
        "is not signed",
    ),
    (
        APT,
        "1 s/^!<arch>/!<ARCH>/",
        "deb/pool/*.deb",
        "Hash Sum mismatch",
    ),
    (
        DNF,
        "s/<revision>/&1/",
        "rpm/repodata/repomd.xml",
        "GPG signature verification error",
    ),
    (
        DNF,
        "s/ecs-netguard/ecs-netguarD/",
        "rpm/*.rpm",
        "checksum doesn't match",
    ),
    (
        DNF,
        "d",
        "rpm/repodata/repomd.xml.asc",
        "GPG signature verification error",
    ),
];

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.bring("repo.tar")?;
    host.sh(&format!(
        "cd {PLACE} && tar -xf repo.tar && mkdir -p /etc/yum.repos.d && {CLIENTS} && \
         cp -a repo signed && busybox httpd -p 127.0.0.1:8000 -h {PLACE}/repo"
    ))?;
    host.dnf(&format!("install {PLACE}/base.rpm"))?;

    for (command, alter, files, reason) in ALTERED {
        refused(host, command, alter, files, reason)?;
    }
    // A package that is not signed, from a file.
    let unsigned = host.run(&format!(
        "dnf -y -q --disablerepo='*' --setopt=localpkg_gpgcheck=1 install {PLACE}/guard.rpm"
    ))?;
    ensure!(
        unsigned.code != 0,
        "dnf installed a package without a signature"
    );

    host.apt(APT)?;
    host.wait_protected()?;
    host.count_from_here()?;
    let mut packets = host.finish()?;
    host.apt("apt-get -q -y -o Dpkg::Use-Pty=0 purge ecs-netguard")?;

    host.apt(DNF)?;
    let key = host.sh("rpm -q --qf '%{RSAHEADER:pgpsig}' ecs-netguard")?;
    ensure!(
        key.contains("Key ID"),
        "the installed package has no signature: {key}"
    );
    host.wait_protected()?;
    host.count_from_here()?;
    packets += host.finish()?;
    Ok(Report {
        packets: Some(packets),
        ..Report::default()
    })
}

/// With `files` of the repository altered by sed, `command` fails with a reason, and the guard is not installed.
fn refused(host: &Host<'_>, command: &str, alter: &str, files: &str, reason: &str) -> Result<()> {
    host.sh(&format!("cd {PLACE}/repo && sed -i '{alter}' {files}"))?;
    let ended = host.run(&format!("{{ {command}; }} 2>&1"))?;
    ensure!(
        ended.code != 0
            && ended.stdout.contains(reason)
            && host.run("test -e /usr/sbin/ecs-netguard")?.code != 0,
        "with {files} altered {command} ended with {}:\n{}",
        ended.code,
        ended.stdout
    );
    host.sh(&format!(
        "rm -rf {PLACE}/repo/* && cp -a {PLACE}/signed/. {PLACE}/repo"
    ))?;
    Ok(())
}
