//! What `-m conntrack` asks of a packet's connection beside its state.

use std::fmt;

use super::Family;
use super::matches::{Connection, CtPart, CtStatus, Side, Test, Way};
use super::names::port_range;
use super::option::Opt;
use super::target::number;
use super::value::Net;

impl CtStatus {
    const NAMES: [(&str, Self); 4] = [
        ("EXPECTED", Self::Expected),
        ("SEEN_REPLY", Self::SeenReply),
        ("ASSURED", Self::Assured),
        ("CONFIRMED", Self::Confirmed),
    ];
}

/// The options that ask for an end.
const ENDS: [(&str, Way, Side); 4] = [
    ("origsrc", Way::Original, Side::Src),
    ("origdst", Way::Original, Side::Dst),
    ("replsrc", Way::Reply, Side::Src),
    ("repldst", Way::Reply, Side::Dst),
];

impl CtPart {
    /// One option of the match, if it is understood.
    pub(super) fn read(family: Family, option: &Opt<'_>) -> Option<Test<Self>> {
        let text = option.operand()?;
        let test = |part| Some(option.test(part));
        match option.name {
            "--ctdir" if option.negated => None,
            "--ctdir" => match text {
                "ORIGINAL" => Some(Test::not(Self::Reply)),
                "REPLY" => Some(Test::is(Self::Reply)),
                _ => None,
            },
            "--ctproto" => test(Self::Protocol(u8::try_from(number(text)?).ok()?)),
            "--ctstatus" => {
                let names = text.split(',').filter(|name| *name != "NONE");
                let one = |name| CtStatus::NAMES.iter().find(|(known, _)| *known == name);
                let all = names.map(|name| one(name).map(|(_, status)| *status));
                test(Self::Status(all.collect::<Option<_>>()?))
            }
            "--ctexpire" => test(Self::Expires(text.to_owned())),
            name => {
                let end = name.strip_prefix("--ct")?;
                let address = end.strip_suffix("port").unwrap_or(end);
                let (_, way, side) = *ENDS.iter().find(|(known, ..)| *known == address)?;
                test(if address == end {
                    Self::Addr(way, side, Net::parse(family, text)?)
                } else {
                    Self::Port(way, side, port_range(text)?)
                })
            }
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("-m conntrack")?;
        if let Some(Test { negated, value }) = &self.state {
            write!(f, "{} --ctstate {value}", if *negated { " !" } else { "" })?;
        }
        for Test { negated, value } in &self.parts {
            let not = if *negated { " !" } else { "" };
            let end = |way, side| {
                let end = ENDS.iter().find(|(_, w, s)| (*w, *s) == (way, side));
                end.map_or("", |(name, ..)| name)
            };
            match value {
                CtPart::Reply if *negated => write!(f, " --ctdir ORIGINAL")?,
                CtPart::Reply => write!(f, " --ctdir REPLY")?,
                CtPart::Protocol(number) => write!(f, "{not} --ctproto {number}")?,
                CtPart::Addr(way, side, net) => write!(f, "{not} --ct{} {net}", end(*way, *side))?,
                CtPart::Port(way, side, ports) => {
                    write!(f, "{not} --ct{}port {ports}", end(*way, *side))?;
                }
                CtPart::Status(all) => {
                    let names = CtStatus::NAMES.iter().filter(|(_, one)| all.contains(one));
                    let names: Vec<&str> = names.map(|(name, _)| *name).collect();
                    let none = if names.is_empty() { "NONE" } else { "" };
                    write!(f, "{not} --ctstatus {none}{}", names.join(","))?;
                }
                CtPart::Expires(seconds) => write!(f, "{not} --ctexpire {seconds}")?,
            }
        }
        Ok(())
    }
}
