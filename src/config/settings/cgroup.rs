//! Paths of cgroups as the kernel and iptables take them.

/// Long enough for every cgroup there is; iptables takes 511 bytes at most (`XT_CGROUP_PATH_MAX`,
/// linux/netfilter/xt_cgroup.h).
const MAX_BYTES: usize = 255;

/// What is wrong with the path of a cgroup, as a clause.
///
/// Stricter than the kernel: the path goes into the text that iptables-restore reads, so that what
/// that could take for an option, a quote or a negation is refused.
pub(super) fn check(path: &str) -> Result<(), String> {
    if path.len() > MAX_BYTES {
        return Err(format!(
            "has {} bytes; at most {MAX_BYTES} are taken",
            path.len()
        ));
    }
    if path.starts_with(['!', '-']) {
        return Err("begins with a character that iptables takes for something else".to_owned());
    }
    let odd =
        |c: &char| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '\\' | '`' | '*' | '?' | '#');
    if let Some(c) = path.chars().find(odd) {
        return Err(format!("holds {c:?}; expected letters, digits and ._-:@/"));
    }
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(
            "is no path from the root of the hierarchy; expected one without a / at its \
             beginning or end, such as \"ecstasks.slice\""
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn paths_of_cgroups_are_taken() {
        for path in ["ecstasks.slice", "a/b.slice/docker-0f.scope", "user@1000"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not() {
        for path in [
            "",
            "/",
            "/ecstasks.slice",
            "ecstasks.slice/",
            "a//b",
            "a/../b",
            ".",
            "-j",
            "! a",
            "a b",
            "a\"b",
            "a\nb",
            "é",
            "#a",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
        assert!(check(&"a".repeat(256)).is_err());
    }
}
