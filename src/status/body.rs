//! The bodies of answers: one piece, or events as they come.

use std::convert::Infallible;
use std::sync::Arc;

use futures_lite::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::hub::Hub;
use super::request::EventsQuery;

/// How many events are turned into text at once. What waits to be sent to a slow reader is one such
/// piece and what the kernel's socket buffer takes; the events stay on the hub.
const PIECE: usize = 32;

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// A body in one piece.
pub(super) fn whole(text: impl Into<Bytes>) -> Answer {
    Full::new(text.into()).boxed_unsync()
}

/// The events that `query` asks for, a line each, and with a `follower`'s permit also those to come.
pub(super) fn events(
    hub: Arc<Hub>,
    query: &EventsQuery,
    follower: Option<OwnedSemaphorePermit>,
) -> Answer {
    let last = hub.last_event();
    let newest = query.limit.map_or(0, |limit| last.saturating_sub(limit));
    let events = Events {
        follower: follower.map(|permit| (hub.follow_events(), permit)),
        hub,
        sent: query.since.unwrap_or(0).max(newest),
        until: last,
        tell_missed: query.since.is_some_and(|since| since >= newest),
    };
    let pieces = stream::unfold(events, |mut events| async {
        let piece = events.next().await?;
        Some((Ok(Frame::data(piece)), events))
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Events, from the hub to one reader.
struct Events {
    hub: Arc<Hub>,
    /// The last that was sent.
    sent: u64,
    /// The last to send, where the reader does not follow.
    until: u64,
    /// Whether to say how many of those asked for are not kept any more.
    tell_missed: bool,
    /// What wakes a follower at the next event, and the permit that bounds the followers' number.
    follower: Option<(watch::Receiver<u64>, OwnedSemaphorePermit)>,
}

impl Events {
    /// The next events as text; `None` when there is no more to send.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.piece() {
                return Some(piece);
            }
            self.follower.as_mut()?.0.changed().await.ok()?;
        }
    }

    /// The next of the events that are there.
    fn piece(&mut self) -> Option<Bytes> {
        let limit = match &self.follower {
            Some(_) => PIECE,
            None => PIECE.min(usize::try_from(self.until.saturating_sub(self.sent)).ok()?),
        };
        let found = self.hub.events(self.sent, limit);
        let last = found.events.last()?.seq;
        let mut text = Vec::new();
        if found.missed > 0 && self.tell_missed {
            text.extend(format!("{{\"missed\":{}}}\n", found.missed).bytes());
        }
        for event in &found.events {
            // An event is strings and numbers: it always serializes.
            text.extend(serde_json::to_vec(event.as_ref()).unwrap_or_default());
            text.push(b'\n');
        }
        self.sent = last;
        // From now on a gap means that this reader was too slow.
        self.tell_missed = true;
        Some(text.into())
    }
}
