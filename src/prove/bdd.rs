//! Sets of packets, exactly, as binary decision diagrams.
//!
//! A packet is a row of bits (its addresses, ports, marks …), and a set of packets a diagram that
//! asks one bit after the other. Equal sets are the same number, so "is it empty", "is it all of
//! it" and "are these the same" cost nothing, and the union of the many ways out of a chain is one
//! set again: branches do not multiply as they would with lists of ranges.
//!
//! What is called for every node is written so that it is quick in builds without inlining too: the tests prove
//! as much as a host does.
//!
//! The work is bounded: past [`Bdd::LIMIT`] nodes every answer is worthless and [`Bdd::overflown`]
//! says so. The caller must look at it before believing a set.

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
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    var: u32,
    low: Set,
    high: Set,
}

/// Below every question: the two final answers.
const END: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
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

/// Some bits: for each, up to the last of them, whether it is one.
#[derive(Default)]
pub(super) struct Vars(Vec<bool>);

impl Vars {
    fn has(&self, var: u32) -> bool {
        self.0.get(var as usize).is_some_and(|among| *among)
    }
}

impl FromIterator<u32> for Vars {
    fn from_iter<I: IntoIterator<Item = u32>>(vars: I) -> Self {
        let mut all = Self::default();
        for var in vars {
            let var = var as usize;
            all.0.resize(all.0.len().max(var + 1), false);
            if let Some(among) = all.0.get_mut(var) {
                *among = true;
            }
        }
        all
    }
}

/// What an operation made of two sets: the operation, the two, what they made. All zero is true and never asked
/// for: no packet and no packet is none.
type Known = [u32; 4];

/// All sets of one proof, and of those before it: proofs of one ruleset have much in common.
pub(super) struct Bdd {
    nodes: Vec<Node>,
    /// Where each node stands among the nodes, by its hash or in the next place that was free; 0
    /// where there is none. A power of two, twice the number of nodes at least.
    places: Vec<u32>,
    /// What was computed, by its hash; a newer answer takes the place of an older one. As long as
    /// the places, up to a bound.
    known: Vec<Known>,
    /// What the visit at hand noted of each node, with its number: what was noted under another
    /// number is of another one.
    noted: Vec<(u32, Set)>,
    visit: u32,
    /// How many nodes there may be before the proof at hand has used too many.
    limit: usize,
    overflown: bool,
}

impl Bdd {
    /// How many nodes a proof may use: some 40 MB.
    const LIMIT: usize = 1 << 20;
    /// How many nodes of earlier proofs are kept: some 5 MB.
    const KEPT: usize = 1 << 17;
    /// How many answers are kept, at most: half a MB, as much as a processor has near it.
    const ANSWERS: usize = 1 << 15;
    /// The first length of the tables.
    const PLACES: usize = 1 << 13;
    /// For how many nodes there is room from the beginning: enough for most proofs. It costs nothing until it is
    /// used, and tables that grow in their place are not copied to new pages.
    const ROOM: usize = 1 << 15;

    pub(super) fn new() -> Self {
        let end = |set| Node {
            var: END,
            low: set,
            high: set,
        };
        let mut bdd = Self {
            nodes: Vec::with_capacity(Self::ROOM),
            places: Vec::with_capacity(2 * Self::ROOM),
            known: Vec::with_capacity(Self::ANSWERS),
            noted: Vec::with_capacity(Self::ROOM),
            visit: 0,
            limit: Self::LIMIT,
            overflown: false,
        };
        bdd.nodes.extend([end(Set::EMPTY), end(Set::ALL)]);
        bdd.resize(Self::PLACES);
        bdd
    }

    /// The same for another proof, with the bound counted from here. The sets made so far can still
    /// be there or not.
    pub(super) fn renewed(mut self) -> Self {
        if self.overflown || self.nodes.len() > Self::KEPT {
            // Their memory is kept: to get it anew from the kernel costs more than to use it.
            self.nodes.truncate(2);
            self.noted.clear();
            self.known.clear();
            self.overflown = false;
            self.resize(Self::PLACES);
        }
        self.limit = self.nodes.len() + Self::LIMIT;
        self
    }

