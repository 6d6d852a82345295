//! Random conditions on what headers say beside addresses and ports, and on connections.

use super::random::Random;

pub(super) const STATES: [&str; 10] = [
    "NEW",
    "ESTABLISHED",
    "RELATED",
    "INVALID",
    "RELATED,ESTABLISHED",
    "NEW,ESTABLISHED",
    "UNTRACKED",
    "INVALID,NEW",
    "INVALID,UNTRACKED",
    "RELATED,NEW",
];

/// What is known of a connection beside its state.
pub(super) fn connection(random: &mut Random, v4: bool) -> String {
    let mut words = String::from("-m conntrack ");
    if random.percent(25) {
        words += &format!("{}--ctstate {} ", random.not(), random.pick(&STATES));
    }
    let end = random.pick(&["origsrc", "origdst", "replsrc", "repldst"]);
    let not = random.not();
    words += &match random.below(5) {
        0 => format!("--ctdir {} ", random.pick(&["ORIGINAL", "REPLY"])),
        1 => format!("{not}--ctproto {} ", random.pick(&["6", "17", "1"])),
        2 => {
            let status = random.pick(&[
                "SEEN_REPLY",
                "ASSURED",
                "CONFIRMED",
                "EXPECTED,SEEN_REPLY",
                "NONE",
            ]);
            format!("{not}--ctstatus {status} ")
        }
        3 => {
            let port = random.pick(&["80", "1:1023", "51679", "40000"]);
            format!("{not}--ct{end}port {port} ")
        }
        _ => {
            let addr = if v4 {
                random.pick(&[
                    "169.254.169.254",
                    "172.17.0.0/16",
                    "169.254.170.2",
                    "10.0.0.10",
                    "127.0.0.1",
                ])
            } else {
                random.pick(&["fd00:ec2::254", "fd00:17::/64", "fd00:10::10", "::1"])
            };
            format!("{not}--ct{end} {addr} ")
        }
    };
    words
}

/// What headers say beside addresses and ports.
pub(super) fn header(random: &mut Random, v4: bool) -> String {
    let not = random.not();
    match random.below(4) {
        0 => {
            let length = random.pick(&["0:100", "100", "101:65535", "0:99", "150:1300"]);
            format!("-m length {not}--length {length} ")
        }
        1 => {
            let module = if v4 { "ttl" } else { "hl" };
            let how = random.pick(&["eq", "lt", "gt"]);
            // Only this one takes a `!`.
            let not = if how == "eq" { not } else { "" };
            let left = random.pick(&["1", "62", "63", "64", "254"]);
            format!("-m {module} {not}--{module}-{how} {left} ")
        }
        2 => format!(
            "-m dscp {not}--dscp {} ",
            random.pick(&["0x0a", "0x00", "0x2e"])
        ),
        _ => {
            let tos = random.pick(&["0x10/0xff", "0x00/0x3f", "0x08/0x1c", "0x28/0xfc"]);
            format!("-m tos {not}--tos {tos} ")
        }
    }
}
