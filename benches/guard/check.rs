//! What a look by hand costs on a host as they are: Docker's rules and ten bridges.

use crate::defence::ECS_CONFIG;
use crate::options::Options;
use crate::report::Figure;
use crate::time::times;
use lab::Lab;
use lab::tamper::Backend;

pub(crate) const ID: &str = "check";
pub(crate) const WHO: &str = "ecs-netguard check";
pub(crate) const WHAT: &str = "from exec to its end";

const BRIDGES: usize = 10;

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "a check beside Docker's rules and ten bridges");
    let lab = Lab::new();
    lab.tamper(Backend::Nft).docker25_restart();
    for bridge in 0..BRIDGES {
        lab.host.sh(&format!(
            "ip link add br-{bridge:012x} type bridge; ip link set br-{bridge:012x} up
             ip addr add 172.{}.0.1/16 dev br-{bridge:012x}",
            18 + bridge
        ));
    }
    lab.write("ecs.config", ECS_CONFIG);
    lab.netguard(["apply"]).run();
    let checks = times(|| drop(lab.netguard(["check"]).run()));
    figure.add_times(WHO, WHAT, &checks);
    let saves = times(|| {
        for family in ["iptables-nft-save", "ip6tables-nft-save"] {
            drop(lab.host.command(family).run());
        }
    });
    figure.add_times("iptables-save and ip6tables-save", WHAT, &saves);
    figure
}
