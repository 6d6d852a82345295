//! Any bytes are a route of the status socket or a refusal; lines of a history are events or nothing.
#![no_main]

use ecs_netguard::events::Event;
use ecs_netguard::status::request::{PATHS, Refusal, Route};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text.as_ref(), None),
    };
    let parsed = Route::parse(path, query);
    assert_eq!(parsed == Err(Refusal::NotFound), !PATHS.contains(&path));
    // Most of what can be asked is asked of the events.
    if let Ok(Route::Events(asked)) = Route::parse("/v1/events", Some(&text)) {
        assert!(asked.since.is_none() || text.contains("since="));
        assert!(asked.limit.is_none() || text.contains("limit="));
        assert!(!asked.follow || text.contains("follow"));
    }
    if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
        let shown = event.sanitize().sentence();
        assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
    }
});
