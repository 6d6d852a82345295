//! Splits a module's words into its options, before anything is known of what they mean.

use super::matches::Test;
use super::words::{Word, begins_common, begins_part};

/// One option as written: `[!] --name operands…`.
pub(super) struct Opt<'w> {
    pub(super) negated: bool,
    pub(super) name: &'w str,
    pub(super) operands: Vec<&'w str>,
}

impl Opt<'_> {
    pub(super) fn test<T>(&self, value: T) -> Test<T> {
        Test {
            negated: self.negated,
            value,
        }
    }

    pub(super) fn operand(&self) -> Option<&str> {
        self.operands.first().copied()
    }
}

/// Takes options until the next part of the rule begins.
pub(super) fn options<'w>(
    arities: &[(&str, usize)],
    words: &'w [Word<'w>],
) -> Option<(Vec<Opt<'w>>, &'w [Word<'w>])> {
    let mut taken = Vec::new();
    let mut rest = words;
    while let Some(first) = rest.first() {
        if begins_part(first) || begins_common(rest) {
            break;
        }
        let (negated, plain) = match rest {
            [not, plain @ ..] if not.is("!") => (true, plain),
            _ => (false, rest),
        };
        let (option, after) = plain.split_first()?;
        let (_, count) = arities.iter().find(|(name, _)| option.is(name))?;
        let operands = after
            .get(..*count)?
            .iter()
            .map(|word| word.text.as_ref())
            .collect();
        taken.push(Opt {
            negated,
            name: option.raw,
            operands,
        });
        rest = after.get(*count..)?;
    }
    let twice = taken.iter().enumerate().any(|(at, option)| {
        taken
            .iter()
            .skip(at + 1)
            .any(|later| later.name == option.name)
    });
    (!twice).then_some((taken, rest))
}
