//! However the daemon ends, the seal stays: systemd keeps its socket.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;
use crate::machine::Ability;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "crash",
    about: "kill -9, restart, a crash loop, the watchdog",
    core: true,
    bare: false,
    on: On::EveryKernel,
    needs: &[],
    run,
};

pub(super) const OUT_OF_MEMORY: Scenario = Scenario {
    name: "out-of-memory",
    about: "the kernel kills the daemon because its memory is used up",
    core: false,
    bare: false,
    on: On::OldestKernel,
    needs: &[Ability::MemoryLimit],
    run: out_of_memory,
};

const PID: &str = "$(systemctl show -P MainPID ecs-netguard)";

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    let table = host.seal()?;

    let killed = kill(host)?;
    // Dead or already back: no other process may touch it.
    cannot_be_deleted(host)?;
    flush(host)?;
    host.none_arrived("while the daemon was dead")?;
    wait_for_another(host, &killed)?;
    host.wait_protected()?;

    host.sh("systemctl restart ecs-netguard")?;
    cannot_be_deleted(host)?;

    for _ in 0..5 {
        let killed = kill(host)?;
        flush(host)?;
        wait_for_another(host, &killed)?;
        cannot_be_deleted(host)?;
    }
    host.none_arrived("in the crash loop")?;
    host.wait_protected()?;

    // Stopped, it neither repairs nor feeds the watchdog; the seal needs neither.
    host.sh(
        "mkdir -p /run/systemd/system/ecs-netguard.service.d && \
         printf '[Service]\\nWatchdogSec=4s\\n' >/run/systemd/system/ecs-netguard.service.d/watchdog.conf && \
         systemctl daemon-reload && systemctl restart ecs-netguard",
    )?;
    let before = restarts(host)?;
    host.sh(&format!("kill -STOP {PID}"))?;
    flush(host)?;
    host.sh("nft flush ruleset")?;
    host.wait_for(
        "the watchdog starts it again",
        &format!("test \"$(systemctl show -P NRestarts ecs-netguard)\" -gt {before}"),
    )?;
    host.none_arrived("while the daemon was stopped")?;
    host.wait_protected()?;
    cannot_be_deleted(host)?;
    // Docker's own rules are gone too; it brings them at its start.
    host.restart_docker()?;
    end(host, &table)
}

fn out_of_memory(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    let table = host.seal()?;
    // What it has in use already is more than that, and there is nothing to write it out to.
    host.sh("systemctl set-property --runtime ecs-netguard MemoryMax=1M MemorySwapMax=0")?;
    host.wait_for(
        "the kernel kills it",
        "journalctl --no-pager -u ecs-netguard | grep -q oom-kill",
    )?;
    flush(host)?;
    cannot_be_deleted(host)?;
    host.none_arrived("while the daemon had no memory")?;
    host.sh("systemctl set-property --runtime ecs-netguard MemoryMax=infinity")?;
    host.wait_for("it runs again", "systemctl is-active -q ecs-netguard")?;
    host.wait_protected()?;
    end(host, &table)
}

/// The seal is the table that it was.
fn end(host: &Host<'_>, table: &str) -> Result<Report> {
    ensure!(
        host.seal()? == table,
        "the seal is not the table that it was at the start"
    );
    Report::finished(host)
}

/// Kills the daemon; its process id.
fn kill(host: &Host<'_>) -> Result<String> {
    // Process 0 would be the script itself.
    let pid = host.sh(&format!(
        "pid={PID}; test $pid -gt 1 && kill -9 $pid && echo $pid"
    ))?;
    Ok(pid.trim().to_owned())
}

/// Waits until another daemon than the one that was killed has done its first proof. systemd still calls
/// that one active until it has seen it die.
fn wait_for_another(host: &Host<'_>, killed: &str) -> Result<()> {
    host.wait_for(
        "it runs again",
        &format!(
            "pid={PID}; test $pid -gt 1 && test $pid != {killed} && systemctl is-active -q ecs-netguard"
        ),
    )?;
    Ok(())
}

fn flush(host: &Host<'_>) -> Result<()> {
    host.sh("iptables -P FORWARD ACCEPT; iptables -F FORWARD; ip6tables -F FORWARD")?;
    Ok(())
}

fn cannot_be_deleted(host: &Host<'_>) -> Result<()> {
    let tried = host.run("nft delete table inet ecs_netguard")?;
    ensure!(
        tried.code != 0 && tried.stderr.contains("Operation not permitted"),
        "nft deleted the seal, or failed in another way: exit code {}, {}",
        tried.code,
        tried.stderr
    );
    Ok(())
}

fn restarts(host: &Host<'_>) -> Result<u32> {
    Ok(host
        .sh("systemctl show -P NRestarts ecs-netguard")?
        .trim()
        .parse()?)
}
