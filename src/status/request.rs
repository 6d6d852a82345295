//! The query of `/v1/events`. Pure, and takes any text.

use crate::config::sanitize;

/// Which events are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventsQuery {
    /// Only those after this number.
    pub since: Option<u64>,
    /// At most this many, the newest of them.
    pub limit: Option<u64>,
    /// And every later one, until the client goes.
    pub follow: bool,
}

impl EventsQuery {
    /// What a query asks for, as it stands in the request, still encoded: nothing that is understood
    /// here needs an encoding, so that what has one is not understood. An error is a sentence.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=').unwrap_or((part, "")) {
                ("since", n) if parsed.since.is_none() => parsed.since = Some(number(part, n)?),
                ("limit", n) if parsed.limit.is_none() => parsed.limit = Some(number(part, n)?),
                ("follow", "" | "1" | "true") => parsed.follow = true,
                ("follow", "0" | "false") => parsed.follow = false,
                _ => {
                    return Err(
                        "expected since=NUMBER, limit=NUMBER and follow, each at most once"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(parsed)
    }
}

fn number(part: &str, value: &str) -> Result<u64, String> {
    // `parse` alone would take a sign.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number.ok_or_else(|| {
        format!(
            "expected a whole number of at most 64 bits: {}",
            sanitize(part)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_events() {
        let events = |since, limit, follow| {
            Ok(EventsQuery {
                since,
                limit,
                follow,
            })
        };
        for (query, expected) in [
            ("", events(None, None, false)),
            ("follow", events(None, None, true)),
            ("since=7&limit=0&follow=", events(Some(7), Some(0), true)),
            ("&limit=3&&follow=0&", events(None, Some(3), false)),
            (
                "since=18446744073709551615",
                events(Some(u64::MAX), None, false),
            ),
        ] {
            assert_eq!(EventsQuery::parse(query), expected, "{query}");
        }
        for bad in [
            "since",
            "since=",
            "since=+1",
            "since=-1",
            "since=1e3",
            "since=18446744073709551616",
            "since=1&since=2",
            "limit=%31",
            "folow",
            "follow=maybe",
            "since=1;limit=2",
        ] {
            assert!(EventsQuery::parse(bad).is_err(), "{bad}");
        }
    }
}
