//! Makes a ruleset small as long as what is wrong with it stays.

/// Takes out what is not needed for `persists` to be true of the ruleset: rules first, in shrinking
/// blocks, then policies and chains.
pub(crate) fn reduce(ruleset: &str, mut persists: impl FnMut(&str) -> bool) -> String {
    let mut lines: Vec<String> = ruleset.lines().map(str::to_owned).collect();
    let join = |lines: &[String]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let mut size = lines.len().next_power_of_two() / 2;
    while size > 0 {
        let mut at = 0;
        while at < lines.len() {
            let end = (at + size).min(lines.len());
            let mut fewer = lines.clone();
            let mut index = 0;
            fewer.retain(|line| {
                index += 1;
                !(at < index
                    && index <= end
                    && (line.starts_with("-A ") || line.starts_with("nft> add rule")))
            });
            if fewer.len() < lines.len() && persists(&join(&fewer)) {
                lines = fewer;
            } else {
                at = end;
            }
        }
        size /= 2;
    }
    for at in (0..lines.len()).rev() {
        let mut fewer = lines.clone();
        if fewer[at].starts_with(":U") {
            fewer.remove(at);
        } else if fewer[at].contains(" DROP [") {
            fewer[at] = fewer[at].replace(" DROP [", " ACCEPT [");
        } else {
            continue;
        }
        if persists(&join(&fewer)) {
            lines = fewer;
        }
    }
    join(&lines)
}
