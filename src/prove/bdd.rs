//! Sets of packets, exactly, as binary decision diagrams.
//!
//! A packet is a row of bits (its addresses, ports, marks …), and a set of packets a diagram that
//! asks one bit after the other. Equal sets are the same number, so "is it empty", "is it all of
//! it" and "are these the same" cost nothing, and the union of the many ways out of a chain is one
//! set again: branches do not multiply as they would with lists of ranges.
//!
//! The work is bounded: past [`Bdd::LIMIT`] nodes every answer is worthless and [`Bdd::overflown`]
//! says so. Whoever asks must look at it before believing a set.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A set of packets, as a handle into the [`Bdd`] that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Set(u32);

impl Set {
    /// No packet.
    pub(super) const EMPTY: Self = Self(0);
    /// Every packet.
    pub(super) const ALL: Self = Self(1);

    pub(super) fn is_empty(self) -> bool {
        self == Self::EMPTY
    }
}

/// One question: the set where bit `var` is 0, and the set where it is 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    var: u32,
    low: Set,
    high: Set,
}

/// Below every question: the two final answers.
const END: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    And,
    Or,
    Less,
}

/// Whether bits are forgotten by "for some value" or by "for every value".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantifier {
    Some,
    Every,
}

/// All sets of one proof.
pub(super) struct Bdd {
    nodes: Vec<Node>,
    unique: HashMap<Node, Set, Fast>,
    known: HashMap<(Op, Set, Set), Set, Fast>,
    overflown: bool,
}

impl Bdd {
    /// How many nodes a proof may use: some 40 MB.
    const LIMIT: usize = 1 << 20;

    pub(super) fn new() -> Self {
        let end = Node {
            var: END,
            low: Set::EMPTY,
            high: Set::EMPTY,
        };
        Self {
            nodes: vec![
                end,
                Node {
                    low: Set::ALL,
                    high: Set::ALL,
                    ..end
                },
            ],
            unique: HashMap::default(),
            known: HashMap::default(),
            overflown: false,
        }
    }

    /// Whether the bound was passed, and no set can be believed any more.
    pub(super) fn overflown(&self) -> bool {
        self.overflown
    }

    fn at(&self, set: Set) -> Node {
        let end = Node {
            var: END,
            low: Set::EMPTY,
            high: Set::EMPTY,
        };
        self.nodes.get(set.0 as usize).copied().unwrap_or(end)
    }

    /// The packets of `low` where bit `var` is 0 and those of `high` where it is 1. Both must only
    /// ask later bits.
    pub(super) fn node(&mut self, var: u32, low: Set, high: Set) -> Set {
        if low == high {
            return low;
        }
        let node = Node { var, low, high };
        if let Some(set) = self.unique.get(&node) {
            return *set;
        }
        if self.nodes.len() >= Self::LIMIT {
            self.overflown = true;
            return Set::EMPTY;
        }
        let set = Set(self.nodes.len() as u32);
        self.nodes.push(node);
        self.unique.insert(node, set);
        set
    }

    /// The packets where bit `var` has that value.
    pub(super) fn bit(&mut self, var: u32, value: bool) -> Set {
        match value {
            true => self.node(var, Set::EMPTY, Set::ALL),
            false => self.node(var, Set::ALL, Set::EMPTY),
        }
    }

    /// The packets in both.
    pub(super) fn and(&mut self, a: Set, b: Set) -> Set {
        self.apply(Op::And, a.min(b), a.max(b))
    }

    /// The packets in either.
    pub(super) fn or(&mut self, a: Set, b: Set) -> Set {
        self.apply(Op::Or, a.min(b), a.max(b))
    }

    /// The packets in `a` and not in `b`.
    pub(super) fn less(&mut self, a: Set, b: Set) -> Set {
        self.apply(Op::Less, a, b)
    }

    /// The packets not in `a`.
    pub(super) fn not(&mut self, a: Set) -> Set {
        self.less(Set::ALL, a)
    }