    /// Whether the bound was passed, and no set can be believed any more.
    pub(super) fn overflown(&self) -> bool {
        self.overflown
    }

    #[inline(always)]
    fn at(&self, set: Set) -> Node {
        let nodes = self.nodes.as_slice();
        if (set.0 as usize) < nodes.len() {
            return nodes[set.0 as usize];
        }
        Node {
            var: END,
            low: Set::EMPTY,
            high: Set::EMPTY,
        }
    }

    /// The packets of `low` where bit `var` is 0 and those of `high` where it is 1. Both must only
    /// ask later bits.
    pub(super) fn node(&mut self, var: u32, low: Set, high: Set) -> Set {
        if low == high {
            return low;
        }
        let (nodes, places) = (self.nodes.as_slice(), self.places.as_slice());
        let mut place = hash(var, low, high) & (places.len() - 1);
        while places[place] != 0 {
            let there = &nodes[places[place] as usize];
            if there.var == var && there.low.0 == low.0 && there.high.0 == high.0 {
                return Set(places[place]);
            }
            place = (place + 1) & (places.len() - 1);
        }
        if self.nodes.len() >= self.limit {
            self.overflown = true;
            return Set::EMPTY;
        }
        let set = Set(self.nodes.len() as u32);
        self.nodes.push(Node { var, low, high });
        if let Some(free) = self.places.get_mut(place) {
            *free = set.0;
        }
        if self.nodes.len() * 2 > self.places.len() {
            self.resize(self.places.len() * 2);
        }
        set
    }

    /// Gives the tables another length, a power of two. Where more answers have room then, those known are forgotten.
    fn resize(&mut self, length: usize) {
        self.places.clear();
        self.places.resize(length, 0);
        for (at, node) in self.nodes.iter().enumerate().skip(2) {
            let mut place = hash(node.var, node.low, node.high) & (length - 1);
            while self.places.get(place).is_some_and(|at| *at != 0) {
                place = (place + 1) & (length - 1);
            }
            if let Some(free) = self.places.get_mut(place) {
                *free = at as u32;
            }
        }
        let answers = length.min(Self::ANSWERS);
        if answers != self.known.len() {
            self.known.clear();
            self.known.resize(answers, [0; 4]);
        }
    }

