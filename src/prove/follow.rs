//! Which packets of a class a walk is about.

/// Which packets of a class to follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Those addressed to its destination.
    Addressed,
    /// Those that anything on the way could have turned to its destination, from there on: more
    /// than there are.
    TurnedAtMost,
    /// The same of those that belong to a connection, where they are such: NAT turns them without asking any chain
    /// again.
    TurnedLater(Replies),
    /// Those addressed anywhere that NAT does turn to its destination.
    Turned,
}

/// The packets of connections that NAT turns to an address without asking a chain again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replies {
    /// By the numbers of their protocols, a bit for each.
    protocols: [u128; 2],
    /// What only belongs to such a connection: ICMP errors about it, and what a helper expects.
    pub(super) related: bool,
}

impl Replies {
    /// Any packets at all.
    pub(super) const ANY: Self = Self {
        protocols: [u128::MAX; 2],
        related: true,
    };
    /// None.
    pub(super) const NONE: Self = Self {
        protocols: [0; 2],
        related: false,
    };

    pub(super) fn add(&mut self, number: u8) {
        if let Some(half) = self.protocols.get_mut(usize::from(number / 128)) {
            *half |= 1 << (number % 128);
        }
    }

    /// The numbers of their protocols.
    pub(super) fn numbers(self) -> Vec<u8> {
        let half = |number: u8| self.protocols.get(usize::from(number / 128));
        let has = |number: &u8| half(*number).is_some_and(|half| half >> (number % 128) & 1 == 1);
        (0..=u8::MAX).filter(has).collect()
    }
}
