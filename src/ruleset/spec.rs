//! Reads the words of one rule into its matches and its target.

use super::extension;
use super::matches::{Match, Side, Test, protocol};
use super::names::protocol_number;
use super::target::{self, Target};
use super::value::{IfacePattern, Net, bits, parse_addr};
use super::words::{self, Word, begins_common, begins_part};
use super::{Family, Rule};

/// Reads the words of a rule. Never fails: what is not understood is kept as unknown.
pub(super) fn parse(family: Family, words: &[Word<'_>]) -> Rule {
    let mut reader = Reader {
        family,
        matches: Vec::new(),
        protocol: None,
        seen: Vec::new(),
    };
    let mut rest = words;
    let mut target = Target::None;
    while let Some(first) = rest.first() {
        if first.is("-j") || first.is("-g") {
            target = reader.target(rest);
            break;
        }
        rest = reader.part(rest);
    }
    // Where a part was not understood, the target may be hidden in it.
    let hidden = reader.matches.iter().find_map(|m| match m {
        Match::Unknown(text) if target == Target::None => Some(text.clone()),
        _ => None,
    });
    Rule {
        target: hidden.map_or(target, Target::Unknown),
        matches: reader.matches,
    }
}

struct Reader<'w> {
    family: Family,
    matches: Vec<Match>,
    /// What `-p` says, without `!`: the modules of a protocol need it.
    protocol: Option<u8>,
    /// The common options met so far: none can be given twice.
    seen: Vec<&'w str>,
}

impl<'w> Reader<'w> {
    /// Reads one common option or one module with its options; answers what is left.
    fn part(&mut self, words: &'w [Word<'w>]) -> &'w [Word<'w>] {
        match words {
            [m, name, rest @ ..] if m.is("-m") && !begins_part(name) => {
                self.module(words, &name.text, rest)
            }
            [m, rest @ ..] if m.is("-m") => self.unknown(words, rest),
            _ if begins_common(words) => self.common(words),
            // `-p tcp --dport 80`: the protocol's own module goes without saying.
            _ => match self.protocol.and_then(implied_module) {
                Some(module) => self.module(words, module, words),
                None => self.unknown(words, words),
            },
        }
    }

    fn module(
        &mut self,
        whole: &'w [Word<'w>],
        name: &str,
        options: &'w [Word<'w>],
    ) -> &'w [Word<'w>] {
        match extension::parse(self.family, self.protocol, name, options) {
            Some((matches, rest)) if rest.len() < whole.len() => {
                let text = words::join(whole.get(..whole.len() - rest.len()).unwrap_or(whole));
                self.matches
                    .extend(matches.into_iter().map(|m| m.with_text(&text)));
                rest
            }
            _ => self.unknown(whole, options),
        }
    }

    fn common(&mut self, words: &'w [Word<'w>]) -> &'w [Word<'w>] {
        let (negated, plain) = match words {
            [not, plain @ ..] if not.is("!") => (true, plain),
            _ => (false, words),
        };
        let Some((option, after)) = plain.split_first() else {
            return self.unknown(words, &[]);
        };
        if self.seen.contains(&option.raw) {
            return self.unknown(words, after);
        }
        self.seen.push(option.raw);
        if option.is("-f") {
            self.matches
                .push(Match::LaterFragment(Test { negated, value: () }));
            return after;
        }
        let Some((operand, rest)) = after.split_first() else {
            return self.unknown(words, after);
        };
        // An operand more than expected: an interface's name with a blank in it reads so.
        let ends_here = rest
            .first()
            .is_none_or(|next| next.raw.starts_with('-') || next.is("!"));
        match self.common_match(option, negated, &operand.text) {
            Some(matches) if ends_here => {
                self.matches.extend(matches);
                rest
            }
            _ => self.unknown(words, after),
        }
    }

    /// The match of one common option; `Some(None)` where it sets no condition (`-p all`).
    fn common_match(
        &mut self,
        option: &Word<'_>,
        negated: bool,
        operand: &str,
    ) -> Option<Option<Match>> {
        let net = |side| {
            let one = match Net::parse(self.family, operand) {
                Some(value) => Match::Addr(side, Test { negated, value }),
                None => {
                    let (addr, mask) = operand.split_once('/')?;
                    let of = |text| parse_addr(self.family, text);
                    let value = (of(addr)?, of(mask)?);
                    // iptables shows no other bits of an address.
                    if bits(value.0) & !bits(value.1) != 0 {
                        return None;
                    }
                    Match::AddrMask(side, Test { negated, value })
                }
            };
            Some(Some(one))
        };
        match option.raw {
            "-s" => net(Side::Src),
            "-d" => net(Side::Dst),
            "-i" => {
                IfacePattern::parse(operand).map(|value| Some(Match::In(Test { negated, value })))
            }
            "-o" => {
                IfacePattern::parse(operand).map(|value| Some(Match::Out(Test { negated, value })))
            }
            "-p" if matches!(operand, "all" | "0") => (!negated).then_some(None),
            "-p" => {
                let value = protocol_number(operand)?;
                self.protocol = Some(value).filter(|_| !negated);
                Some(Some(Match::Protocol(Test { negated, value })))
            }
            _ => None,
        }
    }

    /// Keeps everything from `whole` up to the next certain beginning of a part as unknown.
    ///
    /// A common option does not end it: iptables prints these before the first module, so behind a
    /// module that is not understood the same letters are an operand of that module.
    fn unknown(&mut self, whole: &'w [Word<'w>], after: &'w [Word<'w>]) -> &'w [Word<'w>] {
        let end = after.iter().position(begins_part).unwrap_or(after.len());
        let rest = after.get(end..).unwrap_or_default();
        let (whole, rest) = match whole.len().checked_sub(rest.len()) {
            Some(length) if length > 0 => (whole.get(..length).unwrap_or(whole), rest),
            _ => (whole, [].as_slice()),
        };
        self.matches.push(Match::Unknown(words::join(whole)));
        rest
    }

    fn target(&self, words: &'w [Word<'w>]) -> Target {
        let Some((verb, rest)) = words.split_first() else {
            return Target::None;
        };
        // A second target cannot be: one of the two is an operand that reads like it.
        if rest.is_empty() || rest.iter().any(begins_part) {
            return Target::Unknown(words::join(words));
        }
        let understood = match target::parse(self.family, rest, self.protocol) {
            Some(Target::Jump(chain)) if verb.is("-g") => Some(Target::Goto(chain)),
            understood => understood.filter(|_| verb.is("-j")),
        };
        understood.unwrap_or_else(|| Target::Unknown(words::join(words)))
    }
}

/// The module that iptables loads by itself for a protocol's options.
fn implied_module(number: u8) -> Option<&'static str> {
    match number {
        protocol::TCP => Some("tcp"),
        protocol::UDP => Some("udp"),
        protocol::ICMP => Some("icmp"),
        protocol::ICMPV6 => Some("icmp6"),
        protocol::SCTP => Some("sctp"),
        protocol::DCCP => Some("dccp"),
        _ => None,
    }
}