    fn learn(&mut self, answer: Known) {
        let [op, a, b, _] = answer;
        let place = hash(op, Set(a), Set(b)) & (self.known.len() - 1);
        if let Some(older) = self.known.get_mut(place) {
            *older = answer;
        }
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
        let known = self.known.as_slice();
        let known = known[hash(op as u32, a, b) & (known.len() - 1)];
        if known[0] == op as u32 && known[1] == a.0 && known[2] == b.0 {
            return Set(known[3]);
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
        let made = self.node(var, low, high);
        self.learn([op as u32, a.0, b.0, made.0]);
        made
    }

    /// Forgets the bits that `forget` names.
    pub(super) fn quantify(&mut self, how: Quantifier, set: Set, forget: &Vars) -> Set {
        self.rebuild(set, forget, &|bdd, node| match how {
            Quantifier::Some => bdd.or(node.low, node.high),
            Quantifier::Every => bdd.and(node.low, node.high),
        })
    }

    /// Asks bit `var + by` wherever one of these bits was asked. The order of the bits must stay.
    pub(super) fn shift(&mut self, set: Set, vars: &Vars, by: i32) -> Set {
        self.rebuild(set, vars, &|bdd, node| {
            bdd.node(node.var.wrapping_add_signed(by), node.low, node.high)
        })
    }

    /// Turns these bits round.
    pub(super) fn flip(&mut self, set: Set, vars: &Vars) -> Set {
        self.rebuild(set, vars, &|bdd, node| {
            bdd.node(node.var, node.high, node.low)
        })
    }

    /// Puts something else in the place of the questions for these bits.
    fn rebuild(&mut self, set: Set, vars: &Vars, make: &impl Fn(&mut Self, Node) -> Set) -> Set {
        self.visit(set);
        self.rebuild_below(set, vars, make)
    }

    /// Begins to note something of the nodes of a set.
    fn visit(&mut self, set: Set) {
        self.visit = self.visit.wrapping_add(1);
        if self.visit == 0 {
            self.noted.clear();
            self.visit = 1;
        }
        if self.noted.len() <= set.0 as usize {
            // Whatever a set asks stands before it.
            self.noted.resize(self.nodes.len(), (0, Set::EMPTY));
        }
    }

    fn rebuild_below(
        &mut self,
        set: Set,
        vars: &Vars,
        make: &impl Fn(&mut Self, Node) -> Set,
    ) -> Set {
        let node = self.at(set);
        // Behind the last of them, and so behind the last question of all, everything stays.
        if node.var as usize >= vars.0.len() || self.overflown {
            return set;
        }
        let now = self.visit;
        if let Some((number, made)) = self.noted.get(set.0 as usize)
            && *number == now
        {
            return *made;
        }
        let low = self.rebuild_below(node.low, vars, make);
        let high = self.rebuild_below(node.high, vars, make);
        let made = if vars.has(node.var) {
            make(self, Node { low, high, ..node })
        } else if low == node.low && high == node.high {
            set
        } else {
            self.node(node.var, low, high)
        };
        if let Some(noted) = self.noted.get_mut(set.0 as usize) {
            *noted = (now, made);
        }
        made
    }

    /// Which of the first bits, up to `end`, are the same in all packets of a set.
    pub(super) fn agreed(&mut self, set: Set, end: u32) -> Vec<bool> {
        self.visit(set);
        let bits = end as usize;
        let mut asked = vec![[false; 2]; bits];
        // One more way that passes over a bit begins here, or ends.
        let mut passing = vec![0_i32; bits + 1];
        let mut left = vec![(set, 0)];
        while let Some((set, from)) = left.pop() {
            let node = self.at(set);
            let var = node.var.min(end) as usize;
            if set.is_empty() || from >= bits {
                continue;
            }
            passing[from] += 1;
            passing[var] -= 1;
            let Some((number, _)) = self.noted.get_mut(set.0 as usize) else {
                continue;
            };
            if var == bits || std::mem::replace(number, self.visit) == self.visit {
                continue;
            }
            for (value, below) in [node.low, node.high].into_iter().enumerate() {
                if !below.is_empty() {
                    asked[var][value] = true;
                    left.push((below, var + 1));
                }
            }
        }
        let mut over = 0;
        let same = passing.iter().zip(&asked).map(|(more, asked)| {
            over += more;
            over == 0 && *asked != [true; 2]
        });
        same.collect()
    }

    /// One packet of a set that is not empty: the value of every bit that matters. Where there is a
    /// choice, `wish` makes it.
    pub(super) fn pick(&self, set: Set, wish: &dyn Fn(u32) -> bool) -> Vec<(u32, bool)> {
        let mut bits = Vec::new();
        let mut here = self.at(set);
        while here.var != END {
            let high = match (here.low.is_empty(), here.high.is_empty()) {
                (true, _) => true,
                (_, true) => false,
                _ => wish(here.var),
            };
            bits.push((here.var, high));
            here = self.at(if high { here.high } else { here.low });
        }
        bits
    }
}

/// A quick hash of three numbers: each times an odd constant (those of xxHash), summed up. They are handles that
/// this module counts up itself, so they cannot be chosen to collide.
#[inline(always)]
fn hash(first: u32, second: Set, third: Set) -> usize {
    let hash = (first as u64)
        .wrapping_mul(0x9e37_79b1_85eb_ca87)
        .wrapping_add((second.0 as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add((third.0 as u64).wrapping_mul(0x1656_67b1_9e37_79f9));
    // The upper half is what the multiplications mix best.
    (hash >> 32) as usize
}
