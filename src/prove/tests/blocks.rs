//! Claims that packets are dropped.

use super::*;

const BLOCK: &str = "-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP\n";

#[test]
fn the_documented_rule_holds() {
    held(&forward(BLOCK), &imds("docker0"));
    held(&forward(BLOCK), &imds("docker+"));
    violated(&forward(BLOCK), &imds("br-+"));
    violated(&forward(""), &imds("docker0"));
}

#[test]
fn an_accept_above_it_breaks_it() {
    let docker = "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n";
    held(&forward(&format!("{BLOCK}{docker}")), &imds("docker0"));
    let walk = violated(&forward(&format!("{docker}{BLOCK}")), &imds("docker0"));
    assert_eq!(walk.decisive().unwrap().text, "policy ACCEPT");
    insta::assert_snapshot!(walk.to_string(), @"");
}
