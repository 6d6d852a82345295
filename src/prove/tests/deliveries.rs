//! Claims that packets arrive.

use super::*;

pub(super) const NAT: &str = "\
-A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679
-A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679
";

const NAT_CHAINS: &str = ":PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]";

fn bridge() -> Origin {
    Origin::Interface(iface("docker0"))
}

#[test]
fn the_rules_of_ecs_init_deliver() {
    let rules = tables(&[("nat", NAT_CHAINS, NAT)]);
    held(&rules, &credentials(bridge()));
    held(&rules, &credentials(Origin::Host));
}

#[test]
fn a_policy_that_drops_is_named() {
    let rules = tables(&[("nat", NAT_CHAINS, NAT), ("filter", ":INPUT DROP [0:0]", "")]);
    let walk = violated(&rules, &credentials(bridge()));
    assert_eq!(walk.decisive().unwrap().text, "policy DROP");
    let walk = violated(&rules, &credentials(Origin::Host));
    assert_eq!(walk.decisive().unwrap().text, "policy DROP");
}
