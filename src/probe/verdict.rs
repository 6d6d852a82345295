//! What a probe comes to. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model::{Expected, Kind, Place, Row, Seen, Tried};
use crate::guarantee::Guarantee;
use crate::verdict::Standing;

/// The guarantees that packets can speak of.
const SPOKEN_OF: [Guarantee; 4] = [
    Guarantee::ImdsBlock,
    Guarantee::AwsvpcImdsBlock,
    Guarantee::HostImdsBlock,
    Guarantee::TaskCredentials,
];

/// What packets and the proof say of one guarantee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The guarantee.
    pub name: Guarantee,
    /// What the packets showed; absent where none was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<Standing>,
    /// What `check` proves.
    pub check: Standing,
}

impl Compared {
    /// Whether the two contradict each other.
    #[must_use]
    pub fn disagrees(&self) -> bool {
        matches!(
            (self.packets, self.check),
            (Some(Standing::Violated), Standing::Held) | (Some(Standing::Held), Standing::Violated)
        )
    }

    /// The worse of the two: a packet that got through is a violation whatever is proved, and a proved
    /// way is one although no packet of this probe took it.
    fn standing(&self) -> Standing {
        let of = [self.packets.unwrap_or(Standing::Held), self.check];
        worst(of)
    }
}

/// What all of it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst that packets or the proof say of a required guarantee.
    pub verdict: Standing,
    /// The same as a sentence.
    pub summary: String,
    /// Where packets and the proof contradict each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disagreements: Vec<String>,
    /// What to know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Each required guarantee of which packets can speak.
    pub guarantees: Vec<Compared>,
}

impl Verdict {
    /// Judges what was tried, beside what `check` says of the required guarantees.
    #[must_use]
    pub fn of(tried: &[Tried], check: &BTreeMap<Guarantee, Standing>) -> Self {
        let control = Control::of(tried);
        let compared = |name: &Guarantee| {
            let check = *check.get(name)?;
            (check != Standing::NotRequired).then(|| Compared {
                name: *name,
                packets: packets(*name, tried, &control),
                check,
            })
        };
        let guarantees: Vec<Compared> = SPOKEN_OF.iter().filter_map(compared).collect();
        // The shields are none of a probe's business, but count.
        let others = check.values().copied();
        let mut verdict = worst(guarantees.iter().map(Compared::standing).chain(others));
        if let Some(Standing::Undecided) = control.standing
            && verdict == Standing::Held
        {
            verdict = Standing::Undecided;
        }
        Self {
            verdict,
            summary: summary(verdict, tried, check, &control),
            disagreements: guarantees.iter().filter_map(disagreement).collect(),
            notes: notes(tried, &control),
            guarantees,
        }
    }
}

/// What the host itself is answered.
struct Control {
    /// Undecided where the control that is required failed; absent where there was none.
    standing: Option<Standing>,
    why: Option<String>,
    ipv6: bool,
    /// Whether the agent listens where credentials are redirected to.
    agent: bool,
}

impl Control {
    fn of(tried: &[Tried]) -> Self {
        let rows = || {
            let host = tried.iter().filter(|tried| tried.place == Place::Host);
            host.flat_map(|tried| &tried.rows)
        };
        let service = rows().find(|row| row.what == Kind::Tcp && row.to.is_ipv4());
        let answered = |row: &Row| row.seen == Seen::Answered;
        let standing = service.map(|row| match answered(row) {
            true => Standing::Held,
            false => Standing::Undecided,
        });
        let why = service.filter(|row| !answered(row)).map(|row| {
            let seen = match row.seen {
                Seen::Left => "is not answered",
                _ => "does not leave the host",
            };
            format!(
                "the host's own TCP packet to {} {seen}: without a metadata service, silence proves nothing",
                row.to
            )
        });
        Self {
            standing,
            why,
            ipv6: rows().any(|row| row.what == Kind::Tcp && row.to.is_ipv6() && answered(row)),
            agent: rows()
                .any(|row| row.what == Kind::Connect && row.to.is_loopback() && answered(row)),
        }
    }
}

