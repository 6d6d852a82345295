//! The diagrams against truth tables: of six bits, every set is a number of 64 bits.

use proptest::prelude::*;

use crate::prove::bdd::{Bdd, Quantifier, Set, Vars};

const BITS: u32 = 6;

/// Every second bit is asked, so that each can be shifted by one.
fn var(bit: u32) -> u32 {
    2 * bit
}

/// The assignments, as the rows of the tables.
fn rows() -> impl Iterator<Item = u32> {
    0..1 << BITS
}

fn is(row: u32, bit: u32) -> bool {
    row >> bit & 1 == 1
}

fn of_table(bdd: &mut Bdd, table: u64) -> Set {
    rows()
        .filter(|row| table >> row & 1 == 1)
        .fold(Set::EMPTY, |all, row| {
            let one = (0..BITS).fold(Set::ALL, |one, bit| {
                let value = bdd.bit(var(bit), is(row, bit));
                bdd.and(one, value)
            });
            bdd.or(all, one)
        })
}

/// The table of the rows for which something is true.
fn table(holds: impl Fn(u32) -> bool) -> u64 {
    rows()
        .filter(|row| holds(*row))
        .fold(0, |table, row| table | 1 << row)
}

fn has(table: u64, row: u32) -> bool {
    table >> row & 1 == 1
}

/// The rows that differ from this one in the chosen bits alone.
fn alike(row: u32, bits: u32) -> impl Iterator<Item = u32> {
    rows().filter(move |other| (row ^ other) & !bits == 0)
}

fn vars(bits: u32) -> Vars {
    (0..BITS).filter(|bit| is(bits, *bit)).map(var).collect()
}

proptest! {
    #[test]
    fn sets_are_what_their_tables_say(a: u64, b: u64) {
        let mut bdd = Bdd::new();
        let (x, y) = (of_table(&mut bdd, a), of_table(&mut bdd, b));
        let made = [bdd.and(x, y), bdd.or(x, y), bdd.less(x, y), bdd.not(x)];
        let tables = [a & b, a | b, a & !b, !a];
        for (made, table) in made.into_iter().zip(tables) {
            prop_assert_eq!(made, of_table(&mut bdd, table));
        }
    }

    #[test]
    fn bits_are_forgotten_and_turned_round(a: u64, bits in 0_u32..1 << BITS) {
        let mut bdd = Bdd::new();
        let (set, vars) = (of_table(&mut bdd, a), vars(bits));
        let some = bdd.quantify(Quantifier::Some, set, &vars);
        let wanted = table(|row| alike(row, bits).any(|other| has(a, other)));
        prop_assert_eq!(some, of_table(&mut bdd, wanted));
        let every = bdd.quantify(Quantifier::Every, set, &vars);
        let wanted = table(|row| alike(row, bits).all(|other| has(a, other)));
        prop_assert_eq!(every, of_table(&mut bdd, wanted));
        let flipped = bdd.flip(set, &vars);
        prop_assert_eq!(flipped, of_table(&mut bdd, table(|row| has(a, row ^ bits))));
    }

    #[test]
    fn what_is_shifted_and_shifted_back_is_the_same(a: u64, bits in 0_u32..1 << BITS) {
        let mut bdd = Bdd::new();
        let (set, moved) = (of_table(&mut bdd, a), vars(bits));
        let shifted = bdd.shift(set, &moved, 1);
        // The bits in question are asked no more, and their neighbours are.
        prop_assert_eq!(bdd.quantify(Quantifier::Some, shifted, &moved), shifted);
        let back: Vars = (0..BITS).filter(|bit| is(bits, *bit)).map(|bit| var(bit) + 1).collect();
        prop_assert_eq!(bdd.shift(shifted, &back, -1), set);
    }

    #[test]
    fn what_all_agree_in_is_told_and_one_is_picked(a in 1_u64.., b: u64, wish in 0_u32..1 << BITS) {
        // Fewer, so that there is something to agree in.
        let few = if a & b & (b >> 7) == 0 { a } else { a & b & (b >> 7) };
        let mut bdd = Bdd::new();
        let set = of_table(&mut bdd, few);
        let agreed = bdd.agreed(set, var(BITS));
        for bit in 0..BITS {
            let values = rows().filter(|row| has(few, *row)).map(|row| is(row, bit));
            let values: std::collections::BTreeSet<bool> = values.collect();
            prop_assert_eq!(agreed[var(bit) as usize], values.len() == 1);
        }
        let picked = bdd.pick(set, &|asked| is(wish, asked / 2));
        let row = (0..BITS).fold(0, |row, bit| {
            let told = picked.iter().find(|(asked, _)| *asked == var(bit));
            let value = told.map_or(is(wish, bit), |(_, value)| *value);
            row | u32::from(value) << bit
        });
        prop_assert!(has(few, row));
        prop_assert!(!has(few, wish) || row == wish, "the wish was there");
    }
}

/// More nodes than the tables have places at first, and than are kept for the next proof: the sets stay what they are,
/// and so they do in tables that were used before.
#[test]
fn many_sets_are_what_fewer_are() {
    let numbers = |bdd: &mut Bdd| {
        let odd = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 | 1;
        (0..12_000_u64).fold(Set::EMPTY, |all, n| {
            let one = (0..24).fold(Set::ALL, |one, bit| {
                let value = bdd.bit(23 - bit, odd(n) >> bit & 1 == 1);
                bdd.and(value, one)
            });
            bdd.or(all, one)
        })
    };
    let mut bdd = Bdd::new();
    let first = numbers(&mut bdd);
    assert_eq!(numbers(&mut bdd), first, "the same in grown tables");
    let odd = bdd.bit(23, true);
    assert_eq!(bdd.less(first, odd), Set::EMPTY);
    let mut bdd = bdd.renewed();
    assert!(!bdd.overflown());
    let again = numbers(&mut bdd);
    let odd = bdd.bit(23, true);
    assert_eq!(bdd.less(again, odd), Set::EMPTY);
    assert_eq!(numbers(&mut bdd), again);
}