    fn apply(&mut self, op: Op, a: Set, b: Set) -> Set {
        let plain = match op {
            Op::And if a == b || b == Set::ALL => Some(a),
            Op::And if a == Set::ALL => Some(b),
            Op::And if a.is_empty() || b.is_empty() => Some(Set::EMPTY),
            Op::Or if a == b || b.is_empty() => Some(a),
            Op::Or if a.is_empty() => Some(b),
            Op::Or if a == Set::ALL || b == Set::ALL => Some(Set::ALL),
            Op::Less if a == b || a.is_empty() || b == Set::ALL => Some(Set::EMPTY),
            Op::Less if b.is_empty() => Some(a),
            _ => None,
        };
        if let Some(set) = plain {
            return set;
        }
        if self.overflown {
            return Set::EMPTY;
        }
        if let Some(set) = self.known.get(&(op, a, b)) {
            return *set;
        }
        let (left, right) = (self.at(a), self.at(b));
        let var = left.var.min(right.var);
        let split = |node: Node, whole: Set| match node.var == var {
            true => (node.low, node.high),
            false => (whole, whole),
        };
        let ((a_low, a_high), (b_low, b_high)) = (split(left, a), split(right, b));
        let ordered = |x: Set, y: Set| match op {
            Op::Less => (x, y),
            _ => (x.min(y), x.max(y)),
        };
        let (x, y) = ordered(a_low, b_low);
        let low = self.apply(op, x, y);
        let (x, y) = ordered(a_high, b_high);
        let high = self.apply(op, x, y);
        let set = self.node(var, low, high);
        self.known.insert((op, a, b), set);
        set
    }

    /// Forgets the bits that `forget` names.
    pub(super) fn quantify(
        &mut self,
        how: Quantifier,
        set: Set,
        forget: &dyn Fn(u32) -> bool,
    ) -> Set {
        self.rebuild(
            set,
            &mut HashMap::default(),
            &mut |bdd, node| match (forget(node.var), how) {
                (true, Quantifier::Some) => bdd.or(node.low, node.high),
                (true, Quantifier::Every) => bdd.and(node.low, node.high),
                (false, _) => bdd.node(node.var, node.low, node.high),
            },
        )
    }

    /// Asks bit `to(var)` wherever bit `var` was asked. The order of the bits must stay.
    pub(super) fn rename(&mut self, set: Set, to: &dyn Fn(u32) -> u32) -> Set {
        self.rebuild(set, &mut HashMap::default(), &mut |bdd, node| {
            bdd.node(to(node.var), node.low, node.high)
        })
    }

    /// Turns the bits round that `flip` names.
    pub(super) fn flip(&mut self, set: Set, flip: &dyn Fn(u32) -> bool) -> Set {
        self.rebuild(
            set,
            &mut HashMap::default(),
            &mut |bdd, node| match flip(node.var) {
                true => bdd.node(node.var, node.high, node.low),
                false => bdd.node(node.var, node.low, node.high),
            },
        )
    }

    fn rebuild(
        &mut self,
        set: Set,
        done: &mut HashMap<Set, Set, Fast>,
        make: &mut dyn FnMut(&mut Self, Node) -> Set,
    ) -> Set {
        let node = self.at(set);
        if node.var == END || self.overflown {
            return set;
        }
        if let Some(known) = done.get(&set) {
            return *known;
        }
        let low = self.rebuild(node.low, done, make);
        let high = self.rebuild(node.high, done, make);
        let made = make(self, Node { low, high, ..node });
        done.insert(set, made);
        made
    }

    /// One packet of a set that is not empty: the value of every bit that matters. Where there is a
    /// choice, `wish` makes it.
    pub(super) fn pick(&self, set: Set, wish: &dyn Fn(u32) -> bool) -> HashMap<u32, bool> {
        let mut bits = HashMap::new();
        let mut here = self.at(set);
        while here.var != END {
            let high = match (here.low.is_empty(), here.high.is_empty()) {
                (true, _) => true,
                (_, true) => false,
                _ => wish(here.var),
            };
            bits.insert(here.var, high);
            here = self.at(if high { here.high } else { here.low });
        }
        bits
    }
}

/// A quick hash for keys of a few numbers: multiply and rotate, as rustc's own tables do. The keys
/// are handles that this module counts up itself, so nobody can choose them to collide.
type Fast = BuildHasherDefault<Mixer>;

#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}
