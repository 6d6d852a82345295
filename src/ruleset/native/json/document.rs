//! The text as JSON, item by item: an item takes many times the memory of its text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Gives each item of the list to `take`, until it answers that it is enough: that is an error then.
pub(super) fn each(text: &[u8], take: impl FnMut(&Value) -> bool) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_slice(text);
    json.deserialize_map(Document(take))?;
    json.end()
}

/// The whole text: an object with one list.
struct Document<F>(F);

impl<'de, F: FnMut(&Value) -> bool> Visitor<'de> for Document<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the list \"nftables\"")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "nftables" {
                map.next_value_seed(List(&mut self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The list.
struct List<'f, F>(&'f mut F);

impl<'de, F: FnMut(&Value) -> bool> DeserializeSeed<'de> for List<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, list: D) -> Result<(), D::Error> {
        list.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&Value) -> bool> Visitor<'de> for List<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element::<Value>()? {
            if !(self.0)(&item) {
                return Err(A::Error::custom("enough"));
            }
        }
        Ok(())
    }
}
