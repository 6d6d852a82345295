//! A clock that is set: by a day, by ten years, and to what a machine without a battery says.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;
use crate::machine::Ability;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "clock",
    about: "the clock set by a day and by ten years, on and back, to 1970 and to 2200",
    core: false,
    bare: false,
    on: On::OldestKernel,
    needs: &[Ability::OwnClock],
    run,
};

/// What `date` sets. The kernel takes nothing before 1970, nor after 2232 (TIME_SETTOD_SEC_MAX).
const JUMPS: &[&str] = &[
    "+1 day",
    "-1 day",
    "+10 years",
    "-20 years",
    "1970-01-02 00:00:00",
    "2200-01-01 00:00:00",
];

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    let pid = || host.sh("systemctl show -P MainPID ecs-netguard");
    let before = pid()?;
    for jump in JUMPS {
        host.sh(&format!("date -s '{jump}'"))?;
        host.sh("iptables -P FORWARD ACCEPT; iptables -F FORWARD; ip6tables -F FORWARD")?;
        host.wait_for(
            &format!("the rules are back after {jump}"),
            "iptables-save | grep -q 'ecs-netguard: imds-block'",
        )?;
        host.wait_protected()?;
        // It is verified again, by the clock that there is now.
        host.sh("systemctl reload ecs-netguard")?;
        host.wait_for(
            &format!("a verification after {jump}"),
            "last=$(ecs-netguard status --json | jq -r .verification.last) && \
             age=$(($(date +%s) - $(date -d \"$last\" +%s))) && test $age -ge 0 && test $age -lt 60",
        )?;
        host.sh("ecs-netguard events --since 1h >/dev/null")?;
        host.none_arrived(&format!("after {jump}"))?;
        ensure!(pid()? == before, "the daemon ended after {jump}");
    }
    // A start by such a clock, whose state has the time of another.
    host.sh("date -s '1970-01-02 00:00:00'; systemctl restart ecs-netguard")?;
    host.wait_protected()?;
    host.none_arrived("after a start in 1970")?;
    host.sh("date -s '+57 years'")?;
    Report::finished(host)
}
