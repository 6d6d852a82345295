//! What a probe records becomes an event and figures of the daemon.

use super::{BLOCK, guarded};
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

#[test]
fn a_recorded_probe_is_an_event_and_a_figure() {
    let lab =
        guarded("[verify]\ninterval = \"1s\"\n[seal]\nenabled = false\n[edge]\nenabled = false\n");
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    let figure = |state: &str| {
        let text = lab
            .host
            .sh("curl -sf --unix-socket /run/lab/run/status.sock http://netguard/metrics");
        text.contains(&format!("ecs_netguard_probe_state{{state=\"{state}\"}} 1"))
    };
    assert!(!figure("held") && !figure("violated"));
    lab.netguard(["probe", "--record"]).run();
    daemon.wait_for_log("probe: HELD", LONG);
    eventually(LONG, "the figure says so", || figure("held"));
    drop(daemon);

    // Without the daemon, which would repair it.
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    let output = lab.netguard(["probe", "--record"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let daemon = lab.start_daemon(BLOCK);
    let log = daemon.wait_for_log("probe: VIOLATED: from bridge ", LONG);
    assert!(!log.contains("probe: HELD"), "{log}");
    eventually(LONG, "the figure says so", || figure("violated"));
}
