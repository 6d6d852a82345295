//! A real Docker daemon in the lab, and the lab's imitation of one.

use std::fs;
use std::time::Instant;

use crate::leaves_nothing::{cgroups_named, docker_traces};
use crate::rules_of;
use lab::Lab;
use lab::docker::Programs;
use lab::imds::ROLE;
use lab::tamper::Backend;
use lab::topology::USER_BRIDGE;

/// Where the rules are that decide about a container's packets; not those of published ports, nor
/// those of Docker's that changed from release to release.
const DOCKER_CHAINS: [&str; 6] = [
    "FORWARD",
    "DOCKER-USER",
    "DOCKER-FORWARD",
    "DOCKER-BRIDGE",
    "DOCKER-CT",
    "DOCKER-ISOLATION-STAGE-1",
];

#[test]
fn a_real_docker_does_what_its_imitation_does() {
    let programs = Programs::get().unwrap();
    const URL: &str = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
    let keys_before = fs::read_to_string("/proc/sys/kernel/keys/root_maxkeys").unwrap();

    let lab = Lab::builder().without_docker0().build();
    let tamper = lab.tamper(Backend::Nft);
    let start = Instant::now();
    let mut docker = lab.start_docker(&programs);
    println!("dockerd with an image: {:?}", start.elapsed());

    let start = Instant::now();
    docker.container("one", "bridge");
    println!("docker run: {:?}", start.elapsed());
    let network = docker.docker(&["network", "create", "custom"]);
    docker.container("two", "custom");
    for container in ["one", "two"] {
        assert_eq!(
            docker.wget(container, URL).as_deref(),
            Ok(ROLE),
            "{container}"
        );
    }

    tamper.aws_documented_block();
    assert!(docker.wget("one", URL).is_err());
    assert_eq!(
        docker.wget("two", URL).as_deref(),
        Ok(ROLE),
        "br-… is not docker+"
    );

    let start = Instant::now();
    docker.restart();
    println!("docker restart: {:?}", start.elapsed());
    docker.docker(&["start", "one"]);
    assert_eq!(
        docker.wget("one", URL).as_deref(),
        Ok(ROLE),
        "Docker's rules are above the block"
    );

    // The imitation, on the same history, makes the same filter table.
    let version = docker.docker(&["version", "--format", "{{.Server.Version}}"]);
    let modern = version.split('.').next().unwrap().parse::<u32>().unwrap() >= 28;
    let imitation = Lab::new();
    let imitated = imitation.tamper(Backend::Nft);
    let restart = || match modern {
        true => imitated.docker28_restart(),
        false => imitated.docker25_restart(),
    };
    restart();
    imitated.aws_documented_block();
    restart();
    let real = tamper
        .save()
        .replace(&format!("br-{}", &network[..12]), USER_BRIDGE);
    assert!(rules_of(&real, "FORWARD").len() > 2, "{real}");
    for chain in DOCKER_CHAINS {
        let (real, imitated) = (rules_of(&real, chain), rules_of(&imitated.save(), chain));
        assert_eq!(
            real, imitated,
            "{chain} of Docker {version}, real and imitated"
        );
    }

    let cgroup = docker.cgroup().to_owned();
    assert!(!cgroups_named(&cgroup).is_empty());
    let traces = docker_traces(&lab, &docker, "one");
    let start = Instant::now();
    drop(docker);
    println!("docker gone: {:?}", start.elapsed());
    drop(lab);
    traces.vanish();
    assert_eq!(cgroups_named(&cgroup), "");
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/keys/root_maxkeys").unwrap(),
        keys_before
    );
}
