//! What a command printed: its output whole, up to a limit, and the end of its log.

use std::fmt;
use std::io;

use magpie_core::limits;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::log_tap::{LogTap, TextPieces};

/// Standard output up to a limit.
#[derive(Debug, Default)]
pub struct Output {
    pub bytes: Vec<u8>,
}

impl Output {
    /// Reads to the end, or until there is more than `bytes_max`.
    pub async fn read(&mut self, from: impl AsyncRead + Unpin, bytes_max: u64) -> io::Result<()> {
        from.take(bytes_max.saturating_add(1)).read_to_end(&mut self.bytes).await.map(drop)
    }

    pub fn exceeds(&self, bytes_max: u64) -> bool {
        self.bytes.len() as u64 > bytes_max
    }

    /// The output as JSON text: itself if it is JSON, else a JSON string of it. `None` if that is longer than
    /// `bytes_max`: a byte may take six.
    pub fn into_json(self, bytes_max: u64) -> Option<String> {
        let text = String::from_utf8(self.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        if serde_json::from_str::<Readable>(&text).is_ok() {
            return Some(text);
        }
        (len_as_json(&text) <= bytes_max).then(|| serde_json::Value::String(text).to_string())
    }
}

/// The bytes of a JSON string, without making it.
fn len_as_json(text: &str) -> u64 {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + text.bytes().map(escaped).sum::<u64>()
}

/// Standard error: its end is kept, and all of it told as it comes.
#[derive(Debug, Default)]
pub struct Log {
    tail: Vec<u8>,
    tap: LogTap,
    pieces: TextPieces,
}

/// What is read, and told, at a time.
const LOG_READ_BYTES: usize = 8 * 1024;

impl Log {
    pub fn new(tap: LogTap) -> Self {
        Self { tap, ..Self::default() }
    }

    /// Reads to the end and keeps the last [`limits::LOG_TAIL_BYTES_MAX`] bytes.
    pub async fn read(&mut self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut bytes = vec![0; LOG_READ_BYTES];
        loop {
            let len = from.read(&mut bytes).await?;
            if len == 0 {
                self.tap.tell(self.pieces.rest());
                return Ok(());
            }
            self.take(&bytes[..len]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > 2 * limits::LOG_TAIL_BYTES_MAX {
            self.tail.drain(..self.tail.len() - limits::LOG_TAIL_BYTES_MAX);
        }
        self.tap.tell(self.pieces.take(bytes));
    }

    /// Adds a line of the node's own.
    pub fn note(&mut self, line: &str) {
        let start = if self.tail.last().is_none_or(|byte| *byte == b'\n') { "" } else { "\n" };
        self.take(format!("{start}magpie: {line}\n").as_bytes());
    }

    /// What is not UTF-8 shows as U+FFFD, within the same limit.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let mut start = text.len().saturating_sub(limits::LOG_TAIL_BYTES_MAX);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text[start..].to_owned()
    }
}

/// The last line that says something, for an error message.
pub fn last_line(log: &str) -> Option<&str> {
    log.lines().map(str::trim).rfind(|line| !line.is_empty())
}

/// One JSON value that every reader can take in: its numbers are finite, its strings are text, its depth is bounded.
/// Being well-formed alone does not promise that (`1e999`, `"\ud800"`).
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(bytes: &[u8]) -> String {
        Output { bytes: bytes.to_vec() }.into_json(u64::MAX).unwrap()
    }

    #[test]
    fn json_stays_itself_and_text_becomes_a_string() {
        for itself in ["{\"a\": [1, -2.5, null, true]}\n", "7", "\"x\""] {
            assert_eq!(json(itself.as_bytes()), itself);
        }
        assert_eq!(json(b"hello\n"), r#""hello\n""#);
        assert_eq!(json(b""), r#""""#);
        assert_eq!(json(b"\xff{"), "\"\u{fffd}{\"");
        assert_eq!(json(b"{\"a\": 1} {\"a\": 2}"), r#""{\"a\": 1} {\"a\": 2}""#);
    }

    #[test]
    fn json_that_no_reader_takes_in_is_text() {
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        for unreadable in ["1e999", r#""\ud800""#, deep.as_str()] {
            let text = json(unreadable.as_bytes());
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), unreadable);
        }
    }

    proptest! {
        #[test]
        fn whatever_was_printed_reads_as_one_value(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json(&bytes)).is_ok());
        }

        #[test]
        fn the_length_of_a_json_string_is_known_before_it_is_made(text in any::<String>(), control in "[\0-\x7f]*") {
            for text in [text, control] {
                let made = serde_json::Value::String(text.clone()).to_string();
                prop_assert_eq!(len_as_json(&text), made.len() as u64);
            }
        }

        #[test]
        fn a_log_keeps_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..40_000)) {
            let mut log = Log::default();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(log.read(&bytes[..])).unwrap();
            let text = log.text();
            prop_assert!(text.len() <= limits::LOG_TAIL_BYTES_MAX);
            // A character that the cut goes through shows as U+FFFD.
            let whole = text.trim_start_matches(char::REPLACEMENT_CHARACTER);
            prop_assert!(String::from_utf8_lossy(&bytes).ends_with(whole));
        }
    }

    #[tokio::test]
    async fn an_output_stops_one_byte_past_its_limit() {
        for (len, exceeds) in [(9, false), (10, false), (11, true), (1_000, true)] {
            let mut output = Output::default();
            output.read(&vec![b'x'; len][..], 10).await.unwrap();
            assert_eq!((output.bytes.len(), output.exceeds(10)), (len.min(11), exceeds));
        }
    }

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        assert_eq!(last_line("a\n  ValueError: b \n\n"), Some("ValueError: b"));
        assert_eq!(last_line(" \n"), None);
    }
}
