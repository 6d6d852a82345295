use std::path::PathBuf;

use super::*;
use crate::config::{EcsInputs, FileText, resolve};

fn ecs(text: &str, ecs_init_present: bool) -> EcsConfig {
    resolve(&EcsInputs {
        config: (
            PathBuf::from("/etc/ecs/ecs.config"),
            FileText::Text(text.to_owned()),
        ),
        var_config: None,
        json: (PathBuf::from("/etc/ecs/ecs.config.json"), FileText::Absent),
        ecs_init_present,
        environment: vec!["/etc/ecs/ecs.config".into()],
    })
}

fn settings(text: &str) -> Settings {
    Settings::parse("/etc/ecs-netguard/config.toml".as_ref(), text).unwrap()
}

fn required(config_toml: &str, ecs_config: &str) -> Vec<&'static str> {
    let posture = Posture::resolve(&settings(config_toml), &ecs(ecs_config, true));
    posture
        .required()
        .into_iter()
        .map(Guarantee::name)
        .collect()
}

#[test]
fn an_empty_host_with_ecs_init_has_tasks_and_shields_but_no_block() {
    assert_eq!(
        required("", ""),
        [
            "loopback-shield",
            "introspection-shield",
            "task-credentials"
        ]
    );
}

#[test]
fn without_ecs_init_nothing_needs_route_localnet() {
    let posture = Posture::resolve(&Settings::default(), &ecs("", false));
    assert_eq!(posture.required(), [Guarantee::IntrospectionShield]);
}

