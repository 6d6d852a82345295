//! ecs-init, which adds its rules at every start of the ECS agent without a look, and deletes them by
//! their bare words at every stop, and route_localnet with them.

use super::scene::Scene;
use lab::Lab;
use lab::tamper::Backend;
use lab::wait::LONG;

/// A tool that tries the lock without waiting and fails where another process holds it, as iptables-legacy 1.8.11 does
/// without `-w`, which ecs-init does not give (older ones wait anyway). The program inside takes another lock.
const IMPATIENT: &str = "#!/bin/sh
exec flock -n -E 4 /run/xtables.lock env XTABLES_LOCKFILE=/run/xtables.lock.inside PROGRAM \"$@\"
";

#[test]
fn no_start_or_stop_of_ecs_init_fails_because_of_the_guard() {
    let rounds = std::env::var("ECS_NETGUARD_ROUNDS").map_or(2, |text| text.parse().unwrap());
    for backend in Backend::ALL {
        let lab = Lab::new();
        lab.write(
            "config.toml",
            format!("[iptables]\nbackend = \"{}\"\n", backend.suffix()),
        );
        let calls = lab.tamper(backend).ecs_init_rules();
        for program in [backend.iptables(), backend.ip6tables()] {
            lab.write(&program, IMPATIENT.replace("PROGRAM", &program));
            lab.host
                .sh(&format!("chmod +x {}", lab.inside(&program).display()));
        }
        // The tool does fail where the lock is held.
        let program = lab.inside(&backend.iptables()).display().to_string();
        let held = format!("flock /run/xtables.lock {program} -S INPUT");
        assert!(lab.host.try_run(&held).is_err());
        let daemon =
            lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n");
        daemon.wait_for_log("the rules are kept with", LONG);
        let mut failures = Vec::new();
        for round in 0..rounds {
            for (what, sysctl) in [("start", "1"), ("stop", "0")] {
                lab.host
                    .set_sysctl("net/ipv4/conf/all/route_localnet", sysctl);
                for (program, how, rule) in &calls {
                    let how = match what {
                        "start" => (*how).to_owned(),
                        _ => how.replace("-A", "-D").replace("-I", "-D"),
                    };
                    let program = lab.inside(program).display().to_string();
                    if let Err(why) = lab.host.try_run(&format!("{program} {how} {rule}")) {
                        failures.push(format!("{backend:?}, {what} {round}: {why}"));
                    }
                }
            }
        }
        assert!(
            failures.is_empty(),
            "{} of {rounds} rounds:\n{}",
            failures.len(),
            failures.join("\n")
        );
    }
}

#[test]
fn ecs_init_starts_and_stops_beside_the_guard() {
    for backend in Backend::ALL {
        for sealed in [true, false] {
            let scene = Scene::guarded("ecs-init", backend, sealed);
            for what in ["start", "start without a stop"] {
                scene.held(what, |lab| lab.tamper(backend).ecs_init_pre_start());
            }
            for what in ["stop", "another stop"] {
                scene.held(what, |lab| {
                    assert!(
                        lab.tamper(backend).ecs_init_post_stop(),
                        "all of its own was there"
                    );
                });
            }
            scene.leave();
        }
    }
}

#[test]
fn ecs_init_was_there_before_the_guard() {
    for backend in Backend::ALL {
        for sealed in [true, false] {
            let mut scene = Scene::new("ecs-init, there before", backend, sealed);
            scene.lab.tamper(backend).ecs_init_pre_start();
            scene.guard();
            scene.held("stop", |lab| {
                assert!(
                    lab.tamper(backend).ecs_init_post_stop(),
                    "all of its own was there"
                );
            });
            scene.held("start", |lab| lab.tamper(backend).ecs_init_pre_start());
            scene.leave();
        }
    }
}
