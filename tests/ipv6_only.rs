//! A host without an IPv4 default route: what it sends to the credentials' address has no way, and so meets no rule,
//! unless a route by the loopback interface gives it one (aws/amazon-ecs-agent, ecs-init/routes/routes.go).

use lab::Lab;
use lab::wait::{LONG, eventually};

const ROLES: &str = "ECS_ENABLE_TASK_IAM_ROLE=true\n";
/// What ecs-init adds where it starts, and removes where it stops.
const OF_ECS_INIT: &str = "169.254.170.2/32 dev lo scope link";

fn ipv6_only() -> Lab {
    let lab = Lab::new();
    lab.host.sh("ip route del default");
    lab
}

fn own_routes(lab: &Lab) -> String {
    lab.host.sh("ip route show proto 169")
}

#[test]
fn the_hosts_own_requests_for_credentials_arrive_and_the_route_goes_with_the_guarantee() {
    let lab = ipv6_only();
    lab.write("ecs.config", ROLES);
    lab.netguard(["apply"]).run();
    assert!(
        own_routes(&lab).starts_with("169.254.170.2 dev lo scope link"),
        "{}",
        own_routes(&lab)
    );
    assert!(lab.host.task_credentials().is_ok());
    assert!(lab.docker.task_credentials().is_ok());
    assert_eq!(lab.netguard(["check"]).status().unwrap().code(), Some(0));
    // A default route makes it needless.
    lab.host.sh("ip route add default via 10.0.0.1");
    lab.netguard(["apply"]).run();
    assert_eq!(own_routes(&lab), "");
    assert!(lab.host.task_credentials().is_ok());
    lab.host.sh("ip route del default");
    lab.netguard(["apply"]).run();
    lab.netguard(["release"]).run();
    assert_eq!(own_routes(&lab), "");
}

#[test]
fn without_the_route_check_says_so() {
    let lab = ipv6_only();
    lab.write("ecs.config", ROLES);
    lab.netguard(["apply"]).run();
    lab.host.sh("ip route del 169.254.170.2 dev lo");
    assert!(lab.host.task_credentials().is_err());
    let checked = lab.netguard(["check"]).output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(
        text.contains("this host has no route to 169.254.170.2"),
        "{text}"
    );
    assert_eq!(checked.status.code(), Some(1));
}

#[test]
fn ecs_inits_start_and_stop_leave_the_guards_route_or_have_it_restored() {
    let lab = ipv6_only();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let daemon = lab.start_daemon(ROLES);
    daemon.wait_for_log("the rules are kept with", LONG);
    for _ in 0..3 {
        lab.host.sh(&format!("ip route add {OF_ECS_INIT}"));
        assert!(lab.host.task_credentials().is_ok());
        lab.host.sh(&format!("ip route del {OF_ECS_INIT}"));
        assert!(!own_routes(&lab).is_empty());
        assert!(lab.host.task_credentials().is_ok());
    }
    // Without its own, it takes the guard's.
    lab.host.sh(&format!("ip route del {OF_ECS_INIT}"));
    eventually(LONG, "the route is restored", || {
        !own_routes(&lab).is_empty()
    });
    assert!(lab.host.task_credentials().is_ok());
}
