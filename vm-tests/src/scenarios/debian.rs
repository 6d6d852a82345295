//! The Debian package's whole life, by apt and dpkg, while containers send.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::{Host, PLACE};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "debian",
    about: "the Debian package installed, upgraded, downgraded, reinstalled, removed and purged",
    core: true,
    bare: true,
    on: On::EveryTree,
    needs: &[],
    run,
};

pub(super) const IMAGE: Scenario = Scenario {
    name: "debian-image",
    about: "the Debian package beside an administrator's preset, policy-rc.d, and in the chroot of an image",
    core: false,
    bare: true,
    on: On::OneMachine,
    needs: &[],
    run: presets_and_chroot,
};

const APT: &str = "apt-get -q -y --allow-downgrades -o Dpkg::Use-Pty=0";
const CONFIG: &str = "/etc/ecs-netguard/config.toml";

fn run(host: &mut Host<'_>) -> Result<Report> {
    for name in ["guard.deb", "newer.deb"] {
        host.bring(name)?;
    }
    install(host)?;
    host.count_from_here()?;
    let mut packets = life(host)?;

    // A removal keeps the configuration, and an installation after it enables the guard again.
    let said = host.apt(&format!("{APT} remove ecs-netguard"))?;
    host.is_removed(&said)?;
    host.sh(&format!("grep -q fargate-bridge {CONFIG}"))?;
    install(host)?;
    host.count_from_here()?;
    packets += host.finish()?;

    let said = host.apt(&format!("{APT} purge ecs-netguard"))?;
    host.is_removed(&said)?;
    host.sh("! ls -d /etc/ecs-netguard && ! dpkg -l ecs-netguard | grep ecs-netguard")?;
    Ok(Report {
        packets: Some(packets),
        ..Report::default()
    })
}

/// Installs it as an operator does, and waits until it says PROTECTED.
fn install(host: &Host<'_>) -> Result<()> {
    host.apt(&format!("{APT} install {PLACE}/guard.deb"))?;
    host.sh("systemctl is-enabled ecs-netguard && systemctl is-active ecs-netguard")?;
    host.wait_protected()
}

/// Upgrade, downgrade and reinstallation: another daemon, the same seal, and no packet.
fn life(host: &Host<'_>) -> Result<u64> {
    host.wait_tasks()?;
    host.sh(&format!("echo '# mine' >>{CONFIG}"))?;
    for (command, version) in [
        (format!("{APT} install {PLACE}/newer.deb"), "1.1.0-1"),
        (format!("{APT} install {PLACE}/guard.deb"), "1.0.0-1"),
        (format!("dpkg --install {PLACE}/guard.deb"), "1.0.0-1"),
    ] {
        host.changes_package(&command, |command| host.apt(command))?;
        let now = host.sh("dpkg-query -W -f '${Version}' ecs-netguard")?;
        ensure!(now == version, "{command}: {now} is installed");
    }
    host.sh(&format!("grep -q '^# mine' {CONFIG}"))?;
    // What an operator switched off stays so.
    host.sh("systemctl disable -q ecs-netguard")?;
    host.apt(&format!("{APT} install {PLACE}/newer.deb"))?;
    host.sh("! systemctl is-enabled -q ecs-netguard && systemctl enable -q ecs-netguard")?;
    host.finish()
}

/// An administrator's preset and policy-rc.d win, and in a chroot nothing is started and no rule touched.
fn presets_and_chroot(host: &mut Host<'_>) -> Result<Report> {
    for name in ["guard.deb", "newer.deb"] {
        host.bring(name)?;
    }
    let preset = "/etc/systemd/system-preset/00-mine.preset";
    host.sh(&format!(
        "mkdir -p /etc/systemd/system-preset && echo 'disable ecs-netguard.service' >{preset}"
    ))?;
    host.apt(&format!("{APT} install {PLACE}/guard.deb"))?;
    host.sh("! systemctl is-enabled -q ecs-netguard && ! systemctl is-active -q ecs-netguard")?;
    host.apt(&format!("{APT} purge ecs-netguard && rm {preset}"))?;

    let policy = "/usr/sbin/policy-rc.d";
    host.sh(&format!(
        "printf '#!/bin/sh\\nexit 101\\n' >{policy} && chmod +x {policy}"
    ))?;
    host.apt(&format!("{APT} install {PLACE}/guard.deb"))?;
    host.sh("systemctl is-enabled -q ecs-netguard && ! systemctl is-active -q ecs-netguard")?;
    host.sh(&format!("rm {policy} && systemctl start ecs-netguard"))?;
    host.wait_protected()?;
    host.count_from_here()?;
    let table = host.seal()?;

    // As builders of images do it: with the builder's /proc and /run.
    host.sh(
        "mkdir -p /run/image /run/changes && mount -t tmpfs changes /run/changes && \
         mkdir /run/changes/upper /run/changes/work && \
         mount -t overlay -o lowerdir=/,upperdir=/run/changes/upper,workdir=/run/changes/work image /run/image && \
         mount --bind /proc /run/image/proc && mount --bind /run /run/image/run",
    )?;
    let said = host.apt(&format!(
        "chroot /run/image dpkg --install {PLACE}/newer.deb && chroot /run/image dpkg --purge ecs-netguard && \
         umount /run/image/run /run/image/proc /run/image /run/changes"
    ))?;
    ensure!(
        host.seal()? == table,
        "the seal is another table after what was done in a chroot: {said}"
    );
    host.sh("systemctl is-active ecs-netguard")?;
    Report::finished(host)
}
