//! Any bytes are a query of events or refused; lines of a history are events or nothing.
#![no_main]

use ecs_netguard::events::Event;
use ecs_netguard::status::request::EventsQuery;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(asked) = EventsQuery::parse(&text) {
        assert!(asked.since.is_none() || text.contains("since="));
        assert!(asked.limit.is_none() || text.contains("limit="));
        assert!(!asked.follow || text.contains("follow"));
    }
    if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
        let shown = event.sanitize().sentence();
        assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
    }
});
