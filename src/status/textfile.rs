//! Metrics in the form that node_exporter's textfile collector reads. Pure.

use std::collections::BTreeSet;

/// The older text format, for node_exporter's textfile collector: there a counter is declared under
/// the name that its samples have, and the end is the end of the file.
#[must_use]
pub fn classic(openmetrics: &str) -> String {
    let counters: BTreeSet<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut out = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let declared = ["# HELP ", "# TYPE "]
            .into_iter()
            .find_map(|word| Some((word, line.strip_prefix(word)?)))
            .and_then(|(word, rest)| Some((word, rest.split_once(' ')?)));
        match declared {
            Some((word, (name, rest))) if counters.contains(name) => {
                out.push_str(&format!("{word}{name}_total {rest}"));
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_declared_by_the_name_of_their_samples() {
        let openmetrics = "# HELP x Things.\n# TYPE x counter\nx_total{a=\"b c\"} 1\n\
                           # HELP y x of y.\n# TYPE y gauge\ny 2\n# EOF\n";
        let expected = "# HELP x_total Things.\n# TYPE x_total counter\nx_total{a=\"b c\"} 1\n\
                        # HELP y x of y.\n# TYPE y gauge\ny 2\n";
        assert_eq!(classic(openmetrics), expected);
    }
}
