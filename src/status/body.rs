//! The bodies of answers: one piece, or events as they come.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::hub::Hub;
use super::request::EventsQuery;
use super::stream::poll_gone;

/// How many events are turned into text at once. What waits to be sent to a slow reader is one such
/// piece and what the kernel's socket buffer takes; the events stay on the board.
const PIECE: usize = 32;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// In one piece, until it is taken.
    Whole(Option<Bytes>),
    /// Events, a line each.
    Events(Box<Events>),
}

impl From<Vec<u8>> for Answer {
    fn from(text: Vec<u8>) -> Self {
        Self::Whole(Some(text.into()).filter(|bytes: &Bytes| !bytes.is_empty()))
    }
}

/// Events, from the board to one reader.
pub(super) struct Events {
    board: Arc<Hub>,
    /// The last that was sent.
    sent: u64,
    /// The last to send, where the reader does not follow.
    until: u64,
    /// Whether to say how many of those asked for are not kept any more.
    tell_missed: bool,
    follower: Option<Follower>,
}

/// What a follower needs: to be woken at the next event, and to be seen to go. The permit is what
/// bounds their number.
struct Follower {
    next: Pin<Box<dyn Future<Output = watch::Receiver<u64>> + Send>>,
    socket: Arc<UnixStream>,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sent, until, .. } = self;
        write!(f, "Events({sent} to {until})")
    }
}

impl Events {
    /// The events that `query` asks for; those to come too where there is a permit, until the client
    /// at the other end of the socket goes.
    pub(super) fn new(
        board: Arc<Hub>,
        query: &EventsQuery,
        follow: Option<(OwnedSemaphorePermit, Arc<UnixStream>)>,
    ) -> Self {
        let follower = follow.map(|(permit, socket)| Follower {
            next: next(board.follow_events()),
            socket,
            _permit: permit,
        });
        let last = board.last_event();
        let newest = query.limit.map_or(0, |limit| last.saturating_sub(limit));
        Self {
            board,
            sent: query.since.unwrap_or(0).max(newest),
            until: last,
            tell_missed: query.since.is_some_and(|since| since >= newest),
            follower,
        }
    }

    fn piece(&mut self) -> Option<Bytes> {
        let limit = match &self.follower {
            Some(_) => PIECE,
            None => PIECE.min(usize::try_from(self.until.saturating_sub(self.sent)).ok()?),
        };
        if limit == 0 {
            return None;
        }
        let found = self.board.events(self.sent, limit);
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

fn next(
    mut last: watch::Receiver<u64>,
) -> Pin<Box<dyn Future<Output = watch::Receiver<u64>> + Send>> {
    Box::pin(async move {
        if last.changed().await.is_err() {
            // The board is gone: there will be no further event.
            std::future::pending::<()>().await;
        }
        last
    })
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let events = match self.get_mut() {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Events(events) => events,
        };
        loop {
            if let Some(piece) = events.piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(follower) = &mut events.follower else {
                return Poll::Ready(None);
            };
            if poll_gone(&follower.socket, cx).is_ready() {
                return Poll::Ready(None);
            }
            match follower.next.as_mut().poll(cx) {
                Poll::Ready(last) => follower.next = next(last),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Events(_) => SizeHint::default(),
        }
    }
}
