//! `ecs-netguard explain`: the way of a packet through the rules.

use std::io::{self, Write as _};
use std::net::IpAddr;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::common::{Common, Exit, need_net_admin, print_json};
use super::saved::Files;
use crate::config::sanitize_line;
use crate::guarantee::NativeRule;
use crate::inputs::Inputs;
use crate::os::facts::{self, host_view};
use crate::out;
use crate::posture::Posture;
use crate::prove::{
    Addrs, Destination, Ifaces, Moment, Origin, Outcome, PacketClass, Prover, Step, Walk,
};
use crate::reconcile::{self, Absent, Layers, Tools};
use crate::ruleset::{Family, IfacePattern, Net, PortRange, Ruleset, protocol};
use crate::seal;
use crate::state::Store;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The interface by which the packet comes in; left out, this host sends it
    #[arg(long, value_name = "NAME")]
    iif: Option<String>,
    /// Sent by a process of this host in this cgroup, a path from the root of the hierarchy
    #[arg(long, value_name = "PATH", conflicts_with = "iif")]
    cgroup: Option<String>,
    /// The interface by which routing sends it out; any, if left out
    #[arg(long, value_name = "NAME")]
    oif: Option<String>,
    /// The packet's destination
    #[arg(long, value_name = "ADDRESS")]
    dst: IpAddr,
    /// Its source; any, if left out
    #[arg(long, value_name = "ADDRESS")]
    src: Option<IpAddr>,
    /// Its protocol: tcp, udp, icmp, or a number; any, if left out
    #[arg(long, value_name = "NAME", value_parser = parse_protocol)]
    proto: Option<u8>,
    /// Its destination port; any, if left out
    #[arg(long, value_name = "PORT", requires = "proto")]
    dport: Option<u16>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    files: Files,
}

fn parse_protocol(text: &str) -> Result<u8, String> {
    match text {
        "tcp" => Ok(protocol::TCP),
        "udp" => Ok(protocol::UDP),
        "icmp" => Ok(protocol::ICMP),
        "icmpv6" | "ipv6-icmp" => Ok(protocol::ICMPV6),
        number => number
            .parse()
            .map_err(|_| "expected tcp, udp, icmp, icmpv6 or 0 to 255".into()),
    }
}

#[derive(Serialize)]
struct Explanation {
    packets: String,
    #[serde(flatten)]
    walk: Walk,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let class = class(arguments)?;
    let walk = match arguments.files.read()? {
        Some(given) => {
            let (of_family, option) = match class.family {
                Family::V4 => ("IPv4", "--ruleset"),
                Family::V6 => ("IPv6", "--ruleset6"),
            };
            anyhow::ensure!(
                given.has(class.family),
                "no {of_family} rules to walk through: name a file with {option}"
            );
            let host = given.host(arguments.iif.as_slice());
            let rulesets: Vec<&Ruleset> = given.of_iptables(class.family).collect();
            Prover::new(&rulesets, &host).explain(&class)
        }
        None => {
            need_net_admin("explain")?;
            live(common, &class)?
        }
    };
    let decided = walk.ends.len() == 1 && walk.unknown().is_none();
    let explanation = Explanation {
        packets: class.to_string(),
        walk,
    };
    if arguments.json {
        print_json(&explanation)?;
    } else {
        print(&explanation)?;
    }
    Ok(if decided { Exit::Held } else { Exit::Undecided })
}

