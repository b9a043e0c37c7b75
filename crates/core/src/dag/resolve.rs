//! Finds the values of references in JSON text: one pass over each text, whatever the number of references, and no
//! value is built that nobody refers to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{one_of, shown};
use super::reference::{Reference, Segment};

/// Why a reference has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("{reference} has no value: {why}")]
    Missing { reference: String, why: String },
    /// JSON that a parser refuses though it is well-formed, as half of a surrogate pair.
    #[error("{reference} cannot be read: {why}")]
    Unreadable { reference: String, why: String },
}

impl ResolveError {
    pub(super) fn missing(reference: &Reference, why: impl Into<String>) -> Self {
        Self::Missing { reference: reference.to_string(), why: why.into() }
    }

    pub(super) fn unreadable(reference: &Reference, error: &serde_json::Error) -> Self {
        Self::Unreadable { reference: reference.to_string(), why: error.to_string() }
    }
}

/// The JSON text of each reference.
pub(super) type Values<'t, 's> = BTreeMap<&'t Reference, &'s str>;

/// The places of one value that references with the same root take, as a tree over their paths.
#[derive(Debug, Default)]
pub(super) struct Wanted<'t> {
    here: Vec<&'t Reference>,
    keys: BTreeMap<&'t str, Wanted<'t>>,
    indices: BTreeMap<usize, Wanted<'t>>,
}

impl<'t> Wanted<'t> {
    pub fn add(&mut self, reference: &'t Reference) {
        let mut place = self;
        for segment in &reference.path {
            place = match segment {
                Segment::Key(key) => place.keys.entry(key).or_default(),
                Segment::Index(index) => place.indices.entry(*index).or_default(),
            };
        }
        place.here.push(reference);
    }

    /// Puts the text of every wanted place of `raw` into `found`.
    pub fn find<'s>(&self, raw: &'s str, found: &mut Values<'t, 's>) -> Result<(), ResolveError> {
        found.extend(self.here.iter().map(|reference| (*reference, raw)));
        let unreadable = |error| ResolveError::unreadable(self.any(), &error);
        if !self.keys.is_empty() {
            let entries = pick(raw, '{', Entries(&self.keys)).map_err(unreadable)?.unwrap_or_default();
            for (key, wanted) in &self.keys {
                let entry = entries.get(key).ok_or_else(|| wanted.missing(raw, &format!("key {key}")))?;
                wanted.find(entry.get(), found)?;
            }
        }
        if !self.indices.is_empty() {
            let items = pick(raw, '[', Items(&self.indices)).map_err(unreadable)?.unwrap_or_default();
            for (index, wanted) in &self.indices {
                let item = items.get(index).ok_or_else(|| wanted.missing(raw, &format!("item {index}")))?;
                wanted.find(item.get(), found)?;
            }
        }
        Ok(())
    }

    /// One of the references that lead here or further.
    fn any(&self) -> &'t Reference {
        let mut place = self;
        loop {
            if let Some(reference) = place.here.first() {
                return reference;
            }
            let mut below = place.keys.values().chain(place.indices.values());
            place = below.next().expect("a place is made on the way to a reference");
        }
    }

    fn missing(&self, raw: &str, wanted: &str) -> ResolveError {
        ResolveError::missing(self.any(), format!("there is no {wanted} in {}", described(raw)))
    }
}

/// Reads `raw` with `seed` if it starts with `bracket`.
fn pick<'s, S: DeserializeSeed<'s>>(
    raw: &'s str,
    bracket: char,
    seed: S,
) -> Result<Option<S::Value>, serde_json::Error> {
    if !raw.starts_with(bracket) {
        return Ok(None);
    }
    seed.deserialize(&mut serde_json::Deserializer::from_str(raw)).map(Some)
}

/// Of a mapping the entries that are wanted; of several with one key the last.
struct Entries<'w, 't>(&'w BTreeMap<&'t str, Wanted<'t>>);

impl<'de, 't> DeserializeSeed<'de> for Entries<'_, 't> {
    type Value = BTreeMap<&'t str, &'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, 't> Visitor<'de> for Entries<'_, 't> {
    type Value = BTreeMap<&'t str, &'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match self.0.get_key_value(key.as_str()) {
                Some((key, _)) => {
                    entries.insert(*key, map.next_value()?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(entries)
    }
}

/// Of a list the items that are wanted.
struct Items<'w, 't>(&'w BTreeMap<usize, Wanted<'t>>);

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = BTreeMap<usize, &'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = BTreeMap<usize, &'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = BTreeMap::new();
        for index in 0.. {
            if self.0.contains_key(&index) {
                let Some(item) = seq.next_element()? else { break };
                items.insert(index, item);
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(items)
    }
}

/// The items of a JSON list within `window`, and how many there are in all.
///
/// # Errors
/// The parser's, if `raw` is not a list.
pub(super) fn items<'s>(
    raw: &'s str,
    window: &std::ops::Range<usize>,
) -> Result<(Vec<&'s str>, usize), serde_json::Error> {
    struct Window<'w>(&'w std::ops::Range<usize>);

    impl<'de> Visitor<'de> for Window<'_> {
        type Value = (Vec<&'de str>, usize);

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            for index in 0.. {
                if self.0.contains(&index) {
                    let Some(item) = seq.next_element::<&RawValue>()? else { return Ok((items, index)) };
                    items.push(item.get());
                } else if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok((items, index));
                }
            }
            Ok((items, usize::MAX))
        }
    }

    serde_json::Deserializer::from_str(raw).deserialize_seq(Window(window))
}

