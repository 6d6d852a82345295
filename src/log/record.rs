//! An event kept, to be written later by another thread with all its fields and from its own place.

use std::cell::Cell;
use std::fmt::Debug;
use std::time::SystemTime;

use tracing::field::{DisplayValue, Field, Value, Visit, display};
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The most fields that an event has (tracing_core::field::ValidLen).
const MOST: usize = 32;

thread_local! {
    static WRITTEN: Cell<Option<SystemTime>> = const { Cell::new(None) };
}

/// When the event happened that this thread writes, or now.
pub(super) fn time() -> SystemTime {
    WRITTEN.get().unwrap_or_else(SystemTime::now)
}

/// An event that happened.
#[derive(Debug)]
pub(super) struct Record {
    at: SystemTime,
    of: &'static Metadata<'static>,
    fields: Vec<(Field, Owned)>,
}

#[derive(Debug)]
enum Owned {
    Text(DisplayValue<String>),
    Number(u64),
}

impl Record {
    fn of(event: &Event<'_>) -> Self {
        let mut record = Self {
            at: SystemTime::now(),
            of: event.metadata(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        record
    }

    /// How many bytes it takes, about.
    pub(super) fn size(&self) -> usize {
        let field = |(_, value): &(Field, Owned)| match value {
            Owned::Text(text) => 32 + text.to_string().len(),
            Owned::Number(_) => 32,
        };
        size_of::<Self>() + self.fields.iter().map(field).sum::<usize>()
    }

    /// Hands it to another subscriber, as the event that it was.
    pub(super) fn replay(&self, to: &Dispatch) {
        let Some((first, _)) = self.fields.first() else {
            return;
        };
        let mut values: [(&Field, Option<&dyn Value>); MOST] = [(first, None); MOST];
        for (slot, (field, value)) in values.iter_mut().zip(&self.fields) {
            *slot = match value {
                Owned::Text(text) => (field, Some(text)),
                Owned::Number(number) => (field, Some(number)),
            };
        }
        WRITTEN.set(Some(self.at));
        to.event(&Event::new(self.of, &self.of.fields().value_set(&values)));
        WRITTEN.set(None);
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = display(format!("{value:?}"));
        self.fields.push((field.clone(), Owned::Text(text)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = display(value.to_owned());
        self.fields.push((field.clone(), Owned::Text(text)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.clone(), Owned::Number(value)));
    }
}

/// Keeps each event and hands it on.
pub(super) struct Capture<F>(F);

impl<F: Fn(Record) + Send + Sync + 'static> Capture<F> {
    pub(super) const fn new(take: F) -> Self {
        Self(take)
    }
}

impl<S: Subscriber, F: Fn(Record) + Send + Sync + 'static> Layer<S> for Capture<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        (self.0)(Record::of(event));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn kept(emit: impl FnOnce()) -> Record {
        let (tell, told) = sync_channel(1);
        let capture = Capture::new(move |record| tell.send(record).unwrap());
        let subscriber = tracing_subscriber::registry().with(capture);
        tracing::subscriber::with_default(subscriber, emit);
        told.try_recv().unwrap()
    }

    #[test]
    fn an_event_is_the_same_when_it_is_written_later() {
        let first = kept(|| {
            tracing::warn!(NETGUARD_KIND = "drift", PORT = 80_u64, "of {:?}", "a\nb");
        });
        let again = kept(|| {
            let (tell, told) = sync_channel(1);
            let capture = Capture::new(move |record| tell.send(record).unwrap());
            first.replay(&Dispatch::new(tracing_subscriber::registry().with(capture)));
            let record: Record = told.try_recv().unwrap();
            record.replay(&tracing::dispatcher::get_default(Clone::clone));
        });
        assert_eq!(again.of, first.of);
        assert_eq!(format!("{:?}", again.fields), format!("{:?}", first.fields));
        let text = format!("{:?}", first.fields);
        assert!(
            text.contains("of \"a\\nb\"") && text.contains("80"),
            "{text}"
        );
    }
}
