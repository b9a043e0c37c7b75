//! What tasks give, shown whole where it is small and in parts where it is not.

use magpie_core::payload::{BlobRef, Payload};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::detail::Detail;
use crate::mcp::answer::ToolError;
use crate::mcp::link::NodeLink;
use crate::mcp::text::beginning;
use crate::messages::blob::{BlobReply, BlobRequest};

/// Bytes of an output in one answer.
const OUTPUT_BYTES_MAX: usize = 4 * 1024;
const FULL_OUTPUT_BYTES_MAX: usize = 32 * 1024;

/// A part of the JSON text of an output that is too large to stand as a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutputPart {
    pub offset: u64,
    pub bytes_total: u64,
    pub text: String,
    /// Where the next part starts: pass it as output_offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<u64>,
}

/// An output: its value, or a part of its text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    pub value: Option<Value>,
    pub part: Option<OutputPart>,
}

fn bytes_max(detail: Detail) -> usize {
    if detail.is_full() { FULL_OUTPUT_BYTES_MAX } else { OUTPUT_BYTES_MAX }
}

/// Shows JSON text from `offset` on.
pub fn shown(text: &str, offset: u64, detail: Detail) -> Shown {
    let bytes_max = bytes_max(detail);
    if offset == 0 && text.len() <= bytes_max {
        return Shown { value: serde_json::from_str(text).ok(), part: None };
    }
    let mut start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    Shown { value: None, part: Some(part(&text[start..], start as u64, text.len() as u64, bytes_max)) }
}

fn part(rest: &str, offset: u64, bytes_total: u64, bytes_max: usize) -> OutputPart {
    let text = beginning(rest, bytes_max).to_owned();
    let end = offset + text.len() as u64;
    OutputPart { offset, bytes_total, next_offset: (end < bytes_total && !text.is_empty()).then_some(end), text }
}

/// Shows an output, read from this node's blobs if it stands in one.
///
/// # Errors
/// As [`NodeLink::ask`]; a blob that is not at this node is shown as its content id.
pub async fn shown_payload(
    link: &NodeLink,
    payload: &Payload,
    offset: u64,
    detail: Detail,
) -> Result<Shown, ToolError> {
    match payload {
        Payload::Inline(text) => Ok(shown(text.as_str(), offset, detail)),
        Payload::Blob(blob) => shown_blob(link, *blob, offset, detail).await,
    }
}

async fn shown_blob(link: &NodeLink, blob: BlobRef, offset: u64, detail: Detail) -> Result<Shown, ToolError> {
    let offset = offset.min(blob.bytes);
    // Four bytes more: the part may end inside a character.
    let bytes_max = (bytes_max(detail) + 4) as u32;
    let piece = match link.blob(BlobRequest::Get { cid: blob.cid, offset, bytes_max }).await? {
        BlobReply::Piece { piece } => piece,
        _ => return Ok(Shown { value: serde_json::to_value(Payload::Blob(blob)).ok(), part: None }),
    };
    let text = match std::str::from_utf8(&piece) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&piece[..error.valid_up_to()]).unwrap_or_default(),
    };
    if offset == 0 && text.len() as u64 == blob.bytes {
        return Ok(shown(text, 0, detail));
    }
    Ok(Shown { value: None, part: Some(part(text, offset, blob.bytes, bytes_max as usize - 4)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_parts_of_a_text_are_the_text(letters in prop::collection::vec("\\PC{1,40}", 0..300)) {
            let text = Value::from(letters.concat()).to_string();
            let first = shown(&text, 0, Detail::Concise);
            if text.len() <= OUTPUT_BYTES_MAX {
                prop_assert_eq!(first.value.map(|value| value.to_string()), Some(text));
            } else {
                let (mut joined, mut next) = (String::new(), Some(0));
                while let Some(offset) = next {
                    let part = shown(&text, offset, Detail::Concise).part.unwrap();
                    prop_assert!(part.text.len() <= OUTPUT_BYTES_MAX);
                    joined.push_str(&part.text);
                    next = part.next_offset;
                }
                prop_assert_eq!(joined, text);
            }
        }
    }

    #[test]
    fn an_offset_beyond_the_end_shows_nothing() {
        let part = shown(&"x".repeat(9_000), 99_999, Detail::Concise).part.unwrap();
        assert_eq!((part.text.as_str(), part.next_offset, part.bytes_total), ("", None, 9_000));
    }
}
