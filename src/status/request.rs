//! What is asked for: from a request's path and query to a route. Pure, and takes any text.

/// Something that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/status`
    Status,
    /// `/v1/guarantees`
    Guarantees,
    /// `/v1/posture`
    Posture,
    /// `/v1/rules`
    Rules,
    /// `/v1/events`
    Events(EventsQuery),
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Health,
}

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

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing under that path.
    NotFound,
    /// The query cannot be understood; why, as a sentence.
    BadQuery(String),
}

/// Every path there is.
pub const PATHS: [&str; 7] = [
    "/v1/status",
    "/v1/guarantees",
    "/v1/posture",
    "/v1/rules",
    "/v1/events",
    "/metrics",
    "/healthz",
];

impl Route {
    /// The route of a path and a query, both as they stand in the request, still encoded: nothing
    /// that is understood here needs an encoding, so that what has one is not understood.
    pub fn parse(path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let route = match path {
            "/v1/events" => return EventsQuery::parse(query.unwrap_or_default()).map(Self::Events),
            "/v1/status" => Self::Status,
            "/v1/guarantees" => Self::Guarantees,
            "/v1/posture" => Self::Posture,
            "/v1/rules" => Self::Rules,
            "/metrics" => Self::Metrics,
            "/healthz" => Self::Health,
            _ => return Err(Refusal::NotFound),
        };
        match query {
            None | Some("") => Ok(route),
            Some(_) => Err(Refusal::BadQuery(format!("{path} takes no parameters"))),
        }
    }
}

impl EventsQuery {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        let (mut seen_since, mut seen_limit) = (false, false);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (part, None),
            };
            match (key, value) {
                ("since", Some(value)) if !seen_since => {
                    parsed.since = Some(number(key, value)?);
                    seen_since = true;
                }
                ("limit", Some(value)) if !seen_limit => {
                    parsed.limit = Some(number(key, value)?);
                    seen_limit = true;
                }
                ("follow", None | Some("" | "1" | "true")) => parsed.follow = true,
                ("follow", Some("0" | "false")) => parsed.follow = false,
                _ => {
                    let why = "expected since=NUMBER, limit=NUMBER and follow, each once at most";
                    return Err(Refusal::BadQuery(why.to_owned()));
                }
            }
        }
        Ok(parsed)
    }
}

fn number(key: &str, value: &str) -> Result<u64, Refusal> {
    // `parse` alone would take a sign.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number.ok_or_else(|| Refusal::BadQuery(format!("{key} is no whole number that fits 64 bits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_route_and_nothing_else_has() {
        for path in PATHS {
            assert!(Route::parse(path, None).is_ok(), "{path}");
            assert!(Route::parse(path, Some("")).is_ok(), "{path}");
            assert!(Route::parse(path, Some("x=1")).is_err(), "{path}");
        }
        for path in [
            "",
            "/",
            "/v1",
            "/v1/status/",
            "//v1/status",
            "/v1/./status",
            "/v1/../v1/status",
            "/v1/../../etc/passwd",
            "/V1/status",
            "/v1/stat%75s",
            "/v1/status\0",
        ] {
            assert_eq!(Route::parse(path, None), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn the_query_of_events() {
        let parse = |query| Route::parse("/v1/events", Some(query));
        let events = |since, limit, follow| {
            Ok(Route::Events(EventsQuery {
                since,
                limit,
                follow,
            }))
        };
        assert_eq!(parse("follow"), events(None, None, true));
        assert_eq!(
            parse("since=7&limit=0&follow="),
            events(Some(7), Some(0), true)
        );
        assert_eq!(
            parse("since=18446744073709551615"),
            events(Some(u64::MAX), None, false)
        );
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
            assert!(matches!(parse(bad), Err(Refusal::BadQuery(_))), "{bad}");
        }
    }
}
