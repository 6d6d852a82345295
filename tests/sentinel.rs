//! What the daemon does when somebody changes its rules: noticed, put right, and told.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

#[allow(dead_code, reason = "each test uses a part of the lab")]
mod lab;

use std::time::Duration;

use lab::Lab;
use lab::tamper::Backend;

const BOTH: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_flush_is_put_right_and_its_author_named() {
    let lab = Lab::new();
    let daemon = lab.start_daemon(BOTH);
    daemon.wait_for_log("imds-block is held", SOON);
    std::thread::sleep(Duration::from_millis(300));
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    std::thread::sleep(Duration::from_millis(1000));
    println!("{}\n{}", daemon.log(), lab.host.sh("nft list ruleset"));
    panic!();
}