/// What the packets show of a guarantee; `None` where none was tried.
fn packets(guarantee: Guarantee, tried: &[Tried], control: &Control) -> Option<Standing> {
    let credentials = guarantee == Guarantee::TaskCredentials;
    let of = tried.iter().filter(|tried| {
        if credentials {
            tried
                .rows
                .iter()
                .any(|row| row.expected == Expected::Answered && row.what == Kind::Connect)
        } else {
            tried.guarantee == Some(guarantee)
        }
    });
    let mut found = Vec::new();
    for tried in of {
        if tried.failure.is_some() {
            found.push(Standing::Undecided);
        }
        let speak = |row: &&Row| (row.what == Kind::Connect) == credentials;
        found.extend(
            tried
                .rows
                .iter()
                .filter(speak)
                .map(|row| match row.as_expected() {
                    Some(true) => Standing::Held,
                    // The rules did their part, and nothing listens.
                    Some(false) if credentials && !control.agent => Standing::Undecided,
                    Some(false) => Standing::Violated,
                    None if row.expected == Expected::Anything => Standing::NotRequired,
                    None => Standing::Undecided,
                }),
        );
    }
    if found.is_empty() {
        return None;
    }
    let standing = worst(found);
    let silent = !credentials && control.standing == Some(Standing::Undecided);
    Some(match standing {
        Standing::Held if silent => Standing::Undecided,
        standing => standing,
    })
}

/// Violated before undecided before held.
fn worst(all: impl IntoIterator<Item = Standing>) -> Standing {
    let rank = |standing: &Standing| match standing {
        Standing::Violated => 2,
        Standing::Undecided => 1,
        Standing::Held | Standing::NotRequired => 0,
    };
    let worst = all.into_iter().max_by_key(rank);
    match worst {
        Some(standing @ (Standing::Violated | Standing::Undecided)) => standing,
        _ => Standing::Held,
    }
}

fn disagreement(compared: &Compared) -> Option<String> {
    let name = compared.name;
    if !compared.disagrees() {
        return None;
    }
    Some(match (name, compared.packets) {
        (Guarantee::TaskCredentials, Some(Standing::Violated)) => format!(
            "`check` proves {name}, and connections to 169.254.170.2:80 fail: report this as a bug, with the \
             output of `ecs-netguard check --json` and `nft list ruleset`"
        ),
        (_, Some(Standing::Violated)) => format!(
            "`check` proves {name}, and a packet got through: this is a vulnerability, to be reported \
             privately (SECURITY.md), with the output of `ecs-netguard check --json` and `nft list ruleset`"
        ),
        _ => format!(
            "`check` finds {name} violated, by a packet that is not among those that a probe sends: run \
             `ecs-netguard check` to see it"
        ),
    })
}

fn summary(
    verdict: Standing,
    tried: &[Tried],
    check: &BTreeMap<Guarantee, Standing>,
    control: &Control,
) -> String {
    match verdict {
        Standing::Violated => match first_wrong(tried) {
            Some(wrong) => format!("VIOLATED: {wrong}"),
            None => {
                let names = check.iter().filter(|(_, of)| **of == Standing::Violated);
                let names: Vec<&str> = names.map(|(name, _)| name.name()).collect();
                let names = names.join(", ");
                format!(
                    "VIOLATED: `check` finds {names} violated; no packet of this probe got through"
                )
            }
        },
        Standing::Undecided => format!("UNDECIDED: {}", why_undecided(tried, control)),
        Standing::Held | Standing::NotRequired => {
            let good = |row: &&Row| row.as_expected() == Some(true);
            let places = tried.iter().filter(|tried| tried.place != Place::Host);
            let rows = || tried.iter().flat_map(|tried| &tried.rows).filter(good);
            let stopped = rows().filter(|row| row.expected == Expected::Stopped);
            let connected = rows().filter(|row| row.what == Kind::Connect);
            let required = |of| check.get(of).is_some_and(|of| *of != Standing::NotRequired);
            if !SPOKEN_OF.iter().any(required) {
                return "HELD: no guarantee of which packets can speak is required".to_owned();
            }
            format!(
                "HELD: {} from {} stopped, {} to the credentials endpoint answered",
                count(stopped.count(), "packet"),
                count(places.count(), "place"),
                count(connected.count(), "connection")
            )
        }
    }
}

