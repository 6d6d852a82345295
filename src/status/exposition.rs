//! The two text forms of metrics: OpenMetrics, and the older one of Prometheus. Pure.

use std::collections::BTreeSet;

use hyper::header::HeaderValue;

/// The media type of OpenMetrics.
const OPENMETRICS: &str = "application/openmetrics-text";

/// A form in which metrics are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4: what node_exporter's textfile collector, promtool
    /// and older programs read.
    Text,
}

impl Format {
    /// The form for a client with these `Accept` headers: OpenMetrics is for those that name it, as
    /// Prometheus does.
    #[must_use]
    pub fn accepted<'h>(headers: impl IntoIterator<Item = &'h HeaderValue>) -> Self {
        let headers = headers.into_iter().filter_map(|value| value.to_str().ok());
        let mut ranges = headers.flat_map(|header| header.split(','));
        let named = ranges.any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|of| of.eq_ignore_ascii_case(OPENMETRICS));
            let refused = |part: &str| {
                let weight = part.strip_prefix("q=").or(part.strip_prefix("Q="));
                weight.is_some_and(|weight| weight.parse() == Ok(0.0))
            };
            named && !parts.any(refused)
        });
        if named { Self::OpenMetrics } else { Self::Text }
    }

    /// Its content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Metrics that are written as OpenMetrics, in this form.
    #[must_use]
    pub fn write(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => classic(&openmetrics),
        }
    }
}

/// In the older form a counter is declared under the name that its samples have, and the end is the end
/// of the text.
fn classic(openmetrics: &str) -> String {
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
        assert_eq!(Format::Text.write(openmetrics.to_owned()), expected);
        assert_eq!(
            Format::OpenMetrics.write(openmetrics.to_owned()),
            openmetrics
        );
    }

    #[test]
    fn openmetrics_is_for_clients_that_name_it() {
        let format = |headers: &[&'static str]| {
            let headers: Vec<_> = headers
                .iter()
                .copied()
                .map(HeaderValue::from_static)
                .collect();
            Format::accepted(&headers)
        };
        // Of Prometheus 2.42 and 3.5.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                           text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for named in [
            &[prometheus][..],
            &[prometheus3],
            &["text/plain", "Application/OpenMetrics-Text"],
            &["*/*, application/openmetrics-text ; q=0.001"],
        ] {
            assert_eq!(format(named), Format::OpenMetrics, "{named:?}");
        }
        for other in [
            &[][..],
            &["*/*"],
            &["text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
            &["application/openmetrics-text; q=0.0"],
            &["application/openmetrics-text-of-another-kind"],
            &["text/html; x=application/openmetrics-text"],
        ] {
            assert_eq!(format(other), Format::Text, "{other:?}");
        }
    }
}
