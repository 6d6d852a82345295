//! Whether light rules are what iptables takes for its own (docs/architecture.md, "Light rules").

use crate::reconcile::Pass;

/// Whether this iptables recognises rules whose comment is the kernel's own kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Light {
    /// None was put in yet.
    Untried,
    /// They were put in; the next pass sees what iptables makes of them.
    Tried,
    /// It does.
    Recognised,
    /// It does not; the rules stay as iptables made them.
    NotRecognised,
}

impl Light {
    /// What a pass says of it that looked at rules that no other program had changed.
    pub(super) fn learn(self, pass: &Pass) -> Self {
        match self {
            Self::Tried if pass.report.drifts.is_empty() => Self::Recognised,
            Self::Tried => Self::NotRecognised,
            other => other,
        }
    }
}