fn class(arguments: &Arguments) -> anyhow::Result<PacketClass> {
    let family = match arguments.dst {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    anyhow::ensure!(
        arguments
            .src
            .is_none_or(|src| src.is_ipv4() == arguments.dst.is_ipv4()),
        "--src and --dst are of different families"
    );
    let interface = |option: &str, name: &str| {
        let pattern = IfacePattern::parse(name);
        pattern
            .map(Ifaces::from)
            .with_context(|| format!("{option} {name}: no interface has such a name"))
    };
    let from = match (&arguments.iif, &arguments.cgroup) {
        (Some(name), _) => Origin::Interface(interface("--iif", name)?),
        (None, Some(path)) => Origin::Cgroup(path.trim_matches('/').to_owned()),
        (None, None) => Origin::Host,
    };
    let out = arguments
        .oif
        .as_deref()
        .map(|name| interface("--oif", name))
        .transpose()?;
    Ok(PacketClass {
        family,
        from,
        out,
        src: arguments
            .src
            .map(|src| Addrs::from(Net::host(src)))
            .unwrap_or_default(),
        dst: Destination::Net(Net::host(arguments.dst)),
        protocol: arguments.proto,
        sport: None,
        dport: arguments.dport.map(|port| PortRange {
            low: port,
            high: port,
        }),
        moment: Moment::First,
        turned: false,
    })
}

/// The rules that the kernel holds, whatever is required on this host.
fn live(common: &Common, class: &PacketClass) -> anyhow::Result<Walk> {
    let (store, _) = Store::peek(&common.state_dir);
    let inputs = Inputs::read(&common.inputs(), &store.state.inputs)?;
    let posture = Posture::everything("explain").opted(&inputs.settings);
    let (desired, found) = reconcile::resolve(
        &inputs.settings,
        &posture,
        (
            facts::read(&inputs.settings),
            Tools::find(&inputs.settings, common.backend),
        ),
        &[],
    );
    let layers = Layers::read(&desired, &found, Absent::Listed);
    let unread = |why: &str| {
        let _nowhere_to_complain = writeln!(out::errors(), "could not be read: {why}");
    };
    layers.unread.iter().for_each(|why| unread(why));
    let (mut host, _) = host_view(found.facts.task_cgroup.as_ref());
    host.native.clone_from(&layers.native);
    match layers.ipsets() {
        Ok(sets) => host.ipsets = sets,
        Err(error) => unread(&format!("the sets of ipset: {error}")),
    }
    anyhow::ensure!(
        class.family == Family::V4 || found.facts.ipv6,
        "this host has no IPv6, so no packet goes to {}",
        match class.dst {
            Destination::Net(net) => net.to_string(),
            Destination::ThisHost => String::new(),
        }
    );
    let mut walk = Prover::new(&layers.sealed(class.family), &host).explain(class);
    name_seal(&mut walk, &layers.seal.rules);
    Ok(walk)
}

/// The prover walks the seal as tables of iptables at the same hooks: here its steps get the names that
/// `nft list table inet ecs_netguard` shows.
fn name_seal(walk: &mut Walk, seal: &[NativeRule]) {
    for step in &mut walk.steps {
        let is = |rule: &&NativeRule| {
            rule.hook.iptables() == (&step.table, &step.chain) && rule.to_string() == step.text
        };
        let place = seal.iter().find(is).map(seal::place);
        if let Some((table, chain)) = place.as_deref().and_then(|place| place.rsplit_once(' ')) {
            step.table = format!("nftables {table}");
            step.chain = chain.to_owned();
        }
    }
}

fn print(explanation: &Explanation) -> io::Result<()> {
    let mut out = out::text();
    let walk = &explanation.walk;
    writeln!(out, "{}", explanation.packets)?;
    let mut place = None;
    for step in &walk.steps {
        let here = (step.hook, &step.table, &step.chain);
        if place != Some(here) {
            writeln!(out, "\n{} · {} · {}", step.hook, step.table, step.chain)?;
            place = Some(here);
        }
        writeln!(out, "{}", line(step))?;
    }
    if walk.omitted > 0 {
        writeln!(
            out,
            "\n{} more rules that do not apply are left out",
            walk.omitted
        )?;
    }
    let ends: Vec<String> = walk.ends.iter().map(ToString::to_string).collect();
    writeln!(out, "\n= {}", ends.join(", or "))
}

/// `    3  partly   -i docker0 ! -o docker0 -j ACCEPT    (out any but docker0)`
fn line(step: &Step) -> String {
    let number = step
        .rule
        .map(|number| number.to_string())
        .unwrap_or_default();
    let outcome = match &step.outcome {
        Outcome::Matched => "matches",
        Outcome::NotMatched => "no",
        Outcome::Partly => "partly",
        Outcome::Unknown(_) => "unknown",
    };
    let mut line = format!("{number:>5}  {outcome:<8} {}", sanitize_line(&step.text));
    if !step.note.is_empty() {
        line.push_str(&format!("  ({})", step.note));
    }
    line
}
