//! One pass: read what is there, plan, apply, read again, prove.
//!
//! Level-triggered: a pass knows nothing of what happened before it, only what is wanted and what
//! the kernel holds now.

mod changes;
mod dead;
mod edge;
mod hands;
mod host;
mod layers;
mod pass;
mod proof;
mod reading;
mod seal;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use self::changes::Changes;
pub use self::hands::Hands;
pub use self::host::{Host, Tools, nothing, resolve};
pub(crate) use self::layers::{Absent, Layers};
pub use self::pass::Pass;
use self::pass::{Conclusion, conclude, held};
use self::proof::Opened;
pub(crate) use self::proof::prove;
use self::reading::Reading;
pub(crate) use self::seal::HOST_TASKS;
pub use self::seal::stopped;
use crate::desired::Desired;
use crate::posture::Posture;
use crate::state::{State, Store};

/// Reads, changes what is needed, and reads again. What is said of the guarantees at the end is
/// proved from what the kernel then holds, not from what was done.
///
/// What is missing is put in before anything is proved: a proof takes longer than the repair.
///
/// The seal comes first: it is one transaction, and from then on packets are stopped.
pub fn apply(
    desired: &Desired,
    host: &Host,
    posture: &Posture,
    memory: &mut Store,
    hands: &mut Hands<'_>,
) -> Pass {
    let started = Instant::now();
    let mut changes = Changes {
        notes: host.wake(&desired.rules),
        ..Changes::default()
    };
    let sealed = hands.sealed.take();
    let sealed = sealed
        .unwrap_or_else(|| crate::seal::keep(hands.seal, &desired.rules.native, hands.around_seal));
    if sealed == Ok(true) {
        changes.done.push("rebuild the seal".to_owned());
    }
    let edge = hands.edge.keep(&desired.rules.edge);
    if edge.as_ref().is_ok_and(|edge| edge.changed) {
        changes.done.push("rebuild the edge".to_owned());
    }
    let first = Reading::take(desired, host, &memory.state, Absent::Empty);
    let open = if desired.may_open_input {
        first.opened()
    } else {
        Opened::default()
    };
    let mut last = changes.bring_about(desired, host, &open, &first, memory, hands);
    let repaired = started.elapsed();
    let mut proofs = last.as_ref().unwrap_or(&first).prove(desired, host);
    let held_before = match last {
        None => held(&proofs),
        Some(_) if hands.prove_before => held(&first.prove(desired, host)),
        Some(_) => BTreeSet::new(),
    };
    let now = last.as_ref().unwrap_or(&first);
    let mut opened = now.to_be_opened(desired, &proofs);
    if opened != open && !now.is_current() {
        // It was worked out from rules that are no more: to close something now could be wrong, and what changed
        // them is a reason for another pass.
        opened.extend(&open);
    }
    if opened != open
        && let Some(after) = changes.bring_about(desired, host, &opened, now, memory, hands)
    {
        proofs = after.prove(desired, host);
        last = Some(after);
    }
    let reading = last.unwrap_or(first);
    changes.notes.extend(reading.forget_undone(desired, memory));
    conclude(Conclusion {
        desired,
        host,
        posture,
        reading,
        proofs,
        opened,
        held_before: Some(held_before),
        changes,
        seal_problem: sealed.err(),
        edge_problem: edge.err(),
        repaired,
        started,
    })
}

/// Reads only.
#[must_use]
pub fn check(desired: &Desired, host: &Host, posture: &Posture, state: &State) -> Pass {
    let started = Instant::now();
    let reading = Reading::take(desired, host, state, Absent::Listed);
    let proofs = reading.prove(desired, host);
    let opened = reading.to_be_opened(desired, &proofs);
    let changes = Changes {
        drifts: reading.plan(desired, &opened, &[]).drifts,
        ..Changes::default()
    };
    conclude(Conclusion {
        desired,
        host,
        posture,
        reading,
        proofs,
        opened,
        held_before: None,
        changes,
        seal_problem: None,
        edge_problem: None,
        repaired: Duration::ZERO,
        started,
    })
}
