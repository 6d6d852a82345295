//! Times as RFC 3339 in UTC, whatever the clock says. Pure.
//!
//! humantime panics before 1970 and fails after 9999, and a clock that was never set, or set by a broken source,
//! must not end the daemon. Such a time is written as the first or the last that has a form.

#![allow(
    clippy::disallowed_methods,
    reason = "this is where times are brought into bounds"
)]

use std::time::{Duration, SystemTime};

use humantime::Rfc3339Timestamp;

/// 9999-12-31T23:59:59.999999Z
const LAST: Duration = Duration::new(253_402_300_799, 999_999_000);

/// To the second.
#[must_use]
pub fn seconds(time: SystemTime) -> Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(within(time))
}

/// To the microsecond.
#[must_use]
pub fn micros(time: SystemTime) -> Rfc3339Timestamp {
    humantime::format_rfc3339_micros(within(time))
}

fn within(time: SystemTime) -> SystemTime {
    let first = SystemTime::UNIX_EPOCH;
    time.clamp(first, first + LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_of_bounds_is_written_as_the_nearest_within() {
        let epoch = SystemTime::UNIX_EPOCH;
        let year = Duration::from_secs(365 * 86400);
        for (time, expected) in [
            (epoch - year * 100, "1970-01-01T00:00:00Z"),
            (epoch, "1970-01-01T00:00:00Z"),
            (epoch + LAST, "9999-12-31T23:59:59Z"),
            (epoch + year * 20_000, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(seconds(time).to_string(), expected);
            let (before, after) = (
                expected.replace('Z', ".000000Z"),
                expected.replace('Z', ".999999Z"),
            );
            assert!([before, after].contains(&micros(time).to_string()));
        }
    }
}
