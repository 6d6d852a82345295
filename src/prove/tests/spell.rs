//! The rules of [`super::concrete`] as iptables-save prints them.

use super::concrete::{Cond, Line, Rules, To};

impl Rules {
    /// The rules as iptables-save prints them.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut tables: Vec<&str> = self.chains.keys().map(|(table, _)| *table).collect();
        tables.dedup();
        for table in tables {
            text += &format!("*{table}\n");
            let chains: Vec<_> = self
                .chains
                .iter()
                .filter(|((t, _), _)| *t == table)
                .collect();
            for ((_, chain), _) in &chains {
                let policy = match (self.drops.contains(&(table, chain)), chain.starts_with('U')) {
                    (_, true) => "-",
                    (true, _) => "DROP",
                    (false, _) => "ACCEPT",
                };
                text += &format!(":{chain} {policy} [0:0]\n");
            }
            for ((_, chain), lines) in &chains {
                for line in *lines {
                    text += &format!("-A {chain}{}\n", line.text());
                }
            }
            text += "COMMIT\n";
        }
        text
    }
}

impl Line {
    fn text(&self) -> String {
        let mut text: String = self
            .conds
            .iter()
            .map(|c| format!(" {}", c.text()))
            .collect();
        let hex = |value: &u32, mask: &u32| format!("{value:#x}/{mask:#x}");
        text += &match &self.to {
            To::Nothing => String::new(),
            To::Accept => " -j ACCEPT".into(),
            To::Drop => " -j DROP".into(),
            To::Return => " -j RETURN".into(),
            To::Log => " -j LOG --log-prefix \"a b\"".into(),
            To::Jump(chain) => format!(" -j {chain}"),
            To::Goto(chain) => format!(" -g {chain}"),
            To::Mark(value, mask) => format!(" -j MARK --set-xmark {}", hex(value, mask)),
            To::Connmark(value, mask) => format!(" -j CONNMARK --set-xmark {}", hex(value, mask)),
            To::Save(mask) => {
                format!(" -j CONNMARK --save-mark --nfmask {mask:#x} --ctmask {mask:#x}")
            }
            To::Restore(mask) => {
                format!(" -j CONNMARK --restore-mark --nfmask {mask:#x} --ctmask {mask:#x}")
            }
            To::Notrack => " -j NOTRACK".into(),
            To::Dnat(addr, port) => {
                let addr = addr.map_or(String::new(), |addr| addr.to_string());
                let port = port.map_or(String::new(), |port| format!(":{port}"));
                format!(" -j DNAT --to-destination {addr}{port}")
            }
            To::Redirect(port) => format!(" -j REDIRECT --to-ports {port}"),
        };
        text
    }
}

impl Cond {
    fn text(&self) -> String {
        let not = |not: &bool| if *not { "! " } else { "" };
        match self {
            Self::In(n, name) => format!("{}-i {name}", not(n)),
            Self::Out(n, name) => format!("{}-o {name}", not(n)),
            Self::Src(n, net, bits) => format!("{}-s {net}/{bits}", not(n)),
            Self::Dst(n, net, bits) => format!("{}-d {net}/{bits}", not(n)),
            Self::Proto(n, proto) => format!("{}-p {proto}", not(n)),
            Self::Sport(n, low, high) => format!("-m tcp {}--sport {low}:{high}", not(n)),
            Self::Dport(n, low, high) => format!("-m tcp {}--dport {low}:{high}", not(n)),
            Self::Ports(n, list) => {
                let list: Vec<_> = list.iter().map(u16::to_string).collect();
                format!("-m multiport {}--ports {}", not(n), list.join(","))
            }
            Self::Syn(n) => format!("-m tcp {}--tcp-flags FIN,SYN,RST,ACK SYN", not(n)),
            Self::Icmp(n, kind) => format!("-m icmp {}--icmp-type {kind}", not(n)),
            Self::State(n, list) => format!("-m conntrack {}--ctstate {}", not(n), list.join(",")),
            Self::Mark(n, v, m) => format!("-m mark {}--mark {v:#x}/{m:#x}", not(n)),
            Self::Connmark(n, v, m) => format!("-m connmark {}--mark {v:#x}/{m:#x}", not(n)),
            Self::LocalSrc(n) => format!("-m addrtype {}--src-type LOCAL", not(n)),
            Self::LocalDst(n) => format!("-m addrtype {}--dst-type LOCAL", not(n)),
            Self::Range(n, low, high) => format!("-m iprange {}--src-range {low}-{high}", not(n)),
            Self::Uid(n, low, high) => format!("-m owner {}--uid-owner {low}-{high}", not(n)),
            Self::Comment => "-m comment --comment \"-j DROP\"".into(),
            Self::Limit => "-m limit --limit 5/min".into(),
            Self::Recent => "-m recent --rcheck --name x --mask 255.255.255.255 --rsource".into(),
            Self::Set => "-m set --match-set s src,dst".into(),
        }
    }
}
