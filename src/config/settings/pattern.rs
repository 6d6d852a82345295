//! Interface names as iptables takes them.

/// The kernel's IFNAMSIZ is 16 with the closing NUL, and iptables counts a trailing `+` as one of them.
const MAX_BYTES: usize = 15;

/// What is wrong with a pattern for `-i`, as a clause.
///
/// Stricter than the kernel, which forbids only blanks, `/` and `:`: a name goes into the text that
/// iptables-restore reads, so that what that could take for an option, a quote or a negation is refused.
pub(super) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(
            "is empty; expected the name of an interface, such as \"docker0\" or \"docker+\""
                .to_owned(),
        );
    }
    if name.len() > MAX_BYTES {
        return Err(format!(
            "has {} bytes; an interface name has at most {MAX_BYTES}, a trailing + included",
            name.len()
        ));
    }
    if name.starts_with(['!', '-']) {
        return Err("begins with a character that iptables takes for something else; expected a letter or digit".to_owned());
    }
    if let Some(c) = name.chars().find(|&c| {
        !c.is_ascii_graphic() || matches!(c, '/' | ':' | '"' | '\'' | '\\' | '`' | '*' | '?')
    }) {
        let star = if c == '*' {
            "; write + for \"whatever follows\""
        } else {
            ""
        };
        return Err(format!("holds {c:?}, which no interface name has{star}"));
    }
    if name.strip_suffix('+').unwrap_or(name).contains('+') {
        return Err(
            "has a + before its end; it means \"whatever follows\", and only the last one does"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether some name fits both patterns.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    match (one.strip_suffix('+'), other.strip_suffix('+')) {
        (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
        (Some(prefix), None) => other.starts_with(prefix),
        (None, Some(prefix)) => one.starts_with(prefix),
        (None, None) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn names_that_exist_are_taken() {
        for good in [
            "docker0",
            "docker+",
            "br-+",
            "br-0123456789ab",
            "ecs-bridge",
            "+",
            "eth0.100",
            "a",
            "veth_1@x",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn names_that_iptables_would_misread_are_not() {
        for bad in [
            "",
            "abcdefghijklmnop",
            "docker0123456789+",
            "!docker0",
            "-i",
            "a b",
            "a/b",
            "a:b",
            "a\n",
            "a\u{a0}",
            "dock+er",
            "a++",
            "docker*",
            "\"a\"",
            "ä",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
