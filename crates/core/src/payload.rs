//! Values that tasks take and give: JSON text inline up to 64 KiB, above that a reference to a blob.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::ContentId;
use crate::limits;

/// A blob: its content id and length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    pub cid: ContentId,
    pub bytes: u64,
}

/// Well-formed JSON, kept as its text: a value that nobody looks into costs its bytes and no more.
///
/// In JSON documents it stands as the value itself, in MessagePack as a string.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonText(Box<str>);

impl JsonText {
    /// # Errors
    /// The parser's, with line and column, if `text` is not one JSON value.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&serde_json::value::RawValue>(text.trim()).map(|raw| Self(raw.get().into()))
    }

    pub fn of(value: &serde_json::Value) -> Self {
        Self(value.to_string().into())
    }

    pub fn null() -> Self {
        Self("null".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parsed value. What well-formed JSON may say and a parsed value cannot hold (more than 128 levels, a lone
    /// surrogate) comes as a string of the text.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_else(|_| serde_json::Value::from(&*self.0))
    }
}

impl Default for JsonText {
    fn default() -> Self {
        Self::null()
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.to_value().serialize(serializer)
        } else {
            serializer.serialize_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            serde_json::Value::deserialize(deserializer).map(|value| Self::of(&value))
        } else {
            let text = String::deserialize(deserializer)?;
            Self::parse(&text).map_err(serde::de::Error::custom)
        }
    }
}

/// A task's input or output.
///
/// In JSON documents an inline value stands as itself, a blob as `{"cid": ..., "bytes": ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Payload {
    /// At most [`limits::PAYLOAD_INLINE_BYTES_MAX`] bytes of JSON.
    Inline(JsonText),
    /// JSON text in a blob.
    Blob(BlobRef),
}

/// The MessagePack form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PackedPayload {
    Inline(JsonText),
    Blob(BlobRef),
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (serializer.is_human_readable(), self) {
            (true, Self::Inline(text)) => text.serialize(serializer),
            (true, Self::Blob(blob)) => blob.serialize(serializer),
            (false, Self::Inline(text)) => PackedPayload::Inline(text.clone()).serialize(serializer),
            (false, Self::Blob(blob)) => PackedPayload::Blob(*blob).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Ok(match PackedPayload::deserialize(deserializer)? {
                PackedPayload::Inline(text) => Self::Inline(text),
                PackedPayload::Blob(blob) => Self::Blob(blob),
            });
        }
        let value = serde_json::Value::deserialize(deserializer)?;
        let blob = BlobRef::deserialize(&value).ok();
        Ok(blob.map_or_else(|| Self::Inline(JsonText::of(&value)), Self::Blob))
    }
}

impl Payload {
    pub fn null() -> Self {
        Self::Inline(JsonText::null())
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Inline(text) if text.as_str() == "null")
    }

    /// Whether `text` may stand inline.
    pub fn fits_inline(text: &JsonText) -> bool {
        text.as_str().len() <= limits::PAYLOAD_INLINE_BYTES_MAX
    }

    /// Bytes that it takes where it stands inline.
    pub fn inline_bytes(&self) -> usize {
        match self {
            Self::Inline(text) => text.as_str().len(),
            Self::Blob(_) => 0,
        }
    }

    pub fn blob(&self) -> Option<BlobRef> {
        match self {
            Self::Inline(_) => None,
            Self::Blob(blob) => Some(*blob),
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::null()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_text_is_a_value_in_json_and_a_string_in_messagepack() {
        let payload = Payload::Inline(JsonText::parse(r#" {"a":[1,2.5,"x"]} "#).unwrap());
        let json = serde_json::to_value(&payload).unwrap();
        assert_eq!(json, serde_json::json!({"a": [1, 2.5, "x"]}));
        assert_eq!(serde_json::from_value::<Payload>(json).unwrap(), payload);
        let packed = rmp_serde::to_vec_named(&payload).unwrap();
        assert_eq!(rmp_serde::from_slice::<Payload>(&packed).unwrap(), payload);
    }

    #[test]
    fn a_blob_is_told_by_its_cid_and_length() {
        let blob = Payload::Blob(BlobRef { cid: ContentId::of(b"x"), bytes: 1 });
        let json = serde_json::to_value(&blob).unwrap();
        assert_eq!(json["bytes"], 1);
        assert_eq!(serde_json::from_value::<Payload>(json).unwrap(), blob);
        assert_eq!(rmp_serde::from_slice::<Payload>(&rmp_serde::to_vec_named(&blob).unwrap()).unwrap(), blob);
    }

    #[test]
    fn json_that_no_parsed_value_holds_is_shown_as_its_text() {
        for odd in [format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)), r#""\ud800""#.to_owned()] {
            let text = JsonText::parse(&odd).unwrap();
            assert_eq!(text.to_value(), serde_json::Value::from(odd.as_str()));
            assert!(serde_json::to_string(&text).is_ok());
        }
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        for wrong in ["", "{", "1 2", "nul"] {
            assert!(JsonText::parse(wrong).is_err(), "{wrong}");
        }
        assert!(rmp_serde::from_slice::<JsonText>(&rmp_serde::to_vec("{").unwrap()).is_err());
    }
}