#[test]
fn every_wish_has_its_reason() {
    let lines = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=false\n\
                 ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=false\n\
                 ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS=true\n";
    let posture = Posture::resolve(&Settings::default(), &ecs(lines, true));
    let text: Vec<String> = posture
        .decisions()
        .iter()
        .map(|d| format!("{} {}: {}", d.guarantee, d.required, d.reason))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn a_wish_to_block_that_cannot_be_read_blocks() {
    for value in [
        "\"true\"", "'1'", "yes", "on", "ture", "tru e", "True!", "2",
    ] {
        let line = format!("ECS_AWSVPC_BLOCK_IMDS={value}");
        assert!(required("", &line).contains(&"imds-block"), "{line}");
    }
}

#[test]
fn a_plain_no_does_not_block() {
    for value in ["false", "0", "F", "\"false\"", "no", "off", ""] {
        let line = format!("ECS_AWSVPC_BLOCK_IMDS={value}");
        assert!(!required("", &line).contains(&"imds-block"), "{line}");
    }
}

#[test]
fn a_wish_to_open_that_cannot_be_read_opens_nothing() {
    for variable in [
        "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER",
        "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS",
    ] {
        let line = format!("{variable}=yes please");
        let names = required("", &line);
        assert!(names.contains(&"loopback-shield"), "{line}");
        assert!(names.contains(&"introspection-shield"), "{line}");
    }
}

#[test]
fn a_block_whose_name_cannot_be_read_blocks_and_the_reason_is_the_line() {
    let posture = Posture::resolve(
        &Settings::default(),
        &ecs("export ECS_AWSVPC_BLOCK_IMDS=true\n", true),
    );
    assert!(posture.requires(Guarantee::AwsvpcImdsBlock));
    assert_eq!(
        posture.decisions()[0].reason,
        "\"export ECS_AWSVPC_BLOCK_IMDS=true\" (/etc/ecs/ecs.config:1); the ECS agent cannot read that and takes \
         it as unset"
    );
    assert!(!required("", "#ECS_AWSVPC_BLOCK_IMDS=true\n").contains(&"imds-block"));
}

#[test]
fn a_host_outside_ec2_is_blocked_like_any_other_and_says_so() {
    let text = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_EXTERNAL=true\n";
    let posture = Posture::resolve(&Settings::default(), &ecs(text, true));
    assert!(posture.requires(Guarantee::ImdsBlock));
    let reason = &posture.decisions()[0].reason;
    assert!(
        reason.contains("ECS_EXTERNAL=true (/etc/ecs/ecs.config:2)"),
        "{reason}"
    );
    assert!(reason.contains("may run on EC2"), "{reason}");
    assert!(!required("", "ECS_EXTERNAL=true\n").contains(&"imds-block"));
}

#[test]
fn config_toml_wins_over_ecs_config() {
    let block = "ECS_AWSVPC_BLOCK_IMDS=true\n";
    assert!(!required("[imds]\nblock = \"never\"", block).contains(&"imds-block"));
    assert!(required("[imds]\nblock = \"always\"", "").contains(&"imds-block"));
    assert!(!required("[credentials]\nendpoint = \"never\"", "").contains(&"task-credentials"));
    let off = "ECS_ENABLE_TASK_IAM_ROLE=false\nECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=false";
    assert!(required("[credentials]\nendpoint = \"always\"", off).contains(&"task-credentials"));
}

#[test]
fn the_loopback_shield_comes_with_route_localnet_and_can_be_skipped() {
    assert!(!required("", "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true").contains(&"loopback-shield"));
    // ecs-init sets it whatever the variables say.
    let off = "ECS_ENABLE_TASK_IAM_ROLE=false\nECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=false";
    assert!(required("", off).contains(&"loopback-shield"));
    assert!(required("[credentials]\nendpoint = \"never\"", "").contains(&"loopback-shield"));
    let without = Posture::resolve(&Settings::default(), &ecs(off, false));
    assert!(!without.requires(Guarantee::LoopbackShield));
}

#[test]
fn the_shield_is_required_wherever_route_localnet_is_on() {
    let off = "ECS_ENABLE_TASK_IAM_ROLE=false\nECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=false\n";
    let required = |text: &str, on: &[&str]| {
        let inputs = ecs(text, false);
        let mut posture = Posture::resolve(&Settings::default(), &inputs);
        let on: Vec<String> = on.iter().map(|name| (*name).to_owned()).collect();
        posture.observe(&inputs, &on);
        posture.requires(Guarantee::LoopbackShield)
    };
    assert!(!required(off, &[]));
    assert!(required(off, &["all"]));
    assert!(required(off, &["cni0"]));
    let skipped = format!("{off}ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n");
    assert!(!required(&skipped, &["all"]));
    // Nothing else is, and what was keeps its reason.
    for with_ecs_init in [false, true] {
        let inputs = ecs(off, with_ecs_init);
        let before = Posture::resolve(&Settings::default(), &inputs);
        let mut after = before.clone();
        after.observe(&inputs, &["cni0".to_owned()]);
        let others = before.decisions().iter().zip(after.decisions());
        let changed = others.filter(|(before, after)| before != after);
        let changed: Vec<_> = changed
            .map(|(_, after)| (after.guarantee, &*after.reason))
            .collect();
        let reason = "net.ipv4.conf.cni0.route_localnet is 1";
        let new = (Guarantee::LoopbackShield, reason);
        assert_eq!(changed, Vec::from_iter((!with_ecs_init).then_some(new)));
    }
}

#[test]
fn another_reason_blocks_where_config_toml_leaves_it_open_and_nothing_asked_for_it() {
    use Guarantee::{AwsvpcImdsBlock, ImdsBlock};
    let blocked = |config_toml: &str, ecs_config: &str| {
        let settings = settings(config_toml);
        let mut posture = Posture::resolve(&settings, &ecs(ecs_config, true));
        posture.block(&settings, "user data has not spoken");
        let decisions = posture.decisions().iter();
        let new = decisions.filter(|d| d.required && d.reason == "user data has not spoken");
        new.map(|d| d.guarantee).collect::<Vec<_>>()
    };
    assert_eq!(blocked("", ""), [ImdsBlock, AwsvpcImdsBlock]);
    assert_eq!(blocked("[imds]\nawsvpc = \"never\"", ""), [ImdsBlock]);
    assert_eq!(blocked("[imds]\nblock = \"never\"", ""), []);
    assert_eq!(blocked("[imds]\nblock = \"always\"", ""), []);
    assert_eq!(blocked("", "ECS_AWSVPC_BLOCK_IMDS=true\n"), []);
}

#[test]
fn what_is_left_out_is_one_guarantee_with_its_reason() {
    let mut posture = Posture::resolve(&Settings::default(), &ecs("", true));
    let before = posture.required();
    posture.leave_out(Guarantee::LoopbackShield, "a file says nothing of it");
    let left: Vec<_> = before
        .into_iter()
        .filter(|of| *of != Guarantee::LoopbackShield)
        .collect();
    assert_eq!(posture.required(), left);
    let mut decisions = posture.decisions().iter();
    let shield = decisions.find(|d| d.guarantee == Guarantee::LoopbackShield);
    assert_eq!(shield.unwrap().reason, "a file says nothing of it");
}

#[test]
fn what_is_kept_is_what_config_toml_does_not_decide() {
    let earlier = |text: &str| Posture::resolve(&Settings::default(), &ecs(text, true));
    let kept = |config_toml: &str, text: &str| {
        let mut posture = Posture::resolve(&settings(config_toml), &ecs("", false));
        posture.keep(&earlier(text), &settings(config_toml));
        posture.required()
    };
    use Guarantee::{
        AwsvpcImdsBlock, ImdsBlock, IntrospectionShield, LoopbackShield, TaskCredentials,
    };
    let block = "ECS_AWSVPC_BLOCK_IMDS=true\n";
    let all = [
        ImdsBlock,
        AwsvpcImdsBlock,
        LoopbackShield,
        IntrospectionShield,
        TaskCredentials,
    ];
    assert_eq!(kept("", block), all);
    assert_eq!(kept("[imds]\nblock = \"never\"", block), all[2..]);
    let bridges = kept("[imds]\nawsvpc = \"never\"", block);
    assert_eq!((bridges[0], &bridges[1..]), (ImdsBlock, &all[2..]));
    let never = "[credentials]\nendpoint = \"never\"";
    assert_eq!(
        kept(never, block),
        [ImdsBlock, AwsvpcImdsBlock, IntrospectionShield]
    );
    let always = "[credentials]\nendpoint = \"always\"";
    assert_eq!(kept(always, block), all);
    // The shield was to be skipped, and still is.
    let skip = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n";
    let unshielded = [
        ImdsBlock,
        AwsvpcImdsBlock,
        IntrospectionShield,
        TaskCredentials,
    ];
    assert_eq!(kept("", skip), unshielded);
    assert_eq!(kept(always, skip), unshielded);
    // Nothing needed it, so whether it was to be skipped is not known.
    let off = "ECS_ENABLE_TASK_IAM_ROLE=false\nECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=false\n";
    assert_eq!(kept(always, off), all[2..]);
}

#[test]
fn an_upgrade_keeps_the_block_also_for_tasks() {
    let asked = Posture {
        decisions: vec![Decision {
            impossible: None,
            guarantee: Guarantee::ImdsBlock,
            required: true,
            reason: "asked for".into(),
        }],
    };
    let mut posture = Posture::resolve(&Settings::default(), &ecs("", true));
    posture.keep(&asked, &Settings::default());
    assert!(posture.requires(Guarantee::AwsvpcImdsBlock));
}

#[test]
fn of_a_guarantee_that_an_earlier_program_did_not_know_nothing_is_kept() {
    let mut posture = Posture::resolve(&Settings::default(), &ecs("", true));
    let before = posture.clone();
    posture.keep(&Posture::default(), &Settings::default());
    assert_eq!(posture, before);
}

#[test]
fn tasks_on_the_hosts_network_are_asked_for_by_themselves() {
    let on = "[imds]\nhost_tasks = true\nblock = \"never\"";
    assert!(required(on, "").contains(&"host-imds-block"));
    assert!(!required("", "ECS_AWSVPC_BLOCK_IMDS=true").contains(&"host-imds-block"));
    let posture = Posture::everything("test");
    assert!(!posture.required().contains(&Guarantee::HostImdsBlock));
    let opted = posture.opted(&settings(on));
    assert!(opted.required().contains(&Guarantee::HostImdsBlock));
}

#[test]
fn without_cgroups_for_tasks_they_cannot_be_distinguished() {
    let impossible = |posture: &Posture| {
        let mut decisions = posture.decisions().iter();
        let block = decisions.find(|d| d.guarantee == Guarantee::HostImdsBlock);
        assert!(decisions.all(|d| d.impossible.is_none()));
        block.and_then(|d| d.impossible.clone())
    };
    let on = settings("[imds]\nhost_tasks = true");
    let posture = |text: &str| Posture::resolve(&on, &ecs(text, true));
    assert_eq!(impossible(&posture("")), None);
    // The agent cannot read that, and takes it as unset.
    let quoted = posture("ECS_ENABLE_TASK_CPU_MEM_LIMIT=\"false\"\n");
    assert_eq!(impossible(&quoted), None);
    let off = posture("ECS_ENABLE_TASK_CPU_MEM_LIMIT=false\n");
    let why = impossible(&off).unwrap();
    assert!(why.contains("ECS_ENABLE_TASK_CPU_MEM_LIMIT=false (/etc/ecs/ecs.config:1)"));
    let mut kept = posture("");
    kept.keep(&off, &on);
    assert_eq!(impossible(&kept), Some(why));
}
