//! What one line of a text changes in a table, as iptables-restore reads it.

use super::line::{Line, ParseError};
use super::spec;
use super::target::Target;
use super::words::Word;
use super::{Chain, Family, Listed, Policy, Table};

/// A table while it is read.
pub(super) struct Draft {
    family: Family,
    pub(super) name: String,
    pub(super) table: Table,
}

impl Draft {
    pub(super) fn new(family: Family, name: &str) -> Self {
        Self {
            family,
            name: name.to_owned(),
            table: Table::default(),
        }
    }

    /// `:CHAIN POLICY [packets:bytes]`, with `-` as the policy of a user chain.
    pub(super) fn declare(&mut self, line: &Line<'_>) -> Result<(), ParseError> {
        let words = line.words()?;
        let (chain, policy) = match words.as_slice() {
            [chain, policy] => (chain, policy),
            [chain, policy, counters] if is_counters(counters.raw) => (chain, policy),
            _ => {
                return Err(line.error(0, "a chain is declared as `:CHAIN POLICY [packets:bytes]`"));
            }
        };
        let policy = match policy.text.as_ref() {
            "-" => None,
            text => Some(
                policy_of(text)
                    .ok_or_else(|| line.error(policy.start, "a policy is ACCEPT, DROP or -"))?,
            ),
        };
        let name = Word {
            raw: chain.raw.get(1..).unwrap_or_default(),
            ..chain.clone()
        };
        self.add(line, &name, policy)
    }

    fn add(
        &mut self,
        line: &Line<'_>,
        name: &Word<'_>,
        policy: Option<Policy>,
    ) -> Result<(), ParseError> {
        if name.raw.is_empty() || name.raw.starts_with('"') {
            return Err(line.error(name.start, "a chain needs a name"));
        }
        let chain = Chain {
            policy,
            rules: Vec::new(),
        };
        match self.table.chains.insert(name.raw.to_owned(), chain) {
            None => Ok(()),
            Some(_) => Err(line.error(name.start, format!("chain {} appears twice", name.raw))),
        }
    }

    /// `[packets:bytes] -A CHAIN words…` and the other commands.
    pub(super) fn run(&mut self, line: &Line<'_>) -> Result<(), ParseError> {
        let mut words = line.words()?;
        words.iter_mut().for_each(shorten);
        let words = match words.as_slice() {
            [counters, rest @ ..] if is_counters(counters.raw) => rest,
            all => all,
        };
        let Some((verb, rest)) = words.split_first() else {
            return Err(line.error(0, "not a rule: no -A CHAIN"));
        };
        match (verb.raw, rest) {
            ("-A", [chain, spec @ ..]) => {
                let read = self.rule(line, spec);
                self.chain(line, chain)?.rules.push(read);
            }
            ("-I", [chain, spec @ ..]) => {
                let (number, spec) = numbered(spec);
                let read = self.rule(line, spec);
                let rules = &mut self.chain(line, chain)?.rules;
                let at = place(line, chain, number.unwrap_or(1), rules.len() + 1)?;
                rules.insert(at, read);
            }
            ("-R", [chain, spec @ ..]) => {
                let (number, spec) = numbered(spec);
                let read = self.rule(line, spec);
                let rules = &mut self.chain(line, chain)?.rules;
                let at = place(line, chain, number.unwrap_or(0), rules.len())?;
                rules.splice(at..=at, [read]);
            }
            ("-D", [chain, spec @ ..]) => {
                let (number, spec) = numbered(spec);
                let read = self.rule(line, spec);
                let rules = &mut self.chain(line, chain)?.rules;
                let at = match number {
                    Some(number) => place(line, chain, number, rules.len())?,
                    None => same(line, chain, rules, &read)?,
                };
                rules.remove(at);
            }
            ("-N", [chain]) => self.add(line, chain, None)?,
            ("-P", [chain, policy]) => {
                let policy = policy_of(&policy.text)
                    .ok_or_else(|| line.error(policy.start, "a policy is ACCEPT or DROP"))?;
                let of = self.chain(line, chain)?;
                if of.policy.is_none() {
                    return Err(line.error(chain.start, "only a built-in chain has a policy"));
                }
                of.policy = Some(policy);
            }
            ("-F", []) => {
                let chains = self.table.chains.values_mut();
                chains.for_each(|chain| chain.rules.clear());
            }
            ("-F", [chain]) => self.chain(line, chain)?.rules.clear(),
            ("-X", []) => {
                let own = |(_, chain): &(&String, &Chain)| chain.policy.is_none();
                let names: Vec<String> = self
                    .table
                    .chains
                    .iter()
                    .filter(own)
                    .map(|(n, _)| n.clone())
                    .collect();
                for name in names {
                    self.delete(line, verb, &name)?;
                }
            }
            ("-X", [chain]) => self.delete(line, chain, chain.raw)?,
            // Counters decide nothing.
            ("-Z", [] | [_]) => {}
            ("-A" | "-I" | "-R" | "-D" | "-N" | "-P" | "-F" | "-X" | "-Z", _) => {
                return Err(line.error(
                    verb.start,
                    format!("{} is incomplete, or says too much", verb.raw),
                ));
            }
            _ => return Err(line.error(verb.start, "not a rule: no -A CHAIN")),
        }
        Ok(())
    }