/// What JSON text is, in a user's words, with what a reader needs to correct a path.
pub(super) fn described(raw: &str) -> String {
    match raw.bytes().next() {
        Some(b'{') => match serde_json::from_str::<BTreeMap<Cow<'_, str>, IgnoredAny>>(raw) {
            Ok(entries) if entries.is_empty() => "an empty mapping".to_owned(),
            Ok(entries) => format!("a mapping with {}", one_of(entries.keys().take(8).map(Cow::as_ref))),
            Err(_) => "a mapping".to_owned(),
        },
        Some(b'[') => match items(raw, &(0..0)) {
            Ok((_, count)) => format!("a list of {count}"),
            Err(_) => "a list".to_owned(),
        },
        Some(b'"') => format!("the text {}", shown(raw.trim_matches('"'))),
        Some(b't' | b'f') => raw.to_owned(),
        Some(b'n') | None => "null".to_owned(),
        Some(_) => format!("the number {raw}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::TextTemplate;
    use proptest::prelude::*;

    fn reference(text: &str) -> Reference {
        text.parse::<TextTemplate>().unwrap().sole_reference().unwrap().clone()
    }

    fn find(raw: &str, path: &str) -> Result<String, ResolveError> {
        let reference = reference(&format!("${{item{path}}}"));
        let mut wanted = Wanted::default();
        wanted.add(&reference);
        let mut found = Values::new();
        wanted.find(raw, &mut found)?;
        Ok(found[&reference].to_owned())
    }

    #[test]
    fn values_are_found_as_they_were_written() {
        let raw = r#"{"a": [1, {"b": 1.0e2 }], "z": {"é": [ true ]}, "a": [[7.10]]}"#;
        assert_eq!(find(raw, "").unwrap(), raw);
        assert_eq!(find(raw, ".z.é").unwrap(), "[ true ]");
        assert_eq!(find(raw, ".z.é[0]").unwrap(), "true");
        assert_eq!(find(raw, ".a[0][0]").unwrap(), "7.10");
    }

    #[test]
    fn a_missing_value_says_what_is_there_instead() {
        for (raw, path, message) in [
            (
                r#"{"x": 1, "y": 2}"#,
                ".chunks",
                "${item.chunks} has no value: there is no key chunks in a mapping with x or y",
            ),
            ("{}", ".a.b", "${item.a.b} has no value: there is no key a in an empty mapping"),
            ("[1, 2]", "[2]", "${item[2]} has no value: there is no item 2 in a list of 2"),
            ("[1, 2]", ".a", "${item.a} has no value: there is no key a in a list of 2"),
            ("\"long\"", ".a", "${item.a} has no value: there is no key a in the text \"long\""),
            ("null", "[0]", "${item[0]} has no value: there is no item 0 in null"),
            ("1.5", "[0]", "${item[0]} has no value: there is no item 0 in the number 1.5"),
            ("{\"\\ud800\": 1}", ".a", "${item.a} cannot be read: unexpected end of hex escape at line 1 column 9"),
        ] {
            assert_eq!(find(raw, path).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn brackets_a_hundred_thousand_deep_do_not_overflow() {
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(find(&deep, ".a").unwrap().len(), 200_001);
        assert!(find(&deep, ".b").is_err());
    }

    #[test]
    fn a_window_of_items_knows_how_many_there_are() {
        assert_eq!(items("[1, [2], {}]", &(1..2)).unwrap(), (vec!["[2]"], 3));
        assert_eq!(items("[]", &(0..10)).unwrap(), (vec![], 0));
        assert!(items("{}", &(0..1)).is_err());
    }

    proptest! {
        #[test]
        fn every_path_of_a_value_leads_to_that_part(source in crate::dag::template::tests::any_source()) {
            let mut parts = vec![(String::new(), &source)];
            let raw = source.to_string();
            while let Some((path, part)) = parts.pop() {
                let found: serde_json::Value = serde_json::from_str(&find(&raw, &path).unwrap()).unwrap();
                prop_assert_eq!(&found, part);
                match part {
                    serde_json::Value::Array(items) => parts.extend(items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item))),
                    serde_json::Value::Object(entries) => {
                        let named = entries.iter().filter(|(key, _)| crate::dag::reference::is_key(key));
                        parts.extend(named.map(|(key, entry)| (format!("{path}.{key}"), entry)));
                    }
                    _ => {}
                }
            }
        }
    }
}