/// What went wrong first: a packet that got through before a connection that failed.
fn first_wrong(tried: &[Tried]) -> Option<String> {
    let wrong = |expected| {
        tried.iter().find_map(|tried| {
            let mut rows = tried
                .rows
                .iter()
                .filter(|row| row.as_expected() == Some(false));
            // The control is no guarantee.
            let row = rows.find(|row| {
                row.expected == expected
                    && (row.what == Kind::Connect || tried.place != Place::Host)
            })?;
            Some(sentence(tried, row))
        })
    };
    wrong(Expected::Stopped).or_else(|| wrong(Expected::Answered))
}

fn why_undecided(tried: &[Tried], control: &Control) -> String {
    let failed = || {
        tried.iter().find_map(|tried| {
            let unsent = tried.rows.iter().find(|row| row.seen == Seen::NotSent);
            let why = tried.failure.as_ref().or_else(|| unsent?.by.as_ref())?;
            Some(format!("{}: {why}", tried.place))
        })
    };
    let refused = |row: &Row| row.what == Kind::Connect && row.as_expected() == Some(false);
    let agent = || {
        let any = tried.iter().any(|tried| tried.rows.iter().any(refused));
        (any && !control.agent).then(|| {
            "the ECS agent does not listen on 127.0.0.1:51679, so that requests for credentials have no \
             answer"
                .to_owned()
        })
    };
    let why = control.why.clone().or_else(failed).or_else(agent);
    why.unwrap_or_else(|| "`check` cannot decide all guarantees; run it to see why".to_owned())
}

/// What went wrong, as a sentence.
fn sentence(tried: &Tried, row: &Row) -> String {
    let (place, what, to) = (&tried.place, row.what.name(), row.to);
    let by = row.by.as_deref().unwrap_or("an unknown interface");
    match (row.expected, row.seen) {
        (Expected::Stopped, Seen::Answered) => {
            format!("from {place}, {to} answered a packet ({what})")
        }
        (Expected::Stopped, _) => {
            format!("from {place}, a packet ({what}) to {to} left by {by}")
        }
        (_, Seen::Refused) => format!("from {place}, a connection to {to}:80 is refused"),
        _ => format!("from {place}, a connection to {to}:80 is not answered"),
    }
}

fn notes(tried: &[Tried], control: &Control) -> Vec<String> {
    let mut notes = Vec::new();
    for tried in tried.iter().filter(|tried| tried.guarantee.is_none()) {
        let through = |row: &&Row| row.what != Kind::Connect && row.seen.reached();
        if let Place::Bridge { name } = &tried.place
            && let Some(row) = tried.rows.iter().find(through)
        {
            notes.push(format!(
                "packets from bridge {name} reach {}, and no guarantee that is required covers it: where \
                 containers are on it, add it to [imds] interfaces",
                row.to
            ));
        }
    }
    let asks_ipv6 = |row: &Row| row.to.is_ipv6() && row.expected == Expected::Stopped;
    if control.standing.is_some()
        && !control.ipv6
        && tried.iter().any(|tried| tried.rows.iter().any(asks_ipv6))
    {
        notes.push(
            "the metadata service does not answer the host itself on IPv6: of IPv6 packets only whether they \
             left is known"
                .to_owned(),
        );
    }
    notes
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests;