    /// A chain that is there; a built-in one is, whether it was declared or not.
    fn chain(&mut self, line: &Line<'_>, name: &Word<'_>) -> Result<&mut Chain, ParseError> {
        let built_in = built_in(&self.name).contains(&name.raw);
        let chains = &mut self.table.chains;
        if built_in && !chains.contains_key(name.raw) {
            let chain = Chain {
                policy: Some(Policy::Accept),
                rules: Vec::new(),
            };
            chains.insert(name.raw.to_owned(), chain);
        }
        chains
            .get_mut(name.raw)
            .ok_or_else(|| line.error(name.start, format!("chain {} is not declared", name.raw)))
    }

    /// Deletes a user chain, which the kernel does where no rule is in it and none leads to it.
    fn delete(&mut self, line: &Line<'_>, at: &Word<'_>, name: &str) -> Result<(), ParseError> {
        let chains = &mut self.table.chains;
        let leads = |listed: &Listed| match &listed.rule.target {
            Target::Jump(to) | Target::Goto(to) => to == name,
            _ => false,
        };
        let refused = match chains.get(name) {
            None => "is not declared",
            Some(chain) if chain.policy.is_some() => "is built in, so it cannot be deleted",
            Some(chain) if !chain.rules.is_empty() => "has rules, so it cannot be deleted",
            Some(_) if chains.values().any(|chain| chain.rules.iter().any(leads)) => {
                "is jumped to, so it cannot be deleted"
            }
            Some(_) => {
                chains.remove(name);
                return Ok(());
            }
        };
        Err(line.error(at.start, format!("chain {name} {refused}")))
    }

    fn rule(&self, line: &Line<'_>, words: &[Word<'_>]) -> Listed {
        let text = words
            .first()
            .and_then(|first| line.text.get(first.start..))
            .unwrap_or_default();
        let mut rule = spec::parse(self.family, words);
        // A native nft chain may be called DROP, and a jump to it prints as `-j DROP`.
        let jump = matches!(rule.target, Target::Jump(_) | Target::Goto(_));
        let named = words.iter().skip_while(|word| !word.is("-j")).nth(1);
        let chains = &self.table.chains;
        if let Some(name) = named.filter(|name| !jump && chains.contains_key(name.raw)) {
            rule.target = Target::Unknown(format!(
                "-j {}: a chain that is named like a target",
                name.raw
            ));
        }
        Listed {
            rule,
            text: text.trim_end_matches([' ', '\t']).to_owned(),
        }
    }
}

/// The chains that a table has from the start.
fn built_in(table: &str) -> &'static [&'static str] {
    match table {
        "filter" | "security" => &["INPUT", "FORWARD", "OUTPUT"],
        "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        "mangle" => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        "raw" => &["PREROUTING", "OUTPUT"],
        _ => &[],
    }
}

/// Long options, as people write them, and the short ones that are printed.
const LONG: &[(&str, &str)] = &[
    ("--append", "-A"),
    ("--delete", "-D"),
    ("--delete-chain", "-X"),
    ("--destination", "-d"),
    ("--dst", "-d"),
    ("--flush", "-F"),
    ("--fragment", "-f"),
    ("--goto", "-g"),
    ("--in-interface", "-i"),
    ("--insert", "-I"),
    ("--jump", "-j"),
    ("--match", "-m"),
    ("--new-chain", "-N"),
    ("--out-interface", "-o"),
    ("--policy", "-P"),
    ("--protocol", "-p"),
    ("--replace", "-R"),
    ("--source", "-s"),
    ("--src", "-s"),
    ("--zero", "-Z"),
];

fn shorten(word: &mut Word<'_>) {
    if let Some((_, short)) = LONG.iter().find(|(long, _)| word.is(long)) {
        word.raw = short;
    }
}

/// The number of a rule, where one stands before its words.
fn numbered<'w>(words: &'w [Word<'w>]) -> (Option<usize>, &'w [Word<'w>]) {
    let number = words.first().and_then(|word| word.raw.parse().ok());
    match (number, words) {
        (Some(number), [_, rest @ ..]) => (Some(number), rest),
        _ => (None, words),
    }
}

/// The index of a rule's number.
fn place(
    line: &Line<'_>,
    chain: &Word<'_>,
    number: usize,
    most: usize,
) -> Result<usize, ParseError> {
    let at = number.checked_sub(1).filter(|at| *at < most);
    at.ok_or_else(|| {
        let message = format!("chain {} has no place with this number", chain.raw);
        line.error(chain.start, message)
    })
}

/// The index of the first rule that means the same.
fn same(
    line: &Line<'_>,
    chain: &Word<'_>,
    rules: &[Listed],
    wanted: &Listed,
) -> Result<usize, ParseError> {
    let is = |(at, listed): (usize, &Listed)| listed.rule.same_as(&wanted.rule).then_some(at);
    let mut found = rules.iter().enumerate().filter_map(is);
    let error = |message: String| line.error(chain.start, message);
    let first = found
        .next()
        .ok_or_else(|| error(format!("chain {} has no such rule to delete", chain.raw)))?;
    // Which one iptables means then depends on how its version spells them.
    let spelled = |at: usize| rules.get(at).map(|listed| &listed.text);
    if found.any(|other| spelled(other) != spelled(first)) {
        return Err(error(format!(
            "chain {} has two such rules, spelled differently: delete one by its number",
            chain.raw
        )));
    }
    Ok(first)
}

fn policy_of(text: &str) -> Option<Policy> {
    match text {
        "ACCEPT" => Some(Policy::Accept),
        "DROP" => Some(Policy::Drop),
        _ => None,
    }
}

fn is_counters(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    word.strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'))
        .and_then(|word| word.split_once(':'))
        .is_some_and(|(packets, bytes)| digits(packets) && digits(bytes))
}
